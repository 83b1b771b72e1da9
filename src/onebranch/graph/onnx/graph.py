"""ONNX models read as graphs: constants folded, every operation in the form that it has in opset 18."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
"""An operation, and the constants that replace its attributes."""

Rewrite = Callable[[Node, set[str]], Rewritten]
"""A function from an operation of an older form, and the names in use, to the operation of opset 18."""


def graph_of(model: onnx.ModelProto) -> Graph:
    """The main graph of a model that is supported completely, with local functions inlined.

    An input with an initializer is a constant, and so is everything computed from constants alone. Raises
    OnebranchError, which names the operation or value, for control flow, sparse weights, and inputs and
    outputs that are not arrays.
    """
    model = with_inlined_functions(model)
    _refuse_control_flow(model.graph)
    interface_of(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return read_graph(model, with_computed(model.graph.node, weights, opset_of(model)))


def with_inlined_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions inlined into the main graph."""
    return inliner.inline_local_functions(model) if model.functions else model


def read_graph(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> Graph:
    """The main graph of any model, with these constants folded.

    Operations of other domains have the kind DOMAIN::KIND. Control flow is an operation that reads every
    value that its subgraphs read; sparse weights and arrays of unknown type are inputs.
    """
    graph, opset = model.graph, opset_of(model)
    names, folded = {*_value_names(graph)}, dict(constants)
    nodes = []
    for proto in graph.node:
        if all(name in constants for name in proto.output if name):
            continue
        node, attributes_as_constants = _modern(_node(proto, names), opset, names)
        folded |= attributes_as_constants
        nodes.append(node)
    inputs = {value.name: value_of(value) for value in graph.input if value.name not in constants}
    inputs |= {sparse.values.name: Value(()) for sparse in graph.sparse_initializer}
    outputs = {value.name: value_of(value) for value in graph.output}
    return Graph(tuple(nodes), inputs, outputs, _used(folded, nodes, outputs))


def interface_of(model: onnx.ModelProto) -> tuple[dict[str, Value], dict[str, Value]]:
    """The inputs without a stored value, and the outputs, by name.

    Raises OnebranchError for sequences, maps and other values that are not arrays.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    for value in (*inputs, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            raise OnebranchError(f"'{value.name}' is not an array but a {value.type.WhichOneof('value')}")
    return (
        {value.name: value_of(value) for value in inputs},
        {value.name: value_of(value) for value in model.graph.output},
    )


def _value_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name that the main graph uses for a value."""
    yield from (value.name for value in (*graph.input, *graph.output))
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)


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


def value_of(value: onnx.ValueInfoProto) -> Value:
    """The shape and element type of a value; an empty shape and "undefined" where they are unknown.

    Open dimensions, zero and negative ones among them, have their name, or NAME.AXIS if they have none.
    """
    tensor = value.type.tensor_type
    shape = tuple(
        side.dim_value if side.dim_value > 0 else side.dim_param or f"{value.name}.{index}"
        for index, side in enumerate(tensor.shape.dim)
    )
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Value(shape, {"float": "float32", "double": "float64"}.get(kind, kind))


def _node(proto: onnx.NodeProto, names: set[str]) -> Node:
    """The operation, with names for omitted outputs and with the outer values that its subgraphs read."""
    kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
    count = max((index for index, name in enumerate(proto.output, 1) if name), default=0)
    outputs = tuple(
        name or fresh_name(f"{kind}.{index}", names) for index, name in enumerate(proto.output[:count])
    )
    captured = dict.fromkeys(name for name in names_read_in_subgraphs(proto) if name in names)
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    supported = {name: value for name, value in attributes.items() if value is not None}
    return Node(kind, (*proto.input, *captured), outputs, MappingProxyType(supported))


def names_read_in_subgraphs(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that the node's subgraphs read, their own values among them."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from names_read_in_subgraphs(inner)


def fresh_name(name: str, names: set[str]) -> str:
    """The name, or the first of NAME_1, NAME_2, ... that is not among `names`, to which it is added."""
    fresh, number = name, 1
    while fresh in names:
        fresh, number = f"{name}_{number}", number + 1
    names.add(fresh)
    return fresh


def _attribute(attribute: AttributeProto) -> Attribute | None:
    """The attribute's value; the first element of an array; None for graphs and other types."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.GraphProto):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _first_element(numpy_helper.to_array(value))
    if isinstance(value, int | float):
        return value
    numbers = list(value) if isinstance(value, Iterable) else []
    if all(isinstance(number, int) for number in numbers):
        return tuple(int(number) for number in numbers)
    if all(isinstance(number, int | float) for number in numbers):
        return tuple(float(number) for number in numbers)
    return None


def _first_element(array: np.ndarray) -> int | float | None:
    is_numeric = array.dtype.kind in "iuf" and array.size
    first: int | float | None = array.ravel()[0].item() if is_numeric else None
    return first


def _modern(node: Node, opset: int, names: set[str]) -> Rewritten:
    """The operation in the form that it has in opset 18; new constants get names that are not in `names`."""
    for kinds, opset_of_change, rewrite in _CONVERSIONS:
        if node.kind in kinds and opset < opset_of_change:
            return rewrite(node, names)
    return node, {}


def _attributes_to_inputs(*attribute_names: str) -> Rewrite:
    """Attributes of these names become constant inputs, in this order, after the first input."""

    def rewrite(node: Node, names: set[str]) -> Rewritten:
        attributes = dict(node.attributes)
        constants = {}
        inputs = [node.inputs[0]]
        for attribute_name in attribute_names:
            value = attributes.pop(attribute_name, None)
            constant = "" if value is None else fresh_name(f"{node.outputs[0]}.{attribute_name}", names)
            inputs.append(constant)
            if constant:
                constants[constant] = np.asarray(value)
        return replace(node, inputs=tuple(inputs), attributes=MappingProxyType(attributes)), constants

    return rewrite


def _softmax(node: Node, names: set[str]) -> Rewritten:
    """Softmax before opset 13: over all axes from `axis` on together; `axis` is 1 by default."""
    attributes = {"axis": 1, **node.attributes, "onwards": 1}
    return replace(node, attributes=MappingProxyType(attributes)), {}


def _resize(node: Node, names: set[str]) -> Rewritten:
    """Upsample, and Resize before opset 11: asymmetric coordinates, the nearest pixel by rounding down."""
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

_CONVERSIONS: tuple[tuple[tuple[str, ...], int, Rewrite], ...] = (
    (("Pad",), 11, _attributes_to_inputs("pads", "value")),
    (("Slice",), 10, _attributes_to_inputs("starts", "ends", "axes")),
    (("Squeeze", "Unsqueeze", "ReduceSum"), 13, _attributes_to_inputs("axes")),
    (("Split",), 13, _attributes_to_inputs("split")),
    (_REDUCTIONS, 18, _attributes_to_inputs("axes")),
    (("Softmax", "LogSoftmax", "Hardmax"), 13, _softmax),
    (("Resize",), 11, _resize),
    (("Upsample",), 99, _resize),
)
"""Kinds, the opset that changed their form, and the function that converts the older form to opset 18."""
