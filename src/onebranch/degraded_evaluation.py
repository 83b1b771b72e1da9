"""Scores of a model on realistic inputs: reduced by several resamplers, compressed or noisy.

The baselines are Pillow's Lanczos and bicubic enlargement of the same degraded input; for models that keep
the size, both are that input itself. PSNR is that of Y (BT.601, see `metrics`) or of RGB, of 8-bit pictures,
without `scale` pixels of the result at each border, and at most `MAX_PSNR`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.device import CPU_TEXT
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.degradation import Resampler, add_noise, compress, reduce, resize
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import as_depth
from onebranch.metrics import cropped, grey, psnr
from onebranch.model.catalogue import load
from onebranch.model.file import Model
from onebranch.runtime.gpu import CPU

ByteArray = npt.NDArray[np.uint8]
"""A picture (H, W, 3)."""

RESAMPLERS: tuple[Resampler, ...] = ("bicubic", "box", "lanczos")
"""Filters by which the references are reduced to inputs."""

BASELINES: tuple[Resampler, ...] = ("lanczos", "bicubic")
"""Filters by which inputs are enlarged for comparison."""

MAX_PSNR = 100.0
"""The PSNR in dB that stands for equal pictures, whose PSNR is infinite, so that means stay finite."""

Channels = Literal["y", "rgb"]
"""What PSNR is measured on: luma, on which models of super-resolution are compared, or all three colours."""

Treatment = Callable[[ByteArray, np.random.Generator], ByteArray]


def _unchanged(picture: ByteArray, _: np.random.Generator) -> ByteArray:
    return picture


def _compressed(quality: int, picture: ByteArray, _: np.random.Generator) -> ByteArray:
    return compress(picture, quality)


def _noisy(sigma: float, picture: ByteArray, rng: np.random.Generator) -> ByteArray:
    return add_noise(picture, sigma, rng)


TREATMENTS: dict[str, Treatment] = {
    "clean": _unchanged,
    "JPEG 90": partial(_compressed, 90),
    "JPEG 70": partial(_compressed, 70),
    "JPEG 40": partial(_compressed, 40),
    "noise 5": partial(_noisy, 5.0),
    "noise 15": partial(_noisy, 15.0),
}
"""Degradations after the reduction, 8 bits. The number is the quality of JPEG, with 4:2:0 subsampling, or the
standard deviation of noise in grey levels.
"""


@dataclass(frozen=True)
class PictureScore:
    """The PSNR in dB of one picture: of the model's result and of the two baselines."""

    name: str
    model: float
    lanczos: float
    bicubic: float

    @property
    def gain(self) -> float:
        """The model's PSNR minus that of Lanczos, in dB."""
        return self.model - self.lanczos


@dataclass(frozen=True)
class DegradedClass:
    """The scores of all pictures after one degradation.

    resampler: one of `RESAMPLERS`, or "none" for models that keep the size. treatment: a key of `TREATMENTS`.
    """

    resampler: str
    treatment: str
    pictures: tuple[PictureScore, ...]

    @property
    def gain(self) -> float:
        """The mean gain over Lanczos in dB."""
        return float(np.mean([picture.gain for picture in self.pictures]))

    @property
    def gain_over_bicubic(self) -> float:
        """The mean gain over bicubic in dB."""
        return float(np.mean([picture.model - picture.bicubic for picture in self.pictures]))

    @property
    def worst(self) -> PictureScore:
        """The picture with the smallest gain over Lanczos."""
        return min(self.pictures, key=lambda picture: picture.gain)


