"""EXIF written byte for byte. libvips takes a block apart and puts it together again: makers' notes move, by
whose place they are read, and tags that it does not know are dropped. So it is given a stand-in of at least
the same length, and the block itself is written over that in the finished file.
"""

import mmap
import struct
import zlib
from pathlib import Path

from onebranch.errors import OnebranchError

HOLDERS = ("PNG", "JPEG", "WebP", "AVIF")
"""The formats into which libvips writes EXIF, not compressed."""

LONGEST = 64_000
"""Bytes of a block: with what libvips adds, a JPEG's segment holds not many more."""

FILLING = b"to be replaced by the block itself "

BEGIN = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")
"""How libvips' blocks begin (TIFF 6.0)."""


def stand_in(exif: bytes) -> bytes:
    """A block that libvips makes no shorter than this one: it holds nothing but a long description."""
    length = len(_bare(exif)) + len(FILLING)
    text = (FILLING * (length // len(FILLING) + 1))[:length] + b"\0"
    return b"Exif\0\0" + BEGIN[0] + struct.pack("<HHHIII", 1, 0x010E, 2, len(text), 26, 0) + text


def put(path: Path, exif: bytes, resolution: tuple[float, float]) -> None:
    """Write a block over its stand-in in a file that libvips wrote. OnebranchError if it is not there.

    resolution: in pixels per millimetre, for a JPEG, where libvips tells it by its own EXIF alone.
    """
    block = _bare(exif)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        text = content.find(FILLING)
        begin = max(content.rfind(mark, max(0, text - 4096), max(0, text)) for mark in BEGIN)
        end = text + len(block) + len(FILLING)
        if min(text, begin) < 0:
            raise OnebranchError(f"cannot write '{path}': EXIF is not where it was put")
        if content[:4] == b"\xff\xd8\xff\xe1":
            begin = _with_jfif(content, resolution)
        content[begin:end] = block + bytes(end - begin - len(block))
        if content[:4] == b"\x89PNG":
            _check_again(content, begin - 8)


def _bare(exif: bytes) -> bytes:
    return exif.removeprefix(b"Exif\0\0")


def _with_jfif(content: mmap.mmap, resolution: tuple[float, float]) -> int:
    """Put a JFIF header (ITU-T T.871) before the EXIF of a JPEG, at its cost; the new place of the block."""
    (length,) = struct.unpack_from(">H", content, 4)
    across, down = (max(1, min(65535, round(each * 25.4))) for each in resolution)
    jfif = struct.pack(">HH5sHBHHBB", 0xFFE0, 16, b"JFIF\0", 0x0102, 1, across, down, 0, 0)
    head = jfif + struct.pack(">HH6s", 0xFFE1, length - len(jfif), b"Exif\0\0")
    content[2 : 2 + len(head)] = head
    return 2 + len(head)


def _check_again(content: mmap.mmap, chunk: int) -> None:
    """The checksum of a PNG's chunk that begins there."""
    (length,) = struct.unpack_from(">I", content, chunk)
    check = zlib.crc32(content[chunk + 4 : chunk + 8 + length])
    struct.pack_into(">I", content, chunk + 8 + length, check)
