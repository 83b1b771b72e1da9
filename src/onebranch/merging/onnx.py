"""Merging an ONNX model: it is read, merged by its graph, written, and compared with the original.

It needs no PyTorch.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onebranch import strict_json
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.valid_sizes import InputSize, as_input_size
from onebranch.graph.merge.cost import cost_of_step
from onebranch.graph.merge.rewriting import Rules, merge_regions
from onebranch.graph.onnx.file import read, runnable_content
from onebranch.graph.onnx.graph import with_inlined_functions
from onebranch.graph.onnx.linear import read_linear
from onebranch.graph.onnx.rewriting import rewritten, with_folded_products
from onebranch.merging.check import Run, check
from onebranch.merging.onnx_inputs import CheckInputs
from onebranch.merging.report import GraphReport, all_unmerged
from onebranch.progress import StepProgress, never_falling, no_progress, part_of

ONNX_DOMAINS = ("", "ai.onnx")
"""Domains of ONNX's own operators."""

METADATA = "onebranch_merge"
"""Metadata key of the record of the merge in a merged file."""

ONNX_RECORD_VERSION = 3
"""Version of that record. Version 3 lists more unmerged operations than version 2. Records of onebranch 0.1
hold no version and are translated when they are read."""

ONNX_STEP_SHARES = 0.05, 0.2, 0.9
"""Shares of a merge that are completed, about, when the model runs, when it is read, and when the
regions are proven."""

RANDOM_OPERATIONS = (
    *("Bernoulli", "Dropout", "Multinomial", "RandomNormal"),
    *("RandomNormalLike", "RandomUniform", "RandomUniformLike"),
)

NOT_COMPARED = ("error", "largest", "allowed", "sizes", "input_sizes", "macs", "size_limits")
"""Parts of a record that depend on the machine, or on the input sizes of the comparison."""


def merge_onnx(
    model: onnx.ModelProto | str | os.PathLike[str],
    rules: Rules,
    input_sizes: Sequence[InputSize] = (),
    progress: StepProgress = no_progress,
) -> tuple[onnx.ModelProto, GraphReport]:
    """The merged model, a new one, and the report.

    input_sizes: sizes on which both models are compared; by default sizes on which the model runs are found.
    progress: called with the current step and the completed share, which ends at 1. Raises OnebranchError
    where the file cannot be read, a proof fails, or the outputs differ.
    """
    report = never_falling(progress)
    report("reading the model", 0)
    original = model if isinstance(model, onnx.ModelProto) else read(Path(model))
    with explained(original):
        result = _merged(original, rules, CheckInputs(original, input_sizes), report)
    report("the model is merged", 1)
    return result


def _merged(
    original: onnx.ModelProto, rules: Rules, inputs: CheckInputs, progress: StepProgress
) -> tuple[onnx.ModelProto, GraphReport]:
    custom = _unavailable_operations(original)
    run = None if custom else _runner(original)
    example = inputs.example(run)
    inlined = with_inlined_functions(original)
    folded = with_folded_products(inlined)
    progress("reading the model's operations", ONNX_STEP_SHARES[0])
    graph = read_linear(folded, (example.height, example.width))
    regions = merge_regions(graph, rules, part_of(progress, *ONNX_STEP_SHARES[1:]))
    merged = rewritten(folded, graph, regions) if any(region.merged for region in regions) else folded
    macs = sum(cost_of_step(step, graph.planes).macs for step in graph.steps)
    saved = sum(region.before.macs - region.after.macs for region in regions)
    report = GraphReport(
        regions=regions,
        unmerged=all_unmerged(graph.unmerged, regions),
        convolutions=(_convolutions(original.graph), _convolutions(merged.graph)),
        parameters=(_parameters(original), _parameters(merged)),
        macs=(macs, macs - saved),
        check=None,
        notes=() if folded is inlined else ("weights computed from other weights were stored as results",),
        folded=folded is not inlined,
    )
    if not report.changed:
        return original, report
    if run is None:
        note = f"only the merged regions were proven: ONNX Runtime does not know {', '.join(custom)}"
        report = replace(report, notes=(*report.notes, note))
    else:
        randoms, comparing = random_operations(original), part_of(progress, ONNX_STEP_SHARES[2], 1)
        compared = check(run, _runner(merged), inputs, inputs.advice(), randoms, comparing)
        report = replace(report, check=compared, size_limits=inputs.size_limits())
    record = _record(original, rules, report, inputs.named)
    helper.set_model_props(merged, {**_properties(original), METADATA: record})
    return merged, report


