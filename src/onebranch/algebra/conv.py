"""A convolution as a value, and the laws of its algebra: `second @ first`, `one + other`, and a few more.

The arithmetic uses only operations that numpy arrays and torch tensors share, so the same laws merge stored
weights in float64 and, differentiably, kernels that are being trained. PyTorch is not imported.
"""

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError

Array = Any
"""A numpy array or a torch tensor; the laws never mix the two."""


NUMPY_TYPES = (np.ndarray, np.generic)
"""Arrays and scalars; every other array is taken for a torch tensor."""


def namespace(array: Array) -> Any:
    """The library an array belongs to: the module `numpy` or `torch`."""
    return np if isinstance(array, NUMPY_TYPES) else sys.modules["torch"]


@dataclass(frozen=True)
class Conv:
    """A convolution without padding: y[o] = bias[o] + sum of weight[o] * x (cross-correlation).

    weight: (O, I / groups, K, L). bias: (O,). A dilation is stored as zeros in the kernel. The caller pads
    the picture, once; if it is padded by the radius of a kernel of odd size, the output has the picture's
    size. The laws are tested against the slow dense definition (`algebra.definition`).
    """

    weight: Array
    bias: Array
    groups: int = 1
    stride: int = 1

    @property
    def outputs(self) -> int:
        """Output channels O."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Input channels I."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel size (K, L)."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def radius(self) -> tuple[int, int]:
        """Rows and columns on each side of the kernel's centre; K and L are odd."""
        return self.kernel[0] // 2, self.kernel[1] // 2

    def __matmul__(self, first: "Conv") -> "Conv":
        """The convolution that equals `first` followed by this one (law: compose)."""
        return compose(self, first)

    def __add__(self, other: "Conv") -> "Conv":
        """The convolution that equals the sum of both, kernels centred (law: add)."""
        return add(self, other)


