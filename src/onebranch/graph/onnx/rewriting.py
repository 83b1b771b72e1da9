"""Merged regions written into an ONNX model; every other node that is read stays unchanged."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onebranch.graph.merge.linear import Convolve, Linear, LinearGraph, Ones, Pass, Scale, Sum
from onebranch.graph.merge.rewriting import Merged, MergedRegion
from onebranch.graph.onnx.constants import products_of_constants
from onebranch.graph.onnx.file import WEIGHTS_ARE_NO_INPUTS, check_rewritten, open_dimensions, opset_of
from onebranch.graph.onnx.graph import fresh_name, names_read_in_subgraphs

GEMM_WITHOUT_BIAS = 11
"""Opset from which Gemm's bias is optional."""


def with_folded_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every weight that it computes as a product of weights replaced by the result.

    A model without such weights is returned unchanged. Raises OnebranchError if the result breaks ONNX's
    rules although the model does not.
    """
    products = products_of_constants(model)
    if not products:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    names = {
        *(tensor.name for tensor in model.graph.initializer),
        *(value.name for value in model.graph.input),
    }
    names |= {name for node in model.graph.node for name in node.output}
    for node in result.graph.node:
        for index, name in enumerate(node.output):
            if name in products:
                node.output[index] = fresh_name(f"{name}_before", names)
    tensors = [numpy_helper.from_array(array, name) for name, array in products.items()]
    result.graph.initializer.extend(tensors)
    return _cleaned(result, model)


def rewritten(model: onnx.ModelProto, graph: LinearGraph, regions: Iterable[MergedRegion]) -> onnx.ModelProto:
    """The model with merged operations for the merged values, without nodes and weights that nothing reads.

    It passes ONNX's full check. Raises OnebranchError if it does not although the original does.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    merged = {value.value: value for region in regions for value in region.merged}
    names = set(graph.names)
    del result.graph.node[:]
    for node in model.graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        for index, name in enumerate(node.output):
            if name in merged:
                kept.output[index] = fresh_name(f"{name}_before", names)
        result.graph.node.append(kept)
        for name in node.output:
            if name in merged:
                nodes, tensors = _written(merged[name], graph, names, opset_of(model))
                result.graph.node.extend(nodes)
                result.graph.initializer.extend(tensors)
    return _cleaned(result, model)


def _cleaned(model: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """The changed model without nodes and weights that nothing reads; it has passed ONNX's check."""
    _drop_unread(model.graph, keep_inputs=model.ir_version >= WEIGHTS_ARE_NO_INPUTS)
    if model.ir_version < WEIGHTS_ARE_NO_INPUTS:
        _list_weights_as_inputs(model.graph)
    open_dimensions(model)
    check_rewritten(model, original)
    return model


def _written(
    merged: Merged, graph: LinearGraph, names: set[str], opset: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The operations that compute a merged value, and their constants."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    known: dict[str, str] = {}
    vector = graph.planes[merged.value].vector
    for step in merged.steps:
        output = step.value if step.value == merged.value else fresh_name(step.value, names)
        inputs = tuple(known.get(name, name) for name in step.inputs)
        known[step.value] = output
        writer = _NodeWriter(output, names, tensors, opset)
        nodes += list(
            writer.vector(step.operation, inputs) if vector else writer.picture(step.operation, inputs)
        )
    return nodes, tensors


class _NodeWriter:
    """Writes one operation as nodes that compute the value `output`.

    Constants are added to `tensors`; new names are added to `names`, and are not among them before.
    """

    def __init__(self, output: str, names: set[str], tensors: list[onnx.TensorProto], opset: int) -> None:
        self.output, self.names, self.tensors, self.opset = output, names, tensors, opset

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant; returns its name."""
        fresh = fresh_name(f"{self.output}.{name}", self.names)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), fresh))
        return fresh

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(
            kind, list(inputs), [output], name=fresh_name(f"{output}.{kind}", self.names), **attributes
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
                bias = operation.bias
                if bias is None and self.opset < GEMM_WITHOUT_BIAS:
                    bias = np.zeros(len(operation.weight), operation.weight.dtype)
                if bias is not None:
                    read.append(self.constant("bias", bias))
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
            total = fresh_name(f"{self.output}.negated", self.names)
            yield self.node("Neg", inputs[:1], total)
        for number, (sign, name) in enumerate(zip(operation.signs[1:], inputs[1:], strict=True), 2):
            last = number == len(inputs)
            output = self.output if last else fresh_name(f"{self.output}.sum", self.names)
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
        shape, sides, ones_shape = (
            fresh_name(f"{self.output}.{part}", self.names) for part in ("shape", "sides", "ones_shape")
        )
        one = self.constant("one", np.ones(2, np.int64))
        last = self.constant("last", np.asarray([2, 3], np.int64))
        filled = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        yield self.node("Shape", (value,), shape)
        yield self.node("Gather", (shape, last), sides, axis=0)
        yield self.node("Concat", (one, sides), ones_shape, axis=0)
        yield self.node("ConstantOfShape", (ones_shape,), self.output, value=filled)


def _drop_unread(graph: onnx.GraphProto, keep_inputs: bool) -> None:
    """Remove nodes and stored values that nothing reads.

    keep_inputs: False removes unread weights from the inputs too, where the file lists them there.
    """
    read = {value.name for value in graph.output}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if read.isdisjoint(node.output):
            del graph.node[index]
        else:
            read |= {*node.input, *names_read_in_subgraphs(node)}
    inputs = {value.name for value in graph.input} if keep_inputs else set()
    unread = {tensor.name for tensor in graph.initializer} - read - inputs
    uncomputed = {value.name for value in graph.value_info}.difference(*(node.output for node in graph.node))
    _remove_named(graph.initializer, unread)
    _remove_named(graph.input, unread)
    _remove_named(graph.value_info, uncomputed)


def _remove_named(entries: Any, names: set[str]) -> None:
    """Remove the entries of a repeated field that have one of these names."""
    for index in reversed(range(len(entries))):
        if entries[index].name in names:
            del entries[index]


def _list_weights_as_inputs(graph: onnx.GraphProto) -> None:
    """Declare every stored value among the inputs, as files before IR version 4 must."""
    listed = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in listed:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
