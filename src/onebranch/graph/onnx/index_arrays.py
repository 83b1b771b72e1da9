"""Arrays whose elements follow from sizes: indices, and constants repeated along axes.

PyTorch's exporters write `y[:, :, 0:1] = b` as a ScatterND whose indices are sums of Ranges and whose updates
are an expanded constant. Both kinds of arrays are followed symbolically, for every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onebranch.graph.analysis.shapes import Shapes
from onebranch.graph.analysis.state import axis_index, int_attribute, ints_attribute
from onebranch.graph.analysis.symbolic_size import SymbolicSize, as_size
from onebranch.graph.operations import Graph, Node

INTEGER_TYPES = (6, 7)
"""ONNX's numbers of int32 and int64."""

FLOAT_TYPES = (1, 11)
"""ONNX's numbers of float32 and float64."""

SymbolicShape = tuple[SymbolicSize, ...]

RESHAPES = ("Reshape", "Unsqueeze", "Squeeze", "Flatten")


@dataclass(frozen=True)
class IndexArray:
    """The integer array with the element base + sum of coefficients[k] * i_k at position (i_0, i_1, ...).

    The indices of rows 2 and 3 as a column vector: shape (2, 1), base 2, coefficients (1, 0).
    """

    shape: SymbolicShape
    base: SymbolicSize
    coefficients: tuple[int, ...]


class Repeated(NamedTuple):
    """An array that varies along one axis only: values (n,), repeated along all others."""

    values: np.ndarray
    axis: int


