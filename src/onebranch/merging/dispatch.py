"""`onebranch.merge` and `verify`: which kind of merge is meant follows from what is given, and is never
guessed."""

import os
import sys
from typing import Any

from onebranch import verification
from onebranch.blocks.plan import Plan
from onebranch.errors import OnebranchError, nearest
from onebranch.graph.merge.rewriting import Rules
from onebranch.merging.own import merge_model

PROOFS = ("auto", "full")


def merge(model: Any, plan: Any = None, **options: Any) -> tuple[Any, Any]:
    """The merged model, a new one, and the report.

    * A `Model`, a shipped model's name or a `.safetensors` file of ours, and a plan (a `Plan` or a TOML
    file; by default everything in every block becomes one convolution): a `Model` and a `Report`.
    * A PyTorch module in evaluation mode and `example_inputs` (a tensor or a tuple of them): a new module,
    the given one untouched, and a `GraphReport`.
    * An ONNX model or a `.onnx` file: an `onnx.ModelProto` and a `GraphReport`. Needs no PyTorch.

    For the last two: force=True merges whatever can be merged, cheaper or not; proof="full" insists on a full
    basis; border_maps=True allows a bias that differs at the borders, written as a convolution of ones.
    Raises OnebranchError where the model cannot be read, or where a proof fails: then there is no result.
    """
    if _is_module(model):
        from onebranch.merging.torch import merge_module

        example = options.pop("example_inputs", plan)
        if example is None or isinstance(example, Plan | str | os.PathLike):
            raise OnebranchError(
                "a PyTorch module is merged with example inputs: merge(module, example_inputs)"
            )
        return merge_module(model, example, _rules(options))
    if _is_onnx(model):
        from onebranch.merging.onnx import merge_onnx

        if plan is not None or "plan" in options or "example_inputs" in options:
            raise OnebranchError(
                "an ONNX model is merged by its graph; a plan is for models of onebranch's own"
            )
        return merge_onnx(model, _rules(options))
    if options:
        raise OnebranchError(
            f"'{next(iter(options))}' is for PyTorch modules and ONNX files; a model of ours takes a plan"
        )
    return merge_model(model, plan)


def verify(original: Any, merged: Any) -> Any:
    """Evidence that `merged` is what its stored plan or rules make of `original`; everything is proven anew.

    Both are models of ours (`Model`, name or file; a `Record` comes back) or ONNX models (a `GraphReport`).
    Raises OnebranchError that names the first thing that does not hold.
    """
    if _is_onnx(original) != _is_onnx(merged):
        raise OnebranchError("one of the two is an ONNX model, the other a model of onebranch's own")
    if _is_onnx(original):
        from onebranch.merging.onnx import verify_onnx

        return verify_onnx(original, merged)
    return verification.verify(original, merged)


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


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
