"""The report of a merge by the graph: regions, unmerged operations, sizes, proofs and the comparison."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from onebranch.graph.merge.linear import Unmerged
from onebranch.graph.merge.rewriting import Merged, MergedRegion


@dataclass(frozen=True)
class Check:
    """The comparison of original and merged model on random inputs in [0, 1).

    sizes: shapes of the first input. error: the largest difference of any output, relative to the largest
    number in it. allowed: the largest error that is accepted, see `merging.check`.
    """

    sizes: tuple[tuple[int, ...], ...]
    error: float
    allowed: float


@dataclass(frozen=True)
class GraphReport:
    """What a merge of a PyTorch module or an ONNX model did. Pairs are (before, after).

    regions: all with two or more linear operations. unmerged: operations that were not merged, each with the
    reason. convolutions: in the whole model. parameters: numbers stored in it, statistics of batch
    normalization included. macs: multiply-accumulates of its linear operations at the example's size. check:
    the comparison of the whole models; None if there was none. notes: remarks for the user. folded: True if
    weights computed from other weights were stored as results. size_limits: one sentence for everything that
    ties the merged model to the sizes of its example, or to the size for which it was exported.
    """

    regions: tuple[MergedRegion, ...]
    unmerged: tuple[Unmerged, ...]
    convolutions: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    check: Check | None
    notes: tuple[str, ...] = ()
    folded: bool = False
    size_limits: tuple[str, ...] = ()

    @property
    def merged(self) -> tuple[Merged, ...]:
        """Every value that is computed by new operations."""
        return tuple(done for region in self.regions for done in region.merged)

    @property
    def changed(self) -> bool:
        """True if anything was merged or folded."""
        return bool(self.merged) or self.folded

    def summary(self) -> str:
        """One line: limits of its size, convolutions, parameters and MACs before and after, and the proof."""
        return "; ".join((*self.size_limits, self._counts()))

    def _counts(self) -> str:
        if not self.changed:
            return "nothing to merge in this model"
        if not self.merged:
            return (
                f"nothing to merge; {_arrow(self.convolutions)} convolutions,"
                f" {_arrow(self.parameters)} parameters: weights computed from other weights were stored"
            )
        pictures = sum(done.proof.agreement.pictures for done in self.merged)
        worst = max(done.proof.agreement.error for done in self.merged)
        replaced = sum(len(done.replaces) for done in self.merged)
        return (
            f"{replaced} operations merged into {sum(len(done.steps) for done in self.merged)};"
            f" {_arrow(self.convolutions)} convolutions, {_arrow(self.parameters)} parameters,"
            f" {_arrow(self.macs)} MACs; proven on {pictures:,} pictures, largest difference {worst:.1e}"
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, without the weights."""
        return {
            "size_limits": list(self.size_limits),
            "changed": self.changed,
            "convolutions": list(self.convolutions),
            "parameters": list(self.parameters),
            "macs": list(self.macs),
            "regions": [_region(region) for region in self.regions],
            "unmerged": [_unmerged(entry) for entry in self.unmerged],
            "check": msgspec.to_builtins(self.check),
            "notes": list(self.notes),
        }


def all_unmerged(outside: Iterable[Unmerged], regions: Iterable[MergedRegion]) -> tuple[Unmerged, ...]:
    """The unmerged operations of the reader and of all regions."""
    return (*outside, *(entry for region in regions for entry in region.unmerged))


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
        "unmerged": [_unmerged(entry) for entry in region.unmerged],
    }


def _unmerged(entry: Unmerged) -> dict[str, str]:
    return {"name": entry.name, "reason": entry.reason}
