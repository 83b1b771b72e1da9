"""Reasons for linear ONNX operations that no rule reads, such as resizing or attention's reshapes.

An operation that computes is always given a reason. One that only moves numbers is given one where it reads
or is read by a linear operation that the merge understands, because it separates it from its neighbours.
"""

from collections.abc import Collection, Iterator

from onebranch.graph.analysis.state import input_name, str_attribute
from onebranch.graph.merge.checks import BROADCAST, MATRIX_PRODUCT
from onebranch.graph.merge.linear import Step, Unmerged
from onebranch.graph.onnx.analyzed_model import MERGED_TYPES, SHORT_FLOATS, AnalyzedModel
from onebranch.graph.operations import Node

_PICTURE_AVERAGE = "it averages over the whole picture, whose size may vary"
_INTEGERS = "its numbers are 8-bit integers: merge the float32 model, then quantize"

COMPUTING_ONNX_OPERATIONS = {
    **dict.fromkeys(("Resize", "Upsample"), "it resizes the picture"),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), "it moves numbers between channels and pixels"),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _PICTURE_AVERAGE),
    "ReduceMean over the channels": "it averages over the channels, which would take one more convolution",
    **dict.fromkeys(("ReduceSum", "CumSum"), "it sums over an axis"),
    "Mean": "it averages several values; an Add and a product with a constant would be merged",
    "Sum": "it adds a constant to several values; an Add of two would be merged",
    **dict.fromkeys(("MatMul", "Gemm", "Einsum"), MATRIX_PRODUCT),
    **dict.fromkeys(("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"), _INTEGERS),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _INTEGERS),
    "Col2Im": "it adds up overlapping windows",
    **dict.fromkeys(("DFT", "STFT"), "it is a Fourier transform"),
    "GridSample": "it moves and interpolates pixels",
}
"""Operators that compute a linear function which is not a 2-D convolution, with the reason."""

MOVING_ONNX_OPERATIONS = {
    "Slice": "it crops or subsamples the picture or the batch, not only the channels",
    "Split": "it splits the picture or the batch, not the channels",
    "Concat": "it joins along another axis than the channels",
    **dict.fromkeys(
        ("Gather", "GatherND", "GatherElements", "Compress"), "it selects rows, columns, pixels or pictures"
    ),
    "Tile": "it repeats the picture or the batch",
    "Expand": "it repeats a value along its axes of one element",
    "Transpose": "it exchanges axes",
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "it changes the shape of the value"),
    "Where": "it selects numbers by a mask",
    "Trilu": "it sets a triangle of the picture to zero",
    "ReverseSequence": "it reverses the order of rows or columns",
    **dict.fromkeys(("ScatterND", "ScatterElements", "Scatter"), "it overwrites single numbers"),
    **dict.fromkeys(("Cast", "CastLike"), "it converts numbers to another type"),
    "Pad": "it pads with the picture's own pixels",
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div"),
        "it combines a value with a tensor whose shape depends on the picture's size",
    ),
}
"""Operators that move, select or convert numbers in a way that is not merged, with the reason."""


def reasons_without_rule(
    model: AnalyzedModel, steps: Collection[Step], explained: Collection[str], values: Collection[str]
) -> Iterator[Unmerged]:
    """Linear operations that are neither read nor explained yet, each with its reason.

    steps: the linear operations that were read. explained: outputs of operations that have a reason already,
    or are part of something else. values: names of values that depend on the numbers of an input, and not
    only on its size.
    """
    linear = {step.value for step in steps} | {name for step in steps for name in step.inputs}
    known = {step.value for step in steps} | set(explained)
    for node in model.graph.nodes:
        if not known.isdisjoint(node.outputs) or not _is_linear(node, model, values):
            continue
        reason = COMPUTING_ONNX_OPERATIONS.get(_kind(node, model))
        if reason is None and not linear.isdisjoint((*node.inputs, *node.outputs)):
            reason = _reason_of_moving(node, values)
        if reason is not None:
            yield Unmerged(node.outputs[0], f"{node.kind}: {reason}")


def _reason_of_moving(node: Node, values: Collection[str]) -> str:
    """The reason; of a sum or difference of two values, that they differ in shape; of padding, its mode."""
    if node.kind in ("Add", "Sub") and sum(name in values for name in node.inputs) > 1:
        return BROADCAST
    mode = f" (mode '{str_attribute(node, 'mode', 'constant')}')" if node.kind == "Pad" else ""
    return MOVING_ONNX_OPERATIONS[node.kind] + mode


def _kind(node: Node, model: AnalyzedModel) -> str:
    """The operator; an average is over the channels where its axes are constant and contain only axis 1."""
    axes = model.graph.constants.get(input_name(node, 1)) if node.kind == "ReduceMean" else None
    over_channels = axes is not None and [axis % max(1, model.rank(node.inputs[0])) for axis in axes] == [1]
    return "ReduceMean over the channels" if over_channels else node.kind


def _is_linear(node: Node, model: AnalyzedModel, values: Collection[str]) -> bool:
    """True if the operation is a linear function of one float value, or of values that it joins or adds."""
    if node.kind not in COMPUTING_ONNX_OPERATIONS and node.kind not in MOVING_ONNX_OPERATIONS:
        return False
    if node.kind == "Pad" and str_attribute(node, "mode", "constant") == "constant":
        return False
    dependent = [name for name in node.inputs if name in values]
    if node.kind in _ONNX_OPERATIONS_OF_ONE_VALUE and len(dependent) != 1:
        return False
    return bool(dependent) and all(_is_float(name, model) for name in dependent)


_ONNX_OPERATIONS_OF_ONE_VALUE = frozenset(("MatMul", "Gemm", "Einsum", "Mul", "Div", "GridSample", "Where"))
"""Operators that are linear only if all but one of their inputs do not depend on the picture's numbers."""


def _is_float(name: str, model: AnalyzedModel) -> bool:
    kind = model.types.get(name, "")
    return kind in (*MERGED_TYPES, *SHORT_FLOATS) or kind in ("int8", "uint8", "int32", "")


def values_of_numbers(model: AnalyzedModel) -> set[str]:
    """Values that depend on the numbers of an input, and not only on its size."""
    dependent = set(model.graph.inputs)
    for node in model.graph.nodes:
        is_size = node.kind in ("Shape", "Size", "ConstantOfShape")
        if not is_size and any(input_name(node, k) in dependent for k in range(len(node.inputs))):
            dependent.update(node.outputs)
    return dependent
