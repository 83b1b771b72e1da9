"""Constants of a traced PyTorch module: parameters, buffers, and everything computed from them alone."""

import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

MAX_CONSTANT_NUMBERS = 1 << 27
"""Numbers in the largest constant that is computed (1 GiB in float64)."""


def constants(module: GraphModule) -> dict[Node, torch.Tensor]:
    """The constants of the trace; float32 ones are computed in float64."""
    values: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = operator.attrgetter(node.target)(module)
            if isinstance(value, torch.Tensor):
                values[node] = value.detach()
        elif is_computable(node, values):
            value = _computed(node, values)
            if value is not None:
                values[node] = value
    return {node: value for node, value in values.items() if isinstance(value, torch.Tensor)}


def is_computable(node: Node, known: Collection[Node]) -> bool:
    """Return True if a node reads known constants alone and always gives the same result."""
    if node.op != "call_function" or any(value not in known for value in node.all_input_nodes):
        return False
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not random and not node.target._schema.is_mutable and _is_small(node)


def _is_small(node: Node) -> bool:
    """Return True if the results together have few enough numbers, and all sizes are known."""
    values = node.meta.get("val")
    tensors = values if isinstance(values, tuple | list) else (values,)
    count = 0
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor) or not all(isinstance(side, int) for side in tensor.shape):
            return False
        count += tensor.numel()
    return count <= MAX_CONSTANT_NUMBERS


def _computed(node: Node, known: Mapping[Node, Any]) -> Any:
    """The node's value in float64, from the known values; None if it cannot be computed now."""

    def widened(value: Node) -> Any:
        constant = known[value]
        is_float32 = isinstance(constant, torch.Tensor) and constant.dtype == torch.float32
        return constant.double() if is_float32 else constant

    target: Any = node.target
    arguments = torch.fx.node.map_arg(node.args, widened)
    keywords = dict(torch.fx.node.map_arg(node.kwargs, widened))
    if keywords.get("dtype") is torch.float32:
        keywords["dtype"] = torch.float64
    try:
        with torch.no_grad():
            result = target(*arguments, **keywords)
    except Exception:  # of any type: the value is then not treated as a constant
        return None
    creates_float32 = isinstance(result, torch.Tensor) and result.dtype == torch.float32
    return result.double() if creates_float32 else result
