"""The input sizes on which a graph can run, found from the shapes of its values.

A file may declare its height and width open although an operation inside fixes them (a Reshape to numbers, a
stored array that is added), or allows multiples only (windows of 48 pixels). Shapes are polynomials in height
and width; every operation that requires two of them to be equal is an equation, which is evaluated for all
heights and widths up to `MAX_SIDE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from math import lcm, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import channels_of_first_convolution, described
from onebranch.graph.analysis.shapes import Shapes, infer_shapes, symbol_of
from onebranch.graph.analysis.state import int_attribute
from onebranch.graph.analysis.symbolic_size import FloorDivision, Symbol, SymbolicSize, as_size
from onebranch.graph.operations import Graph, Node, Shape, Value

MAX_SIDE = 1024
"""The largest height and width in pixels that are considered."""

COMMON_CHANNELS = (3, 1, 4, 2, 6, 8, 9, 12, 16, 32, 48, 64)
"""Numbers of channels that are tried, in this order, for an input that leaves its channels open."""

HEIGHT_NAME, WIDTH_NAME = "height", "width"
"""Names of the open dimensions of all inputs, while sizes are searched."""

BROADCASTING = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sum", "Mean", "Max", "Min", "Where", "PRelu"),
        *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    )
)
"""Operations whose inputs' axes, aligned at the last one, are equal or 1."""

Lengths = Sequence[SymbolicSize]
"""The lengths of all axes of a value."""

Grid = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class InputSize:
    """The size of an input picture: height and width in pixels, and the channels where they are open too."""

    height: int
    width: int
    channels: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """(height, width), or (channels, height, width)."""
        sides = self.height, self.width
        return sides if self.channels is None else (self.channels, *sides)

    def __str__(self) -> str:
        """HxW, or CxHxW with channels, as the option --input-size takes it."""
        return "x".join(map(str, self.numbers))


def as_input_size(numbers: Sequence[int]) -> InputSize:
    """(height, width) or (channels, height, width) as an `InputSize`. Raises OnebranchError for others.

    >>> str(as_input_size((48, 96))), str(as_input_size((3, 48, 96)))
    ('48x96', '3x48x96')
    """
    if len(numbers) not in (2, 3) or not all(isinstance(number, int) and number > 0 for number in numbers):
        shown = "x".join(map(str, numbers))
        raise OnebranchError(
            f"'{shown}' is not an input size; it must be height x width, such as 48x96, or channels x height"
            " x width, such as 3x48x96, each at least 1"
        )
    return InputSize(numbers[-2], numbers[-1], numbers[0] if len(numbers) == 3 else None)


