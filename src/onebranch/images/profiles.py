"""ICC profiles: which colours a network can process directly, and the conversion of all others.

A profile is classified by its effect, not by its name: a few colours are converted through it, and their
luminances are compared.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from onebranch.images.colour_conversion import (
    ColourConversion,
    colour_bands,
    lab_to_srgb,
    linear_to_srgb,
    to_float,
)
from onebranch.images.libvips import BLOCKS, VipsImage, field, pyvips

ProfileKind = Literal["", "linear", "profile", "damaged"]

DEPTHS = {"uchar": "uint8", "ushort": "uint16", "short": "uint16"}
"""The depth of a file's samples by libvips' format ("short" is 16-bit Lab); all others are float32."""

COLOUR_SPACES = {b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK"}
"""Readable names of the colour space of a profile's data (ICC.1, 7.2.6)."""

LAB_ALPHA_WHITE = 32767
"""The alpha of an opaque pixel of 16-bit Lab."""

PATCHES = np.array(
    [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]], np.uint8
)
"""The colours by which profiles are classified: black, white, red, green, blue and mid grey."""

LINEAR_GREY_LUMINANCE = 0.4
"""A profile whose mid grey has a higher luminance is linear. Linear has 0.50, sRGB 0.22, gamma 1.8 0.29."""


class DecodedColours(NamedTuple):
    """A libvips image in colours that a network can process.

    conversion: how the file's colours were converted. profile: the ICC profile of the image; None for sRGB.
    notes: messages for the user, one line each.
    """

    image: VipsImage
    conversion: ColourConversion = ColourConversion()
    profile: bytes | None = None
    notes: tuple[str, ...] = ()


def decode_colours(image: VipsImage) -> DecodedColours:
    """The libvips image of a decoded file, converted to colours that a network can process."""
    profile = field(image, BLOCKS["icc"], None)
    space = str(image.interpretation)
    if image.format == "double":
        image = image.cast("float")
    if space == "cmyk":
        return _from_cmyk(image, profile)
    if space in ("lab", "labs", "labq"):
        return _from_lab(image)
    return DecodedColours(image) if profile is None else _with_profile(image, profile)


def _with_profile(image: VipsImage, profile: bytes) -> DecodedColours:
    channels = colour_bands(image)
    space = COLOUR_SPACES.get(profile[16:20], "an unknown space")
    if space != ("grey" if channels == 1 else "RGB"):
        return DecodedColours(image, notes=(f"its colour profile is for {space} and was left out",))
    kind = classify_profile(profile, channels)
    depth = DEPTHS.get(image.format, "float32")
    if kind == "damaged":
        note = "its colour profile is damaged and was kept as it is"
        return DecodedColours(image, profile=profile, notes=(note,))
    if kind == "linear":
        words = "linear light enhanced with sRGB's transfer, and back"
        converted = _convert(image, channels, lambda colours: linear_to_srgb(to_float(colours)))
        return DecodedColours(converted, ColourConversion(words, depth, "linear"), profile, (words,))
    if kind == "profile":
        words = "colours enhanced in sRGB through their profile, and back"
        conversion = ColourConversion(words, depth, "profile", profile)
        return DecodedColours(_convert(image, channels, _imported), conversion, None, (words,))
    return DecodedColours(image, profile=profile)


def _from_cmyk(image: VipsImage, profile: bytes | None) -> DecodedColours:
    usable = profile if profile is not None and profile[16:20] == b"CMYK" else None
    words = f"CMYK converted to sRGB by {'a common press profile' if usable is None else 'its profile'}"
    conversion = ColourConversion(words, DEPTHS.get(image.format, "float32"), "CMYK", usable)
    return DecodedColours(_convert(image, 4, _imported), conversion, None, (words,))


def _from_lab(image: VipsImage) -> DecodedColours:
    bits = field(image, "bits-per-sample", 32)
    depth = {8: "uint8", 16: "uint16"}.get(bits, "float32")
    words = "Lab converted to sRGB by the CIE formulas"
    lab = image if image.interpretation == "lab" else image.colourspace("lab")
    colours = lab_to_srgb(lab[:3] if lab.bands > 3 else lab)
    if lab.bands > 3:
        alpha = lab[3] / LAB_ALPHA_WHITE if image.format == "short" else lab[3]
        colours = colours.bandjoin(alpha.cast("float"))
    return DecodedColours(colours, ColourConversion(words, depth, "Lab"), None, (words,))


def _convert(image: VipsImage, channels: int, convert: Callable[[VipsImage], VipsImage]) -> VipsImage:
    """The image with its first `channels` bands converted, and its alpha band, if any, as float."""
    colours = convert(image[:channels] if image.bands > channels else image)
    return colours if image.bands == channels else colours.bandjoin(to_float(image[channels]))


def _imported(image: VipsImage) -> VipsImage:
    """RGB or CMYK as sRGB, not clipped, through the attached profile, or libvips' own one for CMYK."""
    if image.format == "float":
        image = (image * 65535).rint().cast("ushort")
    fallback = {"input_profile": "cmyk"} if image.bands == 4 else {}
    lab = image.icc_import(embedded=True, pcs="lab", intent="relative", **fallback)
    return lab_to_srgb(lab)


@lru_cache(maxsize=64)
def classify_profile(profile: bytes, channels: int) -> ProfileKind:
    """How colours with an ICC profile are processed. channels: of the picture, 1 or 3.

    "": unchanged. "linear": after encoding with sRGB's transfer function. "profile": after conversion to
    sRGB, because BT.601 luma of the samples would not represent brightness. (It does if green is the
    brightest primary and blue the darkest, as in sRGB.) "damaged": the profile cannot be used.
    """
    if profile[36:40] != b"acsp":  # libvips would silently use sRGB
        return "damaged"
    patches = np.ascontiguousarray(PATCHES[:, :channels])
    image = pyvips.Image.new_from_memory(patches.data, len(patches), 1, channels, "uchar")
    image = image.copy(interpretation="srgb" if channels == 3 else "b-w")
    image.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], profile)
    try:
        xyz = image.icc_import(embedded=True, pcs="xyz", intent="relative").numpy()[0]
    except pyvips.Error:
        return "damaged"
    return _kind_by_luminance(xyz[:, 1], channels)


def _kind_by_luminance(luminance: np.ndarray, channels: int) -> ProfileKind:
    """The kind of a profile. luminance: CIE Y of `PATCHES`.

    Example: black 0, white 1, red 0.22, green 0.72 and blue 0.06 are ordered as in sRGB. The profile is then
    "linear" if mid grey has 0.50, and "" (used directly) if it has 0.22.
    """
    black, white, red, green, blue, grey = luminance
    if not white > black:
        return "profile" if channels == 3 else ""
    if channels == 3 and not (green > red > blue or green > red >= blue):
        return "profile"
    return "linear" if (grey - black) / (white - black) > LINEAR_GREY_LUMINANCE else ""
