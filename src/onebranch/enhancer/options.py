"""The options of an enhancement, and the selection of models by scale."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypedDict

from onebranch.enhancer.tiles import check_tile
from onebranch.errors import OnebranchError, nearest
from onebranch.images.resize import Kernel
from onebranch.model.catalogue import (
    CATALOGUE,
    DEFAULT_MODEL,
    DOWNSCALING_MODEL,
    upscaling_model,
)
from onebranch.model.file import Model
from onebranch.model.third_party import is_third_party_file
from onebranch.runtime.gpu import CPU, check_device
from onebranch.runtime.selection import check_precision, check_threads, known

MAX_SCALE = 16
"""The largest scale factor. Beyond it, chains of networks would mostly invent detail."""


class OptionValues(TypedDict, total=False):
    """The options except the model, as keyword arguments; see `Options`."""

    scale: float | None
    width: int | None
    height: int | None
    runtime: str
    precision: str
    device: str
    threads: int | None
    tile: int
    chroma: Kernel
    memory: int | None
    wrap: bool
    self_ensemble: bool
    strength: float
    input_size: Sequence[int] | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How pictures are enhanced. Raises OnebranchError at construction for invalid or contradictory options.

    model: a shipped model's name, a model file, any ONNX file, PyTorch weights, or a `Model`; None: chosen
    by the scale. scale: factor of both sides, above 0 and at most 16. width, height: of the result in pixels;
    one of them keeps the proportions. runtime: "auto", "engine", "onnxruntime", "openvino" or "torch".
    precision: "fp32", "bf16", "int8" or "fast": the quickest here whose loss the model file records. device:
    "cpu", "gpu", "gpu:N", or "auto": the faster one, by measuring. threads: per picture; None: all cores.
    tile: edge of tiles in pixels, for runtimes that use tiles; 0: selected by the memory. chroma: how models
    of luma resize chroma, "bicubic" or "bilinear". memory: memory limit in bytes; None: half of the free
    memory for a network that needs the whole picture, 512 MB for others. wrap: the picture is a seamless
    texture that continues on the opposite side. self_ensemble: take the mean over the eight flips and
    rotations, at eight times the work. strength: the share of the network's result, from 0 to 1; the rest is
    the picture, interpolated as chroma is. input_size: (height, width) on which an ONNX file runs that leaves
    its size open but does not run on others.

    >>> Options(scale=1.5).scale
    1.5
    """

    model: str | os.PathLike[str] | Model | None = None
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    runtime: str = "auto"
    precision: str = "auto"
    device: str = CPU
    threads: int | None = None
    tile: int = 0
    chroma: Kernel = "bicubic"
    memory: int | None = None
    wrap: bool = False
    self_ensemble: bool = False
    strength: float = 1.0
    input_size: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        check_tile(self.tile)
        known(self.runtime)
        check_precision(self.precision)
        check_device(self.device)
        check_threads(self.threads)
        self._check_chroma()
        self._check_size()
        self._check_input_size()
        if not 0 <= self.strength <= 1:  # refuses NaN, too
            raise OnebranchError(f"strength must be from 0 to 1, not {self.strength:g}")
        if self.memory is not None and self.memory < 1:
            raise OnebranchError(f"memory must be at least 1 byte, not {self.memory}")

    def _check_chroma(self) -> None:
        if self.chroma not in ("bicubic", "bilinear"):
            hint = nearest(self.chroma, ["bicubic", "bilinear"])
            raise OnebranchError(f"unknown interpolation of chroma '{self.chroma}'; {hint}")

    def _check_input_size(self) -> None:
        if self.input_size is None:
            return
        if self.model is None or isinstance(self.model, Model) or not is_third_party_file(self.model):
            raise OnebranchError(
                "an input size is for ONNX files (--model FILE.onnx) and PyTorch weights; onebranch's models"
                " run on every size"
            )
        from onebranch.graph.analysis.valid_sizes import as_input_size  # imported late: only for these files

        as_input_size(tuple(self.input_size))

    def _check_size(self) -> None:
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise OnebranchError("scale and width or height contradict each other; give one or the other")
        if self.scale is not None and not 0 < self.scale <= MAX_SCALE:
            raise OnebranchError(f"scale must be above 0 and at most {MAX_SCALE}, not {self.scale:g}")
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None and pixels < 1:
                raise OnebranchError(f"{name} must be at least 1 pixel, not {pixels}")


Size = tuple[int, int]
"""(height, width) in pixels."""


def requested_size(options: Options, picture: Size, native: Size, scale: Fraction) -> Size:
    """The requested size of the result; by default `native`, which the networks give at their scale.

    >>> requested_size(Options(scale=1.5), (5, 10), (10, 20), Fraction(2))
    (8, 15)
    >>> requested_size(Options(width=30), (5, 10), (10, 20), Fraction(2))
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
    return native


def _rounded(pixels: float) -> int:
    return max(1, int(pixels + 0.5))


def requested_factor(options: Options, picture: Size) -> float:
    """The requested scale factor, the larger one of both axes; 1 if none is requested."""
    height, width = requested_size(options, picture, picture, Fraction(1))
    return max(height / picture[0], width / picture[1])


def models_for(factor: float) -> list[str]:
    """Names of the shipped models, at least one, that together upscale by at least `factor`.

    If one model is enough, it is the one with the smallest sufficient scale. Otherwise the model with the
    largest scale comes first, and others follow. A factor of 1/2 or less selects the model that halves.
    """
    if factor <= 0.5 and CATALOGUE[DOWNSCALING_MODEL].path.exists():
        return [DOWNSCALING_MODEL]
    available = {scale: entry.name for scale in (2, 3, 4) if (entry := upscaling_model(scale))}
    if not available:
        return [DEFAULT_MODEL]
    sufficient = next((scale for scale in available if scale >= factor), None)
    if sufficient is not None:
        return [available[sufficient]]
    largest = max(available)
    return [available[largest], *models_for(factor / largest)]