@dataclass(frozen=True, eq=False)
class ValidSizes:
    """The heights and widths, up to `MAX_SIDE`, for which the known shapes of a graph's values fit together.

    allowed: (MAX_SIDE, MAX_SIDE), the element [height - 1, width - 1]. cause: the operation that fixes the
    size, such as "Reshape 'y'"; empty if none does, which is where twice some allowed size is allowed too. A
    size that is allowed may still not run, for a reason that shapes do not show.
    """

    allowed: Mask
    cause: str = ""

    def fixed(self) -> list[InputSize]:
        """The allowed sizes of a graph that fixes its size, the likeliest first; none for other graphs.

        Sizes that can be halved more often come before others, then those that are more nearly square.
        """
        if not self.cause:
            return []
        sizes = (InputSize(int(row) + 1, int(column) + 1) for row, column in np.argwhere(self.allowed))
        return sorted(sizes, key=_likelihood_key)

    def admits(self, height: int, width: int) -> bool:
        """True if the size is allowed; sizes above `MAX_SIDE` were not tried and count as allowed."""
        return max(height, width) > MAX_SIDE or bool(self.allowed[height - 1, width - 1])

    def nearest(self, height: int, width: int) -> InputSize | None:
        """The allowed size with the smallest difference to this one; None if no size is allowed."""
        if not self.allowed.any():
            return None
        sides = np.arange(1, MAX_SIDE + 1)
        distances = np.abs(sides - height)[:, None] + np.abs(sides - width)[None, :]
        index = int(np.where(self.allowed, distances, 2 * MAX_SIDE).argmin())
        return InputSize(index // MAX_SIDE + 1, index % MAX_SIDE + 1)


def _likelihood_key(size: InputSize) -> tuple[int, float, int]:
    height, width = size.height, size.width
    halvings = sum((side & -side).bit_length() for side in (height, width))
    return -halvings, max(height, width) / min(height, width), height


class _Equation(NamedTuple):
    """Two lengths that an operation requires to be equal."""

    cause: str
    left: SymbolicSize
    right: SymbolicSize

    def solutions(self) -> Mask:
        """Where it holds: (heights, widths), or 1 in place of an axis on which it does not depend."""
        (left, left_divisor), (right, right_divisor) = _evaluated(self.left), _evaluated(self.right)
        return np.asarray(left * right_divisor == right * left_divisor)


class _Length(NamedTuple):
    """The length of an axis, which must be a whole number of at least 1."""

    cause: str
    length: SymbolicSize

    def solutions(self) -> Mask:
        """Where it holds: (heights, widths), or 1 in place of an axis on which it does not depend."""
        dividend, divisor = _evaluated(self.length)
        return np.asarray((dividend % divisor == 0) & (dividend >= divisor))


# Example: an export of (1, 3, 24, 40) whose last operations are Reshape (1, 12, H, W) -> (1, 3, 2, 2, 24, 40)
# and Transpose and Reshape -> (1, 3, 48, 80). The first reshape keeps the number of elements: 12 H W = 11520.
# Allowed are the 28 sizes with H W = 960: 24x40 and 40x24, but also 30x32. Which of them the network was made
# for follows from its output (`fixed_sizes_of_picture_network`): 48x80 is twice 24x40, and no multiple of
# another of these sizes.
def valid_sizes(graph: Graph, declared: Mapping[str, Value]) -> ValidSizes:
    """The valid sizes of a graph whose inputs of three or more axes end in height and width.

    declared: shapes of values behind operations that the analysis does not support, where they are known.
    Open dimensions other than height and width count as 1.
    """
    shapes = infer_shapes(with_named_sides(graph), declared)
    allowed, cause = np.ones((MAX_SIDE, MAX_SIDE), np.bool_), ""
    seen = set[tuple[object, ...]]()
    for requirement in _requirements(graph, shapes):
        if requirement[1:] in seen:
            continue
        seen.add(requirement[1:])
        with suppress(KeyError):  # a length depends on an operation that the analysis does not support
            allowed &= requirement.solutions()
        if not cause and not (allowed[1::2, 1::2] & allowed[: MAX_SIDE // 2, : MAX_SIDE // 2]).any():
            cause = requirement.cause
    return ValidSizes(allowed, cause)


def _evaluated(size: SymbolicSize) -> tuple[Grid, int]:
    """The size for every height (axis 0) and width (axis 1) from 1 to `MAX_SIDE`: dividend and divisor.

    Raises KeyError if it depends on anything but height and width.
    """
    sides = np.arange(1, MAX_SIDE + 1, dtype=np.int64)
    known = {symbol_of(HEIGHT_NAME): sides[:, None], symbol_of(WIDTH_NAME): sides[None, :]}
    divisor = lcm(*(factor.denominator for _, factor in size.terms))
    total = np.zeros((1, 1), np.int64)
    for monomial, factor in size.terms:
        powers = (_value(symbol, known) ** exponent for symbol, exponent in monomial)
        total = total + reduce(np.multiply, powers, np.full((1, 1), int(factor * divisor)))
    return total, divisor


def _value(symbol: Symbol, known: Mapping[str, Grid]) -> Grid:
    if isinstance(symbol, FloorDivision):
        dividend, divisor = _evaluated(symbol.dividend)
        return dividend // (divisor * symbol.divisor)
    return known[symbol]


def with_named_sides(graph: Graph) -> Graph:
    """The graph with the same names for the open heights and widths of all inputs, other open sizes 1."""
    inputs = {name: replace(value, shape=_named_sides(value.shape)) for name, value in graph.inputs.items()}
    return replace(graph, inputs=inputs)


def _named_sides(shape: Shape) -> Shape:
    names = {len(shape) - 2: HEIGHT_NAME, len(shape) - 1: WIDTH_NAME} if len(shape) > 2 else {}
    return tuple(side if isinstance(side, int) else names.get(k, 1) for k, side in enumerate(shape))


def _requirements(graph: Graph, shapes: Shapes) -> Iterator[_Equation | _Length]:
    """Everything that the operations require of lengths, in the order of the operations."""
    for node in graph.nodes:
        names = [name for name in node.inputs if name]
        if all(name in shapes for name in names):
            inputs = [shapes[name] for name in names]
            yield from _equations_of(node, inputs, shapes.get(node.outputs[0]))
        lengths = dict.fromkeys(length for name in node.outputs for length in shapes.get(name, ()))
        yield from (_Length(described(node), length) for length in lengths if length.number is None)


def _equations_of(node: Node, inputs: Sequence[Lengths], output: Lengths | None) -> Iterator[_Equation]:
    """What one operation requires of the shapes that it reads; of a Reshape, that it keeps all elements."""
    cause = described(node)
    if node.kind == "Reshape" and output is not None:
        yield _Equation(cause, prod(inputs[0], start=as_size(1)), prod(output, start=as_size(1)))
    elif node.kind in BROADCASTING:
        yield from _broadcast_equations(cause, inputs)
    elif node.kind == "Concat":
        axis = int_attribute(node, "axis", 0) % max(1, len(inputs[0]))
        yield from _concatenation_equations(cause, inputs, axis)
    elif node.kind == "MatMul" and min(map(len, inputs)) > 1:
        yield _Equation(cause, inputs[0][-1], inputs[1][-2])
    elif node.kind in ("Conv", "BatchNormalization") and len(inputs[0]) > 1:
        yield _Equation(cause, inputs[0][1], as_size(_channels_read(node, inputs[1])))


def _broadcast_equations(cause: str, inputs: Sequence[Lengths]) -> Iterator[_Equation]:
    """Axes, aligned at the last one, are equal, unless one of them has one element for every picture."""
    for shape in inputs[1:]:
        for one, other in zip(reversed(inputs[0]), reversed(shape), strict=False):
            if 1 not in (one.number, other.number):
                yield _Equation(cause, one, other)


def _concatenation_equations(cause: str, inputs: Sequence[Lengths], axis: int) -> Iterator[_Equation]:
    """All axes but the one along which the inputs are joined are equal."""
    for shape in inputs[1:]:
        pairs = zip(inputs[0], shape, strict=False)
        yield from (_Equation(cause, *pair) for k, pair in enumerate(pairs) if k != axis)


def _channels_read(node: Node, weight: Lengths) -> int:
    """The number of channels that a convolution or batch normalization with a weight of this shape reads."""
    read = weight[1] * int_attribute(node, "group", 1) if node.kind == "Conv" else weight[0]
    return int(read.number or 0)


def with_open_channels_resolved(graph: Graph, declared: Mapping[str, Value]) -> Graph:
    """The graph with the open channels of its input pictures replaced by those that its weights require.

    They are the channels of the first convolution that reads the input, or else the first of
    `COMMON_CHANNELS` for which all shapes fit. Channels that stay unknown stay open.
    """
    for name, value in graph.inputs.items():
        if len(value.shape) == 4 and not isinstance(value.shape[1], int):
            channels = channels_of_first_convolution(graph, name)
            candidates = COMMON_CHANNELS if channels is None else (channels,)
            graph = next(
                (
                    candidate
                    for number in candidates
                    if valid_sizes(candidate := with_channels(graph, name, number), declared).allowed.any()
                ),
                graph,
            )
    return graph


def with_channels(graph: Graph, name: str, channels: int) -> Graph:
    """The graph with the channels of one input picture (N, C, H, W) fixed."""
    value = graph.inputs[name]
    shape = (value.shape[0], channels, *value.shape[2:])
    return replace(graph, inputs={**graph.inputs, name: replace(value, shape=shape)})


def with_input_size(graph: Graph, name: str, size: InputSize) -> Graph:
    """The graph with the height and width, and the channels if they are open, of one input picture fixed.

    Raises OnebranchError if the graph declares another size.
    """
    value = graph.inputs[name]
    batch, channels, *sides = value.shape if len(value.shape) == 4 else (1, "channels", "height", "width")
    for declared, wanted in zip((channels, *sides), (size.channels, size.height, size.width), strict=True):
        if isinstance(declared, int) and wanted not in (None, declared):
            shape = "x".join(map(str, (channels, *sides)))
            raise OnebranchError(f"its input '{name}' is declared as {shape}, which {size} does not fit")
    known: Shape = (batch, size.channels or channels, size.height, size.width)
    fixed = replace(graph, inputs={**graph.inputs, name: replace(value, shape=known)})
    return fixed if isinstance(known[1], int) else with_open_channels_resolved(fixed, {})
