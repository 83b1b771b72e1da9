"""Rules for operations that move or mix neighbouring pixels: convolutions, pools, resizes, pads, shuffles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Node
from onebranch.graph.seeing.reach import (
    Reach,
    resized,
    shuffled,
    smallest_piece,
    transposed,
    unshuffled,
    windowed,
)
from onebranch.graph.seeing.scope import (
    Rule,
    Scope,
    Unknown,
    Value,
    axis_index,
    exact,
    input_name,
    integer,
    integers,
    text,
)
from onebranch.graph.seeing.size import Size, Undecided, quotient, rounded_down
from onebranch.graph.seeing.view import View, is_plain, length, of_shape, plain

FAR = 2**31 - 1
"""Ends of slices from this on mean the end of the axis."""

LARGEST_TERM = 64
"""Largest numerator and denominator of a factor of resizing; others are not known exactly enough."""

WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
"""Which input holds the weight (O, I, K, L)."""


@dataclass(frozen=True)
class Window:
    """What a convolution or a pool reads along one axis."""

    taps: int
    dilation: int
    stride: int
    pads: tuple[int, int]
    up: bool = False


def _along(view: View, index: int, change: Callable[[Reach], Reach], count: Callable[[Size], Size]) -> View:
    """An axis changed: rows or columns by their reach, everything else by its size."""
    axis = view.axes[index]
    if len(axis) == 1 and isinstance(axis[0], str):
        return view.with_reach(axis[0], change(view.reaches[axis[0]]))
    size = count(view.shape[index])
    if is_plain(axis) and size.number is not None:
        return view.with_axis(index, plain(int(size.number)))
    return of_shape([*view.shape[:index], size, *view.shape[index + 1 :]], view)


def _windowed(view: View, windows: list[Window], scope: Scope) -> View:
    """The axes after the second, each by its window."""
    for index, window in enumerate(windows, start=2):

        def change(reach: Reach, w: Window = window) -> Reach:
            return windowed(reach, w.taps, w.dilation, w.stride, w.pads, w.up)

        def count(size: Size, w: Window = window) -> Size:
            free = size + sum(w.pads) - w.dilation * (w.taps - 1) - 1
            steps = scope.rounded(free * Fraction(1, w.stride) * (-1 if w.up else 1)) * (-1 if w.up else 1)
            return steps + 1

        view = _along(view, index, change, count)
    return view


def _windows(node: Node, view: View, scope: Scope) -> list[Window]:
    """The window of every axis after the second, the padding written out."""
    taps = _taps(node, scope)
    count = len(taps)
    if len(view.axes) != count + 2:
        raise Unknown(f"its input has {len(view.axes)} axes where its kernel has {count}")
    strides, dilations = integers(node, "strides", [1] * count), integers(node, "dilations", [1] * count)
    pads = integers(node, "pads", [0] * 2 * count)
    up = bool(integer(node, "ceil_mode", 0))
    found = [Window(taps[k], dilations[k], strides[k], (pads[k], pads[count + k]), up) for k in range(count)]
    if (mode := text(node, "auto_pad", "NOTSET")) in ("NOTSET", ""):
        return found
    return [_auto_padded(window, view, index, mode) for index, window in enumerate(found, start=2)]


def _taps(node: Node, scope: Scope) -> list[int]:
    if "kernel_shape" in node.attributes:
        return integers(node, "kernel_shape", ())
    return [int(exact(size)) for size in scope.view(node.inputs[WEIGHTS[node.kind]]).shape[2:]]


def _auto_padded(window: Window, view: View, index: int, mode: str) -> Window:
    """`SAME` padding in numbers: with sides that are multiples of the strides it does not depend on them."""
    if mode == "VALID":
        return Window(window.taps, window.dilation, window.stride, (0, 0))
    axis = view.axes[index]
    if len(axis) == 1 and isinstance(axis[0], str):
        size: int = view.reaches[axis[0]].extra
    else:
        size = int(exact(view.shape[index]))
    rest = (size - 1) % window.stride + 1
    total = max(0, window.dilation * (window.taps - 1) + 1 - rest)
    small, large = total // 2, total - total // 2
    pads = (small, large) if mode == "SAME_UPPER" else (large, small)
    return Window(window.taps, window.dilation, window.stride, pads)


def _convolution(node: Node, scope: Scope) -> list[Value]:
    weight, view = scope.view(node.inputs[WEIGHTS[node.kind]]), scope.view(node.inputs[0])
    if not is_plain(view.axes[1]):
        raise Unknown("its channels are not channels")
    result = _windowed(view, _windows(node, view, scope), scope)
    return [result.with_axis(1, weight.axes[0])]


def _pool(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    return [_windowed(view, _windows(node, view, scope), scope)]


def _transposed(node: Node, scope: Scope) -> list[Value]:
    view, weight = scope.view(node.inputs[0]), scope.view(node.inputs[1])
    taps = _taps(node, scope)
    count = len(taps)
    if len(view.axes) != count + 2 or "output_shape" in node.attributes:
        raise Unknown("its output's size is not that of its stride")
    strides, dilations = integers(node, "strides", [1] * count), integers(node, "dilations", [1] * count)
    added, pads = integers(node, "output_padding", [0] * count), integers(node, "pads", [0] * 2 * count)
    mode = text(node, "auto_pad", "NOTSET")
    for k in range(count):
        spread = dilations[k] * (taps[k] - 1) + 1
        sides = _transposed_pads(mode, (pads[k], pads[count + k]), spread + added[k] - strides[k])

        def change(reach: Reach, k: int = k, sides: tuple[int, int] = sides) -> Reach:
            return transposed(reach, taps[k], dilations[k], strides[k], sides, added[k])

        def count_of(size: Size, k: int = k, spread: int = spread, sides: tuple[int, int] = sides) -> Size:
            return (size - 1) * strides[k] + spread + added[k] - sum(sides)

        view = _along(view, k + 2, change, count_of)
    channels = int(exact(weight.shape[1])) * integer(node, "group", 1)
    return [view.with_axis(1, plain(channels))]


def _transposed_pads(mode: str, pads: tuple[int, int], total: int) -> tuple[int, int]:
    if mode in ("NOTSET", "", "VALID"):
        return pads if mode != "VALID" else (0, 0)
    if total < 0 or total % 2:
        raise Unknown(f"runtimes do not agree on its auto_pad {mode}")
    return total // 2, total // 2


def _padded(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    pads, axes = scope.sizes(node.inputs[1]), list(range(len(view.axes)))
    if name := input_name(node, 3):
        axes = [axis_index(axis, len(view.axes)) for axis in scope.integers(name)]
    mode = text(node, "mode", "constant")
    for k, index in enumerate(axes):
        before, after = pads[k], pads[len(axes) + k]
        if before.number is None or after.number is None or mode == "wrap":
            shape = view.shape
            view = of_shape([*shape[:index], shape[index] + before + after, *shape[index + 1 :]], view)
        elif before.terms or after.terms:
            view = _padded_axis(view, index, (int(before.number), int(after.number)), mode, scope)
    return [view]


def _padded_axis(view: View, index: int, pads: tuple[int, int], mode: str, scope: Scope) -> View:
    def change(reach: Reach) -> Reach:
        if mode != "constant":
            repeated = [(pad if mode == "reflect" else 0) if pad > 0 else -1 for pad in pads]
            scope.smallest = max(scope.smallest, smallest_piece(reach, repeated[0], repeated[1]))
            scope.least = max(scope.least, reach.pixels_for(max(repeated) + 1))
        return windowed(reach, 1, pads=pads)

    return _along(view, index, change, lambda size: size + sum(pads))


def _sliced(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    starts, ends = scope.sizes(node.inputs[1]), scope.sizes(node.inputs[2])
    axes = scope.integers(name) if (name := input_name(node, 3)) else list(range(len(starts)))
    steps = scope.integers(name) if (name := input_name(node, 4)) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        view = _sliced_axis(view, axis_index(axis, len(view.axes)), (start, end), step)
    return [view]


def _sliced_axis(view: View, index: int, bounds: tuple[Size, Size], step: int) -> View:
    size = view.shape[index]
    if is_plain(view.axes[index]):
        start, end = (int(exact(bound)) for bound in bounds)
        chosen = range(*slice(start, end, step).indices(length(view.axes[index])))
        return view.with_axis(index, plain(len(chosen)))
    cuts = _cut(bounds[0], size), _cut(size, size) - _cut(bounds[1], size)
    if step > 0 and cuts[0].number is not None and cuts[1].number is not None:
        pads = -_at_least_zero(cuts[0].number), -_at_least_zero(cuts[1].number)
        if (step, pads) == (1, (0, 0)):
            return view

        def change(reach: Reach) -> Reach:
            return windowed(reach, 1, stride=step, pads=pads)

        def count(whole: Size) -> Size:
            return rounded_down((whole + sum(pads) - 1) * Fraction(1, step))[0] + 1

        return _along(view, index, change, count)
    if step < 0:
        return _turned(view, index, bounds, step)
    left = (_cut(bounds[1], size) - cuts[0]) * Fraction(1, step)
    return of_shape([*view.shape[:index], rounded_down(left)[0], *view.shape[index + 1 :]], view)


def _turned(view: View, index: int, bounds: tuple[Size, Size], step: int) -> View:
    """The whole axis backwards."""
    start, end = (bound.number for bound in bounds)
    if step != -1 or start is None or end is None or not (start == -1 or start >= FAR) or end > -FAR:
        raise Unknown("it turns a part of the picture round")
    return of_shape(view.shape, view)


def _at_least_zero(number: Fraction) -> int:
    return max(0, int(number))


def _cut(bound: Size, size: Size) -> Size:
    """Where a slice begins or ends, counted from the front."""
    if bound.number is None:
        return bound
    if bound.number >= FAR:
        return size
    return bound if bound.number >= 0 else size + bound


def _depth_to_space(node: Node, scope: Scope) -> list[Value]:
    view, factor = scope.view(node.inputs[0]), integer(node, "blocksize", 1)
    if len(view.axes) != 4 or not is_plain(view.axes[1]):
        raise Unknown("its input is no picture")
    channels = length(view.axes[1]) // factor**2
    for index in (2, 3):
        view = _along(view, index, lambda reach: shuffled(reach, factor), lambda size: size * factor)
    return [view.with_axis(1, plain(channels))]


def _space_to_depth(node: Node, scope: Scope) -> list[Value]:
    view, factor = scope.view(node.inputs[0]), integer(node, "blocksize", 1)
    if len(view.axes) != 4 or not is_plain(view.axes[1]):
        raise Unknown("its input is no picture")
    channels = length(view.axes[1]) * factor**2
    share = Fraction(1, factor)
    for index in (2, 3):
        view = _along(view, index, lambda reach: unshuffled(reach, factor), lambda size: size * share)
    return [view.with_axis(1, plain(channels))]


def _resized(node: Node, scope: Scope) -> list[Value]:
    view = scope.view(node.inputs[0])
    for index, (scale, size) in enumerate(_scales(node, view, scope)):
        if scale == 1:
            continue
        if scale is None:
            view = of_shape([*view.shape[:index], size, *view.shape[index + 1 :]], view)
            continue
        view = _resized_axis(node, view, index, scale, size, scope)
    return [view]


def _resized_axis(node: Node, view: View, index: int, scale: Fraction, size: Size, scope: Scope) -> View:
    mode = text(node, "coordinate_transformation_mode", "half_pixel")
    shift = {"half_pixel": Fraction(1, 2), "pytorch_half_pixel": Fraction(1, 2), "asymmetric": Fraction(0)}
    if mode == "half_pixel_symmetric" and view.shape[index] * scale == size:
        mode = "half_pixel"
    exactly = Fraction(float(np.float32(scale))) == scale
    if mode not in shift or (text(node, "mode", "nearest") == "nearest" and not exactly):
        return of_shape([*view.shape[:index], size, *view.shape[index + 1 :]], view)
    taps = _reads(node, scale)

    def change(reach: Reach) -> Reach:
        scope.smallest = max(scope.smallest, smallest_piece(reach, 0, 0))
        result = resized(reach, scale, shift[mode], taps)
        if mode == "pytorch_half_pixel":  # a single pixel is taken from elsewhere than the first of several
            scope.smallest = max(scope.smallest, result.pixels_for(2))
        return result

    return _along(view, index, change, lambda _: size)


def _reads(node: Node, scale: Fraction) -> Callable[[Fraction], tuple[int, int]]:
    """The pixels that are read around a place, without those whose weight is always zero."""
    mode = text(node, "mode", "nearest")
    if mode == "nearest":
        rounding = NEAREST[text(node, "nearest_mode", "round_prefer_floor")]
        return lambda place: (rounding(place), rounding(place))
    radius = Fraction(1 if mode == "linear" else 2)
    if integer(node, "antialias", 0) and scale < 1:
        radius = radius / scale
    return lambda place: (floor(place - radius) + 1, ceil(place + radius) - 1)


NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda place: ceil(place - Fraction(1, 2)),
    "round_prefer_ceil": lambda place: floor(place + Fraction(1, 2)),
    "floor": floor,
    "ceil": ceil,
}
"""Which pixel is nearest, by ONNX's word for it."""


