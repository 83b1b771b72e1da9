"""Quantization of a model with the pictures of a folder: calibration, rounding and the measured loss."""

import os
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.model.file import Model
from onebranch.progress import StepProgress, never_falling, no_progress, part_of
from onebranch.quantization import layers
from onebranch.quantization.calibration import DEFAULT_PICTURES, crops_for, held_out
from onebranch.quantization.loss import Loss, loss_on_crops, loss_on_folder, with_loss
from onebranch.quantization.third_party import as_model

READ_SHARE, QUANTIZED_SHARE = 0.05, 0.9
"""Shares of the work that are completed, about, when the pictures are read and when the network is quantized;
measuring the loss takes the rest."""


def quantize(
    model: Model | str | os.PathLike[str],
    calibrate: str | os.PathLike[str],
    *,
    pictures: int = DEFAULT_PICTURES,
    scales: Model | str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    sigma: float | None = None,
    then: str | os.PathLike[str] | Model | None = None,
    report: StepProgress = no_progress,
) -> tuple[Model, Loss]:
    """Quantize a merged model to 8-bit integers; returns the new model and its loss against floats.

    model: a `Model`, the name of a shipped model, a file, or a third-party chain of convolutions such as
    Compact (an ONNX file, or PyTorch weights; see `quantization.third_party.as_model`). calibrate: a folder
    of pictures, of which at most `pictures` are used; two thirds of them are degraded for a model whose
    recipe has degradations. scales: a quantized model whose scales and zero points are kept, for a model
    that was trained with them (`training.quantization_aware`). data: a folder on which the loss is measured;
    by default a quarter of the calibration pictures is held out for that. sigma: noise in grey levels for
    that measurement, for denoising models. then: a model that enlarges the result of a downscaling model
    before it is compared. report: called with the current step and the completed share, which ends at 1. The
    new model runs in integers in precision "int8", and in floats otherwise.

    Raises OnebranchError if the network cannot run in integers, if a folder has no readable pictures, if
    `data` and `calibrate` are the same folder, or if `sigma` or `then` is given without `data`.

    >>> import tempfile
    >>> import numpy as np
    >>> from onebranch import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for n, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)):
    ...         write_picture(Picture(pixels), Path(folder) / f"{n}.png")
    ...     quantized, loss = quantize("photo-x2", folder)
    >>> quantized.quantization["version"], abs(loss.decibels) < 1
    (1, True)
    """
    if data is None and (sigma is not None or then is not None):
        raise OnebranchError("sigma and then belong to the measurement on `data`; give that as well")
    if data is not None and Path(data).resolve() == Path(calibrate).resolve():
        raise OnebranchError(
            f"data and calibrate are both '{calibrate}'; the loss is measured on other pictures"
        )
    original = as_model(model)
    kept = None if scales is None else as_model(scales)
    progress = never_falling(report)
    crops = crops_for(original, calibrate, pictures, part_of(progress, 0, READ_SHARE))
    calibration, rest = held_out(crops) if data is None else (crops, [])
    if kept is None:
        quantized = layers.quantize(original, calibration, part_of(progress, READ_SHARE, QUANTIZED_SHARE))
    else:
        quantized = layers.quantize_with_scales(original, kept)
    measuring = part_of(progress, QUANTIZED_SHARE, 1)
    if data is None:
        loss = loss_on_crops(original, quantized, rest, measuring)
    else:
        loss = loss_on_folder(original, quantized, data, sigma=sigma, then=then, progress=measuring)
    progress("the loss is measured", 1)
    return with_loss(quantized, loss, Path(calibrate).resolve().name), loss
