"""Symbolic tensors: the axes of a value, factored, with the receptive fields of its rows and columns.

An axis is a product of factors, outermost first: constants (channels, heads, the pixels of an attention
window) and the picture's rows and columns. Reshapes and transposes regroup factors, so that pixel shuffles,
windows and tokens are followed exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.receptive_field import AxisReceptiveField, shuffled, unshuffled, windowed
from onebranch.graph.analysis.symbolic_size import (
    HEIGHT,
    WIDTH,
    SymbolicSize,
    UndeterminedSizeError,
    as_size,
    quotient,
)

ROWS, COLUMNS = "rows", "columns"

Factor = int | str | SymbolicSize
"""A constant above 1, `ROWS`, `COLUMNS`, or a symbolic size whose relation to the picture is not known."""

Axis = tuple[Factor, ...]
"""Factors, outermost first; an axis of one element has none."""


@dataclass(frozen=True)
class SymbolicTensor:
    """The axes of a value, and the receptive fields of rows and columns where they are among the factors.

    is_global: True if an element may depend on pixels outside of its receptive field. input_size: height and
    width of the picture, `HEIGHT` and `WIDTH` where they are open.

    A picture (1, 3, H, W) has the axes ((), (3,), (ROWS,), (COLUMNS,)).
    """

    axes: tuple[Axis, ...]
    receptive_fields: Mapping[str, AxisReceptiveField] = dataclasses.field(default_factory=dict)
    is_global: bool = False
    input_size: tuple[SymbolicSize, SymbolicSize] = (HEIGHT, WIDTH)

    @property
    def shape(self) -> list[SymbolicSize]:
        """The size of every axis."""
        return [prod((self.size(factor) for factor in axis), start=as_size(1)) for axis in self.axes]

    def size(self, factor: Factor) -> SymbolicSize:
        """The number of elements of a factor. Raises UndeterminedSizeError if that is not an integer."""
        if not isinstance(factor, str):
            return as_size(factor)
        field = self.receptive_fields[factor]
        size = self.input_size[factor == COLUMNS] * field.scale + field.extra
        if size.number is not None and size.number.denominator != 1:
            raise UndeterminedSizeError(f"{size.number} {factor} is not an integer")
        return size

    def with_axis(self, index: int, axis: Axis) -> SymbolicTensor:
        """The tensor with one axis replaced."""
        return replace(self, axes=(*self.axes[:index], axis, *self.axes[index + 1 :]))

    def with_receptive_field(self, factor: str, field: AxisReceptiveField) -> SymbolicTensor:
        """The tensor with the receptive field of `ROWS` or `COLUMNS` replaced."""
        return replace(self, receptive_fields={**self.receptive_fields, factor: field})


def is_constant_axis(axis: Axis) -> bool:
    """True if the length of an axis does not depend on the picture."""
    return all(isinstance(factor, int) for factor in axis)


def constant_axis(length: int) -> Axis:
    """An axis of constant length."""
    return (length,) if length != 1 else ()


def axis_length(axis: Axis) -> int:
    """The number of elements of a constant axis."""
    return prod(factor for factor in axis if isinstance(factor, int))


def constant_tensor(
    shape: Sequence[int], input_size: tuple[SymbolicSize, SymbolicSize] = (HEIGHT, WIDTH)
) -> SymbolicTensor:
    """A tensor of constant shape that does not depend on the picture."""
    return SymbolicTensor(tuple(constant_axis(int(side)) for side in shape), input_size=input_size)


def global_tensor(shape: Sequence[SymbolicSize], like: SymbolicTensor) -> SymbolicTensor:
    """A tensor of that shape whose elements depend on the whole picture.

    Axes that grow with the height are taken as rows, axes that grow with the width as columns.
    """
    axes: list[Axis] = []
    fields: dict[str, AxisReceptiveField] = {}
    for size in shape:
        factor = _factor_of_size(size, fields)
        axes.append(constant_axis(factor) if isinstance(factor, int) else (factor,))
    return SymbolicTensor(tuple(axes), fields, True, like.input_size)


def _factor_of_size(size: SymbolicSize, fields: dict[str, AxisReceptiveField]) -> Factor:
    """The factor of an axis of this size.

    It is the number of a constant size, `ROWS` (`COLUMNS`) for the first size of the form a H + b (a W + b),
    whose receptive field is added to `fields`, and the size itself otherwise.
    """
    if size.number is not None:
        return _element_count(size.number)
    for name, side in ((ROWS, HEIGHT), (COLUMNS, WIDTH)):
        terms = dict(size.terms)
        scale, extra = terms.pop(side.terms[0][0], Fraction(0)), terms.pop((), Fraction(0))
        if scale > 0 and not terms and extra.denominator == 1 and name not in fields:
            scaled = AxisReceptiveField(scale.numerator, scale.denominator)
            fields[name] = windowed(scaled, 1, pads=(0, int(extra)))
            return name
    return size


def _element_count(number: Fraction) -> int:
    if number.denominator != 1 or number < 0:
        raise UndeterminedSizeError(f"an axis would have {number} elements")
    return int(number)


def permuted(tensor: SymbolicTensor, order: Sequence[int]) -> SymbolicTensor:
    """The tensor with its axes in another order."""
    return replace(tensor, axes=tuple(tensor.axes[index] for index in order))


def broadcast(tensors: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """The result of an element-wise operation on tensors, with numpy's broadcasting.

    Raises OnebranchError if their sizes cannot be broadcast.
    """
    axes = _common_axes(tensors)
    spatial = [factor for axis in axes or () for factor in axis if isinstance(factor, str)]
    if axes is None or len(set(spatial)) < len(spatial):
        return global_tensor(_broadcast_shape([tensor.shape for tensor in tensors]), tensors[0])
    fields = {name: _common_field(name, tensors) for name in spatial}
    is_global = any(tensor.is_global for tensor in tensors)
    return SymbolicTensor(axes, fields, is_global, tensors[0].input_size)


def _common_axes(tensors: Sequence[SymbolicTensor]) -> tuple[Axis, ...] | None:
    """The axes of the broadcast tensors; None if two tensors differ in an axis of more than one element."""
    rank = max(len(tensor.axes) for tensor in tensors)
    aligned = [[()] * (rank - len(tensor.axes)) + list(tensor.axes) for tensor in tensors]
    distinct = [{axis for axis in axes if axis} for axes in zip(*aligned, strict=True)]
    if any(len(axes) > 1 for axes in distinct):
        return None
    return tuple(axes.pop() if axes else () for axes in distinct)


def _common_field(name: str, tensors: Sequence[SymbolicTensor]) -> AxisReceptiveField:
    """The union of the tensors' receptive fields along rows or columns."""
    fields = [tensor.receptive_fields[name] for tensor in tensors if name in tensor.receptive_fields]
    if len({(field.p, field.q, field.extra) for field in fields}) > 1:
        raise OnebranchError("joins pictures of different scales or sizes")
    first, last = min(field.first for field in fields), max(field.last for field in fields)
    return replace(fields[0], first=first, last=last)


