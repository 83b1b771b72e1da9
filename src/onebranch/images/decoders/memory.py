"""Decoder memory: what a decoder holds of a picture at one time, so that too much is refused before decoding.

Most formats are decoded by rows in little memory. The bytes per pixel of the others were measured with
libvips 8.18 and Pillow 13, and rounded up.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.containers import tiff
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.jpeg_2000 import Jpeg2000Structure
from onebranch.images.containers.tiff import TiffStructure

DEFAULT_DECODER_MEMORY = 800_000_000
"""Bytes that decoding may take by default: with everything else the process stays below 1 GB."""

COEFFICIENT_BYTES = 2
"""Bytes per sample of a JPEG of several scans: each scan refines all coefficients, so all are held."""

WHOLE_PICTURE_BYTES = {"WebP": 8, "GIF": 6, "JPEG 2000": 20, "BMP": 5, "PPM": 5, "ICO": 12, "TGA": 9}
"""Bytes per pixel of the formats that are decoded as a whole."""

AVIF_BYTES = {8: 12, 16: 22}
"""Bytes per pixel of AVIF, by the bits of the decoded samples."""

TILE_BYTES, TILE_COMPONENT_BYTES, CODE_BLOCK_BYTES = 6000, 1100, 450
"""Bytes that OpenJPEG takes for each tile, for each component of a tile, and for a code block or precinct."""

MAX_WHOLE_STRIP_ROWS = 128
"""Number of rows up to which libvips decodes a TIFF's strip as a whole."""

WHOLE_STRIPS = 2
"""Number of strips decoded as a whole that are in memory at a time, in libvips and on the way to us."""

FRAME_BYTES = 4
"""Bytes per pixel of a decoded frame of an animation: 8 bits, RGB and alpha."""

BUFFERED_ROWS = 24
"""Number of rows that libvips holds of formats that it decodes by rows."""

BY_ROWS = ("PNG", "JPEG", "TIFF")
"""Formats that libvips decodes by rows."""


@dataclass(frozen=True)
class Limits:
    """pixels: largest number in a header; memory: bytes that a decoder may hold at one time."""

    pixels: int
    memory: int


@dataclass(frozen=True)
class MemoryEstimate:
    """The bytes that a decoder holds. subject: what they are for, as in "a TIFF with strips of 64 rows"."""

    bytes: int
    subject: str


def check_memory(path: Path, estimate: MemoryEstimate, memory: int) -> None:
    """Raise OnebranchError if decoding would hold more bytes than `memory`."""
    if estimate.bytes > memory:
        raise OnebranchError(
            f"cannot read '{path}': {estimate.subject} takes about {estimate.bytes / 1e9:.1f} GB of memory to"
            f" decode, more than the {memory / 1e9:.1f} GB that it may take; allow more (--memory),"
            " or convert it to PNG or to TIFF in small strips"
        )


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise OnebranchError if a header announces more pixels than the limit."""
    if width * height > max_pixels:
        raise OnebranchError(
            f"cannot read '{path}': it says that it has {width}x{height} pixels,"
            f" more than the limit of {max_pixels}; raise the limit if you trust the file"
        )


def estimate_memory(
    name: str, width: int, height: int, samples: int, depth: str, structure: object = None
) -> MemoryEstimate:
    """The largest buffer of decoding one picture of the format `name`.

    samples: of a pixel; depth: their type. structure: the container's.
    """
    size = f"{width}x{height} pixels"
    if name not in BY_ROWS:
        pixel = AVIF_BYTES[8 if depth == "uint8" else 16] if name == "AVIF" else WHOLE_PICTURE_BYTES[name]
        extra = _code_block_bytes(structure) if isinstance(structure, Jpeg2000Structure) else 0
        article = "an" if name[0] in "AI" else "a"
        return MemoryEstimate(width * height * pixel + extra, f"{article} {name} picture of {size}")
    pixel = samples * np.dtype(depth).itemsize
    rows = MemoryEstimate(width * min(height, BUFFERED_ROWS) * pixel, f"a picture of {size}")
    match structure:
        case JpegStructure():
            coefficients = _coefficient_bytes(structure, width, height, samples)
            buffer = MemoryEstimate(coefficients, f"a progressive JPEG of {size}")
        case TiffStructure():
            buffer = _tiff_memory(structure, width, height, pixel)
        case _:
            buffer = rows
    return max(rows, buffer, key=lambda each: each.bytes)


def animation_memory(width: int, height: int, frames: int) -> MemoryEstimate:
    """The memory of all frames of an animation, with alpha, and of their decoder."""
    return MemoryEstimate(
        width * height * (frames * FRAME_BYTES + WHOLE_PICTURE_BYTES["WebP"]),
        f"an animation of {frames} frames of {width}x{height} pixels",
    )


def _code_block_bytes(structure: Jpeg2000Structure) -> int:
    """Bytes for tiles, code blocks and precincts beyond those of one tile in blocks of 64x64 samples.

    Example: 6000x6000 pixels in blocks of 4x4 samples have 2.3 million blocks and precincts in each component
    of the tile, which take 3 GB.
    """
    tiles = (structure.tiles - 1) * (TILE_BYTES + TILE_COMPONENT_BYTES * structure.components)
    ordinary = 64 + structure.tile_width * structure.tile_height // 512
    return tiles + max(0, structure.blocks - ordinary) * structure.components * CODE_BLOCK_BYTES


def _coefficient_bytes(structure: JpegStructure, width: int, height: int, samples: int) -> int:
    """Bytes for all coefficients of a JPEG of several scans; 0 for a single scan, decoded by rows.

    A file whose frame header was not found may have several scans. Example: 4:2:0 has 1 + 2 / 4 samples per
    pixel, so 1000x1000 pixels take 3 MB.
    """
    count = width * height * (1.5 if structure.is_420 else samples)
    return int(count * COEFFICIENT_BYTES) if structure.multiple_scans or not structure.components else 0


def _tiff_memory(structure: TiffStructure, width: int, height: int, pixel: int) -> MemoryEstimate:
    """The memory for the largest strip, or for a row of tiles. pixel: bytes per pixel.

    libvips decodes strips of few rows, of JPEG and of separate planes as a whole and holds two at a time;
    longer ones it decodes by rows, and holds their compressed bytes (but at most twice their samples).
    Example: a strip of 1000 RGB pixels x 64 rows counts with 2 x 192,000 bytes; one of 256 rows that is
    compressed to 150,000 bytes with these.
    """
    tags = structure.integers
    across, down = tags.get(tiff.TILE_WIDTH, 0), tags.get(tiff.TILE_LENGTH, 0)
    if across and down:
        tiles = -(-width // across) + 1
        return MemoryEstimate(tiles * across * down * pixel, f"a TIFF with tiles of {across}x{down} pixels")
    rows = max(1, min(height, tags.get(tiff.ROWS_PER_STRIP, height)))
    strip = width * rows * pixel
    is_jpeg = tags.get(tiff.COMPRESSION) in tiff.JPEG_COMPRESSIONS
    is_planar = tags.get(tiff.PLANAR_CONFIGURATION) == tiff.SEPARATE_PLANES
    if rows <= MAX_WHOLE_STRIP_ROWS or is_jpeg or is_planar:
        size = WHOLE_STRIPS * strip
    else:
        size = min(tags.get(tiff.STRIP_BYTE_COUNTS, 0), 2 * strip)
    return MemoryEstimate(size, f"a TIFF with strips of {rows} rows")
