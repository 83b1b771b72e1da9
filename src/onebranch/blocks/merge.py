"""The merge by a plan: the branches of a group are composed and added in float64, and rounded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from onebranch.algebra.branch import collapse, total
from onebranch.algebra.conv import Conv
from onebranch.algebra.definition import Floats, tensor_names
from onebranch.algebra.network import within
from onebranch.blocks.plan import MergePlan, groups_by_block
from onebranch.errors import OnebranchError
from onebranch.spec.branch import AveragePool, BatchNorm, Branch, Convolution, Identity
from onebranch.spec.network import BlockSpec, NetworkSpec

Weights = Mapping[str, Floats]
"""Float32 tensors by the names of the model file, or by the rest of these names after a prefix."""


@dataclass(frozen=True)
class Part:
    """One branch of a merged block.

    sources: indices of the original's branches that it replaces. text: in the branch grammar. merged: its
    convolution in float64, before rounding; None if it is an original branch that was not merged.
    """

    sources: tuple[int, ...]
    text: str
    merged: Conv | None = None


@dataclass(frozen=True)
class MergedNetwork:
    """The merged network, and the branches of each of its blocks, by the block's name."""

    spec: NetworkSpec
    weights: dict[str, Floats]
    parts: dict[str, tuple[Part, ...]]


def merge_network(spec: NetworkSpec, weights: Weights, plan: MergePlan) -> MergedNetwork:
    """The network after merging by the plan: an ordinary network whose spec has fewer branches.

    weights: float32, by the names of the model file. Tensors that are not merged stay as they are, bit for
    bit. Raises OnebranchError if BN statistics are missing or unusable, or the plan does not fit.
    """
    groups = groups_by_block(plan, spec)
    parts = {
        name: merged_parts(name, block, inputs, within(weights, name), groups[name])
        for name, block, inputs in spec.walk()
    }
    walked = [(name, block, within(weights, name)) for name, block, _ in spec.walk()]
    tensors = {
        f"{name}.{key}": value
        for name, _, of_block in walked
        for key, value in _merged_tensors(parts[name], of_block).items()
    }
    tensors |= {name: value for name, value in weights.items() if name.startswith("resample.")}
    blocks = [
        msgspec.structs.replace(block, branches=tuple(part.text for part in parts[name]))
        for name, block, _ in walked
    ]
    merged = msgspec.structs.replace(spec, head=blocks[0], blocks=tuple(blocks[1:-1]), tail=blocks[-1])
    return MergedNetwork(merged, tensors, parts)


def merged_parts(
    name: str, block: BlockSpec, inputs: int, tensors: Weights, groups: Sequence[Sequence[int]]
) -> tuple[Part, ...]:
    """The branches of the merged block; each merged one takes the position of its group's first branch.

    tensors: tensors of the block, by names such as branches.0.0.weight. groups: branches by index.
    """
    merged = [_merged_part(name, block, inputs, tensors, sorted(group)) for group in groups]
    touched = {n for group in groups for n in group}
    kept = [Part((n,), text) for n, text in enumerate(block.branches) if n not in touched]
    return tuple(sorted(merged + kept, key=lambda part: part.sources))


def _merged_part(name: str, block: BlockSpec, inputs: int, tensors: Weights, group: Sequence[int]) -> Part:
    branches = [block.parsed[n] for n in group]
    convs = []
    for n, branch in zip(group, branches, strict=True):
        of_branch = in_float64(within(tensors, f"branches.{n}"))
        check_statistics(f"{name}, branch '{branch}'", branch, of_branch)
        convs.append(collapse(branch, of_branch, np.zeros(1), inputs, block.width))
    # Everything is added in float64 and rounded once, in `_rounded`. Example: 1 + 2^-24 + 2^-24 is 1 + 2^-23;
    # with every sum rounded to float32 it would be 1.
    conv = total(convs)
    step = Convolution(conv.kernel, groups=_grouping(conv), bias=any(_shifts(branch) for branch in branches))
    return Part(tuple(group), str(step), conv)


def _grouping(conv: Conv) -> int:
    """The number of groups as the grammar writes it: 0 for depthwise."""
    return 0 if 1 < conv.groups == conv.inputs else conv.groups


def _shifts(branch: Branch) -> bool:
    """Return True if the branch can add a constant; pools, identities, convolutions without bias cannot."""
    return any(
        step.bias if isinstance(step, Convolution) else not isinstance(step, AveragePool | Identity)
        for step in branch.steps
    )


def in_float64(tensors: Weights) -> dict[str, Floats]:
    """The same values in float64, which holds every float32 exactly."""
    return {name: value.astype(np.float64) for name, value in tensors.items()}


def check_statistics(block_name: str, branch: Branch, tensors: Weights) -> None:
    """Raise OnebranchError if a tensor of a branch is missing or not finite, or a variance is negative."""
    for index, step in enumerate(branch.steps):
        for key in tensor_names(step):
            what = "batch normalization" if isinstance(step, BatchNorm) else f"'{step}'"
            name = f"{index}.{key}"
            if name not in tensors:
                raise OnebranchError(f"{block_name}: the {key} of {what} is missing; it cannot be merged")
            if not np.isfinite(tensors[name]).all():
                raise OnebranchError(f"{block_name}: the {key} of {what} holds NaN or infinite values")
            if key == "running_var" and (tensors[name] < 0).any():
                raise OnebranchError(f"{block_name}: the {key} of {what} holds negative variances")


def _merged_tensors(parts: Sequence[Part], tensors: Weights) -> dict[str, Floats]:
    """The merged block's tensors: rounded ones for merged branches, the original's for the others."""
    result: dict[str, Floats] = {}
    for n, part in enumerate(parts):
        branch = _rounded(part) if part.merged else within(tensors, f"branches.{part.sources[0]}")
        result |= {f"branches.{n}.{key}": value for key, value in branch.items()}
    return result | {key: value for key, value in tensors.items() if not key.startswith("branches.")}


def _rounded(part: Part) -> dict[str, Floats]:
    assert part.merged, "only merged parts are rounded"
    with np.errstate(over="ignore"):  # the proof refuses weights that are too large for float32
        arrays = {"0.weight": part.merged.weight.astype(np.float32)}
        if not part.text.endswith("nobias"):
            arrays["0.bias"] = part.merged.bias.astype(np.float32)
    return arrays
