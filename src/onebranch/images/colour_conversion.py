"""Conversion from the colours of a file to colours that a network can process, and back.

All functions build libvips pipelines. In the formulas, white is 1.
"""

from __future__ import annotations  # libvips is imported only where it is used

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebranch.images.samples import DEPTHS_BY_VIPS_FORMAT, VIPS_FORMATS, WHITE_LEVELS

if TYPE_CHECKING:
    from onebranch.images.libvips import VipsImage

Matrix = tuple[tuple[float, ...], ...]
"""A 3x3 matrix, as a tuple of rows."""


@dataclass(frozen=True)
class ColourConversion:
    """The colour conversion that was made while reading; `ColourConversion()` if none was made.

    description: for people. depth: type of the file's samples, which writing restores. kind: "" (nothing was
    converted), "linear" (linear light), "profile" (RGB, through its ICC profile), "CMYK" or "Lab". profile:
    the file's ICC profile if writing converts back through it.

    A converted picture is float32, with sRGB's transfer function, and is not clipped. Except for "linear",
    its primaries are those of sRGB, too, and its metadata has no profile.
    """

    description: str = ""
    depth: str = ""
    kind: str = ""
    profile: bytes | None = None

    def __bool__(self) -> bool:
        """True if colours were converted."""
        return bool(self.kind)

    def restore(self, image: VipsImage, depth: str) -> VipsImage:
        """The libvips image converted back to the colours of the file that was read, in `depth`.

        image: the samples of a converted `Picture`: float, with 1 or 3 bands and an optional alpha band. The
        result has its libvips interpretation and the ICC profile that it needs. Conversion through a profile
        gives at most 16 bits.
        """
        return _with_alpha(image, _RESTORE[self.kind](_colours(image), depth, self.profile))


def encode_srgb(image: VipsImage, depth: str) -> VipsImage:
    """The libvips image of a converted picture as sRGB in that depth, for formats without its colours."""
    return _with_alpha(image, _encoded(_colours(image), depth))


def colour_bands(image: VipsImage) -> int:
    """Number of colour bands of a libvips image, 1 or 3; a further band is alpha."""
    return 1 if image.bands < 3 else 3


def _colours(image: VipsImage) -> VipsImage:
    channels = colour_bands(image)
    return image[:channels] if image.bands != channels else image


def _with_alpha(image: VipsImage, colours: VipsImage) -> VipsImage:
    """The converted colours with the alpha band of the image before the conversion, if it has one."""
    channels = colour_bands(image)
    if image.bands == channels:
        return colours
    alpha = image[channels]
    if colours.format == "short":  # 16-bit Lab, whose alpha libvips stores in the same type
        alpha = (alpha * 32767).rint().cast("short")
    else:
        alpha = float_to_depth(alpha, DEPTHS_BY_VIPS_FORMAT.get(colours.format, "float32"))
    return colours.bandjoin(alpha).copy(interpretation=colours.interpretation)


def linear_to_srgb(image: VipsImage) -> VipsImage:
    """Linear light with sRGB's transfer function (IEC 61966-2-1). f(-x) = -f(x); nothing is clipped."""
    magnitude = image.abs()
    curve = (magnitude ** (1 / 2.4)) * 1.055 - 0.055
    return ((magnitude <= 0.0031308).ifthenelse(magnitude * 12.92, curve) * image.sign()).cast("float")


def srgb_to_linear(image: VipsImage) -> VipsImage:
    """The inverse of `linear_to_srgb`."""
    magnitude = image.abs()
    curve = ((magnitude + 0.055) / 1.055) ** 2.4
    return ((magnitude <= 0.04045).ifthenelse(magnitude / 12.92, curve) * image.sign()).cast("float")


SRGB_TO_XYZ_D50 = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
"""X, Y and Z of sRGB's primaries, adapted to D50, the white of ICC profiles (Bradford; ICC.1, annex E)."""

LAB_KNEE = 6 / 29
"""Below this value of the cube root, CIE Lab is linear in X, Y and Z (CIE 15, 8.2.1)."""

LAB_TO_CURVES = ((1 / 116, 1 / 500, 0.0), (1 / 116, 0.0, 0.0), (1 / 116, 0.0, -1 / 200))
"""The matrix from L, a, b to f(X), f(Y), f(Z) less 16 / 116, where f is the curve of CIE Lab."""

CURVES_TO_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
"""The matrix from f(X), f(Y), f(Z) to L + 16, a, b."""


