"""How a picture's samples came from those of its file, and the way back.

Samples are values of libvips' pipelines here; between pictures only words and bytes are kept.
"""

from dataclasses import dataclass
from typing import Any

Image = Any
"""A pyvips image: not typed."""

Matrix = tuple[tuple[float, ...], ...]
"""Three rows of three."""

WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
SAMPLES = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}

WITH_PROFILES = ("PNG", "JPEG", "WebP", "TIFF", "AVIF")
HOLDERS = {
    "Lab": ("TIFF",),
    "CMYK": ("TIFF", "JPEG"),
    "linear": WITH_PROFILES,
    "profile": WITH_PROFILES,
}
"""The formats that hold the colours of each kind of route; any other gets sRGB."""


@dataclass(frozen=True)
class Route:
    """The conversion that reading made. `Route()`: none, the samples are the file's own.

    name: in words, for people. depth: of the file's samples, to which writing returns. kind: "" (nothing was
    converted), "linear" (linear light), "profile" (RGB through its profile), "CMYK" or "Lab". profile: the
    file's ICC profile where the way back leads through it. A routed picture is float32, its samples have
    sRGB's transfer, unclipped; all but the linear ones are sRGB and have no profile in their metadata.
    """

    name: str = ""
    depth: str = ""
    kind: str = ""
    profile: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.kind)

    def back(self, image: Image, depth: str, form: str) -> Image:
        """The libvips image to be saved: the file's own colours in that depth, where the format holds them.

        image: float, 1 or 3 bands and perhaps alpha, as a routed `Picture` has them. depth: of the file that
        is written. form: the format's name. The image that comes back says its interpretation and carries
        the profile it needs, so that saving must not set one beside it. CMYK and Lab become sRGB in formats
        without them; profiles are left in 16 bits at most.
        """
        channels = 1 if image.bands < 3 else 3
        colours = image[:channels] if image.bands != channels else image
        kind = self.kind if form in HOLDERS.get(self.kind, ()) else ""
        shown = _WAYS_BACK[kind](colours, depth, self.profile)
        if image.bands == channels:
            return shown
        return shown.bandjoin(_alpha_for(image[channels], shown)).copy(interpretation=shown.interpretation)


def linear_to_srgb(image: Image) -> Image:
    """Linear light with sRGB's transfer (IEC 61966-2-1), sign-preserving, unclipped; white is 1."""
    size = image.abs()
    curve = (size ** (1 / 2.4)) * 1.055 - 0.055
    return ((size <= 0.0031308).ifthenelse(size * 12.92, curve) * image.sign()).cast("float")


def srgb_to_linear(image: Image) -> Image:
    """The inverse of `linear_to_srgb`."""
    size = image.abs()
    curve = ((size + 0.055) / 1.055) ** 2.4
    return ((size <= 0.04045).ifthenelse(size / 12.92, curve) * image.sign()).cast("float")


PRIMARIES = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
"""X, Y and Z of sRGB's red, green and blue, adapted to the profiles' D50 white (Bradford; ICC.1, annex E)."""

KNEE = 6 / 29
"""Where CIE Lab's cube root gives way to a line, which goes on below black (CIE 15, 8.2.1)."""

TO_CURVES = ((1 / 116, 1 / 500, 0.0), (1 / 116, 0.0, 0.0), (1 / 116, 0.0, -1 / 200))
"""L, a and b to the curves' values of X, Y and Z, but for 16 / 116."""

FROM_CURVES = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
"""The way back, but for the 16 that L loses."""


def lab_to_srgb(image: Image) -> Image:
    """CIE Lab (L 0 to 100) as sRGB, white 1, unclipped: the profiles' D50 white is white."""
    value = _recombined(image, TO_CURVES) + 16 / 116
    line = (value - 4 / 29) * (3 * KNEE**2)
    relative = (value > KNEE).ifthenelse(value * value * value, line)
    return linear_to_srgb(_recombined(relative, _inverse(_WHITE_IS_ONE)))


def srgb_to_lab(image: Image) -> Image:
    """The inverse of `lab_to_srgb`, for grey too."""
    colour = image if image.bands == 3 else image.bandjoin([image, image])
    relative = _recombined(srgb_to_linear(colour), _WHITE_IS_ONE)
    value = (relative > KNEE**3).ifthenelse(relative.abs() ** (1 / 3), relative / (3 * KNEE**2) + 4 / 29)
    return (_recombined(value, FROM_CURVES) - [16, 0, 0]).cast("float").copy(interpretation="lab")


def _recombined(image: Image, matrix: Matrix) -> Image:
    """Each pixel times a matrix."""
    return image.copy(interpretation="multiband").recomb([list(row) for row in matrix])


def _inverse(matrix: Matrix) -> Matrix:
    """By cofactors."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    size = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    rows = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return tuple(tuple(value / size for value in row) for row in rows)


_WHITE_IS_ONE: Matrix = tuple(tuple(value / sum(row) for value in row) for row in PRIMARIES)


def at_depth(image: Image, depth: str) -> Image:
    """Float samples, white 1, rounded and clipped to a depth."""
    if depth == "float32":
        return image.cast("float")
    return (image * WHITE[depth]).rint().cast(SAMPLES[depth])


def from_depth(image: Image) -> Image:
    """Samples of 8 or 16 bits or float as float with white 1."""
    white = {"uchar": 255.0, "ushort": 65535.0}.get(image.format)
    return image.cast("float") if white is None else (image / white).cast("float")


def _encoded(image: Image, depth: str, _: bytes | None) -> Image:
    space = ("b-w", "srgb") if depth != "uint16" else ("grey16", "rgb16")
    return at_depth(image, depth).copy(interpretation=space[image.bands > 1])


def _linear(image: Image, depth: str, _: bytes | None) -> Image:
    return _encoded(srgb_to_linear(image), depth, None)


def _through_profile(image: Image, depth: str, profile: bytes | None) -> Image:
    return _encoded(from_depth(_exported(image, profile, "")), depth, None)


def _cmyk(image: Image, depth: str, profile: bytes | None) -> Image:
    exported = _exported(image, profile, "cmyk")
    return at_depth(from_depth(exported), depth).copy(interpretation="cmyk")


def _exported(image: Image, profile: bytes | None, fallback: str) -> Image:
    """sRGB through a profile, in 16 bits; the profile comes along."""
    from onebranch.images.libvips import pyvips

    lab = srgb_to_lab(image).copy()
    if profile is None:
        return lab.icc_export(output_profile=fallback, depth=16, intent="relative")
    lab.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return lab.icc_export(depth=16, intent="relative")


def _lab(image: Image, depth: str, _: bytes | None) -> Image:
    lab = srgb_to_lab(image)
    if depth == "float32":
        return lab
    return lab.colourspace("labq") if depth == "uint8" else lab.colourspace("labs")


def _alpha_for(alpha: Image, shown: Image) -> Image:
    if shown.format == "short":  # 16-bit Lab: libvips keeps its alpha in that type too
        return (alpha * 32767).rint().cast("short")
    depth = {"uchar": "uint8", "ushort": "uint16"}.get(shown.format, "float32")
    return at_depth(alpha, depth)


_WAYS_BACK = {"": _encoded, "linear": _linear, "profile": _through_profile, "CMYK": _cmyk, "Lab": _lab}
