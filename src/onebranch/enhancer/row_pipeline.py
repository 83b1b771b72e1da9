"""The row pipeline: the steps between a picture and its result, which can compute any range of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from onebranch.enhancer.options import Size
from onebranch.enhancer.stage import INTERPOLATION_RADIUS, Stage
from onebranch.enhancer.steps import Chain, FillStep, NetworkStep, ResizeStep, Rows, RowStep, fully_opaque
from onebranch.images.resize import Border, Resizing
from onebranch.images.rows import Layout
from onebranch.images.samples import WHITE_LEVELS, Samples

BAND_PIXELS = 4_000_000
"""Pixels of a band of the result: enough work for all threads, and small enough to overlap with I/O."""

MIN_BAND_ROWS = 16
"""Smallest number of rows in a band. With fewer rows, most of the work would be for the halo."""

OPAQUE_TOLERANCE = np.float32(4e-6)
"""float32 alpha within this distance of 1 becomes 1, because interpolation weights sum to 1 approximately."""

COPIES_PER_ROW = 6
"""Number of rows in memory per row of a band: input, output, rows in I/O, and intermediate results."""


@dataclass(frozen=True)
class RowPipeline:
    """The steps from a picture of layout `source` to its result of layout `target`.

    pixels, alpha: the steps for colours and for alpha. radius: radius of the receptive field of all stages,
    in pixels of the picture. whole: True if a stage needs the whole picture at once.
    """

    source: Layout
    target: Layout
    pixels: Chain
    alpha: Chain | None
    radius: int
    whole: bool

    def needs(self, wanted: Rows) -> Rows:
        """The rows of the picture on which these rows of the result depend."""
        for_pixels = self.pixels.needs(wanted)
        if self.alpha is None:
            return for_pixels
        for_alpha = self.alpha.needs(wanted)
        return Rows(min(for_pixels.first, for_alpha.first), max(for_pixels.last, for_alpha.last))

    def rows(self, samples: Samples, at: Rows, wanted: Rows) -> Samples:
        """The rows `wanted` of the result (N, W', bands), computed from the rows `at` (M, W, bands)."""
        pixels = self.pixels.apply(samples, at, wanted)
        if self.alpha is None:
            return pixels
        return np.concatenate([pixels, self._alpha(samples[..., -1:], at, wanted)], axis=2)

    def _alpha(self, alpha: Samples, at: Rows, wanted: Rows) -> Samples:
        assert self.alpha is not None
        needed = self.alpha.needs(wanted)
        depth = self.target.depth
        if fully_opaque(alpha[needed.first - at.first : needed.last - at.first]):
            return np.full((wanted.last - wanted.first, self.target.width, 1), WHITE_LEVELS[depth], depth)
        result = self.alpha.apply(alpha, at, wanted)
        if depth != "float32":
            return result
        return np.where(result > 1 - OPAQUE_TOLERANCE, np.float32(1), np.clip(result, 0, 1))

    def bands(self, memory: int) -> Iterator[Rows]:
        """The rows of the result, divided into bands of similar height that need at most `memory` bytes each.

        The bytes are estimated.
        """
        height = self.target.height
        count = 1 if self.whole else -(-height // self.band_height(memory))
        for index in range(count):
            yield Rows(height * index // count, height * (index + 1) // count)

    def band_height(self, memory: int) -> int:
        """The number of rows of the result that can be computed at a time in `memory` bytes."""
        fitting = memory // max(1, self.bytes_of_row())
        return max(MIN_BAND_ROWS, min(fitting, BAND_PIXELS // self.target.width))

    def bytes_of_row(self) -> int:
        """Estimated bytes per row of a band, including all its copies and the rows it depends on."""
        source, target = self.source, self.target
        row_in = source.width * source.bands * _bytes(source)
        row_out = target.width * target.bands * _bytes(target)
        between = 4 * target.width * target.channels * max(0, len(self.pixels.steps) - 1)
        return COPIES_PER_ROW * (row_out + row_in * source.height // target.height) + 2 * between


def _bytes(layout: Layout) -> int:
    return int(np.dtype(layout.depth).itemsize)


def build_pipeline(
    source: Layout, stages: Sequence[Stage], size: Size, tile: int, border: Border = "symmetric"
) -> RowPipeline:
    """The pipeline for pictures of that layout through the stages to a result of `size` (height, width).

    tile: side length of tiles in pixels, for stages that use tiles. border: border handling if the output of
    the stages is resampled to another size.
    """
    sizes = sizes_along(stages, (source.height, source.width))
    types = _types(len(stages), source.depth, sizes[-1] != size)
    pixels: list[RowStep] = []
    alpha: list[RowStep] = []
    radius = receptive_radius(stages)
    if source.alpha:
        pixels.append(FillStep(source.height, radius))
    halos = [stage.halo.at(*stage_size) for stage, stage_size in zip(stages, sizes, strict=False)]
    for stage, halo, (height, _), pair in zip(stages, halos, sizes, types, strict=False):
        function = stage.pixels(source.channels, *pair)
        pixels.append(NetworkStep(function, halo, height, tile, stage.streams, stage.phase))
        if source.alpha:
            alpha.append(NetworkStep(stage.alpha(*pair), halo, height, tile, stage.streams))
    if sizes[-1] != size:
        factors = size[0] / sizes[-1][0], size[1] / sizes[-1][1]
        last = ResizeStep(Resizing(sizes[-1], size, factors, border), source.depth)
        pixels.append(last)
        alpha.append(last)
    target = replace(source, height=size[0], width=size[1])
    whole = any(halo.needs_whole_picture or halo.fixed_size is not None for halo in halos)
    alpha_chain = Chain(tuple(alpha)) if source.alpha else None
    return RowPipeline(source, target, Chain(tuple(pixels)), alpha_chain, radius, whole)


def sizes_along(stages: Sequence[Stage], size: Size) -> list[Size]:
    """The (height, width) before the first stage and after each stage. Downscaling rounds sizes up."""
    sizes = [size]
    for stage in stages:
        height, width = sizes[-1]
        sizes.append((stage.halo.scaled(height), stage.halo.scaled(width)))
    return sizes


def receptive_radius(stages: Sequence[Stage]) -> int:
    """Number of input pixels on each side on which an output pixel of the last stage depends.

    It is rounded up to whole cells and includes the interpolation of alpha.
    """
    radius, cells = 0, prod(stage.halo.multiple * stage.halo.scale.denominator for stage in stages)
    for stage in reversed(stages):
        halo = stage.halo
        after = -(-radius * halo.scale.denominator // halo.scale.numerator)
        radius = after + max(halo.top, halo.bottom, halo.left, halo.right) + halo.multiple
    return -(-(radius + INTERPOLATION_RADIUS) // cells) * cells


def _types(count: int, depth: str, resampled: bool) -> list[tuple[str, str]]:
    """The (input, output) sample types of every stage: floats between stages and before a resampling."""
    between = ["float32"] * (count - 1)
    return list(zip([depth, *between], [*between, "float32" if resampled else depth], strict=True))
