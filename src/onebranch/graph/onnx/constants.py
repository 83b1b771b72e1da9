"""Constant folding: initializers, Constant nodes, and values computed from these alone.

Every operation is computed twice: in its own types, as a runtime does, and with float64 in place of float32.
The float64 result is kept where both agree up to rounding, so that constants that are mathematically equal
compare equal, in whatever order they were computed. Where the two disagree (a discontinuous operation such as
Floor), the runtime's result is kept. Random numbers, quantized weights and values that a caller
may replace are not constants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from onebranch.graph.onnx.file import opset_of

MAX_ELEMENTS = 1 << 27
"""An operation is computed if its inputs have at most this many elements in total."""

ROUNDING = 1e-4
"""Largest difference, relative to the largest element, that counts as float32 rounding."""

MULTIPLYING = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"))
"""Foldable operations that take more than one multiplication per element."""

FOLDABLE = MULTIPLYING | frozenset(
    (
        *("Identity", "Cast", "CastLike", "Shape", "Size", "Range", "ConstantOfShape", "EyeLike"),
        *("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Concat", "Slice", "Split", "Gather"),
        *("Expand", "Tile", "Pad", "ScatterND", "ScatterElements", "GatherND", "GatherElements", "Trilu"),
        *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Sum", "Mean", "Max", "Min", "Where", "Clip"),
        *("Neg", "Abs", "Sign", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Floor", "Ceil", "Round"),
        *("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign"),
        *("Softmax", "LogSoftmax", "BatchNormalization", "InstanceNormalization", "LayerNormalization"),
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
        *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "CumSum", "GlobalAveragePool"),
        *("GlobalMaxPool", "AveragePool", "DepthToSpace", "SpaceToDepth", "LpNormalization"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor"),
    )
)
"""Operations without state or randomness. DequantizeLinear is left out, so that int8 weights stay int8."""


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every constant value of the main graph by name, in its own type or float64."""
    return with_computed(model.graph.node, stored_constants(model), opset_of(model))


def stored_constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The initializers of the main graph that a caller cannot replace."""
    replaceable = {value.name for value in model.graph.input} if model.ir_version >= 4 else set()
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name not in replaceable
    }


def products_of_constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Constants, computed with convolutions or matrix products, that non-constant operations read.

    Each has its own type; it is rounded once from float64 where that agrees with the runtime's arithmetic.
    Example: with product = MatMul(a, b) of initializers, kernel = Reshape(product, shape) and
    y = Conv(x, kernel), the result is {"kernel": ...}.
    """
    folder = _Folder(opset_of(model), stored_constants(model), stored_constants(model))
    products: set[str] = set()
    needed: dict[str, None] = {}
    for node in model.graph.node:
        folder.fold(node)
        if not all(name in folder.values for name in node.output if name):
            needed |= dict.fromkeys(name for name in node.input if name in products)
        elif node.op_type in MULTIPLYING or not products.isdisjoint(node.input):
            products.update(filter(None, node.output))
    return {name: folder.values[name].astype(folder.in_own_types[name].dtype) for name in needed}


def with_computed(
    nodes: Iterable[onnx.NodeProto], known: Mapping[str, np.ndarray], opset: int
) -> dict[str, np.ndarray]:
    """The known values, and all values that the nodes, in this order, compute from known values alone."""
    folder = _Folder(opset, dict(known), dict(known))
    for node in nodes:
        if node.domain in ("", "ai.onnx"):
            folder.fold(node)
    return folder.values


@dataclass
class _Folder:
    """Computes operations on constants. in_own_types: as a runtime does. values: in float64, or the same."""

    opset: int
    values: dict[str, np.ndarray]
    in_own_types: dict[str, np.ndarray] = field(default_factory=dict)

    def fold(self, node: onnx.NodeProto) -> None:
        """Add the node's outputs if it can be computed from constants."""
        if node.op_type == "Constant":
            self._add_constant(node)
        elif node.op_type in FOLDABLE and node.input and self._is_computable(node):
            self._compute(node)

    def _add_constant(self, node: onnx.NodeProto) -> None:
        tensor = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if tensor is None:
            self._compute(node)
        else:
            self._add(node.output[0], numpy_helper.to_array(tensor), None)

    def _is_computable(self, node: onnx.NodeProto) -> bool:
        names = [name for name in node.input if name]
        known = all(name in self.values for name in names)
        return known and sum(self.values[name].size for name in names) <= MAX_ELEMENTS

    # Example: 4.35, stored in float32, times 100 is 435 in float32 and 434.99999 in float64. Both agree up to
    # rounding, so the float64 result is kept. Their Floor is 435 and 434: here the runtime's result, 435, is
    # kept.
    def _compute(self, node: onnx.NodeProto) -> None:
        names = [name for name in node.input if name]
        exact = _evaluated(node, {name: self.in_own_types[name] for name in names}, self.opset)
        wide = _evaluated(_widened(node), {name: _wide(self.values[name]) for name in names}, self.opset)
        outputs = [name for name in node.output if name]
        for index, name in enumerate(outputs if len(exact) == len(outputs) else ()):
            self._add(name, exact[index], wide[index] if len(wide) == len(outputs) else None)

    def _add(self, name: str, in_own_type: np.ndarray, wide: np.ndarray | None) -> None:
        self.in_own_types[name] = in_own_type
        self.values[name] = in_own_type
        if wide is not None and in_own_type.dtype == np.float32:
            self.values[name] = wide if _agree(wide, in_own_type) else _wide(in_own_type)


def _evaluated(node: onnx.NodeProto, inputs: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    """The node's outputs; none if the reference implementation cannot run it."""
    try:
        with np.errstate(all="ignore"):
            outputs = ReferenceEvaluator(_single_node_model(node, inputs, opset)).run(None, inputs)
    except Exception:  # the reference implementation raises exceptions of any kind
        return []
    return [np.asarray(output) for output in outputs]


def _agree(wide: np.ndarray, narrow: np.ndarray) -> bool:
    """True if two results differ by rounding only."""
    if wide.shape != narrow.shape or wide.dtype != np.float64 or not np.isfinite(narrow).all():
        return False
    return bool(np.abs(wide - narrow).max(initial=0) <= ROUNDING * np.abs(narrow).max(initial=0))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widened(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with casts to float32 replaced by casts to float64."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if copy.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    return copy


def _single_node_model(node: onnx.NodeProto, inputs: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    values = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "constant", values, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
