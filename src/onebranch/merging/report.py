"""What a merge of anybody's model did, as a value: regions, what was left and why, sizes, proofs, the
check."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from onebranch.graph.merge.linear import Left
from onebranch.graph.merge.rewriting import Merged, MergedRegion


@dataclass(frozen=True)
class Check:
    """Original and merged model on random inputs in [0, 1), in float32.

    sizes: shapes of the first input. error: the largest difference of any output, of the largest number in
    it. allowed: what the error must not exceed, see `merging.check`.
    """

    sizes: tuple[tuple[int, ...], ...]
    error: float
    allowed: float


@dataclass(frozen=True)
class GraphReport:
    """What a merge did. Pairs are (before, after).

    regions: all of two or more linear operations. left: operations that were left, each with why.
    convolutions: in the whole model. parameters: numbers stored in it, statistics of batch normalization
    included. macs: multiply-accumulates of its linear operations at the example's size. notes: what its user
    should know.
    """

    regions: tuple[MergedRegion, ...]
    left: tuple[Left, ...]
    convolutions: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    check: Check | None
    notes: tuple[str, ...] = ()

    @property
    def merged(self) -> tuple[Merged, ...]:
        """Every value that is computed anew."""
        return tuple(done for region in self.regions for done in region.merged)

    @property
    def changed(self) -> bool:
        """Whether anything was merged."""
        return bool(self.merged)

    def summary(self) -> str:
        """One line: convolutions, parameters and MACs before and after, and the proof."""
        if not self.changed:
            return "nothing to merge in this model"
        pictures = sum(done.proof.agreement.pictures for done in self.merged)
        worst = max(done.proof.agreement.error for done in self.merged)
        replaced = sum(len(done.replaces) for done in self.merged)
        return (
            f"{replaced} operations merged into {sum(len(done.steps) for done in self.merged)};"
            f" {_arrow(self.convolutions)} convolutions, {_arrow(self.parameters)} parameters,"
            f" {_arrow(self.macs)} MACs; proven on {pictures:,} pictures, largest difference {worst:.1e}"
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values, but for the weights."""
        return {
            "changed": self.changed,
            "convolutions": list(self.convolutions),
            "parameters": list(self.parameters),
            "macs": list(self.macs),
            "regions": [_region(region) for region in self.regions],
            "left": [_left(left) for left in self.left],
            "check": msgspec.to_builtins(self.check),
            "notes": list(self.notes),
        }


def all_left(outside: Iterable[Left], regions: Iterable[MergedRegion]) -> tuple[Left, ...]:
    """What readers and regions left, in one list."""
    return (*outside, *(left for region in regions for left in region.left))


def _arrow(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} -> {pair[1]:,}"


def _region(region: MergedRegion) -> dict[str, Any]:
    return {
        "name": region.name,
        "inputs": list(region.inputs),
        "outputs": list(region.outputs),
        "operations": list(region.operations),
        "optimal": region.optimal,
        "macs": [region.before.macs, region.after.macs],
        "merged": [
            {
                "value": done.value,
                "replaces": list(done.replaces),
                "into": done.into,
                "proof": msgspec.to_builtins(done.proof),
            }
            for done in region.merged
        ],
        "left": [_left(left) for left in region.left],
    }


def _left(left: Left) -> dict[str, str]:
    return {"name": left.name, "reason": left.reason}
