"""Scores of a model on a folder of pictures, taken from 8-bit pictures as they would be written.

Low-resolution inputs come from our own MATLAB-compatible bicubic. Beside every score stands what plain
bicubic (or, for denoising, doing nothing) gives on the same picture. Needs no PyTorch.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.images.samples import as_depth
from onebranch.metrics import Scores, score
from onebranch.model.catalogue import load
from onebranch.model.file import Model
from onebranch.spec.network import NetworkSpec

Bytes = npt.NDArray[np.uint8]
"""A picture (H, W, 1 or 3)."""

Run = Callable[[npt.NDArray[np.generic]], Bytes]
"""A model on pixels of any depth, its result rounded to 8 bits."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One picture's scores, and those of the baseline."""

    name: str
    scores: Scores
    baseline: Scores | None


@dataclass(frozen=True)
class Evaluation:
    """What was measured and every picture's scores.

    method: what the model's pictures are, and compared with what. baseline: the same for the baseline. ran:
    runtime and precision, where known.
    """

    model: str
    data: str
    method: str
    baseline: str
    rows: tuple[Row, ...]
    ran: str = ""

    @property
    def mean(self) -> Row:
        """The mean of every score over the pictures."""
        baselines = [row.baseline for row in self.rows if row.baseline is not None]
        return Row("mean", _mean([row.scores for row in self.rows]), _mean(baselines) if baselines else None)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; the PSNR of equal pictures, infinite, as null."""
        rows = [_json_of(row) for row in self.rows]
        facts = {"model": self.model, "data": self.data, "method": self.method, "baseline": self.baseline}
        facts |= {"ran": self.ran} if self.ran else {}
        return {**facts, "mean": _json_of(self.mean), "pictures": rows}


def evaluate(
    model: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str],
    *,
    sigma: float | None = None,
    then: str | os.PathLike[str] | Model | None = None,
    runtime: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    shown: Progress = lambda name: None,
) -> Evaluation:
    """Scores of a model (a shipped name, a file or a `Model`) on the 8-bit pictures in the folder `data`.

    Upscale: the picture, cropped to a multiple of the scale, is reduced bicubically, rounded to 8 bits and
    enlarged; `scale` pixels of border are cropped. Downscale: compared with the bicubic reduction; with
    `then`, a model that enlarges, the picture is reduced, rounded, enlarged again and compared with itself.
    Denoise: Gaussian noise of `sigma` grey levels in float, neither clipped nor rounded, seeded by the
    picture's index; no border is cropped. shown: called with each picture's name as its turn comes.

    Raises OnebranchError for options that do not fit the model, folders without pictures and pictures that
    are not 8-bit and opaque.
    """
    found = model if isinstance(model, Model) else load(model)
    second = then if then is None or isinstance(then, Model) else load(then)
    _check(found.spec, sigma, second.spec if second else None)
    find_pictures(os.fspath(data))  # before the models are opened
    enhancers = [
        Enhancer(Options(model=m, runtime=runtime, precision=precision, threads=threads))
        for m in (found, second)
        if m
    ]
    run, after = _runner(enhancers[0]), _runner(enhancers[1]) if second else None
    names = [m.name or "model" for m in (found, second) if m]
    result = measure(run, found.spec, data, " then ".join(names), sigma=sigma, after=after, shown=shown)
    used = dict.fromkeys(stage.runtime for enhancer in enhancers for stage in enhancer.stages_for((1, 1)))
    return replace(result, ran=f"{' then '.join(used)}, {precision}")


def measure(
    run: Run,
    spec: NetworkSpec,
    data: str | os.PathLike[str],
    name: str,
    *,
    sigma: float | None = None,
    after: Run | None = None,
    shown: Progress = lambda name: None,
) -> Evaluation:
    """As `evaluate`, of any function that does what a network of that spec does. after: what enlarges."""
    _check(spec, sigma, None)
    protocol = _protocol(spec, run, sigma, after)
    rows = []
    for index, path in enumerate(find_pictures(os.fspath(data))):
        shown(path.name)
        rows.append(_row(path, index, protocol))
    return Evaluation(name, Path(data).name, protocol.method, protocol.baseline, tuple(rows))


@dataclass(frozen=True)
class _Trial:
    """A picture to score, the baseline's if there is one, what they are compared with, the border to crop."""

    picture: Bytes
    baseline: Bytes | None
    reference: Bytes
    border: int = 0


@dataclass(frozen=True)
class _Protocol:
    """How a picture (its pixels and its index) becomes a trial, and what that is called."""

    method: str
    baseline: str
    trial: Callable[[Bytes, int], _Trial]


