"""EXIF written byte for byte into files that libvips writes.

libvips parses an EXIF block and serializes it again. That invalidates the offsets inside maker notes and
drops unknown tags. So libvips is given a placeholder of at least the same length, which is then overwritten
with the original block in the finished file.
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
"""Bytes of the largest block. With the bytes that libvips adds, it must fit into a JPEG segment."""

MAX_DISTANCE = 4096
"""Largest distance, in bytes, from the start of libvips' block to the long text in it."""

FILLING = b"to be replaced by the block itself "

TIFF_HEADERS = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")
"""The first bytes of libvips' blocks, in either byte order (TIFF 6.0)."""


def can_be_verbatim(exif: bytes) -> bool:
    """True if the block can be written unchanged; otherwise libvips writes what it supports of it."""
    return len(exif) <= MAX_BLOCK_BYTES and exif_block.is_complete(exif)


def placeholder(exif: bytes) -> bytes:
    """A block with a long description, from which libvips makes a block that is not shorter than `exif`."""
    length = len(_without_prefix(exif)) + len(FILLING)
    text = (FILLING * (length // len(FILLING) + 1))[:length] + b"\0"
    entry = struct.pack("<HHHIII", 1, 0x010E, 2, len(text), 26, 0)
    return exif_block.PREFIX + TIFF_HEADERS[0] + entry + text


def replace_placeholder(path: Path, exif: bytes) -> None:
    """Overwrite the placeholder in a file that libvips wrote with the block.

    Raises OnebranchError if the file has no placeholder.
    """
    block = _without_prefix(exif)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        text = content.find(FILLING)
        start = max(0, text - MAX_DISTANCE)
        begin = max(content.rfind(header, start, max(0, text)) for header in TIFF_HEADERS)
        end = text + len(block) + len(FILLING)
        if min(text, begin) < 0:
            raise OnebranchError(f"cannot write '{path}': libvips did not write the EXIF placeholder")
        content[begin:end] = block + bytes(end - begin - len(block))
        if content[:4] == png.SIGNATURE[:4]:
            png.update_checksum(content, begin - 8)


def _without_prefix(exif: bytes) -> bytes:
    return exif.removeprefix(exif_block.PREFIX)
