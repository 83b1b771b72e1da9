"""What a graph sees: its scale, the multiple that sides need, its halo, or what needs the whole picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import lcm, prod

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph, Node
from onebranch.graph.seeing.axis_rules import AXIS_RULES
from onebranch.graph.seeing.number_rules import numbers_of
from onebranch.graph.seeing.pixel_rules import PIXEL_RULES
from onebranch.graph.seeing.reach import Reach, beyond_cell
from onebranch.graph.seeing.scope import Scope, Unknown, Value, integer
from onebranch.graph.seeing.size import HEIGHT, WIDTH, Size, as_size
from onebranch.graph.seeing.view import COLUMNS, ROWS, View, is_plain, length, plain

_RULES = {**AXIS_RULES, **PIXEL_RULES}


@dataclass(frozen=True)
class Sight:
    """What is known of a graph with one picture (1, C, H, W) in and one out.

    channels: in and out. size: height and width where they are fixed. least: sides below which the graph does
    not run. smallest: sides of a piece at the picture's border. sides: input pixels needed beyond a cell of
    `multiple` pixels, in whole cells: top, bottom, left, right; None where the whole picture is. whole: the
    operations that need it, in words. unknown: the first operation of which no shape is known, in words; then
    there is no scale. values: every value's axes.
    """

    channels: tuple[int, int]
    size: tuple[int | None, int | None]
    scale: Fraction | None = None
    multiple: int = 1
    least: int = 1
    smallest: int = 1
    sides: tuple[int, int, int, int] | None = None
    whole: tuple[str, ...] = ()
    unknown: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def elements(self) -> dict[str, Size]:
        """How many numbers every value has."""
        return {name: _elements(value) for name, value in self.values.items()}


def look(graph: Graph) -> Sight:
    """Look through a graph with one picture in and one out, of which the number of channels is known.

    Raises OnebranchError where the input or the output is no picture.
    """
    (name,), (output,) = graph.inputs, graph.outputs
    channels, size = _input(graph.inputs[name].shape, name)
    sides = HEIGHT if size[0] is None else as_size(size[0]), WIDTH if size[1] is None else as_size(size[1])
    scope = Scope(graph, sides)
    own = {ROWS: Reach(), COLUMNS: Reach()}
    scope.values[name] = View(((), plain(channels), (ROWS,), (COLUMNS,)), own, False, sides)
    whole: list[str] = []
    for node in graph.nodes:
        try:
            found = _found(node, scope)
        except OnebranchError as error:
            unknown = f"{words(node)}: {error}"
            return Sight((channels, 0), size, whole=tuple(whole), unknown=unknown, values=scope.values)
        if _becomes_whole(node, found, scope):
            whole.append(f"{words(node)} needs the whole picture")
        scope.values.update(zip(node.outputs, found, strict=False))
    return _seen(scope, output, channels, size, whole)


def words(node: Node) -> str:
    """An operation as it is named to users."""
    return f"{node.kind} '{node.outputs[0]}'"


def _input(shape: Sequence[int | str], name: str) -> tuple[int, tuple[int | None, int | None]]:
    """Channels and fixed sides of the picture that goes in."""
    if len(shape) != 4:
        raise OnebranchError(f"its input '{name}' has {len(shape)} axes where a picture has 4: (1, C, H, W)")
    batch, channels, *sides = shape
    if isinstance(batch, int) and batch != 1:
        raise OnebranchError(f"its input '{name}' takes {batch} pictures at once; it must take one")
    if not isinstance(channels, int):
        raise OnebranchError(f"the number of channels of its input '{name}' is open; it must be fixed")
    height, width = (side if isinstance(side, int) else None for side in sides)
    if (height is None) != (width is None):
        raise OnebranchError(f"only one side of its input '{name}' is fixed; both must be, or none")
    return channels, (height, width)


def _found(node: Node, scope: Scope) -> Sequence[Value]:
    """What an operation gives. Raises OnebranchError where that is not known."""
    sizes = numbers_of(node, scope)
    if sizes is not None:
        return sizes
    if node.kind not in _RULES:
        raise Unknown("this operation is not known")
    found = _RULES[node.kind](node, scope)
    for value in found:
        for reach in value.reaches.values() if isinstance(value, View) else ():
            scope.multiple = lcm(scope.multiple, reach.q)
            scope.least = max(scope.least, reach.pixels_for(1))
    return found


def _becomes_whole(node: Node, found: Sequence[Value], scope: Scope) -> bool:
    """Whether it is this operation that needs the whole picture, not one before it."""
    before = [scope.values[name] for name in node.inputs if name in scope.values]
    return any(isinstance(value, View) and value.whole for value in found) and not any(
        isinstance(value, View) and value.whole for value in before
    )


def _elements(value: Value) -> Size:
    return prod(value.shape, start=as_size(1)) if isinstance(value, View) else as_size(value.values.size)


def _seen(
    scope: Scope,
    output: str,
    channels: int,
    size: tuple[int | None, int | None],
    whole: list[str],
) -> Sight:
    view = scope.view(output)
    if len(view.axes) != 4 or view.axes[0] or not is_plain(view.axes[1]):
        raise OnebranchError(f"its output '{output}' is no picture (1, C, H, W)")
    if any(side and side % scope.multiple for side in size):
        whole.append(f"its fixed size, no multiple of {scope.multiple}, needs the whole picture")
    rows, columns = (_scale(view, index, output) for index in (2, 3))
    if rows != columns:
        raise OnebranchError("the graph scales rows and columns differently; such a graph has no halo")
    sides = None if view.whole else _in_cells(view, scope.multiple)
    if sides and not _leaves_something(size, sides, scope.smallest):
        whole.append("its halo, which leaves nothing of its fixed size, needs the whole picture")
    return Sight(
        channels=(channels, length(view.axes[1])),
        size=size,
        scale=rows,
        multiple=scope.multiple,
        least=scope.least,
        smallest=max(scope.smallest, scope.least),
        sides=None if whole and (view.whole or size != (None, None)) else sides,
        whole=tuple(whole) if view.whole or size != (None, None) else (),
        values=scope.values,
    )


def _in_cells(view: View, multiple: int) -> tuple[int, int, int, int]:
    """Pixels needed beyond a cell of `multiple` pixels, rounded up to cells: top, bottom, left, right."""
    top, bottom = beyond_cell(view.reaches[ROWS], multiple)
    left, right = beyond_cell(view.reaches[COLUMNS], multiple)
    return top, bottom, left, right


def _leaves_something(size: Sequence[int | None], sides: Sequence[int], smallest: int) -> bool:
    """Whether tiles of a fixed size have pixels that the halo does not take, and as many as they need."""
    least = max(sum(sides[:2]) + 1, smallest), max(sum(sides[2:]) + 1, smallest)
    return all(side is None or side >= enough for side, enough in zip(size, least, strict=True))


def _scale(view: View, index: int, output: str) -> Fraction:
    """Output pixels for one pixel along an axis. Raises OnebranchError where the output has more or fewer."""
    name, side = (ROWS, COLUMNS)[index - 2], view.picture[index - 2]
    axis = view.axes[index]
    if is_plain(axis) and side.number and view.whole:
        return Fraction(length(axis)) / side.number
    if axis != (name,):
        raise OnebranchError(f"the {name} of its output '{output}' are not those of the picture")
    reach = view.reaches[name]
    if reach.extra:
        raise OnebranchError(
            f"its output '{output}' has {reach.scale} times the picture's {name} {reach.extra:+d};"
            " onebranch runs networks that keep the picture's border"
        )
    return reach.scale


def channels_read(graph: Graph, picture: str) -> int | None:
    """Channels of the picture, as the first convolution of it has them; None where none reads it directly.

    Operations with constants that come before it are looked through.
    """
    same = {picture}
    for node in graph.nodes:
        if not node.inputs or node.inputs[0] not in same:
            continue
        weight = graph.constants.get(node.inputs[1]) if node.kind == "Conv" else None
        if weight is not None:
            return int(weight.shape[1]) * integer(node, "group", 1)
        if node.kind in BEFORE_CONVOLUTIONS:
            same.add(node.outputs[0])
    return None


BEFORE_CONVOLUTIONS = ("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Pad", "Clip")
"""Operations that networks begin with and that keep the channels."""