def random_operations(model: onnx.ModelProto) -> list[str]:
    """The nodes that may draw random numbers, as 'name' (operation); dropout draws them in training only."""
    return [
        f"'{node.name or node.output[0]}' ({node.op_type})"
        for node in model.graph.node
        if node.op_type in RANDOM_OPERATIONS
    ]


@contextmanager
def explained(model: onnx.ModelProto) -> Iterator[None]:
    """A context in which an error caused by an invalid model is raised as an OnebranchError of one line.

    ONNX's checker accepts some models whose shapes do not fit. An error for a model that it accepts is raised
    as an OnebranchError too, with the original error as its cause.
    """
    try:
        yield
    except OnebranchError:
        raise
    except MemoryError as error:
        raise OnebranchError(f"the model needs more memory than there is: {error}") from None
    except Exception as error:
        reason = _invalidity(model)
        if reason is not None:
            raise OnebranchError(f"the model is not valid ONNX: {reason}") from None
        message = next(iter(str(error).splitlines()), "")
        raise OnebranchError(
            f"the model cannot be merged: {type(error).__name__}: {message}; if it runs in ONNX Runtime,"
            " this is a bug of onebranch"
        ) from error


def _invalidity(model: onnx.ModelProto) -> str | None:
    """Why the model is not valid, in one line; None if ONNX and ONNX Runtime accept it."""
    try:
        onnx.checker.check_model(model, full_check=True)
        _runner(model)
    except Exception as error:  # of many kinds
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None


def verify_onnx(
    original: onnx.ModelProto | str | os.PathLike[str],
    merged: onnx.ModelProto | str | os.PathLike[str],
    input_sizes: Sequence[InputSize] = (),
    progress: StepProgress = no_progress,
) -> GraphReport:
    """The report of the merge of `original` by the rules stored in `merged`, proven again.

    input_sizes: sizes on which both models are compared; by default those that were named for the merge. Two
    equal models give a report without merges, and a note. progress: as for `merge_onnx`. Raises
    OnebranchError that names the first thing that does not hold.
    """
    first, second = (m if isinstance(m, onnx.ModelProto) else read(Path(m)) for m in (original, merged))
    if _digest(first) == _digest(second):
        progress("the models are equal", 1)
        return _nothing_merged(first)
    rules, named, stored = _stored_record(second)
    if stored["original"] != _digest(first):
        raise OnebranchError(
            "the original is not the model that was merged: its hash differs from the record's"
        )
    again, report = merge_onnx(first, rules, input_sizes or named, progress)
    for part in ("node", "initializer", "input", "output"):
        if _bytes(again, part) != _bytes(second, part):
            raise OnebranchError(
                f"the merged file is not what its rules make of the original: its {part}s differ"
            )
    if _facts(json.loads(_record(first, rules, report, ())), stored) != _facts(stored, stored):
        raise OnebranchError("the merged file's record is not what its rules make of the original")
    return report


def _nothing_merged(model: onnx.ModelProto) -> GraphReport:
    """The report for two equal models."""
    convolutions, parameters = _convolutions(model.graph), _parameters(model)
    graph = read_linear(model)
    macs = sum(cost_of_step(step, graph.planes).macs for step in graph.steps)
    return GraphReport(
        regions=(),
        unmerged=graph.unmerged,
        convolutions=(convolutions, convolutions),
        parameters=(parameters, parameters),
        macs=(macs, macs),
        check=None,
        notes=("both files hold the same model; nothing was merged",),
    )


