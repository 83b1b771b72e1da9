"""Common degradations of 8-bit RGB pictures: downscaling, blur, noise and lossy compression.

Every function takes and returns a uint8 array (H, W, 3), except `resize_plane` and `rounded`. Randomness is
an argument.
"""

import io
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

Resampler = Literal["bicubic", "bilinear", "box", "lanczos", "hamming"]
"""Antialiased filters of Pillow. "bicubic" has a = -0.5; "box" averages areas."""

Codec = Literal["jpeg", "webp"]

Subsampling = Literal["4:2:0", "4:4:4"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
}

_PILLOW_SUBSAMPLING = {"4:2:0": 2, "4:4:4": 0}


def resize(picture: np.ndarray, height: int, width: int, resampler: Resampler) -> np.ndarray:
    """The picture resized to (height, width, 3) with one of Pillow's filters."""
    source = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(source.resize((width, height), _FILTERS[resampler]))


def resize_plane(plane: np.ndarray, height: int, width: int, resampler: Resampler) -> np.ndarray:
    """A plane (h, w) of float32 values resized to (height, width), neither rounded nor clipped."""
    return np.asarray(Image.fromarray(plane).resize((width, height), _FILTERS[resampler]))


def reduce(picture: np.ndarray, factor: int, resampler: Resampler) -> np.ndarray:
    """The picture downscaled by a factor, after its sides were cropped to multiples of the factor.

    >>> reduce(np.zeros((7, 9, 3), np.uint8), 2, "box").shape
    (3, 4, 3)
    """
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    return resize(picture[: height * factor, : width * factor], height, width, resampler)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """The picture after Gaussian blur, which Pillow approximates by box filters. sigma: in pixels."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).filter(ImageFilter.GaussianBlur(sigma)))


def add_noise(
    picture: np.ndarray, sigma: float, rng: np.random.Generator, *, grey: bool = False
) -> np.ndarray:
    """The picture with Gaussian noise, rounded and clipped. sigma: in levels. grey: same for all channels."""
    shape = (*picture.shape[:2], 1) if grey else picture.shape
    return rounded(picture + np.float32(sigma) * rng.standard_normal(shape, np.float32))


def rounded(values: np.ndarray) -> np.ndarray:
    """Grey levels of any shape, rounded to 8 bits and clipped."""
    levels: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def compress(
    picture: np.ndarray, quality: int, codec: Codec = "jpeg", subsampling: Subsampling = "4:2:0"
) -> np.ndarray:
    """The picture after lossy compression and decoding. quality: 1 to 100. WebP is always 4:2:0."""
    buffer = io.BytesIO()
    options = {"subsampling": _PILLOW_SUBSAMPLING[subsampling]} if codec == "jpeg" else {"method": 2}
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, codec, quality=quality, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))