def _broadcast_shape(shapes: Sequence[Sequence[SymbolicSize]]) -> list[SymbolicSize]:
    rank = max(len(shape) for shape in shapes)
    aligned = [[as_size(1)] * (rank - len(shape)) + list(shape) for shape in shapes]
    result = []
    for sizes in zip(*aligned, strict=True):
        distinct = {size for size in sizes if size.number != 1}
        if len(distinct) > 1:
            raise OnebranchError("joins values whose sizes do not fit")
        result.append(distinct.pop() if distinct else as_size(1))
    return result


def reshaped(tensor: SymbolicTensor, shape: Sequence[SymbolicSize]) -> SymbolicTensor:
    """The tensor reshaped to these sizes; it is global if regrouping its factors does not give them."""
    factors = [factor for axis in tensor.axes for factor in axis]
    axes: list[Axis] = []
    for size in shape:
        taken = _take_axis(tensor, factors, size)
        if taken is None:
            return global_tensor(shape, tensor)
        tensor, axis, factors = taken
        axes.append(axis)
    if factors:
        return global_tensor(shape, tensor)
    return _merge_factors(replace(tensor, axes=tuple(axes)))


# Example: a pixel unshuffle by 2 begins by reshaping (1, 3, H, W) to (1, 3, H/2, 2, W/2, 2). The factors are
# [3, rows, columns], and the axes are taken one after the other:
#   wanted 1:   ()         left [3, rows, columns]
#   wanted 3:   (3,)       left [rows, columns]
#   wanted H/2: (rows,)    left [2, columns]: H / (H/2) = 2, so rows are split into H/2 rows, which have the
#                          receptive field of a window of 2 with stride 2, and a factor of 2
#   wanted 2:   (2,)       left [columns]
#   wanted W/2: (columns,) left [2]
#   wanted 2:   (2,)       left []
def _take_axis(
    tensor: SymbolicTensor, factors: list[Factor], wanted: SymbolicSize
) -> tuple[SymbolicTensor, Axis, list[Factor]] | None:
    """The tensor, an axis of the wanted size made of the first factors, and the factors that remain.

    If the last factor taken is larger than needed, it is split, and the tensor's receptive field along it is
    updated. None if no axis of that size can be made.
    """
    axis: Axis = ()
    while wanted.number != 1:
        if not factors:
            return None
        factor, factors = factors[0], factors[1:]
        size = tensor.size(factor)
        remaining, excess = _integer_ratio(wanted, size), _integer_ratio(size, wanted)
        if remaining is not None:
            axis, wanted = (*axis, factor), remaining
        elif excess is not None and excess.number is not None and not isinstance(factor, SymbolicSize):
            return _split_factor(tensor, axis, factor, int(excess.number), factors)
        else:
            return None
    return tensor, axis, factors


