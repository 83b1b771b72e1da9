"""Calibration crops: what a network is given, made from ordinary pictures by its task's degradation.

They depend on the folder's pictures and nothing else: no randomness but the noise, seeded by the index.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.colour import luma
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Samples, as_depth
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.spec.network import NetworkSpec

PICTURES = 128
"""Pictures, unless another number is said."""

EDGE = 96
"""Pixels along a crop's edge, as the network sees it; smaller pictures give smaller crops."""

NOISE = 50.0
"""The strongest noise that a denoising network is calibrated on, in grey levels."""

HELD_OUT = 4
"""One picture of so many is not calibrated on, and measures the loss where no other set does."""


@dataclass(frozen=True, eq=False)
class Crop:
    """What a network is given (C, H, W), and what is wanted of it (C, H', W'); float32 in its colours."""

    given: np.ndarray
    wanted: np.ndarray


def read_crops(
    folder: str | os.PathLike[str], spec: NetworkSpec, pictures: int = PICTURES
) -> tuple[Crop, ...]:
    """A crop of the middle of each of so many pictures, spread evenly over the folder and its subfolders.

    Upscale: the crop is reduced bicubically and rounded to 8 bits, as the evaluation does it; downscale: its
    bicubic reduction is wanted; denoise: Gaussian noise from 0 to `NOISE` grey levels. Transparency is left
    out. Raises OnebranchError for a folder without pictures, and pictures that cannot be read.
    """
    if pictures < 1:
        raise OnebranchError(f"pictures must be at least 1, not {pictures}")
    paths = spread(find_pictures(os.fspath(folder), recursive=True), pictures)
    return tuple(_crop(path, index, len(paths), spec) for index, path in enumerate(paths))


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the paths, at even distances.

    >>> [path.name for path in spread([Path(name) for name in "abcdef"], 3)]
    ['b', 'd', 'f']
    """
    count = min(count, len(paths))
    return [paths[(2 * k + 1) * len(paths) // (2 * count)] for k in range(count)]


def held_out(crops: Sequence[Crop]) -> tuple[list[Crop], list[Crop]]:
    """Those to calibrate on, and those that only measure: every `HELD_OUT`th.

    Raises OnebranchError for fewer than that: a loss on the calibration's own pictures would say nothing.
    """
    if len(crops) < HELD_OUT:
        raise OnebranchError(
            f"{len(crops)} picture(s) leave none to measure the loss on; calibrate on at least {HELD_OUT},"
            " or name another folder with --evaluate"
        )
    measured = list(crops[HELD_OUT - 1 :: HELD_OUT])
    return [crop for k, crop in enumerate(crops) if k % HELD_OUT != HELD_OUT - 1], measured


def _crop(path: Path, index: int, count: int, spec: NetworkSpec) -> Crop:
    picture = read(path)
    unit = spec.scale
    edge = EDGE * (unit if spec.task == "upscale" else 1)
    if min(picture.height, picture.width) < 4 * unit:
        raise OnebranchError(f"'{path}' is too small to calibrate on: {picture.width}x{picture.height}")
    high = _middle(as_depth(picture.pixels, "uint8"), edge, unit)
    if spec.task == "denoise":
        clean = _in_colours(high, spec)
        sigma = NOISE / 255 * index / max(1, count - 1)
        noise = np.random.default_rng(index).normal(0, sigma, clean.shape)
        return Crop((clean + noise).astype(np.float32), clean)
    floats = as_depth(high, "float32").astype(np.float32)
    low = as_depth(imresize(floats, 1 / unit), "uint8")
    pair = _in_colours(low, spec), _in_colours(high, spec)
    return Crop(*pair) if spec.task == "upscale" else Crop(*reversed(pair))


def _middle(pixels: Samples, edge: int, unit: int) -> Samples:
    """The middle of a picture (H, W, C): at most `edge` pixels a side, a multiple of `unit`."""
    sides = [min(edge, side) // unit * unit for side in pixels.shape[:2]]
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[:2], sides, strict=True))
    return pixels[top : top + sides[0], left : left + sides[1]]


def _in_colours(pixels: Samples, spec: NetworkSpec) -> np.ndarray:
    """(H, W, 1 or 3) bytes as the network sees them: (C, H, W) float32."""
    rgb = np.broadcast_to(as_depth(pixels, "float32"), (*pixels.shape[:2], 3)).astype(np.float32)
    return luma(rgb)[None] if spec.colour == "y" else np.ascontiguousarray(rgb.transpose(2, 0, 1))
