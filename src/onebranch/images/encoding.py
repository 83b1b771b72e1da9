"""Pictures become the bytes of a file: libvips encodes what it knows, Pillow the rest."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, pyvips, reason
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture, Samples, as_depth

QUALITY = {"JPEG": 95, "WebP": 90, "AVIF": 80}
"""Where no quality is asked for: hard to tell from the original, even magnified; JPEG keeps full chroma."""

SUBSAMPLINGS = ("auto", "444", "420")
COMPRESSIONS = ("none", "lzw", "deflate", "zstd")


@dataclass(frozen=True)
class Encoding:
    """How a picture becomes a file. OnebranchError at construction for a value that nothing has.

    quality: 1 to 100, of JPEG, WebP and AVIF. lossless: WebP and AVIF. subsampling: of chroma in JPEG and
    AVIF, "444" (none), "420" (half in both directions) or "auto" (none). compression: of TIFF, "none", "lzw",
    "deflate" or "zstd". level: of PNG, 0 (fast) to 9 (small). strip: only the colour profile comes along.
    strip_location: all metadata but the place.
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


def encode(picture: Picture, form: Format, encoding: Encoding) -> bytes:
    """The file's bytes. Samples deeper than the format holds are rounded; alpha is kept where it can be."""
    depth = picture.route.depth if picture.route else picture.pixels.dtype.name
    depth = depth if depth in form.depths else form.depths[-1]
    if picture.route and form.name not in ("BMP", "PPM"):
        return _encoded_back(picture, depth, form, encoding)
    planes = [as_depth(picture.pixels, depth)]
    if picture.alpha is not None and form.alpha:
        planes.append(as_depth(picture.alpha, depth)[..., None])
    samples = np.ascontiguousarray(np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0])
    if form.name in ("BMP", "PPM"):
        return _encoded_by_pillow(samples, form)
    try:
        return _encoded_by_libvips(samples, picture.metadata, form, encoding)
    except pyvips.Error as error:
        raise OnebranchError(f"cannot encode the picture as {form.name}: {reason(error)}") from None


def _encoded_back(picture: Picture, depth: str, form: Format, encoding: Encoding) -> bytes:
    """In the file's own colours again, where the format holds them."""
    samples = np.ascontiguousarray(picture.samples() if form.alpha else picture.pixels)
    height, width, bands = samples.shape
    image = pyvips.Image.new_from_memory(samples.data, width, height, bands, "float")
    sort = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[depth]
    saver, options = _saver(form, sort, encoding)
    try:
        shown = _described(picture.route.back(image, depth, form.name), picture.metadata)
        if shown.coding == "labq":
            options["predictor"] = "none"
        return bytes(getattr(shown, saver)(**options))
    except pyvips.Error as error:
        raise OnebranchError(f"cannot encode the picture as {form.name}: {reason(error)}") from None


def _encoded_by_libvips(samples: Samples, metadata: Metadata, form: Format, encoding: Encoding) -> bytes:
    height, width, bands = samples.shape
    sort = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[samples.dtype.name]
    space = {"uchar": ("b-w", "srgb"), "ushort": ("grey16", "rgb16"), "float": ("b-w", "srgb")}[sort]
    image = pyvips.Image.new_from_memory(samples.data, width, height, bands, sort)
    image = _described(image.copy(interpretation=space[bands > 2]), metadata)
    saver, options = _saver(form, sort, encoding)
    return bytes(getattr(image, saver)(**options))


def _described(image: Any, metadata: Metadata) -> Any:
    """The libvips image with its metadata."""
    image = (
        image.copy(xres=metadata.resolution[0], yres=metadata.resolution[1]) if metadata.resolution else image
    )
    for ours, theirs in BLOCKS.items():
        block = getattr(metadata, ours)
        if block is not None:
            image.set_type(pyvips.GValue.blob_type, theirs, block)
    return image


def _saver(form: Format, sort: str, encoding: Encoding) -> tuple[str, dict[str, Any]]:
    """libvips' function for a format, and its options."""
    quality = {"Q": encoding.quality or QUALITY.get(form.name)}
    lossless = {"lossless": True} if encoding.lossless else {}
    savers: dict[str, tuple[str, dict[str, Any]]] = {
        # 60 ms and 4.9 MB for a photograph of 1920x1280; 330 ms and 3.2 MB at level 6, filter Paeth.
        "PNG": ("pngsave_buffer", {"compression": 1, "filter": "up"}),
        "JPEG": ("jpegsave_buffer", quality),
        "WebP": ("webpsave_buffer", {**quality, **lossless}),
        "AVIF": ("heifsave_buffer", {**quality, **lossless, "compression": "av1", "bitdepth": 8}),
        "GIF": ("gifsave_buffer", {}),
        "TIFF": (
            "tiffsave_buffer",
            {"compression": "deflate", "predictor": "float" if sort == "float" else "horizontal"},
        ),
    }
    return savers[form.name]


def _encoded_by_pillow(samples: Samples, form: Format) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(file, form.name)
    return file.getvalue()
