"""Rules for what is computed from sizes: `Shape`, and the arithmetic that makes the targets of reshapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, trunc

import numpy as np

from onebranch.graph.operations import Node
from onebranch.graph.seeing.scope import (
    MANY,
    Numbers,
    Objects,
    Scope,
    Unknown,
    axis_index,
    exact,
    input_name,
    integer,
    integers,
)
from onebranch.graph.seeing.size import Size, as_size, quotient, sign

Arithmetic = Callable[[Size, Size, bool, Scope], Size]
"""Two sizes, whether both are integers by type, the scope: their result."""

Operation = Callable[[Node, list[Numbers], Scope], list[Numbers]]
"""The operation, its inputs as sizes, the scope: its outputs."""


def numbers_of(node: Node, scope: Scope) -> list[Numbers] | None:
    """What an operation on sizes gives; None where it is not one, or is not on sizes alone."""
    if node.kind in ("Shape", "Size"):
        return [_shape(node, scope)]
    names, rule = [name for name in node.inputs if name], _RULES.get(node.kind)
    known = [scope.values[name] for name in names if name in scope.values]
    if rule is None or not known or not all(isinstance(value, Numbers) for value in known):
        return None
    found = [numbers for name in names if (numbers := scope.numbers(name)) is not None]
    if len(found) < len(names):
        return None
    if node.kind in ("ConstantOfShape", "Expand", "Range") and not all(map(_is_fixed, found[-2:])):
        return None
    return rule(node, found, scope)


def _is_fixed(numbers: Numbers) -> bool:
    return all(size.number is not None for size in numbers.flat())


def _array(sizes: Sequence[Size]) -> Objects:
    result = np.empty(len(sizes), object)
    result[:] = sizes
    return result


def _shape(node: Node, scope: Scope) -> Numbers:
    view = scope.view(node.inputs[0])
    if node.kind == "Size":
        return Numbers(np.array(np.prod(_array([as_size(1), *view.shape])), object), True)
    rank = len(view.axes)
    return Numbers(_array(view.shape)[integer(node, "start", 0) : integer(node, "end", rank)], True)


def _elementwise(arithmetic: Arithmetic) -> Operation:
    def rule(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
        integers_only = all(numbers.integers for numbers in found)
        result = found[0].values
        for other in found[1:]:
            one, two = np.broadcast_arrays(result, other.values)
            pairs = zip(one.flat, two.flat, strict=True)
            result = _array([arithmetic(a, b, integers_only, scope) for a, b in pairs]).reshape(one.shape)
        return [Numbers(result, integers_only)]

    return rule


def _each(change: Callable[[Size, Scope], Size]) -> Operation:
    def rule(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
        changed = _array([change(size, scope) for size in found[0].flat()])
        return [Numbers(changed.reshape(found[0].values.shape), found[0].integers)]

    return rule


def _moved(move: Callable[[Node, list[Numbers], Scope], Objects]) -> Operation:
    """Operations that put the numbers elsewhere."""

    def rule(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
        return [Numbers(move(node, found, scope), found[0].integers)]

    return rule


def _divided(one: Size, two: Size, integers_only: bool, scope: Scope) -> Size:
    result = quotient(one, two)
    if not integers_only:
        return result
    return as_size(trunc(result.number)) if result.number is not None else scope.rounded(result)


def _remainder(one: Size, two: Size, integers_only: bool, scope: Scope) -> Size:
    return one - scope.rounded(quotient(one, two)) * two


def _larger(one: Size, two: Size, integers_only: bool, scope: Scope) -> Size:
    return one if sign(one - two) >= 0 else two


def _smaller(one: Size, two: Size, integers_only: bool, scope: Scope) -> Size:
    return two if sign(one - two) >= 0 else one


def _compared(holds: Callable[[int], bool]) -> Arithmetic:
    return lambda one, two, integers_only, scope: as_size(int(holds(sign(one - two))))


def _power(one: Size, two: Size, integers_only: bool, scope: Scope) -> Size:
    exponent = exact(two)
    if exponent.denominator != 1 or not 0 <= exponent <= 4:
        raise Unknown(f"a size to the power of {exponent}")
    result = as_size(1)
    for _ in range(int(exponent)):
        result = result * one
    return result


def _cast(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
    if integer(node, "to", 1) in (1, 10, 11, 16):  # float32, float16, float64, bfloat16
        return [Numbers(found[0].values, False)]
    if found[0].integers:
        return found
    whole = _each(lambda size, scope: scope.rounded(size))(node, found, scope)[0]
    return [Numbers(whole.values, True)]


def _gather(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    indices = np.array([int(exact(size)) for size in found[1].flat()], int).reshape(found[1].values.shape)
    return np.asarray(np.take(found[0].values, indices, integer(node, "axis", 0)), object)


def _slice(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    starts, ends = scope.integers(node.inputs[1]), scope.integers(node.inputs[2])
    values, name = found[0].values, input_name(node, 3)
    axes = scope.integers(name) if name else list(range(len(starts)))
    steps = scope.integers(name) if (name := input_name(node, 4)) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        spot = [slice(None)] * values.ndim
        spot[axis_index(axis, values.ndim)] = slice(*_bounds(start, end, step, values.shape[axis]))
        values = values[tuple(spot)]
    return values


def _bounds(start: int, end: int, step: int, length: int) -> tuple[int, int | None, int]:
    begin, stop, step = slice(start, end, step).indices(length)
    return begin, (None if stop < 0 else stop), step


def _joined(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    return np.concatenate([numbers.values for numbers in found], integer(node, "axis", 0))


def _with_axes(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    return np.expand_dims(found[0].values, tuple(scope.integers(node.inputs[1])))


def _without_axes(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    name = input_name(node, 1)
    return np.asarray(np.squeeze(found[0].values, tuple(scope.integers(name)) if name else None), object)


def _reshaped(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    return found[0].values.reshape(scope.integers(node.inputs[1]))


def _expanded(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    shape = tuple(scope.integers(node.inputs[1]))
    return np.broadcast_to(found[0].values, np.broadcast_shapes(found[0].values.shape, shape)).copy()


def _where(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
    condition, one, two = np.broadcast_arrays(*(numbers.values for numbers in found))
    triples = zip(condition.flat, one.flat, two.flat, strict=True)
    chosen = _array([a if exact(holds) else b for holds, a, b in triples])
    return [Numbers(chosen.reshape(condition.shape), found[1].integers)]


def _reduced(node: Node, found: list[Numbers], scope: Scope) -> Objects:
    values = found[0].values
    if values.ndim > 1 or not values.size:
        raise Unknown(f"{node.kind} '{node.outputs[0]}' of a table of sizes")
    start = as_size(1 if node.kind == "ReduceProd" else 0)
    for size in found[0].flat():
        start = start * size if node.kind == "ReduceProd" else start + size
    return (
        _array([start]) if integer(node, "keepdims", 1) and values.ndim else _array([start])[0:1].reshape(())
    )


def _filled(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
    shape = tuple(int(exact(size)) for size in found[0].flat())
    value = node.attributes.get("value", 0.0)
    assert isinstance(value, int | float), "graph_of gives numbers"
    result = np.empty(shape, object)
    result[...] = as_size(Fraction(value))
    return [Numbers(result, isinstance(value, int))]


def _counted(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
    start, end, step = (exact(numbers.flat()[0]) for numbers in found)
    count = max(0, ceil((end - start) / step))
    if count > MANY:
        raise Unknown(f"it counts to {count}")
    return [Numbers(_array([as_size(start + k * step) for k in range(count)]), found[0].integers)]


def _split(node: Node, found: list[Numbers], scope: Scope) -> list[Numbers]:
    values, name = found[0].values, input_name(node, 1)
    axis = integer(node, "axis", 0)
    edges = np.cumsum(scope.integers(name))[:-1].tolist() if name else len(node.outputs)
    return [Numbers(part, found[0].integers) for part in np.array_split(values, edges, axis)]


_RULES: dict[str, Operation] = {
    "Add": _elementwise(lambda one, two, integers_only, scope: one + two),
    "Sub": _elementwise(lambda one, two, integers_only, scope: one - two),
    "Mul": _elementwise(lambda one, two, integers_only, scope: one * two),
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
    "Neg": _each(lambda size, scope: size * -1),
    "Abs": _each(lambda size, scope: size * (sign(size) or 1)),
    "Floor": _each(lambda size, scope: scope.rounded(size)),
    "Ceil": _each(lambda size, scope: scope.rounded(size * -1) * -1),
    "Not": _each(lambda size, scope: as_size(1) - size),
    "Identity": lambda node, found, scope: found,
    "Cast": _cast,
    "Gather": _moved(_gather),
    "Slice": _moved(_slice),
    "Concat": _moved(_joined),
    "Unsqueeze": _moved(_with_axes),
    "Squeeze": _moved(_without_axes),
    "Reshape": _moved(_reshaped),
    "Expand": _moved(_expanded),
    "Transpose": _moved(
        lambda node, found, scope: found[0].values.transpose(
            integers(node, "perm", range(found[0].values.ndim)[::-1])
        )
    ),
    "Flatten": _moved(lambda node, found, scope: found[0].values.reshape(1, -1)),
    "ReduceProd": _moved(_reduced),
    "ReduceSum": _moved(_reduced),
    "Where": _where,
    "ConstantOfShape": _filled,
    "Split": _split,
    "Range": _counted,
}
"""What operations on sizes give."""
