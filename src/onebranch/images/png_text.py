"""Chunks of text of a PNG as they stand in the file (PNG specification, third edition, 11.3.3): titles,
authors, how it was made. libvips spoils what is not ASCII. As they may stand anywhere, they go to the end.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NAMES = (b"tEXt", b"zTXt", b"iTXt")

ELSEWHERE = re.compile(rb"XML:com\.adobe\.xmp|Raw profile type|exif:|tiff:|Thumb::", re.IGNORECASE)
"""Keywords of what is kept in other ways, or is not true of a changed picture."""

PLACE = re.compile(rb"gps|latitude|longitude|\bgeo:l", re.IGNORECASE)

LONGEST, MOST_CHUNKS = 1 << 20, 200_000
"""Bytes of all texts, and chunks of a file, beyond which no text is looked for."""

END = b"\0\0\0\0IEND\xaeB`\x82"


def read_texts(path: Path) -> tuple[bytes, ...]:
    """Whole chunks, with length and checksum, of the texts in a PNG; none of a damaged one."""
    try:
        with path.open("rb") as file:
            file.seek(8)
            found = tuple(_texts(file))
    except (OSError, struct.error):
        return ()
    return found if sum(map(len, found)) <= LONGEST else ()


def _texts(file: BinaryIO) -> Iterator[bytes]:
    for _ in range(MOST_CHUNKS):
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"IEND":
            return
        if name not in NAMES or length > LONGEST:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = file.read(length)
        (check,) = struct.unpack(">I", file.read(4))
        if check == zlib.crc32(name + content) and not ELSEWHERE.match(content):
            yield struct.pack(">I4s", length, name) + content + struct.pack(">I", check)


def add_texts(path: Path, texts: tuple[bytes, ...]) -> None:
    """Put chunks at the end of a PNG, before its last one."""
    with path.open("r+b") as file:
        file.seek(-len(END), os.SEEK_END)
        assert file.read() == END, "a PNG ends with IEND"
        file.seek(-len(END), os.SEEK_END)
        file.write(b"".join(texts) + END)


def tells_place(chunk: bytes) -> bool:
    """Whether a text speaks of a place on earth, by its words; one that cannot be read counts as one."""
    name, content = chunk[4:8], chunk[8:-4]
    if name == b"tEXt":
        return PLACE.search(content) is not None
    try:
        return PLACE.search(content.partition(b"\0")[0] + _unpacked(name, content)) is not None
    except (zlib.error, IndexError):
        return True


def _unpacked(name: bytes, content: bytes) -> bytes:
    """The text of a zTXt or iTXt chunk."""
    rest = content.partition(b"\0")[2]
    if name == b"zTXt":
        return zlib.decompressobj().decompress(rest[1:], LONGEST)
    packed, text = rest[0], rest[2:].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, LONGEST) if packed else text
