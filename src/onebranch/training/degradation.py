"""Random degradations of training inputs, so that a network learns to enhance real photographs.

A random resampler, then resizing, blur, noise and compression in random order, as in BSRGAN (Zhang et al.,
ICCV 2021), but milder. Some inputs are only reduced, so that the results of clean pictures stay clean.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from onebranch.images.degradation import (
    Codec,
    Resampler,
    add_noise,
    blur,
    compress,
    reduce,
    resize,
)

GREY_NOISE_PROBABILITY = 0.3
"""Share of noisy inputs whose noise is the same in all three channels, as after a grey conversion."""

FULL_CHROMA_PROBABILITY = 0.4
"""Share of JPEG inputs without chroma subsampling."""

SMALLEST_DETOUR = 0.6
"""Smallest factor by which a picture is reduced before it is enlarged to its size again."""


class Degradation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How inputs are degraded. Ranges are [lowest, highest], drawn uniformly.

    The probabilities of detour, blur, noise and compression are those of inputs that do not stay clean.
    """

    clean_probability: float = 1 / 3
    """Probability that an input is only resized."""
    soft_probability: float = 0.0
    """Probability that the original, and so the label, is blurred first."""
    soft_sigma: tuple[float, float] = (0.25, 0.75)
    """Standard deviation of that Gaussian blur, in pixels of the input."""
    grain_probability: float = 0.0
    """Probability that film grain is added to the original, and so to the label."""
    grain_sigma: tuple[float, float] = (0.5, 5.0)
    """Standard deviation of the grain of the original, in 8-bit grey levels."""
    grain_size: tuple[float, float] = (0.5, 1.25)
    """Distance of independent values of the grain, in pixels of the input; at least one of the original."""
    recolour_probability: float = 0.0
    """Probability that channels of the original are exchanged and inverted, and its saturation raised."""
    graphics_probability: float = 0.0
    """Probability that the original is replaced by shapes or text in two plain colours."""
    resamplers: tuple[Resampler, ...] = ("bicubic", "bilinear", "box", "lanczos", "hamming")
    """Filters from which one is drawn to reduce the input; listed twice, one is drawn twice as often."""
    detour_probability: float = 0.1
    """Probability that an input is slightly reduced and enlarged again, as is common on the web."""
    blur_probability: float = 0.2
    """Probability that an input is blurred."""
    blur_sigma: tuple[float, float] = (0.0, 1.0)
    """Standard deviation of the Gaussian blur, in pixels of the input."""
    noise_probability: float = 0.4
    """Probability that Gaussian noise is added to an input."""
    noise_sigma: tuple[float, float] = (0.0, 15.0)
    """Standard deviation of the noise, in 8-bit grey levels."""
    compression_probability: float = 0.75
    """Probability that an input is compressed as JPEG or WebP."""
    quality: tuple[int, int] = (40, 98)
    """Quality of JPEG and WebP compression, 1 to 100."""
    webp_probability: float = 0.1
    """Probability that a compressed input is WebP instead of JPEG."""


def degrade(picture: np.ndarray, scale: int, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    """A uint8 picture (H, W, 3) degraded at random and reduced to (H / scale, W / scale, 3), 8 bits.

    Equal states of `rng` give equal results.
    """
    picture = _reduced(picture, scale, options, rng)
    if rng.random() < options.clean_probability:
        return picture
    candidates: tuple[tuple[float, Callable[..., np.ndarray]], ...] = (
        (options.detour_probability, _detour),
        (options.blur_probability, _blurred),
        (options.noise_probability, _noisy),
        (options.compression_probability, _compressed),
    )
    steps = [step for probability, step in candidates if rng.random() < probability]
    for index in rng.permutation(len(steps)):
        picture = steps[index](picture, options, rng)
    return picture


def _reduced(picture: np.ndarray, scale: int, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    resampler = options.resamplers[int(rng.integers(len(options.resamplers)))]
    return picture if scale == 1 else reduce(picture, scale, resampler)


def _detour(picture: np.ndarray, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    factor = rng.uniform(SMALLEST_DETOUR, 1)
    down, up = (options.resamplers[int(rng.integers(len(options.resamplers)))] for _ in range(2))
    smaller = resize(picture, max(1, round(height * factor)), max(1, round(width * factor)), down)
    return resize(smaller, height, width, up)


def _blurred(picture: np.ndarray, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    return blur(picture, rng.uniform(*options.blur_sigma))


def _noisy(picture: np.ndarray, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    grey = bool(rng.random() < GREY_NOISE_PROBABILITY)
    return add_noise(picture, rng.uniform(*options.noise_sigma), rng, grey=grey)


def _compressed(picture: np.ndarray, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    codec: Codec = "webp" if rng.random() < options.webp_probability else "jpeg"
    quality = int(rng.integers(options.quality[0], options.quality[1] + 1))
    full_chroma = bool(rng.random() < FULL_CHROMA_PROBABILITY)
    return compress(picture, quality, codec, "4:4:4" if full_chroma else "4:2:0")
