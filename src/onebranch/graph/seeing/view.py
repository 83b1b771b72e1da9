"""What is known of a value in a graph without its numbers: its axes, and where in them the picture is.

An axis is a product of parts, outermost first: plain numbers (channels, heads, the pixels of a window) and
the picture's rows and columns. So reshapes and transpositions are followed exactly: shuffles, windows,
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

from onebranch.errors import OnebranchError
from onebranch.graph.seeing.reach import Reach, shuffled, unshuffled, windowed
from onebranch.graph.seeing.size import HEIGHT, WIDTH, Size, Undecided, as_size, quotient

ROWS, COLUMNS = "rows", "columns"

Part = int | str | Size
"""A number above 1, `ROWS`, `COLUMNS`, or a size of which no more is known."""

Axis = tuple[Part, ...]
"""Parts, outermost first; an axis of one element has none."""


@dataclass(frozen=True)
class View:
    """Axes of a value, with the reach of rows and columns where they are among them.

    whole: whether its numbers depend on more of the picture than the reach says. picture: height and width of
    the picture, `HEIGHT` and `WIDTH` where they are open.
    """

    axes: tuple[Axis, ...]
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    whole: bool = False
    picture: tuple[Size, Size] = (HEIGHT, WIDTH)

    @property
    def shape(self) -> list[Size]:
        """The size of every axis."""
        return [prod((self.size(part) for part in axis), start=as_size(1)) for axis in self.axes]

    def size(self, part: Part) -> Size:
        """How many elements a part has. Raises Undecided where a fixed picture has a broken number."""
        if not isinstance(part, str):
            return as_size(part)
        reach = self.reaches[part]
        size = self.picture[part == COLUMNS] * reach.scale + reach.extra
        if size.number is not None and size.number.denominator != 1:
            raise Undecided(f"{size.number} {part} are no whole number")
        return size

    def with_axis(self, index: int, axis: Axis) -> View:
        """Another axis in that place."""
        return replace(self, axes=(*self.axes[:index], axis, *self.axes[index + 1 :]))

    def with_reach(self, part: str, reach: Reach) -> View:
        """Another reach of rows or columns."""
        return replace(self, reaches={**self.reaches, part: reach})


def is_plain(axis: Axis) -> bool:
    """Whether an axis is a number, with nothing of the picture in it."""
    return all(isinstance(part, int) for part in axis)


def plain(number: int) -> Axis:
    """The axis of so many elements."""
    return (number,) if number != 1 else ()


def length(axis: Axis) -> int:
    """Elements of a plain axis."""
    return prod(part for part in axis if isinstance(part, int))


def fixed(shape: Sequence[int], picture: tuple[Size, Size] = (HEIGHT, WIDTH)) -> View:
    """An array of that shape with nothing of the picture in it."""
    return View(tuple(plain(int(side)) for side in shape), picture=picture)


def of_shape(shape: Sequence[Size], like: View) -> View:
    """A value of that shape that depends on the whole picture; rows and columns are told by their sizes."""
    axes: list[Axis] = []
    reaches: dict[str, Reach] = {}
    for size in shape:
        part = _part(size, reaches)
        axes.append(plain(part) if isinstance(part, int) else (part,))
    return View(tuple(axes), reaches, True, like.picture)


def _part(size: Size, reaches: dict[str, Reach]) -> Part:
    """A number, or the first size that grows with the height as rows, with the width as columns."""
    if size.number is not None:
        return _whole_number(size.number)
    for name, side in ((ROWS, (1, 0)), (COLUMNS, (0, 1))):
        terms = dict(size.terms)
        scale, extra = terms.pop(side, Fraction(0)), terms.pop((0, 0), Fraction(0))
        if scale > 0 and not terms and extra.denominator == 1 and name not in reaches:
            reaches[name] = windowed(Reach(scale.numerator, scale.denominator), 1, pads=(0, int(extra)))
            return name
    return size


def _whole_number(number: Fraction) -> int:
    if number.denominator != 1 or number < 0:
        raise Undecided(f"an axis would have {number} elements")
    return int(number)


def permuted(view: View, order: Sequence[int]) -> View:
    """The axes in another order."""
    return replace(view, axes=tuple(view.axes[index] for index in order))


def joined(views: Sequence[View]) -> View:
    """Element by element, axes of one element repeated, as numpy does it.

    Raises OnebranchError where pictures of different sizes meet.
    """
    rank = max(len(view.axes) for view in views)
    columns = [[()] * (rank - len(view.axes)) + list(view.axes) for view in views]
    axes = [_common([column[index] for column in columns]) for index in range(rank)]
    found = [part for axis in axes if axis is not None for part in axis if isinstance(part, str)]
    if None in axes or len(set(found)) < len(found):
        return of_shape(_broadcast([view.shape for view in views]), views[0])
    reaches = {part: _joined_reach([v.reaches[part] for v in views if part in v.reaches]) for part in found}
    whole = any(view.whole for view in views)
    return View(tuple(axis or () for axis in axes), reaches, whole, views[0].picture)


def _common(axes: Sequence[Axis]) -> Axis | None:
    """The axis that all share which have more than one element; None where they differ."""
    several = {axis for axis in axes if axis}
    if len(several) > 1:
        return None
    return several.pop() if several else ()


def _joined_reach(reaches: Sequence[Reach]) -> Reach:
    if len({(reach.p, reach.q, reach.extra) for reach in reaches}) > 1:
        raise OnebranchError("joins pictures of different scales or sizes")
    first, last = min(reach.first for reach in reaches), max(reach.last for reach in reaches)
    return replace(reaches[0], first=first, last=last)


def _broadcast(shapes: Sequence[Sequence[Size]]) -> list[Size]:
    rank = max(len(shape) for shape in shapes)
    rows = [[as_size(1)] * (rank - len(shape)) + list(shape) for shape in shapes]
    result = []
    for sizes in zip(*rows, strict=True):
        several = {size for size in sizes if size.number != 1}
        if len(several) > 1:
            raise OnebranchError("joins values whose sizes do not fit")
        result.append(several.pop() if several else as_size(1))
    return result


def reshaped(view: View, shape: Sequence[Size]) -> View:
    """The same elements in the same order, in axes of these sizes."""
    parts = [part for axis in view.axes for part in axis]
    axes: list[Axis] = []
    for size in shape:
        taken = _taken(view, parts, size)
        if taken is None:
            return of_shape(shape, view)
        view, axis, parts = taken
        axes.append(axis)
    if parts:
        return of_shape(shape, view)
    return _merged(replace(view, axes=tuple(axes)))


def _taken(view: View, parts: list[Part], wanted: Size) -> tuple[View, Axis, list[Part]] | None:
    """An axis of the wanted size from the first parts, one split where needed; None where they do not fit."""
    axis: Axis = ()
    while wanted.number != 1:
        if not parts:
            return None
        part, parts = parts[0], parts[1:]
        size = view.size(part)
        times, rest = _ratio(wanted, size), _ratio(size, wanted)
        if times is not None:
            axis, wanted = (*axis, part), times
        elif rest is not None and rest.number is not None and not isinstance(part, Size):
            factor = int(rest.number)
            if isinstance(part, int):
                return view, (*axis, part // factor), [factor, *parts]
            coarse = unshuffled(view.reaches[part], factor)
            return view.with_reach(part, coarse), (*axis, part), [factor, *parts]
        else:
            return None
    return view, axis, parts


def _ratio(size: Size, divisor: Size) -> Size | None:
    """size / divisor; None where that is no size, or a broken number."""
    try:
        result = quotient(size, divisor)
    except Undecided:
        return None
    broken = result.number is not None and result.number.denominator != 1
    return result if result.terms and not broken else None


def _merged(view: View) -> View:
    """Numbers that follow each other multiplied; rows or columns followed by a number as finer ones."""
    axes = []
    for axis in view.axes:
        merged: list[Part] = []
        for part in axis:
            if isinstance(part, int) and merged and isinstance(before := merged[-1], int):
                merged[-1] = before * part
            elif isinstance(part, int) and merged and isinstance(before := merged[-1], str):
                view = view.with_reach(before, shuffled(view.reaches[before], part))
            else:
                merged.append(part)
        axes.append(tuple(merged))
    return replace(view, axes=tuple(axes))
