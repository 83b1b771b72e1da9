"""What decoders hold of a picture at one time, so that too much is refused before it is decoded.

Most formats come by rows in little memory. The others' bytes for each pixel were measured with libvips 8.18
and Pillow 13, rounded up.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from onebranch.errors import OnebranchError

DEFAULT_DECODER_MEMORY = 800_000_000
"""Bytes that decoding may hold unless more is allowed: with all else it stays below 1 GB."""

COEFFICIENT = 2
"""Bytes of a sample in a progressive JPEG, all of whose scans say something of every pixel."""

WHOLE = {"WebP": 8, "GIF": 6, "JPEG 2000": 20, "BMP": 5, "PPM": 5, "ICO": 12}
"""Bytes for each pixel of the formats that are decoded as a whole."""

AVIF = {8: 12, 16: 22}
"""The same of AVIF, by the bits of our samples."""

LINES = 24
"""Rows that libvips holds of what it reads by rows."""

STRIP_BYTES, ROWS_PER_STRIP, COMPRESSION, TILE_WIDTH, TILE_HEIGHT = 279, 278, 259, 322, 323
"""TIFF tags."""

JPEGS = (6, 7)
"""TIFF's numbers of JPEG compression, whose strips are decoded as a whole."""

TAGS = (STRIP_BYTES, ROWS_PER_STRIP, COMPRESSION, TILE_WIDTH, TILE_HEIGHT)

NUMBERS = {3: "u2", 4: "u4", 16: "u8"}
"""TIFF's types of numbers."""

MANY = 4096
"""More entries than a TIFF directory has."""

DIRECTORY = 64 << 20
"""Most bytes of a list in a TIFF that are looked at."""


@dataclass(frozen=True)
class Limits:
    """Most pixels that a header may announce, and most bytes that a decoder may hold of them at one time."""

    pixels: int
    memory: int


@dataclass(frozen=True)
class Held:
    """Bytes, and what they are of."""

    size: int
    what: str


def check_memory(path: Path, held: Held, memory: int) -> None:
    """OnebranchError if decoding would hold more than is allowed."""
    if held.size > memory:
        raise OnebranchError(
            f"cannot read '{path}': {held.what} takes about {held.size / 1e9:.1f} GB of memory to decode,"
            f" more than the {memory / 1e9:.1f} GB that it may take; allow more (--memory),"
            " or convert it to PNG or to TIFF in small strips"
        )


def held_by_jpeg(width: int, height: int, bands: int, subsampling: str, *, progressive: bool) -> Held:
    """Nothing but rows, unless it is progressive: then all coefficients."""
    samples = width * height * (1.5 if subsampling == "4:2:0" and bands == 3 else bands)
    size = int(samples * COEFFICIENT) if progressive else 0
    return Held(size, f"a progressive JPEG of {width}x{height} pixels")


def held_by_rows(width: int, height: int, pixel: int) -> Held:
    """Some rows of a picture. pixel: bytes of one."""
    return Held(width * min(height, LINES) * pixel, f"a picture of {width}x{height} pixels")


def held_as_a_whole(name: str, width: int, height: int, depth: str = "uint8") -> Held:
    """A picture of a format that is never decoded by rows."""
    pixel = AVIF[8 if depth == "uint8" else 16] if name == "AVIF" else WHOLE[name]
    article = "an" if name[0] in "AI" else "a"
    return Held(width * height * pixel, f"{article} {name} picture of {width}x{height} pixels")


def held_by_frames(width: int, height: int, frames: int) -> Held:
    """All frames of an animation, with alpha, and what their decoder holds."""
    return Held(
        width * height * (frames * 4 + WHOLE["WebP"]),
        f"an animation of {frames} frames of {width}x{height} pixels",
    )


def held_by_tiff(path: Path, width: int, height: int, pixel: int) -> Held:
    """The largest strip, or a row of tiles. pixel: bytes of one."""
    tags = _tags(path)
    across, down = tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0)
    if across and down:
        tiles = -(-width // across) + 1
        return Held(tiles * across * down * pixel, f"a TIFF with tiles of {across}x{down} pixels")
    rows = min(height, tags.get(ROWS_PER_STRIP, height))
    what = f"a TIFF with strips of {rows} rows"
    if tags.get(COMPRESSION) in JPEGS:
        return Held(2 * width * rows * pixel, what)
    return Held(min(tags.get(STRIP_BYTES, 0), 2 * width * rows * pixel), what)


def _tags(path: Path) -> dict[int, int]:
    """The tags above in the first directory of a TIFF, of lists the largest; what is damaged is left out."""
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = b"+" in head[2:4]
        try:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
            file.seek(place)
            (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
            size = 20 if big else 12
            entries = file.read(size * min(count, MANY))
            found = (entries[at : at + size] for at in range(0, len(entries), size))
            return dict(_number(file, entry, order, big) for entry in found if _tag(entry, order) in TAGS)
        except (struct.error, ValueError, OSError):
            return {}


def _tag(entry: bytes, order: str) -> int:
    (tag,) = struct.unpack_from(order + "H", entry)
    return int(tag)


def _number(file: IO[bytes], entry: bytes, order: str, big: bool) -> tuple[int, int]:
    """Tag and value of an entry; of a list its largest, as far as it is there."""
    tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), entry)
    content = entry[12 if big else 8 :]
    numbers = np.dtype(order + NUMBERS[kind]) if kind in NUMBERS else None
    if numbers is None:
        return tag, 0
    size = min(count * numbers.itemsize, DIRECTORY)
    if size > len(content):
        (place,) = struct.unpack(order + ("Q" if big else "I"), content)
        file.seek(place)
        content = file.read(size)
    values = np.frombuffer(content[: min(size, len(content)) // numbers.itemsize * numbers.itemsize], numbers)
    return tag, int(values.max(initial=0))


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """OnebranchError if a header announces more pixels than the limit."""
    if width * height > max_pixels:
        raise OnebranchError(
            f"cannot read '{path}': it says that it has {width}x{height} pixels,"
            f" more than the limit of {max_pixels}; raise the limit if you trust the file"
        )
