"""Headers of netpbm files: PBM, PGM and PPM, as text and as bytes (netpbm's pbm(5), pgm(5), ppm(5))."""

import re
from dataclasses import dataclass
from typing import BinaryIO

from onebranch.images.containers.errors import ContainerError

_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
"""Separators of numbers: white space, and comments up to the end of the line."""

_HEADER = re.compile(
    rb"P(?:[14]" + (_SPACE + rb"(\d{1,9})") * 2 + rb"|[2356]" + (_SPACE + rb"(\d{1,9})") * 3 + rb")"
    rb"(?:#[^\n\r]*[\n\r])?\s"
)

MAX_HEADER_BYTES = 1 << 16

KINDS = tuple(b"P%d" % kind for kind in range(1, 7))
"""The first two bytes of every netpbm file."""

BITMAPS, TEXTS, COLOUR_KINDS = (b"P1", b"P4"), (b"P1", b"P2", b"P3"), (b"P3", b"P6")
"""Kinds of one bit, those written as text, and those of three samples a pixel."""


@dataclass(frozen=True)
class NetpbmStructure:
    """A header: kind b"P1" to b"P6", size, the value of white (1 of bitmaps), and where the samples begin."""

    kind: bytes
    width: int
    height: int
    white: int
    data_offset: int

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return 3 if self.kind in COLOUR_KINDS else 1

    @property
    def depth(self) -> str:
        """The samples' type."""
        return "uint8" if self.white < 256 else "uint16"


def read_structure(file: BinaryIO) -> NetpbmStructure | None:
    """The header of a netpbm file, None if it is damaged; see `read_header` for the reason."""
    try:
        return read_header(file)
    except ContainerError:
        return None


def read_header(file: BinaryIO) -> NetpbmStructure:
    """The header of a netpbm file; raises ContainerError if it is damaged."""
    file.seek(0)
    match = _HEADER.match(file.read(MAX_HEADER_BYTES))
    if match is None:
        raise ContainerError("its header is no header")
    numbers = [int(number) for number in match.groups() if number is not None]
    width, height, white = (*numbers, 1)[:3]
    if not (width and height and 1 <= white <= 65535):
        raise ContainerError(f"it says {width}x{height} pixels, white {white}")
    return NetpbmStructure(match[0][:2], width, height, white, match.end())
