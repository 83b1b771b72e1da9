"""A convolution as a value, and the laws of its algebra: `second @ first`, `one + other`, and a few more.

The arithmetic uses only operations that numpy arrays and torch tensors share, so the same laws merge stored
weights in float64 and, differentiably, kernels that are being trained. Neither library is imported.
"""

import importlib
import math
from dataclasses import dataclass, replace
from typing import Any

from onebranch.errors import OnebranchError

Array = Any
"""A numpy array or a torch tensor; the laws never mix the two."""


def namespace(array: Array) -> Any:
    """The library an array belongs to: the module `numpy` or `torch`."""
    return importlib.import_module(type(array).__module__.partition(".")[0])


@dataclass(frozen=True)
class Conv:
    """A convolution without padding: y[o] = bias[o] + sum of weight[o] * x (correlation, as in the field).

    weight: (O, I / groups, K, L). bias: (O,). Every dilation is written out as zeros in the kernel. The
    picture is padded by whoever applies it, once; a centred kernel of odd size keeps the picture's size when
    padded by its radius. Laws are tested against the slow dense definition (`algebra.definition`).
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
        """Half of the kernel's extent in rows and columns; the kernel's sides are odd."""
        return self.kernel[0] // 2, self.kernel[1] // 2

    def __matmul__(self, first: "Conv") -> "Conv":
        """The convolution that equals `first`, then this one (law: compose)."""
        return compose(self, first)

    def __add__(self, other: "Conv") -> "Conv":
        """The convolution that equals the sum of both, kernels centred (law: add)."""
        return add(self, other)


def compose(second: Conv, first: Conv) -> Conv:
    """`first`, then `second`, as one: kernels convolve, radii add, strides multiply.

    W[k] = sum over a of W2[a] W1[k - a * stride1], b = b2 + (sum of W2) b1. Groups: the greatest common
    divisor of both, so that depthwise chains stay depthwise and BN keeps any grouping dense or not.
    """
    if second.inputs != first.outputs:
        raise OnebranchError(
            f"cannot compose: {first.outputs} channels come out, {second.inputs} are expected"
        )
    groups = math.gcd(second.groups, first.groups)
    outer, inner = regroup(second, groups), regroup(first, groups)
    weight = _convolved(_dilated(outer.weight, inner.stride), inner.weight, groups)
    sums = outer.weight[..., 0, 0] if outer.kernel == (1, 1) else outer.weight.sum((2, 3))
    sums = sums.reshape(groups, outer.outputs // groups, -1)
    shift = (sums @ inner.bias.reshape(groups, -1, 1)).reshape(-1)
    return Conv(weight, outer.bias + shift, groups, second.stride * first.stride)


def _convolved(outer: Array, inner: Array, groups: int) -> Array:
    """The full convolution of two kernels, group by group: (O, M, A, B), (M, I, K, L) -> (O, I, K+A-1, ..).

    Whichever kernel is 1x1 makes this one matrix product; else windows of the zero-framed inner kernel are
    gathered and multiplied with the flipped outer one.
    """
    xp = namespace(outer)
    outputs, between, a, b = outer.shape
    inputs, k, l = inner.shape[1:]
    grouped_outer = outer.reshape(groups, outputs // groups, between, a, b)
    grouped_inner = inner.reshape(groups, between, inputs, k, l)
    if (a, b) == (1, 1):
        flat = inner.reshape(groups, between, inputs * k * l)
        return (outer.reshape(groups, outputs // groups, between) @ flat).reshape(outputs, inputs, k, l)
    if (k, l) == (1, 1):
        product = xp.einsum("gomkl,gmi->goikl", grouped_outer, grouped_inner[..., 0, 0])
        return product.reshape(outputs, inputs, a, b)
    framed = _framed(inner, a - 1, b - 1)
    height, width = k + a - 1, l + b - 1
    places = [(u, v) for u in range(a) for v in range(b)]
    windows = xp.stack([framed[:, :, a - 1 - u :, b - 1 - v :][:, :, :height, :width] for u, v in places])
    windows = windows.reshape(a * b, groups, between, inputs, height, width)
    taps = grouped_outer.reshape(groups, outputs // groups, between, a * b)
    return xp.einsum("gomt,tgmikl->goikl", taps, windows).reshape(outputs, inputs, height, width)


def add(one: Conv, other: Conv) -> Conv:
    """The sum of two convolutions of the same input: centred kernels add, biases add.

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
    """The same convolution with a larger, zero-extended kernel (K, L), the old one in its centre.

    It equals the old one on a picture that is padded by the larger radius.
    """
    grow = kernel[0] - conv.kernel[0], kernel[1] - conv.kernel[1]
    if grow == (0, 0):
        return conv
    if min(grow) < 0 or grow[0] % 2 or grow[1] % 2:
        raise OnebranchError(f"cannot zero-extend a kernel {conv.kernel} to {kernel}: it must grow evenly")
    return replace(conv, weight=_framed(conv.weight, grow[0] // 2, grow[1] // 2))


def _framed(weight: Array, rows: int, columns: int) -> Array:
    """The kernel with `rows` of zeros above and below, and `columns` of zeros left and right."""
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
    """A dilated convolution written out: factor - 1 zeros between the kernel's taps."""
    return replace(conv, weight=_dilated(conv.weight, factor))


def regroup(conv: Conv, groups: int) -> Conv:
    """The same convolution with fewer groups (a divisor of its own); 1 makes it dense.

    Channels that did not meet before meet through zeros.
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
    """Average pooling that counts its padding, as a depthwise convolution of 1 / (K L)."""
    weight = _zeros(like, (channels, 1, *kernel)) + 1 / (kernel[0] * kernel[1])
    return Conv(weight, _zeros(like, (channels,)), groups=channels)
