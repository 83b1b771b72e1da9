"""A merged model held against its original: every region proven, the whole networks compared on pictures."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.network import run_network
from onebranch.blocks.evidence import BlockReport, Parts, prove_network
from onebranch.blocks.merge import merge_network, merged_parts
from onebranch.blocks.plan import Plan
from onebranch.errors import OnebranchError
from onebranch.images.colour import luma
from onebranch.images.reading import read
from onebranch.model.catalogue import load
from onebranch.model.file import Model, fingerprint
from onebranch.runtime.selection import open_runtime
from onebranch.spec.network import convert

SIZES = ((1, 1), (1, 9), (2, 3), (7, 5), (16, 33), (47, 64))
"""Heights and widths of the pictures on which whole networks are compared."""

NETWORK_BOUND = 1e-5
"""Largest float32 error of a merged network, of its largest output (at least 1, the value of white)."""

UNMERGED_FACTOR = 4
"""A network that multiplies rounding errors may exceed the bound, by as much as its unmerged form does."""

VERSION = 1
"""Version of the record that a merged file carries."""

NEVER_FROZEN = (
    "batch normalization was never frozen in training: merging uses its population statistics, so trained"
    " (batch statistics) and merged outputs may differ"
)

PHOTOGRAPH = Path(__file__).parent / "data" / "photograph.png"


class NetworkProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whole networks on a photograph's crops of awkward sizes, against the original in float64.

    Errors are relative to the largest output (at least 1). float64_error: the merged network with its float32
    weights, computed in float64. runtime_error, unmerged_error: merged and original in `runtime`, float32.
    """

    sizes: tuple[tuple[int, int], ...]
    runtime: str
    float64_error: float
    runtime_error: float
    unmerged_error: float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a merged file says of its merge: plan, proof, and hashes of both weights.

    notes: what its user should know. earlier: the record of the original, where that was merged before.
    seal: SHA-256 of all the rest, so that no part of it changes unnoticed.
    """

    version: int
    plan: Plan
    blocks: tuple[BlockReport, ...]
    network: NetworkProof
    original: str
    merged: str
    notes: tuple[str, ...] = ()
    earlier: dict[str, Any] | None = None
    seal: str = ""


def prove_merge(original: Model, merged: Model, plan: Plan) -> Record:
    """The record of a merge: evidence that `merged` is what the plan makes of `original`, and equals it.

    Everything is computed from the two models; the merged one's own record is not looked at. Raises
    OnebranchError that names the block and the part that fails.
    """
    expected = merge_network(original.spec, original.weights, plan)
    if expected.spec != merged.spec:
        raise OnebranchError("the plan, applied to the original, gives another network than the merged one")
    return _record(original, merged, plan, expected.parts, _notes(original))


def _record(original: Model, merged: Model, plan: Plan, parts: Parts, notes: tuple[str, ...]) -> Record:
    record = Record(
        version=VERSION,
        plan=plan,
        blocks=prove_network(original.spec, original.weights, merged.weights, parts),
        network=compare_networks(original, merged),
        original=fingerprint(original),
        merged=fingerprint(merged),
        notes=notes,
        earlier=original.merge,
    )
    return msgspec.structs.replace(record, seal=_seal(record))


def _seal(record: Record) -> str:
    text = msgspec.json.encode(msgspec.structs.replace(record, seal=""), order="deterministic")
    return hashlib.sha256(text).hexdigest()


def _notes(original: Model) -> tuple[str, ...]:
    normalized = any(branch.has_batch_norm for block in original.spec.all_blocks for branch in block.parsed)
    frozen = (original.recipe or {}).get("batch_norm_frozen", True)
    return (NEVER_FROZEN,) if normalized and not frozen else ()


def compare_networks(original: Model, merged: Model) -> NetworkProof:
    """Both networks on the same pictures. Raises OnebranchError where they differ by more than rounding."""
    runtimes = [open_runtime(model, "onnxruntime", threads=1) for model in (merged, original)]
    worst = np.zeros(3)
    for picture in _pictures(original.spec.channels):
        wide = picture.astype(np.float64)
        expected = run_network(original.spec, original.weights, wide)
        outputs = [run_network(merged.spec, merged.weights, wide), *(r.run(picture) for r in runtimes)]
        errors = [np.abs(output - expected).max() for output in outputs]
        worst = np.maximum(worst, np.array(errors) / max(1.0, np.abs(expected).max()))
    proof = NetworkProof(
        sizes=SIZES,
        runtime=runtimes[0].name,
        float64_error=float(worst[0]),
        runtime_error=float(worst[1]),
        unmerged_error=float(worst[2]),
    )
    _check_network(proof)
    return proof


def _check_network(proof: NetworkProof) -> None:
    bound = max(NETWORK_BOUND, UNMERGED_FACTOR * proof.unmerged_error)
    for where, error in (("float64", proof.float64_error), (proof.runtime, proof.runtime_error)):
        if not error <= bound:
            raise OnebranchError(
                f"network: in {where} the merged network is off by {error:.1e} of the largest output"
                f" ({bound:.0e} is allowed)"
            )


def _pictures(channels: int) -> Iterator[Floats]:
    """Crops of a photograph, (1, C, H, W) in [0, 1], float32, from places that lie apart."""
    rgb = read(PHOTOGRAPH).pixels.astype(np.float32) / 255
    planes = rgb if channels == 3 else luma(rgb)[..., None]
    for n, (height, width) in enumerate(SIZES):
        row, column = 61 * n + 13, 67 * n + 29
        crop = planes[row : row + height, column : column + width]
        yield np.ascontiguousarray(crop.transpose(2, 0, 1)[None])


def record_of(merged: Model) -> Record:
    """The record that a merged model carries. Raises OnebranchError where it has none, or a damaged one."""
    if merged.merge is None:
        raise OnebranchError(
            f"'{merged.name}' carries no proof: it was not written by 'onebranch merge' (the order is"
            " ORIGINAL MERGED)"
        )
    version = merged.merge.get("version")
    if version != VERSION:
        raise OnebranchError(f"the stored proof has version {version}; this onebranch reads {VERSION}")
    record = convert(merged.merge, Record, "the stored proof")
    if record.seal != _seal(record):
        raise OnebranchError(
            "the stored plan and proof were changed after the merge: their seal does not fit"
        )
    return record


def verify(original: Model | str | os.PathLike[str], merged: Model | str | os.PathLike[str]) -> Record:
    """Everything that the merged model's proof says, done again from the two models; returns the new record.

    original, merged: models, shipped models' names or files. Hashes and spec must be those of the proof,
    every region is proven anew from the original's branches and the stored weights, and the networks are
    compared. Raises OnebranchError that names what does not hold.
    """
    original, merged = (m if isinstance(m, Model) else load(m) for m in (original, merged))
    if original.spec == merged.spec and fingerprint(original) == fingerprint(merged):
        return _nothing_merged(original)
    stored = record_of(merged)
    for what, model, written in (("original", original, stored.original), ("merged", merged, stored.merged)):
        found = fingerprint(model)
        if found != written:
            raise OnebranchError(
                f"the {what} model's weights are not those of the proof: their hash is {found[:16]}...,"
                f" the proof says {written[:16]}..."
            )
    record = prove_merge(original, merged, stored.plan)
    if _facts(record) != _facts(stored):
        raise OnebranchError("the stored proof says other than what is found when it is done again")
    return record


def _nothing_merged(model: Model) -> Record:
    """The record of two models that hold the same network."""
    untouched = {name: merged_parts(name, block, inputs, {}, ()) for name, block, inputs in model.spec.walk()}
    note = "both models hold the same network; nothing was merged"
    return _record(model, model, Plan(), untouched, (note,))


MEASURED = ("error", "largest", "float64_error", "runtime_error", "unmerged_error", "notes", "seal")
"""Parts of a record that may differ between machines, or follow from a recipe that was edited since."""


def _facts(record: Record) -> Any:
    return _without(msgspec.to_builtins(record), MEASURED)


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list | tuple) else value
