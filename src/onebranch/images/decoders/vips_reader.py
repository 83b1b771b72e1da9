"""A libvips image as a reader of rows: its colours converted, its metadata collected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.colour_conversion import ColourConversion, colour_bands
from onebranch.images.containers import xmp
from onebranch.images.containers.geotiff import geotiff_of
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.png import PngStructure
from onebranch.images.containers.tiff import TiffStructure
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.density import read_density
from onebranch.images.libvips import BLOCKS, VipsImage, field, pyvips
from onebranch.images.metadata import Metadata, upright
from onebranch.images.profiles import decode_colours
from onebranch.images.rows import ClosedAtExit, Header, Layout
from onebranch.images.samples import DEPTHS_BY_VIPS_FORMAT, Samples

FETCH_BYTES = 1 << 18
"""Bytes fetched from libvips at a time; each step of a pipeline holds as many. More are slower."""


class VipsReader(ClosedAtExit):
    """The rows of a libvips image, computed as they are asked for. name: of the format, for errors."""

    def __init__(self, path: Path, name: str, image: VipsImage, header: Header) -> None:
        self.header = header
        self._path, self._name, self._next_row = path, name, 0
        self._image = image  # libvips' region does not keep the memory alive that the image stands on
        self._region: VipsImage = pyvips.Region.new(image)

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._next_row))
        rows = np.empty((count, layout.width, layout.bands), layout.depth)
        step = max(1, FETCH_BYTES // max(1, rows.itemsize * layout.width * layout.bands))
        for first in range(0, count, step):
            part = rows[first : first + step]
            with decoder_errors(self._path, self._name):
                content = self._region.fetch(0, self._next_row, layout.width, len(part))
            part[:] = np.frombuffer(content, layout.depth).reshape(part.shape)
            self._next_row += len(part)
        return rows

    def close(self) -> None:
        """See `Reader.close`."""
        self._region = self._image = None


def describe(
    path: Path, image: VipsImage, notes: tuple[str, ...] = (), structure: object = None
) -> tuple[VipsImage, Header]:
    """The image in colours that a network can process, still rotated as stored, and its header.

    The header's metadata says that the picture is upright, which the caller must make it. notes: come last in
    the header's. structure: of the file's container, from which metadata comes that libvips does not read.
    """
    image = _full_range(image)
    colours = decode_colours(image)
    shown = colours.image
    if shown.format not in DEPTHS_BY_VIPS_FORMAT or shown.bands > 4:
        raise OnebranchError(
            f"cannot read '{path}': {shown.bands} channels of {shown.format} samples;"
            " a picture has 1 to 4 of 8 or 16 bits or 32-bit float"
        )
    channels, depth = colour_bands(shown), DEPTHS_BY_VIPS_FORMAT[shown.format]
    layout = Layout(shown.height, shown.width, channels, shown.bands > channels, depth)
    stored = replace(_metadata(image, structure), icc=colours.profile)
    metadata = upright(stored, field(image, "orientation", 1))
    ignored = _ignored(layout, metadata, colours.conversion)
    if stored.geotiff is not None and metadata.geotiff is None:
        ignored = (*ignored, "its GeoTIFF tags are left out, since it is stored rotated")
    return shown, Header(layout, metadata, colours.conversion, (*colours.notes, *ignored, *notes))


def _ignored(layout: Layout, metadata: Metadata, conversion: ColourConversion) -> tuple[str, ...]:
    """Notes on samples and metadata whose interpretation may differ from what the author intended.

    Browsers and most viewers rotate by EXIF alone. XMP is kept, so viewers that follow it rotate input and
    result alike.
    """
    notes = []
    if layout.depth == "float32" and not conversion and metadata.icc is None:
        notes.append("float samples without a profile are taken as sRGB")
    if metadata.xmp is not None and xmp.declares_rotation(metadata.xmp):
        notes.append("its XMP says that it is turned, which is kept and not followed")
    return tuple(notes)


def _full_range(image: VipsImage) -> VipsImage:
    """AVIF of 10 or 12 bits, which libvips shifts into 16: white becomes white."""
    bits = field(image, "bits-per-sample", 8)
    if image.format != "ushort" or not 8 < bits < 16 or not image.get_typeof("heif-compression"):
        return image
    white = (2**bits - 1) << (16 - bits)
    return (image * (65535 / white)).rint().cast("ushort").copy(interpretation=image.interpretation)


def _metadata(image: VipsImage, structure: object) -> Metadata:
    blocks = {ours: field(image, theirs, None) for ours, theirs in BLOCKS.items()}
    further: dict[str, Any] = {}
    match structure:
        case TiffStructure(exif=exif):
            blocks["exif"] = exif
            further["geotiff"] = geotiff_of(structure)
        case PngStructure(texts=texts):
            further["texts"] = texts
        case JpegStructure(comments=comments):
            further["comments"] = comments
    return Metadata(**blocks, density=read_density(structure, blocks["exif"]), **further)
