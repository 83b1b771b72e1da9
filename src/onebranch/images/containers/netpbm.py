"""Headers of plain (text) and raw (binary) PBM, PGM and PPM files (netpbm's pbm(5), pgm(5), ppm(5))."""

import re
from dataclasses import dataclass
from typing import BinaryIO

from onebranch.images.containers.errors import ContainerError

_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
"""What separates the numbers of a header: white space, and comments up to the end of the line."""

_HEADER = re.compile(
    rb"P(?:[14]" + (_SPACE + rb"(\d{1,9})") * 2 + rb"|[2356]" + (_SPACE + rb"(\d{1,9})") * 3 + rb")"
    rb"(?:#[^\n\r]*[\n\r])?\s"
)

MAX_HEADER_BYTES = 1 << 16

KINDS = tuple(b"P%d" % kind for kind in range(1, 7))
"""The first two bytes of every netpbm file."""

BITMAPS, TEXTS, COLOUR_KINDS = (b"P1", b"P4"), (b"P1", b"P2", b"P3"), (b"P3", b"P6")
"""The kinds with one bit per pixel, the kinds written as text, and the kinds with RGB pixels."""


@dataclass(frozen=True)
class NetpbmStructure:
    """A header: kind b"P1" to b"P6", size, value of white (1 for bitmaps), and offset of the first sample."""

    kind: bytes
    width: int
    height: int
    white: int
    data_offset: int

    @property
    def samples(self) -> int:
        """Number of samples per pixel."""
        return 3 if self.kind in COLOUR_KINDS else 1

    @property
    def depth(self) -> str:
        """The type that holds the samples: "uint8" or "uint16"."""
        return "uint8" if self.white < 256 else "uint16"


def read_structure(file: BinaryIO) -> NetpbmStructure | None:
    """The header of a netpbm file; None if it is damaged (`read_header` raises the reason)."""
    try:
        return read_header(file)
    except ContainerError:
        return None


def read_header(file: BinaryIO) -> NetpbmStructure:
    """The header of a netpbm file; raises ContainerError if it is damaged."""
    file.seek(0)
    match = _HEADER.match(file.read(MAX_HEADER_BYTES))
    if match is None:
        raise ContainerError("its header is invalid")
    numbers = [int(number) for number in match.groups() if number is not None]
    width, height, white = (*numbers, 1)[:3]
    if not (width and height and 1 <= white <= 65535):
        raise ContainerError(f"its header states {width}x{height} pixels and white {white}")
    return NetpbmStructure(match[0][:2], width, height, white, match.end())
