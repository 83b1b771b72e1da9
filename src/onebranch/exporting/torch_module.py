"""A PyTorch module, such as a merged one, as an ONNX file: checked and compared before it is written."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.utils import _pytree

from onebranch.exporting.comparison import Comparison
from onebranch.graph.onnx.file import write
from onebranch.graph.torch.onnx_export import onnx_of_module
from onebranch.progress import StepProgress

MODULE_TOLERANCE = 1e-4
"""Largest difference between module and file in float32, relative to the largest number in an output."""

CONVERTED_SHARE, COMPARED_SHARE = 0.8, 0.97
"""Shares of an export that are completed, about, when the module is converted, and when it is compared."""

ADDED_PIXELS = (8, 24)
"""Added to height and width for the second comparison, if the file leaves them open."""


def export_module(
    module: torch.nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Any,
    overwrite: bool,
    progress: StepProgress,
) -> tuple[Comparison, ...]:
    """Write the module as an ONNX file, whose open sizes are those that the module leaves open.

    progress: called with the current step and the completed share, which ends at 1. Raises OnebranchError if
    the module cannot be exported, if the file breaks ONNX's rules, or if its output
    in ONNX Runtime differs from the module's; then nothing is written.
    """
    examples = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    progress("exporting the module", 0)
    model = onnx_of_module(module, examples)
    progress("running and comparing the file", CONVERTED_SHARE)
    onnx.checker.check_model(model, full_check=True)
    comparisons = tuple(
        _comparison(module, model, values).checked("ONNX") for values in _all_examples(model, examples)
    )
    progress("saving the file", COMPARED_SHARE)
    write(model, Path(path), overwrite)
    progress("the file is saved", 1)
    return comparisons


def _all_examples(model: onnx.ModelProto, examples: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The example inputs, and larger ones if every height and width of the file is open."""
    yield examples
    sides = [side for value in model.graph.input for side in value.type.tensor_type.shape.dim[2:]]
    if sides and all(side.dim_param for side in sides):
        yield _pytree.tree_map(_larger, examples)


def _larger(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.ndim != 4 or not value.is_floating_point():
        return value
    n, channels, height, width = value.shape
    shape = (n, channels, height + ADDED_PIXELS[0], width + ADDED_PIXELS[1])
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(value.dtype)


def _comparison(module: torch.nn.Module, model: onnx.ModelProto, values: tuple[Any, ...]) -> Comparison:
    """The difference between module and file in ONNX Runtime for these inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    arrays = [leaf.numpy() for leaf in _pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    names = [value.name for value in session.get_inputs()]
    made = session.run(None, dict(zip(names, arrays, strict=True)))
    with torch.no_grad():
        expected = [leaf for leaf in _pytree.tree_leaves(module(*values)) if isinstance(leaf, torch.Tensor)]
    errors = [_difference(array, tensor.numpy()) for array, tensor in zip(made, expected, strict=True)]
    return Comparison("onnxruntime", "off by", max(errors), MODULE_TOLERANCE)


def _difference(made: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected number; infinite for other shapes."""
    if made.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(expected).max())
    difference = float(np.abs(made - expected).max())
    return difference / largest if largest > 0 else difference
