"""PSNR and SSIM of 8-bit pictures, on studio luma (as the field does) and on RGB.

Pictures are compared as they would be written, in uint8. All arithmetic is float64.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.images.colour import luma

Bytes = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]

PEAK = 255.0
"""The peak value of PSNR."""

WINDOW, SIGMA = 11, 1.5
"""Side of SSIM's Gaussian window and its standard deviation, in pixels."""

C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""SSIM's constants that stabilize the quotients."""

BLOCK_WINDOWS = 32
"""Rows, and columns, of windows that one matrix product computes: few enough for the processor's cache."""


@dataclass(frozen=True)
class Scores:
    """PSNR in decibels (inf for equal pictures) and SSIM of one picture.

    On Y: unrounded, as in BasicSR, and rounded to whole grey levels, as in MATLAB. A greyscale picture is
    scored on its unchanged grey values: studio luma would compress their range, and the score would be 1.3 dB
    too high.
    """

    psnr_y: float
    ssim_y: float
    psnr_y_rounded: float
    ssim_y_rounded: float
    psnr_rgb: float


def score(picture: Bytes, reference: Bytes, border: int = 0) -> Scores:
    """Every score of a picture (H, W, C), C 1 or 3, uint8, with `border` pixels cropped on each side.

    Raises OnebranchError if the shapes differ, or less than 11x11 pixels are left (SSIM's window).
    """
    _check(picture, reference)
    picture, reference = cropped(picture, border), cropped(reference, border)
    _check_window(picture)
    y, reference_y = grey(picture), grey(reference)
    # Half up, as MATLAB rounds; np.rint would round halves to even.
    rounded, reference_rounded = np.floor(y + 0.5), np.floor(reference_y + 0.5)
    return Scores(
        psnr_y=psnr(y, reference_y),
        ssim_y=ssim(y, reference_y),
        psnr_y_rounded=psnr(rounded, reference_rounded),
        ssim_y_rounded=ssim(rounded, reference_rounded),
        psnr_rgb=psnr(picture, reference),
    )


def grey(picture: Bytes) -> Float64Array:
    """The plane (H, W) on which a picture (H, W, C) is scored, in [0, 255], unrounded.

    BT.601 studio luma of RGB; the grey values if C is 1.
    """
    values = picture.astype(np.float64)
    return values[..., 0] if values.shape[2] == 1 else np.asarray(luma(values / PEAK) * PEAK)


def cropped(picture: Bytes, border: int) -> Bytes:
    """The picture (H, W, ...) without `border` pixels on every side."""
    return picture[border : picture.shape[0] - border, border : picture.shape[1] - border]


def psnr(picture: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in decibels, peak 255, of arrays of any shape; inf if they are equal.

    >>> round(psnr(np.zeros((4, 4)), np.ones((4, 4))), 2)
    48.13
    """
    _check(picture, reference)
    error = float(np.mean(np.square(picture.astype(np.float64) - reference.astype(np.float64))))
    return math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)


def ssim(picture: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]) -> float:
    """Mean structural similarity of two planes (H, W) in [0, 255]; 1 if they are equal.

    An 11x11 Gaussian window of sigma 1.5, whole windows only. Raises OnebranchError if the shapes differ, or
    the planes are smaller than the window. Source: Wang et al., Image Quality Assessment (2004), and ssim.m.
    """
    _check(picture, reference)
    _check_window(picture)
    height, width = (side - WINDOW + 1 for side in picture.shape)
    total = 0.0
    for first in range(0, height, BLOCK_WINDOWS):
        rows = slice(first, min(first + BLOCK_WINDOWS, height) + WINDOW - 1)
        total += _ssim_sum(picture[rows].astype(np.float64), reference[rows].astype(np.float64))
    return float(total / (height * width))


def _ssim_sum(x: Float64Array, y: Float64Array) -> float:
    """The sum of SSIM over all windows inside two blocks of rows (N + 10, W)."""
    moments = np.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, mean_squares, mean_product = _window_means(moments)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    # var(x) + var(y) and cov(x, y), as means of products minus products of means. Only the sum of the two
    # variances is needed, so x x + y y is one plane.
    variances, covariance = mean_squares - squares, mean_product - product
    numerator = (2 * product + C1) * (2 * covariance + C2)
    return float((numerator / ((squares + C1) * (variances + C2))).sum())


def _check(picture: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]) -> None:
    if picture.shape != reference.shape:
        shapes = " and ".join("x".join(str(n) for n in array.shape) for array in (picture, reference))
        raise OnebranchError(f"pictures of {shapes} (height, width, channels) cannot be compared")


def _check_window(picture: npt.NDArray[np.generic]) -> None:
    height, width = picture.shape[:2]
    if min(height, width) < WINDOW:
        raise OnebranchError(
            f"SSIM needs at least {WINDOW}x{WINDOW} pixels inside the border, not {width}x{height}"
        )


def _window_means(planes: Float64Array) -> Float64Array:
    """Gaussian means of all windows inside planes: (P, N + 10, W) -> (P, N, W - 10).

    Both directions are matrix products with `_window_matrix`, which for a window of 3 and 2 means is

        [[a, b, c, 0],
         [0, a, b, c]]

    BLAS computes these faster than numpy adds 11 shifted planes, although most factors are 0.
    """
    count, height, width = planes.shape
    rows = np.matmul(_window_matrix(height - WINDOW + 1), planes).reshape(-1, width)
    means = np.empty((len(rows), width - WINDOW + 1))
    for first in range(0, means.shape[1], BLOCK_WINDOWS):
        last = min(first + BLOCK_WINDOWS, means.shape[1])
        means[:, first:last] = rows[:, first : last + WINDOW - 1] @ _window_matrix(last - first).T
    return means.reshape(count, -1, means.shape[1])


@cache
def _window_matrix(count: int) -> Float64Array:
    """The matrix (count, count + 10) whose row i holds the Gaussian window from column i on."""
    weights = np.exp(-np.square(np.arange(WINDOW) - WINDOW // 2) / (2 * SIGMA**2))
    matrix = np.zeros((count, count + WINDOW - 1))
    for row in range(count):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return matrix
