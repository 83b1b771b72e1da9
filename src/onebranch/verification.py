"""Verification of a merge: every region is proven, and the whole networks are compared on pictures."""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.network import run_network
from onebranch.blocks.evidence import BlockReport, Parts, prove_network
from onebranch.blocks.merge import merge_network, merged_parts
from onebranch.blocks.plan import MergePlan, current_keys
from onebranch.errors import OnebranchError
from onebranch.images.colour import luma
from onebranch.images.reading import read
from onebranch.model.catalogue import load
from onebranch.model.file import Model, fingerprint
from onebranch.progress import StepProgress, never_falling, no_progress, part_of
from onebranch.runtime.selection import installed, open_runtime
from onebranch.spec.network import convert

NETWORK_SIZES = ((1, 1), (1, 9), (2, 3), (7, 5), (16, 33), (47, 64))
"""Heights and widths of the pictures on which whole networks are compared."""

NETWORK_BOUND = 1e-5
"""Largest float32 error of a merged network, relative to its largest output (at least 1, white)."""

UNMERGED_FACTOR = 4
"""A network that amplifies rounding errors may exceed the bound, up to this many times the unmerged error."""

RECORD_VERSION = 2
"""Version of the record that a merged file carries. Version 1 (of onebranch 0.1) is translated when read."""

NEVER_FROZEN = (
    "batch normalization was never frozen in training: merging uses its population statistics, so trained"
    " (batch statistics) and merged outputs may differ"
)

PROOF_SHARE = 0.6
"""Share of a verification that the proofs of the blocks take, about; the comparison takes the rest."""

NetworkRun = Callable[[np.ndarray], np.ndarray]

PHOTOGRAPH = Path(__file__).parent / "data" / "photograph.png"


class NetworkProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The comparison of whole networks on crops of a photograph, with the original in float64 as reference.

    sizes: height and width of the crops. Errors are relative to the largest output (at least 1).
    float64_error: error of the merged network with its float32 weights, computed in float64. runtime_error,
    unmerged_error: of the merged and the original network in `runtime`, in float32.
    """

    sizes: tuple[tuple[int, int], ...]
    runtime: str
    float64_error: float
    runtime_error: float
    unmerged_error: float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of a merge in a merged file: the plan, the proof, and SHA-256 hashes of both networks.

    notes: remarks for the user. earlier: the record of the original, if it had been merged before. seal:
    SHA-256 of the rest of the record, so that no part of it changes unnoticed.
    """

    version: int
    plan: MergePlan
    blocks: tuple[BlockReport, ...]
    network: NetworkProof
    original: str
    merged: str
    notes: tuple[str, ...] = ()
    earlier: dict[str, Any] | None = None
    seal: str = ""


def prove_merge(
    original: Model, merged: Model, plan: MergePlan, progress: StepProgress = no_progress
) -> Record:
    """The record of a merge: the proof that `merged` is what the plan makes of `original`, and equals it.

    Everything is computed from the two models; the merged model's own record is not read. progress: called
    with the current step and the completed share, which ends at 1. Raises OnebranchError that names the
    block and the part of the proof that fails.
    """
    expected = merge_network(original.spec, original.weights, plan)
    if expected.spec != merged.spec:
        raise OnebranchError("the plan, applied to the original, gives another network than the merged one")
    return _record(original, merged, plan, expected.parts, _notes(original), never_falling(progress))


def _record(
    original: Model,
    merged: Model,
    plan: MergePlan,
    parts: Parts,
    notes: tuple[str, ...],
    progress: StepProgress,
) -> Record:
    proving, comparing = part_of(progress, 0, PROOF_SHARE), part_of(progress, PROOF_SHARE, 1)
    record = Record(
        version=RECORD_VERSION,
        plan=plan,
        blocks=prove_network(original.spec, original.weights, merged.weights, parts, proving),
        network=compare_networks(original, merged, comparing),
        original=fingerprint(original),
        merged=fingerprint(merged),
        notes=notes,
        earlier=original.merge,
    )
    return msgspec.structs.replace(record, seal=_seal(record))


def _seal(record: Record) -> str:
    text = msgspec.json.encode(msgspec.structs.replace(record, seal=""), order="deterministic")
    if record.version == 1:  # its plan had other key names
        text = text.replace(b'"head_and_tail":', b'"ends":', 1)
    return hashlib.sha256(text).hexdigest()


def _notes(original: Model) -> tuple[str, ...]:
    normalized = any(branch.has_batch_norm for block in original.spec.all_blocks for branch in block.parsed)
    frozen = (original.recipe or {}).get("batch_norm_frozen", True)
    return (NEVER_FROZEN,) if normalized and not frozen else ()


def compare_networks(original: Model, merged: Model, progress: StepProgress = no_progress) -> NetworkProof:
    """The comparison of both networks on the same pictures.

    progress: called after every run with the share of the pixels that were compared. Raises OnebranchError
    where they differ by more than rounding.
    """
    name, runs = _float32_runs(merged, original)
    worst = np.zeros(3)
    done, total = 0, 4 * sum(height * width for height, width in NETWORK_SIZES)
    for picture in _pictures(original.spec.channels):
        outputs = []
        for run in (*_float64_runs(original, merged), *runs):
            outputs.append(run(picture))
            height, width = picture.shape[2:]
            done += height * width
            progress(f"comparing the networks on {height}x{width} pixels", done / total)
        expected, *outputs = outputs
        errors = [np.abs(output - expected).max() for output in outputs]
        worst = np.maximum(worst, np.array(errors) / max(1.0, np.abs(expected).max()))
    proof = NetworkProof(
        sizes=NETWORK_SIZES,
        runtime=name,
        float64_error=float(worst[0]),
        runtime_error=float(worst[1]),
        unmerged_error=float(worst[2]),
    )
    _check_network(proof)
    return proof


