"""PSNR and SSIM of 8-bit pictures, on the studio luma that the field measures on, and on RGB.

What is compared is the picture as it would be written: uint8. All arithmetic is float64.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.images.colour import luma

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


@dataclass(frozen=True)
class Scores:
    """PSNR in decibels (inf for equal pictures) and SSIM of one picture.

    On Y: unrounded, as BasicSR takes it, and rounded to whole grey levels, as MATLAB does. A greyscale
    picture is scored on its grey values as they are, everywhere: making them studio luma would compress
    their range and flatter the score by 1.3 dB.
    """

    psnr_y: float
    ssim_y: float
    psnr_y_rounded: float
    ssim_y_rounded: float
    psnr_rgb: float


def score(picture: Bytes, reference: Bytes, border: int = 0) -> Scores:
    """Every score of a picture (H, W, C), C 1 or 3, uint8, with `border` pixels cropped on each side.

    OnebranchError if the shapes differ, or less than 11x11 pixels are left (SSIM's window).
    """
    _check(picture, reference)
    picture, reference = cropped(picture, border), cropped(reference, border)
    _check_window(picture)
    y, reference_y = grey(picture), grey(reference)
    rounded, reference_rounded = np.floor(y + 0.5), np.floor(reference_y + 0.5)
    return Scores(
        psnr_y=psnr(y, reference_y),
        ssim_y=ssim(y, reference_y),
        psnr_y_rounded=psnr(rounded, reference_rounded),
        ssim_y_rounded=ssim(rounded, reference_rounded),
        psnr_rgb=psnr(picture, reference),
    )


def grey(picture: Bytes) -> Floats:
    """What a picture (H, W, C) is scored on: (H, W) in [0, 255], unrounded.

    BT.601 studio luma of RGB; the grey values themselves where C is 1.
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

    An 11x11 Gaussian window of sigma 1.5, whole windows only. OnebranchError if the shapes differ, or the
    planes are smaller than the window. Source: Wang et al., Image Quality Assessment (2004), and ssim.m.
    """
    _check(picture, reference)
    _check_window(picture)
    x, y = picture.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    xx, yy, xy = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variances = _windowed(x * x) - xx + (_windowed(y * y) - yy)
    covariance = _windowed(x * y) - xy
    similarity = (2 * xy + C1) * (2 * covariance + C2) / ((xx + yy + C1) * (variances + C2))
    return float(similarity.mean())


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


@cache
def _gaussian() -> tuple[float, ...]:
    """The window along one axis; its weights sum to one."""
    weights = np.exp(-np.square(np.arange(WINDOW) - WINDOW // 2) / (2 * SIGMA**2))
    return tuple(float(weight) for weight in weights / weights.sum())


def _windowed(plane: Floats) -> Floats:
    """Gaussian averages of all whole windows, separably: (H, W) -> (H - 10, W - 10)."""
    for _ in range(2):
        length = plane.shape[0] - WINDOW + 1
        total = np.zeros((length, plane.shape[1]))
        for k, weight in enumerate(_gaussian()):
            total += weight * plane[k : k + length]
        plane = total.T
    return plane
