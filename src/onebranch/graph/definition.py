"""What linear operations mean: slow numpy, one after the other, on pictures. Shares nothing with the laws."""

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np

from onebranch.graph.linear import (
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


def run(steps: Iterable[Step], values: Mapping[str, Floats], result: str) -> dict[str, Floats]:
    """The value of that name, and every value on the way to it.

    values: pictures (N, C, H, W) of what the steps read from elsewhere. Only what the result needs is computed,
    in the precision of the values.
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
    """Tap by tap: every tap multiplies a shifted, strided part of the padded picture."""
    weight = operation.weight.astype(x.dtype)
    outputs, per_group, k, l = weight.shape
    framed = _framed(x, operation.pads)
    n = len(x)
    height, width = (
        (side - dilation * (taps - 1) - 1) // stride + 1
        for side, dilation, taps, stride in zip(
            framed.shape[2:], operation.dilations, (k, l), operation.strides, strict=True
        )
    )
    if min(height, width) < 1:
        return np.zeros((n, outputs, max(0, height), max(0, width)), x.dtype)
    groups = operation.groups
    result = np.zeros((groups, outputs // groups, n * height * width), x.dtype)
    split = framed.reshape(n, groups, per_group, *framed.shape[2:])
    for a, b in product(range(k), range(l)):
        window = _strided(split, (a, b), operation, (height, width))
        taps = weight[:, :, a, b].reshape(groups, outputs // groups, per_group)
        flat = np.moveaxis(window, 0, 2).reshape(groups, per_group, -1)
        result += taps * flat if per_group == 1 else taps @ flat
    pictures = np.moveaxis(result.reshape(outputs, n, height, width), 0, 1)
    return pictures if operation.bias is None else pictures + _column(operation.bias, x)


def _strided(split: Floats, tap: tuple[int, int], operation: Convolve, size: tuple[int, int]) -> Floats:
    """The pixels that one tap meets, (N, groups, I, height, width)."""
    spots = [
        slice(index * dilation, index * dilation + (count - 1) * stride + 1, stride)
        for index, dilation, stride, count in zip(
            tap, operation.dilations, operation.strides, size, strict=True
        )
    ]
    return split[..., spots[0], spots[1]]


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
