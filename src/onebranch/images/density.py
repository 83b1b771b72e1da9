"""Pixel density and pixel aspect ratio: how each format stores them, and which formats can."""

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

from onebranch.images.containers import jpeg, tiff
from onebranch.images.containers.exif import PREFIX
from onebranch.images.containers.gif import GifStructure
from onebranch.images.containers.headers import HeaderStructure
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.png import PngStructure
from onebranch.images.containers.tiff import TiffStructure

INCH_IN_MILLIMETRES = 25.4
CENTIMETRE_IN_MILLIMETRES = 10
METRE_IN_MILLIMETRES = 1000

MAX_JFIF_DENSITY = 65_535
"""Largest density number in a JFIF header, where it has 16 bits."""

MAX_PHYS_DENSITY = 2**31 - 1
"""Largest density number in the pHYs chunk of a PNG."""

RELATIVE_PRECISION = 1000
"""Largest denominator of the fraction that approximates a ratio of densities that are not integers."""

DENSITY_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Formats that store pixels per unit of length; WebP and AVIF store it only in EXIF."""

ASPECT_FORMATS = ("PNG", "JPEG", "TIFF", "GIF")
"""Formats that can store a pixel aspect ratio without a density."""

EXIF_FORMATS = ("WebP", "AVIF")


@dataclass(frozen=True)
class Density:
    """Pixels per unit of length, horizontally and vertically.

    is_absolute: True if the unit is the millimetre. If False, there is no unit, and the numbers state only
    the pixel aspect ratio: the width and height of a pixel are in the ratio y : x. Example: the density
    (4, 3) without a unit means that pixels are 3 wide and 4 high.
    """

    x: float
    y: float
    is_absolute: bool = True

    @property
    def is_informative(self) -> bool:
        """False for equal numbers without a unit, which state only that pixels are square (the default)."""
        return self.is_absolute or self.x != self.y

    def transposed(self) -> "Density":
        """The density of the picture after a rotation by 90 degrees."""
        return Density(self.y, self.x, self.is_absolute)

    def __str__(self) -> str:
        if self.is_absolute:
            x, y = (round(each * INCH_IN_MILLIMETRES, 1) for each in (self.x, self.y))
            return f"density of {x:g}x{y:g} dpi"
        x, y = self.whole_ratio()
        return f"pixel aspect ratio of {y}:{x}"

    def whole_ratio(self, largest: int = MAX_JFIF_DENSITY) -> tuple[int, int]:
        """Integers in the ratio x : y: x and y themselves if they are integers and at most `largest`.

        >>> Density(4.0, 3.0, is_absolute=False).whole_ratio()
        (4, 3)
        """
        if self.x == int(self.x) and self.y == int(self.y) and max(self.x, self.y) <= largest:
            return int(self.x), int(self.y)
        ratio = Fraction(self.x / self.y).limit_denominator(RELATIVE_PRECISION)
        return max(1, ratio.numerator), max(1, ratio.denominator)


DEFAULT_DENSITY = Density(72 / INCH_IN_MILLIMETRES, 72 / INCH_IN_MILLIMETRES)
"""The density (72 dpi) that is written if a file states none, because libvips always writes one."""


def read_density(structure: object, exif: bytes | None) -> Density | None:
    """The density from a file's container or, if it states none, from EXIF; for JPEG, EXIF comes first."""
    from_exif = _of_exif(exif)
    if isinstance(structure, JpegStructure) and from_exif is not None and from_exif.is_absolute:
        return from_exif
    return _of_container(structure) or from_exif


def _of_container(structure: object) -> Density | None:
    match structure:
        case PngStructure(density=(x, y, is_metre)):
            return _per(METRE_IN_MILLIMETRES if is_metre else None, x, y)
        case JpegStructure(density=(x, y, unit)):
            return _of_jfif(x, y, unit)
        case TiffStructure(density=(x, y, unit)):
            return _of_tiff(x, y, unit)
        case HeaderStructure(pixels_per_metre=(x, y)) if x and y:
            return _per(METRE_IN_MILLIMETRES, x, y)
        case GifStructure(pixel_aspect=aspect) if aspect:
            return Density(1, aspect, is_absolute=False)
        case _:
            return None


def _per(millimetres: float | None, x: float, y: float) -> Density:
    """The density of x and y pixels per length of `millimetres`; without a unit if that is None."""
    if millimetres is None:
        return Density(float(x), float(y), is_absolute=False)
    return Density(x / millimetres, y / millimetres)


def _of_jfif(x: int, y: int, unit: int) -> Density | None:
    units = {jpeg.PER_INCH: INCH_IN_MILLIMETRES, jpeg.PER_CENTIMETRE: CENTIMETRE_IN_MILLIMETRES}
    density = _per(units.get(unit), x, y)
    return density if density.is_informative or (x, y) != (1, 1) else None


def _of_tiff(x: float, y: float, unit: int) -> Density | None:
    units = {2: INCH_IN_MILLIMETRES, 3: CENTIMETRE_IN_MILLIMETRES, 1: None}
    return _per(units[unit], x, y) if unit in units else None


def _of_exif(exif: bytes | None) -> Density | None:
    if exif is None:
        return None
    structure = tiff.read_structure(BytesIO(exif.removeprefix(PREFIX)))
    return None if structure.density is None else _of_tiff(*structure.density)


def lost_density(density: Density | None, name: str, exif: bytes | None) -> str:
    """A note if a file of the format `name` loses the density, else "". exif: the block to be written."""
    if density is None or not density.is_informative or density == DEFAULT_DENSITY:
        return ""
    if name in (DENSITY_FORMATS if density.is_absolute else ASPECT_FORMATS):
        return ""
    if name in EXIF_FORMATS and _of_exif(exif) is not None:
        return ""
    return f"its {density} is left out: {name} cannot hold it"


def jfif_density(density: Density) -> tuple[int, int, int]:
    """(x, y, unit) for a JFIF header: per inch or per centimetre, whichever is closer to integers.

    >>> jfif_density(Density(11.8, 11.8)), jfif_density(DEFAULT_DENSITY)
    ((118, 118, 2), (72, 72, 1))
    """
    if not density.is_absolute:
        return (*density.whole_ratio(), jpeg.ASPECT_RATIO_ONLY)
    units = ((jpeg.PER_INCH, INCH_IN_MILLIMETRES), (jpeg.PER_CENTIMETRE, CENTIMETRE_IN_MILLIMETRES))
    errors = {}
    for unit, millimetres in units:
        exact = density.x * millimetres, density.y * millimetres
        x, y = (max(1, min(MAX_JFIF_DENSITY, round(each))) for each in exact)
        errors[x, y, unit] = abs(x / exact[0] - 1) + abs(y / exact[1] - 1)
    return min(errors, key=lambda each: (round(errors[each], 6), each[2]))


def phys_density(density: Density) -> tuple[int, int, bool]:
    """(x, y, is_metre) for the pHYs chunk of a PNG."""
    if not density.is_absolute:
        return (*density.whole_ratio(MAX_PHYS_DENSITY), False)
    x, y = (
        max(1, min(MAX_PHYS_DENSITY, round(each * METRE_IN_MILLIMETRES))) for each in (density.x, density.y)
    )
    return x, y, True


def gif_aspect(density: Density) -> int:
    """The byte n (1 to 255) of GIF's pixel aspect ratio (n + 15) / 64 that is closest to the density's.

    >>> gif_aspect(Density(4, 3, is_absolute=False))
    33
    """
    return max(1, min(255, round(64 * density.y / density.x) - 15))
