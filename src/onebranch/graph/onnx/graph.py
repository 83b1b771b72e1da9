"""ONNX models read as graphs: constants folded, every form of an operation written as opset 18 writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx
from onnx import AttributeProto, helper, inliner, numpy_helper

from onebranch.errors import OnebranchError
from onebranch.graph.onnx.constants import with_computed
from onebranch.graph.onnx.file import opset_of
from onebranch.graph.operations import Attribute, Graph, Node, Value

Rewritten = tuple[Node, dict[str, np.ndarray]]
"""An operation, and the constants that were its attributes."""


def graph_of(model: onnx.ModelProto) -> Graph:
    """The main graph of a model: its picture or pictures in and out, everything else constants or operations.

    What an initializer gives a value is no input, and what is computed from constants alone is a constant.
    Operations of other domains are named DOMAIN::KIND. Raises OnebranchError, by name, for control flow,
    sparse weights, and inputs and outputs that are no arrays.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    graph, opset = model.graph, opset_of(model)
    _refuse_control_flow(graph)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants = with_computed(graph.node, weights, opset)
    nodes = []
    for proto in graph.node:
        if all(name in constants for name in proto.output if name):
            continue
        node, own = _modern(_node(proto), opset)
        constants |= own
        nodes.append(node)
    inputs, outputs = ends_of(model)
    return Graph(tuple(nodes), inputs, outputs, _used(constants, nodes, outputs))


def ends_of(model: onnx.ModelProto) -> tuple[dict[str, Value], dict[str, Value]]:
    """What must be given to a model, and what it gives, by name. Raises OnebranchError for no arrays."""
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _value(value) for value in model.graph.input if value.name not in given}
    return inputs, {value.name: _value(value) for value in model.graph.output}


def _refuse_control_flow(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if any(
            attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise OnebranchError(
                f"{node.op_type} '{node.output[0]}' chooses what to compute while it runs, which is not"
                " understood; export the model without control flow"
            )
    if graph.sparse_initializer:
        raise OnebranchError(
            f"its weight '{graph.sparse_initializer[0].values.name}' is sparse; it must be dense"
        )


def _used(
    constants: dict[str, np.ndarray], nodes: Iterable[Node], outputs: Iterable[str]
) -> dict[str, np.ndarray]:
    wanted = {name for node in nodes for name in node.inputs} | set(outputs)
    return {name: array for name, array in constants.items() if name in wanted}


def _value(value: onnx.ValueInfoProto) -> Value:
    if not value.type.HasField("tensor_type"):
        raise OnebranchError(f"'{value.name}' is no array but a {value.type.WhichOneof('value')}")
    tensor = value.type.tensor_type
    shape = tuple(
        side.dim_value if side.dim_value > 0 else side.dim_param or f"{value.name}.{index}"
        for index, side in enumerate(tensor.shape.dim)
    )
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Value(shape, {"float": "float32", "double": "float64"}.get(kind, kind))


def _node(proto: onnx.NodeProto) -> Node:
    kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
    outputs = tuple(name or f"{proto.output[0]}.{index}" for index, name in enumerate(proto.output))
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    known = {name: value for name, value in attributes.items() if value is not None}
    return Node(kind, tuple(proto.input), outputs, MappingProxyType(known))


def _attribute(attribute: AttributeProto) -> Attribute | None:
    """The attribute's value; of an array its first number; None for what no rule reads."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        array = numpy_helper.to_array(value)
        first: int | float | None = (
            array.ravel()[0].item() if array.dtype.kind in "iuf" and array.size else None
        )
        return first
    if isinstance(value, int | float):
        return value
    numbers = list(value) if isinstance(value, Iterable) else []
    if all(isinstance(number, int) for number in numbers):
        return tuple(int(number) for number in numbers)
    if all(isinstance(number, int | float) for number in numbers):
        return tuple(float(number) for number in numbers)
    return None


def _modern(node: Node, opset: int) -> Rewritten:
    """The operation as opset 18 writes it."""
    for kinds, before, rewrite in _FORMS:
        if node.kind in kinds and opset < before:
            return rewrite(node)
    return node, {}


def _with_inputs(*names: str) -> Callable[[Node], Rewritten]:
    """Attributes of these names become constant inputs, in this order, after the first input."""

    def rewrite(node: Node) -> Rewritten:
        attributes = dict(node.attributes)
        constants = {}
        inputs = [node.inputs[0]]
        for name in names:
            value = attributes.pop(name, None)
            own = "" if value is None else f"{node.outputs[0]}.{name}"
            inputs.append(own)
            if own:
                constants[own] = np.asarray(value)
        return replace(node, inputs=tuple(inputs), attributes=MappingProxyType(attributes)), constants

    return rewrite


def _onwards(node: Node) -> Rewritten:
    """Softmax before opset 13: along all axes from `axis`, by default the second, together."""
    attributes = {"axis": 1, **node.attributes, "onwards": 1}
    return replace(node, attributes=MappingProxyType(attributes)), {}


def _resize(node: Node) -> Rewritten:
    """Upsample, and Resize before opset 11: pixels have corners, the nearest is the one before."""
    if len(node.inputs) < 2:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}' has no scales")
    attributes = {
        "mode": node.attributes.get("mode", "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    inputs = (node.inputs[0], "", node.inputs[1])
    return Node("Resize", inputs, node.outputs, MappingProxyType(attributes)), {}


_REDUCTIONS = (
    *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum"),
    *("ReduceLogSumExp", "ReduceSumSquare"),
)

_FORMS: tuple[tuple[tuple[str, ...], int, Callable[[Node], Rewritten]], ...] = (
    (("Pad",), 11, _with_inputs("pads", "value")),
    (("Slice",), 10, _with_inputs("starts", "ends", "axes")),
    (("Squeeze", "Unsqueeze", "ReduceSum"), 13, _with_inputs("axes")),
    (("Split",), 13, _with_inputs("split")),
    (_REDUCTIONS, 18, _with_inputs("axes")),
    (("Softmax", "LogSoftmax", "Hardmax"), 13, _onwards),
    (("Resize",), 11, _resize),
    (("Upsample",), 99, _resize),
)
"""Kinds, the opset before which they have another form, and what writes them as opset 18 does."""
