"""Symbolic shapes of the values of any graph, exact for every size of its inputs.

An operation that the analysis does not support is opaque: its outputs have the shapes that are declared for
them, or unknown ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.rules import apply_rule
from onebranch.graph.analysis.state import (
    AnalysisState,
    AnalysisValue,
    SymbolicValues,
    axis_index,
    int_attribute,
)
from onebranch.graph.analysis.symbolic_size import (
    HEIGHT,
    WIDTH,
    SymbolicSize,
    as_size,
    floor_exactly,
    open_size,
)
from onebranch.graph.analysis.symbolic_tensor import SymbolicTensor, constant_axis, is_constant_axis
from onebranch.graph.operations import Graph, Node, Value

Shapes = Mapping[str, Sequence[SymbolicSize]]
"""Symbolic shapes by name; values of unknown rank are absent."""

MALFORMED = (OnebranchError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
"""What a rule raises for an operation that it does not support or whose attributes do not fit its inputs."""


class _ExactState(AnalysisState):
    """An analysis without assumptions about the sizes of inputs."""

    def floored(self, size: SymbolicSize) -> SymbolicSize:
        """The size rounded down, for every picture."""
        return floor_exactly(size)

    def floored_approximately(self, size: SymbolicSize) -> SymbolicSize:
        """The size rounded down, for every picture."""
        return floor_exactly(size)


def infer_shapes(graph: Graph, declared: Mapping[str, Value]) -> Shapes:
    """The symbolic shape of every value of known rank; equal symbolic shapes are equal for every input.

    declared: shapes of the outputs of opaque operations, where they are known; an empty shape is unknown.
    """
    state = _ExactState(graph, (HEIGHT, WIDTH))
    for name, value in graph.inputs.items():
        if value.shape:
            state.values[name] = _declared_tensor(value)
    for node in graph.nodes:
        _require_channels(node, state)
        values = dict(zip(node.outputs, _values_of(node, state), strict=False))
        for name in node.outputs:
            if name in values:
                state.values[name] = values[name]
            elif name in declared and declared[name].shape:
                state.values[name] = _declared_tensor(declared[name])
    return {name: state.tensor(name).shape for name in (*state.values, *graph.constants)}


def symbol_of(dimension: str) -> str:
    """The symbol of an open dimension of that name; it differs from `HEIGHT` and `WIDTH`."""
    return f"dimension {dimension}"


def _values_of(node: Node, state: AnalysisState) -> Sequence[AnalysisValue]:
    """The outputs of an operation; none if it is opaque."""
    with suppress(*MALFORMED):
        values = [_joined(node, state)] if node.kind == "Concat" else apply_rule(node, state)
        for value in values:
            _ = value.shape if isinstance(value, SymbolicTensor) else ()
        return values
    return ()


def _joined(node: Node, state: AnalysisState) -> AnalysisValue:
    """A concatenation. Along the other axes, the inputs must have the sizes of the first input."""
    values = [state.symbolic_values(name) for name in node.inputs]
    if None not in values and any(isinstance(state.values.get(name), SymbolicValues) for name in node.inputs):
        return apply_rule(node, state)[0]
    tensors = state.tensors(node)
    axis = axis_index(int_attribute(node, "axis", 0), len(tensors[0].axes))
    length = sum((tensor.shape[axis] for tensor in tensors), start=as_size(0))
    number = length.number
    return tensors[0].with_axis(axis, (length,) if number is None else constant_axis(int(number)))


def _declared_tensor(value: Value) -> SymbolicTensor:
    sizes = (side if isinstance(side, int) else open_size(symbol_of(side)) for side in value.shape)
    return SymbolicTensor(tuple(constant_axis(side) if isinstance(side, int) else (side,) for side in sizes))


def _require_channels(node: Node, state: AnalysisState) -> None:
    """Set the unknown channels of a value that a convolution or batch normalization reads, by its weight."""
    if node.kind not in ("Conv", "BatchNormalization") or node.inputs[0] in state.graph.constants:
        return
    picture, weight = node.inputs[0], state.graph.constants.get(node.inputs[1])
    if weight is None or weight.ndim not in (1, 4):
        return
    is_convolution = weight.ndim == 4
    channels = weight.shape[1] * int_attribute(node, "group", 1) if is_convolution else len(weight)
    tensor = state.values.get(picture)
    if tensor is None and is_convolution:
        tensor = _declared_tensor(Value(tuple(f"{picture}.{axis}" for axis in range(4))))
    if isinstance(tensor, SymbolicTensor) and len(tensor.axes) == 4 and not is_constant_axis(tensor.axes[1]):
        state.values[picture] = tensor.with_axis(1, constant_axis(channels))
