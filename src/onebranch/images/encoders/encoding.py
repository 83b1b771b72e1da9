"""How pictures are encoded: what may be asked for, what is lost, and what libvips is told."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.images.encoders import exif_bytes
from onebranch.images.encoders.pipe import of_memory
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, pyvips
from onebranch.images.metadata import Metadata, is_whole, of_size, without_location, without_thumbnail
from onebranch.images.picture import Picture, Samples, as_depth
from onebranch.images.png_text import add_texts
from onebranch.images.profiles import classify_profile
from onebranch.images.route import HOLDERS, WITH_PROFILES
from onebranch.images.rows import Header, Layout
from onebranch.images.tiff_exif import add_exif

Image = Any
"""A pyvips image: not typed."""

QUALITY = {"JPEG": 95, "WebP": 95, "AVIF": 90}
"""Where no quality is asked for: hard to tell from the original, even magnified."""

WITHOUT_GREY = ("WebP", "AVIF")
"""Formats with profiles whose grey is three equal channels."""

SUBSAMPLINGS = ("auto", "444", "420")
BITS = {"uint8": "8 bits", "uint16": "16 bits", "float32": "32-bit floats"}

HOLD_BLOCK = {
    "exif": ("PNG", "JPEG", "WebP", "AVIF", "TIFF"),
    "xmp": ("PNG", "JPEG", "WebP", "AVIF", "TIFF"),
    "iptc": ("JPEG", "TIFF"),
}
"""The formats into which each block is written."""

UNSAID = (72 / 25.4, 72 / 25.4)
"""The resolution of a file that says none, as other programs have it: libvips writes one always."""

STRIP = 8 << 20
"""Bytes of a TIFF's strip, about; libvips itself reads no strip above 50 MB unasked."""

LARGEST_TIFF = 2_700_000_000
"""Bytes of samples above which a TIFF's places need 64 bits: LZW can make noise half as large again."""

COMPRESSIONS = ("none", "lzw", "deflate")
"""Of TIFF: those without loss that every reader and libvips' wheel have."""


@dataclass(frozen=True)
class Encoding:
    """How a picture becomes a file. OnebranchError at construction for a value that nothing has.

    quality: 1 to 100, of JPEG, WebP and AVIF. lossless: WebP and AVIF. subsampling: of chroma in JPEG and
    AVIF, "444" (none), "420" (half in both directions) or "auto" (none from quality 90 up); WebP has but the
    second, done with care unless it is asked for. compression:
    of TIFF, "none", "lzw" or "deflate". level: of PNG, 0 (fast) to 9 (small). strip: only the colour
    profile comes along. strip_location: all metadata but the place.
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


USUAL = Encoding()


def depth_in(form: Format, header: Header) -> str:
    """The depth in which the file is written: the picture's own, or the deepest that the format holds."""
    own = header.route.depth if header.route else header.layout.depth
    return own if own in form.depths else form.depths[-1]


def saved_layout(form: Format, header: Header) -> Layout:
    """How the rows are handed to the encoder: in the file's depth, or as float where a route leads back."""
    layout = header.layout
    depth = layout.depth if header.route else depth_in(form, header)
    return Layout(layout.height, layout.width, layout.channels, layout.alpha and form.alpha, depth)


def encode(picture: Picture, form: Format, encoding: Encoding) -> bytes:
    """The bytes of a file of a format that libvips writes. pyvips.Error where it fails."""
    header = picture.header
    layout = saved_layout(form, header)
    samples = as_depth(picture.samples()[..., : layout.bands], layout.depth)
    samples = np.ascontiguousarray(samples)
    name, options, image = to_be_saved(of_memory(samples), header, form, encoding)
    return bytes(getattr(image, f"{name}_buffer")(**options))


def save(image: Image, header: Header, form: Format, encoding: Encoding, path: Path) -> None:
    """Write a libvips image of `saved_layout` into a file. pyvips.Error where it fails."""
    metadata = carried(header, encoding)
    exif = metadata.exif
    exact = exif is not None and form.name in exif_bytes.HOLDERS and _is_exact(exif)
    if exif is not None and exact:
        header = replace(header, metadata=replace(header.metadata, exif=exif_bytes.stand_in(exif)))
    name, options, image = to_be_saved(image, header, form, encoding)
    getattr(image, name)(os.fsencode(path), **options)
    if exif is not None and exact:
        exif_bytes.put(path, exif, header.metadata.resolution or UNSAID)
    elif exif is not None and form.name == "TIFF":
        add_exif(path, exif)
    if form.name == "PNG" and metadata.texts:
        add_texts(path, metadata.texts)


