"""How convolutions, pooling, padding and batch normalization of a traced PyTorch module are read."""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from onebranch.algebra.padding import Padding
from onebranch.graph.merge.checks import NotLinear, convolve, normalize, same_padding, transposed
from onebranch.graph.merge.linear import Average, Pad
from onebranch.graph.torch.tracing import arguments
from onebranch.graph.torch.values import Reading, Rule, TracedValues, rank

aten = torch.ops.aten

PADS = (aten.pad.default, aten.constant_pad_nd.default)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    numbers = tuple(value)
    if not all(isinstance(number, int) for number in numbers):
        raise NotLinear("its geometry depends on the input")
    return numbers[0], numbers[-1]


def _symmetric(value: Any) -> Padding:
    """The padding from PyTorch's rows and columns, the same on both sides."""
    rows, columns = _pair(value)
    return Padding(top=rows, bottom=rows, left=columns, right=columns)


def _conv2d(node: Node, values: TracedValues) -> Reading:
    x, weight, bias, stride, given, dilation, groups = arguments(node, None, None, None, 1, 0, 1, 1)
    kernel = values.constant(weight, "weight")
    strides, dilations = _pair(stride), _pair(dilation)
    if given == "same":
        padding = same_padding(kernel.shape[2:], strides, dilations, lower=False)
    else:
        padding = _symmetric(0 if given == "valid" else given)
    shift = values.optional(bias, "bias")
    pad = _zero_pad(x, values)
    if pad is not None:
        padding, x = padding + pad.padding, x.args[0]
    return [(convolve(kernel, shift, groups, strides, dilations, padding), (values.picture(x),))]


def _zero_pad(x: Any, values: TracedValues) -> Pad | None:
    """Zero padding that only one convolution reads: PyTorch's form of asymmetric padding."""
    if not isinstance(x, Node) or x.target not in PADS or len(x.users) > 1:
        return None
    try:
        reading = _pad(x, values) if values.is_plane(x.args[0]) else []
    except NotLinear:
        return None
    operation = reading[0][0] if reading else None
    return operation if isinstance(operation, Pad) and operation.value == 0 else None


def _convolution(node: Node, values: TracedValues) -> Reading:
    x, weight, bias, stride, padding, dilation, is_transposed, more, groups = arguments(
        node, None, None, None, [1], [0], [1], False, [0], 1
    )
    parts = values.constant(weight, "weight"), values.optional(bias, "bias"), groups
    shape = _pair(stride), _pair(dilation), _symmetric(padding)
    if is_transposed:
        return [(transposed(*parts, *shape, _pair(more)), (values.picture(x),))]
    return [(convolve(*parts, *shape), (values.picture(x),))]


def _conv_transpose2d(node: Node, values: TracedValues) -> Reading:
    x, weight, bias, stride, padding, more, groups, dilation = arguments(
        node, None, None, None, 1, 0, 0, 1, 1
    )
    parts = values.constant(weight, "weight"), values.optional(bias, "bias"), groups
    operation = transposed(*parts, _pair(stride), _pair(dilation), _symmetric(padding), _pair(more))
    return [(operation, (values.picture(x),))]


def _linear(node: Node, values: TracedValues) -> Reading:
    x, weight, bias = arguments(node, None, None, None)
    if not isinstance(x, Node) or x in values.constants:
        return []
    if rank(x) != 2:
        raise NotLinear(f"it works on tokens (rank {rank(x)})")
    matrix, shift = values.constant(weight, "weight"), values.optional(bias, "bias")
    if matrix.ndim != 2:
        return []
    return [(convolve(matrix[:, :, None, None], shift, 1, (1, 1), (1, 1), Padding()), (x,))]