@dataclass(frozen=True)
class DegradedEvaluation:
    """A model's scores on every kind of degraded inputs.

    channels: what PSNR was measured on. device: what computed it, as text.
    """

    model: str
    data: str
    channels: Channels
    classes: tuple[DegradedClass, ...]
    device: str = CPU_TEXT

    @property
    def gain(self) -> float:
        """The mean of all classes' gains over Lanczos, in dB."""
        return float(np.mean([one.gain for one in self.classes]))

    @property
    def worst_gain(self) -> float:
        """The smallest gain over Lanczos of any picture in any class, in dB."""
        return min(one.worst.gain for one in self.classes)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values, in dB, rounded to 3 decimals."""
        return {
            "model": self.model,
            "data": self.data,
            "device": self.device,
            "channels": self.channels,
            "mean_gain": round(self.gain, 3),
            "worst_gain": round(self.worst_gain, 3),
            "classes": [
                {
                    "resampler": one.resampler,
                    "treatment": one.treatment,
                    f"psnr_{self.channels}": round(float(np.mean([p.model for p in one.pictures])), 3),
                    "gain_over_lanczos": round(one.gain, 3),
                    "gain_over_bicubic": round(one.gain_over_bicubic, 3),
                    "worst_picture": one.worst.name,
                    "worst_gain": round(one.worst.gain, 3),
                }
                for one in self.classes
            ],
        }


def evaluate_degraded(
    model: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str],
    *,
    channels: Channels = "y",
    runtime: str = "auto",
    precision: str = "auto",
    device: str = CPU,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> DegradedEvaluation:
    """PSNR of a model (a shipped name, a file or a `Model`) on degraded pictures of the folder `data`.

    Every picture is cropped to a multiple of the scale, reduced by each of `RESAMPLERS` and changed by each
    of `TREATMENTS`; noise is seeded by the picture's index. For models that keep the size, inputs are not
    reduced and the class "clean" is left out, since the input is the reference. progress: called with the
    name of each picture before it is scored. Raises OnebranchError for models that make pictures smaller, for
    folders without pictures, and for pictures that are smaller than the cropped borders.
    """
    network = model if isinstance(model, Model) else load(model)
    if network.spec.task == "downscale":
        raise OnebranchError(
            "--degraded scores models that upscale or denoise; this one's task is 'downscale'"
        )
    options = Options(model=network, runtime=runtime, precision=precision, device=device, threads=threads)
    enhancer = Enhancer(options)
    scale = network.spec.scale
    scores: dict[tuple[str, str], list[PictureScore]] = {}
    for index, path in enumerate(find_pictures(os.fspath(data))):
        progress(path.name)
        for key, score in _picture_scores(path, index, enhancer, scale, channels):
            scores.setdefault(key, []).append(score)
    classes = tuple(DegradedClass(*key, tuple(pictures)) for key, pictures in scores.items())
    devices = " then ".join(enhancer.devices_for((1, 1)))
    return DegradedEvaluation(network.name or "model", Path(data).name, channels, classes, devices)


def _picture_scores(
    path: Path, index: int, enhancer: Enhancer, scale: int, channels: Channels
) -> Iterator[tuple[tuple[str, str], PictureScore]]:
    """The scores of one picture by (resampler, treatment)."""
    reference = _rgb(path, scale)
    height, width = reference.shape[:2]
    small_pictures = (
        {"none": reference}
        if scale == 1
        else {resampler: reduce(reference, scale, resampler) for resampler in RESAMPLERS}
    )
    for resampler, small in small_pictures.items():
        for treatment, change in TREATMENTS.items():
            if scale == 1 and change is _unchanged:
                continue
            degraded = change(small, np.random.default_rng(index))
            enhanced = as_depth(enhancer.enhance(Picture(degraded)).pixels, "uint8")
            plain = [
                degraded if scale == 1 else resize(degraded, height, width, resampler_of_baseline)
                for resampler_of_baseline in BASELINES
            ]
            results = (enhanced, *plain)
            values = [_psnr(np.asarray(result, np.uint8), reference, scale, channels) for result in results]
            yield (resampler, treatment), PictureScore(path.stem, *values)


def _rgb(path: Path, scale: int) -> ByteArray:
    """The picture as 8-bit RGB, without rows and columns beyond a multiple of the scale."""
    pixels = as_depth(read(path).pixels, "uint8")
    height, width = (side - side % scale for side in pixels.shape[:2])
    if min(height, width) <= 2 * scale:
        raise OnebranchError(
            f"'{path}' has {pixels.shape[1]}x{pixels.shape[0]} pixels; without a border of {scale} pixels,"
            f" at least {2 * scale + 1}x{2 * scale + 1} are needed"
        )
    rgb = np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
    return rgb[:height, :width].astype(np.uint8, copy=False)


def _psnr(picture: ByteArray, reference: ByteArray, border: int, channels: Channels) -> float:
    pair = [cropped(one, border) for one in (picture, reference)]
    return min(psnr(*(pair if channels == "rgb" else map(grey, pair))), MAX_PSNR)
