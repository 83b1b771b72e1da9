"""The chunks of a PNG before its picture: what is wrong with them, and what they say of colours and frames.

PNG specification, third edition: 5 (chunks), 11.2.1 (header), 11.3.2 (colours).
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from onebranch.errors import OnebranchError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

TOO_SOON = "it ends too soon"

BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample by colour type."""

SRGB_GAMMA = range(45000, 46001)
"""Gamma values, times 100,000, that are meant as sRGB's: it is written as 45455."""

SRGB_CODES = (1, 13)
"""Primaries and transfer of sRGB in a cICP chunk (ITU-T H.273)."""

LONGEST = 64 << 20
"""Bytes of a chunk before the picture beyond which it is taken as damage."""


def head_chunks(path: Path, file: IO[bytes]) -> list[tuple[bytes, bytes]]:
    """Names and contents of the chunks before the first IDAT, where the file is left.

    OnebranchError if one is damaged, or there is no IDAT.
    """
    file.seek(len(SIGNATURE))
    before: list[tuple[bytes, bytes]] = []
    while True:
        name, length = next_chunk(path, file)
        if name == b"IDAT":
            file.seek(-8, os.SEEK_CUR)
            return before
        before.append((name, _content(path, file, name, length)))


def next_chunk(path: Path, file: IO[bytes]) -> tuple[bytes, int]:
    """Name and length of the chunk that begins here."""
    start = file.read(8)
    if len(start) < 8:
        raise damaged(path, TOO_SOON)
    return start[4:], int.from_bytes(start[:4], "big")


def _content(path: Path, file: IO[bytes], name: bytes, length: int) -> bytes:
    content, checksum = file.read(min(length, LONGEST)), file.read(4)
    if len(checksum) < 4:
        raise damaged(path, TOO_SOON)
    if int.from_bytes(checksum, "big") != zlib.crc32(name + content):
        raise damaged(path, f"the checksum of its {name.decode('latin-1')} chunk is wrong")
    return content


def damaged(path: Path, why: str) -> OnebranchError:
    return OnebranchError(f"cannot read '{path}': damaged or unsupported PNG file: {why}")


def problem(path: Path) -> str:
    """What is wrong with a PNG that a decoder refuses without a word; "" if nothing is found."""
    try:
        with path.open("rb") as file:
            before = head_chunks(path, file)
            return _problem_of_header(before) or _problem_of_rest(path, file)
    except OnebranchError as error:
        return str(error).split("PNG file: ", 1)[-1]
    except OSError:
        return ""


def _problem_of_header(before: list[tuple[bytes, bytes]]) -> str:
    if not before or before[0][0] != b"IHDR" or len(before[0][1]) != 13:
        return "its first chunk is no header"
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", before[0][1])
    if colour not in BITS or bits not in BITS[colour]:
        return f"there is no PNG of colour type {colour} with {bits} bits"
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        return f"its header says {width}x{height} pixels"
    if compression or filtering or interlace > 1:
        return "its header names a compression, filter or interlacing that there is not"
    if colour == 3 and b"PLTE" not in dict(before):
        return "its palette is missing"
    return ""


def _problem_of_rest(path: Path, file: IO[bytes]) -> str:
    for _ in stream(path, file):
        pass
    return ""


def stream(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """The content of the IDAT chunks from here on, in pieces. A file without an end is taken as it is."""
    name, length = next_chunk(path, file)
    while name == b"IDAT":
        checksum = zlib.crc32(name)
        while length > 0:
            piece = file.read(min(length, 1 << 20))
            if not piece:
                raise damaged(path, TOO_SOON)
            length -= len(piece)
            checksum = zlib.crc32(piece, checksum)
            yield piece
        if file.read(4) != checksum.to_bytes(4, "big"):
            raise damaged(path, "the checksum of its IDAT chunk is wrong")
        start = file.read(8)
        name, length = start[4:], int.from_bytes(start[:4], "big")


def notes_of(path: Path) -> tuple[str, ...]:
    """Words about colours that are said without a profile and are not sRGB's, and about further frames."""
    try:
        with path.open("rb") as file:
            chunks = dict(head_chunks(path, file))
    except OnebranchError:  # the decoder says what is wrong
        return ()
    frames = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    return _colours(chunks) + ((f"only the first of {frames} frames",) if frames > 1 else ())


def _colours(chunks: dict[bytes, bytes]) -> tuple[str, ...]:
    codes = tuple(chunks.get(b"cICP", b"")[:2])
    if codes and codes != SRGB_CODES:
        primaries, transfer = codes if len(codes) == 2 else (codes[0], 0)
        said = f"its colours are said by cICP codes (primaries {primaries}, transfer {transfer})"
        return (f"{said}, which are left out",)
    if codes or b"iCCP" in chunks or b"sRGB" in chunks:
        return ()
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")[:4], "big")
    if gamma and gamma not in SRGB_GAMMA:
        return (f"its gamma of {gamma / 100000:.4g} is not sRGB's {1 / 2.2:.4g} and is left out",)
    return ()
