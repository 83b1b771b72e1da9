"""How far a graph looks: the number of input pixels that an output pixel needs beyond its own place."""

from dataclasses import dataclass
from fractions import Fraction

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph
from onebranch.graph.seeing.sight import Sight, look

WHOLE = 1 << 40
"""Pixels on a side where a graph needs the whole picture: more than any picture has."""


class WholePicture(OnebranchError):
    """A graph has no halo: it needs the whole picture; the text names the operation."""


@dataclass(frozen=True)
class Halo:
    """Input pixels needed beyond an output pixel's own cell, in whole cells per side, and the output's scale.

    A cell is `multiple` input pixels on a side and becomes multiple * scale output pixels; pieces of a
    picture are made of whole cells. least: sides below which the graph does not run. smallest: sides of a
    piece at the picture's border. exact: the only (height, width) that the graph runs on, where there is one.
    """

    top: int
    bottom: int
    left: int
    right: int
    scale: Fraction = Fraction(1)
    multiple: int = 1
    least: int = 1
    smallest: int = 1
    exact: tuple[int, int] | None = None

    @property
    def whole(self) -> bool:
        """Whether the graph needs the whole picture."""
        return self.top == WHOLE

    def scaled(self, length: int) -> int:
        """Output pixels of so many input pixels along an axis, a begun one counted."""
        return -(-length * self.scale.numerator // self.scale.denominator)


def halo(graph: Graph) -> Halo:
    """The halo of a graph with one picture (N, C, H, W) in and one out.

    Never too small; for convolutions, pools and shuffles exact. Raises WholePicture for an operation that
    needs the whole picture, OnebranchError for one whose reach is not known.
    """
    sight = look(graph)
    if sight.unknown:
        raise OnebranchError(f"the halo of the graph is not known: {sight.unknown}")
    if sight.sides is None:
        raise WholePicture(f"the graph has no halo: {sight.whole[0]}")
    return halo_of(sight)


def halo_of(sight: Sight) -> Halo:
    """The halo of a graph that was looked through; `WHOLE` on every side if it needs the whole picture."""
    assert sight.scale is not None, "a graph whose scale is not known has no halo"
    if sight.sides is None:
        return whole_picture(sight.scale, sight.multiple, sight.least, sight.size)
    own = sight.multiple, sight.least, sight.smallest
    return Halo(*sight.sides, sight.scale, *own, _exact(sight.size))


def whole_picture(scale: Fraction, multiple: int, least: int, size: tuple[int | None, int | None]) -> Halo:
    """The halo of a graph that needs the whole picture. size: (height, width) where they are fixed."""
    return Halo(WHOLE, WHOLE, WHOLE, WHOLE, scale, multiple, least, 1, _exact(size))


def _exact(size: tuple[int | None, int | None]) -> tuple[int, int] | None:
    height, width = size
    return None if height is None or width is None else (height, width)
