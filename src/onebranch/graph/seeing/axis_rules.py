"""Rules for operations that look at no neighbours: element by element, on axes, along axes, on everything."""

from __future__ import annotations

from dataclasses import replace

from onebranch.graph.operations import Node
from onebranch.graph.seeing.scope import (
    Numbers,
    Rule,
    Scope,
    Unknown,
    Value,
    axis_index,
    input_name,
    integer,
    integers,
    text,
)
from onebranch.graph.seeing.size import Size, as_size, quotient
from onebranch.graph.seeing.view import (
    View,
    is_plain,
    joined,
    length,
    of_shape,
    permuted,
    plain,
    reshaped,
)


def _pointwise(node: Node, scope: Scope) -> list[Value]:
    return [joined(scope.views(node))]


def _like_first(node: Node, scope: Scope) -> list[Value]:
    """Element by element of the first input; the others are scales, types and the like."""
    return [scope.view(node.inputs[0])]


def _everything(node: Node, scope: Scope) -> list[Value]:
    """An output like the first input, of which every element may depend on everything."""
    return [replace(joined([scope.view(node.inputs[0])]), whole=True)]


def _normalized(node: Node, scope: Scope) -> list[Value]:
    """Batch normalization: element by element, unless it takes its statistics from the picture."""
    view = scope.view(node.inputs[0])
    return [replace(view, whole=view.whole or bool(integer(node, "training_mode", 0)))]


def _mixed(view: View, axes: list[int]) -> View:
    """Every element of these axes made from all of them."""
    local = all(is_plain(view.axes[axis]) for axis in axes)
    return replace(view, whole=view.whole or not local)


def _without_parts(view: View) -> View:
    """The reach of rows and columns that are no longer among the axes forgotten."""
    left = {part for axis in view.axes for part in axis}
    return replace(view, reaches={part: reach for part, reach in view.reaches.items() if part in left})


def _along_axis(default: int) -> Rule:
    def rule(node: Node, scope: Scope) -> list[Value]:
        view = scope.view(node.inputs[0])
        axis = axis_index(integer(node, "axis", default), len(view.axes))
        onwards = integer(node, "onwards", 0)
        return [_mixed(view, list(range(axis, len(view.axes))) if onwards else [axis])]

    return rule


