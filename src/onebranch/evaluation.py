"""Scores of a model on a folder of pictures, measured on 8-bit pictures as they would be written.

Low-resolution inputs are made by MATLAB-compatible bicubic resizing. Every score is accompanied by that of a
baseline on the same picture: bicubic resizing or, for denoising, the noisy picture. Needs no PyTorch.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.device import CPU_TEXT
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.images.samples import as_depth
from onebranch.metrics import Bytes, Scores, score
from onebranch.model.catalogue import load
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.gpu import CPU
from onebranch.spec.network import NetworkSpec

PixelFunction = Callable[[npt.NDArray[np.generic]], Bytes]
"""A model on pixels of any depth, its result rounded to 8 bits."""

PictureProgress = Callable[[str, float], None]
"""Called with the name of a picture that was scored, and the share of pictures that are done, 0 to 1."""

MAX_CONCURRENCY = 8
"""Pictures that are scored at the same time, at most: each takes memory."""


def no_progress(name: str, share: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Row:
    """The scores of one picture, and those of the baseline."""

    name: str
    scores: Scores
    baseline: Scores | None


@dataclass(frozen=True)
class Evaluation:
    """The scores of every picture, and how they were measured.

    method: how the scored pictures were made and what they were compared with. baseline: the same for the
    baseline. ran: runtime and precision, where known.
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
        """All fields as JSON values; an infinite PSNR (of equal pictures) becomes null."""
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
    precision: str = "auto",
    device: str = CPU,
    threads: int | None = None,
    progress: PictureProgress = no_progress,
) -> Evaluation:
    """Scores of a model (a shipped name, a file or a `Model`) on the 8-bit pictures in the folder `data`.

    Upscale: the picture, cropped to a multiple of the scale, is reduced bicubically, rounded to 8 bits and
    enlarged; `scale` pixels of border are cropped. Downscale: compared with the bicubic reduction; with
    `then`, a model that enlarges, the picture is reduced, rounded, enlarged again and compared with itself.
    Denoise: Gaussian noise of `sigma` grey levels in float, neither clipped nor rounded, seeded by the
    picture's index; no border is cropped. Several pictures are scored at the same time; threads: for all of
    them together, None for all cores.

    Raises OnebranchError for options that do not fit the model, folders without pictures and pictures that
    are not 8-bit and opaque.

    >>> from onebranch.model.catalogue import MODELS_FOLDER
    >>> evaluation = evaluate("photo-x2", MODELS_FOLDER.parent)  # the demo's photograph, 512x512
    >>> evaluation.mean.scores.psnr_y > evaluation.mean.baseline.psnr_y + 1
    True
    """
    models = [_loaded(m) for m in (model, then) if m is not None]
    _check(models[0].spec, sigma, models[1].spec if len(models) > 1 else None)
    pictures = len(find_pictures(os.fspath(data)))  # checked before the models are opened
    concurrency = min(pictures, MAX_CONCURRENCY, threads or cores())
    options = Options(
        runtime=runtime, precision=precision, device=device, threads=_share(threads, concurrency)
    )
    enhancers = [Enhancer(replace(options, model=m), concurrency) for m in models]
    runners = [_runner(enhancer) for enhancer in enhancers]
    result = measure(
        runners[0],
        models[0].spec,
        data,
        " then ".join(m.name or "model" for m in models),
        sigma=sigma,
        after=runners[1] if len(runners) > 1 else None,
        progress=progress,
        concurrency=concurrency,
    )
    return replace(result, ran=_runtimes_and_precisions(enhancers))


def _runtimes_and_precisions(enhancers: Sequence[Enhancer]) -> str:
    """What runs the networks, such as "engine, fp32"; a device other than the CPU by default is named too."""
    runtimes = dict.fromkeys(stage.runtime for enhancer in enhancers for stage in enhancer.stages_for((1, 1)))
    precisions = dict.fromkeys(name for enhancer in enhancers for name in enhancer.precisions_for((1, 1)))
    devices = dict.fromkeys(name for enhancer in enhancers for name in enhancer.devices_for((1, 1)))
    on = "" if [*devices] == [CPU_TEXT] else f", on {' then '.join(devices)}"
    return f"{' then '.join(runtimes)}, {' then '.join(precisions)}{on}"


def _loaded(model: str | os.PathLike[str] | Model) -> Model:
    return model if isinstance(model, Model) else load(model)


