"""EXIF written byte for byte into files that libvips writes.

libvips parses an EXIF block and writes it anew: makers' notes move, whose offsets then point elsewhere, and
tags that it does not know are dropped. So it is given a placeholder of at least the same length, and the
block itself is written over that in the finished file.
"""

import mmap
import struct
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.images.containers import exif as exif_block
from onebranch.images.containers import png

VERBATIM_FORMATS = ("PNG", "JPEG", "WebP", "AVIF")
"""The formats into which libvips writes EXIF without compressing it."""

MAX_BLOCK_BYTES = 64_000
"""Largest block: with what libvips adds, it must fit into a JPEG segment."""

MAX_DISTANCE = 4096
"""Bytes from the beginning of libvips' block to its long text."""

FILLING = b"to be replaced by the block itself "

TIFF_HEADERS = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")
"""How libvips' blocks begin (TIFF 6.0)."""


def can_be_verbatim(exif: bytes) -> bool:
    """True if the block can be written as it is; otherwise libvips writes what it can of it."""
    return len(exif) <= MAX_BLOCK_BYTES and exif_block.is_complete(exif)


def placeholder(exif: bytes) -> bytes:
    """A block that libvips makes no shorter than this one: it holds nothing but a long description."""
    length = len(_without_prefix(exif)) + len(FILLING)
    text = (FILLING * (length // len(FILLING) + 1))[:length] + b"\0"
    entry = struct.pack("<HHHIII", 1, 0x010E, 2, len(text), 26, 0)
    return exif_block.PREFIX + TIFF_HEADERS[0] + entry + text


def replace_placeholder(path: Path, exif: bytes) -> None:
    """Write a block over its placeholder in a file that libvips wrote.

    Raises OnebranchError if it is not there.
    """
    block = _without_prefix(exif)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        text = content.find(FILLING)
        start = max(0, text - MAX_DISTANCE)
        begin = max(content.rfind(header, start, max(0, text)) for header in TIFF_HEADERS)
        end = text + len(block) + len(FILLING)
        if min(text, begin) < 0:
            raise OnebranchError(f"cannot write '{path}': EXIF is not where it was put")
        content[begin:end] = block + bytes(end - begin - len(block))
        if content[:4] == png.SIGNATURE[:4]:
            png.update_checksum(content, begin - 8)


def _without_prefix(exif: bytes) -> bytes:
    return exif.removeprefix(exif_block.PREFIX)
