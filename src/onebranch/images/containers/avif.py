"""AVIF files: sizes and bit depth from their boxes (ISO 23008-12; AV1 in ISOBMFF)."""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

SEARCHED_BYTES = 1 << 16
"""Number of bytes at the start of the file in which the boxes with picture properties are searched."""

_SIZE = re.compile(rb"\0\0\0\x14ispe.{4}(.{8})", re.DOTALL)
"""The box of a picture's width and height (ISO 23008-12, 6.5.3)."""

_GAIN_MAP = re.compile(rb"infe.{8}tmap", re.DOTALL)
"""The entry of a gain map in the list of pictures (ISO 23008-12, 6.6.2.4)."""

_CODEC = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""The AV1 configuration record. Bit 0x40 of its third byte is set if samples have more than 8 bits."""


@dataclass(frozen=True)
class AvifStructure:
    """What the boxes of an AVIF file state.

    sizes: (width, height) of every picture, tile and alpha plane. high_bit_depth: True if samples have more
    than 8 bits. is_sequence: True for an animation. has_gain_map: True if the file also holds an ISO 21496-1
    gain map.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    high_bit_depth: bool = False
    is_sequence: bool = False
    has_gain_map: bool = False

    @property
    def width(self) -> int:
        """Width of the largest picture; 0 if there is none."""
        return self._largest[0]

    @property
    def height(self) -> int:
        """Height of the largest picture; 0 if there is none."""
        return self._largest[1]

    @property
    def _largest(self) -> tuple[int, int]:
        return max(self.sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def read_structure(file: BinaryIO) -> AvifStructure:
    """The structure of an AVIF file; damaged parts are ignored."""
    file.seek(0)
    head = file.read(SEARCHED_BYTES)
    sizes = tuple(struct.unpack(">II", match[1]) for match in _SIZE.finditer(head))
    high = any(match[1][0] & 0x40 for match in _CODEC.finditer(head))
    return AvifStructure(
        tuple((width, height) for width, height in sizes),
        high,
        head[8:12] == b"avis",
        _GAIN_MAP.search(head) is not None,
    )
