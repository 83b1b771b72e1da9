"""Analysis rules for spatial operations: convolutions, pools, resizes, pads, slices and pixel shuffles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.receptive_field import (
    AxisReceptiveField,
    minimum_border_tile,
    resized,
    shuffled,
    transposed,
    unshuffled,
    windowed,
)
from onebranch.graph.analysis.state import (
    AnalysisRule,
    AnalysisState,
    AnalysisValue,
    UnsupportedOperationError,
    axis_index,
    constant_size,
    input_name,
    int_attribute,
    ints_attribute,
    str_attribute,
)
from onebranch.graph.analysis.symbolic_size import (
    SymbolicSize,
    UndeterminedSizeError,
    floor_with_multiple,
    quotient,
)
from onebranch.graph.analysis.symbolic_tensor import (
    SymbolicTensor,
    axis_length,
    constant_axis,
    global_tensor,
    is_constant_axis,
)
from onebranch.graph.operations import Node

END_OF_AXIS = 2**31 - 1
"""Slice bounds of at least this value mean the end of the axis."""

MAX_SCALE_TERM = 64
"""Largest numerator and denominator of a scale that is recovered from a float32."""

WEIGHT_INPUT = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
"""Index of the input that holds the weight (O, I, K, L)."""


@dataclass(frozen=True)
class AxisWindow:
    """The window of a convolution or pool along one axis; sizes in pixels, negative pads crop."""

    taps: int
    dilation: int
    stride: int
    pads: tuple[int, int]
    ceil_mode: bool = False


def _change_axis(
    tensor: SymbolicTensor,
    index: int,
    change: Callable[[AxisReceptiveField], AxisReceptiveField],
    resize: Callable[[SymbolicSize], SymbolicSize],
) -> SymbolicTensor:
    """The tensor with one axis changed: rows and columns by their receptive field, others by their size."""
    axis = tensor.axes[index]
    if len(axis) == 1 and isinstance(axis[0], str):
        return tensor.with_receptive_field(axis[0], change(tensor.receptive_fields[axis[0]]))
    size = resize(tensor.shape[index])
    if is_constant_axis(axis) and size.number is not None:
        return tensor.with_axis(index, constant_axis(int(size.number)))
    return global_tensor([*tensor.shape[:index], size, *tensor.shape[index + 1 :]], tensor)


# Example: 3 taps, stride 2, pads 1 and 1 on H rows: floor((H + 2 - 2 - 1) / 2) + 1 = floor((H - 1) / 2) + 1,
# which for even H is H / 2.
def _windowed(tensor: SymbolicTensor, windows: list[AxisWindow], state: AnalysisState) -> SymbolicTensor:
    """The tensor after a convolution or pool with these windows along the axes from the third on."""
    for index, window in enumerate(windows, start=2):

        def change(field: AxisReceptiveField, w: AxisWindow = window) -> AxisReceptiveField:
            return windowed(field, w.taps, w.dilation, w.stride, w.pads, w.ceil_mode)

        def count(size: SymbolicSize, w: AxisWindow = window) -> SymbolicSize:
            free = size + sum(w.pads) - w.dilation * (w.taps - 1) - 1
            sign = -1 if w.ceil_mode else 1  # ceil(x) = -floor(-x)
            return state.floored(free * Fraction(sign, w.stride)) * sign + 1

        tensor = _change_axis(tensor, index, change, count)
    return tensor


def _windows(node: Node, tensor: SymbolicTensor, state: AnalysisState) -> list[AxisWindow]:
    """The window along every axis from the third on; automatic padding is resolved to numbers."""
    taps = _taps(node, state)
    count = len(taps)
    if len(tensor.axes) != count + 2:
        raise UnsupportedOperationError(f"its input has {len(tensor.axes)} axes where its kernel has {count}")
    strides, dilations = (
        ints_attribute(node, "strides", [1] * count),
        ints_attribute(node, "dilations", [1] * count),
    )
    pads = ints_attribute(node, "pads", [0] * 2 * count)
    ceil_mode = bool(int_attribute(node, "ceil_mode", 0))
    windows = [
        AxisWindow(taps[k], dilations[k], strides[k], (pads[k], pads[count + k]), ceil_mode)
        for k in range(count)
    ]
    if (mode := str_attribute(node, "auto_pad", "NOTSET")) in ("NOTSET", ""):
        return windows
    return [_auto_padded(window, tensor, index, mode) for index, window in enumerate(windows, start=2)]


def _taps(node: Node, state: AnalysisState) -> list[int]:
    if "kernel_shape" in node.attributes:
        return ints_attribute(node, "kernel_shape", ())
    return [int(constant_size(size)) for size in state.tensor(node.inputs[WEIGHT_INPUT[node.kind]]).shape[2:]]


# Example: SAME_UPPER, 3 taps, stride 2. An even number of rows leaves a rest of 2 for the last window, so one
# row is missing: 0 before, 1 after. An odd number leaves a rest of 1: two rows are missing, 1 and 1.
def _auto_padded(window: AxisWindow, tensor: SymbolicTensor, index: int, mode: str) -> AxisWindow:
    """Automatic padding as numbers; the same for every size that is a multiple of the stride."""
    if mode == "VALID":
        return AxisWindow(window.taps, window.dilation, window.stride, (0, 0))
    axis = tensor.axes[index]
    if window.stride == 1:
        size = 1  # the padding does not depend on the size
    elif len(axis) == 1 and isinstance(axis[0], str):
        size = tensor.receptive_fields[axis[0]].extra
    else:
        size = int(constant_size(tensor.shape[index]))
    rest = (size - 1) % window.stride + 1
    total = max(0, window.dilation * (window.taps - 1) + 1 - rest)
    small, large = total // 2, total - total // 2
    pads = (small, large) if mode == "SAME_UPPER" else (large, small)
    return AxisWindow(window.taps, window.dilation, window.stride, pads)


def _convolution(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    weight, tensor = state.tensor(node.inputs[WEIGHT_INPUT[node.kind]]), state.tensor(node.inputs[0])
    if not is_constant_axis(tensor.axes[1]):
        raise UnsupportedOperationError("axis 1 is not a plain channel axis")
    result = _windowed(tensor, _windows(node, tensor, state), state)
    return [result.with_axis(1, weight.axes[0])]


def _pool(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    return [_windowed(tensor, _windows(node, tensor, state), state)]


def _transposed(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, weight = state.tensor(node.inputs[0]), state.tensor(node.inputs[1])
    taps = _taps(node, state)
    count = len(taps)
    if len(tensor.axes) != count + 2 or "output_shape" in node.attributes:
        raise UnsupportedOperationError("its output's size is not that of its stride")
    strides, dilations = (
        ints_attribute(node, "strides", [1] * count),
        ints_attribute(node, "dilations", [1] * count),
    )
    output_padding, pads = (
        ints_attribute(node, "output_padding", [0] * count),
        ints_attribute(node, "pads", [0] * 2 * count),
    )
    mode = str_attribute(node, "auto_pad", "NOTSET")
    for k in range(count):
        extent = dilations[k] * (taps[k] - 1) + 1
        sides = _transposed_pads(mode, (pads[k], pads[count + k]), extent + output_padding[k] - strides[k])

        def change(
            field: AxisReceptiveField, k: int = k, sides: tuple[int, int] = sides
        ) -> AxisReceptiveField:
            return transposed(field, taps[k], dilations[k], strides[k], sides, output_padding[k])

        def resized_axis(
            size: SymbolicSize, k: int = k, extent: int = extent, sides: tuple[int, int] = sides
        ) -> SymbolicSize:
            return (size - 1) * strides[k] + extent + output_padding[k] - sum(sides)

        tensor = _change_axis(tensor, k + 2, change, resized_axis)
    channels = int(constant_size(weight.shape[1])) * int_attribute(node, "group", 1)
    return [tensor.with_axis(1, constant_axis(channels))]


def _transposed_pads(mode: str, pads: tuple[int, int], total: int) -> tuple[int, int]:
    if mode in ("NOTSET", "", "VALID"):
        return pads if mode != "VALID" else (0, 0)
    if total < 0 or total % 2:
        raise UnsupportedOperationError(f"runtimes do not agree on its auto_pad {mode}")
    return total // 2, total // 2


def _padded(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    pads, axes = state.sizes(node.inputs[1]), list(range(len(tensor.axes)))
    if name := input_name(node, 3):
        axes = [axis_index(axis, len(tensor.axes)) for axis in state.integers(name)]
    mode = str_attribute(node, "mode", "constant")
    for k, index in enumerate(axes):
        before, after = pads[k], pads[len(axes) + k]
        if before.number is None or after.number is None or mode == "wrap":
            shape = tensor.shape
            tensor = global_tensor(
                [*shape[:index], shape[index] + before + after, *shape[index + 1 :]], tensor
            )
        elif before.terms or after.terms:
            tensor = _padded_axis(tensor, index, (int(before.number), int(after.number)), mode, state)
    return [tensor]


def _padded_axis(
    tensor: SymbolicTensor, index: int, pads: tuple[int, int], mode: str, state: AnalysisState
) -> SymbolicTensor:
    def change(field: AxisReceptiveField) -> AxisReceptiveField:
        if mode != "constant":
            furthest = [(pad if mode == "reflect" else 0) if pad > 0 else -1 for pad in pads]
            state.minimum_border_tile = max(
                state.minimum_border_tile, minimum_border_tile(field, furthest[0], furthest[1])
            )
            state.minimum_size = max(state.minimum_size, field.pixels_for(max(furthest) + 1))
        return windowed(field, 1, pads=pads)

    return _change_axis(tensor, index, change, lambda size: size + sum(pads))


def _sliced(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    starts, ends = state.sizes(node.inputs[1]), state.sizes(node.inputs[2])
    axes = state.integers(name) if (name := input_name(node, 3)) else list(range(len(starts)))
    steps = state.integers(name) if (name := input_name(node, 4)) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        tensor = _sliced_axis(tensor, axis_index(axis, len(tensor.axes)), (start, end), step, state)
    return [tensor]


def _sliced_axis(
    tensor: SymbolicTensor,
    index: int,
    bounds: tuple[SymbolicSize, SymbolicSize],
    step: int,
    state: AnalysisState,
) -> SymbolicTensor:
    size = tensor.shape[index]
    if is_constant_axis(tensor.axes[index]):
        start, end = (int(constant_size(bound)) for bound in bounds)
        chosen = range(*slice(start, end, step).indices(axis_length(tensor.axes[index])))
        return tensor.with_axis(index, constant_axis(len(chosen)))
    start_bound, end_bound = (_slice_position(bound, size) for bound in bounds)
    # A slice from the front to the back is a crop, which is a window of one tap with negative padding.
    cuts = start_bound, size - end_bound
    if step > 0 and cuts[0].number is not None and cuts[1].number is not None:
        pads = -_at_least_zero(cuts[0].number), -_at_least_zero(cuts[1].number)
        if (step, pads) == (1, (0, 0)):
            return tensor

        def change(field: AxisReceptiveField) -> AxisReceptiveField:
            return windowed(field, 1, stride=step, pads=pads)

        def count(whole: SymbolicSize) -> SymbolicSize:
            return state.floored((whole + sum(pads) - 1) * Fraction(1, step)) + 1

        return _change_axis(tensor, index, change, count)
    if step < 0:
        return _reversed(tensor, index, bounds, step)
    length = (end_bound - start_bound) * Fraction(1, step)
    return global_tensor([*tensor.shape[:index], state.floored(length), *tensor.shape[index + 1 :]], tensor)


def _reversed(
    tensor: SymbolicTensor, index: int, bounds: tuple[SymbolicSize, SymbolicSize], step: int
) -> SymbolicTensor:
    """A slice with a negative step: only the whole axis reversed is supported."""
    start, end = (bound.number for bound in bounds)
    if (
        step != -1
        or start is None
        or end is None
        or not (start == -1 or start >= END_OF_AXIS)
        or end > -END_OF_AXIS
    ):
        raise UnsupportedOperationError("it turns a part of the picture round")
    return global_tensor(tensor.shape, tensor)


def _at_least_zero(number: Fraction) -> int:
    return max(0, int(number))


# Examples for H rows: 2 is 2; -1 is H - 1; 2**31 - 1, which exporters write for "to the end", is H.
def _slice_position(bound: SymbolicSize, size: SymbolicSize) -> SymbolicSize:
    """A slice bound as a position counted from the front."""
    if bound.number is None:
        return bound
    if bound.number >= END_OF_AXIS:
        return size
    return bound if bound.number >= 0 else size + bound


def _depth_to_space(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, factor = state.tensor(node.inputs[0]), int_attribute(node, "blocksize", 1)
    if len(tensor.axes) != 4 or not is_constant_axis(tensor.axes[1]):
        raise UnsupportedOperationError("its input is not a picture")
    channels = axis_length(tensor.axes[1]) // factor**2
    for index in (2, 3):
        tensor = _change_axis(
            tensor, index, lambda field: shuffled(field, factor), lambda size: size * factor
        )
    return [tensor.with_axis(1, constant_axis(channels))]


def _space_to_depth(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor, factor = state.tensor(node.inputs[0]), int_attribute(node, "blocksize", 1)
    if len(tensor.axes) != 4 or not is_constant_axis(tensor.axes[1]):
        raise UnsupportedOperationError("its input is not a picture")
    channels = axis_length(tensor.axes[1]) * factor**2
    share = Fraction(1, factor)
    for index in (2, 3):
        tensor = _change_axis(
            tensor, index, lambda field: unshuffled(field, factor), lambda size: size * share
        )
    return [tensor.with_axis(1, constant_axis(channels))]


def _resized(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    tensor = state.tensor(node.inputs[0])
    for index, (scale, size) in enumerate(_scales(node, tensor, state)):
        if scale == 1:
            continue
        if scale is None:
            tensor = global_tensor([*tensor.shape[:index], size, *tensor.shape[index + 1 :]], tensor)
            continue
        tensor = _resized_axis(node, tensor, index, scale, size, state)
    return [tensor]


def _resized_axis(
    node: Node, tensor: SymbolicTensor, index: int, scale: Fraction, size: SymbolicSize, state: AnalysisState
) -> SymbolicTensor:
    mode = str_attribute(node, "coordinate_transformation_mode", "half_pixel")
    shift = {"half_pixel": Fraction(1, 2), "pytorch_half_pixel": Fraction(1, 2), "asymmetric": Fraction(0)}
    if mode == "half_pixel_symmetric" and tensor.shape[index] * scale == size:
        mode = "half_pixel"
    exactly = Fraction(float(np.float32(scale))) == scale
    if mode not in shift or (str_attribute(node, "mode", "nearest") == "nearest" and not exactly):
        return global_tensor([*tensor.shape[:index], size, *tensor.shape[index + 1 :]], tensor)
    taps = _interpolation_taps(node, scale)

    def change(field: AxisReceptiveField) -> AxisReceptiveField:
        state.minimum_border_tile = max(state.minimum_border_tile, minimum_border_tile(field, 0, 0))
        result = resized(field, scale, shift[mode], taps)
        if mode == "pytorch_half_pixel":  # a single output pixel is read at position 0
            state.minimum_border_tile = max(state.minimum_border_tile, result.pixels_for(2))
        return result

    return _change_axis(tensor, index, change, lambda _: size)


# Example, linear: position 0.3 reads pixels 0 and 1, position 2 exactly only pixel 2, because the weight of
# pixel 3 is zero. Cubic has radius 2: position 0.3 reads pixels -1 to 2.
def _interpolation_taps(node: Node, scale: Fraction) -> Callable[[Fraction], tuple[int, int]]:
    """The pixels that interpolation reads around a position, without those whose weight is always zero."""
    mode = str_attribute(node, "mode", "nearest")
    if mode == "nearest":
        rounding = NEAREST[str_attribute(node, "nearest_mode", "round_prefer_floor")]
        return lambda position: (rounding(position), rounding(position))
    radius = Fraction(1 if mode == "linear" else 2)
    if int_attribute(node, "antialias", 0) and scale < 1:
        radius = radius / scale
    return lambda position: (floor(position - radius) + 1, ceil(position + radius) - 1)


NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda position: ceil(position - Fraction(1, 2)),
    "round_prefer_ceil": lambda position: floor(position + Fraction(1, 2)),
    "floor": floor,
    "ceil": ceil,
}
"""The pixel that is nearest to a position, by ONNX's `nearest_mode`."""


