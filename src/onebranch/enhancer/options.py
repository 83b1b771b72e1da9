"""What may be asked of an enhancement, and which models that takes."""

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TypedDict

from onebranch.enhancer.tiles import check_tile
from onebranch.errors import OnebranchError, nearest
from onebranch.images.resize import Kernel
from onebranch.model.catalogue import CATALOGUE, DEFAULT, HALVING, enlarging
from onebranch.model.file import Model
from onebranch.runtime.selection import check_precision, check_threads, known

LARGEST_SCALE = 16
"""The largest factor that may be asked for; chains of networks invent too much beyond it."""


class OptionValues(TypedDict, total=False):
    """The options but for the model, as keyword arguments; see `Options`."""

    scale: float | None
    width: int | None
    height: int | None
    runtime: str
    precision: str
    threads: int | None
    tile: int
    chroma: Kernel
    memory: int | None
    wrap: bool
    self_ensemble: bool


@dataclass(frozen=True, kw_only=True)
class Options:
    """How pictures are enhanced. Raises OnebranchError at construction where the options contradict.

    model: a shipped model's name, a file (anybody's ONNX file too) or a `Model`; None chooses by the scale.
    scale: of both sides. width, height: in pixels; one of them keeps the proportions. runtime: "auto",
    "engine", "onnxruntime", "openvino", "torch". precision: "fp32", "bf16", "int8". threads: None takes all.
    tile: edge in pixels, where the runtime takes tiles; 0 chooses it. chroma: how Y models resize chroma.
    memory: bytes that an enhancement may take, about; None: half of what is free for a network that needs the
    whole picture, 512 MB for others. wrap: the picture is a seamless texture, its borders continue on the
    other side. self_ensemble: the mean over the eight flips and turns, at eight times the work.
    """

    model: str | os.PathLike[str] | Model | None = None
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    runtime: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    tile: int = 0
    chroma: Kernel = "bicubic"
    memory: int | None = None
    wrap: bool = False
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        check_tile(self.tile)
        known(self.runtime)
        check_precision(self.precision)
        check_threads(self.threads)
        if self.memory is not None and self.memory < 1:
            raise OnebranchError(f"memory must be at least 1 byte, not {self.memory}")
        if self.chroma not in ("bicubic", "bilinear"):
            hint = nearest(self.chroma, ["bicubic", "bilinear"])
            raise OnebranchError(f"unknown interpolation of chroma '{self.chroma}'; {hint}")
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise OnebranchError("scale and width or height contradict; give one or the other")
        if self.scale is not None and not 0 < self.scale <= LARGEST_SCALE:
            raise OnebranchError(f"scale must be above 0 and at most {LARGEST_SCALE}, not {self.scale:g}")
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None and pixels < 1:
                raise OnebranchError(f"{name} must be at least 1 pixel, not {pixels}")


Size = tuple[int, int]
"""(height, width) in pixels."""


def size_asked_for(options: Options, picture: Size, natural: Size, scale: Fraction) -> Size:
    """The size of the result: `natural`, which the networks give at their scale, unless another is asked for.

    >>> size_asked_for(Options(scale=1.5), (5, 10), (10, 20), Fraction(2))
    (8, 15)
    >>> size_asked_for(Options(width=30), (5, 10), (10, 20), Fraction(2))
    (15, 30)
    """
    height, width = picture
    if options.scale is not None and options.scale != scale:
        return _rounded(height * options.scale), _rounded(width * options.scale)
    if options.width is not None and options.height is not None:
        return options.height, options.width
    if options.width is not None:
        return _rounded(height * options.width / width), options.width
    if options.height is not None:
        return options.height, _rounded(width * options.height / height)
    return natural


def _rounded(pixels: float) -> int:
    return max(1, int(pixels + 0.5))


def factor_asked_for(options: Options, picture: Size) -> float:
    """How much larger the result is to be than the picture, along the axis that grows most; 1 if unsaid."""
    height, width = size_asked_for(options, picture, picture, Fraction(1))
    return max(height / picture[0], width / picture[1])


def chain_for(wanted: float) -> list[str]:
    """Names of the shipped models that together enlarge by at least `wanted`: at least one.

    One model where one is enough, and then the one that enlarges least; else the largest and more after it.
    For a half or less the model that halves.
    """
    if wanted <= 0.5 and CATALOGUE[HALVING].path.exists():
        return [HALVING]
    available = {scale: entry.name for scale in (2, 3, 4) if (entry := enlarging(scale))}
    if not available:
        return [DEFAULT]
    fitting = next((scale for scale in available if scale >= wanted), None)
    if fitting is not None:
        return [available[fitting]]
    largest = max(available)
    return [available[largest], *chain_for(wanted / largest)]
