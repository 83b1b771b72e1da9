"""Writing a model for other programs, after it was run and compared."""

import os
from pathlib import Path

from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError, nearest
from onebranch.exporting.compact import export_compact
from onebranch.exporting.comparison import Comparison, Exported
from onebranch.exporting.onnx import FORMS, export_onnx
from onebranch.model.file import Model

FORMATS = {"onnx": tuple(FORMS), "compact": ("fp32",)}
"""Every format that a model is written in, and its precisions."""


def export(
    model: Model,
    path: str | os.PathLike[str],
    format: str = "onnx",
    overwrite: bool = False,
    precision: str = "fp32",
) -> tuple[Comparison, ...]:
    """Write the model to `path` in a format, "onnx" or "compact", once what it gives there was compared.

    precision: "fp32"; for ONNX also "fp16", and for quantized models "int8". Returns what was run and how far
    it was off. Raises OnebranchError where the format is unknown or cannot hold the network, where the file
    is off by more than its bound, where the path exists (unless `overwrite`) or cannot be written; then
    nothing is left behind.
    """
    check_format(format, precision)
    exported = _exported(model, format, precision)
    write_atomically(Path(path), exported.data, overwrite=overwrite)
    return exported.comparisons


def check_format(format: str, precision: str) -> None:
    """Raise OnebranchError, with the nearest one, for an unknown format or a precision that it lacks."""
    if format not in FORMATS:
        raise OnebranchError(f"unknown format '{format}'; {nearest(format, FORMATS)}")
    if precision not in FORMATS[format]:
        raise OnebranchError(
            f"format '{format}' has no precision '{precision}'; {nearest(precision, FORMATS[format])}"
        )


def _exported(model: Model, format: str, precision: str) -> Exported:
    return export_compact(model) if format == "compact" else export_onnx(model, precision)
