# LEAD: written by the lead while waiting; helper: please keep these files, adapt or add to them, do not replace
"""A merged model held against its original: the whole networks on pictures, and a stored proof, anew."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.network import run_network
from onebranch.blocks.merge import BlockReport, merge_network
from onebranch.blocks.plan import Plan
from onebranch.errors import OnebranchError
from onebranch.model.file import Model, fingerprint
from onebranch.runtime.selection import open_runtime
from onebranch.spec.network import convert

SIZES = ((1, 1), (1, 9), (2, 3), (7, 5), (16, 33), (47, 64))
"""Heights and widths of the pictures on which whole networks are compared."""

NETWORK_BOUND = 1e-4
"""Largest float32 error of a whole network, relative to its largest output: rounding through every layer."""

VERSION = 1
"""Version of the record that a merged file carries."""


class NetworkProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whole networks on pictures of awkward sizes; errors relative to the largest output.

    float64_error: the stored float32 weights against the original, both computed in float64. runtime_error:
    the merged network in `runtime`, float32, against the original in float64.
    """

    sizes: tuple[tuple[int, int], ...]
    runtime: str
    float64_error: float
    runtime_error: float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a merged file says of its merge: plan, proof, and hashes of both weights.

    earlier: the record of the original, where that was merged before.
    """

    version: int
    plan: Plan
    blocks: tuple[BlockReport, ...]
    network: NetworkProof
    original: str
    merged: str
    notes: tuple[str, ...] = ()
    earlier: dict[str, Any] | None = None


def compare_networks(original: Model, merged: Model) -> NetworkProof:
    """Both networks on the same pictures. Raises OnebranchError where they differ by more than rounding."""
    runtime = open_runtime(merged, "onnxruntime", threads=1)
    errors = [
        _errors(original, merged, runtime.run, picture) for picture in _pictures(original.spec.channels)
    ]
    proof = NetworkProof(
        sizes=SIZES,
        runtime=runtime.name,
        float64_error=max(error for error, _ in errors),
        runtime_error=max(error for _, error in errors),
    )
    for place, error in (("float64", proof.float64_error), (proof.runtime, proof.runtime_error)):
        if not error <= NETWORK_BOUND:
            raise OnebranchError(
                f"proof of the network: in {place} the merged network is off by {error:.2e} of the largest"
                f" output; at most {NETWORK_BOUND:g} is allowed"
            )
    return proof


def _errors(original: Model, merged: Model, run: Any, picture: Floats) -> tuple[float, float]:
    wide = picture.astype(np.float64)
    expected = run_network(original.spec, original.weights, wide)
    largest = float(np.abs(expected).max()) or 1.0
    exact = np.abs(run_network(merged.spec, merged.weights, wide) - expected).max()
    return float(exact) / largest, float(np.abs(run(picture) - expected).max()) / largest


def _pictures(channels: int) -> Sequence[Floats]:
    """Pictures of every size: smooth waves, hard edges and noise, the same on every machine."""
    rng = np.random.default_rng(0)
    pictures = []
    for height, width in SIZES:
        y, x = np.mgrid[:height, :width] / 9
        waves = 0.5 + 0.3 * np.sin(x + y * y) + 0.1 * (x > 2)
        noise = 0.1 * rng.random((channels, height, width))
        pictures.append((waves + noise)[None].astype(np.float32))
    return pictures


def record_of(merged: Model) -> Record:
    """The record that a merged model carries. Raises OnebranchError where it has none, or a damaged one."""
    if merged.merge is None:
        raise OnebranchError("this model carries no proof: it was not written by 'onebranch merge'")
    record: Record = convert(merged.merge, Record, "the stored proof")
    if record.version != VERSION:
        raise OnebranchError(f"the stored proof has version {record.version}; this onebranch reads {VERSION}")
    return record


def verify(original: Model, merged: Model) -> Record:
    """Everything that the merged model's proof says, done again from the two models; returns the new record.

    The hashes must be those of the two models, the plan applied to the original must give the merged spec
    and, bit for bit, the merged weights, every region is proven anew, and the networks are compared.
    Raises OnebranchError that names the first thing that does not hold.
    """
    stored = record_of(merged)
    for what, model, written in (("original", original, stored.original), ("merged", merged, stored.merged)):
        found = fingerprint(model)
        if found != written:
            raise OnebranchError(
                f"the {what} model's weights are not those of the proof: their hash is {found[:16]}...,"
                f" the proof says {written[:16]}..."
            )
    again = merge_network(original.spec, original.weights, stored.plan)
    if again.spec != merged.spec:
        raise OnebranchError("the stored plan, applied to the original, gives another network than this one")
    for name, value in again.weights.items():
        if not np.array_equal(value, merged.weights[name]):
            raise OnebranchError(f"tensor '{name}' is not what the stored plan gives from the original")
    network = compare_networks(original, merged)
    return msgspec.structs.replace(stored, blocks=again.blocks, network=network)
