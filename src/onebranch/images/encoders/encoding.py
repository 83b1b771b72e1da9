"""Encoding of pictures: the options, what a format cannot hold, and the arguments of libvips' savers."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.images.density import DEFAULT_DENSITY, lost_density
from onebranch.images.encoders import verbatim_exif
from onebranch.images.encoders.completion import complete_file
from onebranch.images.encoders.output_colours import OutputColours, encoder_layout, output_colours
from onebranch.images.encoders.pipe import of_memory
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, VipsImage, pyvips
from onebranch.images.metadata import (
    Metadata,
    of_size,
    without_companions,
    without_location,
    without_thumbnail,
)
from onebranch.images.picture import Picture
from onebranch.images.rows import Header
from onebranch.images.samples import as_depth

DEFAULT_QUALITY = {"JPEG": 95, "WebP": 95, "AVIF": 90}
"""Default qualities: their losses are hard to see, even magnified."""

SUBSAMPLINGS = ("auto", "444", "420")

COMPRESSIONS = ("none", "lzw", "deflate")
"""Lossless compressions of TIFF that libvips' wheel and all common readers support."""

BLOCK_FORMATS = {
    "exif": ("PNG", "JPEG", "WebP", "AVIF", "TIFF"),
    "xmp": ("PNG", "JPEG", "WebP", "AVIF", "TIFF"),
    "iptc": ("JPEG", "TIFF"),
}
"""The formats into which each block is written."""

COMMENT_FORMATS = ("JPEG", "PNG")
"""The formats into which a JPEG's comments are written."""

TIFF_STRIP_BYTES = 8 << 20
"""Approximate bytes of a strip. By default, libvips itself refuses strips above 50 MB."""

TIFF_STRIP_ROWS = (16, 128)
"""Smallest and largest number of rows in a strip; the number is a multiple of the smallest."""

MAX_CLASSIC_TIFF_BYTES = 2_700_000_000
"""A TIFF with more bytes of samples gets 64-bit offsets, because LZW can enlarge noise by half."""


@dataclass(frozen=True)
class Encoding:
    """How a picture is encoded. Raises OnebranchError at construction for a value that no format supports.

    quality: quality of JPEG, WebP and AVIF, 1 to 100. lossless: True for lossless WebP and AVIF.
    subsampling: chroma subsampling of JPEG and AVIF: "444" (none), "420" (half the resolution in both
    directions) or "auto" (none from quality 90 up). Lossy WebP is always 4:2:0; its chroma is sharpened
    unless "420" is requested. compression: compression of TIFF, "none", "lzw" or "deflate". level:
    compression level of PNG, 0 (fast) to 9 (small). strip: drop all metadata except the colour profile.
    strip_location: drop geographic locations from the metadata.

    >>> Encoding(quality=90, subsampling="444").level
    1
    """

    quality: int | None = None
    lossless: bool = False
    subsampling: str = "auto"
    compression: str = "deflate"
    level: int = 1
    strip: bool = False
    strip_location: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise OnebranchError(f"quality {self.quality} is out of range; it must be 1 to 100")
        if not 0 <= self.level <= 9:
            raise OnebranchError(f"level {self.level} is out of range; it must be 0 (fast) to 9 (small)")
        if self.subsampling not in SUBSAMPLINGS:
            raise OnebranchError(
                f"unknown chroma subsampling '{self.subsampling}'; {nearest(self.subsampling, SUBSAMPLINGS)}"
            )
        if self.compression not in COMPRESSIONS:
            raise OnebranchError(
                f"unknown compression of TIFF '{self.compression}'; {nearest(self.compression, COMPRESSIONS)}"
            )


DEFAULT_ENCODING = Encoding()


def encode(picture: Picture, file_format: Format, encoding: Encoding) -> bytes:
    """The bytes of a file in a format that libvips writes. Raises pyvips.Error if encoding fails."""
    colours = output_colours(picture.header, file_format)
    layout = encoder_layout(colours, file_format)
    samples = as_depth(picture.samples()[..., : layout.bands], layout.depth)
    metadata = written_metadata(picture.header, encoding)
    image = of_memory(np.ascontiguousarray(samples))
    operation, options, image = prepared(image, colours, metadata, file_format, encoding)
    return bytes(getattr(image, f"{operation}_buffer")(**options))


def save(image: VipsImage, header: Header, file_format: Format, encoding: Encoding, path: Path) -> None:
    """Write a libvips image of `encoder_layout` to a file. Raises pyvips.Error if encoding fails."""
    metadata, colours = written_metadata(header, encoding), output_colours(header, file_format)
    exif, given = metadata.exif, metadata
    can_be_verbatim = file_format.name in verbatim_exif.VERBATIM_FORMATS
    is_verbatim = exif is not None and can_be_verbatim and verbatim_exif.can_be_verbatim(exif)
    if exif is not None and is_verbatim:
        given = replace(metadata, exif=verbatim_exif.placeholder(exif))
    operation, options, image = prepared(image, colours, given, file_format, encoding)
    getattr(image, operation)(os.fsencode(path), **options)
    if exif is not None and is_verbatim:
        verbatim_exif.replace_placeholder(path, exif)
    complete_file(path, file_format, metadata)


