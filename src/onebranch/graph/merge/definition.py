"""What linear operations mean: slow numpy, one after the other, on pictures. Shares nothing with the laws."""

from collections.abc import Iterable, Mapping

import numpy as np

from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Fill,
    Floats,
    Join,
    Linear,
    Normalize,
    Ones,
    Pad,
    Pass,
    Scale,
    Select,
    Sides,
    Step,
    Sum,
)

LARGEST = 1 << 23
"""Numbers in the windows that are multiplied at once."""


def run(steps: Iterable[Step], values: Mapping[str, Floats], result: str) -> dict[str, Floats]:
    """The value of that name, and every value on the way to it.

    values: pictures (N, C, H, W) of what the steps read from elsewhere. Only what the result needs is
    computed, in the precision of the values.
    """
    by_value = {step.value: step for step in steps}
    known = dict(values)
    wanted = [result]
    while wanted:
        value = wanted[-1]
        missing = [name for name in by_value[value].inputs if name not in known] if value not in known else []
        if missing:
            wanted += missing
            continue
        if value not in known:
            step = by_value[value]
            known[value] = compute(step.operation, [known[name] for name in step.inputs])
        wanted.pop()
    return known


def compute(operation: Linear, inputs: list[Floats]) -> Floats:
    """The value of one operation."""
    x = inputs[0]
    match operation:
        case Pass():
            return x
        case Convolve():
            return _convolved(operation, x)
        case Normalize():
            spread = np.sqrt((operation.variance + operation.epsilon).astype(x.dtype))
            normal = (x - _column(operation.mean, x)) / spread[:, None, None]
            return np.asarray(normal * _column(operation.weight, x) + _column(operation.bias, x))
        case Scale():
            return np.asarray(x * _column(operation.factor, x) + _column(operation.shift, x))
        case Sum():
            total = np.zeros_like(x)
            for sign, value in zip(operation.signs, inputs, strict=True):
                total = total + value if sign > 0 else total - value
            return total
        case Join():
            return np.concatenate(inputs, axis=1)
        case Select():
            return x[:, list(operation.indices)]
        case Pad():
            return _framed(x, operation.pads, operation.value)
        case Fill():
            return _filled(operation, x)
        case Average():
            return _averaged(operation, x)
        case Ones():
            return np.ones_like(x[:, :1])


def _column(numbers: Floats, like: Floats) -> Floats:
    return numbers.astype(like.dtype)[:, None, None]


def _framed(x: Floats, pads: Sides, value: float = 0.0) -> Floats:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _convolved(operation: Convolve, x: Floats) -> Floats:
    """Every output is the product of a window of the padded picture with the kernel, summed."""
    weight = operation.weight.astype(x.dtype)
    outputs, per_group, k, l = weight.shape
    framed = _framed(x, operation.pads)
    if per_group == 1:  # channels last in memory: a tap multiplies all of them at once
        framed = np.ascontiguousarray(framed.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    reach = [d * (taps - 1) + 1 for d, taps in zip(operation.dilations, (k, l), strict=True)]
    if framed.shape[2] < reach[0] or framed.shape[3] < reach[1]:
        return np.zeros((len(x), outputs, 0, 0), x.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(framed, reach, (2, 3))
    (down, right), (rows, columns) = operation.strides, operation.dilations
    windows = windows[:, :, ::down, ::right, ::rows, ::columns]
    batch = max(1, LARGEST * len(x) // windows.size)
    parts = [
        _products(weight, windows[first : first + batch], operation.groups)
        for first in range(0, len(x), batch)
    ]
    pictures = np.concatenate(parts)
    return pictures if operation.bias is None else pictures + _column(operation.bias, x)


def _products(weight: Floats, windows: Floats, groups: int) -> Floats:
    """weight: (O, I / groups, K, L); windows: (N, I, H, W, K, L)."""
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
    """One input for each group. taps: (G, O / G, K, L); windows: (N, G, H, W, K, L)."""
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
    spot = slice(start, start + operation.count)
    if operation.axis == 2:
        result[:, :, spot] = _column(operation.value, x)
    else:
        result[:, :, :, spot] = _column(operation.value, x)
    return result


def _averaged(operation: Average, x: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(_framed(x, operation.pads), operation.kernel, (2, 3))
    strided = windows[:, :, :: operation.strides[0], :: operation.strides[1]]
    return np.asarray(strided.sum((-2, -1)) / operation.divisor)
