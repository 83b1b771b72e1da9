"""The constants of an ONNX model: initializers, Constant nodes, and what is computed from nothing else.

Floats are computed in float64, so that a padding that should equal a bias does. Random operations, quantized
weights and whatever a caller may replace are no constants.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onebranch.graph.onnx.file import opset_of

LARGEST = 1 << 27
"""Numbers in the largest constant that is computed."""

FOLDED = frozenset(
    [
        "Identity",
        "Reshape",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Flatten",
        "Concat",
        "Slice",
        "Split",
        "Gather",
        "Expand",
        "Tile",
        "Pad",
        "Cast",
        "Shape",
        "Size",
        "Range",
        "ConstantOfShape",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Sqrt",
        "Reciprocal",
        "Pow",
        "Exp",
        "Log",
        "Abs",
        "Sum",
        "ReduceSum",
        "ReduceMean",
        "ReduceL2",
        "MatMul",
        "Gemm",
        "Where",
        "Equal",
        "Not",
        "Max",
        "Min",
    ]
)
"""Operations without a state or chance; DequantizeLinear is left out so that int8 weights stay what they
are."""


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every constant value of the main graph by name, in its own type or float64."""
    graph = model.graph
    replaceable = {value.name for value in graph.input} if model.ir_version >= 4 else set()
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name not in replaceable
    }
    return with_computed(graph.node, known, opset_of(model))


def with_computed(
    nodes: Iterable[onnx.NodeProto], known: Mapping[str, np.ndarray], opset: int
) -> dict[str, np.ndarray]:
    """Known values, and those that operations, in order, compute from them alone."""
    result = dict(known)
    for node in nodes:
        result |= dict(_computed(node, result, opset))
    return result


def _computed(
    node: onnx.NodeProto, known: dict[str, np.ndarray], opset: int
) -> Iterator[tuple[str, np.ndarray]]:
    if node.domain not in ("", "ai.onnx"):
        return
    if node.op_type == "Constant":
        value = next((a for a in node.attribute if a.name == "value"), None)
        if value is not None:
            yield node.output[0], numpy_helper.to_array(value.t)
            return
    elif node.op_type not in FOLDED or not node.input:
        return
    if any(name and name not in known for name in node.input):
        return
    feeds = {name: _wide(known[name]) for name in node.input if name}
    if sum(array.size for array in feeds.values()) > LARGEST:
        return
    try:
        outputs = ReferenceEvaluator(_alone(node, feeds, opset)).run(None, feeds)
    except Exception:  # an operation that the reference cannot run is no constant, whatever it raises
        return
    for name, array in zip(node.output, outputs, strict=True):
        if name:
            yield name, np.asarray(array)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _alone(node: onnx.NodeProto, feeds: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    """A model of this one node; a cast to float32 stays as wide as it is."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if copy.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.DOUBLE
    values = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in copy.output if name]
    graph = onnx.helper.make_graph([copy], "constant", values, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
