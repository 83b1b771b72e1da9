"""A `Reader` of a libvips image, with converted colours and the metadata of its file."""

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
"""Bytes that are fetched from libvips at a time. Each step of its pipeline holds as many; more is slower."""


class VipsReader(ClosedAtExit):
    """A `Reader` of a libvips image, computed on demand. name: the file's format, for errors."""

    def __init__(self, path: Path, name: str, image: VipsImage, header: Header) -> None:
        self.header = header
        self._path, self._name, self._next_row = path, name, 0
        self._image = image  # a region does not keep its image alive
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
    """The image in colours that a network can process, not yet rotated, and its header.

    The metadata in the header states that the picture is upright: the caller must rotate it. notes: added to
    those of the header. structure: what the container module has read, with metadata that libvips ignores.
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
    """Notes on samples and metadata that may be interpreted differently from the author's intention.

    Like browsers and most viewers, onebranch rotates by EXIF only. The rotation in XMP is kept, so that
    viewers that apply it rotate the input and the result alike.
    """
    notes = []
    if layout.depth == "float32" and not conversion and metadata.icc is None:
        notes.append("float samples without a profile are taken as sRGB")
    if metadata.xmp is not None and xmp.declares_rotation(metadata.xmp):
        notes.append("its XMP declares a rotation, which is kept but not applied")
    return tuple(notes)


def _full_range(image: VipsImage) -> VipsImage:
    """A 10- or 12-bit AVIF image, which libvips only shifts to 16 bits, scaled so that white is 65535."""
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
