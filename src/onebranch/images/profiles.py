"""Colour profiles: which encoded colours a network can process directly, and the conversion of all others.

A profile is classified by its effect, never by its name: a few colours are converted through it, and their
luminance is examined.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from onebranch.images.libvips import pyvips
from onebranch.images.route import Route, from_depth, lab_to_srgb, linear_to_srgb

Image = Any
"""A pyvips image: not typed."""

DEPTHS = {"uchar": "uint8", "ushort": "uint16", "short": "uint16"}
SPACES = {b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK"}

PATCHES = np.array(
    [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]], np.uint8
)

LINEAR = 0.4
"""Luminance of mid grey from which on a profile is linear light: 0.50; sRGB has 0.22, gamma 1.8 has 0.29."""


def routed(image: Image) -> tuple[Image, Route, bytes | None, tuple[str, ...]]:
    """The image that is shown, how it came about, the profile that goes with it, and words about it."""
    profile = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    space = str(image.interpretation)
    if image.format == "double":
        image = image.cast("float")
    if space == "cmyk":
        return _from_cmyk(image, profile)
    if space in ("lab", "labs", "labq"):
        return _from_lab(image)
    if profile is None:
        return image, Route(), None, ()
    return _with_profile(image, profile)


def _with_profile(image: Image, profile: bytes) -> tuple[Image, Route, bytes | None, tuple[str, ...]]:
    channels = 1 if image.bands < 3 else 3
    theirs = SPACES.get(profile[16:20], "an unknown space")
    if theirs != ("grey" if channels == 1 else "RGB"):
        return image, Route(), None, (f"its colour profile is for {theirs} and was left out",)
    kind = classify_profile(profile, channels)
    depth = DEPTHS.get(image.format, "float32")
    if kind == "damaged":
        return image, Route(), profile, ("its colour profile is damaged and was kept as it is",)
    if kind == "linear":
        route = Route("linear light enhanced with sRGB's transfer, and back", depth, "linear")
        return _joined(image, channels, linear_to_srgb), route, profile, (route.name,)
    if kind == "profile":
        route = Route("colours enhanced in sRGB through their profile, and back", depth, "profile", profile)
        return _joined(image, channels, _imported, original=True), route, None, (route.name,)
    return image, Route(), profile, ()


def _from_cmyk(image: Image, profile: bytes | None) -> tuple[Image, Route, bytes | None, tuple[str, ...]]:
    own = profile is not None and profile[16:20] == b"CMYK"
    source = "its profile" if own else "a common press profile"
    route = Route(
        f"CMYK converted to sRGB by {source}",
        DEPTHS.get(image.format, "float32"),
        "CMYK",
        profile if own else None,
    )
    return _joined(image, 4, _imported, original=True), route, None, (route.name,)


def _from_lab(image: Image) -> tuple[Image, Route, bytes | None, tuple[str, ...]]:
    bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 32
    depth = {8: "uint8", 16: "uint16"}.get(bits, "float32")
    route = Route("Lab converted to sRGB by the CIE formulas", depth, "Lab")
    lab = image if image.interpretation == "lab" else image.colourspace("lab")
    shown = lab_to_srgb(lab[:3] if lab.bands > 3 else lab)
    if lab.bands > 3:
        shown = shown.bandjoin((lab[3] / 32767 if image.format == "short" else lab[3]).cast("float"))
    return shown, route, None, (route.name,)


def _joined(image: Image, channels: int, convert: Any, *, original: bool = False) -> Image:
    """The colours converted, the alpha as float beside them. original: the integers are what is converted."""
    colours = image[:channels] if image.bands > channels else image
    shown = convert(colours if original else from_depth(colours))
    return shown if image.bands == channels else shown.bandjoin(from_depth(image[channels]))


def _imported(image: Image) -> Image:
    """RGB or CMYK through the profile inside it (CMYK: else through libvips' own) as sRGB, unclipped."""
    if image.format == "float":
        image = (image * 65535).rint().cast("ushort")
    fallback = {"input_profile": "cmyk"} if image.bands == 4 else {}
    lab = image.icc_import(embedded=True, pcs="lab", intent="relative", **fallback)
    return lab_to_srgb(lab)


@lru_cache(maxsize=64)
def classify_profile(profile: bytes, channels: int) -> str:
    """What an ICC profile needs: "" (nothing), "linear", "profile" (its luma is not ours), or "damaged".

    Luma is ours where green is brightest and blue darkest, as in every space of the sRGB kind: only then do
    networks of luma see brightness.
    """
    if profile[36:40] != b"acsp":  # libvips would take sRGB in its place without a word
        return "damaged"
    patches = np.ascontiguousarray(PATCHES[:, :channels])
    image = pyvips.Image.new_from_memory(patches.data, len(patches), 1, channels, "uchar")
    image = image.copy(interpretation="srgb" if channels == 3 else "b-w")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        xyz = image.icc_import(embedded=True, pcs="xyz", intent="relative").numpy()[0]
    except pyvips.Error:
        return "damaged"
    black, white, red, green, blue, grey = xyz[:, 1]
    if not white > black:
        return "profile" if channels == 3 else ""
    if channels == 3 and not (green > red > blue or green > red >= blue):
        return "profile"
    return "linear" if (grey - black) / (white - black) > LINEAR else ""
