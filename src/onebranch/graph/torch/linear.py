"""The linear operations of a traced PyTorch module, read into the graph of `graph.merge.linear`.

The trace is functional (it contains no in-place operations), holds for every size that its guards
admit, and names every value.
"""

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from onebranch.graph.merge.checks import NotLinear
from onebranch.graph.merge.linear import LinearGraph, Plane, Step, Unmerged
from onebranch.graph.torch.channel_rules import CHANNEL_PLANE_RULES, CHANNEL_RULES, split_result
from onebranch.graph.torch.constants import constants
from onebranch.graph.torch.row_rules import ROW_RULES
from onebranch.graph.torch.unmerged import reasons_without_rule
from onebranch.graph.torch.values import FLOAT_TYPE_NAMES, Reading, Rule, TracedValues, size_key
from onebranch.graph.torch.window_rules import (
    WINDOW_PLANE_RULES,
    WINDOW_RULES,
    batch_norm_result,
    batch_statistics_result,
)

aten = torch.ops.aten


def names(module: GraphModule) -> dict[Node, str]:
    """A name for every value: the path of the submodule that computes it, and the operation."""
    return {node: _name(node) for node in module.graph.nodes}


def _name(node: Node) -> str:
    stack = node.meta.get("nn_module_stack")
    path = next(reversed(stack.values()))[0] if stack else ""
    path = str(path).removeprefix("L['self']").lstrip(".")
    return f"{path}:{node.name}" if path else node.name


def read_linear(module: GraphModule) -> LinearGraph:
    """The linear operations of a traced module."""
    values = TracedValues(constants(module))
    called = names(module)
    readings, reasons = _read_all(module, values)
    steps = [
        Step(called[node], operation, tuple(called[value] for value in inputs))
        for node, reading in readings.items()
        for operation, inputs in reading
    ]
    by_name = {name: node for node, name in called.items()}
    used = sorted({name for step in steps for name in (step.value, *step.inputs)})
    required = {called[value] for value in _read_elsewhere(module, readings, values)}
    unmerged = [
        Unmerged(called[node], f"{_operation_name(node)}: {reason}")
        for node, reason in reasons.items()
        if node not in values.absorbed
    ]
    return LinearGraph(
        steps=tuple(steps),
        planes={name: _plane(by_name[name]) for name in used},
        required=frozenset(required),
        names=frozenset(by_name),
        unmerged=tuple(unmerged),
    )


def _read_all(module: GraphModule, values: TracedValues) -> tuple[dict[Node, Reading], dict[Node, str]]:
    """The readings of all linear nodes, and the reasons why others only look linear."""
    readings: dict[Node, Reading] = {}
    reasons: dict[Node, str] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or node in values.constants:
            continue
        try:
            reading = _read(node, values)
        except NotLinear as reason:
            reasons[node] = str(reason)
            continue
        if reading:
            readings[node] = reading
    reasons |= dict(reasons_without_rule(list(module.graph.nodes), readings, reasons, values))
    return readings, reasons


def _read(node: Node, values: TracedValues) -> Reading:
    """The linear operations that compute a node's value; empty if it is not linear. Raises NotLinear."""
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return []
    if node.target is operator.getitem:
        return _checked(_read_result(node, values), node, values)
    if node.target in _CHECKING_RULES:
        return _checked(_CHECKING_RULES[node.target](node, values), node, values)
    if not node.args or not values.is_plane(node.args[0]):
        return []
    rule = _RULES_OF_PLANES.get(node.target)
    return _checked(rule(node, values), node, values) if rule else []


def _checked(reading: Reading, node: Node, values: TracedValues) -> Reading:
    """The reading, if all its values have fixed channels, and one precision, which can be merged.

    A product of a float32 value and a float64 constant is a float64 value, for example.
    """
    result = node.meta["val"].dtype
    inputs = [value for _, given in reading for value in given]
    for value in (node, *inputs) if reading else ():
        values.channels(value)
        if (precision := value.meta["val"].dtype) != result:
            raise NotLinear(f"it makes {FLOAT_TYPE_NAMES[result]} from {FLOAT_TYPE_NAMES[precision]}")
    return reading


def _read_result(node: Node, values: TracedValues) -> Reading:
    """One of several results: of batch normalization, or of a split of the channels."""
    arguments: Any = node.args
    made, index = arguments
    rule = _RULES_OF_RESULTS.get(made.target) if isinstance(made, Node) else None
    return rule(made, int(index), values) if rule else []


def _operation_name(node: Node) -> str:
    """PyTorch's name of the operation; for one of several results, of the operation that returns them."""
    arguments: Any = node.args
    made = arguments[0] if node.target is operator.getitem else node
    return str(made.target).removeprefix("aten.").partition(".")[0]


def _plane(node: Node) -> Plane:
    value = node.meta["val"]
    if value.ndim == 2:
        return Plane(value.shape[1], (("vector",), ("vector",)), (1, 1), True, FLOAT_TYPE_NAMES[value.dtype])
    height, width = value.shape[2:]
    sizes = size_key(height), size_key(width)
    return Plane(value.shape[1], sizes, (_hint(height), _hint(width)), False, FLOAT_TYPE_NAMES[value.dtype])


def _hint(side: Any) -> int:
    """The length in the example."""
    return side if isinstance(side, int) else int(side.node.hint or 1)


def _read_elsewhere(module: GraphModule, made: Collection[Node], values: TracedValues) -> Iterator[Node]:
    """The values that are read by nodes which are neither linear operations nor absorbed in one."""
    inner = _absorbed_only(made, values.absorbed)
    for node in module.graph.nodes:
        if node not in made and node not in inner:
            yield from node.all_input_nodes


def _absorbed_only(made: Collection[Node], absorbed: Collection[Node]) -> set[Node]:
    """The absorbed nodes that only linear operations, or other such nodes, read."""
    inner = set(absorbed)
    while True:
        smaller = {node for node in inner if all(user in made or user in inner for user in node.users)}
        if smaller == inner:
            return inner
        inner = smaller


_CHECKING_RULES: dict[Any, Rule] = {**WINDOW_RULES, **CHANNEL_RULES, **ROW_RULES}
"""Rules that check their inputs themselves."""

_RULES_OF_PLANES: dict[Any, Rule] = {**WINDOW_PLANE_RULES, **CHANNEL_PLANE_RULES}
"""Rules whose first argument depends on the input and is (N, C, H, W) or (N, C)."""

_RULES_OF_RESULTS: dict[Any, Callable[[Node, int, TracedValues], Reading]] = {
    aten._native_batch_norm_legit_no_training.default: batch_norm_result,
    **dict.fromkeys(
        (
            aten._native_batch_norm_legit.default,
            aten._native_batch_norm_legit.no_stats,
            aten._native_batch_norm_legit_functional.default,
            aten.native_batch_norm.default,
        ),
        batch_statistics_result,
    ),
    **dict.fromkeys((aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default), split_result),
}
"""Rules for operations with several results."""
