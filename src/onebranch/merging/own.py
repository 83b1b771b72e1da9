"""Merging a model of onebranch's own: the plan's merge, its proof, and the report."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from onebranch.blocks import plan as plans
from onebranch.blocks.merge import merge_network
from onebranch.blocks.plan import MergePlan
from onebranch.model.catalogue import load
from onebranch.model.file import Model
from onebranch.progress import StepProgress, no_progress
from onebranch.proof.region import Proof
from onebranch.spec.network import macs, parameters
from onebranch.verification import Record, prove_merge


@dataclass(frozen=True)
class Report:
    """The result of a merge: the record in the file, parameters and MACs per pixel as (before, after)."""

    record: Record
    parameters: tuple[int, int]
    macs: tuple[int, int]

    @property
    def changed(self) -> bool:
        """True if anything was merged."""
        return any(block.before != block.after for block in self.record.blocks)

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """The proof of every group of branches that was merged."""
        return tuple(group.proof for block in self.record.blocks for group in block.groups)

    @property
    def worst_basis_error(self) -> float:
        """The largest relative difference on a basis, over all groups; 0 if nothing was merged."""
        return max((proof.basis.error for proof in self.proofs), default=0.0)

    def summary(self) -> str:
        """One line: branches, parameters and MACs per pixel before and after, and the proof."""
        if not self.changed:
            return "nothing to merge under this plan"
        before = sum(len(block.before) for block in self.record.blocks)
        after = sum(len(block.after) for block in self.record.blocks)
        pictures = sum(proof.basis.pictures for proof in self.proofs)
        return (
            f"{before} branches to {after}, {self.parameters[0]:,} parameters to {self.parameters[1]:,},"
            f" {self.macs[0]:,} MACs per pixel to {self.macs[1]:,}; proven on {pictures:,} basis pictures,"
            f" largest difference {self.worst_basis_error:.1e}"
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        record: dict[str, Any] = msgspec.to_builtins(self.record)
        return {**record, "parameters": list(self.parameters), "macs": list(self.macs)}


def merge_model(
    model: Model | str | os.PathLike[str],
    plan: MergePlan | str | os.PathLike[str] | None = None,
    progress: StepProgress = no_progress,
) -> tuple[Model, Report]:
    """The model with the plan's branches merged, a new one, and the report.

    model: a `Model`, a shipped model's name or a file. plan: a `MergePlan` or a TOML file; by default every
    block becomes one convolution. progress: called with the current step and the completed share, which ends
    at 1. Raises OnebranchError where the model cannot be merged, or where a proof
    fails: then there is no result.
    """
    original = model if isinstance(model, Model) else load(model)
    if plan is None:
        plan = MergePlan()
    elif not isinstance(plan, MergePlan):
        plan = plans.read(Path(plan))
    done = merge_network(original.spec, original.weights, plan)
    merged = Model(spec=done.spec, weights=done.weights, name=original.name, recipe=original.recipe)
    record = prove_merge(original, merged, plan, progress)
    report = Report(
        record,
        (parameters(original.spec), parameters(merged.spec)),
        (macs(original.spec), macs(merged.spec)),
    )
    if not report.changed:
        return original, report
    stored: dict[str, Any] = msgspec.to_builtins(record)
    return replace(merged, merge=stored), report
