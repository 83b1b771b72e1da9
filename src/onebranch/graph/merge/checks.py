"""Checks, shared by all readers, that an operation is linear."""

from collections.abc import Hashable, Sequence

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding
from onebranch.graph.merge.linear import Convolve, Normalize, Scale
from onebranch.graph.merge.window import Window, after

BROADCAST = "it adds values of different shapes, one of them broadcast"
MATRIX_PRODUCT = "it is a matrix product, not a convolution"


class NotLinear(Exception):
    """An operation looks linear but cannot be expressed exactly; the text is the reason, for the user."""


def per_channel(numbers: Floats, channels: int, rank: int) -> Floats:
    """A constant that broadcasts over a value of this rank, (N, C, H, W) or (N, C), as (C,).

    Raises NotLinear if it is not one number for each channel.
    """
    array = np.asarray(numbers, np.float64)
    if array.ndim > rank:
        raise NotLinear(f"its constant of shape {array.shape} changes the shape of the value")
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(side != 1 for axis, side in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        raise NotLinear(f"its constant of shape {array.shape} is not one number for each channel")
    return np.broadcast_to(array.reshape(shape[1]), (channels,)).copy()


def scale(channels: int, factor: Floats | float = 1.0, shift: Floats | float = 0.0) -> Scale:
    """The operation factor * x + shift. Raises NotLinear if a number is not finite."""
    both = Scale(*(np.broadcast_to(np.asarray(part, np.float64), (channels,)) for part in (factor, shift)))
    if not (np.isfinite(both.factor).all() and np.isfinite(both.shift).all()):
        raise NotLinear("its constant is not finite")
    return both


def normalize(weight: Floats, bias: Floats, mean: Floats, variance: Floats, epsilon: float) -> Normalize:
    """The batch normalization. Raises NotLinear if its statistics are not usable."""
    parts = [np.asarray(part, np.float64).reshape(-1) for part in (weight, bias, mean, variance)]
    if not all(np.isfinite(part).all() for part in parts):
        raise NotLinear("its statistics or weights are not finite")
    if (parts[3] + epsilon <= 0).any() or (parts[3] < 0).any():
        raise NotLinear("its variance is negative, or zero without an epsilon")
    return Normalize(parts[0], parts[1], parts[2], parts[3], float(epsilon))


def convolve(
    weight: Floats,
    bias: Floats | None,
    groups: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Padding,
) -> Convolve:
    """The convolution. Raises NotLinear if it is not a plain one over two axes."""
    if weight.ndim != 4:
        raise NotLinear(f"it convolves along {weight.ndim - 2} axes, not 2")
    if min(padding.to_onnx()) < 0:
        raise NotLinear("its padding is negative")
    kernel = np.asarray(weight, np.float64)
    shift = None if bias is None else np.asarray(bias, np.float64).reshape(-1)
    if not np.isfinite(kernel).all() or not (shift is None or np.isfinite(shift).all()):
        raise NotLinear("its weights are not finite")
    if shift is not None and len(shift) != len(kernel):
        raise NotLinear(f"its bias holds {len(shift)} numbers for {len(kernel)} output channels")
    first, second = (tuple(int(n) for n in numbers) for numbers in (strides, dilations))
    return Convolve(kernel, shift, int(groups), first, second, padding)  # type: ignore[arg-type]


def transposed(
    weight: Floats,
    bias: Floats | None,
    groups: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Padding,
    more: Sequence[int],
) -> Convolve:
    """The convolution that equals a transposed convolution of stride 1.

    weight: (I, O / groups, K, L); it is rotated by 180 degrees. The new padding is dilation * (K - 1) minus
    the old padding. more: the output padding. Raises NotLinear if there is no such convolution.
    """
    if weight.ndim != 4:
        raise NotLinear(f"it convolves along {weight.ndim - 2} axes, not 2")
    if any(stride != 1 for stride in strides):
        raise NotLinear(f"a transposed convolution of stride {max(strides)} is not a convolution")
    if any(more):
        raise NotLinear("its output padding adds rows that no convolution computes")
    i, o, k, l = weight.shape
    rotated = weight[:, :, ::-1, ::-1].reshape(groups, i // groups, o, k, l).swapaxes(1, 2)
    rows, columns = (dilation * (taps - 1) for dilation, taps in zip(dilations, (k, l), strict=True))
    sides = Padding(
        rows - padding.top, rows - padding.bottom, columns - padding.left, columns - padding.right
    )
    return convolve(rotated.reshape(groups * o, i // groups, k, l), bias, groups, strides, dilations, sides)


def same_padding(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], lower: bool
) -> Padding:
    """The padding that keeps the size. An odd row is added at the end or, if `lower`, at the beginning.

    Raises NotLinear for a stride other than 1, where the padding depends on the size.
    """
    if any(stride != 1 for stride in strides):
        raise NotLinear(f"its padding depends on the picture's size ('same' with stride {max(strides)})")
    totals = [dilation * (taps - 1) for dilation, taps in zip(dilations, kernel, strict=True)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    before, behind = (large, small) if lower else (small, large)
    return Padding(before[0], behind[0], before[1], behind[1])


def size_after(size: Hashable, window: Window) -> Hashable:
    """The size key of an axis after a window of that slack and stride; a number if the size is a number.

    >>> size_after(8, Window(slack=-3)), size_after("h", Window(slack=-1))
    (6, 'h')
    >>> size_after(size_after("h", Window(slack=-2, stride=2)), Window(slack=-1, stride=2))
    ('window', 'h', -2, 4)
    """
    if isinstance(size, int):
        return (size + window.slack) // window.stride + 1
    if isinstance(size, tuple) and size and size[0] == "window":
        base, inner = size[1], Window(slack=size[2], stride=size[3])
        window = after(Window(slack=window.slack, stride=window.stride), inner)
        size = base
    if (window.slack, window.stride) == (-1, 1):
        return size
    return "window", size, window.slack, window.stride