def _is_exact(exif: bytes) -> bool:
    """Whether the block is written as it is; of what is damaged or too long libvips keeps what it can."""
    return len(exif) <= exif_bytes.LONGEST and is_whole(exif)


def to_be_saved(
    image: Image, header: Header, form: Format, encoding: Encoding
) -> tuple[str, dict[str, Any], Image]:
    """libvips' operation that saves, its options, and the image in the file's colours with all metadata.

    image: of `saved_layout`.
    """
    metadata = carried(header, encoding)
    if not _holds_profile(header, form):
        metadata = replace(metadata, icc=None)
    image = _in_file_colours(image, header, form)
    name, options = _saver(form, image, encoding)
    return name, {**options, "keep": _kept(form, metadata, encoding)}, _described(image, metadata)


def plain_rows(rows: Samples, header: Header, form: Format) -> Samples:
    """Rows of `saved_layout` in the colours and the depth of a format that libvips does not write."""
    depth = depth_in(form, header)
    if rows.dtype == depth and not _becomes_srgb(header, form):
        return rows
    shown = _in_file_colours(of_memory(np.ascontiguousarray(rows)), header, form).numpy()
    return np.asarray(shown.reshape(rows.shape))


def _in_file_colours(image: Image, header: Header, form: Format) -> Image:
    """A libvips image of `saved_layout` in the colours and the depth that the file has."""
    depth = depth_in(form, header)
    if header.route:
        return header.route.back(image, depth, form.name if _holds_profile(header, form) else "")
    return _in_srgb(image, header.metadata.icc, depth) if _becomes_srgb(header, form) else image


def _holds_profile(header: Header, form: Format) -> bool:
    """Whether the format has a place for the picture's profile, as which grey in three channels has none."""
    return form.name in WITH_PROFILES and (header.layout.channels == 3 or form.name not in WITHOUT_GREY)


def _becomes_srgb(header: Header, form: Format) -> bool:
    """Whether colours are converted through a profile for which the format has no place."""
    icc = header.metadata.icc
    if icc is None or _holds_profile(header, form) or header.route:
        return False
    return classify_profile(icc, header.layout.channels) != "damaged"


def carried(header: Header, encoding: Encoding) -> Metadata:
    """What of the metadata goes into the file of the enhanced picture, and is true of it."""
    metadata, layout = header.metadata, header.layout
    if encoding.strip:
        return Metadata(icc=metadata.icc)
    metadata = without_location(metadata) if encoding.strip_location else metadata
    return of_size(without_thumbnail(metadata), layout.height, layout.width)


def losses(header: Header, form: Format, encoding: Encoding) -> tuple[str, ...]:
    """What a file of that format cannot hold of the picture, one line each."""
    own = header.route.depth if header.route else header.layout.depth
    depth = depth_in(form, header)
    found = []
    if depth != own:
        found.append(f"{BITS[own]} become {BITS[depth]}: {form.name} holds no more")
    if form.name == "GIF" and header.layout.channels == 3:
        found.append("colours become at most 256: GIF holds no more")
    if form.name == "GIF" and header.layout.alpha:
        found.append("what is half transparent becomes opaque or hidden: GIF holds no more")
    found += _lost_colours(header, form)
    kept = carried(header, encoding)
    blocks = [name for name in ("exif", "xmp", "iptc") if getattr(kept, name) is not None]
    lost = [name.upper() for name in blocks if form.name not in HOLD_BLOCK[name]]
    lost += ["texts of the PNG"] if kept.texts and form.name != "PNG" else []
    if lost:
        them = "it" if len(lost) == 1 and not kept.texts else "them"
        found.append(f"{' and '.join(lost)} left out: {form.name} does not hold {them}")
    return tuple(found)


