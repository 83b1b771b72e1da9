"""Merging a file of PyTorch weights: converted to ONNX, merged there, compared with the PyTorch module."""

import os
from collections.abc import Sequence
from dataclasses import replace

import onnx

from onebranch.graph.analysis.valid_sizes import InputSize
from onebranch.graph.merge.rewriting import Rules
from onebranch.merging.onnx import merge_onnx
from onebranch.merging.report import GraphReport
from onebranch.model.third_party import is_pytorch_file
from onebranch.progress import StepProgress, no_progress, part_of
from onebranch.pytorch_files.conversion import converted, difference_from_module

CONVERTED_MODEL_SHARE, COMPARISON_SHARE = 0.3, 0.95
"""Shares of the work that are completed, about, when the network is ONNX, and when it is merged."""


def merge_file(
    model: onnx.ModelProto | str | os.PathLike[str],
    rules: Rules,
    input_sizes: Sequence[InputSize] = (),
    progress: StepProgress = no_progress,
) -> tuple[onnx.ModelProto, GraphReport]:
    """The merged network of an ONNX model or file, or of PyTorch weights, as ONNX, and the report.

    progress: called with the current step and the completed share, which ends at 1. Raises OnebranchError
    where it cannot be read, a proof fails, or the outputs differ.
    """
    if not isinstance(model, onnx.ModelProto) and is_pytorch_file(model):
        return merge_pytorch(model, rules, input_sizes, progress)
    return merge_onnx(model, rules, input_sizes, progress)


def merge_pytorch(
    path: str | os.PathLike[str],
    rules: Rules,
    input_sizes: Sequence[InputSize] = (),
    progress: StepProgress = no_progress,
) -> tuple[onnx.ModelProto, GraphReport]:
    """The merged network as ONNX, and the report, whose notes hold the difference from the PyTorch module.

    The module is the one of spandrel, unchanged. progress: see `merge_file`. Raises OnebranchError where the
    file cannot be read or converted, a proof fails, or the merged network differs from the module.
    """
    from onebranch.pytorch_files.reading import read_pytorch  # imported late: it imports PyTorch

    progress("converting the network to ONNX", 0)
    model = converted(path)
    merging = part_of(progress, CONVERTED_MODEL_SHARE, COMPARISON_SHARE)
    merged, report = merge_onnx(model, rules, input_sizes, merging)
    progress("comparing with the PyTorch module", COMPARISON_SHARE)
    network = read_pytorch(path)
    difference = difference_from_module(network, merged)
    note = (
        f"compared with the PyTorch module ({network.architecture}): largest difference {difference:.1e} of"
        " the largest output"
    )
    progress("the network is compared", 1)
    return merged, replace(report, notes=(*report.notes, note))
