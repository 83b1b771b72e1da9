"""The steps of a row pipeline: each states which input rows it needs, and computes any range of output rows.

The samples do not depend on how the rows are divided; they are bit-exact if the runtime is.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from onebranch.enhancer.stage import Function
from onebranch.enhancer.tiles import run_tiled
from onebranch.graph.analysis.halo import Halo
from onebranch.images.alpha import fill_transparent
from onebranch.images.resize import Resizing
from onebranch.images.samples import WHITE_LEVELS, Samples, as_depth


class Rows(NamedTuple):
    """The range of rows [first, last) of a picture."""

    first: int
    last: int


class RowStep(Protocol):
    """A step of a row pipeline. Row numbers count from the top of the picture and are always inside it."""

    def needs(self, wanted: Rows) -> Rows:
        """The input rows on which these output rows depend."""

    def apply(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """The output rows `wanted`, computed from the input rows `at`, which include the needed rows."""


@dataclass(frozen=True)
class NetworkStep:
    """The step that applies a stage's function for pixels or alpha.

    height: height of the input. tile: side length of tiles in pixels, if the function does not stream. phase:
    the input rows begin and end at multiples of this many cells, counted from the first and last row of the
    picture.
    """

    function: Function
    halo: Halo
    height: int
    tile: int
    streams: bool
    phase: int = 1

    def needs(self, wanted: Rows) -> Rows:
        """See `RowStep.needs`: whole cells and their halo, or all rows if the network needs them."""
        halo = self.halo
        if halo.needs_whole_picture or halo.fixed_size is not None:
            return Rows(0, self.height)
        step, whole = halo.multiple * self.phase, _up(self.height, halo.multiple)
        least = _up(halo.minimum_border_tile, halo.multiple)
        begin = _down(_floor(wanted.first / halo.scale) - halo.top, step)
        end = max(_ceil(wanted.last / halo.scale) + halo.bottom, begin + least)
        begin = min(begin, _down(whole - least, step))
        return Rows(begin, min(self.height, whole - _down(whole - end, step)))

    def apply(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """See `Step.apply`."""
        if self.streams:
            result = self.function(samples)
        else:
            result = run_tiled(self.function, samples, self.halo, self.tile)
        start = _floor(at.first * self.halo.scale)
        return result[wanted.first - start : wanted.last - start]


@dataclass(frozen=True)
class ResizeStep:
    """The step that resizes float samples to the requested size and rounds them to `depth`."""

    resizing: Resizing
    depth: str

    def needs(self, wanted: Rows) -> Rows:
        """See `Step.needs`."""
        return Rows(*self.resizing.needs(*wanted))

    def apply(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """See `Step.apply`."""
        values = samples.astype(np.float32, copy=False)
        return as_depth(self.resizing.rows(values, at.first, *wanted), self.depth)


@dataclass(frozen=True)
class FillStep:
    """The step from pixels with alpha (H, W, C + 1) to pixels whose transparent ones are filled.

    They get the mean colour of visible pixels nearby (`alpha.fill_transparent`). radius: in pixels.
    """

    height: int
    radius: int

    def needs(self, wanted: Rows) -> Rows:
        """See `Step.needs`."""
        return Rows(max(0, wanted.first - self.radius), min(self.height, wanted.last + self.radius))

    def apply(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """See `Step.apply`."""
        result = fill_transparent(samples[..., :-1], samples[..., -1], self.radius)
        return result[wanted.first - at.first : wanted.last - at.first]


@dataclass(frozen=True)
class Chain:
    """A step that applies several steps one after the other."""

    steps: tuple[RowStep, ...]

    def needs(self, wanted: Rows) -> Rows:
        """See `Step.needs`."""
        for step in reversed(self.steps):
            wanted = step.needs(wanted)
        return wanted

    def apply(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """See `Step.apply`."""
        outputs = [wanted]
        for step in reversed(self.steps):
            outputs.append(step.needs(outputs[-1]))
        needed, *rest = reversed(outputs)
        samples = samples[needed.first - at.first : needed.last - at.first]
        for step, rows_in, rows_out in zip(self.steps, [needed, *rest], rest, strict=False):
            samples = step.apply(samples, rows_in, rows_out)
        return samples


def fully_opaque(alpha: Samples) -> bool:
    """True if all alpha samples are fully opaque."""
    return bool(np.all(alpha == WHITE_LEVELS[alpha.dtype.name]))


def _floor(number: Fraction | float) -> int:
    return int(number // 1)


def _ceil(number: Fraction | float) -> int:
    return int(-(-number // 1))


def _down(number: int, cell: int) -> int:
    return max(0, number // cell * cell)


def _up(number: int, cell: int) -> int:
    return -(-number // cell) * cell
