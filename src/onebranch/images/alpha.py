"""Colours under full transparency, which nobody sees, replaced so that none bleeds into edges."""

import numpy as np

from onebranch.images.picture import Samples, as_depth


def filled(pixels: Samples, alpha: Samples, reach: int) -> Samples:
    """Pixels (H, W, C) whose fully transparent ones take the mean colour of the visible ones around.

    alpha: (H, W), of the same type. reach: the mean is over a square of so many pixels on every side,
    weighted by alpha and by nearness along each axis. Pixels that are visible, or have nothing visible in
    reach, stay as they are. Every pixel's value depends on that square alone, to the last bit.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    weight = as_depth(alpha, "float32").astype(np.float32)[..., None]
    colours = as_depth(pixels, "float32").astype(np.float32) * weight
    sums = np.concatenate([colours, weight], axis=2)
    for axis in (0, 1):
        sums = _spread(sums, reach, axis)
    reached = hidden & (sums[..., -1] > 0)
    result = pixels.copy()
    means = sums[reached]
    result[reached] = as_depth(means[:, :-1] / means[:, -1:], pixels.dtype.name)
    return result


def _spread(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """The sum over `reach` neighbours on both sides of the axis, nearer ones counting more; zeros beyond."""
    values = values.swapaxes(0, axis)
    length = len(values)
    result = values * np.float32(reach + 1)
    for distance in range(1, min(reach, length - 1) + 1):
        share = np.float32(reach + 1 - distance)
        result[distance:] += values[:-distance] * share
        result[:-distance] += values[distance:] * share
    return result.swapaxes(0, axis)