class IndexArrayReader:
    """Follows index arrays and repeated constants through the operations of a graph."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self._constants, self._shapes = graph.constants, shapes
        self._makers = {name: node for node in graph.nodes for name in node.outputs}

    def index_tuples(self, name: str) -> list[IndexArray] | None:
        """The k components of an array of index tuples (..., k), each of shape (...); None if unknown."""
        if name in self._constants:
            array = self._constants[name]
            parts = [_fitted(array[..., k]) for k in range(array.shape[-1])] if array.ndim else []
            return _all_known(parts)
        node = self._makers.get(name)
        if node is not None and node.kind == "Identity":
            return self.index_tuples(node.inputs[0])
        rank = len(self._shapes.get(name, ()))
        if node is not None and node.kind == "Concat" and rank:
            if axis_index(int_attribute(node, "axis", 0), rank) == rank - 1:
                return _all_known([_without_last_axis(self.index_array(part)) for part in node.inputs])
            return None
        return _all_known([_without_last_axis(self.index_array(name))])

    def index_array(self, name: str) -> IndexArray | None:
        """An array of indices as a function of the position; None if unknown."""
        if name in self._constants:
            return _fitted(self._constants[name])
        node, shape = self._makers.get(name), tuple(self._shapes.get(name, ()))
        if node is None or name not in self._shapes:
            return None
        if node.kind == "Range":
            return self._range(node, shape)
        if node.kind == "Add":
            return _added([self.index_array(part) for part in node.inputs], shape)
        return self._moved(node, shape)

    def _range(self, node: Node, shape: SymbolicShape) -> IndexArray | None:
        start, step = (self._constants.get(node.inputs[k]) for k in (0, 2))
        if start is None or step is None or step.dtype.kind != "i":
            return None
        return IndexArray(shape, as_size(int(start)), (int(step),))

    def _moved(self, node: Node, shape: SymbolicShape) -> IndexArray | None:
        """An index array after an operation that selects or rearranges its elements."""
        is_cast = node.kind == "Cast" and int_attribute(node, "to", 0) in INTEGER_TYPES
        inner = self.index_array(node.inputs[0]) if node.inputs else None
        if inner is None:
            return None
        if node.kind == "Identity" or is_cast:
            return inner
        if node.kind == "Slice":
            return self._sliced(node, inner, shape)
        if node.kind == "Expand":
            return _added([inner], shape)
        if node.kind in RESHAPES and (axes := _moved_axes(inner.shape, shape)) is not None:
            coefficients = [0] * len(shape)
            for old, new in axes.items():
                coefficients[new] = inner.coefficients[old]
            return IndexArray(shape, inner.base, tuple(coefficients))
        return None

    def _sliced(self, node: Node, inner: IndexArray, shape: SymbolicShape) -> IndexArray | None:
        starts, _, axes, steps = (self._constants.get(name) for name in (*node.inputs[1:], "", "", "")[:4])
        if starts is None or axes is None or len(starts) != 1:
            return None
        if len(node.inputs) > 4 and (steps is None or steps.tolist() != [1]):
            return None
        axis, start = axis_index(int(axes[0]), len(inner.shape)), int(starts[0])
        first = as_size(start) if start >= 0 else inner.shape[axis] + start
        return IndexArray(shape, inner.base + first * inner.coefficients[axis], inner.coefficients)

    def repeated(self, name: str) -> Repeated | None:
        """A constant that is repeated along all axes but one; None if unknown."""
        if name in self._constants:
            return _repeated_constant(self._constants[name])
        node = self._makers.get(name)
        if node is None or not node.inputs or name not in self._shapes:
            return None
        inner = self.repeated(node.inputs[0])
        axis = None if inner is None else self._axis_after(node, inner.axis)
        return None if inner is None or axis is None else Repeated(inner.values, axis)

    def _axis_after(self, node: Node, axis: int) -> int | None:
        """The axis that an axis of the first input becomes; None if the operation is not followed."""
        before, after = (tuple(self._shapes[name]) for name in (node.inputs[0], node.outputs[0]))
        if node.kind == "Identity" or (node.kind == "Cast" and int_attribute(node, "to", 0) in FLOAT_TYPES):
            return axis
        if node.kind == "Transpose":
            return ints_attribute(node, "perm", range(len(before))[::-1]).index(axis)
        if node.kind == "Expand":
            return axis + len(after) - len(before)
        axes = _moved_axes(before, after) if node.kind in RESHAPES else None
        return None if axes is None else axes.get(axis)


def _all_known(parts: Sequence[IndexArray | None]) -> list[IndexArray] | None:
    known = [part for part in parts if part is not None]
    return known if known and len(known) == len(parts) else None


def _fitted(array: np.ndarray) -> IndexArray | None:
    """A constant array as a function of the position; None if it is not linear."""
    if array.dtype.kind != "i" or not array.size:
        return None
    origin = (0,) * array.ndim
    coefficients = []
    for axis, length in enumerate(array.shape):
        second = tuple(int(k == axis) for k in range(array.ndim))
        coefficients.append(int(array[second] - array[origin]) if length > 1 else 0)
    expected = array[origin] + sum(
        (c * i for c, i in zip(coefficients, np.indices(array.shape), strict=True)),
        np.zeros(array.shape, int),
    )
    if not np.array_equal(array, expected):
        return None
    return IndexArray(tuple(map(as_size, array.shape)), as_size(int(array[origin])), tuple(coefficients))


def _without_last_axis(array: IndexArray | None) -> IndexArray | None:
    """An array (..., 1) as an array (...)."""
    if array is None or not array.shape or array.shape[-1].number != 1:
        return None
    return IndexArray(array.shape[:-1], array.base, array.coefficients[:-1])


def _added(arrays: Sequence[IndexArray | None], shape: SymbolicShape) -> IndexArray | None:
    """The sum of index arrays that are broadcast to a shape."""
    base, coefficients = as_size(0), [0] * len(shape)
    for array in arrays:
        if array is None or len(array.shape) > len(shape):
            return None
        base = base + array.base
        for axis, (coefficient, size) in enumerate(
            zip(array.coefficients, array.shape, strict=True), len(shape) - len(array.shape)
        ):
            coefficients[axis] += 0 if size.number == 1 else coefficient
    return IndexArray(shape, base, tuple(coefficients))


def _moved_axes(before: SymbolicShape, after: SymbolicShape) -> dict[int, int] | None:
    """Old to new axes where a reshape only adds or removes axes of length 1; None if it does more."""
    old = [axis for axis, size in enumerate(before) if size.number != 1]
    new = [axis for axis, size in enumerate(after) if size.number != 1]
    if [before[axis] for axis in old] != [after[axis] for axis in new]:
        return None
    return dict(zip(old, new, strict=True))


def _repeated_constant(array: np.ndarray) -> Repeated | None:
    if array.dtype.kind != "f" or not array.size or not array.ndim:
        return None
    varying = [
        axis for axis in range(array.ndim) if not np.array_equal(array, np.take(array, [0], axis) + 0 * array)
    ]
    if len(varying) > 1:
        return None
    axis = varying[0] if varying else min(1, array.ndim - 1)
    kept = array[tuple(slice(None) if k == axis else 0 for k in range(array.ndim))]
    return Repeated(np.atleast_1d(kept), axis)
