"""Writing merged regions into a traced PyTorch module; other operations keep their parameters."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Graph, GraphModule, Node

from onebranch.algebra.padding import Padding
from onebranch.graph.merge.linear import Convolve, Linear, LinearGraph, Ones, Pass, Scale, Sum
from onebranch.graph.merge.rewriting import Merged, MergedRegion
from onebranch.graph.torch.folding import fold_constants
from onebranch.graph.torch.linear import names


def rewritten(module: GraphModule, graph: LinearGraph, regions: Sequence[MergedRegion]) -> GraphModule:
    """A new module with the merged operations, without operations whose value nothing reads.

    It shares no parameter with the given module, and can be copied and pickled.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.export, about its own specs
        result = copy.deepcopy(module)
    by_name = {name: node for node, name in names(result).items()}
    trainable = any(parameter.requires_grad for parameter in module.parameters())
    for number, done in enumerate(done for region in regions for done in region.merged):
        _replace(result, by_name, done, graph.planes[done.value].vector, f"merged_{number}", trainable)
    for region in regions:
        for name in region.removed:
            _erase(result.graph, by_name[name])
    fold_constants(result, trainable)
    result.graph.lint()
    for node in result.graph.nodes:
        node.meta.clear()  # tensors without content that only tracing needs, and that cannot be pickled
    result.graph._tracer_cls = None  # that of torch.export cannot rebuild a pickled module
    written = GraphModule(result, result.graph, type(module).__name__)
    written.meta.clear()
    written.recompile()
    return written.eval()


def _replace(
    module: GraphModule, by_name: dict[str, Node], done: Merged, vector: bool, name: str, trainable: bool
) -> None:
    old = by_name[done.value]
    writer = _ModuleWriter(module, name, old.meta["val"].device, trainable)
    known = dict(by_name)
    with module.graph.inserting_before(old):
        for step in done.steps:
            inputs = [known[value] for value in step.inputs]
            known[step.value] = writer.node(step.operation, inputs, vector)
    new = known[done.value]
    old.replace_all_uses_with(new)
    new.meta.setdefault("val", old.meta["val"])
    by_name[done.value] = new
    _erase(module.graph, old)


def _erase(graph: Graph, node: Node) -> None:
    """Remove a node that nothing reads, and then its inputs that nothing else reads."""
    pending = [node]
    while pending:
        unread = pending.pop()
        if unread.users or unread.op in ("placeholder", "output", "call_module") or unread._erased:
            continue
        inputs = unread.all_input_nodes
        graph.erase_node(unread)
        pending += inputs


class _ModuleWriter:
    """Writes operations as nodes; their parameters become submodules and parameters of the module."""

    def __init__(self, module: GraphModule, name: str, device: torch.device, trainable: bool) -> None:
        self.module, self.name, self.device, self.trainable = module, name, device, trainable
        self.count = 0

    def node(self, operation: Linear, inputs: list[Node], vector: bool) -> Node:
        """Add the node that computes the operation's value."""
        graph = self.module.graph
        match operation:
            case Convolve():
                return self.dense(operation, inputs[0]) if vector else self.convolution(operation, inputs[0])
            case Scale():
                return self.scale(operation, inputs[0], (-1,) if vector else (-1, 1, 1))
            case Sum():
                total = inputs[0]
                if operation.signs[0] < 0:
                    total = graph.call_function(torch.neg, (total,))
                for sign, value in zip(operation.signs[1:], inputs[1:], strict=True):
                    total = graph.call_function(torch.add if sign > 0 else torch.sub, (total, value))
                return total
            case Ones():
                first = graph.call_function(torch.narrow, (inputs[0], 1, 0, 1))
                return graph.call_function(torch.ones_like, (first,))
            case Pass():
                return inputs[0]
        raise AssertionError(f"{operation} is never written")

    def convolution(self, operation: Convolve, value: Node) -> Node:
        padding = operation.padding
        if (padding.top, padding.left) != (padding.bottom, padding.right):
            sides = [padding.left, padding.right, padding.top, padding.bottom]
            value = self.module.graph.call_function(torch.nn.functional.pad, (value, sides))
            padding = Padding()
        outputs, per_group, k, l = operation.weight.shape
        layer = torch.nn.Conv2d(
            per_group * operation.groups,
            outputs,
            (k, l),
            operation.strides,
            (padding.top, padding.left),
            operation.dilations,
            operation.groups,
            operation.bias is not None,
        )
        return self.layer(layer, operation, value, operation.weight)

    def dense(self, operation: Convolve, value: Node) -> Node:
        outputs, inputs = operation.weight.shape[:2]
        layer = torch.nn.Linear(inputs, outputs, operation.bias is not None)
        return self.layer(layer, operation, value, operation.weight[:, :, 0, 0])

    def layer(self, layer: Any, operation: Convolve, value: Node, weight: np.ndarray) -> Node:
        layer.weight = self.parameter(weight)
        if operation.bias is not None:
            layer.bias = self.parameter(operation.bias)
        name = self.fresh()
        self.module.add_submodule(name, layer.eval())
        return self.module.graph.call_module(name, (value,))

    def scale(self, operation: Scale, value: Node, shape: tuple[int, ...]) -> Node:
        """Add one operation: a product, a sum, or both at once."""
        graph = self.module.graph
        factor, shift = (part.reshape(shape) for part in (operation.factor, operation.shift))
        if not shift.any():
            return graph.call_function(torch.mul, (value, self.attribute(factor)))
        if (factor == 1).all():
            return graph.call_function(torch.add, (value, self.attribute(shift)))
        return graph.call_function(torch.addcmul, (self.attribute(shift), value, self.attribute(factor)))

    def attribute(self, array: np.ndarray) -> Node:
        name = self.fresh()
        self.module.register_parameter(name, self.parameter(array))
        return self.module.graph.get_attr(name)

    def parameter(self, array: np.ndarray) -> torch.nn.Parameter:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return torch.nn.Parameter(tensor, requires_grad=self.trainable)

    def fresh(self) -> str:
        self.count += 1
        return self.name if self.count == 1 else f"{self.name}_{self.count}"