def written_metadata(header: Header, encoding: Encoding) -> Metadata:
    """The metadata to write: with the picture's size, and without thumbnails or other pictures' metadata."""
    metadata, layout = header.metadata, header.layout
    if encoding.strip:
        return Metadata(icc=metadata.icc)
    metadata = without_location(metadata) if encoding.strip_location else metadata
    metadata = without_companions(without_thumbnail(metadata))
    return of_size(metadata, layout.height, layout.width)


def losses(header: Header, file_format: Format, encoding: Encoding) -> tuple[str, ...]:
    """Notes, one line each, about what a file of that format cannot hold of the picture."""
    metadata = written_metadata(header, encoding)
    blocks = [name for name in BLOCK_FORMATS if getattr(metadata, name) is not None]
    lost = [name.upper() for name in blocks if file_format.name not in BLOCK_FORMATS[name]]
    for words, value, formats in (
        ("texts of the PNG", metadata.texts, ("PNG",)),
        ("comments of the JPEG", metadata.comments, COMMENT_FORMATS),
        ("GeoTIFF tags", metadata.geotiff, ("TIFF",)),
    ):
        lost += [words] if value and file_format.name not in formats else []
    notes = [lost_density(metadata.density, file_format.name, metadata.exif)]
    if lost:
        them = "it" if len(lost) == 1 and lost[0].isupper() else "them"
        notes.append(f"{' and '.join(lost)} left out: {file_format.name} cannot hold {them}")
    return (*output_colours(header, file_format).losses, *filter(None, notes))


def prepared(
    image: VipsImage, colours: OutputColours, metadata: Metadata, file_format: Format, encoding: Encoding
) -> tuple[str, dict[str, Any], VipsImage]:
    """The name and options of the libvips saver, and the image with the file's colours and metadata."""
    if not colours.keeps_profile:
        metadata = replace(metadata, icc=None)
    image = colours.convert(image)
    operation, options = _saver(file_format, image, encoding)
    options["keep"] = _kept_blocks(metadata)
    return operation, options, _with_metadata(image, metadata)


def _kept_blocks(metadata: Metadata) -> int:
    """libvips' flags for the metadata blocks that exist, so that it does not create EXIF itself."""
    blocks = {"exif": metadata.exif, "xmp": metadata.xmp, "iptc": metadata.iptc, "icc": True}
    flags = pyvips.enums.ForeignKeep
    return sum(int(getattr(flags, name.upper())) for name, block in blocks.items() if block)


def _with_metadata(image: VipsImage, metadata: Metadata) -> VipsImage:
    """The libvips image with its metadata."""
    density = metadata.density
    written = density if density is not None and density.is_absolute else DEFAULT_DENSITY
    image = image.copy(xres=written.x, yres=written.y)
    for ours, theirs in BLOCKS.items():
        block = getattr(metadata, ours)
        if block is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, theirs, block)
    return image


def _saver(file_format: Format, image: VipsImage, encoding: Encoding) -> tuple[str, dict[str, Any]]:
    """The name of the libvips saver of a format, and its options for that image."""
    name = file_format.name
    quality = {"Q": encoding.quality or DEFAULT_QUALITY.get(name)}
    subsampling = {"subsample_mode": {"444": "off", "420": "on"}.get(encoding.subsampling, "auto")}
    lossless = {"lossless": True} if encoding.lossless else {}
    savers: dict[str, tuple[str, dict[str, Any]]] = {
        # Level 1 is the default: at level 2, files are 25 % smaller, but commands take 1.6 times as long.
        "PNG": ("pngsave", {"compression": encoding.level, "filter": "up"}),
        "JPEG": ("jpegsave", {**quality, **subsampling}),
        # exact: keep the colours of fully transparent pixels.
        "WebP": (
            "webpsave",
            {
                **quality,
                **({"lossless": True, "exact": True} if encoding.lossless else {}),
                "smart_subsample": encoding.subsampling != "420",
            },
        ),
        # Effort 3 takes a fifth of the time of libvips' default, 4; files are 2 % larger.
        "AVIF": (
            "heifsave",
            {**quality, **lossless, **subsampling, "compression": "av1", "bitdepth": 8, "effort": 3},
        ),
        "GIF": ("gifsave", {"keep_duplicate_frames": True}),
        "TIFF": ("tiffsave", _tiff_options(image, encoding)),
    }
    return savers[name]


def _tiff_options(image: VipsImage, encoding: Encoding) -> dict[str, Any]:
    """Options for strips that every reader can hold, and for BigTIFF if the file may exceed 4 GB."""
    predictor = {"float": "float", "uchar": "horizontal", "ushort": "horizontal"}.get(image.format, "none")
    if image.coding == "labq" or encoding.compression == "none":
        predictor = "none"
    sample_bytes = {"uchar": 1, "ushort": 2, "short": 2}.get(image.format, 4)
    row_bytes = image.width * image.bands * sample_bytes
    min_rows, max_rows = TIFF_STRIP_ROWS
    return {
        "compression": encoding.compression,
        "predictor": predictor,
        "tile_height": max(min_rows, min(max_rows, TIFF_STRIP_BYTES // row_bytes // min_rows * min_rows)),
        "bigtiff": row_bytes * image.height > MAX_CLASSIC_TIFF_BYTES,
    }
