"""Samples through a chain of stages: of any depth, in tiles, rounded once at the end."""

from collections.abc import Sequence

import numpy as np

from onebranch.enhancer.stage import Function, Stage
from onebranch.enhancer.tiles import run_tiled
from onebranch.images.picture import Samples, as_depth
from onebranch.images.resize import resize

Size = tuple[int, int]
"""(height, width) in pixels."""


def enhanced(pixels: Samples, stages: Sequence[Stage], size: Size, tile: int) -> Samples:
    """Pixels (H, W, 1 or 3) through the networks of all stages, at (height, width), in their own depth.

    Whole numbers are clipped and rounded half up, once; float32 stays float32 and is not clipped.
    """
    types = _types(stages, pixels, size)
    channels = pixels.shape[2]
    functions = [stage.pixels(channels, *pair) for stage, pair in zip(stages, types, strict=True)]
    return _through(functions, pixels, stages, size, tile)


def interpolated(alpha: Samples, stages: Sequence[Stage], size: Size, tile: int) -> Samples:
    """Alpha (H, W) at the size that the stages and (height, width) give, by interpolation, in [0, 1]."""
    types = _types(stages, alpha, size)
    functions = [stage.alpha(*pair) for stage, pair in zip(stages, types, strict=True)]
    planes = _through(functions, alpha[..., None], stages, size, tile)[..., 0]
    return np.clip(planes, 0, 1) if planes.dtype.kind == "f" else planes


def _types(stages: Sequence[Stage], values: Samples, size: Size) -> list[tuple[str, str]]:
    """What goes into every stage and comes out: floats between stages and before a resampling."""
    own = values.dtype.name
    last = own if size_after(stages, values.shape[:2]) == size else "float32"
    between = ["float32"] * (len(stages) - 1)
    return list(zip([own, *between], [*between, last], strict=True))


def _through(
    functions: Sequence[Function], values: Samples, stages: Sequence[Stage], size: Size, tile: int
) -> Samples:
    """Values through the functions of the stages, in tiles, then at the size asked for, rounded."""
    own = values.dtype.name
    for function, stage in zip(functions, stages, strict=True):
        values = function(values) if stage.streams else run_tiled(function, values, stage.halo, tile)
    if values.shape[:2] == size:
        return values
    return as_depth(resize(values.astype(np.float32, copy=False), *size), own)


def size_after(stages: Sequence[Stage], size: tuple[int, ...]) -> Size:
    """(height, width) after all stages; each reduction rounds up."""
    height, width = size
    for stage in stages:
        height, width = stage.halo.scaled(height), stage.halo.scaled(width)
    return height, width
