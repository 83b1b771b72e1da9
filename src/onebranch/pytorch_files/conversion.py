"""PyTorch weights converted to ONNX: compared with the module, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types of its own
from onnx import helper

from onebranch.errors import OnebranchError
from onebranch.user_cache import installed_version, read_cached, store

if TYPE_CHECKING:
    import torch

    from onebranch.pytorch_files.reading import PytorchNetwork

ARCHITECTURE = "onebranch_architecture"
"""Metadata key of a converted model: the name of its architecture in spandrel."""

SOURCE_DIGEST = "onebranch_source_sha256"
"""Metadata key of a converted model: the SHA-256 of the file that it was converted from."""

CONVERSION_TOLERANCE = 1e-4
"""Largest difference between module and ONNX in float32, relative to the largest number in an output."""

MAX_ROUNDINGS, MAX_TOLERANCE = 16, 1e-2
"""A network that amplifies rounding errors may differ by this many times the change that one float32 rounding
of its input causes, at most by `MAX_TOLERANCE`; the same rule as that of merges."""

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
    name = cache_name(digest)
    if (model := _parsed(read_cached(name))) is not None:
        return model
    from onebranch.pytorch_files.reading import read_pytorch

    model = convert(read_pytorch(file), digest)
    store(name, model.SerializeToString(deterministic=True))
    return model


def cache_name(digest: str) -> str:
    """The name of the cached conversion of the file with this digest."""
    return f"{digest}-{installed_version('onebranch')}-{installed_version('spandrel')}.onnx"


def convert(network: PytorchNetwork, digest: str) -> onnx.ModelProto:
    """The network as ONNX, with open sizes where its code leaves them open, compared with the module.

    digest: of the file that holds its weights. Raises OnebranchError if it cannot be converted, or differs.
    """
    from onebranch.graph.torch.onnx_export import onnx_of_module
    from onebranch.pytorch_files.reading import EXAMPLE_SIDES, without_weight_updates

    example = network.picture(*EXAMPLE_SIDES)
    expected = module_outputs(network)
    without_weight_updates(network)
    try:
        model = onnx_of_module(network.module, (example,), ("input", "output"))
    except OnebranchError as error:
        raise OnebranchError(f"{network.path} ({network.architecture}): {error}") from None
    helper.set_model_props(model, {ARCHITECTURE: network.architecture, SOURCE_DIGEST: digest})
    difference_from_module(network, model, expected)
    return model


@dataclass(frozen=True)
class ModuleOutputs:
    """What a module computes for the pictures that are compared, and the difference that is allowed."""

    outputs: list[np.ndarray]
    tolerance: float


def module_outputs(network: PytorchNetwork) -> ModuleOutputs:
    """The module's outputs, and the tolerance that its own amplification of rounding errors asks for."""
    import torch

    pictures = [network.picture(*sides) for sides in COMPARED_SIDES]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = [network.module(picture).numpy() for picture in pictures]
        rounded = [
            picture * (1 + float(np.finfo(np.float32).eps) * _signs(picture, generator))
            for picture in pictures
        ]
        changed = max(
            _difference(network.module(picture).numpy(), output)
            for picture, output in zip(rounded, outputs, strict=True)
        )
    amplified = min(MAX_ROUNDINGS * changed, MAX_TOLERANCE)
    return ModuleOutputs(outputs, max(CONVERSION_TOLERANCE, amplified))


def _signs(picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random numbers that are 1 or -1."""
    import torch

    return 2 * torch.randint(0, 2, picture.shape, generator=generator) - 1


def _difference(output: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected number; infinite for another shape or NaN."""
    if output.shape != expected.shape:
        return float("inf")
    difference = float(np.abs(output - expected).max()) / (float(np.abs(expected).max()) or 1.0)
    return difference if difference == difference else float("inf")


def difference_from_module(
    network: PytorchNetwork, model: onnx.ModelProto, expected: ModuleOutputs | None = None
) -> float:
    """The largest difference of a model's outputs from those of the module, relative to the largest number.

    expected: the module's outputs, if they are known. Raises OnebranchError if the difference exceeds the
    tolerance, or if the model does not run on a size on which the module runs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
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
    wanted = expected or module_outputs(network)
    worst = max(map(_difference, outputs, wanted.outputs))
    if worst > wanted.tolerance:
        raise OnebranchError(
            f"{network.path} ({network.architecture}): its ONNX form differs from the PyTorch module by"
            f" {worst:.1e} of the largest output ({wanted.tolerance:.0e} is allowed)"
        )
    return worst


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
