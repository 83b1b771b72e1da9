"""The halo: input pixels needed around a tile; rounded up to whole cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import FixedSize, GraphAnalysis, analyze
from onebranch.graph.operations import Graph

WHOLE_PICTURE_PIXELS = 1 << 40
"""Halo in pixels of a graph that needs the whole picture: more than any picture has on a side."""


class NeedsWholePictureError(OnebranchError):
    """A graph has no halo because it needs the whole picture; the message names the operation."""


@dataclass(frozen=True)
class Halo:
    """Input pixels needed around a tile, on each side, and other facts about a graph that a tiler needs.

    A cell is `multiple` x `multiple` input pixels and becomes (multiple * scale)² output pixels. Tiles are
    made of whole cells, and top, bottom, left and right are rounded up to whole cells.

    minimum_size: the smallest height and width on which the graph runs. minimum_border_tile: the smallest
    height and width of a tile that touches the border of the picture (padding by reflection reads its pixels
    twice). fixed_size: the only (height, width) on which the graph runs; None if its size is open. resolve:
    a function that returns the halo for a height and width, given this halo; None if all sizes have this one.
    """

    top: int
    bottom: int
    left: int
    right: int
    scale: Fraction = Fraction(1)
    multiple: int = 1
    minimum_size: int = 1
    minimum_border_tile: int = 1
    fixed_size: tuple[int, int] | None = None
    resolve: Callable[[Halo, int, int], Halo] | None = field(default=None, compare=False, repr=False)

    def at(self, height: int, width: int) -> Halo:
        """The halo for a picture of that size; a size that is not a multiple may need the whole picture."""
        return self if self.resolve is None else self.resolve(self, height, width)

    @property
    def needs_whole_picture(self) -> bool:
        """True if the graph cannot run in tiles."""
        return self.top == WHOLE_PICTURE_PIXELS

    def scaled(self, length: int) -> int:
        """Output pixels for `length` input pixels along an axis, rounded up."""
        return -(-length * self.scale.numerator // self.scale.denominator)


def halo(graph: Graph) -> Halo:
    """The halo of a graph with one picture (N, C, H, W) as its input and one as its output.

    It is never too small; for convolutions, pools and pixel shuffles it is exact. Raises
    NeedsWholePictureError for an operation that needs the whole picture, OnebranchError for an operation
    that the analysis does not support.
    """
    analysis = analyze(graph)
    if analysis.unsupported:
        raise OnebranchError(f"the halo of the graph is not known: {analysis.unsupported}")
    if analysis.halo is None:
        raise NeedsWholePictureError(f"the graph has no halo: {analysis.whole_picture_reasons[0]}")
    return halo_of(analysis)


def halo_of(analysis: GraphAnalysis) -> Halo:
    """The halo of an analyzed graph of known scale; `WHOLE_PICTURE_PIXELS` per side if it has none."""
    assert analysis.scale is not None, "a graph whose scale is not known has no halo"
    if analysis.halo is None:
        return whole_picture_halo(
            analysis.scale, analysis.multiple, analysis.minimum_size, analysis.fixed_size
        )
    return Halo(
        analysis.halo.top,
        analysis.halo.bottom,
        analysis.halo.left,
        analysis.halo.right,
        analysis.scale,
        analysis.multiple,
        analysis.minimum_size,
        analysis.minimum_border_tile,
        _complete(analysis.fixed_size),
    )


def whole_picture_halo(scale: Fraction, multiple: int, minimum_size: int, fixed_size: FixedSize) -> Halo:
    """The halo of a graph that needs the whole picture."""
    pixels = WHOLE_PICTURE_PIXELS
    return Halo(pixels, pixels, pixels, pixels, scale, multiple, minimum_size, 1, _complete(fixed_size))


def _complete(fixed_size: FixedSize) -> tuple[int, int] | None:
    height, width = fixed_size
    return None if height is None or width is None else (height, width)