def _float64_runs(*models: Model) -> list[NetworkRun]:
    """The models by their definition in float64."""
    return [partial(_run_in_float64, model) for model in models]


def _run_in_float64(model: Model, picture: np.ndarray) -> np.ndarray:
    return run_network(model.spec, model.weights, picture.astype(np.float64))


def _float32_runs(*models: Model) -> tuple[str, list[NetworkRun]]:
    """A runtime and the models in it: ONNX Runtime if it is installed, else the definition in numpy."""
    if installed("onnxruntime"):
        return "onnxruntime", [open_runtime(model, "onnxruntime", threads=1).run for model in models]
    return "numpy", [partial(run_network, model.spec, model.weights) for model in models]


def _check_network(proof: NetworkProof) -> None:
    bound = max(NETWORK_BOUND, UNMERGED_FACTOR * proof.unmerged_error)
    for where, error in (("float64", proof.float64_error), (proof.runtime, proof.runtime_error)):
        if not error <= bound:
            raise OnebranchError(
                f"network: in {where} the merged network is off by {error:.1e} of the largest output"
                f" ({bound:.0e} is allowed)"
            )


def _pictures(channels: int) -> Iterator[Floats]:
    """Crops of a photograph, (1, C, H, W) in [0, 1], float32, from different parts of it."""
    rgb = read(PHOTOGRAPH).pixels.astype(np.float32) / 255
    planes = rgb if channels == 3 else luma(rgb)[..., None]
    for n, (height, width) in enumerate(NETWORK_SIZES):
        row, column = 61 * n + 13, 67 * n + 29
        crop = planes[row : row + height, column : column + width]
        yield np.ascontiguousarray(crop.transpose(2, 0, 1)[None])


def record_of(merged: Model) -> Record:
    """The record that a merged model carries, with the key names of the current version.

    Raises OnebranchError where there is none, or where it was changed.
    """
    if merged.merge is None:
        raise OnebranchError(
            f"'{merged.name}' carries no proof: it was not written by 'onebranch merge' (the order is"
            " ORIGINAL MERGED)"
        )
    version = merged.merge.get("version")
    if version not in (1, RECORD_VERSION):
        raise OnebranchError(
            f"the stored proof has version {version}; this onebranch reads 1 to {RECORD_VERSION}"
        )
    stored = _translated(merged.merge) if version == 1 else merged.merge
    record = convert(stored, Record, "the stored proof")
    if record.seal != _seal(record):
        raise OnebranchError(
            "the stored plan and proof were changed after the merge: their seal does not match"
        )
    return msgspec.structs.replace(record, version=RECORD_VERSION)


def _translated(stored: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 with the plan's keys renamed to the current names."""
    plan = stored.get("plan")
    return {**stored, "plan": current_keys(plan)} if isinstance(plan, dict) else stored


def verify(
    original: Model | str | os.PathLike[str],
    merged: Model | str | os.PathLike[str],
    progress: StepProgress = no_progress,
) -> Record:
    """The record of the merged model, computed again from the two models.

    original, merged: models, shipped models' names or files. Hashes and spec must be those of the stored
    record, every region is proven again from the original's branches and the stored weights, and the whole
    networks are compared. progress: called with the current step and the completed share, which ends at 1.
    Raises OnebranchError that names what does not hold.
    """
    original, merged = (m if isinstance(m, Model) else load(m) for m in (original, merged))
    if original.spec == merged.spec and fingerprint(original) == fingerprint(merged):
        return _nothing_merged(original, never_falling(progress))
    stored = record_of(merged)
    for what, model, written in (("original", original, stored.original), ("merged", merged, stored.merged)):
        computed = fingerprint(model)
        if computed != written:
            raise OnebranchError(
                f"the {what} model's weights are not those of the proof: their hash is {computed[:16]}...,"
                f" the proof says {written[:16]}..."
            )
    record = prove_merge(original, merged, stored.plan, progress)
    if _facts(record) != _facts(stored):
        raise OnebranchError("the stored proof is not the one that is found when the merge is proven again")
    return record


def _nothing_merged(model: Model, progress: StepProgress) -> Record:
    """The record for two models that hold the same network."""
    untouched = {name: merged_parts(name, block, inputs, {}, ()) for name, block, inputs in model.spec.walk()}
    note = "both models hold the same network; nothing was merged"
    return _record(model, model, MergePlan(), untouched, (note,), progress)


MEASURED_FIELDS = (
    "runtime",
    "error",
    "largest",
    "float64_error",
    "runtime_error",
    "unmerged_error",
    "notes",
    "seal",
)
"""Parts of a record that may differ between machines, or that follow from the recipe, which may be edited."""


def _facts(record: Record) -> Any:
    return _without(msgspec.to_builtins(record), MEASURED_FIELDS)


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list | tuple) else value
