"""Calibration crops: inputs of a network, made from ordinary pictures by its task's degradation.

They are a function of the folder's pictures: the only randomness is noise, seeded by the picture's index.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, counted_noun
from onebranch.images.colour import luma
from onebranch.images.degradation import add_noise, compress
from onebranch.images.folders import find_pictures
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.images.samples import Samples, as_depth
from onebranch.model.file import Model
from onebranch.progress import StepProgress, no_progress
from onebranch.spec.network import NetworkSpec

DEFAULT_PICTURES = 128
"""The default number of pictures."""

CROP_EDGE_PIXELS = 96
"""The edge of a crop in pixels of the network's input; smaller pictures give smaller crops."""

MAX_NOISE_LEVELS = 50.0
"""The strongest noise that a denoising network is calibrated on: standard deviation in grey levels of 255."""

DEGRADED_NOISE_LEVELS = (15.0, 3.0, 9.0, 6.0, 12.0)
"""The noise of degraded crops: standard deviations in grey levels of 255, in turn. Five levels, because with
four all noisy crops that are held out would have the same one."""

DEGRADED_JPEG_QUALITIES = (40, 80, 60, 90, 50)
"""The JPEG qualities of degraded crops, in turn; five for the same reason."""

HELD_OUT_INTERVAL = 4
"""One picture in this many is held out; without another folder, the loss is measured on those."""


@dataclass(frozen=True, eq=False)
class Crop:
    """A network's input (C, H, W) and the wanted output (C, H', W'); float32 in its colour mode."""

    given: np.ndarray
    wanted: np.ndarray


def read_crops(
    folder: str | os.PathLike[str],
    spec: NetworkSpec,
    pictures: int = DEFAULT_PICTURES,
    progress: StepProgress = no_progress,
    *,
    degraded: bool = False,
) -> tuple[Crop, ...]:
    """Centre crops of at most `pictures` pictures, spread evenly over the folder and its subfolders.

    upscale: the input is the crop, reduced bicubically and rounded to 8 bits, as the evaluation does it.
    downscale: the wanted output is the reduced crop. denoise: the input has Gaussian noise with a
    standard deviation from 0 to `MAX_NOISE_LEVELS`. Alpha is ignored. degraded: for networks that restore
    photographs; of three inputs, one is left as it is (also for denoise), one gets noise and one is
    compressed as JPEG. progress: called with the name of each picture, and the share of the pictures. Raises
    OnebranchError for a folder without pictures, and for pictures that are too small or cannot be read.
    """
    if pictures < 1:
        raise OnebranchError(f"pictures must be at least 1, not {pictures}")
    paths = spread(find_pictures(os.fspath(folder), recursive=True), pictures)
    crops = []
    for index, path in enumerate(paths):
        progress(f"reading {path.name}", index / len(paths))
        high = _middle_of(path, spec)
        crops.append(_degraded(high, index, spec) if degraded else _crop(high, index, len(paths), spec))
    return tuple(crops)


def crops_for(
    model: Model,
    folder: str | os.PathLike[str],
    pictures: int = DEFAULT_PICTURES,
    progress: StepProgress = no_progress,
) -> tuple[Crop, ...]:
    """The crops on which a model is calibrated: those of `read_crops`, degraded as its recipe says."""
    return read_crops(folder, model.spec, pictures, progress, degraded=trained_on_degraded(model))


