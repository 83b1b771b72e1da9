"""The loss of quality in 8 bits: the scores of the integer and of the float network by one protocol."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.stage import ArrayStage
from onebranch.errors import counted_noun
from onebranch.evaluation import Evaluation, PictureProgress, evaluate, measure, no_progress
from onebranch.graph.analysis.halo import halo
from onebranch.images.picture import Picture
from onebranch.images.samples import Samples, as_depth
from onebranch.lowering.floats import lower
from onebranch.metrics import Bytes
from onebranch.model.file import Model
from onebranch.progress import StepProgress, part_of
from onebranch.quantization.calibration import Crop
from onebranch.runtime import engine_library, engine_network
from onebranch.runtime.protocol import Runtime

MAX_PSNR_DB = 100.0
"""PSNR in decibels that is reported where there is no error."""


@dataclass(frozen=True)
class Loss:
    """Mean PSNR in decibels of the float and of the integer network. data: the pictures and the protocol."""

    data: str
    floats: float
    integers: float
    pictures: int

    @property
    def decibels(self) -> float:
        """The loss in decibels; negative where the integer network happens to be better."""
        return self.floats - self.integers

    def as_json(self) -> dict[str, Any]:
        """The record for the model file, rounded to 4 decimal places."""
        return {
            "data": self.data,
            "pictures": self.pictures,
            "psnr_float": round(self.floats, 4),
            "psnr_int8": round(self.integers, 4),
            "loss_db": round(self.decibels, 4),
        }

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.data}, {counted_noun(self.pictures, 'picture')}: {self.floats:.3f} dB in floats,"
            f" {self.integers:.3f} dB in 8 bits, a loss of {self.decibels:.3f} dB"
        )


class IntegerRuntime:
    """The slow definition as a runtime; it needs no native engine."""

    name = "reference"

    def __init__(self, model: Model) -> None:
        self._model = model
        self.halo = halo(lower(model.spec, model.weights))

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        model = self._model
        assert model.quantization is not None, "the caller has quantized it"
        return run_integer_network(model.spec, model.weights, model.quantization, pictures)


def integer_runtime(model: Model, threads: int | None = None) -> Runtime:
    """The engine in 8 bits where it is installed, else the definition; the results are equal bit for bit."""
    if engine_library.available() or engine_network.reason_against(model, "int8"):
        return IntegerRuntime(model)
    from onebranch.runtime.engine import EngineRuntime

    return EngineRuntime(model, threads, "int8")


def loss_on_folder(
    model: Model,
    quantized: Model,
    data: str | os.PathLike[str],
    *,
    sigma: float | None = None,
    then: str | os.PathLike[str] | Model | None = None,
    progress: PictureProgress = no_progress,
) -> Loss:
    """The loss on the pictures in a folder, by `evaluation.evaluate`: PSNR on luma, or on RGB for rgb models.

    then: a model that enlarges a downscaling network's result, in floats, before it is compared. progress:
    called with the name of each picture, and the share of both measurements.
    """
    first, second = part_of(progress, 0, 0.5), part_of(progress, 0.5, 1)
    floats = evaluate(model, data, precision="fp32", sigma=sigma, then=then, progress=first)
    integers = integer_scores(quantized, data, sigma=sigma, then=then, progress=second)
    score = "psnr_y" if model.colour == "y" else "psnr_rgb"
    means = [getattr(evaluation.mean.scores, score) for evaluation in (floats, integers)]
    return Loss(f"{floats.data}: {floats.method}", means[0], means[1], len(floats.rows))


def integer_scores(
    quantized: Model,
    data: str | os.PathLike[str],
    *,
    sigma: float | None = None,
    then: str | os.PathLike[str] | Model | None = None,
    progress: PictureProgress = no_progress,
) -> Evaluation:
    """`evaluation.evaluate` of a quantized model in 8 bits; `then` runs in floats."""
    stage = ArrayStage(quantized, integer_runtime(quantized))
    after = None if then is None else Enhancer(Options(model=then))

    def run(pixels: Samples) -> Bytes:
        function = stage.pixels(pixels.shape[2], pixels.dtype.name, "uint8")
        return function(pixels).astype(np.uint8, copy=False)

    def enlarge(pixels: Samples) -> Bytes:
        assert after is not None
        return after.enhance(Picture(pixels)).pixels.astype(np.uint8, copy=False)

    last = None if after is None else enlarge
    return measure(run, quantized.spec, data, quantized.name, sigma=sigma, after=last, progress=progress)


def loss_on_crops(
    model: Model, quantized: Model, crops: Sequence[Crop], progress: StepProgress = no_progress
) -> Loss:
    """The loss on crops: PSNR in the network's own colours, `scale` pixels of border cropped for upscale.

    progress: called after each crop with the share of the crops.
    """
    border = model.spec.scale if model.spec.task == "upscale" else 0
    scores = []
    for number, crop in enumerate(crops, 1):
        floating = run_network(model.spec, model.weights, crop.given[None])[0]
        integer = IntegerRuntime(quantized).run(crop.given[None])[0]
        scores.append([_psnr(output, crop.wanted, border) for output in (floating, integer)])
        progress(f"measuring the loss, picture {number} of {len(crops)}", number / len(crops))
    floats, integers = np.array(scores).mean(0).tolist()
    return Loss("crops of pictures that were not used for calibration", floats, integers, len(crops))


def _psnr(output: np.ndarray, wanted: np.ndarray, border: int) -> float:
    """PSNR in decibels of the output as it would be written in 8 bits."""
    inner = slice(border, -border) if border else slice(None)
    written = as_depth(output, "uint8").astype(np.float64) / 255
    difference = (written - wanted)[..., inner, inner]
    error = float(np.square(difference).mean())
    return MAX_PSNR_DB if error == 0 else min(MAX_PSNR_DB, -10 * float(np.log10(error)))


def with_loss(quantized: Model, loss: Loss, calibrated_on: str) -> Model:
    """The model with the loss and the name of the calibration folder in its record."""
    assert quantized.quantization is not None, "the caller has quantized it"
    record = quantized.quantization
    calibration = {**record.get("calibration", {}), "data": calibrated_on}
    return replace(quantized, quantization={**record, "calibration": calibration, "loss": loss.as_json()})
