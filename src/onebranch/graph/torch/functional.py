"""Replaces operations that work in place, in an exported PyTorch graph, by functional ones.

PyTorch's method for this, `run_decompositions`, traces the whole module again, which takes several times as
long as the export. The rewriting here supports the operations that are common in networks (activations in
place, `y += x`, rows that are overwritten), and reports when it meets another one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten

_FRESH = """
conv1d conv2d conv3d convolution conv_transpose2d linear matmul mm bmm addmm batch_norm layer_norm group_norm
add sub rsub mul div neg cat stack pad constant_pad_nd copy slice_scatter clone mean sum
avg_pool2d max_pool2d adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
relu relu6 leaky_relu prelu hardtanh hardswish hardsigmoid sigmoid silu gelu elu tanh mish softmax clamp
zeros ones full zeros_like ones_like
"""

FRESH_RESULTS = frozenset(_FRESH.split())
"""Operations whose result shares no memory with their inputs."""

_VIEWS = """
slice view reshape split split_with_sizes chunk transpose permute t contiguous detach flatten select unsqueeze
squeeze expand unbind alias
"""

KNOWN_VIEWS = frozenset(_VIEWS.split())
"""Operations whose result may share memory with their input, and that the reader supports."""


def make_functional(module: GraphModule) -> bool:
    """Replace every in-place operation by a functional one, in the graph of `module`.

    module: without decompositions, as `ExportedProgram.module()` returns it. Returns False for an operation
    that is not supported; then only some of the operations have been replaced.
    """
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        if node.op == "call_function" and not _is_functional(node) and not _replaced(node, order):
            return False
    module.graph.lint()
    module.recompile()
    return True


def _is_functional(node: Node) -> bool:
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)
    if target._schema.is_mutable or _is_training(node):
        return False
    is_view = any(result.alias_info is not None for result in target._schema.returns)
    return not is_view or target is aten.to.dtype or short_name(node) in KNOWN_VIEWS


def _is_training(node: Node) -> bool:
    """Return True for normalization that may update its statistics, which its schema does not declare."""
    if node.target is aten.batch_norm.default:
        return bool(node.args[5])
    return short_name(node) == "instance_norm"


def short_name(node: Node) -> str:
    """The name of an ATen operation, such as "conv2d"; empty for other functions."""
    target: Any = node.target
    is_operation = isinstance(target, torch._ops.OpOverload)
    return target._schema.name.removeprefix("aten::") if is_operation else ""


def _replaced(node: Node, order: dict[Node, int]) -> bool:
    """Replace one in-place operation. Returns False if it is not supported."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return False
    if target is aten.copy_.default:
        return _replaced_copy(node, order)
    name = short_name(node)
    functional = getattr(getattr(aten, name.removesuffix("_"), None), target._overloadname, None)
    written: Any = node.args[0] if node.args else None
    if not name.endswith("_") or functional is None or not _is_private(written, node, order):
        return False
    node.target = functional
    _replace_later_uses(written, node, node, order)
    return True


# Worked example: y[:, :, 0:1] = b is exported as
#     s = slice(y, 2, 0, 1);  copy_(s, b);  z = relu(y)
# and becomes
#     s = slice(y, 2, 0, 1);  c = copy(s, b);  n = slice_scatter(y, c, 2, 0, 1);  z = relu(n)
def _replaced_copy(node: Node, order: dict[Node, int]) -> bool:
    """Replace a copy into a value, or into slices of slices of one, by copy and slice_scatter."""
    view: Any = node.args[0]
    slices: list[Node] = []
    while isinstance(view, Node) and view.target is aten.slice.Tensor and len(view.users) == 1:
        slices.append(view)
        view = view.args[0]
    if node.users or not _is_private(view, node, order, tuple(slices[-1:])):
        return False
    graph = node.graph
    with graph.inserting_before(node):
        result = graph.call_function(aten.copy.default, node.args)
        _describe(result, node.args[0], node, order)
        for part in slices:
            parent, *where = part.args
            result = graph.call_function(aten.slice_scatter.default, (parent, result, *where), part.kwargs)
            _describe(result, parent, node, order)
    _replace_later_uses(view, result, node, order)
    graph.erase_node(node)
    return True


def _describe(result: Node, like: Any, node: Node, order: dict[Node, int]) -> None:
    """Set what is known about a new node: the shape of the value `like`, the position of `node`."""
    result.meta.update({"val": like.meta["val"], "nn_module_stack": node.meta.get("nn_module_stack")})
    order[result] = order[node]


def _is_private(written: Any, node: Node, order: Mapping[Node, int], views: tuple[Node, ...] = ()) -> bool:
    """Return True if no other value shares memory with `written` when `node` writes to it.

    views: views of it that only `node` reads.
    """
    if not isinstance(written, Node) or short_name(written) not in FRESH_RESULTS:
        return False
    earlier = [user for user in written.users if order[user] < order[node] and user not in views]
    return all(short_name(user) in FRESH_RESULTS or _only_scattered(user) for user in earlier)


def _only_scattered(view: Node) -> bool:
    """Return True for a slice that only an earlier, replaced copy reads."""
    inner = {aten.slice.Tensor, aten.copy.default, aten.slice_scatter.default}
    return (
        view.target is aten.slice.Tensor
        and all(
            user.target in (aten.copy.default, aten.slice_scatter.default) or _only_scattered(user)
            for user in view.users
            if user.target in inner
        )
        and all(user.target in inner for user in view.users)
    )


def _replace_later_uses(written: Node, result: Node, node: Node, order: Mapping[Node, int]) -> None:
    for user in list(written.users):
        if order[user] > order[node]:
            user.replace_input_with(written, result)