def _share(threads: int | None, concurrency: int) -> int | None:
    """Threads for each of the pictures that are scored at the same time."""
    return None if threads is None else max(1, threads // concurrency)


def measure(
    run: PixelFunction,
    spec: NetworkSpec,
    data: str | os.PathLike[str],
    name: str,
    *,
    sigma: float | None = None,
    after: PixelFunction | None = None,
    progress: PictureProgress = no_progress,
    concurrency: int = 1,
) -> Evaluation:
    """The scores, as in `evaluate`, of any function that computes what a network of that spec computes.

    after: the function that enlarges again. concurrency: pictures at a time; above 1, `run` and `after` are
    called from several threads.
    """
    _check(spec, sigma, None)
    protocol = _protocol(spec, run, sigma, after)
    paths = find_pictures(os.fspath(data))
    rows = []
    for row in _rows(paths, protocol, concurrency):
        rows.append(row)
        progress(row.name, len(rows) / len(paths))
    return Evaluation(name, Path(data).name, protocol.method, protocol.baseline, tuple(rows))


def _rows(paths: Sequence[Path], protocol: "_Protocol", concurrency: int) -> Iterator[Row]:
    """The scores of all pictures, in order."""
    if concurrency == 1:
        yield from (_row(path, index, protocol) for index, path in enumerate(paths))
        return
    pool = ThreadPoolExecutor(concurrency, "evaluation")
    try:
        yield from pool.map(_row, paths, range(len(paths)), [protocol] * len(paths))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Trial:
    """A picture to score, that of the baseline, the reference, and the border to crop in pixels."""

    picture: Bytes
    baseline: Bytes | None
    reference: Bytes
    border: int = 0


@dataclass(frozen=True)
class _Protocol:
    """How pictures are scored. trial: makes a trial from pixels and index; method, baseline: descriptions."""

    method: str
    baseline: str
    trial: Callable[[Bytes, int], _Trial]


def _protocol(
    spec: NetworkSpec, run: PixelFunction, sigma: float | None, after: PixelFunction | None
) -> _Protocol:
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


def _enlarged(pixels: Bytes, scale: int, run: PixelFunction) -> _Trial:
    whole = _multiple_of(pixels, scale)
    low = _bicubic(whole, 1 / scale)
    return _Trial(run(low), _bicubic(low, scale), whole, scale)


def _denoised(pixels: Bytes, index: int, sigma: float, run: PixelFunction) -> _Trial:
    noise = np.random.default_rng(index).normal(0, sigma / 255, pixels.shape)
    noisy = (pixels / 255 + noise).astype(np.float32)
    return _Trial(run(noisy), _eight_bits(noisy), pixels)


def _reduced(pixels: Bytes, scale: int, run: PixelFunction) -> _Trial:
    whole = _multiple_of(pixels, scale)
    return _Trial(run(whole), None, _bicubic(whole, 1 / scale))


def _restored(pixels: Bytes, scale: int, run: PixelFunction, after: PixelFunction) -> _Trial:
    whole = _multiple_of(pixels, scale)
    return _Trial(after(run(whole)), after(_bicubic(whole, 1 / scale)), whole, scale)


def _multiple_of(pixels: Bytes, scale: int) -> Bytes:
    """The pixels without the rows and columns beyond the last multiple of the scale."""
    height, width = (side - side % scale for side in pixels.shape[:2])
    return pixels[:height, :width]


def _bicubic(pixels: Bytes, scale: float) -> Bytes:
    """The picture resized as MATLAB's bicubic does it, rounded to 8 bits."""
    return _eight_bits(imresize(pixels / 255, scale).astype(np.float32))


def _eight_bits(samples: npt.NDArray[np.generic]) -> Bytes:
    return as_depth(samples, "uint8").astype(np.uint8, copy=False)


def _runner(enhancer: Enhancer) -> PixelFunction:
    """The enhancer as a function from pixels to 8-bit pixels."""
    return lambda pixels: _eight_bits(enhancer.enhance(Picture(pixels)).pixels)


def _check(spec: NetworkSpec, sigma: float | None, then: NetworkSpec | None) -> None:
    if spec.task == "denoise" and (sigma is None or not 0 <= sigma <= 255):
        problem = "is missing" if sigma is None else f"is {sigma:g}"
        raise OnebranchError(
            f"sigma {problem}; a denoising model is scored at a noise of 0 to 255 grey levels"
        )
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
