"""Quantization parameters with the least squared error on given values: clipping weighed against rounding."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from onebranch.spec.quantization import MAX_LEVEL, MIN_QUANT_SCALE, QuantParams

HISTOGRAM_BINS = 2**14
"""The number of bins of the histogram that approximates the values."""

CLIP_FACTORS = tuple(np.linspace(1, 0.4, 25).tolist())
"""Fractions of the smallest and of the largest value at which the range may end."""


# Both ends are tried at 25 fractions each. Example: values from -1 to 4 with few above 2. The whole range has
# steps of 5 / 255 = 0.0196; if it ends at 2, steps are 0.0118, so that the squared rounding error of all
# other values is 0.36 times as large, and the few are clipped. The histogram weighs one against the other.
def best_quant_params(
    tensors: Sequence[np.ndarray], weights: Sequence[float], importance: np.ndarray | None = None
) -> QuantParams:
    """The parameters with the least mean squared error on the tensors; zero is represented exactly.

    tensors: each (C, H, W). weights: the weight of each tensor's squared errors. importance: (C,), the weight
    of each channel's squared errors; None: 1 each.
    """
    low = min(0.0, *(float(tensor.min()) for tensor in tensors))
    high = max(0.0, *(float(tensor.max()) for tensor in tensors))
    if high - low < MAX_LEVEL * MIN_QUANT_SCALE:
        return QuantParams(1.0, 0)
    counts, edges = _histogram(tensors, weights, importance, (low, high))
    values = (edges[1:] + edges[:-1]) / 2
    candidates = [_params_between(*ends) for ends in product(_clipped(low), _clipped(high))]
    errors = [float(counts @ (values - rounded(values, params)) ** 2) for params in candidates]
    return candidates[int(np.argmin(errors))]


def rounded(values: np.ndarray, params: QuantParams) -> np.ndarray:
    """Values after quantization and dequantization, in real units."""
    levels = np.clip(np.rint(values / params.scale) + params.zero_point, 0, MAX_LEVEL)
    return np.asarray((levels - params.zero_point) * params.scale)


def _clipped(end: float) -> list[float]:
    """The ends that are tried in place of this one."""
    return [end * factor for factor in CLIP_FACTORS] if end else [end]


def _histogram(
    tensors: Sequence[np.ndarray],
    weights: Sequence[float],
    importance: np.ndarray | None,
    ends: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted counts and the edges of their bins."""
    channels = np.ones(len(tensors[0])) if importance is None else importance
    total = np.zeros(HISTOGRAM_BINS)
    for tensor, weight in zip(tensors, weights, strict=True):
        for values, share in zip(tensor, channels, strict=True):
            total += weight * share * np.histogram(values, HISTOGRAM_BINS, ends)[0]
    return total, np.histogram_bin_edges([], HISTOGRAM_BINS, ends)


# Example: -1 to 4. The scale is 5 / 255, the zero point round(1 / scale) = 51: level 51 is exactly 0.
def _params_between(low: float, high: float) -> QuantParams:
    """Levels from about `low` <= 0 to about `high` >= 0; the zero point is rounded to an integer."""
    scale = max((high - low) / MAX_LEVEL, MIN_QUANT_SCALE)
    return QuantParams(scale, min(max(round(-low / scale), 0), MAX_LEVEL))
