"""GIF files: size and number of frames (GIF89a specification)."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
"""The first byte of each kind of block."""

COLOUR_TABLE = 0x80
"""The flag of a colour table, which has 3 · 2^(n + 1) bytes; n is the number in the lowest three bits."""


@dataclass(frozen=True)
class GifStructure:
    """Canvas size in pixels and number of frames. pixel_aspect: pixel width / height; 0 if not given."""

    width: int = 0
    height: int = 0
    frames: int = 1
    pixel_aspect: float = 0.0


def read_structure(file: BinaryIO) -> GifStructure:
    """The structure of a GIF file; damaged parts are ignored."""
    file.seek(0)
    head = file.read(13)
    if len(head) < 13:
        return GifStructure()
    width, height, flags, _, aspect = struct.unpack("<HHBBB", head[6:])
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        frames = _count_frames(content, 13 + _colour_table_bytes(flags))
    return GifStructure(width, height, max(1, frames), (aspect + 15) / 64 if aspect else 0.0)


def _count_frames(content: mmap.mmap, position: int) -> int:
    frames = 0
    try:
        while (kind := content[position]) != TRAILER:
            if kind == IMAGE:
                frames += 1
                position += 10 + _colour_table_bytes(content[position + 9]) + 1
            elif kind == EXTENSION:
                position += 2
            else:
                break
            while length := content[position]:
                position += length + 1
            position += 1
    except IndexError:  # the file ends too soon
        pass
    return frames


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & COLOUR_TABLE else 0


def set_pixel_aspect(path: Path, aspect: int) -> None:
    """Set the pixel aspect ratio in a GIF header. aspect: 1 to 255; width / height is (aspect + 15) / 64."""
    with path.open("r+b") as file:
        file.seek(12)
        file.write(bytes([aspect]))