def _stored_record(merged: onnx.ModelProto) -> tuple[Rules, tuple[InputSize, ...], dict[str, Any]]:
    """Rules, input sizes and record that a merged file stores, with the keys of the current version."""
    record = _properties(merged).get(METADATA)
    if record is None:
        raise OnebranchError("the merged file carries no record of a merge by onebranch: nothing to verify")
    try:
        stored: dict[str, Any] = json.loads(record)
        stored = stored if "version" in stored else _translated(stored)
        rules, version = Rules(**stored["rules"]), stored["version"]
        digest, report = stored["original"], stored["report"]
        named = tuple(as_input_size(size) for size in stored.get("input_sizes", ()))
    except (ValueError, TypeError, KeyError, AttributeError, OnebranchError):
        raise OnebranchError("the merged file's record of its merge is damaged") from None
    if version not in range(1, ONNX_RECORD_VERSION + 1):
        raise OnebranchError(
            f"the merged file's record has version {version}; this onebranch reads 1 to {ONNX_RECORD_VERSION}"
        )
    if not isinstance(digest, str) or not isinstance(report, dict):
        raise OnebranchError("the merged file's record of its merge is damaged")
    return rules, named, stored


def _translated(stored: dict[str, Any]) -> dict[str, Any]:
    """A record of onebranch 0.1, which has no version and lists unmerged operations under "left"."""

    def renamed(part: dict[str, Any]) -> dict[str, Any]:
        return {"unmerged" if key == "left" else key: value for key, value in part.items()}

    report = renamed(stored["report"])
    report["regions"] = [renamed(region) for region in report["regions"]]
    return {"version": 1, **stored, "report": report}


def _facts(record: Any, stored: dict[str, Any]) -> Any:
    """The parts of a record that must be the same when a merge is proven again.

    Unmerged operations and their reasons are only compared if the versions are the same.
    """
    earlier = () if stored["version"] == ONNX_RECORD_VERSION else ("unmerged", "notes", "version")
    return _without(record, (*NOT_COMPARED, *earlier))


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value


def _bytes(model: onnx.ModelProto, part: str) -> list[bytes]:
    return [entry.SerializeToString(deterministic=True) for entry in getattr(model.graph, part)]


def _digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _record(original: onnx.ModelProto, rules: Rules, report: GraphReport, named: Sequence[InputSize]) -> str:
    """The record of a merge as JSON: version, rules, named input sizes, hash of the original, report."""
    stored = {
        "version": ONNX_RECORD_VERSION,
        "rules": vars(rules),
        "input_sizes": [size.numbers for size in named],
        "original": _digest(original),
        "report": report.as_json(),
    }
    return strict_json.dumps(stored)


def _unavailable_operations(model: onnx.ModelProto) -> list[str]:
    """Operations of other domains, if ONNX Runtime does not load the model because of one of them."""
    local = {(function.domain, function.name) for function in model.functions}
    nodes = ((node.domain, node.op_type) for node in model.graph.node)
    custom = dict.fromkeys(kind for kind in nodes if kind[0] not in ONNX_DOMAINS and kind not in local)
    if not custom:
        return []
    try:
        _runner(model)
    except OnebranchError:
        return [f"{domain}::{kind}" for domain, kind in custom]
    return []


def _convolutions(graph: onnx.GraphProto) -> int:
    return sum(node.op_type in ("Conv", "ConvTranspose") for node in graph.node)


def _parameters(model: onnx.ModelProto) -> int:
    """The number of elements of the floating-point constants."""
    tensors = [*model.graph.initializer]
    tensors += [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute]
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
    return sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type in floats)


def _runner(model: onnx.ModelProto) -> Run:
    """The model in ONNX Runtime, without its optimizations, so that the model itself is compared."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # waiting threads would use a core
    try:
        content = runnable_content(model) or model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise OnebranchError(f"check: ONNX Runtime does not load the model: {reason}") from None
    names = [value.name for value in session.get_inputs()]

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(None, dict(zip(names, values, strict=True))))

    return run
