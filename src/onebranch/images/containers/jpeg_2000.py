"""JPEG 2000 files: size, tiles and code blocks from the markers of the codestream (ITU-T T.800, annex A)."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

SIZ, COD, COC, SOT, SOD = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93

SOC = b"\xff\x4f"
"""The marker at the start of a codestream."""

HEADER_BOX_BYTES = 4096
"""Number of bytes of a JP2 header box that are searched for the image header."""

MIN_TILE_PART_BYTES = 14
"""Bytes of the smallest tile-part: an SOT segment and an SOD marker."""

MAX_DECOMPOSITIONS = 32
"""Largest number of wavelet decomposition levels (A.6.1)."""

MAX_PRECINCT_EXPONENT = 15
"""By default, the sides of precincts are 2^15."""


@dataclass(frozen=True)
class CodingStyle:
    """The side lengths (x, y) of code blocks and precincts, each as its base-2 logarithm.

    levels: number of wavelet decompositions. precincts: one pair for each of the levels + 1 resolutions, the
    lowest resolution first.
    """

    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Jpeg2000Structure:
    """Size, number of tiles, size of the largest tile, and number of components of a JPEG 2000 file.

    styles: the coding styles of the file, its tiles and its components.
    """

    width: int = 0
    height: int = 0
    tiles: int = 1
    tile_width: int = 0
    tile_height: int = 0
    components: int = 0
    styles: tuple[CodingStyle, ...] = ()

    @property
    def blocks(self) -> int:
        """The largest number of code blocks plus precincts in one component of a tile, over all styles."""
        return max((self._blocks(style) for style in self.styles), default=0)

    def _blocks(self, style: CodingStyle) -> int:
        """Upper bound of the number of code blocks plus precincts in one component of a tile.

        Both begin at multiples of their size, so a tile that begins between two multiples touches one more.
        Example: a tile of 64x64 pixels with one level, blocks of 2^4 and precincts of 2^15 has three
        high-frequency bands and one low-frequency band of 32x32. Each has at most 3x3 blocks and 2x2
        precincts: 3 x 13 + 13 = 52.
        """
        count, levels = 0, len(style.precincts) - 1
        for resolution, precinct in enumerate(style.precincts):
            is_lowest = resolution == 0
            sides = [_shifted(side, levels - resolution) for side in (self.tile_width, self.tile_height)]
            precincts, blocks = 1, 1
            for side, exponent, block in zip(sides, precinct, style.block, strict=True):
                precincts *= _shifted(side, exponent) + 1
                in_band = exponent if is_lowest else max(0, exponent - 1)
                blocks *= _shifted(side if is_lowest else _shifted(side, 1), min(block, in_band)) + 1
            count += (1 if is_lowest else 3) * (precincts + max(precincts, blocks))
        return count


class _Marker(NamedTuple):
    code: int
    content: bytes


def read_structure(file: BinaryIO) -> Jpeg2000Structure:
    """The structure of a JP2 file or of a bare codestream; damaged parts are ignored."""
    start, box_size = _codestream(file)
    structure = Jpeg2000Structure(*box_size)
    if start < 0:
        return structure
    for code, content in _markers(file, start):
        structure = _with_marker(structure, code, content)
    return structure


def _codestream(file: BinaryIO) -> tuple[int, tuple[int, int]]:
    """Offset of the codestream (-1 if there is none), and the (width, height) from the header box."""
    file.seek(0)
    if file.read(2) == SOC:
        return 0, (0, 0)
    position, size = 0, (0, 0)
    while True:
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return -1, size
        length, name = struct.unpack_from(">I4s", head)
        start = position + (16 if length == 1 else 8)
        if name == b"jp2c":
            return start, size
        if name == b"jp2h":
            size = _header_box_size(file, start)
        length = int.from_bytes(head[8:], "big") if length == 1 else length
        if length < 8:
            return -1, size
        position += length


def _header_box_size(file: BinaryIO, start: int) -> tuple[int, int]:
    """(width, height) of the image header box in a JP2 header box; (0, 0) if there is none."""
    file.seek(start)
    head = file.read(HEADER_BOX_BYTES)
    begin = head.find(b"ihdr")
    if not 0 <= begin <= len(head) - 12:
        return 0, 0
    height, width = struct.unpack_from(">II", head, begin + 4)
    return width, height


def _markers(file: BinaryIO, start: int) -> Iterator[_Marker]:
    """The markers of the main header and of the headers of all tile-parts, with their content."""
    position, tile_part = start + len(SOC), 0
    while True:
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            return
        code, length = struct.unpack(">HH", head)
        if code == SOD:
            position = tile_part
            continue
        content = file.read(length - 2) if length >= 2 else b""
        if code == SOT and len(content) >= 6:
            tile_bytes = int.from_bytes(content[2:6], "big") or file.seek(0, os.SEEK_END)
            tile_part = position + max(tile_bytes, MIN_TILE_PART_BYTES)
        if length < 2 or len(content) < length - 2:
            return
        yield _Marker(code, content)
        position += 2 + length


def _with_marker(structure: Jpeg2000Structure, code: int, content: bytes) -> Jpeg2000Structure:
    if code == SIZ and len(content) >= 36:
        return _with_size(structure, content)
    if code == COD:
        flags, coding = content[:1], content[5:]
    elif code == COC:
        index_bytes = 1 if structure.components < 257 else 2
        flags, coding = content[index_bytes : index_bytes + 1], content[index_bytes + 1 :]
    else:
        return structure
    if len(coding) < 5:
        return structure
    style = _style(coding, has_precincts=flags[0] & 1 == 1)
    return structure if style in structure.styles else replace(structure, styles=(*structure.styles, style))


def _with_size(structure: Jpeg2000Structure, content: bytes) -> Jpeg2000Structure:
    """The structure with the sizes from a SIZ segment (A.5.1), or the known size if that is larger."""
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(
        ">8I", content, 2
    )
    width, height = max(0, right - left), max(0, bottom - top)
    tiles = _divided(right - tile_left, tile_width) * _divided(bottom - tile_top, tile_height)
    return replace(
        structure,
        width=max(structure.width, width),
        height=max(structure.height, height),
        tiles=max(1, tiles),
        tile_width=min(width, tile_width),
        tile_height=min(height, tile_height),
        components=struct.unpack_from(">H", content, 34)[0],
    )


def _style(coding: bytes, has_precincts: bool) -> CodingStyle:
    """The coding style from the parameters of a COD or COC segment (A.6.1).

    The bytes are: levels, x and y exponent of code blocks less 2, two bytes that are not needed, and one byte
    for the precincts of each resolution.
    """
    resolutions = 1 + min(coding[0], MAX_DECOMPOSITIONS)
    stored = [(byte & 15, byte >> 4) for byte in coding[5 : 5 + resolutions]] if has_precincts else []
    default = [(MAX_PRECINCT_EXPONENT, MAX_PRECINCT_EXPONENT)] * (resolutions - len(stored))
    return CodingStyle((2 + (coding[1] & 15), 2 + (coding[2] & 15)), (*stored, *default))


def _shifted(length: int, exponent: int) -> int:
    """length / 2^exponent, rounded up."""
    return -(-length >> exponent)


def _divided(length: int, step: int) -> int:
    return -(-max(0, length) // step) if step else 0