def _split_factor(
    tensor: SymbolicTensor, axis: Axis, factor: int | str, excess: int, factors: list[Factor]
) -> tuple[SymbolicTensor, Axis, list[Factor]]:
    """The axis with factor / excess appended, and `excess` put back in front of the factors left."""
    if isinstance(factor, int):
        return tensor, (*axis, factor // excess), [excess, *factors]
    coarse = unshuffled(tensor.receptive_fields[factor], excess)
    return tensor.with_receptive_field(factor, coarse), (*axis, factor), [excess, *factors]


def _integer_ratio(size: SymbolicSize, divisor: SymbolicSize) -> SymbolicSize | None:
    """size / divisor; None if that is not a polynomial, zero, or a constant that is not an integer."""
    try:
        result = quotient(size, divisor)
    except UndeterminedSizeError:
        return None
    is_fraction = result.number is not None and result.number.denominator != 1
    return result if result.terms and not is_fraction else None


# Example: the end of a pixel shuffle by 2. The axis (rows, 2), where rows are H rows of scale 1, becomes the
# axis (rows,) of 2 H rows of scale 2. The axis (4, 3) becomes (12,).
def _merge_factors(tensor: SymbolicTensor) -> SymbolicTensor:
    """Multiplies adjacent constants; turns rows or columns and a constant into finer rows or columns."""
    axes = []
    for axis in tensor.axes:
        merged: list[Factor] = []
        for factor in axis:
            if isinstance(factor, int) and merged and isinstance(before := merged[-1], int):
                merged[-1] = before * factor
            elif isinstance(factor, int) and merged and isinstance(before := merged[-1], str):
                finer = shuffled(tensor.receptive_fields[before], factor)
                tensor = tensor.with_receptive_field(before, finer)
            else:
                merged.append(factor)
        axes.append(tuple(merged))
    return replace(tensor, axes=tuple(axes))
