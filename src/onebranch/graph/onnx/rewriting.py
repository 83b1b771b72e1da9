"""Merged regions put into an ONNX model; whatever is not replaced stays as it is, byte for byte."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onebranch.graph.merge.linear import Convolve, Linear, LinearGraph, Ones, Pass, Scale, Sum
from onebranch.graph.merge.rewriting import Merged, MergedRegion


def rewritten(model: onnx.ModelProto, graph: LinearGraph, regions: Iterable[MergedRegion]) -> onnx.ModelProto:
    """The model with the merged values computed anew, and without what nothing reads any more."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    merged = {done.value: done for region in regions for done in region.merged}
    removed = {name for region in regions for name in region.removed}
    names = set(graph.names)
    del result.graph.node[:]
    added: list[onnx.TensorProto] = []
    for node in model.graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        for index, name in enumerate(node.output):
            if name in merged:
                kept.output[index] = _fresh(f"{name}_before", names)
        result.graph.node.append(kept)
        for name in node.output:
            if name in merged:
                nodes, tensors = _written(merged[name], graph, names)
                result.graph.node.extend(nodes)
                added += tensors
    result.graph.initializer.extend(added)
    _drop_unread(result.graph, model.graph, set(merged) | removed)
    return result


def _fresh(name: str, names: set[str]) -> str:
    """The name, or the first of its kind that is not taken; it is taken from then on."""
    found, number = name, 1
    while found in names:
        found, number = f"{name}_{number}", number + 1
    names.add(found)
    return found


def _written(
    merged: Merged, graph: LinearGraph, names: set[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    known: dict[str, str] = {}
    vector = graph.planes[merged.value].vector
    for step in merged.steps:
        output = step.value if step.value == merged.value else _fresh(step.value, names)
        inputs = tuple(known.get(name, name) for name in step.inputs)
        known[step.value] = output
        writer = _Writer(output, names, tensors)
        nodes += list(
            writer.vector(step.operation, inputs) if vector else writer.picture(step.operation, inputs)
        )
    return nodes, tensors


class _Writer:
    """Nodes for one operation whose value has a given name; constants are added to `tensors`."""

    def __init__(self, output: str, names: set[str], tensors: list[onnx.TensorProto]) -> None:
        self.output, self.names, self.tensors = output, names, tensors

    def constant(self, name: str, array: np.ndarray) -> str:
        fresh = _fresh(f"{self.output}.{name}", self.names)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), fresh))
        return fresh

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(
            kind, list(inputs), [output], name=_fresh(f"{output}.{kind}", self.names), **attributes
        )

    def picture(self, operation: Linear, inputs: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
        """Nodes for values (N, C, H, W)."""
        match operation:
            case Convolve():
                read = [inputs[0], self.constant("weight", operation.weight)]
                if operation.bias is not None:
                    read.append(self.constant("bias", operation.bias))
                yield self.node(
                    "Conv",
                    read,
                    self.output,
                    kernel_shape=operation.weight.shape[2:],
                    group=operation.groups,
                    strides=operation.strides,
                    dilations=operation.dilations,
                    pads=operation.padding.to_onnx(),
                )
            case Scale():
                yield from self.scale(operation, inputs[0], (-1, 1, 1))
            case Ones():
                yield from self.ones(inputs[0])
            case _:
                yield from self.either(operation, inputs)

    def vector(self, operation: Linear, inputs: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
        """Nodes for values (N, C)."""
        match operation:
            case Convolve():
                read = [inputs[0], self.constant("weight", operation.weight[:, :, 0, 0])]
                if operation.bias is not None:
                    read.append(self.constant("bias", operation.bias))
                yield self.node("Gemm", read, self.output, transB=1)
            case Scale():
                yield from self.scale(operation, inputs[0], (-1,))
            case _:
                yield from self.either(operation, inputs)

    def either(self, operation: Linear, inputs: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
        """Nodes that do not depend on the rank."""
        assert isinstance(operation, Sum | Pass), f"{operation} is never written"
        if isinstance(operation, Pass):
            yield self.node("Identity", inputs, self.output)
            return
        total = inputs[0]
        if operation.signs[0] < 0:
            total = _fresh(f"{self.output}.negated", self.names)
            yield self.node("Neg", inputs[:1], total)
        for number, (sign, name) in enumerate(zip(operation.signs[1:], inputs[1:], strict=True), 2):
            last = number == len(inputs)
            output = self.output if last else _fresh(f"{self.output}.sum", self.names)
            yield self.node("Add" if sign > 0 else "Sub", (total, name), output)
            total = output

    def scale(self, operation: Scale, value: str, shape: tuple[int, ...]) -> Iterator[onnx.NodeProto]:
        """One node: a product, a sum, or both at once as a batch normalization of mean 0 and variance 1."""
        factor, shift = operation.factor, operation.shift
        if not shift.any():
            yield self.node("Mul", (value, self.constant("factor", factor.reshape(shape))), self.output)
        elif (factor == 1).all():
            yield self.node("Add", (value, self.constant("shift", shift.reshape(shape))), self.output)
        else:
            parts = {"factor": factor, "shift": shift, "mean": 0 * factor, "variance": 0 * factor + 1}
            read = [value, *(self.constant(name, array) for name, array in parts.items())]
            yield self.node("BatchNormalization", read, self.output, epsilon=0.0)

    def ones(self, value: str) -> Iterator[onnx.NodeProto]:
        """A plane (1, 1, H, W) of ones as large as the value."""
        shape, sides, whole = (
            _fresh(f"{self.output}.{part}", self.names) for part in ("shape", "sides", "whole")
        )
        one = self.constant("one", np.ones(2, np.int64))
        last = self.constant("last", np.asarray([2, 3], np.int64))
        filled = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        yield self.node("Shape", (value,), shape)
        yield self.node("Gather", (shape, last), sides, axis=0)
        yield self.node("Concat", (one, sides), whole, axis=0)
        yield self.node("ConstantOfShape", (whole,), self.output, value=filled)


def _drop_unread(graph: onnx.GraphProto, original: onnx.GraphProto, gone: set[str]) -> None:
    """Remove what the merge made useless: nodes and constants that were read before and are not now."""
    before = _readers(original)
    while True:
        now = _readers(graph)
        useless = [
            node
            for node in graph.node
            if all(not now[name] for name in node.output)
            and any(before[name] or name in gone or name not in before for name in node.output)
        ]
        if not useless:
            break
        for node in useless:
            graph.node.remove(node)
    now = _readers(graph)
    inputs = {value.name for value in graph.input}
    for tensor in [
        t for t in graph.initializer if not now[t.name] and before[t.name] and t.name not in inputs
    ]:
        graph.initializer.remove(tensor)
    made = {name for node in graph.node for name in node.output}
    for value in [v for v in graph.value_info if v.name not in made]:
        graph.value_info.remove(value)


def _readers(graph: onnx.GraphProto) -> Counter[str]:
    """How often every name is read, subgraphs and outputs included."""
    counts = Counter(value.name for value in graph.output)
    for node in graph.node:
        counts.update(name for name in node.input if name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                counts += _readers(inner)
    return counts
