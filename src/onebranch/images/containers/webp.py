"""WebP files: canvas size and frame count from their RIFF chunks (WebP container specification; RFC 6386)."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

MAX_RIFF_CHUNKS = 200_000
"""Largest number of chunks that are read."""


@dataclass(frozen=True)
class WebpStructure:
    """Canvas size in pixels and number of frames."""

    width: int = 0
    height: int = 0
    frames: int = 1


def read_structure(file: BinaryIO) -> WebpStructure:
    """The structure of a WebP file; damaged parts are ignored."""
    size, frames = (0, 0), 0
    file.seek(12)
    for _ in range(MAX_RIFF_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        start = file.read(min(10, length))
        frames += head[:4] == b"ANMF"
        size = size if any(size) else _size(head[:4], start.ljust(10, b"\0"))
        file.seek(length + length % 2 - len(start), os.SEEK_CUR)
    return WebpStructure(*size, max(1, frames))


def _size(name: bytes, start: bytes) -> tuple[int, int]:
    """Width and height from the first ten bytes of a chunk; (0, 0) if the chunk states no size."""
    if name == b"VP8X":
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if name == b"VP8 ":
        width, height = struct.unpack("<HH", start[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0
