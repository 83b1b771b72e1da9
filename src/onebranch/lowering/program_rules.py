"""Rules from operations of graphs to operations of programs, by the kind of operation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce
from math import floor

import numpy as np

from onebranch.graph.analysis.graph_analysis import GraphAnalysis
from onebranch.graph.analysis.spatial_rules import NEAREST
from onebranch.graph.analysis.state import (
    SymbolicValues,
    axis_index,
    input_name,
    int_attribute,
    ints_attribute,
    str_attribute,
)
from onebranch.graph.analysis.symbolic_size import SymbolicSize, UndeterminedSizeError, quotient
from onebranch.graph.analysis.symbolic_tensor import COLUMNS, ROWS, SymbolicTensor
from onebranch.graph.operations import Graph, Node
from onebranch.lowering.program import (
    MAX_COLUMNS_BESIDE,
    MAX_PROGRAM_KERNEL,
    MAX_PROGRAM_SCALE,
    Binary,
    BorderKind,
    Unary,
)
from onebranch.lowering.program_axes import MIXED_AXES, AxisFeature, of_picture
from onebranch.lowering.program_builder import (
    Feature,
    Frame,
    PaddingMode,
    ProgramBuilder,
    UnsupportedByProgramError,
    shuffled_pixels,
)

CHANNEL_AXIS = 1

CUBIC_COEFFICIENT = -0.75
"""ONNX's default `cubic_coeff_a` of Resize."""


@dataclass(frozen=True)
class Compilation:
    """A graph that is being compiled: its analysis, the program so far, and the features by name.

    on_axes: features on other axes than those of pictures.
    """

    graph: Graph
    analysis: GraphAnalysis
    builder: ProgramBuilder
    features: dict[str, Feature]
    on_axes: dict[str, AxisFeature] = field(default_factory=dict)

    def feature(self, name: str) -> Feature:
        """A value that depends on the picture."""
        if name not in self.features:
            raise UnsupportedByProgramError(f"'{name}' is no feature map that is computed from the picture")
        return self.features[name]

    def axis_feature(self, name: str) -> AxisFeature:
        """A value that depends on the picture, on any axes."""
        return self.on_axes[name] if name in self.on_axes else of_picture(self.feature(name))

    def constant(self, name: str) -> np.ndarray | None:
        """A constant, also a size that the analysis has computed; None for other values."""
        if name in self.graph.constants:
            return self.graph.constants[name]
        value = self.analysis.values.get(name)
        if not isinstance(value, SymbolicValues) or any(size.number is None for size in value.flat()):
            return None
        numbers = [float(size.number or 0) for size in value.flat()]
        return np.array(numbers).reshape(value.values.shape)

    def required(self, name: str, what: str) -> np.ndarray:
        """A constant that must be there."""
        value = self.constant(name) if name else None
        if value is None:
            raise UnsupportedByProgramError(f"its {what} is computed from the picture")
        return value


ProgramRule = Callable[[Node, Compilation], Feature | list[Feature] | AxisFeature]


def _convolution(node: Node, c: Compilation) -> Feature:
    feature = c.feature(node.inputs[0])
    weight = c.required(input_name(node, 1), "weight").astype(np.float32)
    bias = _bias(node, c, len(weight))
    _check_kernel(node, weight)
    kernel = WindowWeights(
        weight, bias, int_attribute(node, "group", 1), *ints_attribute(node, "dilations", (1, 1))
    )
    return _convolved(node, c, feature, kernel)


@dataclass(frozen=True)
class WindowWeights:
    """A kernel (O, I / groups, K, L), its bias (O,), groups and dilations."""

    weight: np.ndarray
    bias: np.ndarray
    groups: int
    dilation_rows: int = 1
    dilation_columns: int = 1


