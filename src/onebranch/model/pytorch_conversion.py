"""PyTorch weights converted to ONNX: compared with the module, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types of its own
from onnx import helper

from onebranch.errors import OnebranchError
from onebranch.user_cache import read_cached, store

if TYPE_CHECKING:
    from onebranch.model.pytorch_file import PytorchNetwork

ARCHITECTURE = "onebranch_architecture"
"""Metadata key of a converted model: the name of its architecture in spandrel."""

SOURCE_DIGEST = "onebranch_source_sha256"
"""Metadata key of a converted model: the SHA-256 of the file that it was converted from."""

CONVERSION_TOLERANCE = 1e-4
"""Largest difference between module and ONNX in float32, relative to the largest number in an output."""

COMPARED_SIDES = ((24, 40), (33, 29))
"""Heights and widths in pixels at which module and ONNX are compared; each becomes the next valid size."""


def converted(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The network in a file of PyTorch or safetensors weights as ONNX, with one picture in and one out.

    It is converted once, and then read from the user's cache folder without PyTorch. The cached file depends
    on the content of the file and on the versions of onebranch and spandrel. Raises OnebranchError, one line
    that names the file, if it cannot be read or converted.
    """
    file = Path(path)
    digest = _digest(file)
    name = f"{digest}-{version('onebranch')}-{version('spandrel')}.onnx"
    if (model := _parsed(read_cached(name))) is not None:
        return model
    from onebranch.model.pytorch_file import read_pytorch

    model = convert(read_pytorch(file), digest)
    store(name, model.SerializeToString(deterministic=True))
    return model


def convert(network: PytorchNetwork, digest: str) -> onnx.ModelProto:
    """The network as ONNX, with open sizes where its code leaves them open, compared with the module.

    digest: of the file that holds its weights. Raises OnebranchError if it cannot be converted, or differs.
    """
    from onebranch.graph.torch.onnx_export import onnx_of_module
    from onebranch.model.pytorch_file import EXAMPLE_SIDES, without_weight_updates

    example = network.picture(*EXAMPLE_SIDES)
    expected = _outputs(network)
    without_weight_updates(network)
    try:
        model = onnx_of_module(network.module, (example,), ("input", "output"))
    except OnebranchError as error:
        raise OnebranchError(f"{network.path} ({network.architecture}): {error}") from None
    helper.set_model_props(model, {ARCHITECTURE: network.architecture, SOURCE_DIGEST: digest})
    difference_from_module(network, model, expected)
    return model


def difference_from_module(
    network: PytorchNetwork, model: onnx.ModelProto, expected: list[np.ndarray] | None = None
) -> float:
    """The largest difference of a model's outputs from those of the module, relative to the largest number.

    expected: the module's outputs, if they are known. Raises OnebranchError if the difference exceeds
    `CONVERSION_TOLERANCE`, or if the model does not run on a size on which the module runs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    differences = []
    pictures = [network.picture(*sides).numpy() for sides in COMPARED_SIDES]
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (name,) = (value.name for value in session.get_inputs())
        outputs = [session.run(None, {name: picture})[0] for picture in pictures]
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OnebranchError(
            f"{network.path} ({network.architecture}) cannot be converted to ONNX for every size: {reason}"
        ) from None
    for output, wanted in zip(outputs, expected or _outputs(network), strict=True):
        same_shape = output.shape == wanted.shape
        largest = float(np.abs(wanted).max()) or 1.0
        differences.append(float(np.abs(output - wanted).max()) / largest if same_shape else float("inf"))
    worst = float(np.max(differences))  # of NumPy, which returns NaN where there is one
    if not worst <= CONVERSION_TOLERANCE:
        raise OnebranchError(
            f"{network.path} ({network.architecture}): its ONNX form differs from the PyTorch module by"
            f" {worst:.1e} of the largest output ({CONVERSION_TOLERANCE:.0e} is allowed)"
        )
    return worst


def _outputs(network: PytorchNetwork) -> list[np.ndarray]:
    """The module's outputs for the pictures that are compared."""
    import torch

    with torch.no_grad():
        return [network.module(network.picture(*sides)).numpy() for sides in COMPARED_SIDES]


def _parsed(content: bytes | None) -> onnx.ModelProto | None:
    """The cached model; None if there is none, or if it cannot be parsed."""
    if content is None:
        return None
    try:
        return onnx.load_from_string(content)
    except DecodeError:
        return None


def _digest(file: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        reason = "it is a folder" if file.is_dir() else error.strerror or error
        raise OnebranchError(f"cannot read {file}: {reason}") from None
