"""Conversion of graphs to ONNX models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onebranch.graph.operations import EDGE_FILL, Graph, Node, Value

OPSET = 18
"""The oldest opset that the newest exporters of the field write, so that the most runtimes read it."""

IR_VERSION = 8
"""The oldest file layout that holds opset 18, so that the most runtimes read it."""


def to_onnx(graph: Graph, metadata: Mapping[str, str] | None = None) -> bytes:
    """The graph as an ONNX file's content; the same graph gives the same bytes.

    metadata: stored as the file's properties.
    """
    nodes: list[onnx.NodeProto] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        if node.kind == EDGE_FILL:
            nodes += _edge_fill(node, constants)
        else:
            nodes.append(_node(node.kind, node.inputs, node.outputs, **node.attributes))
    proto = helper.make_graph(
        nodes,
        "onebranch",
        [_value(name, value) for name, value in graph.inputs.items()],
        [_value(name, value) for name, value in graph.outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "onebranch"
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _node(kind: str, inputs: tuple[str, ...], outputs: tuple[str, ...], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)


def _value(name: str, value: Value) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.kind))
    return helper.make_tensor_value_info(name, kind, value.shape)


def _edge_fill(node: Node, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """`EdgeFill` in ONNX: the open height and width, negated, modulo the multiple, are the padding."""
    picture, output = node.inputs[0], node.outputs[0]
    size, negated, missing, pads = (f"{output}.{part}" for part in ("size", "negated", "missing", "pads"))
    multiple, none = f"{output}.multiple", f"{output}.none"
    constants[multiple] = np.asarray(node.attributes["multiple"], np.int64).reshape(1)
    constants[none] = np.zeros(6, np.int64)
    return [
        _node("Shape", (picture,), (size,), start=2, end=4),
        _node("Neg", (size,), (negated,)),
        _node("Mod", (negated, multiple), (missing,)),
        _node("Concat", (none, missing), (pads,), axis=0),
        _node("Pad", (picture, pads), (output,), mode="edge"),
    ]
