"""Rules that express ONNX operations as linear operations, one per operator, using the graph's analysis."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding
from onebranch.graph.analysis.state import input_name, int_attribute, ints_attribute, str_attribute
from onebranch.graph.merge.checks import (
    BROADCAST,
    NotLinear,
    convolve,
    normalize,
    per_channel,
    same_padding,
    scale,
    transposed,
)
from onebranch.graph.merge.linear import (
    Average,
    Join,
    Linear,
    Pad,
    Pass,
    Select,
    Sum,
)
from onebranch.graph.onnx.analyzed_model import (
    ELEMENT_TYPES,
    MAX_SLICE_BOUND,
    MERGED_TYPES,
    AnalyzedModel,
    AxisSizes,
    OnnxRule,
    Read,
)
from onebranch.graph.onnx.overwritten_rows import overwritten, scattered
from onebranch.graph.operations import Node

# Windows


class _Window(NamedTuple):
    """Strides, dilations and padding of a convolution or pool over two axes."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: Padding


def _window(node: Node, kernel: tuple[int, ...]) -> _Window:
    """The window of a convolution or pool. Raises NotLinear."""
    strides, dilations = (
        tuple(ints_attribute(node, "strides", (1, 1))),
        tuple(ints_attribute(node, "dilations", (1, 1))),
    )
    mode = str_attribute(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        padding = same_padding(kernel, strides, dilations, mode == "SAME_LOWER")
        return _Window(strides, dilations, padding)
    pads = ints_attribute(node, "pads", (0, 0, 0, 0)) if mode != "VALID" else (0, 0, 0, 0)
    if len(pads) != 4:
        raise NotLinear(f"it moves along {len(pads) // 2} axes, not 2")
    return _Window(strides, dilations, Padding.from_onnx(pads))


def _bias(node: Node, model: AnalyzedModel) -> Floats | None:
    name = input_name(node, 2)
    return model.constant(name, "bias") if name else None


def _number_attribute(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    return float(value) if isinstance(value, int | float) else default


# Rules


def _conv(node: Node, model: AnalyzedModel) -> list[Read]:
    name, _ = model.picture(node)
    weight = model.constant(node.inputs[1], "weight")
    window, groups = _window(node, weight.shape[2:]), int_attribute(node, "group", 1)
    return [(convolve(weight, _bias(node, model), groups, *window), (name,))]


def _conv_transpose(node: Node, model: AnalyzedModel) -> list[Read]:
    name, _ = model.picture(node)
    weight = model.constant(node.inputs[1], "weight")
    if "output_shape" in node.attributes or str_attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        raise NotLinear("its padding follows from an output size")
    window, groups = _window(node, weight.shape[2:]), int_attribute(node, "group", 1)
    output_padding = ints_attribute(node, "output_padding", (0, 0))
    return [(transposed(weight, _bias(node, model), groups, *window, output_padding), (name,))]


def _matrix(weight: Floats, bias: Floats | None) -> Linear:
    """A matrix (O, I) as a 1x1 convolution."""
    return convolve(weight[:, :, None, None], bias, 1, (1, 1), (1, 1), Padding())


def _gemm(node: Node, model: AnalyzedModel) -> list[Read]:
    name, channels = model.picture(node, rank=2)
    if int_attribute(node, "transA", 0):
        raise NotLinear("it transposes its input")
    matrix = model.constant(node.inputs[1], "matrix").astype(np.float64)
    matrix = matrix * _number_attribute(node, "alpha", 1.0)
    weight = matrix if int_attribute(node, "transB", 0) else matrix.T
    bias = _bias(node, model)
    if bias is not None:
        bias = per_channel(bias, len(weight), 2) * _number_attribute(node, "beta", 1.0)
    if weight.shape[1] != channels:
        raise NotLinear("its matrix does not fit its input")
    return [(_matrix(weight, bias), (name,))]


def _matmul(node: Node, model: AnalyzedModel) -> list[Read] | None:
    matrix = model.graph.constants.get(node.inputs[1])
    if matrix is None:
        return None
    if model.rank(node.inputs[0]) != 2:
        raise NotLinear(f"it works on tokens (rank {model.rank(node.inputs[0])})")
    name, _ = model.picture(node, rank=2)
    return [(_matrix(matrix.T, None), (name,))] if matrix.ndim == 2 else None


def _batch_norm(node: Node, model: AnalyzedModel) -> list[Read]:
    name, channels = model.picture(node, rank=None)
    if int_attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        raise NotLinear(
            "batch normalization in training mode depends on the batch: export in evaluation mode"
        )
    weight, bias, mean, variance = (
        model.constant(part, what)
        for part, what in zip(node.inputs[1:], ("weight", "bias", "mean", "variance"), strict=True)
    )
    operation = normalize(weight, bias, mean, variance, _number_attribute(node, "epsilon", 1e-5))
    if len(operation.weight) != channels:
        raise NotLinear("its statistics do not fit its input")
    return [(operation, (name,))]


def _arithmetic(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """Addition and subtraction of two values; with a constant, also multiplication and division."""
    left, right = node.inputs
    if not model.is_constant(left) and not model.is_constant(right):
        signs = {"Add": (1, 1), "Sub": (1, -1)}.get(node.kind)
        return _combined(node, model, signs) if signs else None
    is_reversed = model.is_constant(left)
    name, constant = (right, left) if is_reversed else (left, right)
    if model.is_constant(name) or model.rank(name) not in (2, 4) or (node.kind == "Div" and is_reversed):
        return None
    channels = model.channels(name)
    numbers = per_channel(model.constant(constant, "constant"), channels, model.rank(name))
    if node.kind == "Div" and not numbers.all():
        raise NotLinear("it divides by zero")
    operations = {
        "Add": lambda: scale(channels, shift=numbers),
        "Sub": lambda: scale(channels, -1.0, numbers) if is_reversed else scale(channels, shift=-numbers),
        "Mul": lambda: scale(channels, numbers),
        "Div": lambda: scale(channels, 1 / numbers),
    }
    return [(operations[node.kind](), (name,))]


def _sum(node: Node, model: AnalyzedModel) -> list[Read] | None:
    if len(node.inputs) == 2:
        return _arithmetic(replace(node, kind="Add"), model)
    return _combined(node, model, (1,) * len(node.inputs))


def _combined(node: Node, model: AnalyzedModel, signs: tuple[int, ...]) -> list[Read] | None:
    """The signed sum of values of one shape; not applicable to values of other ranks or types."""
    names = tuple(node.inputs)
    if not all(map(model.is_plane, names)):
        return None
    widths = {model.channels(name) for name in names}
    if len(widths) > 1 or len({model.rank(name) for name in names}) > 1:
        raise NotLinear(BROADCAST)
    if len({tuple(model.shapes[name]) for name in names}) > 1:
        raise NotLinear("the sizes of the values that it adds are not known to be equal for every input")
    return [(Sum(signs), names)]


def _negated(node: Node, model: AnalyzedModel) -> list[Read]:
    name, channels = model.picture(node, rank=None)
    return [(scale(channels, -1.0), (name,))]


def _passed(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """`Identity`, `Dropout` in evaluation, and a `Cast` to the same type."""
    name = node.inputs[0]
    if node.kind == "Cast" and int_attribute(node, "to", 0) != ELEMENT_TYPES[model.types[name]]:
        return None
    training = input_name(node, 2) if node.kind == "Dropout" else ""
    if training and (not model.is_constant(training) or model.graph.constants[training].any()):
        raise NotLinear("dropout in training mode is random: export in evaluation mode")
    return [(Pass(), (name,))]


def _concat(node: Node, model: AnalyzedModel) -> list[Read] | None:
    names = tuple(node.inputs)
    rank = model.rank(names[0])
    if rank not in (2, 4) or int_attribute(node, "axis", 0) not in (1, 1 - rank):
        return None
    if any(map(model.is_constant, names)):
        raise NotLinear("it joins a value and a constant")
    if any(model.types.get(name) not in MERGED_TYPES for name in names):
        return None
    for name in names:
        model.channels(name)
    return [(Join(), names)]


def _slice(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """A slice of the channels; not applicable to slices of rows or columns."""
    name, channels = model.picture(node, rank=None)
    bounds = [input_name(node, index) for index in range(1, 5)]
    if not all(map(model.is_constant, filter(None, bounds))):
        raise NotLinear("where it begins and ends is not a constant")
    starts, ends, axes, steps = (model.graph.constants[bound].tolist() if bound else [] for bound in bounds)
    axes = axes if bounds[2] else range(len(starts))
    if [axis % model.rank(name) for axis in axes] != [1]:
        return None
    start, end = (max(-MAX_SLICE_BOUND, min(MAX_SLICE_BOUND, bound[0])) for bound in (starts, ends))
    indices = range(channels)[slice(start, end, steps[0] if steps else 1)]
    return [(Select(tuple(indices)), (name,))]


def _split(node: Node, model: AnalyzedModel) -> list[Read] | None:
    name, channels = model.picture(node, rank=None)
    if int_attribute(node, "axis", 0) not in (1, 1 - model.rank(name)):
        return None
    widths = [model.channels(output) for output in node.outputs]
    if sum(widths) != channels:
        raise NotLinear("the sizes of its parts are not known")
    starts = np.cumsum([0, *widths]).tolist()
    return [
        (Select(tuple(range(start, start + width))), (name,))
        for start, width in zip(starts, widths, strict=False)
    ]


def _gather(node: Node, model: AnalyzedModel) -> list[Read] | None:
    if int_attribute(node, "axis", 0) not in (1, 1 - model.rank(node.inputs[0])):
        return None
    name, channels = model.picture(node, rank=None)
    indices = model.graph.constants.get(node.inputs[1])
    if indices is None or indices.ndim != 1:
        return None
    return [(Select(tuple(int(index) % channels for index in indices)), (name,))]


def _pad(node: Node, model: AnalyzedModel) -> list[Read] | None:
    if model.rank(node.inputs[0]) != 4 or str_attribute(node, "mode", "constant") != "constant":
        return None
    name, _ = model.picture(node)
    value = 0.0
    if constant := input_name(node, 2):
        value = float(model.constant(constant, "padding value").reshape(()))
    before, after = _pads(node, model)
    if before[0] or before[1] or after[0] or after[1]:
        raise NotLinear("it pads the batch or the channels")
    padding = Padding(top=before[2], bottom=after[2], left=before[3], right=after[3])
    if min(padding.to_onnx()) < 0:
        raise NotLinear("it crops (negative padding)")
    if not np.isfinite(value):
        raise NotLinear("it pads with a value that is not finite")
    return [(Pad(padding, value), (name,))]


def _pads(node: Node, model: AnalyzedModel) -> tuple[list[int], list[int]]:
    """Padding before and after each of the four axes. Raises NotLinear if it is not constant."""
    axes = list(range(4))
    if name := input_name(node, 3):
        axes = model.constant(name, "list of axes").tolist()
    pads = model.constant(node.inputs[1], "padding").tolist()
    before, after = [0] * 4, [0] * 4
    for index, axis in enumerate(axes):
        before[axis % 4], after[axis % 4] = int(pads[index]), int(pads[index + len(axes)])
    return before, after


def _average_pool(node: Node, model: AnalyzedModel) -> list[Read]:
    name, _ = model.picture(node)
    kernel = tuple(ints_attribute(node, "kernel_shape", ()))
    window = _window(node, kernel)
    if int_attribute(node, "ceil_mode", 0):
        raise NotLinear("it rounds sizes up (ceil_mode)")
    if window.padding and not int_attribute(node, "count_include_pad", 0):
        raise NotLinear("it does not count its padding (count_include_pad)")
    if set(window.dilations) != {1}:
        raise NotLinear("an average pool with dilation is not understood")
    (height, width), (rows, columns) = kernel, window.strides
    return [(Average((height, width), (rows, columns), window.padding, height * width), (name,))]


def _tile(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """Repetition of the channels."""
    name, channels = model.picture(node, rank=None)
    repeats = model.constant(node.inputs[1], "number of repetitions").tolist()
    if any(count != 1 for axis, count in enumerate(repeats) if axis != 1):
        return None
    return [(Select(tuple(range(channels)) * repeats[1]), (name,))]


# Example: a shuffle of 4 channels in 2 groups. Reshape (N, 4, H, W) -> (N, 2, 2, H, W), Transpose of axes 1
# and 2, Reshape -> (N, 4, H, W): channels 0 1 | 2 3 become 0 2 1 3, so this is Select((0, 2, 1, 3)).
def _reshape(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """A reshape to the same shape, or the last reshape of a channel shuffle; not applicable to others."""
    if model.is_plane(node.inputs[0]) and model.shapes[node.inputs[0]] == model.shapes.get(node.outputs[0]):
        return [(Pass(), (node.inputs[0],))]
    transpose = model.maker(node.inputs[0], "Transpose")
    first = model.maker(transpose.inputs[0], "Reshape") if transpose else None
    if transpose is None or first is None or model.is_constant(first.inputs[0]):
        return None
    name, split = first.inputs[0], first.outputs[0]
    groups = _shuffled_groups(*(model.shapes.get(value, ()) for value in (name, split, node.outputs[0])))
    if groups is None or ints_attribute(transpose, "perm", ()) != [0, 2, 1, 3, 4]:
        return None
    indices = np.arange(model.channels(name)).reshape(groups, -1).T.reshape(-1)
    return [(Select(tuple(indices.tolist())), (name,))]


def _shuffled_groups(before: AxisSizes, split: AxisSizes, after: AxisSizes) -> int | None:
    """G where the shapes are (N, C, H, W), (N, G, C / G, H, W) and (N, C, H, W); None if they are not."""
    if [len(shape) for shape in (before, split, after)] != [4, 5, 4] or tuple(before) != tuple(after):
        return None
    is_split = split[0] == before[0] and tuple(split[3:]) == tuple(before[2:])
    groups = split[1].number
    return int(groups) if is_split and groups and split[1] * split[2] == before[1] else None


_RULES_FOR_PLANES: dict[str, OnnxRule] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _passed),
    "Neg": _negated,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Tile": _tile,
}
"""Rules, by operator, for operators that are also common on other values; applied only to planes."""

_LINEAR_RULES: dict[str, OnnxRule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Sum": _sum,
    "Concat": _concat,
    "AveragePool": _average_pool,
    "Reshape": _reshape,
    "Transpose": overwritten,
    "ScatterND": scattered,
    **_RULES_FOR_PLANES,
}
"""Rules by operator, for every operator that may be linear."""


def linear_operations(node: Node, model: AnalyzedModel) -> list[Read]:
    """A linear operation for each output; empty if the node is not linear. Raises NotLinear."""
    rule = _LINEAR_RULES.get(node.kind)
    if rule is None or not node.inputs or not node.inputs[0]:
        return []
    if node.kind in _RULES_FOR_PLANES and not model.is_plane(node.inputs[0]):
        return []
    return rule(node, model) or []