def trained_on_degraded(model: Model) -> bool:
    """Whether the recipe of a model has degradations (`[data.degradation]`), as that of restore-x2 has."""
    value: Any = model.recipe
    for key in ("config", "data", "degradation"):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, dict) and model.spec.task != "downscale"


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the paths, evenly spaced.

    >>> [path.name for path in spread([Path(name) for name in "abcdef"], 3)]
    ['b', 'd', 'f']
    """
    count = min(count, len(paths))
    return [paths[(2 * k + 1) * len(paths) // (2 * count)] for k in range(count)]


def held_out(crops: Sequence[Crop]) -> tuple[list[Crop], list[Crop]]:
    """The crops to calibrate on, and those to measure the loss on: every `HELD_OUT_INTERVAL`th.

    Raises OnebranchError for fewer crops than that: none would be left to measure on.
    """
    if len(crops) < HELD_OUT_INTERVAL:
        raise OnebranchError(
            f"{counted_noun(len(crops), 'picture')} would leave none to measure the loss on; calibrate on at"
            f" least {HELD_OUT_INTERVAL}, or name another folder with --evaluate"
        )
    measured = list(crops[HELD_OUT_INTERVAL - 1 :: HELD_OUT_INTERVAL])
    return [crop for k, crop in enumerate(crops) if k % HELD_OUT_INTERVAL != HELD_OUT_INTERVAL - 1], measured


def _middle_of(path: Path, spec: NetworkSpec) -> Samples:
    """The centre of a picture file, 8 bits (H, W, C): `CROP_EDGE_PIXELS` of the network's input a side."""
    picture = read(path)
    unit = spec.scale
    edge = CROP_EDGE_PIXELS * (unit if spec.task == "upscale" else 1)
    if min(picture.height, picture.width) < 4 * unit:
        raise OnebranchError(f"'{path}' is too small to calibrate on: {picture.width}x{picture.height}")
    return _middle(as_depth(picture.pixels, "uint8"), edge, unit)


def _crop(high: Samples, index: int, count: int, spec: NetworkSpec) -> Crop:
    if spec.task == "denoise":
        clean = _in_colours(high, spec)
        sigma = MAX_NOISE_LEVELS / 255 * index / max(1, count - 1)
        noise = np.random.default_rng(index).normal(0, sigma, clean.shape)
        return Crop((clean + noise).astype(np.float32), clean)
    pair = _in_colours(_reduced(high, spec.scale), spec), _in_colours(high, spec)
    return Crop(*pair) if spec.task == "upscale" else Crop(*reversed(pair))


def _degraded(high: Samples, index: int, spec: NetworkSpec) -> Crop:
    """The crop of a network that enlarges, or keeps the size: clean, noisy or compressed by its index."""
    low = high if spec.scale == 1 else _reduced(high, spec.scale)
    low = np.ascontiguousarray(np.broadcast_to(low, (*low.shape[:2], 3)), np.uint8)
    turn, treatment = divmod(index, 3)
    if treatment == 1:
        sigma = DEGRADED_NOISE_LEVELS[turn % len(DEGRADED_NOISE_LEVELS)]
        low = add_noise(low, sigma, np.random.default_rng(index))
    elif treatment == 2:
        low = compress(low, DEGRADED_JPEG_QUALITIES[turn % len(DEGRADED_JPEG_QUALITIES)])
    return Crop(_in_colours(low, spec), _in_colours(high, spec))


def _reduced(high: Samples, factor: int) -> Samples:
    """8-bit pixels, reduced bicubically and rounded."""
    return as_depth(imresize(as_depth(high, "float32").astype(np.float32), 1 / factor), "uint8")


def _middle(pixels: Samples, edge: int, unit: int) -> Samples:
    """The centre of a picture (H, W, C): at most `edge` pixels a side, a multiple of `unit`."""
    sides = [min(edge, side) // unit * unit for side in pixels.shape[:2]]
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[:2], sides, strict=True))
    return pixels[top : top + sides[0], left : left + sides[1]]


def _in_colours(pixels: Samples, spec: NetworkSpec) -> np.ndarray:
    """8-bit pixels (H, W, 1 or 3) as the network's input: (C, H, W) float32."""
    rgb = np.broadcast_to(as_depth(pixels, "float32"), (*pixels.shape[:2], 3)).astype(np.float32)
    return luma(rgb)[None] if spec.colour == "y" else np.ascontiguousarray(rgb.transpose(2, 0, 1))