def _convolved(node: Node, c: Compilation, feature: Feature, kernel: WindowWeights) -> Feature:
    """A kernel at the strides and with the padding of an operation, applied to a feature."""
    weight, dilations = kernel.weight, (kernel.dilation_rows, kernel.dilation_columns)
    extents = [(side - 1) * d for side, d in zip(weight.shape[2:], dilations, strict=True)]
    frame, border = _frame(node, feature.frame, extents)
    plain = replace(feature, frame=Frame())
    if (strides := ints_attribute(node, "strides", (1, 1))) != [1, 1]:
        if border is BorderKind.EDGE or len(set(strides)) > 1:
            raise UnsupportedByProgramError("its strides differ, or it has a stride and reads edges")
        return _strided(node, c, plain, kernel, (frame.top, frame.left), strides[0])
    if (frame.top + frame.bottom, frame.left + frame.right) != tuple(extents):
        raise UnsupportedByProgramError("its output has another size than its input")
    if max(frame.left, frame.right) > MAX_COLUMNS_BESIDE:
        raise UnsupportedByProgramError(f"it reads more than {MAX_COLUMNS_BESIDE} columns beside a pixel")
    pads = frame.top, frame.left
    return c.builder.convolution(plain, weight, kernel.bias, 1, kernel.groups, dilations, pads, border)


# Example: stride 2, one axis, kernel 3, pad 1. Output y reads the pixels 2 y - 1, 2 y and 2 y + 1, that is
# phase 1 of pixel y - 1 and the phases 0 and 1 of pixel y: two taps, of which the first has phase 1 only.
def _strided(
    node: Node, c: Compilation, feature: Feature, kernel: WindowWeights, pads: tuple[int, int], stride: int
) -> Feature:
    """A convolution with a stride, as one of the pixels of each cell of stride x stride."""
    _check_size(node, c, Fraction(1, stride))
    rows = _strided_taps(kernel.weight.shape[2], stride, kernel.dilation_rows, pads[0])
    columns = _strided_taps(kernel.weight.shape[3], stride, kernel.dilation_columns, pads[1])
    (above, below), (before, after) = (_around(taps) for taps in (rows, columns))
    outputs, inputs = kernel.weight.shape[:2]
    sides = above + below + 1, before + after + 1
    split = np.zeros((outputs, inputs, stride, stride, *sides), np.float32)
    for dy, j, k in rows:
        for dx, i, l in columns:
            split[:, :, dy, dx, above + j, before + i] = kernel.weight[:, :, k, l]
    weight = split.reshape(outputs, inputs * stride**2, *sides)
    unshuffled = c.builder.unshuffled(feature, stride)
    return c.builder.convolution(unshuffled, weight, kernel.bias, 1, kernel.groups, pads=(above, before))