def lab_to_srgb(image: VipsImage) -> VipsImage:
    """CIE Lab (D50, L from 0 to 100) as sRGB, not clipped. L = 100, a = b = 0 becomes white."""
    value = _recombined(image, LAB_TO_CURVES) + 16 / 116
    line = (value - 4 / 29) * (3 * LAB_KNEE**2)
    relative = (value > LAB_KNEE).ifthenelse(value * value * value, line)
    return linear_to_srgb(_recombined(relative, _inverse(_SRGB_TO_RELATIVE_XYZ)))


def srgb_to_lab(image: VipsImage) -> VipsImage:
    """The inverse of `lab_to_srgb`; accepts grey images, too."""
    colour = image if image.bands == 3 else image.bandjoin([image, image])
    relative = _recombined(srgb_to_linear(colour), _SRGB_TO_RELATIVE_XYZ)
    line = relative / (3 * LAB_KNEE**2) + 4 / 29
    value = (relative > LAB_KNEE**3).ifthenelse(relative.abs() ** (1 / 3), line)
    return (_recombined(value, CURVES_TO_LAB) - [16, 0, 0]).cast("float").copy(interpretation="lab")


def _recombined(image: VipsImage, matrix: Matrix) -> VipsImage:
    """Every pixel multiplied by the matrix."""
    return image.copy(interpretation="multiband").recomb([list(row) for row in matrix])


def _inverse(matrix: Matrix) -> Matrix:
    """The inverse of a 3x3 matrix, by cofactors."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    adjugate = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return tuple(tuple(value / determinant for value in row) for row in adjugate)


_SRGB_TO_RELATIVE_XYZ: Matrix = tuple(tuple(value / sum(row) for value in row) for row in SRGB_TO_XYZ_D50)
"""The matrix from linear sRGB to X, Y and Z relative to white, for which all three are 1."""


def float_to_depth(image: VipsImage, depth: str) -> VipsImage:
    """Float samples (white is 1), scaled, rounded and clipped to a depth."""
    if depth == "float32":
        return image.cast("float")
    return (image * float(WHITE_LEVELS[depth])).rint().cast(VIPS_FORMATS[depth])


def to_float(image: VipsImage) -> VipsImage:
    """Samples of 8 bits, 16 bits or float as float samples whose white is 1."""
    white = float(WHITE_LEVELS[DEPTHS_BY_VIPS_FORMAT.get(image.format, "float32")])
    return image.cast("float") if white == 1 else (image / white).cast("float")


def _encoded(image: VipsImage, depth: str, _: bytes | None = None) -> VipsImage:
    grey, colour = ("b-w", "srgb") if depth != "uint16" else ("grey16", "rgb16")
    return float_to_depth(image, depth).copy(interpretation=colour if image.bands > 1 else grey)


def _linear(image: VipsImage, depth: str, _: bytes | None) -> VipsImage:
    return _encoded(srgb_to_linear(image), depth)


def _through_profile(image: VipsImage, depth: str, profile: bytes | None) -> VipsImage:
    return _encoded(to_float(_exported(image, profile, "")), depth)


def _cmyk(image: VipsImage, depth: str, profile: bytes | None) -> VipsImage:
    """The image as CMYK, with the profile attached if there is one.

    Without a profile, libvips' own CMYK profile is used but not attached: it is larger than many pictures.
    """
    from onebranch.images.libvips import BLOCKS

    exported = _exported(image, profile, "cmyk")
    result = float_to_depth(to_float(exported), depth).copy(interpretation="cmyk")
    if profile is None:
        result.remove(BLOCKS["icc"])
    return result


def _exported(image: VipsImage, profile: bytes | None, fallback: str) -> VipsImage:
    """sRGB converted to 16 bits through a profile, which is attached.

    fallback: name of libvips' own profile that is used if `profile` is None.
    """
    from onebranch.images.libvips import BLOCKS, pyvips

    lab = srgb_to_lab(image).copy()
    if profile is None:
        return lab.icc_export(output_profile=fallback, depth=16, intent="relative")
    lab.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], profile)
    return lab.icc_export(depth=16, intent="relative")


def _lab(image: VipsImage, depth: str, _: bytes | None) -> VipsImage:
    lab = srgb_to_lab(image)
    if depth == "float32":
        return lab
    return lab.colourspace("labq") if depth == "uint8" else lab.colourspace("labs")


_RESTORE: dict[str, Callable[[VipsImage, str, bytes | None], VipsImage]] = {
    "linear": _linear,
    "profile": _through_profile,
    "CMYK": _cmyk,
    "Lab": _lab,
}