def _layer_normalized(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    axis = axis_index(integer(node, "axis", -1), len(view.axes))
    return [_mixed(view, list(range(axis, len(view.axes))))]


def _over_space(node: Node, scope: Scope) -> list[Value]:
    """Instance and group normalization: all of a channel's, or a group's, elements together."""
    view = scope.view(node.inputs[0])
    return [_mixed(view, list(range(1, len(view.axes))))]


def _mean_variance(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    return [_mixed(view, integers(node, "axes", (0, 2, 3)))]


def _reduced_to_one(view: View, axes: list[int], keep: bool) -> View:
    mixed = _mixed(view, axes)
    for axis in axes:
        mixed = mixed.with_axis(axis, ())
    if not keep:
        mixed = permuted(mixed, [axis for axis in range(len(mixed.axes)) if axis not in axes])
    return _without_parts(mixed)


def _reduced(node: Node, scope: Scope) -> list[Value]:
    view, rank = scope.view(node.inputs[0]), len(scope.view(node.inputs[0]).axes)
    given = scope.integers(name) if (name := input_name(node, 1)) else []
    if not given and integer(node, "noop_with_empty_axes", 0):
        return [view]
    axes = sorted({axis_index(axis, rank) for axis in given or range(rank)})
    return [_reduced_to_one(view, axes, bool(integer(node, "keepdims", 1)))]


def _extreme(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    axis = axis_index(integer(node, "axis", 0), len(view.axes))
    return [_reduced_to_one(view, [axis], bool(integer(node, "keepdims", 1)))]


def _global_pool(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    return [_reduced_to_one(view, list(range(2, len(view.axes))), True)]


def _transposed(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    return [permuted(view, integers(node, "perm", range(len(view.axes))[::-1]))]


def _reshaped(node: Node, scope: Scope) -> list[Value]:
    view, target = scope.view(node.inputs[0]), scope.sizes(node.inputs[1])
    shape = view.shape
    if not integer(node, "allowzero", 0):
        target = [shape[k] if size.number == 0 else size for k, size in enumerate(target)]
    return [reshaped(view, _completed(target, shape))]


def _completed(target: list[Size], shape: list[Size]) -> list[Size]:
    """The one size that is -1 computed from the others."""
    open_places = [k for k, size in enumerate(target) if size.number == -1]
    if not open_places:
        return target
    total, known = as_size(1), as_size(1)
    for size in shape:
        total = total * size
    for size in target:
        known = known * (size if size.number != -1 else 1)
    return [quotient(total, known) if k in open_places else size for k, size in enumerate(target)]


def _flattened(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    axis = integer(node, "axis", 1) % (len(view.axes) + 1)
    sizes = [as_size(1), as_size(1)]
    for index, size in enumerate(view.shape):
        sizes[index >= axis] = sizes[index >= axis] * size
    return [reshaped(view, sizes)]


def _squeezed(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    rank = len(view.axes)
    if name := input_name(node, 1):
        dropped = {axis_index(axis, rank) for axis in scope.integers(name)}
    else:
        dropped = {axis for axis in range(rank) if not view.axes[axis]}
    return [permuted(view, [axis for axis in range(rank) if axis not in dropped])]


def _unsqueezed(node: Node, scope: Scope) -> list[Value]:
    view, given = scope.view(node.inputs[0]), scope.integers(node.inputs[1])
    rank = len(view.axes) + len(given)
    new, old = {axis_index(axis, rank) for axis in given}, iter(view.axes)
    return [replace(view, axes=tuple(() if k in new else next(old) for k in range(rank)))]


def _concatenated(node: Node, scope: Scope) -> list[Value]:
    views = scope.views(node)
    axis = axis_index(integer(node, "axis", 0), len(views[0].axes))
    total = as_size(0)
    for view in views:
        total = total + view.shape[axis]
    rest = joined([view.with_axis(axis, ()) for view in views])
    if all(is_plain(view.axes[axis]) for view in views):
        return [rest.with_axis(axis, plain(sum(length(view.axes[axis]) for view in views)))]
    shape = rest.shape
    return [of_shape([*shape[:axis], total, *shape[axis + 1 :]], rest)]


def _split(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    axis = axis_index(integer(node, "axis", 0), len(view.axes))
    count = len(node.outputs)
    if not is_plain(view.axes[axis]):
        raise Unknown("it splits the picture")
    whole = length(view.axes[axis])
    if name := input_name(node, 1):
        sizes = scope.integers(name)
    else:
        each = -(-whole // count)
        sizes = [each] * (count - 1) + [whole - each * (count - 1)]
    return [view.with_axis(axis, plain(size)) for size in sizes]


def _gathered(node: Node, scope: Scope) -> list[Value]:
    """Elements of an axis, chosen by constant indices or by what depends on the picture."""
    view, chosen = scope.view(node.inputs[0]), scope.view(node.inputs[1])
    axis = axis_index(integer(node, "axis", 0), len(view.axes))
    if any(part in view.reaches for one in chosen.axes for part in one):
        raise Unknown("its indices depend on the picture")
    whole = view.whole or chosen.whole or not is_plain(view.axes[axis])
    axes = (*view.axes[:axis], *chosen.axes, *view.axes[axis + 1 :])
    return [_without_parts(replace(view, axes=axes, whole=whole))]


def _expanded(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    return [joined([view, _uniform(scope.sizes(node.inputs[1]), scope)])]


def _filled(node: Node, scope: Scope) -> list[Value]:
    return [_uniform(scope.sizes(node.inputs[0]), scope)]


def _uniform(shape: list[Size], scope: Scope) -> View:
    """An array of that shape, the same number everywhere: all of its pixels are right."""
    view = of_shape(shape, View((), picture=scope.picture))
    if any(isinstance(part, Size) for axis in view.axes for part in axis):
        return view
    return replace(view, whole=False)


def _counted(node: Node, scope: Scope) -> list[Value]:
    """The numbers from one to another: places in the picture, where there are as many as it has rows."""
    (start,), (end,), (step,) = (scope.sizes(name) for name in node.inputs)
    return [of_shape([scope.rounded(quotient(end - start, step))], View((), picture=scope.picture))]


def _tiled(node: Node, scope: Scope) -> list[Value]:
    view, repeats = scope.view(node.inputs[0]), scope.sizes(node.inputs[1])
    for axis, times in enumerate(repeats):
        if times.number == 1:
            continue
        if times.number is not None and is_plain(view.axes[axis]):
            view = view.with_axis(axis, plain(int(times.number) * length(view.axes[axis])))
        else:
            shape = view.shape
            view = of_shape([*shape[:axis], shape[axis] * times, *shape[axis + 1 :]], view)
    return [view]


def _matrix_product(node: Node, scope: Scope) -> list[Value]:
    """(..., M, K) @ (..., K, N): local where K is plain and rows and columns do not meet themselves."""
    one, two = scope.view(node.inputs[0]), scope.view(node.inputs[1])
    if len(two.axes) == 1:
        two = replace(two, axes=(*two.axes, ()))
    if len(one.axes) == 1:
        one = replace(one, axes=((), *one.axes))
    left = one.with_axis(len(one.axes) - 1, ())
    right = two.with_axis(len(two.axes) - 2, ())
    result = joined([left, right])
    local = is_plain(one.axes[-1]) and is_plain(two.axes[-2])
    ranks = [len(scope.view(name).axes) for name in node.inputs[:2]]
    keep = [k for k in range(len(result.axes)) if not _is_dropped(k - len(result.axes), ranks)]
    return [_without_parts(permuted(replace(result, whole=result.whole or not local), keep))]


def _is_dropped(axis: int, ranks: list[int]) -> bool:
    """Whether an axis, counted from the end, is one that a vector does not have."""
    return (axis == -1 and ranks[1] == 1) or (axis == -2 and ranks[0] == 1)


def _gemm(node: Node, scope: Scope) -> list[Value]:
    one, two = scope.view(node.inputs[0]), scope.view(node.inputs[1])
    rows = permuted(one, (1, 0)) if integer(node, "transA", 0) else one
    columns = permuted(two, (1, 0)) if integer(node, "transB", 0) else two
    result = joined([rows.with_axis(1, ()), columns.with_axis(0, ())])
    local = is_plain(rows.axes[1]) and is_plain(columns.axes[0])
    return [_without_parts(replace(result, whole=result.whole or not local))]


def _einsum(node: Node, scope: Scope) -> list[Value]:
    """A sum of products over the axes that the result does not name."""
    terms, arrow, result = text(node, "equation", "").replace(" ", "").partition("->")
    views, labels = scope.views(node), terms.split(",")
    if not arrow or "." in terms + result or any(len(set(term)) < len(term) for term in labels):
        raise Unknown("only equations that name every axis once are understood")
    order = sorted(set(terms.replace(",", "")))
    spread = [_spread(view, term, order) for view, term in zip(views, labels, strict=True)]
    total = joined(spread)
    summed = [k for k, label in enumerate(order) if label not in result]
    local = all(is_plain(view.axes[k]) for view in spread for k in summed)
    kept = permuted(total, [order.index(label) for label in result])
    return [_without_parts(replace(kept, whole=kept.whole or not local))]


def _spread(view: View, term: str, order: list[str]) -> View:
    """The axes in the order of all labels; those that the term does not name have one element."""
    return replace(view, axes=tuple(view.axes[term.index(k)] if k in term else () for k in order))


def _identity(node: Node, scope: Scope) -> list[Value]:
    found = scope.numbers(node.inputs[0])
    return [found if isinstance(found, Numbers) else scope.view(node.inputs[0])]


_POINTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sum", "Mean", "Max", "Min", "Where", "PRelu"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "BitShift"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)

_EACH = (
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

_SHAPE_KEEPING = (
    *("ScatterND", "ScatterElements", "Scatter", "Trilu", "ReverseSequence", "RandomNormalLike", "Bernoulli"),
    *("RandomUniformLike", "DynamicQuantizeLinear"),
)

_REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)

AXIS_RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_EACH, _like_first),
    **dict.fromkeys(_SHAPE_KEEPING, _everything),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("ArgMax", "ArgMin"), _extreme),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along_axis(-1)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_normalized),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _over_space),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matrix_product),
    "MeanVarianceNormalization": _mean_variance,
    "BatchNormalization": _normalized,
    "CumSum": _everything,
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
    "Range": _counted,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
"""What the other operations do to the axes."""
