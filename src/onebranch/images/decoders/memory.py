"""Estimates of decoder memory, by which files that need too much of it are refused before they are decoded.

Most formats are decoded by rows in little memory. For the others, the bytes per pixel were measured with
libvips 8.18 and Pillow 13, and rounded up.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebranch.errors import OnebranchError, counted_noun
from onebranch.images.containers import tiff
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.jpeg_2000 import Jpeg2000Structure
from onebranch.images.containers.tiff import TiffStructure

DEFAULT_DECODER_MEMORY = 800_000_000
"""Default limit in bytes. It keeps the whole process below 1 GB."""

COEFFICIENT_BYTES = 2
"""Bytes per sample of a JPEG with several scans, whose decoder holds all coefficients between scans."""

WHOLE_PICTURE_BYTES = {"WebP": 8, "GIF": 6, "JPEG 2000": 20, "BMP": 5, "PPM": 5, "ICO": 12, "TGA": 9}
"""Bytes per pixel for the formats whose pictures are decoded as a whole."""

AVIF_BYTES = {8: 12, 16: 22}
"""Bytes per pixel for AVIF, by the bits of a decoded sample."""

TILE_BYTES, TILE_COMPONENT_BYTES, CODE_BLOCK_BYTES = 6000, 1100, 450
"""Bytes that OpenJPEG needs per tile, per component of a tile, and per code block or precinct."""

MAX_WHOLE_STRIP_ROWS = 128
"""The tallest strip of a TIFF file, in rows, that libvips decodes as a whole."""

WHOLE_STRIPS = 2
"""Number of such strips in memory at a time: one in libvips, and one that is being returned."""

FRAME_BYTES = 4
"""Bytes per pixel of a decoded frame of an animation, which is 8-bit RGBA."""

BUFFERED_ROWS = 24
"""Number of rows that libvips buffers for formats that it decodes by rows."""

BY_ROWS = ("PNG", "JPEG", "TIFF")
"""Formats that libvips decodes by rows."""


@dataclass(frozen=True)
class Limits:
    """Limits for reading. pixels: largest height x width. memory: bytes that a decoder may hold."""

    pixels: int
    memory: int


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated bytes of a decoder. subject: what needs them, such as "a TIFF with strips of 64 rows"."""

    bytes: int
    subject: str


def check_memory(path: Path, estimate: MemoryEstimate, memory: int) -> None:
    """Raise OnebranchError if the decoder would hold more than `memory` bytes."""
    if estimate.bytes > memory:
        raise OnebranchError(
            f"cannot read '{path}': {estimate.subject} needs about {estimate.bytes / 1e9:.1f} GB of memory to"
            f" decode, more than the limit of {memory / 1e9:.1f} GB; raise the limit (--memory),"
            " or convert it to PNG or to TIFF in small strips"
        )


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise OnebranchError if a header announces more pixels than the limit."""
    if width * height > max_pixels:
        raise OnebranchError(
            f"cannot read '{path}': its header states {width}x{height} pixels,"
            f" more than the limit of {max_pixels}; raise the limit if you trust the file"
        )


def estimate_memory(
    name: str, width: int, height: int, samples: int, depth: str, structure: object = None
) -> MemoryEstimate:
    """The memory of the largest buffer that is needed to decode a picture of the format `name`.

    samples: number per pixel. depth: type of the samples. structure: what the container module has read.
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
    """The memory of all frames of an animation as 8-bit RGBA, and of their decoder."""
    return MemoryEstimate(
        width * height * (frames * FRAME_BYTES + WHOLE_PICTURE_BYTES["WebP"]),
        f"an animation of {frames} frames of {width}x{height} pixels",
    )


def _code_block_bytes(structure: Jpeg2000Structure) -> int:
    """Bytes for tiles, code blocks and precincts that exceed those of one tile with blocks of 64x64 samples.

    Example: a tile of 6000x6000 pixels with blocks of 4x4 samples has 2.3 million blocks and precincts in
    each component, which take 3 GB for three components.
    """
    tiles = (structure.tiles - 1) * (TILE_BYTES + TILE_COMPONENT_BYTES * structure.components)
    ordinary = 64 + structure.tile_width * structure.tile_height // 512
    return tiles + max(0, structure.blocks - ordinary) * structure.components * CODE_BLOCK_BYTES


def _coefficient_bytes(structure: JpegStructure, width: int, height: int, samples: int) -> int:
    """Bytes for all coefficients of a JPEG with several scans; 0 for a single scan, which is decoded by rows.

    A file whose frame header was not found is assumed to have several scans. Example: with 4:2:0 subsampling
    there are 1 + 2 / 4 samples per pixel, so 1000x1000 pixels take 1.5 x 2 bytes x 10^6 = 3 MB.
    """
    count = width * height * (1.5 if structure.is_420 else samples)
    return int(count * COEFFICIENT_BYTES) if structure.multiple_scans or not structure.components else 0


def _tiff_memory(structure: TiffStructure, width: int, height: int, pixel: int) -> MemoryEstimate:
    """The memory for the largest strip, or for a row of tiles. pixel: bytes per pixel.

    libvips decodes a strip as a whole, and holds two, if the strip has few rows, is compressed as JPEG, or
    holds a separate plane. It decodes other strips by rows and holds their compressed bytes (counted as at
    most twice the bytes of their samples). Example: for strips of 64 rows of 1000 RGB pixels, the memory is
    2 x 64 x 3000 = 384,000 bytes; for a strip of 256 rows that is compressed to 150,000 bytes, it is 150,000.
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
    return MemoryEstimate(size, f"a TIFF with strips of {counted_noun(rows, 'row')}")