def _strided_taps(size: int, stride: int, dilation: int, pad: int) -> list[tuple[int, int, int]]:
    """(phase, offset of the cell, tap) of a convolution with a stride along an axis."""
    pixels = [(tap * dilation - pad, tap) for tap in range(size)]
    return [(pixel % stride, pixel // stride, tap) for pixel, tap in pixels]


def _frame(node: Node, before: Frame, extents: list[int]) -> tuple[Frame, BorderKind]:
    """The padding of a convolution together with that of the `Pad` before it, and of which kind it is."""
    mode = str_attribute(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        upper = mode == "SAME_UPPER"
        sides = [(e // 2, e - e // 2) if upper else (e - e // 2, e // 2) for e in extents]
        pads = [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]
    else:
        pads = ints_attribute(node, "pads", (0, 0, 0, 0)) if mode == "NOTSET" else [0] * 4
    top, left, bottom, right = pads
    if before.mode == "edge" and not before.is_empty:
        if any(pads):
            raise UnsupportedByProgramError("it pads what has been padded by its edges")
        return before, BorderKind.EDGE
    return (
        Frame(before.top + top, before.left + left, before.bottom + bottom, before.right + right),
        BorderKind.ZERO,
    )


def _bias(node: Node, c: Compilation, channels: int) -> np.ndarray:
    name = input_name(node, 2)
    return c.required(name, "bias").astype(np.float32) if name else np.zeros(channels, np.float32)


def _check_kernel(node: Node, weight: np.ndarray) -> None:
    if weight.ndim != 4:
        raise UnsupportedByProgramError(f"its weight has {weight.ndim} axes where pictures need 4")
    if max(weight.shape[2:]) > MAX_PROGRAM_KERNEL:
        raise UnsupportedByProgramError(f"its kernel is larger than {MAX_PROGRAM_KERNEL} pixels")


# Example: stride 2, one axis, kernel 4, pad 1. Output 2 y + d sums input i times tap 2 y + d + 1 - 2 i. With
# i = y + j that is tap d + 1 - 2 j: phase 0 reads taps 3 (j = -1) and 1 (j = 0), phase 1 taps 2 (j = 0) and 0
# (j = 1).
def _transposed(node: Node, c: Compilation) -> Feature:
    """A transposed convolution as a convolution to the pixels of each cell of stride x stride."""
    feature = c.feature(node.inputs[0])
    weight = c.required(input_name(node, 1), "weight").astype(np.float32)
    _check_kernel(node, weight)
    strides = ints_attribute(node, "strides", (1, 1))
    if len(set(strides)) > 1 or not 1 <= strides[0] <= MAX_PROGRAM_SCALE:
        raise UnsupportedByProgramError("its strides differ, or are too large")
    if ints_attribute(node, "dilations", (1, 1)) != [1, 1] or int_attribute(node, "group", 1) != 1:
        raise UnsupportedByProgramError("it is dilated or in groups")
    if str_attribute(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        raise UnsupportedByProgramError("its padding follows from the size of its output")
    _check_size(node, c, strides[0])
    stride, (top, left) = strides[0], ints_attribute(node, "pads", (0, 0, 0, 0))[:2]
    inputs, outputs, rows, columns = weight.shape
    above, below = _around(_taps(rows, stride, top))
    before, after = _around(_taps(columns, stride, left))
    kernel = np.zeros((outputs, stride, stride, inputs, above + below + 1, before + after + 1), np.float32)
    for dy, j, k in _taps(rows, stride, top):
        for dx, i, l in _taps(columns, stride, left):
            kernel[:, dy, dx, :, above + j, before + i] = weight[:, :, k, l].T
    bias = np.repeat(_bias(node, c, outputs), stride**2)
    flat = kernel.reshape(-1, inputs, *kernel.shape[4:])
    return c.builder.convolution(feature, flat, bias, stride, pads=(above, before))


def _taps(size: int, stride: int, pad: int) -> list[tuple[int, int, int]]:
    """(phase, offset of the input, tap) of a transposed convolution along an axis."""
    return [
        (phase, (phase + pad - tap) // stride, tap)
        for phase in range(stride)
        for tap in range(size)
        if (phase + pad - tap) % stride == 0
    ]


def _around(taps: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Pixels before and after a pixel that such taps read."""
    offsets = [offset for _, offset, _ in taps]
    return max(0, -min(offsets)), max(0, *offsets)


def _check_size(node: Node, c: Compilation, factor: int | Fraction) -> None:
    """Raise unless the output has `factor` times the height and width of the input."""
    before, after = (c.analysis.values.get(name) for name in (node.inputs[0], node.outputs[0]))
    assert isinstance(before, SymbolicTensor) and isinstance(after, SymbolicTensor), "a picture"
    for axis in (ROWS, COLUMNS):
        field, result = before.receptive_fields.get(axis), after.receptive_fields.get(axis)
        if field is None or result is None or result.scale != factor * field.scale or result.extra:
            raise UnsupportedByProgramError(f"its output has not {factor} times the size of its input")


def _pool(node: Node, c: Compilation) -> Feature:
    """An average over a window, as a convolution of every channel by itself."""
    rows, columns = ints_attribute(node, "kernel_shape", (1, 1))
    padded = any(ints_attribute(node, "pads", (0, 0, 0, 0)))
    if padded and not int_attribute(node, "count_include_pad", 0):
        raise UnsupportedByProgramError("it divides by fewer pixels at the border")
    feature = c.feature(node.inputs[0])
    if max(rows, columns) > MAX_PROGRAM_KERNEL:
        raise UnsupportedByProgramError(f"its window is larger than {MAX_PROGRAM_KERNEL} pixels")
    weight = np.full((feature.channels, 1, rows, columns), 1 / (rows * columns), np.float32)
    kernel = WindowWeights(weight, np.zeros(feature.channels, np.float32), feature.channels)
    return _convolved(node, c, feature, kernel)


def _max_pool(node: Node, c: Compilation) -> Feature:
    """The largest pixel of each cell, for windows that do not overlap."""
    rows, columns = ints_attribute(node, "kernel_shape", (1, 1))
    if ints_attribute(node, "strides", (1, 1)) != [rows, rows] or rows != columns:
        raise UnsupportedByProgramError("its windows overlap")
    feature = c.feature(node.inputs[0])
    if any(ints_attribute(node, "pads", (0, 0, 0, 0))) or not feature.frame.is_empty:
        raise UnsupportedByProgramError("it is padded")
    _check_size(node, c, Fraction(1, rows))
    cells = c.builder.unshuffled(feature, rows)
    parts = [replace(cells, numbers=cells.numbers[k :: rows**2]) for k in range(rows**2)]
    return reduce(lambda one, two: c.builder.binary(one, two, Binary.MAXIMUM), parts)


def _padded(node: Node, c: Compilation) -> Feature:
    feature, mode = c.feature(node.inputs[0]), str_attribute(node, "mode", "constant")
    amounts = [int(n) for n in c.required(input_name(node, 1), "padding")]
    if input_name(node, 3):
        raise UnsupportedByProgramError("it names the axes that it pads")
    if not any(amounts):
        return feature
    _check_padding(node, c, feature, mode, amounts)
    kind: PaddingMode = "edge" if mode == "edge" else "constant"
    return replace(feature, frame=Frame(amounts[2], amounts[3], amounts[6], amounts[7], kind))


def _check_padding(node: Node, c: Compilation, feature: Feature, mode: str, amounts: list[int]) -> None:
    """Raise unless a `Pad` adds zeros or edges around a picture that has not been padded."""
    value = c.constant(input_name(node, 2)) if input_name(node, 2) else None
    if mode not in ("constant", "edge") or (value is not None and np.any(value != 0)):
        raise UnsupportedByProgramError(f"it pads by mode '{mode}'" + ("" if value is None else f", {value}"))
    if not feature.frame.is_empty or len(amounts) != 8 or any(n < 0 for n in amounts):
        raise UnsupportedByProgramError("it crops, or pads what has been padded")
    if any((amounts[0], amounts[1], amounts[4], amounts[5])):
        raise UnsupportedByProgramError("it pads channels")


def _elementwise(operation: Binary) -> ProgramRule:
    """A rule for a sum, difference or product of features and constants."""

    def rule(node: Node, c: Compilation) -> Feature:
        one, two = node.inputs
        if one in c.features and two in c.features:
            if operation is Binary.MULTIPLY and (fused := _silu_of(node, c)) is not None:
                return c.builder.unary(fused, Unary.SILU)
            return c.builder.binary(c.feature(one), c.feature(two), operation)
        name, other = (one, two) if one in c.features else (two, one)
        numbers = _per_channel(c.required(other, "second input"), c.feature(name).channels)
        feature = _as_wide(c.feature(name), len(numbers))
        if operation is Binary.MULTIPLY:
            return c.builder.unary(feature, Unary.MULTIPLY, numbers)
        if operation is Binary.ADD or name == one:
            return c.builder.unary(feature, Unary.ADD, numbers if operation is Binary.ADD else -numbers)
        return c.builder.unary(feature, Unary.FROM, numbers)

    return rule


def _as_wide(feature: Feature, channels: int) -> Feature:
    if feature.channels == channels:
        return feature
    return replace(feature, numbers=np.repeat(feature.numbers, channels, axis=0))


def _silu_of(node: Node, c: Compilation) -> Feature | None:
    """The feature x of a product of x and the sigmoid of x; None for another product."""
    makers = {name: maker for maker in c.graph.nodes for name in maker.outputs}
    for value, gate in (node.inputs, node.inputs[::-1]):
        maker = makers.get(gate)
        if maker is not None and maker.kind == "Sigmoid" and maker.inputs == (value,):
            return c.feature(value)
    return None


def _per_channel(constant: np.ndarray, channels: int) -> np.ndarray:
    """A constant (C, 1, 1), (1, C, 1, 1) or of one element as numbers (C,)."""
    if constant.size == 1:
        return np.full(channels, constant.reshape(()), np.float32)
    shape = (1,) * (4 - constant.ndim) + constant.shape
    if len(shape) != 4 or shape[0] != 1 or shape[2:] != (1, 1) or channels not in (1, shape[1]):
        raise UnsupportedByProgramError(f"its constant of shape {constant.shape} is no number per channel")
    return constant.reshape(-1).astype(np.float32)


def _divided(node: Node, c: Compilation) -> Feature:
    feature = c.feature(node.inputs[0])
    numbers = _per_channel(c.required(node.inputs[1], "divisor"), feature.channels)
    if np.any(numbers == 0):
        raise UnsupportedByProgramError("it divides by 0")
    with np.errstate(over="ignore"):
        factors = np.float32(1) / numbers
    return c.builder.unary(_as_wide(feature, len(numbers)), Unary.MULTIPLY, factors)


def _unary(operation: Unary, **parameters: tuple[str, float]) -> ProgramRule:
    """A rule for an operation on every sample. parameters: attributes for a and b with their defaults."""

    def rule(node: Node, c: Compilation) -> Feature:
        numbers = {key: _number(node, attribute, default) for key, (attribute, default) in parameters.items()}
        return c.builder.unary(c.feature(node.inputs[0]), operation, **numbers)

    return rule


def _number(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    assert isinstance(value, int | float), f"{node.kind}: {name} is a number"
    return float(value)


def _prelu(node: Node, c: Compilation) -> Feature:
    feature = c.feature(node.inputs[0])
    slopes = _per_channel(c.required(node.inputs[1], "slope"), feature.channels)
    return c.builder.unary(_as_wide(feature, len(slopes)), Unary.SLOPE, slopes)


def _clipped(node: Node, c: Compilation) -> Feature:
    limits = []
    for index, default in ((1, np.finfo(np.float32).min), (2, np.finfo(np.float32).max)):
        name = input_name(node, index)
        limits.append(float(c.required(name, "limit").reshape(())) if name else float(default))
    return c.builder.unary(c.feature(node.inputs[0]), Unary.CLIP, *limits)


def _gelu(node: Node, c: Compilation) -> Feature:
    tanh = str_attribute(node, "approximate", "none") == "tanh"
    return c.builder.unary(c.feature(node.inputs[0]), Unary.GELU_TANH if tanh else Unary.GELU)


def _normalized(node: Node, c: Compilation) -> Feature:
    """Batch normalization by its stored statistics, as a product and a sum."""
    names = ("scale", "bias", "mean", "variance")
    numbers = (c.required(input_name(node, k + 1), what).astype(np.float64) for k, what in enumerate(names))
    scale, bias, mean, variance = numbers
    factors = scale / np.sqrt(variance + _number(node, "epsilon", 1e-5))
    feature = c.builder.unary(c.feature(node.inputs[0]), Unary.MULTIPLY, factors.astype(np.float32))
    return c.builder.unary(feature, Unary.ADD, (bias - mean * factors).astype(np.float32))


def _channel_axis(node: Node, axis: int) -> None:
    if axis_index(axis, 4) != CHANNEL_AXIS:
        raise UnsupportedByProgramError(f"it works along axis {axis}, not along the channels")


def _concatenated(node: Node, c: Compilation) -> Feature:
    _channel_axis(node, int_attribute(node, "axis", 1))
    features = [c.feature(name) for name in node.inputs]
    if len({feature.frame for feature in features}) > 1:
        raise UnsupportedByProgramError("its inputs are padded differently")
    features = c.builder.at_one_rate(features)
    return replace(features[0], numbers=np.concatenate([f.numbers for f in features]))


def _split(node: Node, c: Compilation) -> list[Feature]:
    _channel_axis(node, int_attribute(node, "axis", 0))
    feature, count = c.feature(node.inputs[0]), len(node.outputs)
    if name := input_name(node, 1):
        ends = np.cumsum(c.required(name, "sizes").astype(int))[:-1]
    else:
        each = -(-feature.channels // count)
        ends = np.arange(each, feature.channels, each)
    return [replace(feature, numbers=part) for part in np.split(feature.numbers, ends)]


def _sliced(node: Node, c: Compilation) -> Feature:
    feature = c.feature(node.inputs[0])
    names = ("start", "end")
    starts, ends = (c.required(input_name(node, k + 1), n).astype(int) for k, n in enumerate(names))
    axes = c.required(node.inputs[3], "axes").astype(int) if input_name(node, 3) else np.arange(len(starts))
    steps = c.required(node.inputs[4], "steps").astype(int) if input_name(node, 4) else np.ones_like(starts)
    numbers = feature.numbers
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        _channel_axis(node, int(axis))
        numbers = numbers[slice(int(start), int(end), int(step))]
    if not len(numbers):
        raise UnsupportedByProgramError("it keeps no channel")
    return replace(feature, numbers=numbers)


def _gathered(node: Node, c: Compilation) -> Feature:
    _channel_axis(node, int_attribute(node, "axis", 0))
    feature = c.feature(node.inputs[0])
    indices = c.required(node.inputs[1], "indices").astype(int)
    if indices.ndim != 1:
        raise UnsupportedByProgramError("its indices are no list")
    return replace(feature, numbers=feature.numbers[indices])


def _shuffled(node: Node, c: Compilation) -> Feature:
    feature, factor = c.feature(node.inputs[0]), int_attribute(node, "blocksize", 1)
    if feature.size * factor > MAX_PROGRAM_SCALE:
        raise UnsupportedByProgramError(f"it makes a picture of more than {MAX_PROGRAM_SCALE} times the size")
    return shuffled_pixels(feature, factor, str_attribute(node, "mode", "DCR"))


# ONNX's order is (dy factor + dx) C + c.
def _unshuffled(node: Node, c: Compilation) -> Feature:
    feature, factor = c.feature(node.inputs[0]), int_attribute(node, "blocksize", 1)
    if not feature.frame.is_empty:
        raise UnsupportedByProgramError("it reads pixels that were padded; only convolutions do")
    made = c.builder.unshuffled(feature, factor)
    split = made.numbers.reshape(feature.channels, factor**2, made.scale, made.scale)
    return replace(made, numbers=split.transpose(1, 0, 2, 3).reshape(made.numbers.shape))


def _resized(node: Node, c: Compilation) -> Feature:
    """Enlarging by an integer: repetition, or a fixed convolution that reads the edges beyond the border."""
    feature = c.feature(node.inputs[0])
    factor = _factor(node, c)
    shift = {"asymmetric": Fraction(0)}.get(
        str_attribute(node, "coordinate_transformation_mode", "half_pixel"), Fraction(1, 2)
    )
    if factor == 1:
        return feature
    lines = np.stack([_line(node, (phase + shift) / factor - shift) for phase in range(factor)])
    if np.count_nonzero(lines) == factor and (lines[:, lines.shape[1] // 2] == 1).all():
        repeated = np.repeat(np.repeat(feature.numbers, factor, axis=1), factor, axis=2)
        return replace(feature, numbers=repeated)
    kernels = np.einsum("yk,xl->yxkl", lines, lines).reshape(factor**2, 1, *[lines.shape[1]] * 2)
    weight = np.tile(kernels, (feature.channels, 1, 1, 1)).astype(np.float32)
    radius = lines.shape[1] // 2
    bias = np.zeros(len(weight), np.float32)
    groups, edge = feature.channels, BorderKind.EDGE
    return c.builder.convolution(feature, weight, bias, factor, groups, pads=(radius, radius), border=edge)


def _factor(node: Node, c: Compilation) -> int:
    """The integer by which a Resize enlarges rows and columns, by options that programs support."""
    mode = str_attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric"):
        raise UnsupportedByProgramError(f"its coordinates are '{mode}', not those of pixel centres")
    if int_attribute(node, "exclude_outside", 0) or int_attribute(node, "antialias", 0):
        raise UnsupportedByProgramError("it excludes pixels outside, or smooths")
    factors = _factors(node, c)
    factor = factors.pop()
    if (
        factors
        or factor.denominator != 1
        or factor < 1
        or factor * c.feature(node.inputs[0]).size > MAX_PROGRAM_SCALE
    ):
        raise UnsupportedByProgramError("it does not enlarge rows and columns by the same whole number")
    return int(factor)


def _factors(node: Node, c: Compilation) -> set[Fraction]:
    """The factors by which rows and columns are enlarged; 0 where one of them is lost."""
    before, after = (c.analysis.values.get(name) for name in (node.inputs[0], node.outputs[0]))
    assert isinstance(before, SymbolicTensor) and isinstance(after, SymbolicTensor), "a picture"
    fields = [(before.receptive_fields.get(a), after.receptive_fields.get(a)) for a in (ROWS, COLUMNS)]
    return {two.scale / one.scale if one and two else Fraction(0) for one, two in fields}


LINE_RADIUS = 2
"""Pixels beside the nearest one that interpolation may read."""


# Example, linear, position -1/4: 1/4 of pixel -1 and 3/4 of pixel 0, so the line is 0, 1/4, 3/4, 0, 0.
def _line(node: Node, position: Fraction) -> np.ndarray:
    """Weights (5,) of the pixels -2 to 2 for a position beside pixel 0."""
    line, mode = np.zeros(2 * LINE_RADIUS + 1), str_attribute(node, "mode", "nearest")
    if mode == "nearest":
        rounding = NEAREST[str_attribute(node, "nearest_mode", "round_prefer_floor")]
        line[LINE_RADIUS + rounding(position)] = 1
        return line
    base, part = floor(position), float(position - floor(position))
    if mode == "linear":
        line[LINE_RADIUS + base] = 1 - part
        if part:
            line[LINE_RADIUS + base + 1] = part
        return line
    a = _number(node, "cubic_coeff_a", CUBIC_COEFFICIENT)
    for offset in range(-1, 3):
        distance = abs(part - offset)
        if distance < 1:
            weight = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        else:
            weight = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        if weight:
            line[LINE_RADIUS + base + offset] += weight
    return line


def _on_axes(made: AxisFeature) -> Feature | AxisFeature:
    picture = made.as_feature()
    return made if picture is None else picture


def _permuted(node: Node, c: Compilation) -> Feature | AxisFeature:
    source = c.axis_feature(node.inputs[0])
    order = ints_attribute(node, "perm", tuple(reversed(range(source.numbers.ndim))))
    return _on_axes(source.transposed(order))


# Example: the value (1, 3, H, W), whose pixels are the values' own, to (1, 3, H/2, 2, W/2, 2): the sizes are
# 1, 3, 1/2, 2, 1/2 and 2.
def _reshaped(node: Node, c: Compilation) -> Feature | AxisFeature:
    source = c.axis_feature(node.inputs[0])
    before, after = (c.analysis.values[name] for name in (node.inputs[0], node.outputs[0]))
    assert isinstance(before, SymbolicTensor) and isinstance(after, SymbolicTensor)
    sizes = [size.number for size in after.shape]
    rows, columns = (_axis_with(factor, after) for factor in (ROWS, COLUMNS))
    for axis, of_source in ((rows, source.rows), (columns, source.columns)):
        whole = before.shape[of_source] * Fraction(1, source.numbers.shape[of_source])
        sizes[axis] = _constant_quotient(after.shape[axis], whole)
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or rows == columns:
        raise UnsupportedByProgramError(MIXED_AXES)
    return _on_axes(source.reshaped(known, rows, columns, c.builder))


def _axis_with(factor: str, tensor: SymbolicTensor) -> int:
    """The axis that holds the rows, or the columns. Raises UnsupportedByProgramError if there is none."""
    for index, factors in enumerate(tensor.axes):
        if factor in factors:
            return index
    raise UnsupportedByProgramError(MIXED_AXES)


def _constant_quotient(size: SymbolicSize, whole: SymbolicSize) -> Fraction | None:
    try:
        return quotient(size, whole).number
    except UndeterminedSizeError:
        return None


def _same(node: Node, c: Compilation) -> Feature:
    return c.feature(node.inputs[0])


RULES: Mapping[str, ProgramRule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "AveragePool": _pool,
    "MaxPool": _max_pool,
    "Pad": _padded,
    "Add": _elementwise(Binary.ADD),
    "Sub": _elementwise(Binary.SUBTRACT),
    "Mul": _elementwise(Binary.MULTIPLY),
    "Div": _divided,
    "Relu": _unary(Unary.SLOPE),
    "LeakyRelu": _unary(Unary.SLOPE, a=("alpha", 0.01)),
    "PRelu": _prelu,
    "Clip": _clipped,
    "Sigmoid": _unary(Unary.SIGMOID),
    "Tanh": _unary(Unary.TANH),
    "HardSigmoid": _unary(Unary.HARD_SIGMOID, a=("alpha", 0.2), b=("beta", 0.5)),
    "HardSwish": _unary(Unary.HARD_SWISH),
    "Gelu": _gelu,
    "Abs": _unary(Unary.ABSOLUTE),
    "Neg": _unary(Unary.MULTIPLY, a=("none", -1.0)),
    "BatchNormalization": _normalized,
    "Concat": _concatenated,
    "Split": _split,
    "Slice": _sliced,
    "Gather": _gathered,
    "DepthToSpace": _shuffled,
    "SpaceToDepth": _unshuffled,
    "Resize": _resized,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _reshaped),
    "Transpose": _permuted,
    "Identity": _same,
    "Dropout": _same,
}
"""The rule of every kind of operation that programs support."""
