"""Cross-layer equalization: channels of a tensor are scaled to similar ranges, and the next layer undoes it.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1. Exact, because PReLU, ReLU and leaky ReLU commute with positive scales.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.spec.network import NetworkSpec

MAX_SCALE_RATIO = 64.0
"""The largest ratio of two scales in a tensor; without it, scales of constant channels are unbounded."""

ZERO_POSITIONS = 64
"""The number of positions of zero within the range that are tried."""


# Example: layer 1 gives (0.1, 8), the weights of layer 2 for them are (5, 0.5). With the scales (8, 0.5) the
# outputs are (0.8, 4) and the weights (0.625, 1): the same products 0.5 and 4, but one range fits both
# outputs.
def equalized(
    spec: NetworkSpec, weights: Mapping[str, Floats], scales: Sequence[Floats]
) -> dict[str, Floats]:
    """The same network in float64, with channels multiplied by scales that the next layer divides by.

    scales: (O,) for the output of head and of every block, positive; equal for layers joined by skips.
    """
    result = {name: value.astype(np.float64) for name, value in weights.items()}
    for index, name in enumerate(spec.names):
        kernel = f"{name}.branches.0.0.weight"
        if index < len(scales):
            result[kernel] = result[kernel] * scales[index][:, None, None, None]
            if (bias := f"{name}.branches.0.0.bias") in result:
                result[bias] = result[bias] * scales[index]
        if index > 0:
            result[kernel] = result[kernel] / scales[index - 1][None, :, None, None]
    return result


@dataclass(frozen=True)
class Extent:
    """The range of a layer's output by channel: lowest (C,) <= 0 <= highest (C,).

    gain: (C,), the variance at the tail per unit variance of noise in each channel.
    """

    lowest: Floats
    highest: Floats
    gain: Floats


def equalizing_scales(spec: NetworkSpec, extents: Sequence[Extent], strength: float) -> list[Floats]:
    """Scales (O,) of head and every block for `equalized`, with geometric mean 1.

    extents: of their outputs on calibration pictures. strength: an exponent of the scales. 0 changes nothing;
    1 gives every channel as much of the tensor's range as possible, which minimizes the rounding error of
    activations and maximizes that of the next layer's weights.
    """
    joined = joined_layers(spec)
    scales: list[Floats] = [np.ones(block.width) for block in (spec.head, *spec.blocks)]
    for group in set(joined):
        members = [index for index, first in enumerate(joined) if first == group]
        group_scales = _largest_scales(_together([extents[index] for index in members]))
        log_scales = np.log(group_scales)
        group_scales = np.exp(strength * (log_scales - log_scales.mean()))
        for index in members:
            scales[index] = group_scales
    return scales


def _together(extents: Sequence[Extent]) -> Extent:
    """One extent for all tensors that share their scales."""
    return Extent(
        np.min([each.lowest for each in extents], 0),
        np.max([each.highest for each in extents], 0),
        np.sum([each.gain for each in extents], 0),
    )


# Example: channel a ranges from -1 to 3 and channel b from 0 to 1. If a quarter of the range lies below zero,
# a fits with the scale min(0.25 / 1, 0.75 / 3) = 0.25 and b with 0.75 / 1 = 0.75: a then ranges from -0.25 to
# 0.75 and b from 0 to 0.75. The noise at the tail is gain / scale^2, added over the channels; a position of
# zero that suits both channels minimizes it.
def _largest_scales(extent: Extent) -> Floats:
    """The largest scales with which all channels fit a range of length 1.

    Of all positions of zero in that range, the one with the least rounding noise at the tail is taken. No
    scale is more than `MAX_SCALE_RATIO` times the smallest.
    """
    shares = np.linspace(0, 1, ZERO_POSITIONS + 1)[:, None]  # of the range, below zero
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(extent.lowest < 0, shares / -extent.lowest, np.inf)
        above = np.where(extent.highest > 0, (1 - shares) / extent.highest, np.inf)
    scales = np.minimum(below, above)  # (ZERO_POSITIONS + 1, C)
    smallest = scales.min(1, keepdims=True)
    usable = (smallest > 0) & np.isfinite(smallest)
    scales = np.minimum(scales, np.where(usable, smallest, 1) * MAX_SCALE_RATIO)
    with np.errstate(divide="ignore"):
        noise = np.where(usable[:, 0], (extent.gain / scales**2).sum(1), np.inf)
    best = int(noise.argmin())
    return np.asarray(scales[best]) if np.isfinite(noise[best]) else np.ones(len(extent.gain))


def joined_layers(spec: NetworkSpec) -> list[int]:
    """For head and every block, the first layer that skips join it with, directly or through other layers.

    >>> from onebranch.spec.network import Skip
    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> short = NetworkShorthand(task="denoise", depth=4, branches=("3x3",), skips=(Skip(0, 2), Skip(2, 3)))
    >>> joined_layers(expand(short))
    [0, 1, 0, 0, 4]
    """
    first = list(range(len(spec.blocks) + 1))
    for skip in spec.skips:
        low, high = sorted((first[skip.source], first[skip.target]))
        first = [low if root == high else root for root in first]
    return first