def _protocol(spec: NetworkSpec, run: Run, sigma: float | None, after: Run | None) -> _Protocol:
    scale = spec.scale
    if spec.task == "upscale":
        words = f"x{scale}, from bicubic 1/{scale}, {scale} pixels of border cropped"
        return _Protocol(words, "bicubic", lambda pixels, _: _enlarged(pixels, scale, run))
    if spec.task == "denoise":
        level = sigma or 0.0
        words = f"Gaussian noise of sigma {level:g}, no border cropped"
        return _Protocol(words, "noisy", lambda pixels, index: _denoised(pixels, index, level, run))
    if after is None:
        words = f"1/{scale}, against bicubic 1/{scale}, no border cropped"
        return _Protocol(words, "none", lambda pixels, _: _reduced(pixels, scale, run))
    words = f"1/{scale}, rounded, x{scale}, against the picture, {scale} pixels of border cropped"
    name = f"bicubic 1/{scale}, then the same"
    return _Protocol(words, name, lambda pixels, _: _restored(pixels, scale, run, after))


def _enlarged(pixels: Bytes, scale: int, run: Run) -> _Trial:
    whole = _multiple_of(pixels, scale)
    low = _bicubic(whole, 1 / scale)
    return _Trial(run(low), _bicubic(low, scale), whole, scale)


def _denoised(pixels: Bytes, index: int, sigma: float, run: Run) -> _Trial:
    noise = np.random.default_rng(index).normal(0, sigma / 255, pixels.shape)
    noisy = (pixels / 255 + noise).astype(np.float32)
    return _Trial(run(noisy), _eight_bits(noisy), pixels)


def _reduced(pixels: Bytes, scale: int, run: Run) -> _Trial:
    whole = _multiple_of(pixels, scale)
    return _Trial(run(whole), None, _bicubic(whole, 1 / scale))


def _restored(pixels: Bytes, scale: int, run: Run, after: Run) -> _Trial:
    whole = _multiple_of(pixels, scale)
    return _Trial(after(run(whole)), after(_bicubic(whole, 1 / scale)), whole, scale)


def _multiple_of(pixels: Bytes, scale: int) -> Bytes:
    """The pixels without the rows and columns beyond the last multiple of the scale."""
    height, width = (side - side % scale for side in pixels.shape[:2])
    return pixels[:height, :width]


def _bicubic(pixels: Bytes, scale: float) -> Bytes:
    """MATLAB's bicubic, rounded to 8 bits."""
    return _eight_bits(imresize(pixels / 255, scale).astype(np.float32))


def _eight_bits(samples: npt.NDArray[np.generic]) -> Bytes:
    return as_depth(samples, "uint8").astype(np.uint8, copy=False)


def _runner(enhancer: Enhancer) -> Run:
    """One model as a function from pixels to 8-bit pixels, by the path that every picture takes."""
    return lambda pixels: _eight_bits(enhancer.enhance(Picture(pixels)).pixels)


def _check(spec: NetworkSpec, sigma: float | None, then: NetworkSpec | None) -> None:
    if spec.task == "denoise" and (sigma is None or not 0 <= sigma <= 255):
        said = "is missing" if sigma is None else f"is {sigma:g}"
        raise OnebranchError(f"sigma {said}; a denoising model is scored at a noise of 0 to 255 grey levels")
    if spec.task != "denoise" and sigma is not None:
        raise OnebranchError(f"sigma is for denoising models; this one's task is '{spec.task}'")
    if then is None:
        return
    if spec.task != "downscale":
        raise OnebranchError(f"'then' follows a model that reduces; the first one's task is '{spec.task}'")
    if (then.task, then.scale) != ("upscale", spec.scale):
        raise OnebranchError(
            f"'then' must enlarge by {spec.scale}, by which the first model reduces;"
            f" its task is '{then.task}' and its scale {then.scale}"
        )


def _row(path: Path, index: int, protocol: _Protocol) -> Row:
    picture = read(path)
    if picture.pixels.dtype != np.uint8 or not picture.opaque:
        what = "transparent" if not picture.opaque else f"of type {picture.pixels.dtype}"
        raise OnebranchError(f"'{path}' is {what}; scores are taken from opaque 8-bit pictures")
    try:
        trial = protocol.trial(picture.pixels.astype(np.uint8, copy=False), index)
        pictures = (trial.picture, trial.baseline)
        ours, other = (None if p is None else score(p, trial.reference, trial.border) for p in pictures)
    except OnebranchError as error:
        raise OnebranchError(f"'{path}': {error}") from None
    assert ours is not None, "a trial has a picture"
    return Row(path.stem, ours, other)


def _mean(scores: Sequence[Scores]) -> Scores:
    names = [field.name for field in fields(Scores)]
    return Scores(**{name: sum(getattr(s, name) for s in scores) / len(scores) for name in names})


def _json_of(row: Row) -> dict[str, Any]:
    baseline = None if row.baseline is None else _numbers(row.baseline)
    return {"name": row.name, **_numbers(row.scores), "baseline": baseline}


def _numbers(scores: Scores) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(scores).items()}
