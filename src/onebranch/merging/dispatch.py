"""`onebranch.merge` and `onebranch.verify`: the kind of the model decides how it is merged."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

from onebranch import verification
from onebranch.blocks.plan import MergePlan
from onebranch.errors import OnebranchError, nearest
from onebranch.extras import require
from onebranch.graph.analysis.valid_sizes import as_input_size
from onebranch.graph.merge.rewriting import Rules
from onebranch.merging.own import merge_model
from onebranch.model.third_party import is_pytorch_file, require_reader
from onebranch.progress import StepProgress, no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    import torch

    from onebranch.merging.own import Report
    from onebranch.merging.report import GraphReport
    from onebranch.model.file import Model

    Path = str | os.PathLike[str]

PROOFS = ("auto", "full")

FOR_ONNX = "'{}' is for PyTorch modules and ONNX files; a model of onebranch's own takes a plan"


@overload
def merge(
    model: Model, plan: MergePlan | Path | None = None, *, progress: StepProgress = no_progress
) -> tuple[Model, Report]: ...


@overload
def merge(
    model: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: torch.Tensor | tuple[Any, ...],
    *,
    force: bool = False,
    proof: Literal["auto", "full"] = "auto",
    border_maps: bool = False,
    progress: StepProgress = no_progress,
) -> tuple[torch.nn.Module, GraphReport]: ...


@overload
def merge(
    model: onnx.ModelProto,
    *,
    force: bool = False,
    proof: Literal["auto", "full"] = "auto",
    border_maps: bool = False,
    input_sizes: Sequence[Sequence[int]] = (),
    progress: StepProgress = no_progress,
) -> tuple[onnx.ModelProto, GraphReport]: ...


@overload
def merge(
    model: Path,
    plan: MergePlan | Path | None = None,
    *,
    force: bool = False,
    proof: Literal["auto", "full"] = "auto",
    border_maps: bool = False,
    input_sizes: Sequence[Sequence[int]] = (),
    progress: StepProgress = no_progress,
) -> tuple[Model, Report] | tuple[onnx.ModelProto, GraphReport]: ...


def merge(model: Any, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """Merge branches of a model into fewer convolutions, and prove that the result equals the original.

    Returns the merged model, a new one, and a report. The model that is given is not changed. There are four
    kinds of models:

    * `merge(model, plan=None)` for a `Model`, a shipped model's name or a `.safetensors` file of onebranch.
      `plan` is a `MergePlan` or a TOML file; by default every block becomes one convolution. Returns a
      `Model` and a `Report`.
    * `merge(module, example_inputs)` for a PyTorch module in evaluation mode, or an exported program.
      `example_inputs` is the tensor, such as (N, C, H, W), or the tuple of tensors with which the module is
      called. Returns a `torch.fx.GraphModule` that can be called, trained, copied and saved (`torch.save`, or
      `onebranch.export` as ONNX), and a `GraphReport`.
    * `merge(model)` for an `onnx.ModelProto` or a `.onnx` file. Returns an `onnx.ModelProto` and a
      `GraphReport`. It needs no PyTorch.
    * `merge("network.pth")` for a `.pth`, `.pt`, `.ckpt` or `.safetensors` file of PyTorch weights of an
      architecture that spandrel knows (extra `spandrel`). It is converted to ONNX; the rest is the same.

    Modules and ONNX models are merged by their graph, where that saves multiply-accumulates. force=True
    merges everything that can be merged, even where that costs more. border_maps=True allows a bias that
    differs at the borders, written as a convolution of a plane of ones. proof="full" tests every region on a
    full basis, however long that takes, where "auto" takes random signs for large regions. input_sizes: for
    ONNX models that leave their size open, the (height, width) or (channels, height, width) at which the
    whole models are compared; by default sizes on which the model runs are found. progress: for every kind of
    model, a function that is called with the current step, as text, and the completed share, from 0 to 1.

    Raises OnebranchError if the model cannot be read, if an option does not fit the kind of model, or
    where a proof fails: then there is no result.

    >>> import torch
    >>> two = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1, bias=False), torch.nn.Conv2d(8, 3, 3)).eval()
    >>> merged, report = merge(two, torch.zeros(1, 3, 16, 16))
    >>> report.convolutions, report.merged[0].into
    ((2, 1), '3x3 convolution 3 -> 3')
    """
    progress = options.pop("progress", no_progress)
    if _is_module(model):
        return _merge_module(model, progress, *arguments, **options)
    if _is_onnx(model):
        return _merge_onnx(model, progress, *arguments, **options)
    if isinstance(model, str | os.PathLike) and is_pytorch_file(model):
        return _merge_onnx(model, progress, *arguments, **options)
    return _merge_own(model, progress, *arguments, **options)


def _merge_module(module: Any, progress: StepProgress, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    from onebranch.merging.torch import merge_module

    given = [*arguments, *(options.pop(name) for name in ("example_inputs", "plan") if name in options)]
    if len(given) != 1 or given[0] is None or isinstance(given[0], MergePlan | str | os.PathLike):
        raise OnebranchError("a PyTorch module is merged with example inputs: merge(module, example_inputs)")
    if "input_sizes" in options:
        raise OnebranchError("input_sizes is for ONNX models; a module is merged at its example inputs' size")
    return merge_module(module, given[0], _rules(options), progress)


def _merge_onnx(model: Any, progress: StepProgress, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    if isinstance(model, str | os.PathLike) and is_pytorch_file(model):
        require_reader(model, "merging")
    require("onnx", "merging ONNX models")
    from onebranch.merging.pytorch import merge_file

    others = [*arguments, *(options.pop(name, None) for name in ("example_inputs", "plan"))]
    if any(value is not None for value in others):
        raise OnebranchError("an ONNX model is merged by its graph; a plan is for models of onebranch's own")
    sizes = [as_input_size(tuple(size)) for size in options.pop("input_sizes", ())]
    return merge_file(model, _rules(options), sizes, progress)


def _merge_own(model: Any, progress: StepProgress, plan: Any = None, **options: Any) -> tuple[Any, Any]:
    if options:
        raise OnebranchError(FOR_ONNX.format(next(iter(options))))
    return merge_model(model, plan, progress)


@overload
def verify(
    original: Model, merged: Model, *, progress: StepProgress = no_progress
) -> verification.Record: ...


@overload
def verify(
    original: onnx.ModelProto,
    merged: onnx.ModelProto,
    *,
    input_sizes: Sequence[Sequence[int]] = (),
    progress: StepProgress = no_progress,
) -> GraphReport: ...


@overload
def verify(
    original: Model | Path,
    merged: Model | Path,
    *,
    input_sizes: Sequence[Sequence[int]] = (),
    progress: StepProgress = no_progress,
) -> verification.Record | GraphReport: ...


def verify(
    original: Any,
    merged: Any,
    *,
    input_sizes: Sequence[Sequence[int]] = (),
    progress: StepProgress = no_progress,
) -> Any:
    """Prove again that applying the plan or rules stored in `merged` to `original` gives `merged`.

    Both are models of onebranch's own (`Model`, shipped name or file): returns the new `Record`. Or `merged`
    is an ONNX model (`onnx.ModelProto` or file), and `original` is one or a file of PyTorch weights: returns
    the `GraphReport`. Hashes, weights, the proof of every region and the whole networks are checked. Two
    equal models pass, with a note that they are equal. input_sizes: for ONNX models, sizes at which they are
    compared, as for `merge`; by default those that were given there. progress: a function that is called
    with the current step, as text, and the completed share.

    Raises OnebranchError that names the first thing that does not hold.

    >>> verify("photo-x2", "photo-x2").notes
    ('both models hold the same network; nothing was merged',)
    """
    if isinstance(original, str | os.PathLike) and is_pytorch_file(original):
        original = _converted(original)
    if _is_onnx(original) != _is_onnx(merged):
        raise OnebranchError(
            "an ONNX model is verified against the ONNX model or PyTorch weights it was merged from, a model"
            " of onebranch's own against another one; these two do not belong together"
        )
    if _is_onnx(original):
        require("onnx", "verifying ONNX models")
        from onebranch.merging.onnx import verify_onnx

        sizes = [as_input_size(tuple(size)) for size in input_sizes]
        return verify_onnx(original, merged, sizes, progress)
    if input_sizes:
        raise OnebranchError(FOR_ONNX.format("input_sizes"))
    return verification.verify(original, merged, progress)


def _converted(path: Path) -> Any:
    """A file of PyTorch weights as ONNX, as it is merged."""
    require_reader(path, "verifying")
    from onebranch.pytorch_files.conversion import converted

    return converted(path)


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def _is_onnx(model: Any) -> bool:
    if isinstance(model, str | os.PathLike):
        return os.fspath(model).lower().endswith(".onnx")
    onnx = sys.modules.get("onnx")
    return onnx is not None and isinstance(model, onnx.ModelProto)


def _rules(options: dict[str, Any]) -> Rules:
    valid = list(Rules.__dataclass_fields__)
    for name in options:
        if name not in valid:
            raise OnebranchError(f"unknown option '{name}'; {nearest(name, valid)}")
    rules = Rules(**options)
    if rules.proof not in PROOFS:
        raise OnebranchError(f"proof is 'auto' or 'full', not '{rules.proof}'")
    return rules
