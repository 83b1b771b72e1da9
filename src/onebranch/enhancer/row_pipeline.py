"""One picture's way through its stages, planned from its layout: any rows of the result from its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from onebranch.enhancer.options import Size
from onebranch.enhancer.stage import INTERPOLATION_REACH, Stage
from onebranch.enhancer.steps import Chain, FillStep, NetworkStep, ResizeStep, Rows, Step, opaque
from onebranch.images.picture import DEPTHS, Samples
from onebranch.images.resize import Border, Resizing
from onebranch.images.rows import Layout

BAND_PIXELS = 4_000_000
"""Of the result, worked on at a time: all threads are busy, and reading and writing keep up."""

SHORTEST = 16
"""Rows of a band at least: the halo around fewer would be most of the work."""

SNAP = np.float32(4e-6)
"""Alpha in float32 nearer to 1 than this is 1: what interpolation leaves of weights that sum to one."""

COPIES = 6
"""Rows held for one row of a band: the band itself, its neighbours being read and written, parts."""


@dataclass(frozen=True)
class RowPipeline:
    """The way of a picture of layout `source` to one of layout `target`.

    reach: of all stages together, in its pixels. whole: whether some stage needs the whole picture at once.
    """

    source: Layout
    target: Layout
    pixels: Chain
    alpha: Chain | None
    reach: int
    whole: bool

    def needs(self, wanted: Rows) -> Rows:
        """The rows of the picture that these rows of the result are made from."""
        found = self.pixels.needs(wanted)
        if self.alpha is None:
            return found
        beside = self.alpha.needs(wanted)
        return Rows(min(found.first, beside.first), max(found.last, beside.last))

    def rows(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """Rows `wanted` of the result (N, W', bands), from rows `at` (M, W, bands) of the picture."""
        pixels = self.pixels.apply(samples, at, wanted)
        if self.alpha is None:
            return pixels
        return np.concatenate([pixels, self._alpha(samples[..., -1:], at, wanted)], axis=2)

    def _alpha(self, alpha: Samples, at: Rows, wanted: Rows) -> Samples:
        assert self.alpha is not None
        needed = self.alpha.needs(wanted)
        depth = self.target.depth
        if opaque(alpha[needed.first - at.first : needed.last - at.first]):
            return np.full((wanted.last - wanted.first, self.target.width, 1), DEPTHS[depth], depth)
        result = self.alpha.apply(alpha, at, wanted)
        if depth != "float32":
            return result
        return np.where(result > 1 - SNAP, np.float32(1), np.clip(result, 0, 1))

    def bands(self, memory: int) -> Iterator[Rows]:
        """The rows of the result in bands of equal height, which take about so many bytes at most."""
        height = self.target.height
        count = 1 if self.whole else -(-height // self.band_height(memory))
        for index in range(count):
            yield Rows(height * index // count, height * (index + 1) // count)

    def band_height(self, memory: int) -> int:
        """Rows of the result that are worked on at a time."""
        fitting = memory // max(1, self.bytes_of_row())
        return max(SHORTEST, min(fitting, BAND_PIXELS // self.target.width))

    def bytes_of_row(self) -> int:
        """Memory that a row of a band takes, all copies of it and of what it is made from."""
        source, target = self.source, self.target
        into = source.width * source.bands * _bytes(source)
        out = target.width * target.bands * _bytes(target)
        between = 4 * target.width * target.channels * max(0, len(self.pixels.steps) - 1)
        return COPIES * (out + into * source.height // target.height) + 2 * between


def _bytes(layout: Layout) -> int:
    return int(np.dtype(layout.depth).itemsize)


def build_pipeline(
    source: Layout, stages: Sequence[Stage], size: Size, tile: int, border: Border = "symmetric"
) -> RowPipeline:
    """The way of a picture of that layout through the stages to (height, width).

    tile: edge for the stages that take tiles. border: of the resampling to another size than they give.
    """
    sizes = sizes_along(stages, (source.height, source.width))
    types = _types(len(stages), source.depth, sizes[-1] == size)
    pixels: list[Step] = []
    alpha: list[Step] = []
    reach = reach_of(stages)
    if source.alpha:
        pixels.append(FillStep(source.height, reach))
    for stage, (height, _), pair in zip(stages, sizes, types, strict=False):
        function = stage.pixels(source.channels, *pair)
        pixels.append(NetworkStep(function, stage.halo, height, tile, stage.streams, stage.phase))
        if source.alpha:
            alpha.append(NetworkStep(stage.alpha(*pair), stage.halo, height, tile, stage.streams))
    if sizes[-1] != size:
        factors = size[0] / sizes[-1][0], size[1] / sizes[-1][1]
        last = ResizeStep(Resizing(sizes[-1], size, factors, border), source.depth)
        pixels.append(last)
        alpha.append(last)
    target = replace(source, height=size[0], width=size[1])
    whole = any(stage.halo.needs_whole_picture or stage.halo.fixed_size is not None for stage in stages)
    beside = Chain(tuple(alpha)) if source.alpha else None
    return RowPipeline(source, target, Chain(tuple(pixels)), beside, reach, whole)


def sizes_along(stages: Sequence[Stage], size: Size) -> list[Size]:
    """(height, width) before the first stage and after each; each reduction rounds up."""
    sizes = [size]
    for stage in stages:
        height, width = sizes[-1]
        sizes.append((stage.halo.scaled(height), stage.halo.scaled(width)))
    return sizes


def reach_of(stages: Sequence[Stage]) -> int:
    """Pixels around each that all stages look at, and alpha's interpolation, in whole cells of all."""
    reach, cells = 0, prod(stage.halo.multiple * stage.halo.scale.denominator for stage in stages)
    for stage in reversed(stages):
        halo = stage.halo
        after = -(-reach * halo.scale.denominator // halo.scale.numerator)
        reach = after + max(halo.top, halo.bottom, halo.left, halo.right) + halo.multiple
    return -(-(reach + INTERPOLATION_REACH) // cells) * cells


def _types(count: int, own: str, natural: bool) -> list[tuple[str, str]]:
    """What goes into every stage and comes out: floats between stages and before a resampling."""
    between = ["float32"] * (count - 1)
    return list(zip([own, *between], [*between, own if natural else "float32"], strict=True))
