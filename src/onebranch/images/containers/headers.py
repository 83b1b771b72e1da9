"""Sizes from the headers of formats that need no further parsing: BMP, ICO, JPEG 2000 and TGA."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

HEAD_BYTES = 4096
"""Number of bytes that are searched for a JPEG 2000's header."""


@dataclass(frozen=True)
class HeaderStructure:
    """Size of the largest picture, number of pictures, and BMP's pixels per metre, 0 if not given."""

    width: int = 0
    height: int = 0
    pictures: int = 1
    pixels_per_metre: tuple[int, int] = (0, 0)


def read_bmp(file: BinaryIO) -> HeaderStructure:
    """The header of a BMP, of OS/2's old kind too; what is damaged is left out."""
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
    """True if a file may be a TGA, which has no signature: every field of its header has an allowed value."""
    if len(head) < struct.calcsize(TGA_HEADER):
        return False
    _, map_type, image_type, _, _, map_bits, _, _, width, height, bits, _ = struct.unpack_from(
        TGA_HEADER, head
    )
    is_valid_map = map_type in (0, 1) and map_bits in (0, 15, 16, 24, 32)
    return is_valid_map and image_type in TGA_IMAGE_TYPES and bits in TGA_BITS and width > 0 and height > 0


def read_tga(file: BinaryIO) -> HeaderStructure:
    """The header of a TGA."""
    file.seek(12)
    return HeaderStructure(*struct.unpack("<HH", file.read(4)))


def read_ico(file: BinaryIO) -> HeaderStructure:
    """The directory of an ICO; what is damaged is left out."""
    file.seek(4)
    count = int.from_bytes(file.read(2), "little")
    directory = file.read(16 * count)
    sizes = [
        (directory[at] or 256, directory[at + 1] or 256) for at in range(0, len(directory) // 16 * 16, 16)
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return HeaderStructure(width, height, max(1, len(sizes)))


def read_jpeg_2000(file: BinaryIO) -> HeaderStructure:
    """The header box of a JP2 file, or the SIZ marker of a bare codestream (ITU-T T.800, A.5.1, I.5.3.1)."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    box, marker = head.find(b"ihdr"), head.find(b"\xff\x51")
    if 0 <= box <= len(head) - 12:
        height, width = struct.unpack_from(">II", head, box + 4)
        return HeaderStructure(width, height)
    if 0 <= marker <= len(head) - 22:
        right, bottom, left, top = struct.unpack_from(">IIII", head, marker + 6)
        return HeaderStructure(max(0, right - left), max(0, bottom - top))
    return HeaderStructure()
