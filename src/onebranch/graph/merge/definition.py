"""The slow definition of the linear operations, in numpy. It shares no code with the laws."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding
from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Fill,
    Fills,
    Join,
    Linear,
    Normalize,
    Ones,
    Pad,
    Pass,
    Scale,
    Select,
    Step,
    Sum,
)

MAX_WINDOW_NUMBERS = 1 << 23
"""Numbers in the windows that are multiplied at once (64 MiB in float64)."""


def run(steps: Iterable[Step], values: Mapping[str, Floats], result: str) -> dict[str, Floats]:
    """The value `result`, and every value that it depends on, by name.

    values: pictures (N, C, H, W) of the values that the steps read but do not compute. Only what the result
    depends on is computed, in the precision of the values.
    """
    by_value = {step.value: step for step in steps}
    known = dict(values)
    pending = [result]
    while pending:
        value = pending[-1]
        missing = [name for name in by_value[value].inputs if name not in known] if value not in known else []
        if missing:
            pending += missing
            continue
        if value not in known:
            step = by_value[value]
            known[value] = compute(step.operation, [known[name] for name in step.inputs])
        pending.pop()
    return known


def compute(operation: Linear, inputs: list[Floats]) -> Floats:
    """The value (N, C, H, W) of one operation."""
    if isinstance(operation, Sum):
        return _summed(operation, inputs)
    if isinstance(operation, Join):
        return np.concatenate(inputs, axis=1)
    return _OF_ONE_INPUT[type(operation)](operation, inputs[0])


def _summed(operation: Sum, inputs: list[Floats]) -> Floats:
    total = np.zeros_like(inputs[0])
    for sign, value in zip(operation.signs, inputs, strict=True):
        total = total + value if sign > 0 else total - value
    return total


def _normalized(operation: Normalize, x: Floats) -> Floats:
    deviation = np.sqrt((operation.variance + operation.epsilon).astype(x.dtype))
    normal = (x - _column(operation.mean, x)) / deviation[:, None, None]
    return np.asarray(normal * _column(operation.weight, x) + _column(operation.bias, x))


def _scaled(operation: Scale, x: Floats) -> Floats:
    return np.asarray(x * _column(operation.factor, x) + _column(operation.shift, x))


def _column(numbers: Floats, like: Floats) -> Floats:
    return numbers.astype(like.dtype)[:, None, None]


def _padded(x: Floats, padding: Padding, value: float = 0.0) -> Floats:
    rows, columns = (padding.top, padding.bottom), (padding.left, padding.right)
    return np.pad(x, ((0, 0), (0, 0), rows, columns), constant_values=value)


def _convolved(operation: Convolve, x: Floats) -> Floats:
    """Every output number is the sum of the products of a window of the padded picture with the kernel."""
    weight = operation.weight.astype(x.dtype)
    outputs, per_group, k, l = weight.shape
    padded_picture = _padded(x, operation.padding)
    if per_group == 1:  # channels last in memory: a tap multiplies all of them at once
        padded_picture = np.ascontiguousarray(padded_picture.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    extent = [d * (taps - 1) + 1 for d, taps in zip(operation.dilations, (k, l), strict=True)]
    if padded_picture.shape[2] < extent[0] or padded_picture.shape[3] < extent[1]:
        return np.zeros((len(x), outputs, 0, 0), x.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(padded_picture, extent, (2, 3))
    (down, right), (rows, columns) = operation.strides, operation.dilations
    windows = windows[:, :, ::down, ::right, ::rows, ::columns]
    batch = max(1, MAX_WINDOW_NUMBERS * len(x) // windows.size)
    parts = [
        _products(weight, windows[first : first + batch], operation.groups)
        for first in range(0, len(x), batch)
    ]
    pictures = np.concatenate(parts)
    return pictures if operation.bias is None else pictures + _column(operation.bias, x)


def _products(weight: Floats, windows: Floats, groups: int) -> Floats:
    """The pictures (N, O, H, W). weight: (O, I / groups, K, L); windows: (N, I, H, W, K, L)."""
    outputs, per_group, k, l = weight.shape
    taps = weight.reshape(groups, outputs // groups, per_group, k, l)
    if per_group == 1:
        return _tap_by_tap(taps[:, :, 0], windows)
    n, _, height, width = windows.shape[:4]
    split = windows.reshape(n, groups, per_group, height, width, k, l)
    flat = split.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, n * height * width, per_group * k * l)
    sums = flat @ taps.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    pictures = sums.reshape(groups, n, height, width, -1).transpose(1, 0, 4, 2, 3)
    return np.asarray(pictures.reshape(n, outputs, height, width))


def _tap_by_tap(taps: Floats, windows: Floats) -> Floats:
    """The products for groups of one input channel. taps: (G, O / G, K, L); windows: (N, G, H, W, K, L)."""
    groups, outputs, k, l = taps.shape
    n, _, height, width = windows.shape[:4]
    sums = np.zeros((outputs, height, width, n, groups), windows.dtype)
    for a, b in np.ndindex(k, l):
        shifted = windows[..., a, b].transpose(2, 3, 0, 1)
        for output in range(outputs):
            sums[output] += taps[:, output, a, b] * shifted
    return sums.transpose(3, 4, 0, 1, 2).reshape(n, groups * outputs, height, width)


def _filled(operation: Fill, x: Floats) -> Floats:
    result = x.copy()
    start = operation.start % x.shape[operation.axis]
    filled = slice(start, start + operation.count)
    if operation.axis == 2:
        result[:, :, filled] = _column(operation.value, x)
    else:
        result[:, :, :, filled] = _column(operation.value, x)
    return result


def _filled_in_turn(operation: Fills, x: Floats) -> Floats:
    for fill in operation.fills:
        x = _filled(fill, x)
    return x


def _averaged(operation: Average, x: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(
        _padded(x, operation.padding), operation.kernel, (2, 3)
    )
    strided = windows[:, :, :: operation.strides[0], :: operation.strides[1]]
    return np.asarray(strided.sum((-2, -1)) / operation.divisor)


_OF_ONE_INPUT: Mapping[type, Callable[..., Floats]] = {
    Pass: lambda operation, x: x,
    Convolve: _convolved,
    Normalize: _normalized,
    Scale: _scaled,
    Select: lambda operation, x: x[:, list(operation.indices)],
    Pad: lambda operation, x: _padded(x, operation.padding, operation.value),
    Fill: _filled,
    Fills: _filled_in_turn,
    Average: _averaged,
    Ones: lambda operation, x: np.ones_like(x[:, :1]),
}
"""The operations that have one input."""
