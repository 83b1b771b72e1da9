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
from onebranch.images.containers.tiff import TiffStructure

DEFAULT_DECODER_MEMORY = 800_000_000
"""Bytes that decoding may take by default: with everything else the process stays below 1 GB."""

COEFFICIENT_BYTES = 2
"""Bytes per sample of a JPEG of several scans: each scan refines all coefficients, so all are held."""

WHOLE_PICTURE_BYTES = {"WebP": 8, "GIF": 6, "JPEG 2000": 20, "BMP": 5, "PPM": 5, "ICO": 12, "TGA": 9}
"""Bytes per pixel of the formats that are decoded as a whole."""

AVIF_BYTES = {8: 12, 16: 22}
"""Bytes per pixel of AVIF, by the bits of the decoded samples."""

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
) -> tuple[MemoryEstimate, ...]:
    """The buffers of decoding one picture of the format `name`, of which the largest counts.

    samples: of a pixel; depth: their type. structure: the container's, which JPEG and TIFF need.
    """
    if name not in BY_ROWS:
        return (whole_picture_memory(name, width, height, depth),)
    pixel = samples * np.dtype(depth).itemsize
    rows = MemoryEstimate(width * min(height, BUFFERED_ROWS) * pixel, f"a picture of {width}x{height} pixels")
    match structure:
        case JpegStructure():
            return rows, _jpeg_memory(structure, width, height, samples)
        case TiffStructure():
            return rows, _tiff_memory(structure, width, height, pixel)
        case _:
            return (rows,)


def whole_picture_memory(name: str, width: int, height: int, depth: str = "uint8") -> MemoryEstimate:
    """The memory of a picture of a format that is never decoded by rows."""
    pixel = AVIF_BYTES[8 if depth == "uint8" else 16] if name == "AVIF" else WHOLE_PICTURE_BYTES[name]
    article = "an" if name[0] in "AI" else "a"
    return MemoryEstimate(width * height * pixel, f"{article} {name} picture of {width}x{height} pixels")


def animation_memory(width: int, height: int, frames: int) -> MemoryEstimate:
    """The memory of all frames of an animation, with alpha, and of their decoder."""
    return MemoryEstimate(
        width * height * (frames * FRAME_BYTES + WHOLE_PICTURE_BYTES["WebP"]),
        f"an animation of {frames} frames of {width}x{height} pixels",
    )


def _jpeg_memory(structure: JpegStructure, width: int, height: int, samples: int) -> MemoryEstimate:
    """The memory for all coefficients of a JPEG of several scans; 0 for a single scan, decoded by rows.

    Example: 4:2:0 has 1 + 2 / 4 samples per pixel, so 1000x1000 pixels take 3 MB.
    """
    count = width * height * (1.5 if structure.is_420 else samples)
    size = int(count * COEFFICIENT_BYTES) if structure.multiple_scans else 0
    return MemoryEstimate(size, f"a progressive JPEG of {width}x{height} pixels")


def _tiff_memory(structure: TiffStructure, width: int, height: int, pixel: int) -> MemoryEstimate:
    """The memory for the largest strip, or for a row of tiles. pixel: bytes per pixel.

    A strip counts with its compressed bytes, but at most twice its samples; a strip in JPEG, which is decoded
    as a whole, counts with twice its samples. Example: 1000 RGB pixels x 64 rows have 192,000 bytes of
    samples, so a strip of 150,000 compressed bytes counts with 150,000, and one in JPEG with 384,000.
    """
    tags = structure.integers
    across, down = tags.get(tiff.TILE_WIDTH, 0), tags.get(tiff.TILE_LENGTH, 0)
    if across and down:
        tiles = -(-width // across) + 1
        return MemoryEstimate(tiles * across * down * pixel, f"a TIFF with tiles of {across}x{down} pixels")
    rows = min(height, tags.get(tiff.ROWS_PER_STRIP, height))
    size = 2 * width * rows * pixel
    if tags.get(tiff.COMPRESSION) not in tiff.JPEG_COMPRESSIONS:
        size = min(tags.get(tiff.STRIP_BYTE_COUNTS, 0), size)
    return MemoryEstimate(size, f"a TIFF with strips of {rows} rows")