def _scales(
    node: Node, tensor: SymbolicTensor, state: AnalysisState
) -> list[tuple[Fraction | None, SymbolicSize]]:
    """Scale and output size of every axis; the scale is None if it depends on the picture."""
    shape, rank = tensor.shape, len(tensor.axes)
    axes = [axis_index(axis, rank) for axis in ints_attribute(node, "axes", range(rank))]
    if str_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOperationError("its size depends on the picture's proportions")
    result: list[tuple[Fraction | None, SymbolicSize]] = [(Fraction(1), size) for size in shape]
    targets = state.sizes(name) if (name := input_name(node, 3)) else []
    if targets:
        for index, target in zip(axes, targets, strict=True):
            result[index] = (_constant_ratio(target, shape[index]), target)
        return result
    for index, number in zip(axes, state.sizes(node.inputs[2]), strict=True):
        stored = constant_size(number)
        scale = _simple_fraction(stored)
        size = (
            state.floored_approximately(shape[index] * stored)
            if scale is None
            else state.floored(shape[index] * scale)
        )
        result[index] = (scale, size)
    return result


def _constant_ratio(target: SymbolicSize, size: SymbolicSize) -> Fraction | None:
    try:
        return quotient(target, size).number
    except UndeterminedSizeError:
        return None


# Example: the float32 0.33333334 stands for 1/3, whose float32 it is; 0.3171 is not such a fraction: None.
def _simple_fraction(number: Fraction) -> Fraction | None:
    """The fraction of small terms that rounds to this float32; None if there is none."""
    simple = number.limit_denominator(MAX_SCALE_TERM)
    return simple if abs(simple - number) <= abs(number) / 2**22 and simple > 0 else None


def _edge_filled(node: Node, state: AnalysisState) -> list[AnalysisValue]:
    """`EdgeFill`: replicates edges up to a multiple; sizes are assumed to be multiples already."""
    tensor, multiple = state.tensor(node.inputs[0]), int_attribute(node, "multiple", 1)
    for size in tensor.shape[2:]:
        if floor_with_multiple(size)[0].constant_term % multiple:
            raise OnebranchError(f"EdgeFill '{node.outputs[0]}' fills a picture whose size is not a multiple")
        state.floored(size * Fraction(1, multiple))
    return [tensor]


SPATIAL_RULES: dict[str, AnalysisRule] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _convolution),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    "ConvTranspose": _transposed,
    "Pad": _padded,
    "Slice": _sliced,
    "Resize": _resized,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "EdgeFill": _edge_filled,
}
"""Rules by operator, for all spatial operators."""