def batch_norm_result(node: Node, index: int, values: TracedValues) -> Reading:
    """Batch normalization with population statistics: its first result."""
    if index != 0:
        return []
    x, weight, bias, mean, variance, _, epsilon = arguments(node, *(None,) * 5, 0.1, 1e-5)
    channels = values.channels(x)
    factor = np.ones(channels) if weight is None else values.constant(weight, "weight")
    shift = np.zeros(channels) if bias is None else values.constant(bias, "bias")
    statistics = values.constant(mean, "mean"), values.constant(variance, "variance")
    values.absorbed.add(node)
    return [(normalize(factor, shift, *statistics, epsilon), (x,))]


def _batch_norm(node: Node, values: TracedValues) -> Reading:
    """Batch normalization with one result, as in traces without in-place operations."""
    x, weight, bias, mean, variance, training, _, epsilon = arguments(node, *(None,) * 5, False, 0.1, 1e-5)
    if training:
        raise NotLinear(BATCH_STATISTICS)
    channels = values.channels(x)
    factor = np.ones(channels) if weight is None else values.constant(weight, "weight")
    shift = np.zeros(channels) if bias is None else values.constant(bias, "bias")
    statistics = values.constant(mean, "mean"), values.constant(variance, "variance")
    return [(normalize(factor, shift, *statistics, epsilon), (x,))]


BATCH_STATISTICS = "it normalizes with the statistics of the batch, not of the population"


def batch_statistics_result(node: Node, index: int, values: TracedValues) -> Reading:
    """Batch normalization with the statistics of the batch: never linear."""
    if index != 0:
        return []
    raise NotLinear(BATCH_STATISTICS)


def _pad(node: Node, values: TracedValues) -> Reading:
    if node.target is aten.constant_pad_nd.default:
        x, pads, value = arguments(node, None, (), 0)
        mode = "constant"
    else:
        x, pads, mode, value = arguments(node, None, (), "constant", None)
    if rank(x) != 4:
        return []
    if mode != "constant":
        raise NotLinear(f"it pads with the picture's own pixels (mode '{mode}')")
    return [(Pad(_padding_of(pads), _pad_value(value)), (x,))]


def _padding_of(pads: Any) -> Padding:
    """The padding from PyTorch's numbers: left, right, top, bottom, then those of channels and batch."""
    if not all(isinstance(side, int) for side in pads):
        raise NotLinear("its padding depends on the input")
    sides = [*pads, *([0] * (8 - len(pads)))]
    if any(sides[4:]):
        raise NotLinear("it pads the batch or the channels")
    if min(sides) < 0:
        raise NotLinear("it crops (negative padding)")
    return Padding(top=sides[2], bottom=sides[3], left=sides[0], right=sides[1])


def _pad_value(value: Any) -> float:
    number = float(value or 0)
    if not np.isfinite(number):
        raise NotLinear("it pads with a value that is not finite")
    return number


def _avg_pool2d(node: Node, values: TracedValues) -> Reading:
    x, kernel, stride, given, ceil, counted, divisor = arguments(node, None, 1, (), 0, False, True, None)
    k, l = _pair(kernel)
    padding = _symmetric(given)
    if ceil:
        raise NotLinear("it rounds sizes up (ceil_mode)")
    if padding and not counted and divisor is None:
        raise NotLinear("it does not count its padding (count_include_pad)")
    strides = _pair(stride) if stride else (k, l)
    return [(Average((k, l), strides, padding, divisor or k * l), (values.picture(x),))]


WINDOW_RULES: dict[Any, Rule] = {
    **dict.fromkeys((aten.conv2d.default, aten.conv2d.padding), _conv2d),
    aten.convolution.default: _convolution,
    aten.conv_transpose2d.input: _conv_transpose2d,
    aten.linear.default: _linear,
    aten.avg_pool2d.default: _avg_pool2d,
}
"""Rules that check their input themselves."""

WINDOW_PLANE_RULES: dict[Any, Rule] = {**dict.fromkeys(PADS, _pad), aten.batch_norm.default: _batch_norm}
"""Rules whose first argument is a value (N, C, H, W) or (N, C) that depends on the input."""
