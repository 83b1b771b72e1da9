"""Quantization of a model with the pictures of a folder: calibration, rounding and the measured loss."""

import os
from collections.abc import Callable
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.model.catalogue import load
from onebranch.model.file import Model
from onebranch.quantization import layers
from onebranch.quantization.calibration import DEFAULT_PICTURES, held_out, read_crops
from onebranch.quantization.loss import Loss, loss_on_crops, loss_on_folder, with_loss


def quantize(
    model: Model | str | os.PathLike[str],
    calibrate: str | os.PathLike[str],
    *,
    pictures: int = DEFAULT_PICTURES,
    data: str | os.PathLike[str] | None = None,
    sigma: float | None = None,
    then: str | os.PathLike[str] | Model | None = None,
    report: Callable[[str, float | None], None] = lambda step, share: None,
) -> tuple[Model, Loss]:
    """Quantize a merged model to 8-bit integers; returns the new model and its loss against floats.

    model: a `Model`, the name of a shipped model or a file. calibrate: a folder of pictures, of which at most
    `pictures` are used. data: a folder on which the loss is measured; by default a quarter of the calibration
    pictures is held out for that. sigma: noise in grey levels for that measurement, for denoising models.
    then: a model that enlarges the result of a downscaling model before it is compared. report: called with
    the current step and the completed share (None: unknown). The new model runs in integers in precision
    "int8", and in floats otherwise.

    Raises OnebranchError if the network cannot run in integers, if a folder holds no readable pictures, if
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
    original = model if isinstance(model, Model) else load(model)
    report("reading the calibration pictures", None)
    crops = read_crops(calibrate, original.spec, pictures)
    calibration, rest = held_out(crops) if data is None else (crops, [])
    quantized = layers.quantize(original, calibration, lambda step: report(step, None))
    report("measuring the loss", None)
    if data is None:
        loss = loss_on_crops(original, quantized, rest)
    else:
        loss = loss_on_folder(original, quantized, data, sigma=sigma, then=then, progress=report)
    return with_loss(quantized, loss, Path(calibrate).resolve().name), loss
