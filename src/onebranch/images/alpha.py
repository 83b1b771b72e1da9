"""Colours of fully transparent pixels, replaced so that they do not bleed into visible edges."""

import numpy as np

from onebranch.images.samples import Samples, as_depth


def fill_transparent(pixels: Samples, alpha: Samples, radius: int) -> Samples:
    """Pixels (H, W, C), the fully transparent ones with the mean colour of visible ones around them.

    alpha: (H, W), of the same type. radius: the mean is over a square of this many pixels on every side,
    weighted by alpha and by nearness along each axis. Pixels that are visible, or have no visible one in the
    square, stay as they are. Every result depends on its square alone, to the last bit.
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
    """Along an axis, the sum over `radius` neighbours on both sides, with triangle weights and zeros beyond.

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
