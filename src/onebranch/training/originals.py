"""Random changes of originals, and so of labels: softness, film grain, colours, graphics and text.

Pictures are uint8 RGB (H, W, 3). Equal states of `rng` give equal results.
"""

import math
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from onebranch.images.degradation import blur, resize_plane, rounded
from onebranch.training.degradation import Degradation

MAX_SATURATION_FACTOR = 3.0
"""Largest factor by which a colour's difference from grey is multiplied."""

PURE_CHANNEL_PROBABILITY = 0.6
"""Probability that a channel of a graphic's colour is 0 or 255, as in the pure colours of screens."""

TEXT_PROBABILITY = 0.5
"""Share of graphics that are text; the others are the picture's green channel, blurred and thresholded."""

CONTOUR_BLUR = (1.0, 4.0)
"""Standard deviation, in pixels, of the blur before contours are drawn: the lowest and the highest."""

FONT_SIZES = (9, 40)
"""Sizes of text, in pixels of the original: the lowest and the highest."""

CHARACTERS = list(string.ascii_letters + string.digits + string.punctuation + " " * 12)


def change_original(
    picture: np.ndarray, scale: int, options: Degradation, rng: np.random.Generator
) -> np.ndarray:
    """The original after the changes that `options` asks for. scale: that of the network.

    Photographs out of focus, and pictures that were enlarged before, are as soft as a blurred original; the
    network learns not to sharpen them.
    """
    if happens(options.graphics_probability, rng):
        picture = draw_graphic(picture, rng)
    if happens(options.recolour_probability, rng):
        picture = recolour(picture, rng)
    if happens(options.soft_probability, rng):
        picture = blur(picture, scale * rng.uniform(*options.soft_sigma))
    if happens(options.grain_probability, rng):
        picture = add_grain(picture, scale, options, rng)
    return picture


def happens(probability: float, rng: np.random.Generator) -> bool:
    """True with this probability. With probability 0 no number is drawn, so later ones stay the same."""
    return probability > 0 and rng.random() < probability


def add_grain(picture: np.ndarray, scale: int, options: Degradation, rng: np.random.Generator) -> np.ndarray:
    """The original with added grain, equal in all channels.

    The label has the grain too, so the network learns to keep weak grain instead of taking it for noise.
    """
    size = max(1.0, scale * rng.uniform(*options.grain_size))
    height, width = picture.shape[:2]
    coarse = rng.standard_normal((math.ceil(height / size) + 1, math.ceil(width / size) + 1), np.float32)
    grain = resize_plane(coarse, height, width, "bicubic")
    strength = rng.uniform(*options.grain_sigma) / grain.std()
    return rounded(picture + strength * grain[..., None])


def recolour(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with channels exchanged and inverted at random, and colours up to 3 times as saturated.

    Photographs have few saturated colours; graphics and screens have many.
    """
    values = picture[..., rng.permutation(3)].astype(np.float32)
    inverted = rng.random(3) < 0.5
    values[..., inverted] = 255 - values[..., inverted]
    grey = values.mean(axis=2, keepdims=True)
    return rounded(grey + rng.uniform(1, MAX_SATURATION_FACTOR) * (values - grey))


def draw_graphic(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Text, or shapes with the contours of the picture, in one plain colour on another."""
    background, foreground = (_screen_colour(rng) for _ in range(2))
    height, width = picture.shape[:2]
    wants_text = rng.random() < TEXT_PROBABILITY
    coverage = text_coverage(height, width, rng) if wants_text else contour_coverage(picture, rng)
    return rounded(background + coverage[..., None] * (foreground - background))


def contour_coverage(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where the blurred green channel is above a random level: 0 to 1 (H, W), with smooth edges.

    The difference from the level, divided by the gradient, is the distance from the edge in pixels. The
    level lies between two grey levels of the plane, so that no flat area has exactly this level.
    """
    plane = blur(picture, rng.uniform(*CONTOUR_BLUR))[..., 1].astype(np.float32)
    level = min(np.floor(np.quantile(plane, rng.uniform(0.1, 0.9))), plane.max() - 1) + 0.5
    slope = np.hypot(*np.gradient(plane))
    coverage: np.ndarray = np.clip((plane - level) / np.maximum(slope, 1) + 0.5, 0, 1)
    return coverage


def text_coverage(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Lines of random characters in Pillow's font: 0 to 1 (H, W)."""
    size = int(rng.integers(FONT_SIZES[0], FONT_SIZES[1] + 1))
    page = Image.new("L", (width, height))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for top in range(-int(rng.integers(size)), height, round(1.3 * size)):
        line = "".join(rng.choice(CHARACTERS, 3 * width // size))
        draw.text((-int(rng.integers(size)), top), line, fill=255, font=font)
    return np.asarray(page, np.float32) / 255


def _screen_colour(rng: np.random.Generator) -> np.ndarray:
    """A random colour (3,), 0 to 255, most of whose channels are 0 or 255."""
    pure = rng.random(3) < PURE_CHANNEL_PROBABILITY
    return np.where(pure, 255 * rng.integers(0, 2, 3), rng.integers(0, 256, 3)).astype(np.float32)
