"""Exporting a model for other programs; the file is run and compared before it is written."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError, nearest
from onebranch.exporting.compact import export_compact
from onebranch.exporting.comparison import Comparison, Exported, NotRun
from onebranch.exporting.mpv import export_mpv
from onebranch.exporting.onnx import ONNX_PRECISIONS, export_onnx
from onebranch.extras import require
from onebranch.model.file import Model, check_is_model
from onebranch.progress import StepProgress, never_falling, no_progress, part_of

if TYPE_CHECKING:
    import torch

EXPORT_FORMATS = {"onnx": tuple(ONNX_PRECISIONS), "compact": ("fp32",), "mpv": ("fp32",)}
"""Every export format with its precisions."""

COMPARED_FILE_SHARE = 0.97
"""Share of an export that is completed, about, when the file has been compared."""


def export(
    model: "Model | torch.nn.Module",
    path: str | os.PathLike[str],
    format: str = "onnx",
    overwrite: bool = False,
    precision: str = "fp32",
    report: StepProgress = no_progress,
    example_inputs: Any = None,
) -> tuple[Comparison | NotRun, ...]:
    """Write the model to `path` for other programs, after running the file and comparing its output.

    format: "onnx" (one input and one output (N, C, H, W) with dynamic N, H and W, values in [0, 1]) or
    "compact" (the safetensors layout of Real-ESRGAN's Compact) or "mpv" (a user shader of mpv and
    libplacebo). precision: "fp32"; for ONNX also "fp16", and "int8" for quantized models. report: called with
    the current step and the completed share, which ends at 1. Returns one comparison per run of the file; for
    a shader that could not be run, a `NotRun` with the reason.

    A PyTorch module, such as a merged one, is written as ONNX too; `example_inputs` is the tensor, or the
    tuple of tensors, with which it is called. Its sizes stay open where its code leaves them open.

    Raises OnebranchError if the format is unknown or cannot hold the network, if the output differs by more
    than its bound, or if the path exists (unless `overwrite` is true) or cannot be written; then no file is
    left behind.

    >>> import tempfile
    >>> from onebranch.model.catalogue import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     comparisons = export(load("photo-x4"), Path(folder) / "photo-x4.onnx")
    >>> comparisons[0].runtime, comparisons[0].error < 1e-5
    ('onnxruntime', True)
    """
    progress = never_falling(report)
    if _is_module(model):
        return _export_module(model, path, format, precision, example_inputs, overwrite, progress)
    check_is_model(model)
    assert isinstance(model, Model), "it was checked"
    check_format(format, precision)
    progress("writing the model as a file", 0)
    exported = _exported(model, format, precision, part_of(progress, 0, COMPARED_FILE_SHARE))
    progress("saving the file", COMPARED_FILE_SHARE)
    write_atomically(Path(path), exported.data, overwrite=overwrite)
    progress("the file is saved", 1)
    return exported.comparisons


def _is_module(model: object) -> "TypeGuard[torch.nn.Module]":
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _export_module(
    module: "torch.nn.Module",
    path: str | os.PathLike[str],
    format: str,
    precision: str,
    example_inputs: Any,
    overwrite: bool,
    progress: StepProgress,
) -> tuple[Comparison, ...]:
    if (format, precision) != ("onnx", "fp32"):
        raise OnebranchError("a PyTorch module is exported to ONNX in its own precision only")
    if example_inputs is None:
        raise OnebranchError(
            "a PyTorch module is exported with example inputs: export(module, path, example_inputs=inputs)"
        )
    require("onnx", "exporting to ONNX")
    from onebranch.exporting.torch_module import export_module

    return export_module(module, path, example_inputs, overwrite, progress)


def check_format(format: str, precision: str) -> None:
    """Raise OnebranchError, with the nearest one, for an unknown format or an unsupported precision."""
    if format not in EXPORT_FORMATS:
        raise OnebranchError(f"unknown format '{format}'; {nearest(format, EXPORT_FORMATS)}")
    if precision not in EXPORT_FORMATS[format]:
        raise OnebranchError(
            f"format '{format}' has no precision '{precision}'; {nearest(precision, EXPORT_FORMATS[format])}"
        )


def _exported(model: Model, format: str, precision: str, progress: StepProgress) -> Exported:
    if format == "mpv":
        return export_mpv(model, progress)
    if format == "compact":
        return export_compact(model, progress)
    return export_onnx(model, precision, progress)
