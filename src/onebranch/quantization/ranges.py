"""Ranges of 8-bit tensors that lose least on the values that were met: clipping against rounding."""

from collections.abc import Sequence

import numpy as np

from onebranch.spec.quantization import LEVELS, SMALLEST_SCALE, Range

BINS = 2**14
"""Of the histogram that stands for the values."""

NARROWER = tuple(np.linspace(1, 0.4, 25).tolist())
"""Factors that each end of the range is tried with."""


def best_range(
    tensors: Sequence[np.ndarray], weights: Sequence[float], importance: np.ndarray | None = None
) -> Range:
    """The range of 256 levels with the least mean squared error, zero exactly among them.

    tensors: each (C, H, W). weights: what an error in each tensor weighs. importance: (C,), what one in each
    channel weighs; all the same where None.
    """
    low, high = (float(reach) for reach in (min(t.min() for t in tensors), max(t.max() for t in tensors)))
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < LEVELS * SMALLEST_SCALE:
        return Range(1.0, 0)
    counts, edges = _histogram(tensors, weights, importance, (low, high))
    values = (edges[1:] + edges[:-1]) / 2
    lows, highs = ([end] if end == 0 else [end * factor for factor in NARROWER] for end in (low, high))
    tried = [_range_between(*ends) for ends in ((a, b) for a in lows for b in highs)]
    errors = [float(counts @ (values - rounded(values, found)) ** 2) for found in tried]
    return tried[int(np.argmin(errors))]


def rounded(values: np.ndarray, to: Range) -> np.ndarray:
    """Values as the range keeps them, in real units."""
    levels = np.clip(np.rint(values / to.scale) + to.zero_point, 0, LEVELS)
    return np.asarray((levels - to.zero_point) * to.scale)


def _histogram(
    tensors: Sequence[np.ndarray],
    weights: Sequence[float],
    importance: np.ndarray | None,
    ends: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    channels = np.ones(len(tensors[0])) if importance is None else importance
    total = np.zeros(BINS)
    for tensor, weight in zip(tensors, weights, strict=True):
        for values, share in zip(tensor, channels, strict=True):
            total += weight * share * np.histogram(values, BINS, ends)[0]
    return total, np.histogram_bin_edges([], BINS, ends)


def _range_between(low: float, high: float) -> Range:
    """From about `low` <= 0 to about `high` >= 0: the zero point is a whole number."""
    scale = max((high - low) / LEVELS, SMALLEST_SCALE)
    return Range(scale, min(max(round(-low / scale), 0), LEVELS))
