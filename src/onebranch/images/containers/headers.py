"""Picture sizes from the headers of BMP, ICO and TGA files, of which nothing else needs to be parsed."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from onebranch.images.containers.png import SIGNATURE


@dataclass(frozen=True)
class HeaderStructure:
    """Size of the largest picture, number of pictures, and pixels per metre (BMP only; 0 if not given)."""

    width: int = 0
    height: int = 0
    pictures: int = 1
    pixels_per_metre: tuple[int, int] = (0, 0)


def read_bmp(file: BinaryIO) -> HeaderStructure:
    """The header of a BMP file, including the old OS/2 variant; damaged parts are ignored."""
    file.seek(14)
    head = file.read(40)
    if len(head) >= 12 and head[0] == 12:
        return HeaderStructure(*struct.unpack_from("<HH", head, 4))
    if len(head) < 40:
        return HeaderStructure()
    width, height = struct.unpack_from("<ii", head, 4)
    return HeaderStructure(abs(width), abs(height), 1, struct.unpack_from("<II", head, 24))


TGA_HEADER = "<BBBHHBHHHHBB"
"""ID length, colour map type, image type, colour map (3), origin (2), width, height, bits, descriptor."""

TGA_IMAGE_TYPES, TGA_BITS = (1, 2, 3, 9, 10, 11), (8, 16, 24, 32)


def is_tga(head: bytes) -> bool:
    """True if every header field has a value that TGA allows. TGA has no signature, so this is a guess."""
    if len(head) < struct.calcsize(TGA_HEADER):
        return False
    _, map_type, image_type, _, _, map_bits, _, _, width, height, bits, _ = struct.unpack_from(
        TGA_HEADER, head
    )
    is_valid_map = map_type in (0, 1) and map_bits in (0, 15, 16, 24, 32)
    return is_valid_map and image_type in TGA_IMAGE_TYPES and bits in TGA_BITS and width > 0 and height > 0


def read_tga(file: BinaryIO) -> HeaderStructure:
    """The header of a TGA file."""
    file.seek(12)
    return HeaderStructure(*struct.unpack("<HH", file.read(4)))


def read_ico(file: BinaryIO) -> HeaderStructure:
    """The largest size stated in the directory of an ICO file or in its pictures; damage is ignored."""
    file.seek(4)
    count = int.from_bytes(file.read(2), "little")
    directory = file.read(16 * count)
    entries = list(struct.iter_unpack("<BB10xI", directory[: len(directory) // 16 * 16]))
    sizes = [(width or 256, height or 256) for width, height, _ in entries]
    sizes += [_size_in_ico(file, offset) for *_, offset in entries]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return HeaderStructure(width, height, max(1, len(entries)))


def _size_in_ico(file: BinaryIO, offset: int) -> tuple[int, int]:
    """(width, height) of a picture in an ICO file.

    The picture is a PNG, or a BMP without its file header. Such a BMP states twice its height, because a
    transparency mask follows the pixels.
    """
    file.seek(offset)
    head = file.read(24)
    if len(head) < 24:
        return 0, 0
    if head.startswith(SIGNATURE):
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    width, height = struct.unpack_from("<ii", head, 4)
    return abs(width), abs(height) // 2
