"""The proof's third part: the stored weights are the float32 rounding of the merge, and accurate enough."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.errors import OnebranchError
from onebranch.proof.basis import Map
from onebranch.proof.structure import Structure

ROUNDING_TOLERANCE = 1e-5
"""Largest accepted float32 error, relative to the largest sum of absolute branch outputs."""

DRIFT = 1e-14
"""Float64 sums in another order, on another processor, differ by less than this part of the largest weight.
A weight that is this close to the middle between two float32 numbers may be rounded to either."""

EXTRA_PIXELS = 9
"""Pixels by which the pictures of the float32 comparison are larger than the receptive field."""


class RoundingError(OnebranchError):
    """The merge is correct, but its weights lose too much when they are rounded."""


class Rounding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of stored weights that were checked, and the relative float32 error of the outputs."""

    weights: int
    error: float


def rounding(
    branches: Sequence[Map],
    stored: Map,
    weights: Mapping[str, tuple[Floats, Floats]],
    channels: int,
    structure: Structure,
) -> Rounding:
    """The test that the stored weights are the rounded merge, and that rounding changes the outputs little.

    stored: the replacement with its stored weights, run in float32. weights: pairs of merged (float64) and
    stored weights, by name. Raises RoundingError that names the weight, or the error of the outputs.
    """
    for name, (merged, kept) in weights.items():
        check_weights(name, merged, kept)
    error = _error(branches, stored, _features(channels, structure))
    if not error <= ROUNDING_TOLERANCE:
        raise RoundingError(
            f"rounding: float32 outputs are off by {error:.1e} of the largest sum of absolute branch outputs"
            f" ({ROUNDING_TOLERANCE:.0e} is allowed)"
        )
    return Rounding(sum(kept.size for _, kept in weights.values()), error)


def check_weights(name: str, merged: Floats, kept: Floats) -> None:
    """Raise OnebranchError unless `kept` is the float32 rounding of `merged`, value by value."""
    if kept.dtype != np.float32 or merged.shape != kept.shape:
        raise RoundingError(
            f"rounding: '{name}' is stored as {kept.dtype} {kept.shape}, not float32 {merged.shape}"
        )
    # Another processor may add the float64 sums in another order. A value in the middle between two float32
    # numbers may then be rounded to either of them, and to no other.
    drift = DRIFT * np.abs(merged).max(initial=0)
    with np.errstate(over="ignore"):
        lowest, highest = (merged - drift).astype(np.float32), (merged + drift).astype(np.float32)
    wrong = np.flatnonzero(~((lowest <= kept) & (kept <= highest) & np.isfinite(kept)))
    if wrong.size:
        raise RoundingError(
            f"rounding: {wrong.size} of {kept.size} values of '{name}' are not the float32 rounding of the"
            f" float64 merge, the first {kept.flat[wrong[0]]!r} for {merged.flat[wrong[0]]!r}"
        )


def _features(channels: int, structure: Structure) -> Floats:
    """Two pictures of noise in [-1, 1], always the same, larger than the receptive field."""
    height, width = (2 * radius + structure.stride + EXTRA_PIXELS for radius in structure.radius)
    noise = np.random.default_rng(0).random((2, channels, height, width + 2), np.float32)
    return 2 * noise - 1


def _error(branches: Sequence[Map], stored: Map, features: Floats) -> float:
    """The float32 error of `stored`, relative to the largest sum of absolute branch outputs in float64."""
    outputs = [branch(features.astype(np.float64)) for branch in branches]
    largest = float(sum((np.abs(output) for output in outputs[1:]), np.abs(outputs[0])).max())
    difference = float(np.abs(sum(outputs[1:], outputs[0]) - stored(features)).max())
    return difference / largest if largest > 0 else difference
