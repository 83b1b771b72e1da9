"""Samples through a chain of stages: of any depth, in tiles, rounded once at the end."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from onebranch.enhancer.stage import Stage
from onebranch.enhancer.tiles import run_tiled
from onebranch.images.picture import Samples, as_depth
from onebranch.images.resize import resize

Function = Callable[[Samples], Samples]


def enhanced(pixels: Samples, stages: Sequence[Stage], size: tuple[int, int], tile: int) -> Samples:
    """Pixels (H, W, 1 or 3) through the networks of all stages, at (height, width), in their own depth.

    Whole numbers are clipped and rounded half up, once; float32 stays float32 and is not clipped.
    """
    return _through([stage.apply for stage in stages], pixels, stages, size, tile)


def interpolated(alpha: Samples, stages: Sequence[Stage], size: tuple[int, int], tile: int) -> Samples:
    """Alpha (H, W) at the size that the stages and (height, width) give, by interpolation, in [0, 1]."""
    functions = [stage.interpolate for stage in stages]
    planes = _through(functions, alpha[..., None], stages, size, tile)[..., 0]
    return np.clip(planes, 0, 1) if planes.dtype.kind == "f" else planes


def _through(
    functions: Sequence[Function], values: Samples, stages: Sequence[Stage], size: tuple[int, int], tile: int
) -> Samples:
    """Values through the functions of the stages, in tiles, then at the size asked for."""
    rounded = partial(as_depth, depth=values.dtype.name)
    resamples = size_after(stages, values.shape[:2]) != size
    last = _unrounded if resamples else rounded
    finishes: list[Function] = [*(_unrounded for _ in stages[1:]), last]
    for function, stage, finish in zip(functions, stages, finishes, strict=True):
        values = run_tiled(partial(_run_part, function, finish), values, stage.halo, tile)
    return rounded(resize(values.astype(np.float32, copy=False), *size)) if resamples else values


def _run_part(function: Function, finish: Function, part: Samples) -> Samples:
    return finish(function(as_depth(part, "float32")))


def _unrounded(values: Samples) -> Samples:
    return values


def size_after(stages: Sequence[Stage], size: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) after all stages; each reduction rounds up."""
    height, width = size
    for scale in (stage.scale for stage in stages):
        height, width = (-(-n // scale.denominator) * scale.numerator for n in (height, width))
    return height, width
