"""Cross-layer equalization: channels of one tensor brought to similar ranges, which what reads it undoes.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1. Exact: PReLU and its relatives pass positive scales through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.spec.network import NetworkSpec

MOST = 64.0
"""The largest ratio of scales within a tensor; channels that are nearly silent want endless ones."""

SHARES = 64
"""Places of zero within the range that are tried."""


def equalized(
    spec: NetworkSpec, weights: Mapping[str, Floats], scales: Sequence[Floats]
) -> dict[str, Floats]:
    """The same network in float64, its channels multiplied by scales that the next layer divides by.

    scales: of the output of head and every block, (O,), positive; layers that additions join have the same.
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
    """What the next layer reads, channel by channel: lowest (C,) <= 0 <= highest (C,), and how much noise of
    unit variance in each channel becomes at the tail: gain (C,)."""

    lowest: Floats
    highest: Floats
    gain: Floats


def equalizing_scales(spec: NetworkSpec, extents: Sequence[Extent], strength: float) -> list[Floats]:
    """Scales (O,) of head and every block for `equalized`, with geometric mean 1.

    extents: of what the next layer reads, on calibration pictures. strength: 0 leaves all as it is; 1 gives
    every channel as much of the tensor's range as it can have, which rounds the activations least and the
    weights that read them most; between them lie the powers.
    """
    joined = joined_layers(spec)
    scales: list[Floats] = [np.ones(block.width) for block in (spec.head, *spec.blocks)]
    for group in set(joined):
        members = [index for index, own in enumerate(joined) if own == group]
        found = _largest_scales(_together([extents[index] for index in members]))
        found = np.exp(strength * (np.log(found) - np.log(found).mean()))
        for index in members:
            scales[index] = found
    return scales


def _together(extents: Sequence[Extent]) -> Extent:
    """One extent for tensors that share their scales."""
    return Extent(
        np.min([each.lowest for each in extents], 0),
        np.max([each.highest for each in extents], 0),
        np.sum([each.gain for each in extents], 0),
    )


def _largest_scales(extent: Extent) -> Floats:
    """The largest scales that fit a range of length 1; of all places of zero in it, the one where rounding
    costs least. Silent channels get no more than `MOST` times the smallest."""
    shares = np.linspace(0, 1, SHARES + 1)[:, None]  # of the range, below zero
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(extent.lowest < 0, shares / -extent.lowest, np.inf)
        above = np.where(extent.highest > 0, (1 - shares) / extent.highest, np.inf)
    scales = np.minimum(below, above)  # (SHARES + 1, C)
    smallest = scales.min(1, keepdims=True)
    usable = (smallest > 0) & np.isfinite(smallest)
    scales = np.minimum(scales, np.where(usable, smallest, 1) * MOST)
    with np.errstate(divide="ignore"):
        noise = np.where(usable[:, 0], (extent.gain / scales**2).sum(1), np.inf)
    best = int(noise.argmin())
    return np.asarray(scales[best]) if np.isfinite(noise[best]) else np.ones(len(extent.gain))


def joined_layers(spec: NetworkSpec) -> list[int]:
    """Of head and every block, the first layer that additions join it with, directly or through others.

    >>> from onebranch.spec.network import Skip
    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> short = NetworkShorthand(task="denoise", depth=4, branches=("3x3",), skips=(Skip(0, 2), Skip(2, 3)))
    >>> joined_layers(expand(short))
    [0, 1, 0, 0, 4]
    """
    first = list(range(len(spec.blocks) + 1))
    for skip in spec.skips:
        low, high = sorted((first[skip.source], first[skip.target]))
        first = [low if own == high else own for own in first]
    return first
