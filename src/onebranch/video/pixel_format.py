"""Pixel formats of video: colour model, depth, chroma subsampling and alpha, read from FFmpeg's names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ColourModel = Literal["yuv", "rgb", "grey"]

CHROMA_FACTORS = {"444": (1, 1), "422": (1, 2), "420": (2, 2), "440": (2, 1), "411": (1, 4), "410": (4, 4)}
"""Luma samples for each chroma sample, along the height and the width, by FFmpeg's number."""

_YUV = re.compile(r"yuv(j|a)?(\d{3})p(\d+)?(?:le)?")
_GREY = re.compile(r"gray(\d+)?(?:le)?")
_RGB = re.compile(r"gbr(a)?p(\d+)?(?:le)?")

REPACKED = {
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422", "yvyu422"), "yuv422p"),
    "nv24": "yuv444p",
    "nv42": "yuv444p",
    "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "y210le": "yuv422p10le",
    "p016le": "yuv420p16le",
    **dict.fromkeys(("rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"), "gbrp"),
    **dict.fromkeys(("rgba", "bgra", "argb", "abgr", "pal8", "ya8"), "gbrap"),
    "rgb48le": "gbrp16le",
    "rgb48be": "gbrp16le",
    "rgba64le": "gbrap16le",
    "rgba64be": "gbrap16le",
    "x2rgb10le": "gbrp10le",
    "x2bgr10le": "gbrp10le",
    "rgb565le": "gbrp",
    "rgb555le": "gbrp",
    "monow": "gray",
    "monob": "gray",
    "ya16le": "gbrap16le",
    "xyz12le": "gbrp12le",
}
"""FFmpeg's packed formats, each with the planar format that holds the same samples."""


@dataclass(frozen=True)
class PixelFormat:
    """A planar pixel format.

    depth: bits of a sample, 8 to 16. chroma: luma samples for each chroma sample, along (height, width);
    (1, 1) for RGB and grey.
    """

    model: ColourModel
    depth: int
    chroma: tuple[int, int] = (1, 1)
    alpha: bool = False

    @property
    def name(self) -> str:
        """FFmpeg's name.

        >>> PixelFormat("yuv", 10, (2, 2)).name, PixelFormat("rgb", 8, alpha=True).name
        ('yuv420p10le', 'gbrap')
        """
        bits = "" if self.depth == 8 else f"{self.depth}le"
        if self.model == "grey":
            return f"gray{bits}"
        if self.model == "rgb":
            return f"gbr{'a' if self.alpha else ''}p{bits}"
        number = next(number for number, factors in CHROMA_FACTORS.items() if factors == self.chroma)
        return f"yuv{'a' if self.alpha else ''}{number}p{bits}"

    @property
    def words(self) -> str:
        """The format in words for messages.

        >>> PixelFormat("yuv", 10, (2, 2)).words
        '10-bit 4:2:0'
        """
        alpha = " with alpha" if self.alpha else ""
        if self.model != "yuv":
            return f"{self.depth}-bit {'RGB' if self.model == 'rgb' else 'grey'}{alpha}"
        number = next(number for number, factors in CHROMA_FACTORS.items() if factors == self.chroma)
        return f"{self.depth}-bit {':'.join(number)}{alpha}"

    @property
    def plane_count(self) -> int:
        """The number of planes, alpha included."""
        return (1 if self.model == "grey" else 3) + self.alpha

    @property
    def dtype(self) -> str:
        """numpy's type of a sample."""
        return "uint8" if self.depth == 8 else "uint16"

    def plane_size(self, index: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a plane of a frame of that size.

        >>> PixelFormat("yuv", 8, (2, 2)).plane_size(1, 73, 129)
        (37, 65)
        """
        if self.model != "yuv" or index not in (1, 2):
            return height, width
        return -(-height // self.chroma[0]), -(-width // self.chroma[1])


def pixel_format(name: str) -> tuple[PixelFormat, bool]:
    """(planar format with the samples of FFmpeg's format `name`, whether the name says full range).

    Big-endian and packed formats are repacked without loss. A format that is not known is held as 8-bit
    4:4:4.

    >>> pixel_format("yuvj420p")
    (PixelFormat(model='yuv', depth=8, chroma=(2, 2), alpha=False), True)
    """
    name = REPACKED.get(name, name)
    if name.endswith("be"):
        name = f"{name[:-2]}le"
    if match := _YUV.fullmatch(name):
        kind, number, bits = match.groups()
        if number in CHROMA_FACTORS:
            return PixelFormat("yuv", int(bits or 8), CHROMA_FACTORS[number], kind == "a"), kind == "j"
    if match := _GREY.fullmatch(name):
        return PixelFormat("grey", int(match[1] or 8)), False
    if match := _RGB.fullmatch(name):
        return PixelFormat("rgb", int(match[2] or 8), alpha=bool(match[1])), False
    return PixelFormat("yuv", 8), False


def nearest_format(wanted: PixelFormat, available: Iterable[PixelFormat]) -> PixelFormat | None:
    """The smallest available format that holds all samples of `wanted`; None if there is none.

    Depth, chroma resolution and alpha may grow, and grey may become YUV; nothing may shrink.

    >>> formats = [PixelFormat("yuv", 8, (2, 2)), PixelFormat("yuv", 10, (1, 2)), PixelFormat("yuv", 10)]
    >>> nearest_format(PixelFormat("yuv", 8, (1, 2)), formats)
    PixelFormat(model='yuv', depth=10, chroma=(1, 2), alpha=False)
    """
    fitting = [each for each in available if _holds(each, wanted)]
    return min(fitting, key=lambda each: _bits(each, wanted), default=None)


def _holds(held: PixelFormat, wanted: PixelFormat) -> bool:
    if held.depth < wanted.depth or held.alpha < wanted.alpha:
        return False
    if wanted.model == "grey":
        return held.model in ("grey", "yuv")
    finer = all(a <= b and b % a == 0 for a, b in zip(held.chroma, wanted.chroma, strict=True))
    return held.model == wanted.model and finer


def _bits(held: PixelFormat, wanted: PixelFormat) -> tuple[bool, float]:
    """The colour model that differs last, then bits for a pixel."""
    chroma = 0.0 if held.model == "grey" else 2 / (held.chroma[0] * held.chroma[1])
    return held.model != wanted.model, held.depth * (1 + chroma + held.alpha)
