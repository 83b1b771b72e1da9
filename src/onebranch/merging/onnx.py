"""Merging an ONNX model: read, merged by its graph, written, and run against the original. Needs no
PyTorch."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from onebranch.errors import OnebranchError
from onebranch.graph.merge.cost import cost_of_step
from onebranch.graph.merge.rewriting import Rules, merge_regions
from onebranch.graph.onnx.file import read
from onebranch.graph.onnx.linear import read_linear
from onebranch.graph.onnx.rewriting import rewritten
from onebranch.merging.check import Run, check
from onebranch.merging.report import GraphReport, all_left

SIZES = ((64, 64), (48, 80), (33, 47), (97, 31), (128, 96), (224, 224), (256, 256), (512, 512))
"""Heights and widths for open ones, in the order in which they are tried."""

METADATA = "onebranch_merge"
"""The key under which a merged file says what was done to it."""


def merge_onnx(
    model: onnx.ModelProto | str | os.PathLike[str], rules: Rules
) -> tuple[onnx.ModelProto, GraphReport]:
    """The merged model, a new one, and the report.

    Raises OnebranchError where the file cannot be read, a proof fails, or the outputs differ.
    """
    original = model if isinstance(model, onnx.ModelProto) else read(Path(model))
    graph = read_linear(original)
    regions = merge_regions(graph, rules)
    merged = rewritten(original, graph, regions) if any(region.merged for region in regions) else original
    macs = sum(cost_of_step(step, graph.planes).macs for step in graph.steps)
    saved = sum(region.before.macs - region.after.macs for region in regions)
    report = GraphReport(
        regions=regions,
        left=all_left(graph.left, regions),
        convolutions=(_convolutions(original.graph), _convolutions(merged.graph)),
        parameters=(_parameters(original), _parameters(merged)),
        macs=(macs, macs - saved),
        check=None,
    )
    if not report.changed:
        return original, report
    found = check(_runner(original), _runner(merged), _inputs(original))
    report = replace(report, check=found)
    helper.set_model_props(merged, {**_properties(original), METADATA: _record(original, rules, report)})
    return merged, report


def verify_onnx(
    original: onnx.ModelProto | str | os.PathLike[str], merged: onnx.ModelProto | str | os.PathLike[str]
) -> GraphReport:
    """Evidence that `merged` is what its stored rules make of `original`, everything proven anew.

    Raises OnebranchError that names the first thing that does not hold.
    """
    first, second = (m if isinstance(m, onnx.ModelProto) else read(Path(m)) for m in (original, merged))
    record = _properties(second).get(METADATA)
    if record is None:
        raise OnebranchError("the merged file carries no record of a merge by onebranch: nothing to verify")
    try:
        stored = json.loads(record)
        rules, digest = Rules(**stored["rules"]), stored["original"]
    except (ValueError, TypeError, KeyError):
        raise OnebranchError("the merged file's record of its merge is damaged") from None
    if digest != _digest(first):
        raise OnebranchError(
            "the original is not the model that was merged: its hash differs from the record's"
        )
    again, report = merge_onnx(first, rules)
    for part in ("node", "initializer", "input", "output"):
        if _bytes(again, part) != _bytes(second, part):
            raise OnebranchError(
                f"the merged file is not what its rules make of the original: its {part}s differ"
            )
    if json.loads(_record(first, rules, report)) != stored:
        raise OnebranchError("the merged file's record is not what its rules make of the original")
    return report


def _bytes(model: onnx.ModelProto, part: str) -> list[bytes]:
    return [entry.SerializeToString(deterministic=True) for entry in getattr(model.graph, part)]


def _digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _record(original: onnx.ModelProto, rules: Rules, report: GraphReport) -> str:
    """What was done, for the file: rules, hash of the original, report."""
    stored = {"rules": vars(rules), "original": _digest(original), "report": report.as_json()}
    return json.dumps(stored)


def _convolutions(graph: onnx.GraphProto) -> int:
    return sum(node.op_type in ("Conv", "ConvTranspose") for node in graph.node)


def _parameters(model: onnx.ModelProto) -> int:
    """Numbers in the floating-point constants."""
    tensors = [*model.graph.initializer]
    tensors += [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute]
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
    return sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type in floats)


def _runner(model: onnx.ModelProto) -> Run:
    """The model in ONNX Runtime, its optimizer off: what is checked is the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        content = model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise OnebranchError(f"check: ONNX Runtime does not load the model: {reason}") from None
    names = [value.name for value in session.get_inputs()]

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(None, dict(zip(names, values, strict=True))))

    return run


def _inputs(model: onnx.ModelProto) -> Iterator[list[np.ndarray]]:
    """Random inputs of different sizes; always the same."""
    given = {tensor.name for tensor in model.graph.initializer} if model.ir_version < 4 else set()
    values = [value for value in model.graph.input if value.name not in given]
    values = [v for v in values if v.name not in {t.name for t in model.graph.initializer}]
    dims = [[d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in values]
    random = np.random.default_rng(0)
    for size in SIZES:
        yield [_random(v, sides, size, random) for v, sides in zip(values, dims, strict=True)]


def _random(
    value: onnx.ValueInfoProto,
    sides: list[int | None],
    size: tuple[int, int],
    random: np.random.Generator,
) -> np.ndarray:
    spatial = dict(zip(range(len(sides) - 2, len(sides)), size, strict=True)) if len(sides) > 2 else {}
    shape = [side or spatial.get(axis, 1) for axis, side in enumerate(sides)]
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    if kind.kind == "f":
        return np.asarray(random.random(shape), kind)
    return np.asarray(random.integers(0, 2, shape), kind)
