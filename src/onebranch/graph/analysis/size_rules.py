"""Analysis rules for arithmetic on sizes: `Shape`, and the operations that compute shapes from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, trunc

import numpy as np

from onebranch.graph.analysis.state import (
    MAX_SIZE_VALUES,
    AnalysisState,
    SizeArray,
    SymbolicValues,
    UnsupportedOperationError,
    axis_index,
    constant_size,
    input_name,
    int_attribute,
    ints_attribute,
)
from onebranch.graph.analysis.symbolic_size import SymbolicSize, as_size, quotient, sign
from onebranch.graph.operations import Node

Arithmetic = Callable[[SymbolicSize, SymbolicSize, bool, AnalysisState], SymbolicSize]
"""A function of two sizes, of whether both have an integer type, and of the state."""

Operation = Callable[[Node, list[SymbolicValues], AnalysisState], list[SymbolicValues]]
"""A function from an operation, its inputs as symbolic values, and the state to its outputs."""


def evaluate_sizes(node: Node, state: AnalysisState) -> list[SymbolicValues] | None:
    """The outputs of an operation on sizes; None if one of its inputs is not an array of sizes."""
    if node.kind in ("Shape", "Size"):
        return [_shape(node, state)]
    rule = _SIZE_RULES.get(node.kind)
    inputs = None if rule is None else _size_inputs(node, state)
    if rule is None or inputs is None:
        return None
    if node.kind in ("ConstantOfShape", "Expand", "Range") and not all(map(_is_constant, inputs[-2:])):
        return None
    return rule(node, inputs, state)


def _size_inputs(node: Node, state: AnalysisState) -> list[SymbolicValues] | None:
    """The inputs as symbolic values; None if one is not, or if all are constants.

    Constants are converted last, because the weights of a layer are constants with thousands of elements.
    """
    names = [name for name in node.inputs if name]
    computed = [name for name in names if name not in state.graph.constants]
    if not any(name in state.values for name in names):
        return None
    if not all(isinstance(state.values.get(name), SymbolicValues) for name in computed):
        return None
    inputs = [values for name in names if (values := state.symbolic_values(name)) is not None]
    return inputs if len(inputs) == len(names) else None


def _is_constant(numbers: SymbolicValues) -> bool:
    return all(size.number is not None for size in numbers.flat())


def _array(sizes: Sequence[SymbolicSize]) -> SizeArray:
    result = np.empty(len(sizes), object)
    result[:] = sizes
    return result


def _shape(node: Node, state: AnalysisState) -> SymbolicValues:
    tensor = state.tensor(node.inputs[0])
    if node.kind == "Size":
        return SymbolicValues(np.array(np.prod(_array([as_size(1), *tensor.shape])), object), True)
    rank = len(tensor.axes)
    return SymbolicValues(
        _array(tensor.shape)[int_attribute(node, "start", 0) : int_attribute(node, "end", rank)], True
    )


def _elementwise(arithmetic: Arithmetic) -> Operation:
    def rule(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
        is_integer = all(numbers.is_integer for numbers in inputs)
        result = inputs[0].values
        for other in inputs[1:]:
            one, two = np.broadcast_arrays(result, other.values)
            pairs = zip(one.flat, two.flat, strict=True)
            result = _array([arithmetic(a, b, is_integer, state) for a, b in pairs]).reshape(one.shape)
        return [SymbolicValues(result, is_integer)]

    return rule


def _each(change: Callable[[SymbolicSize, AnalysisState], SymbolicSize]) -> Operation:
    def rule(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
        changed = _array([change(size, state) for size in inputs[0].flat()])
        return [SymbolicValues(changed.reshape(inputs[0].values.shape), inputs[0].is_integer)]

    return rule


def _rearranged(move: Callable[[Node, list[SymbolicValues], AnalysisState], SizeArray]) -> Operation:
    """A rule for an operation that selects or rearranges elements."""

    def rule(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
        return [SymbolicValues(move(node, inputs, state), inputs[0].is_integer)]

    return rule


def _divided(one: SymbolicSize, two: SymbolicSize, is_integer: bool, state: AnalysisState) -> SymbolicSize:
    result = quotient(one, two)
    if not is_integer:
        return result
    return as_size(trunc(result.number)) if result.number is not None else state.floored(result)


def _remainder(one: SymbolicSize, two: SymbolicSize, is_integer: bool, state: AnalysisState) -> SymbolicSize:
    return one - state.floored(quotient(one, two)) * two


def _larger(one: SymbolicSize, two: SymbolicSize, is_integer: bool, state: AnalysisState) -> SymbolicSize:
    return one if sign(one - two) >= 0 else two


def _smaller(one: SymbolicSize, two: SymbolicSize, is_integer: bool, state: AnalysisState) -> SymbolicSize:
    return two if sign(one - two) >= 0 else one


def _compared(holds: Callable[[int], bool]) -> Arithmetic:
    return lambda one, two, is_integer, state: as_size(int(holds(sign(one - two))))


def _power(one: SymbolicSize, two: SymbolicSize, is_integer: bool, state: AnalysisState) -> SymbolicSize:
    exponent = constant_size(two)
    if exponent.denominator != 1 or not 0 <= exponent <= 4:
        raise UnsupportedOperationError(f"a size to the power of {exponent}")
    result = as_size(1)
    for _ in range(int(exponent)):
        result = result * one
    return result


def _cast(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
    if int_attribute(node, "to", 1) in (1, 10, 11, 16):  # float32, float16, float64, bfloat16
        return [SymbolicValues(inputs[0].values, False)]
    if inputs[0].is_integer:
        return inputs
    whole = _each(lambda size, state: state.floored(size))(node, inputs, state)[0]
    return [SymbolicValues(whole.values, True)]


def _gather(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    indices = np.array([int(constant_size(size)) for size in inputs[1].flat()], int).reshape(
        inputs[1].values.shape
    )
    return np.asarray(np.take(inputs[0].values, indices, int_attribute(node, "axis", 0)), object)


def _slice(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    starts, ends = state.integers(node.inputs[1]), state.integers(node.inputs[2])
    values, name = inputs[0].values, input_name(node, 3)
    axes = state.integers(name) if name else list(range(len(starts)))
    steps = state.integers(name) if (name := input_name(node, 4)) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = [slice(None)] * values.ndim
        index[axis_index(axis, values.ndim)] = slice(*_bounds(start, end, step, values.shape[axis]))
        values = values[tuple(index)]
    return values


def _bounds(start: int, end: int, step: int, length: int) -> tuple[int, int | None, int]:
    begin, stop, step = slice(start, end, step).indices(length)
    return begin, (None if stop < 0 else stop), step


def _concatenated(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    return np.concatenate([numbers.values for numbers in inputs], int_attribute(node, "axis", 0))


def _unsqueezed(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    return np.expand_dims(inputs[0].values, tuple(state.integers(node.inputs[1])))


def _squeezed(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    name = input_name(node, 1)
    return np.asarray(np.squeeze(inputs[0].values, tuple(state.integers(name)) if name else None), object)


def _reshaped(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    return inputs[0].values.reshape(state.integers(node.inputs[1]))


def _expanded(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    shape = tuple(state.integers(node.inputs[1]))
    return np.broadcast_to(inputs[0].values, np.broadcast_shapes(inputs[0].values.shape, shape)).copy()


def _where(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
    condition, one, two = np.broadcast_arrays(*(numbers.values for numbers in inputs))
    triples = zip(condition.flat, one.flat, two.flat, strict=True)
    chosen = _array([a if constant_size(holds) else b for holds, a, b in triples])
    return [SymbolicValues(chosen.reshape(condition.shape), inputs[1].is_integer)]


def _reduced(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> SizeArray:
    values = inputs[0].values
    if values.ndim > 1 or not values.size:
        raise UnsupportedOperationError(f"{node.kind} '{node.outputs[0]}' of a table of sizes")
    start = as_size(1 if node.kind == "ReduceProd" else 0)
    for size in inputs[0].flat():
        start = start * size if node.kind == "ReduceProd" else start + size
    return (
        _array([start])
        if int_attribute(node, "keepdims", 1) and values.ndim
        else _array([start])[0:1].reshape(())
    )


def _filled(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
    shape = tuple(int(constant_size(size)) for size in inputs[0].flat())
    value = node.attributes.get("value", 0.0)
    assert isinstance(value, int | float), "graph_of gives numbers"
    result = np.empty(shape, object)
    result[...] = as_size(Fraction(value))
    return [SymbolicValues(result, isinstance(value, int))]


def _range(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
    start, end, step = (constant_size(numbers.flat()[0]) for numbers in inputs)
    count = max(0, ceil((end - start) / step))
    if count > MAX_SIZE_VALUES:
        raise UnsupportedOperationError(f"it counts to {count}")
    return [SymbolicValues(_array([as_size(start + k * step) for k in range(count)]), inputs[0].is_integer)]


def _split(node: Node, inputs: list[SymbolicValues], state: AnalysisState) -> list[SymbolicValues]:
    values, name = inputs[0].values, input_name(node, 1)
    axis = int_attribute(node, "axis", 0)
    edges = np.cumsum(state.integers(name))[:-1].tolist() if name else len(node.outputs)
    return [SymbolicValues(part, inputs[0].is_integer) for part in np.array_split(values, edges, axis)]


_SIZE_RULES: dict[str, Operation] = {
    "Add": _elementwise(lambda one, two, is_integer, state: one + two),
    "Sub": _elementwise(lambda one, two, is_integer, state: one - two),
    "Mul": _elementwise(lambda one, two, is_integer, state: one * two),
    "Div": _elementwise(_divided),
    "Mod": _elementwise(_remainder),
    "Pow": _elementwise(_power),
    "Max": _elementwise(_larger),
    "Min": _elementwise(_smaller),
    "Equal": _elementwise(_compared(lambda order: order == 0)),
    "Greater": _elementwise(_compared(lambda order: order > 0)),
    "GreaterOrEqual": _elementwise(_compared(lambda order: order >= 0)),
    "Less": _elementwise(_compared(lambda order: order < 0)),
    "LessOrEqual": _elementwise(_compared(lambda order: order <= 0)),
    "Neg": _each(lambda size, state: size * -1),
    "Abs": _each(lambda size, state: size * (sign(size) or 1)),
    "Floor": _each(lambda size, state: state.floored(size)),
    "Ceil": _each(lambda size, state: state.floored(size * -1) * -1),
    "Not": _each(lambda size, state: as_size(1) - size),
    "Identity": lambda node, inputs, state: inputs,
    "Cast": _cast,
    "Gather": _rearranged(_gather),
    "Slice": _rearranged(_slice),
    "Concat": _rearranged(_concatenated),
    "Unsqueeze": _rearranged(_unsqueezed),
    "Squeeze": _rearranged(_squeezed),
    "Reshape": _rearranged(_reshaped),
    "Expand": _rearranged(_expanded),
    "Transpose": _rearranged(
        lambda node, inputs, state: inputs[0].values.transpose(
            ints_attribute(node, "perm", range(inputs[0].values.ndim)[::-1])
        )
    ),
    "Flatten": _rearranged(lambda node, inputs, state: inputs[0].values.reshape(1, -1)),
    "ReduceProd": _rearranged(_reduced),
    "ReduceSum": _rearranged(_reduced),
    "Where": _where,
    "ConstantOfShape": _filled,
    "Split": _split,
    "Range": _range,
}
"""Rules by operator."""
