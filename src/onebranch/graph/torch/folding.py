"""Weights that a module computes from other weights, replaced by their values.

They are computed as the module computes them, in its precision. Weights are folded only where the module does
not hold more numbers afterwards.
"""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from onebranch.graph.torch.constants import is_computable
from onebranch.graph.torch.functional import KNOWN_VIEWS, short_name


@dataclass
class _Group:
    """Computed weights (`results`) that share parameters (`leaves`), and the nodes between them."""

    leaves: set[Node]
    inner: set[Node]
    results: list[Node]


def fold_constants(module: GraphModule, trainable: bool) -> None:
    """Replace computed weights by new parameters `folded_0`, `folded_1`, and so on.

    trainable: whether these require gradients.
    """
    leaves = [node for node in module.graph.nodes if node.op == "get_attr"]
    known = dict.fromkeys(leaves)
    for node in module.graph.nodes:
        if is_computable(node, known):
            known[node] = None
    values = _Values(module)
    for group in _groups(known):
        if _saves(group, known, values):
            for node in group.results:
                _fold(node, values.of(node), module, trainable)
    _erase_unread(module, known)


class _Values:
    """The values of computable nodes, in the module's precision."""

    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self._known: dict[Node, Any] = {}

    def of(self, node: Node) -> Any:
        """The value of a node."""
        if node not in self._known:
            self._known[node] = self._computed(node)
        return self._known[node]

    def _computed(self, node: Node) -> Any:
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        target: Any = node.target
        arguments = torch.fx.node.map_arg(node.args, self.of)
        keywords: Any = torch.fx.node.map_arg(node.kwargs, self.of)
        with torch.no_grad():
            return target(*arguments, **keywords)


def _groups(known: Iterable[Node]) -> list[_Group]:
    """Groups of computed weights that share no parameter with another group."""
    computable = dict.fromkeys(known)
    groups: dict[Node, _Group] = {}
    for node in computable:
        if node.op == "get_attr":
            groups[node] = _Group({node}, set(), [])
            continue
        joined = list({id(groups[n]): groups[n] for n in node.all_input_nodes}.values())
        group = joined[0] if joined else _Group(set(), set(), [])
        for other in joined[1:]:
            group.leaves |= other.leaves
            group.inner |= other.inner
            group.results += other.results
        group.inner.add(node)
        if any(user not in computable for user in node.users):
            group.results.append(node)
        for member in (*group.leaves, *group.inner):
            groups[member] = group
    return [group for group in {id(g): g for g in groups.values()}.values() if group.results]


def _saves(group: _Group, known: Iterable[Node], values: _Values) -> bool:
    """Return True if something is computed, and its results have no more numbers than its parameters."""
    computable = dict.fromkeys(known)
    only_views = all(
        short_name(node) in KNOWN_VIEWS or node.target is operator.getitem for node in group.inner
    )
    if only_views or any(user not in computable for leaf in group.leaves for user in leaf.users):
        return False
    return _count(group.results, values) <= _count(group.leaves, values)


def _count(nodes: Iterable[Node], values: _Values) -> float:
    """The number of elements of the nodes' values; infinite if one of them is not a tensor."""
    tensors = [values.of(node) for node in nodes]
    return sum(value.numel() if isinstance(value, torch.Tensor) else math.inf for value in tensors)


def _fold(node: Node, value: torch.Tensor, module: GraphModule, trainable: bool) -> None:
    number = 0
    while hasattr(module, f"folded_{number}"):
        number += 1
    content = value.detach().clone()
    if content.is_floating_point():
        parameter = torch.nn.Parameter(content, requires_grad=trainable)
        module.register_parameter(f"folded_{number}", parameter)
    else:
        module.register_buffer(f"folded_{number}", content)
    with module.graph.inserting_before(node):
        folded = module.graph.get_attr(f"folded_{number}")
    node.replace_all_uses_with(folded)


def _erase_unread(module: GraphModule, known: Iterable[Node]) -> None:
    for node in reversed(list(known)):
        if not node.users:
            module.graph.erase_node(node)
