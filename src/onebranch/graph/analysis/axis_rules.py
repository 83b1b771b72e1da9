"""Analysis rules for operations without a spatial window: element-wise, along axes, and on whole axes."""

from __future__ import annotations

from dataclasses import replace

from onebranch.graph.analysis.state import (
    AnalysisRule,
    AnalysisState,
    AnalysisValue,
    SymbolicValues,
    UnsupportedOperationError,
    axis_index,
    input_name,
    int_attribute,
    ints_attribute,
    str_attribute,
)
from onebranch.graph.analysis.symbolic_size import SymbolicSize, as_size, quotient
from onebranch.graph.analysis.symbolic_tensor import (
    SymbolicTensor,
    axis_length,
    broadcast,
    constant_axis,
    global_tensor,
    is_constant_axis,
    permuted,
    reshaped,
)
from onebranch.graph.operations import Node


def _elementwise(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    return [broadcast(state.tensors(node))]


def _like_first(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """An element-wise operation on the first input; the other inputs are constants such as scales."""
    return [state.tensor(node.inputs[0])]


def _global_like_first(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """The shape of the first input; every element may depend on the whole picture."""
    return [replace(broadcast([state.tensor(node.inputs[0])]), is_global=True)]


def _normalized(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """Batch normalization: element-wise, unless its statistics come from the picture (training mode)."""
    tensor = state.tensor(node.inputs[0])
    return [replace(tensor, is_global=tensor.is_global or bool(int_attribute(node, "training_mode", 0)))]


def _mixed(tensor: SymbolicTensor, axes: list[int]) -> SymbolicTensor:
    """The tensor after an operation that mixes all elements along these axes."""
    local = all(is_constant_axis(tensor.axes[axis]) for axis in axes)
    return replace(tensor, is_global=tensor.is_global or not local)


def _without_unused_fields(tensor: SymbolicTensor) -> SymbolicTensor:
    """The tensor without receptive fields of rows or columns that are no longer among its axes."""
    used = {factor for axis in tensor.axes for factor in axis}
    return replace(
        tensor,
        receptive_fields={
            factor: field for factor, field in tensor.receptive_fields.items() if factor in used
        },
    )


def _along_axis(default: int) -> AnalysisRule:
    """Softmax and similar operations along one axis or, if `onwards`, along that axis and all after it."""

    def rule(node: Node, state: AnalysisState) -> list[AnalysisValue]:
        tensor = state.tensor(node.inputs[0])
        axis = axis_index(int_attribute(node, "axis", default), len(tensor.axes))
        onwards = int_attribute(node, "onwards", 0)
        return [_mixed(tensor, list(range(axis, len(tensor.axes))) if onwards else [axis])]

    return rule


def _layer_normalized(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    axis = axis_index(int_attribute(node, "axis", -1), len(tensor.axes))
    return [_mixed(tensor, list(range(axis, len(tensor.axes))))]


def _instance_normalized(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """Instance and group normalization: over all elements of a channel or a group of channels."""
    tensor = state.tensor(node.inputs[0])
    return [_mixed(tensor, list(range(1, len(tensor.axes))))]


def _mean_variance(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    return [_mixed(tensor, ints_attribute(node, "axes", (0, 2, 3)))]


def _reduced_to_one(tensor: SymbolicTensor, axes: list[int], keep: bool) -> SymbolicTensor:
    mixed = _mixed(tensor, axes)
    for axis in axes:
        mixed = mixed.with_axis(axis, ())
    if not keep:
        mixed = permuted(mixed, [axis for axis in range(len(mixed.axes)) if axis not in axes])
    return _without_unused_fields(mixed)


def _reduced(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, rank = state.tensor(node.inputs[0]), len(state.tensor(node.inputs[0]).axes)
    given = state.integers(name) if (name := input_name(node, 1)) else []
    if not given and int_attribute(node, "noop_with_empty_axes", 0):
        return [tensor]
    axes = sorted({axis_index(axis, rank) for axis in given or range(rank)})
    return [_reduced_to_one(tensor, axes, bool(int_attribute(node, "keepdims", 1)))]


def _arg_reduced(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    axis = axis_index(int_attribute(node, "axis", 0), len(tensor.axes))
    return [_reduced_to_one(tensor, [axis], bool(int_attribute(node, "keepdims", 1)))]


def _global_pool(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    return [_reduced_to_one(tensor, list(range(2, len(tensor.axes))), True)]


def _transposed(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    return [permuted(tensor, ints_attribute(node, "perm", range(len(tensor.axes))[::-1]))]


def _reshaped(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, target = state.tensor(node.inputs[0]), state.sizes(node.inputs[1])
    shape = tensor.shape
    if not int_attribute(node, "allowzero", 0):
        target = [shape[k] if size.number == 0 else size for k, size in enumerate(target)]
    return [reshaped(tensor, _completed(target, shape))]


# Example: (1, 12, H, W) reshaped to (1, 3, -1, W): 12 H W / (3 W) = 4 H.
def _completed(target: list[SymbolicSize], shape: list[SymbolicSize]) -> list[SymbolicSize]:
    """The target shape of a Reshape, with -1 replaced by the size that keeps the number of elements."""
    open_axes = [k for k, size in enumerate(target) if size.number == -1]
    if not open_axes:
        return target
    total, known = as_size(1), as_size(1)
    for size in shape:
        total = total * size
    for size in target:
        known = known * (size if size.number != -1 else 1)
    return [quotient(total, known) if k in open_axes else size for k, size in enumerate(target)]


def _flattened(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    axis = int_attribute(node, "axis", 1) % (len(tensor.axes) + 1)
    sizes = [as_size(1), as_size(1)]
    for index, size in enumerate(tensor.shape):
        sizes[index >= axis] = sizes[index >= axis] * size
    return [reshaped(tensor, sizes)]


def _squeezed(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    rank = len(tensor.axes)
    if name := input_name(node, 1):
        dropped = {axis_index(axis, rank) for axis in state.integers(name)}
    else:
        dropped = {axis for axis in range(rank) if not tensor.axes[axis]}
    return [permuted(tensor, [axis for axis in range(rank) if axis not in dropped])]


def _unsqueezed(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, given = state.tensor(node.inputs[0]), state.integers(node.inputs[1])
    rank = len(tensor.axes) + len(given)
    new, old = {axis_index(axis, rank) for axis in given}, iter(tensor.axes)
    return [replace(tensor, axes=tuple(() if k in new else next(old) for k in range(rank)))]


def _concatenated(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensors = state.tensors(node)
    axis = axis_index(int_attribute(node, "axis", 0), len(tensors[0].axes))
    total = as_size(0)
    for tensor in tensors:
        total = total + tensor.shape[axis]
    rest = broadcast([tensor.with_axis(axis, ()) for tensor in tensors])
    if all(is_constant_axis(tensor.axes[axis]) for tensor in tensors):
        return [
            rest.with_axis(axis, constant_axis(sum(axis_length(tensor.axes[axis]) for tensor in tensors)))
        ]
    shape = rest.shape
    return [global_tensor([*shape[:axis], total, *shape[axis + 1 :]], rest)]


def _split(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    axis = axis_index(int_attribute(node, "axis", 0), len(tensor.axes))
    count = len(node.outputs)
    if not is_constant_axis(tensor.axes[axis]):
        raise UnsupportedOperationError("it splits the picture")
    whole = axis_length(tensor.axes[axis])
    if name := input_name(node, 1):
        sizes = state.integers(name)
    else:
        # Without sizes the last part may be smaller. Example: 7 channels in 3 parts: 3, 3 and 1.
        each = -(-whole // count)
        sizes = [each] * (count - 1) + [whole - each * (count - 1)]
    return [tensor.with_axis(axis, constant_axis(size)) for size in sizes]


def _gathered(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """Elements of an axis, selected by constant indices or by indices computed from pixel values."""
    tensor, indices = state.tensor(node.inputs[0]), state.tensor(node.inputs[1])
    axis = axis_index(int_attribute(node, "axis", 0), len(tensor.axes))
    if any(factor in tensor.receptive_fields for axis_factors in indices.axes for factor in axis_factors):
        raise UnsupportedOperationError("its indices depend on the picture")
    whole = tensor.is_global or indices.is_global or not is_constant_axis(tensor.axes[axis])
    axes = (*tensor.axes[:axis], *indices.axes, *tensor.axes[axis + 1 :])
    return [_without_unused_fields(replace(tensor, axes=axes, is_global=whole))]


def _expanded(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    return [broadcast([tensor, _uniform(state.sizes(node.inputs[1]), state)])]


def _filled(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    return [_uniform(state.sizes(node.inputs[0]), state)]


def _uniform(shape: list[SymbolicSize], state: AnalysisState) -> SymbolicTensor:
    """A tensor of that shape filled with one number; its pixels do not depend on the picture."""
    tensor = global_tensor(shape, SymbolicTensor((), input_size=state.input_size))
    if any(isinstance(factor, SymbolicSize) for axis in tensor.axes for factor in axis):
        return tensor
    return replace(tensor, is_global=False)


def _range(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """`Range`: pixel positions, if its length is the picture's height or width."""
    (start,), (end,), (step,) = (state.sizes(name) for name in node.inputs)
    return [
        global_tensor(
            [state.floored(quotient(end - start, step))], SymbolicTensor((), input_size=state.input_size)
        )
    ]


def _tiled(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, repeats = state.tensor(node.inputs[0]), state.sizes(node.inputs[1])
    for axis, times in enumerate(repeats):
        if times.number == 1:
            continue
        if times.number is not None and is_constant_axis(tensor.axes[axis]):
            tensor = tensor.with_axis(axis, constant_axis(int(times.number) * axis_length(tensor.axes[axis])))
        else:
            shape = tensor.shape
            tensor = global_tensor([*shape[:axis], shape[axis] * times, *shape[axis + 1 :]], tensor)
    return [tensor]


def _matrix_product(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """(..., M, K) @ (..., K, N): local if K is constant and neither rows nor columns occur twice."""
    one, two = state.tensor(node.inputs[0]), state.tensor(node.inputs[1])
    if len(two.axes) == 1:
        two = replace(two, axes=(*two.axes, ()))
    if len(one.axes) == 1:
        one = replace(one, axes=((), *one.axes))
    left = one.with_axis(len(one.axes) - 1, ())
    right = two.with_axis(len(two.axes) - 2, ())
    result = broadcast([left, right])
    local = is_constant_axis(one.axes[-1]) and is_constant_axis(two.axes[-2])
    ranks = [len(state.tensor(name).axes) for name in node.inputs[:2]]
    keep = [k for k in range(len(result.axes)) if not _is_vector_axis(k - len(result.axes), ranks)]
    return [_without_unused_fields(permuted(replace(result, is_global=result.is_global or not local), keep))]


def _is_vector_axis(axis: int, ranks: list[int]) -> bool:
    """True for the axis (counted from the end) that was added to an operand of rank 1."""
    return (axis == -1 and ranks[1] == 1) or (axis == -2 and ranks[0] == 1)


def _gemm(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    one, two = state.tensor(node.inputs[0]), state.tensor(node.inputs[1])
    rows = permuted(one, (1, 0)) if int_attribute(node, "transA", 0) else one
    columns = permuted(two, (1, 0)) if int_attribute(node, "transB", 0) else two
    result = broadcast([rows.with_axis(1, ()), columns.with_axis(0, ())])
    local = is_constant_axis(rows.axes[1]) and is_constant_axis(columns.axes[0])
    return [_without_unused_fields(replace(result, is_global=result.is_global or not local))]


def _einsum(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """`Einsum`: a sum of products over the axes that the result does not name."""
    terms, arrow, result = str_attribute(node, "equation", "").replace(" ", "").partition("->")
    tensors, labels = state.tensors(node), terms.split(",")
    if not arrow or "." in terms + result or any(len(set(term)) < len(term) for term in labels):
        raise UnsupportedOperationError("only equations that name every axis once are understood")
    order = sorted(set(terms.replace(",", "")))
    aligned = [_aligned_to_labels(tensor, term, order) for tensor, term in zip(tensors, labels, strict=True)]
    total = broadcast(aligned)
    summed = [k for k, label in enumerate(order) if label not in result]
    local = all(is_constant_axis(tensor.axes[k]) for tensor in aligned for k in summed)
    kept = permuted(total, [order.index(label) for label in result])
    return [_without_unused_fields(replace(kept, is_global=kept.is_global or not local))]


def _aligned_to_labels(tensor: SymbolicTensor, term: str, order: list[str]) -> SymbolicTensor:
    """The axes in the order of all labels; labels that the term does not name get an axis of one element."""
    return replace(tensor, axes=tuple(tensor.axes[term.index(k)] if k in term else () for k in order))


def _identity(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    values = state.symbolic_values(node.inputs[0])
    return [values if isinstance(values, SymbolicValues) else state.tensor(node.inputs[0])]


_ELEMENTWISE_BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sum", "Mean", "Max", "Min", "Where", "PRelu"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "BitShift"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)

_ELEMENTWISE_UNARY = (
    *("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Floor", "Ceil", "Round", "Sign", "Erf", "Not"),
    *(
        "Sin",
        "Cos",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Acosh",
        "Atanh",
        "IsNaN",
        "IsInf",
    ),
    *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign"),
    *(
        "HardSwish",
        "Mish",
        "Gelu",
        "Swish",
        "ThresholdedRelu",
        "Shrink",
        "Clip",
        "Cast",
        "CastLike",
        "Dropout",
    ),
    *("LRN", "QuantizeLinear", "DequantizeLinear", "BitwiseNot"),
)

_GLOBAL_SHAPE_PRESERVING = (
    *("ScatterND", "ScatterElements", "Scatter", "Trilu", "ReverseSequence", "RandomNormalLike", "Bernoulli"),
    *("RandomUniformLike", "DynamicQuantizeLinear"),
)

_AXIS_REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)

AXIS_RULES: dict[str, AnalysisRule] = {
    **dict.fromkeys(_ELEMENTWISE_BROADCAST, _elementwise),
    **dict.fromkeys(_ELEMENTWISE_UNARY, _like_first),
    **dict.fromkeys(_GLOBAL_SHAPE_PRESERVING, _global_like_first),
    **dict.fromkeys(_AXIS_REDUCTIONS, _reduced),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_reduced),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along_axis(-1)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_normalized),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _instance_normalized),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matrix_product),
    "MeanVarianceNormalization": _mean_variance,
    "BatchNormalization": _normalized,
    "CumSum": _global_like_first,
    "Identity": _identity,
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Concat": _concatenated,
    "Split": _split,
    "Gather": _gathered,
    "Expand": _expanded,
    "ConstantOfShape": _filled,
    "Tile": _tiled,
    "Range": _range,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
"""Rules by operator, for all operators without a spatial window."""
