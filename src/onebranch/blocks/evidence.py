"""The proof of a merge by a plan: every block before and after, with the proof of every merged group."""

from collections.abc import Mapping, Sequence
from math import prod

import msgspec
import numpy as np

from onebranch.algebra.conv import Conv
from onebranch.algebra.definition import Floats, run_branch
from onebranch.algebra.network import within
from onebranch.blocks.merge import Part, Weights, in_float64
from onebranch.errors import OnebranchError
from onebranch.progress import StepProgress, named, no_progress, part_of
from onebranch.proof.basis import Map, sizes
from onebranch.proof.region import Proof, prove
from onebranch.proof.structure import structure
from onebranch.spec.branch import Branch
from onebranch.spec.network import BlockSpec, NetworkSpec, block_macs, block_parameters

Parts = Mapping[str, Sequence[Part]]
"""The branches of every block after the merge, by the block's name; unchanged blocks are included."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Branches that became one convolution, and the proof that it equals their sum.

    into: the convolution in the grammar of branches.
    """

    branches: tuple[str, ...]
    into: str
    proof: Proof


class BlockReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A block before and after the merge: branches, parameters and MACs per output pixel of the block.

    groups: its merged groups.
    """

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    groups: tuple[Group, ...]


def prove_network(
    spec: NetworkSpec,
    before: Weights,
    after: Weights,
    parts: Parts,
    progress: StepProgress = no_progress,
) -> tuple[BlockReport, ...]:
    """The report of every block.

    spec: the spec of the original. before, after: the weights of the original and of the merged network.
    parts: the branches of every block after the merge. progress: called with the name of the block, and the
    completed share of the proofs. It is also checked that all other tensors are bit-identical. Raises
    OnebranchError that names the block and the part of the proof that fails.
    """
    _check_untouched("resampling layer", within(before, "resample"), within(after, "resample"))
    reports = []
    work = {name: _proof_work(block, inputs, parts[name]) for name, block, inputs in spec.walk()}
    done, total = 0.0, sum(work.values())
    for name, block, inputs in spec.walk():
        share = part_of(progress, done / total, (done + work[name]) / total)
        reports.append(
            _report(name, block, inputs, within(before, name), within(after, name), parts[name], share)
        )
        done += work[name]
        progress(f"{name} is proven", done / total)
    return tuple(reports)


# Example: one merged group of radius 1 and stride 1, from 16 channels to 16, is tested on pictures of 1x1 to
# 4x4 with one impulse each: (1 + 4 + 9 + 16)^2 * 16 pixels, times the MACs of a pixel.
def _proof_work(block: BlockSpec, inputs: int, parts: Sequence[Part]) -> float:
    """The multiply-accumulates that the proof of a block takes, about; 1 if nothing in it is merged."""
    pixels = sum(
        prod(sum(side**2 for side in sizes(radius, part.merged.stride)) for radius in part.merged.radius)
        for part in parts
        if part.merged is not None
    )
    return float(1 + pixels * inputs * block_macs(block, inputs))


def _report(
    name: str,
    block: BlockSpec,
    inputs: int,
    before: Weights,
    after: Weights,
    parts: Sequence[Part],
    progress: StepProgress,
) -> BlockReport:
    merged = msgspec.structs.replace(block, branches=tuple(part.text for part in parts))
    _check_untouched(f"{name}, activation", within(before, "activation"), within(after, "activation"))
    groups = []
    for n, part in enumerate(parts):
        tensors = within(after, f"branches.{n}")
        if part.merged is None:
            first = part.sources[0]
            _check_untouched(
                f"{name}, branch {first} ('{part.text}')", within(before, f"branches.{first}"), tensors
            )
        else:
            share = part_of(progress, n / len(parts), (n + 1) / len(parts))
            groups.append(_proven(name, block, part, part.merged, before, tensors, share))
    return BlockReport(
        name=name,
        before=block.branches,
        after=merged.branches,
        parameters=(block_parameters(block, inputs), block_parameters(merged, inputs)),
        macs=(block_macs(block, inputs), block_macs(merged, inputs)),
        groups=tuple(groups),
    )


def _proven(
    name: str,
    block: BlockSpec,
    part: Part,
    merged: Conv,
    before: Weights,
    stored: Weights,
    progress: StepProgress,
) -> Group:
    branches = [block.parsed[n] for n in part.sources]
    maps = [
        _map(branch, in_float64(within(before, f"branches.{n}")), block.width)
        for n, branch in zip(part.sources, branches, strict=True)
    ]
    bias = stored.get("0.bias", np.zeros(merged.outputs, np.float32))
    kept = Conv(stored["0.weight"], bias, merged.groups)
    texts = tuple(str(branch) for branch in branches)
    try:
        proof = prove(maps, merged, kept, structure(branches), named(progress, f"proving {name}"))
        return Group(branches=texts, into=part.text, proof=proof)
    except OnebranchError as error:
        raise OnebranchError(f"the merge of {name} ({' + '.join(texts)}) fails its proof: {error}") from None


def _map(branch: Branch, tensors: Weights, width: int) -> Map:
    """The branch as a function of pictures, computed step by step by its definition."""

    def run(pictures: Floats) -> Floats:
        return run_branch(branch, tensors, pictures, width)

    return run


def _check_untouched(block_name: str, before: Weights, after: Weights) -> None:
    """Raise OnebranchError unless both hold the same tensors, bit for bit."""
    for name in sorted({*before, *after}):
        pair = before.get(name), after.get(name)
        if pair[0] is None or pair[1] is None or _content(pair[0]) != _content(pair[1]):
            raise OnebranchError(
                f"{block_name}: tensor '{name}' must not change, but it differs from the original's"
            )


def _content(values: Floats) -> tuple[str, tuple[int, ...], bytes]:
    return values.dtype.str, values.shape, values.tobytes()
