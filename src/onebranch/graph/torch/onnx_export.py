"""A PyTorch module converted to ONNX by PyTorch's own exporter."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnx
import torch

from onebranch.errors import OnebranchError
from onebranch.graph.torch.tracing import exported_program


def onnx_of_module(
    module: torch.nn.Module, examples: tuple[Any, ...], names: tuple[str, str] | None = None
) -> onnx.ModelProto:
    """The module as ONNX, with the sizes open that its code leaves open.

    names: of the only input and the only output; None keeps the exporter's names. Raises OnebranchError if
    onnxscript is not installed, or the module cannot be traced or exported.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise OnebranchError(
            "exporting a PyTorch module needs onnxscript; install with: pip install onnxscript"
        )
    options: dict[str, Any] = {"input_names": [names[0]], "output_names": [names[1]]} if names else {}
    with _quiet():
        try:
            program = torch.onnx.export(
                exported_program(module, examples), dynamo=True, verbose=False, **options
            )
        except OnebranchError:
            raise
        except Exception as error:  # PyTorch raises many kinds
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise OnebranchError(f"PyTorch cannot export the module to ONNX: {reason}") from None
    assert program is not None, "the exporter returns a program unless it writes a file"
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without the exporter's messages: progress, deprecations, and that torchvision is absent."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
