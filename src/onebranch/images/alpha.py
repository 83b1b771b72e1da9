"""Replacement of the colours of fully transparent pixels, so that they do not bleed into visible edges."""

import numpy as np

from onebranch.images.samples import Samples, as_depth


def fill_transparent(pixels: Samples, alpha: Samples, radius: int) -> Samples:
    """Pixels (H, W, C) in which fully transparent pixels have the mean colour of the visible pixels nearby.

    alpha: (H, W), of the same type. radius: the mean is taken over the square of 2 radius + 1 pixels, with
    weights that are proportional to alpha and decrease linearly along each axis. Visible pixels, and pixels
    without a visible one in their square, are unchanged. A result depends on nothing outside its square, to
    the last bit.
    """
    hidden = alpha == 0
    if not hidden.any():
        return pixels
    weight = as_depth(alpha, "float32").astype(np.float32)[..., None]
    colours = as_depth(pixels, "float32").astype(np.float32) * weight
    sums = np.concatenate([colours, weight], axis=2)
    for axis in (0, 1):
        sums = _triangle_sum(sums, radius, axis)
    filled = hidden & (sums[..., -1] > 0)
    result = pixels.copy()
    means = sums[filled]
    result[filled] = as_depth(means[:, :-1] / means[:, -1:], pixels.dtype.name)
    return result


def _triangle_sum(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Correlation along an axis with triangle weights of that radius; beyond the borders, values are zero.

    Example: radius 1 has the weights 1, 2, 1, so 0 0 4 0 becomes 0 4 8 4.
    """
    values = values.swapaxes(0, axis)
    length = len(values)
    result = values * np.float32(radius + 1)
    for distance in range(1, min(radius, length - 1) + 1):
        weight = np.float32(radius + 1 - distance)
        result[distance:] += values[:-distance] * weight
        result[:-distance] += values[distance:] * weight
    return result.swapaxes(0, axis)
