"""Scores of a model on realistic inputs: reduced by several resamplers, compressed or noisy.

Every score is compared with Pillow's Lanczos and bicubic resizing of the same input (for models that keep
the size, with the input itself). PSNR is on Y, as in `metrics`, of 8-bit pictures, with `scale` pixels
cropped at each border.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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

ByteArray = npt.NDArray[np.uint8]
"""A picture (H, W, 3)."""

RESAMPLERS: tuple[Resampler, ...] = ("bicubic", "box", "lanczos")
"""The filters that reduce the inputs."""

BASELINES: tuple[Resampler, ...] = ("lanczos", "bicubic")
"""Plain resizing that the model is compared with."""

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
"""Degradations after the reduction: JPEG with 4:2:0 subsampling, noise in grey levels, 8 bits."""


@dataclass(frozen=True)
class PictureScore:
    """PSNR on Y in dB of one picture: the model's, and those of plain resizing."""

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
    """One kind of inputs and the scores of all pictures."""

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
    """A model's scores on every kind of degraded inputs."""

    model: str
    data: str
    classes: tuple[DegradedClass, ...]

    @property
    def gain(self) -> float:
        """The mean gain over Lanczos of all classes, in dB."""
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
            "mean_gain": round(self.gain, 3),
            "worst_gain": round(self.worst_gain, 3),
            "classes": [
                {
                    "resampler": one.resampler,
                    "treatment": one.treatment,
                    "psnr_y": round(float(np.mean([p.model for p in one.pictures])), 3),
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
    runtime: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> DegradedEvaluation:
    """PSNR on Y of a model (a shipped name, a file or a `Model`) on degraded pictures of the folder `data`.

    Every picture is cropped to a multiple of the scale, reduced by each of `RESAMPLERS` and changed by each
    of `TREATMENTS`; noise is seeded by the picture's index. For models that keep the size, inputs are not
    reduced and the class "clean" is left out, since the input is the reference. progress: called with the
    name of each picture before it is scored. Raises OnebranchError for models that make pictures smaller and
    for folders without pictures.
    """
    network = model if isinstance(model, Model) else load(model)
    if network.spec.task == "downscale":
        raise OnebranchError(
            "degraded pictures are for models that enlarge or clean; this one's task is 'downscale'"
        )
    options = Options(model=network, runtime=runtime, precision=precision, threads=threads)
    enhancer = Enhancer(options)
    scale = network.spec.scale
    scores: dict[tuple[str, str], list[PictureScore]] = {}
    for index, path in enumerate(find_pictures(os.fspath(data))):
        progress(path.name)
        for key, score in _picture_scores(path, index, scale, enhancer):
            scores.setdefault(key, []).append(score)
    classes = tuple(DegradedClass(*key, tuple(pictures)) for key, pictures in scores.items())
    return DegradedEvaluation(network.name or "model", Path(data).name, classes)


def _picture_scores(
    path: Path, index: int, scale: int, enhancer: Enhancer
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
            values = [_psnr_y(result, reference, scale) for result in (enhanced, *plain)]
            yield (resampler, treatment), PictureScore(path.stem, *values)


def _rgb(path: Path, scale: int) -> ByteArray:
    """The picture as 8-bit RGB, without rows and columns beyond a multiple of the scale."""
    pixels = as_depth(read(path).pixels, "uint8")
    height, width = (side - side % scale for side in pixels.shape[:2])
    rgb = np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
    return rgb[:height, :width].astype(np.uint8, copy=False)


def _psnr_y(picture: npt.NDArray[np.generic], reference: ByteArray, border: int) -> float:
    y, reference_y = (grey(cropped(np.asarray(p, np.uint8), border)) for p in (picture, reference))
    return psnr(y, reference_y)
