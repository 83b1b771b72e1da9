"""The proof of one region, which is a set of branches that one convolution replaces."""

from collections.abc import Sequence

import msgspec

from onebranch.algebra.conv import Conv
from onebranch.algebra.definition import Floats, apply, zero_pad
from onebranch.errors import OnebranchError
from onebranch.progress import StepProgress, no_progress
from onebranch.proof.basis import Basis, Map, basis
from onebranch.proof.rounding import Rounding, rounding
from onebranch.proof.structure import Structure


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three parts of the proof that a merged region equals its original."""

    structure: Structure
    basis: Basis
    rounding: Rounding


def prove(
    branches: Sequence[Map],
    merged: Conv,
    stored: Conv,
    structure: Structure,
    progress: StepProgress = no_progress,
) -> Proof:
    """The proof that the sum of `branches` equals a convolution that is zero-padded by its radius.

    branches: run by their definition. merged: the convolution in float64, before rounding. stored: the same
    as it is stored, in float32. progress: see `basis`. Raises OnebranchError that names the part that fails.
    """
    if merged.radius != structure.radius or merged.stride != structure.stride:
        raise OnebranchError(
            f"structure: a kernel {merged.kernel} of stride {merged.stride} replaces branches of radius"
            f" {structure.radius} and stride {structure.stride}"
        )
    if (stored.kernel, stored.groups, stored.stride) != (merged.kernel, merged.groups, merged.stride):
        raise OnebranchError(
            f"structure: kernel {stored.kernel} of {stored.groups} groups is stored, but the merged one is"
            f" {merged.kernel} of {merged.groups}"
        )
    weights = {"weight": (merged.weight, stored.weight), "bias": (merged.bias, stored.bias)}
    channels = merged.inputs
    return Proof(
        structure,
        basis(branches, padded(merged), channels, structure, progress),
        rounding(branches, padded(stored), weights, channels, structure),
    )


def padded(conv: Conv) -> Map:
    """The convolution as a map on pictures, which it zero-pads by its radius."""

    def run(pictures: Floats) -> Floats:
        return apply(conv, zero_pad(pictures, conv.radius))

    return run
