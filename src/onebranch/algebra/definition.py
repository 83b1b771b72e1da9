"""Slow definitions of convolutions and branches in numpy, the reference for every law and proof.

They share no code with the laws: the steps of a branch are executed one after the other.
"""

from collections.abc import Mapping

import numpy as np

from onebranch.algebra.conv import Conv
from onebranch.spec.branch import EDGES, AveragePool, BatchNorm, Branch, Convolution, Edge
from onebranch.spec.network import BATCH_NORM_EPSILON

Floats = np.ndarray
"""A numpy array of floats; the definitions compute in its precision."""


def apply(conv: Conv, pictures: Floats) -> Floats:
    """The convolution of pictures (N, I, H, W), unpadded: (N, O, H - K + 1, W - L + 1) at stride 1."""
    result = correlate(pictures, conv.weight, conv.groups, 1)
    sums: Floats = result[:, :, :: conv.stride, :: conv.stride] + conv.bias[:, None, None]
    return sums


# Example: the row (1 2 4 8) with the taps (1 -1) gives (-1 -2 -4); with dilation 2, (-3 -6).
def correlate(pictures: Floats, weight: Floats, groups: int, dilation: int) -> Floats:
    """Cross-correlation without padding, tap by tap: the sum of shifted, weighted pictures."""
    n, channels, height, width = pictures.shape
    outputs, _, k, l = weight.shape
    rows, columns = height - dilation * (k - 1), width - dilation * (l - 1)
    # Channels are split into groups, so that one matrix product per tap computes all of them.
    split = pictures.reshape(n, groups, channels // groups, height, width)
    taps = weight.reshape(groups, outputs // groups, channels // groups, k, l)
    result = np.zeros((groups, outputs // groups, n, rows * columns), pictures.dtype)
    for a in range(k):
        for b in range(l):
            window = split[..., a * dilation :, b * dilation :][..., :rows, :columns]
            flat = np.moveaxis(window, 0, 2).reshape(groups, channels // groups, n * rows * columns)
            result += (taps[..., a, b] @ flat).reshape(result.shape)
    return np.moveaxis(result.reshape(outputs, n, rows, columns), 0, 1)


def zero_pad(pictures: Floats, radius: tuple[int, int]) -> Floats:
    """Pictures (N, C, H, W) padded with radius[0] rows and radius[1] columns of zeros on each side."""
    return np.pad(pictures, ((0, 0), (0, 0), (radius[0],) * 2, (radius[1],) * 2))


def run_branch(branch: Branch, tensors: Mapping[str, Floats], pictures: Floats, width: int) -> Floats:
    """The output of a branch by its definition: padded once by its radius, then computed step by step.

    width: output channels. tensors: the branch's tensors, by names such as "0.weight" (step and parameter).
    """
    values = zero_pad(pictures, branch.radius)
    for index, step in enumerate(branch.steps):
        of_step = {name: tensors[f"{index}.{name}"].astype(values.dtype) for name in tensor_names(step)}
        if isinstance(step, Convolution):
            groups = step.groups or values.shape[1]
            values = correlate(values, of_step["weight"], groups, step.dilation)
            values = values + of_step["bias"][:, None, None] if step.bias else values
        elif isinstance(step, BatchNorm):
            spread = np.sqrt(of_step["running_var"] + BATCH_NORM_EPSILON)[:, None, None]
            values = (values - of_step["running_mean"][:, None, None]) / spread
            values = values * of_step["weight"][:, None, None] + of_step["bias"][:, None, None]
        elif isinstance(step, AveragePool):
            values = _averaged(values, step.kernel)
        elif isinstance(step, Edge):
            taps = np.broadcast_to(np.asarray(EDGES[step.name], values.dtype), (values.shape[1], 1, 3, 3))
            values = correlate(values, taps, values.shape[1], 1)
            values = values * of_step["scale"][:, None, None] + of_step["bias"][:, None, None]
    return values


def tensor_names(step: object) -> tuple[str, ...]:
    """Names of a step's tensors."""
    if isinstance(step, Convolution):
        return ("weight", "bias") if step.bias else ("weight",)
    if isinstance(step, BatchNorm):
        return "weight", "bias", "running_mean", "running_var"
    return ("scale", "bias") if isinstance(step, Edge) else ()


def _averaged(values: Floats, kernel: tuple[int, int]) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(values, kernel, (2, 3))
    means: Floats = windows.mean((-2, -1))
    return means


def matrix(conv: Conv, height: int, width: int) -> Floats:
    """The convolution, zero-padded by its radius, as a dense matrix on flattened pictures (I, H, W).

    The matrix is (O H W, I H W). It is built entry by entry from the definition and leaves out the bias.
    """
    r, c = conv.radius
    per_group = conv.outputs // conv.groups
    dense = np.zeros((conv.outputs, height, width, conv.inputs, height, width))
    for o in range(conv.outputs):
        first = (o // per_group) * conv.weight.shape[1]
        for i in range(conv.weight.shape[1]):
            for a, b in np.ndindex(*conv.kernel):
                for y, x in np.ndindex(height, width):
                    v, u = y + a - r, x + b - c
                    if 0 <= v < height and 0 <= u < width:
                        dense[o, y, x, first + i, v, u] = conv.weight[o, i, a, b]
    return dense.reshape(conv.outputs * height * width, conv.inputs * height * width)