def _lost_colours(header: Header, form: Format) -> list[str]:
    if header.route and form.name not in HOLDERS[header.route.kind]:
        what = {"linear": "linear light", "profile": "the profile"}.get(header.route.kind, header.route.kind)
        return [f"colours become sRGB: {form.name} does not hold {what}"]
    if header.metadata.icc is None or _holds_profile(header, form):
        return []
    if form.name in WITHOUT_GREY:
        return [f"grey becomes sRGB: {form.name} holds no profile of grey"]
    if not _becomes_srgb(header, form) and not header.route:
        return [f"its damaged colour profile is left out: {form.name} holds none"]
    return [f"colours become sRGB: {form.name} holds no colour profile"]


def _in_srgb(image: Image, profile: bytes | None, depth: str) -> Image:
    """Samples of a profile as sRGB, for formats without profiles; black and white as the profile says."""
    channels = 1 if image.bands < 3 else 3
    colours = image[:channels] if image.bands > channels else image
    colours = colours.copy(interpretation=image.interpretation)
    colours.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], profile)
    shown = colours.icc_transform("srgb", embedded=True, depth=16 if depth == "uint16" else 8)
    if channels == 1:
        shown = shown.colourspace("grey16" if depth == "uint16" else "b-w")
    shown = shown.copy()
    shown.remove(BLOCKS["icc"])  # sRGB, which is what no profile means
    if image.bands == channels:
        return shown
    return shown.bandjoin(image[channels]).copy(interpretation=shown.interpretation)


def _kept(form: Format, metadata: Metadata, encoding: Encoding) -> int:
    """libvips' flags for the blocks that there are; it would make EXIF of its own.

    That it does so is of use in a JPEG, which has no other place for the resolution with libvips.
    """
    said = form.name == "JPEG" and metadata.resolution not in (None, UNSAID) and not encoding.strip
    blocks = {"exif": metadata.exif or said, "xmp": metadata.xmp, "iptc": metadata.iptc, "icc": True}
    return sum(
        int(getattr(pyvips.enums.ForeignKeep, name.upper())) for name, block in blocks.items() if block
    )


def _described(image: Image, metadata: Metadata) -> Image:
    """The libvips image with its metadata."""
    across, down = metadata.resolution or UNSAID
    image = image.copy(xres=across, yres=down)
    for ours, theirs in BLOCKS.items():
        block = getattr(metadata, ours)
        if block is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, theirs, block)
    return image


def _saver(form: Format, image: Image, encoding: Encoding) -> tuple[str, dict[str, Any]]:
    """libvips' operation for a format, and its options for that image."""
    quality = {"Q": encoding.quality or QUALITY.get(form.name)}
    lossless = {"lossless": True} if encoding.lossless else {}
    exact = {"exact": True} if encoding.lossless else {}  # the colours where nothing is seen, too
    subsampling = {"subsample_mode": {"444": "off", "420": "on"}.get(encoding.subsampling, "auto")}
    careful = {"smart_subsample": encoding.subsampling != "420"}  # WebP has no other than 420
    savers: dict[str, tuple[str, dict[str, Any]]] = {
        # Level 1 unless asked: level 2 makes files a quarter smaller and whole commands 1.6 times as slow.
        "PNG": ("pngsave", {"compression": encoding.level, "filter": "up"}),
        "JPEG": ("jpegsave", {**quality, **subsampling}),
        "WebP": ("webpsave", {**quality, **lossless, **exact, **careful}),
        # Effort 3 takes a fifth of the time of libvips' own choice, 4, and 2 % more space.
        "AVIF": (
            "heifsave",
            {**quality, **lossless, **subsampling, "compression": "av1", "bitdepth": 8, "effort": 3},
        ),
        "GIF": ("gifsave", {"keep_duplicate_frames": True}),
        "TIFF": ("tiffsave", _tiff_options(image, encoding)),
    }
    return savers[form.name]


def _tiff_options(image: Image, encoding: Encoding) -> dict[str, Any]:
    """Strips that any reader holds easily; BigTIFF beyond 4 GB."""
    predictor = {"float": "float", "uchar": "horizontal", "ushort": "horizontal"}.get(image.format, "none")
    if image.coding == "labq" or encoding.compression == "none":
        predictor = "none"
    sample = {"uchar": 1, "ushort": 2, "short": 2}.get(image.format, 4)
    row = image.width * image.bands * sample
    return {
        "compression": encoding.compression,
        "predictor": predictor,
        "tile_height": max(16, min(128, STRIP // row // 16 * 16)),
        "bigtiff": row * image.height > LARGEST_TIFF,
    }
