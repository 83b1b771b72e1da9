"""A libvips image becomes rows and a header: the route of its colours, its metadata, what to say of it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.libvips import BLOCKS, pyvips
from onebranch.images.metadata import Metadata, upright
from onebranch.images.picture import Samples
from onebranch.images.png_text import read_texts
from onebranch.images.profiles import routed
from onebranch.images.route import Route
from onebranch.images.rows import Header, Layout
from onebranch.images.tiff_exif import read_exif

Image = Any
"""A pyvips image, which is not typed."""

DEPTHS = {"uchar": "uint8", "ushort": "uint16", "float": "float32"}
"""Our name of libvips' sample types; pictures of other types are refused."""

TURNED_BY_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*[2-8]")

CHUNK = 1 << 18
"""Bytes that are taken out of libvips at a time: each step of a pipeline holds as many; more are slower."""


class PipelineReader:
    """The rows of a libvips image, computed as they are asked for."""

    def __init__(self, path: Path, name: str, image: Image, header: Header) -> None:
        self.header = header
        self._path, self._name, self._row = path, name, 0
        self._image = image  # libvips' region does not keep the memory alive that the image stands on
        self._region: Image = pyvips.Region.new(image)

    def read(self, count: int) -> Samples:
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._row))
        rows = np.empty((count, layout.width, layout.bands), layout.depth)
        step = max(1, CHUNK // max(1, rows.itemsize * layout.width * layout.bands))
        for at in range(0, count, step):
            part = rows[at : at + step]
            with decoder_errors(self._path, self._name):
                content = self._region.fetch(0, self._row, layout.width, len(part))
            part[:] = np.frombuffer(content, layout.depth).reshape(part.shape)
            self._row += len(part)
        return rows

    def close(self) -> None:
        self._region = self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def described(path: Path, image: Image, notes: tuple[str, ...]) -> tuple[Image, Header]:
    """The image whose samples are to be shown, as it lies, and its header, whose metadata says upright."""
    image = _full_range(image)
    shown, route, profile, words = routed(image)
    orientation = field(image, "orientation", 1)
    if shown.format not in DEPTHS or shown.bands > 4:
        raise OnebranchError(
            f"cannot read '{path}': {shown.bands} channels of {shown.format} samples;"
            " a picture has 1 to 4 of 8 or 16 bits or 32-bit float"
        )
    channels = 1 if shown.bands < 3 else 3
    layout = Layout(shown.height, shown.width, channels, shown.bands > channels, DEPTHS[shown.format])
    metadata = upright(replace(_metadata(path, image), icc=profile), orientation)
    return shown, Header(layout, metadata, route, (*words, *_unfollowed(layout, metadata, route), *notes))


def _unfollowed(layout: Layout, metadata: Metadata, route: Route) -> tuple[str, ...]:
    """What is taken otherwise than it may have been meant, in words.

    Browsers and most viewers turn by EXIF alone. As XMP is kept, those that follow it turn the result too.
    """
    words = []
    if layout.depth == "float32" and not route and metadata.icc is None:
        words.append("float samples without a profile are taken as sRGB")
    if metadata.xmp is not None and TURNED_BY_XMP.search(metadata.xmp):
        words.append("its XMP says that it is turned, which is kept and not followed")
    return tuple(words)


def _full_range(image: Image) -> Image:
    """Pictures of 10 or 12 bits, which libvips shifts into 16: white is made white."""
    bits = field(image, "bits-per-sample", 8)
    if image.format != "ushort" or not 8 < bits < 16 or not image.get_typeof("heif-compression"):
        return image
    white = (2**bits - 1) << (16 - bits)
    return (image * (65535 / white)).rint().cast("ushort").copy(interpretation=image.interpretation)


def _metadata(path: Path, image: Image) -> Metadata:
    blocks = {ours: field(image, theirs, None) for ours, theirs in BLOCKS.items()}
    if field(image, "vips-loader", "") == "tiffload":
        blocks["exif"] = read_exif(path)
    texts = read_texts(path) if field(image, "vips-loader", "") == "pngload" else ()
    known = (image.xres, image.yres) != (1.0, 1.0)  # libvips' value for a file that does not say
    return Metadata(**blocks, resolution=(image.xres, image.yres) if known else None, texts=texts)


def field(image: Image, name: str, default: Any) -> Any:
    """What libvips says of an image under that name, else the default."""
    return image.get(name) if image.get_typeof(name) else default