def _scales(node: Node, view: View, scope: Scope) -> list[tuple[Fraction | None, Size]]:
    """Factor and size of every axis; None where there is no factor that holds for every picture."""
    shape, rank = view.shape, len(view.axes)
    axes = [axis_index(axis, rank) for axis in integers(node, "axes", range(rank))]
    if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unknown("its size depends on the picture's proportions")
    result: list[tuple[Fraction | None, Size]] = [(Fraction(1), size) for size in shape]
    targets = scope.sizes(name) if (name := input_name(node, 3)) else []
    if targets:
        for index, target in zip(axes, targets, strict=True):
            result[index] = (_factor(target, shape[index]), target)
        return result
    for index, number in zip(axes, scope.sizes(node.inputs[2]), strict=True):
        given = exact(number)
        scale = _simple(given)
        size = rounded_down(shape[index] * (given if scale is None else scale))[0]
        result[index] = (scale, size)
    return result


def _factor(target: Size, size: Size) -> Fraction | None:
    try:
        return quotient(target, size).number
    except Undecided:
        return None


def _simple(number: Fraction) -> Fraction | None:
    """The simple fraction that a float stands for; None where there is none."""
    found = number.limit_denominator(LARGEST_TERM)
    return found if abs(found - number) <= abs(number) / 2**22 and found > 0 else None


def _filled(node: Node, scope: Scope) -> list[Value]:
    """Ours: the edges replicated to a multiple; a piece's sides are multiples already."""
    view, multiple = scope.view(node.inputs[0]), integer(node, "multiple", 1)
    for size in view.shape[2:]:
        if rounded_down(size)[0].fixed_part % multiple:
            raise OnebranchError(f"EdgeFill '{node.outputs[0]}' fills a picture that is no multiple")
        scope.rounded(size * Fraction(1, multiple))
    return [view]


PIXEL_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _convolution),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    "ConvTranspose": _transposed,
    "Pad": _padded,
    "Slice": _sliced,
    "Resize": _resized,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "EdgeFill": _filled,
}
"""What operations on pixels do to the axes."""