# Example, one channel and one row: first is y = 2 x + 3, second has the taps (1 0 -2) and the bias 5.
# Together: taps (2 0 -4), bias 5 + (1 + 0 - 2) * 3 = 2. If first has the taps (1 10) and stride 2, and second
# the taps (1 1), then the taps of second lie 2 pixels of the input apart: (1 10 1 10), stride 2.
def compose(second: Conv, first: Conv) -> Conv:
    """The convolution that equals `first` followed by `second`.

    The kernels are convolved, the radii add and the strides multiply: W[k] = sum over a of
    W2[a] W1[k - a * stride1], b = b2 + (sum of W2) b1. The number of groups is the greatest common divisor of
    both, so that a chain of depthwise convolutions stays depthwise.
    """
    if second.inputs != first.outputs:
        raise OnebranchError(
            f"cannot compose: {first.outputs} channels come out, {second.inputs} are expected"
        )
    groups = math.gcd(second.groups, first.groups)
    outer, inner = regroup(second, groups), regroup(first, groups)
    weight = _convolved(_dilated(outer.weight, inner.stride), inner.weight, groups)
    # Nothing is padded in between, so the bias of `first` is a constant plane: every tap of `second` reads
    # it.
    sums = outer.weight[..., 0, 0] if outer.kernel == (1, 1) else outer.weight.sum((2, 3))
    sums = sums.reshape(groups, outer.outputs // groups, -1)
    shift = (sums @ inner.bias.reshape(groups, -1, 1)).reshape(-1)
    return Conv(weight, outer.bias + shift, groups, second.stride * first.stride)


# Example, one channel and one row: outer (1 2), inner (3 4 5). The zero-padded inner kernel is (0 3 4 5 0).
# Its windows of 4 are (3 4 5 0) for the tap 1 and (0 3 4 5) for the tap 2, so the result is
# 1 * (3 4 5 0) + 2 * (0 3 4 5) = (3 10 13 10).
def _convolved(outer: Array, inner: Array, groups: int) -> Array:
    """The full convolution of two kernels, group by group: (O, M, A, B), (M, I, K, L) -> (O, I, K+A-1, ..).

    If either kernel is 1x1, this is a single matrix product. Otherwise windows of the zero-padded inner
    kernel are gathered and multiplied with the flipped outer kernel.
    """
    xp = namespace(outer)
    outputs, between, a, b = outer.shape
    inputs, k, l = inner.shape[1:]
    grouped_outer = outer.reshape(groups, outputs // groups, between, a, b)
    grouped_inner = inner.reshape(groups, between, inputs, k, l)
    # Most chains contain a 1x1 kernel, for which a matrix product is enough.
    if (a, b) == (1, 1):
        flat = inner.reshape(groups, between, inputs * k * l)
        return (outer.reshape(groups, outputs // groups, between) @ flat).reshape(outputs, inputs, k, l)
    if (k, l) == (1, 1):
        product = xp.einsum("gomkl,gmi->goikl", grouped_outer, grouped_inner[..., 0, 0])
        return product.reshape(outputs, inputs, a, b)
    framed = _framed(inner, a - 1, b - 1)
    height, width = k + a - 1, l + b - 1
    offsets = [(u, v) for u in range(a) for v in range(b)]
    windows = xp.stack([framed[:, :, a - 1 - u :, b - 1 - v :][:, :, :height, :width] for u, v in offsets])
    windows = windows.reshape(a * b, groups, between, inputs, height, width)
    taps = grouped_outer.reshape(groups, outputs // groups, between, a * b)
    return xp.einsum("gomt,tgmikl->goikl", taps, windows).reshape(outputs, inputs, height, width)


def add(one: Conv, other: Conv) -> Conv:
    """The sum of two convolutions of the same input: the centred kernels and the biases are added.

    Kernels of different sizes are zero-extended to the larger one first (law: pad).
    """
    if (one.outputs, one.inputs, one.stride) != (other.outputs, other.inputs, other.stride):
        raise OnebranchError(
            f"cannot add a convolution {one.inputs} -> {one.outputs} (stride {one.stride}) and"
            f" {other.inputs} -> {other.outputs} (stride {other.stride})"
        )
    kernel = max(one.kernel[0], other.kernel[0]), max(one.kernel[1], other.kernel[1])
    groups = math.gcd(one.groups, other.groups)
    left, right = (pad(regroup(conv, groups), kernel) for conv in (one, other))
    return Conv(left.weight + right.weight, one.bias + other.bias, groups, one.stride)


def pad(conv: Conv, kernel: tuple[int, int]) -> Conv:
    """The convolution with its kernel zero-extended to (K, L), the original kernel in the centre.

    On a picture padded by the larger radius, it gives the output of the original on the same picture padded
    by the original radius.
    """
    grow = kernel[0] - conv.kernel[0], kernel[1] - conv.kernel[1]
    if grow == (0, 0):
        return conv
    if min(grow) < 0 or grow[0] % 2 or grow[1] % 2:
        raise OnebranchError(f"cannot zero-extend a kernel {conv.kernel} to {kernel}: it must grow evenly")
    return replace(conv, weight=_framed(conv.weight, grow[0] // 2, grow[1] // 2))


def _framed(weight: Array, rows: int, columns: int) -> Array:
    """The kernel with `rows` rows of zeros above and below, and `columns` columns of zeros on each side."""
    xp = namespace(weight)
    o, i, k, l = weight.shape
    if rows:
        band = _zeros(weight, (o, i, rows, l))
        weight = xp.concatenate([band, weight, band], 2)
    if columns:
        band = _zeros(weight, (o, i, k + 2 * rows, columns))
        weight = xp.concatenate([band, weight, band], 3)
    return weight


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return namespace(like).zeros(shape, dtype=like.dtype, device=like.device)


def _eye(like: Array, size: int) -> Array:
    return namespace(like).eye(size, dtype=like.dtype, device=like.device)


# Example: (1 2 3) dilated by 2 is (1 0 2 0 3). Zeros are appended to every tap, and those after the last one
# are cut off, with operations that numpy and torch share.
def _dilated(weight: Array, factor: int) -> Array:
    """The kernel with factor - 1 zeros between its taps."""
    if factor == 1:
        return weight
    xp = namespace(weight)
    o, i, k, l = weight.shape
    spread = xp.concatenate([weight[..., None], _zeros(weight, (o, i, k, l, factor - 1))], 4)
    weight = spread.reshape(o, i, k, l * factor)[..., : (l - 1) * factor + 1]
    l = weight.shape[3]
    gaps = _zeros(weight, (o, i, k, factor - 1, l))
    spread = xp.concatenate([weight[:, :, :, None], gaps], 3)
    return spread.reshape(o, i, k * factor, l)[:, :, : (k - 1) * factor + 1]


def dilate(conv: Conv, factor: int) -> Conv:
    """The convolution dilated by `factor`: with factor - 1 zeros between the taps of its kernel."""
    return replace(conv, weight=_dilated(conv.weight, factor))


# Example: two groups of one input and one output each, with the weights a and b, become one group whose
# weight is the matrix ((a, 0), (0, b)): the weights times an identity matrix over the old groups.
def regroup(conv: Conv, groups: int) -> Conv:
    """The same convolution with fewer groups (a divisor of the current number); 1 makes it dense.

    The weights between channels that were in different groups are 0.
    """
    if groups == conv.groups:
        return conv
    if groups < 1 or conv.groups % groups:
        raise OnebranchError(f"cannot write {conv.groups} groups as {groups}: it must be a divisor")
    ratio = conv.groups // groups
    o, i, k, l = conv.weight.shape
    parts = conv.weight.reshape(groups, ratio, o // conv.groups, 1, i, k, l)
    mask = _eye(conv.weight, ratio).reshape(1, ratio, 1, ratio, 1, 1, 1)
    return replace(conv, weight=(parts * mask).reshape(o, ratio * i, k, l), groups=groups)


def scale(conv: Conv, factor: Array) -> Conv:
    """The convolution followed by a multiplication of every output channel; factor: (O,)."""
    return replace(conv, weight=conv.weight * factor.reshape(-1, 1, 1, 1), bias=conv.bias * factor)


# Example: y = 2 x + 5, then BN with mean 1, variance 4, epsilon 0, weight 3 and bias 0.5. The factor is 3 /
# 2, so the result is 1.5 * (2 x + 5 - 1) + 0.5 = 3 x + 6.5.
def normalize(conv: Conv, weight: Array, bias: Array, mean: Array, variance: Array, epsilon: float) -> Conv:
    """The convolution followed by batch normalization with population statistics, all (O,).

    y = (x - mean) / sqrt(variance + epsilon) * weight + bias (Ioffe and Szegedy, ICML 2015).
    """
    factor = weight / (variance + epsilon) ** 0.5
    scaled = scale(conv, factor)
    return replace(scaled, bias=scaled.bias + (bias - mean * factor))


def identity(like: Array, channels: int) -> Conv:
    """The identity as a depthwise 1x1 convolution of ones, of the library, type and device of `like`."""
    ones = _zeros(like, (channels, 1, 1, 1)) + 1
    return Conv(ones, _zeros(like, (channels,)), groups=channels)


def average(like: Array, channels: int, kernel: tuple[int, int]) -> Conv:
    """Average pooling with `count_include_pad=True`, as a depthwise convolution of 1 / (K L)."""
    weight = _zeros(like, (channels, 1, *kernel)) + 1 / (kernel[0] * kernel[1])
    return Conv(weight, _zeros(like, (channels,)), groups=channels)
