"""The merge of a model's linear operations: regions, the cheapest choice for each, new operations, proofs.

It does not depend on architectures or file formats. A reader returns the linear operations of a model, and a
writer replaces them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onebranch.graph.merge.affine_form import AffineForm
from onebranch.graph.merge.choice import (
    AffineForms,
    Choice,
    Materialized,
    Order,
    cheapest,
    choose,
    fewest,
    penalized,
)
from onebranch.graph.merge.cost import Cost, cost_of_form, cost_of_step
from onebranch.graph.merge.emission import written
from onebranch.graph.merge.evidence import prove, rounded
from onebranch.graph.merge.linear import Convolve, LinearGraph, Pass, Plane, Scale, Step, Sum, Unmerged
from onebranch.graph.merge.region import Region, regions, simplified
from onebranch.graph.merge.window import Inexact
from onebranch.progress import StepProgress, named, never_falling, no_progress, part_of
from onebranch.proof.affine import AffineProof
from onebranch.proof.rounding import RoundingError

MIN_SAVED_MACS = 0.1
"""Part of a model's MACs that a merge must save before it may raise the model's number of convolutions."""

CHOICE_SHARE = 0.1
"""Share of the work that choosing takes, about; proving takes the rest."""

PENALTIES = (1, 16, 256)
"""Penalties of a convolution, in 256ths of the region's cost, with which a region is chosen again."""


@dataclass(frozen=True)
class Rules:
    """How to merge.

    force: merge everything that can be merged, cheaper or not. proof: "auto" or "full". border_maps: allow a
    bias that differs at the borders, written as a convolution of a plane of ones.
    """

    force: bool = False
    proof: str = "auto"
    border_maps: bool = False


@dataclass(frozen=True)
class Merged:
    """A value that is computed by new operations.

    replaces: names of the operations that they replace. into: a description of the new operations. steps: the
    new operations, with numbers in the precision in which they are stored.
    """

    value: str
    replaces: tuple[str, ...]
    into: str
    proof: AffineProof
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class MergedRegion:
    """A region, what was merged in it, and what was not, with the reasons.

    operations: names of all its operations. removed: values that are no longer computed. optimal: True if no
    choice is cheaper. before, after: costs at the example's size.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[str, ...]
    merged: tuple[Merged, ...]
    unmerged: tuple[Unmerged, ...]
    removed: tuple[str, ...]
    optimal: bool
    before: Cost
    after: Cost


def merge_regions(
    graph: LinearGraph, rules: Rules, progress: StepProgress = no_progress
) -> tuple[MergedRegion, ...]:
    """The regions of two or more operations, merged where that reduces the cost, and proven.

    progress: called with the current step and the completed share, which ends at 1. Raises OnebranchError
    where a proof fails.
    """
    report = never_falling(progress)
    searches = _choices(graph, rules, part_of(report, 0, CHOICE_SHARE))
    macs = sum(cost_of_step(step, graph.planes).macs for step in graph.steps)
    _limit_convolutions(searches, macs)
    while _prove_all(searches, part_of(report, CHOICE_SHARE, 1)):
        _limit_convolutions(searches, macs)
    report("regions are merged", 1)
    return tuple(search.result() for search in searches)


def _choices(graph: LinearGraph, rules: Rules, progress: StepProgress) -> list["_RegionSearch"]:
    """The choice for every region of two or more operations."""
    simple = simplified(graph)
    large = [region for region in regions(simple) if len(region.steps) > 1]
    searches = []
    for number, region in enumerate(large, 1):
        searches.append(_RegionSearch(region, simple, rules))
        progress(f"choosing, region {number} of {len(large)}", number / len(large))
    return searches


def _prove_all(searches: Sequence["_RegionSearch"], progress: StepProgress) -> bool:
    """Prove every region. Returns True if the choice for one of them was made again."""
    work = [search.proof_work for search in searches]
    done, total, again = 0.0, sum(work), False
    for number, (search, size) in enumerate(zip(searches, work, strict=True), 1):
        region = part_of(progress, done / total, (done + size) / total)
        again |= search.prove(named(region, f"proving region {number} of {len(searches)}"))
        done += size
        progress(f"proved region {number} of {len(searches)}", done / total)
    return again


def _limit_convolutions(searches: Sequence["_RegionSearch"], macs: int) -> None:
    """Choose again for regions with more convolutions than before, if they save too little.

    The model may have more convolutions than before only if the merge saves a tenth of its MACs. Otherwise
    the choice for every region that would have more is made again so that it has no more than before.
    """
    added = sum(search.after.convolutions - search.before.convolutions for search in searches)
    saved = sum(search.before.macs - search.after.macs for search in searches)
    if added > 0 and saved < MIN_SAVED_MACS * macs:
        for search in searches:
            if search.after.convolutions > search.before.convolutions:
                search.limit_convolutions()


class _RegionSearch:
    """The choice for one region, and the proofs of the values that are computed anew."""

    def __init__(self, region: Region, graph: LinearGraph, rules: Rules) -> None:
        self.region, self.graph, self.rules = region, graph, rules
        self.affine_forms = AffineForms(region.steps, graph.planes, rules.border_maps, split=rules.force)
        self.order: Order = fewest if rules.force else cheapest
        self.merged: dict[Materialized, Merged] = {}
        self.choices: list[Choice] = []
        self.choose()

    def choose(self) -> None:
        """Choose the materialized values of every part of the region."""
        planes, required = self.graph.planes, self.graph.required
        self.choices = [
            choose(part, planes, required, self.affine_forms, self.order) for part in self.region.parts
        ]

    @property
    def materialized(self) -> list[Materialized]:
        """The materialized values, in an order in which they can be computed."""
        return [entry for choice in self.choices for entry in choice.materialized]

    @property
    def before(self) -> Cost:
        """The cost of the region's own operations."""
        return sum((cost_of_step(step, self.graph.planes) for step in self.region.steps), Cost())

    @property
    def after(self) -> Cost:
        """The cost of the choice."""
        return sum((choice.cost for choice in self.choices), Cost())

    def limit_convolutions(self) -> None:
        """Choose again so that the region has no more convolutions than before.

        Convolutions get a growing penalty; the last resort is to keep every operation as it is.
        """
        order, unit = self.order, sum(self.order(self.before)[:1])
        for penalty in PENALTIES:
            self.order = penalized(order, -(-unit * penalty // PENALTIES[-1]))
            self.choose()
            if self.after.convolutions <= self.before.convolutions:
                return
        kept = tuple(Materialized(step.value, None) for step in self.region.steps)
        self.choices = [Choice(kept, self.before, optimal=False)]

    @property
    def proof_work(self) -> float:
        """The work of the region's proofs, in weights of its operations."""
        weights = [
            step.operation.weight.size for step in self.region.steps if isinstance(step.operation, Convolve)
        ]
        return 1.0 + sum(weights) * len(self._unproven())

    def _unproven(self) -> list[Materialized]:
        """The values that are computed from their forms and not proven yet."""
        return [e for e in self.materialized if e.sources is not None and e not in self.merged]

    def prove(self, progress: StepProgress) -> bool:
        """Write and prove every value that is computed from its form.

        If rounding the new weights of a form loses too much, the choice for the region is made again without
        that form. Returns True if it was made again.
        """
        refused, unproven = False, self._unproven()
        for number, entry in enumerate(unproven):
            assert entry.sources is not None, "it is computed from its form"
            value = part_of(progress, number / len(unproven), (number + 1) / len(unproven))
            try:
                self.merged[entry] = self._replacement(entry, value)
            except RoundingError as error:
                self.affine_forms.refuse(entry.value, entry.sources, str(error))
                refused = True
        if refused:
            self.choose()
        return refused

    def _replacement(self, entry: Materialized, progress: StepProgress) -> Merged:
        assert entry.sources is not None, "it is computed by its own operation"
        planes, names = self.graph.planes, self.graph.names
        affine_form = self.affine_forms.final(entry.value, entry.sources)
        steps = written(affine_form, entry.value, names)
        rule = self.rules.proof
        proof = prove(self.region.steps, steps, affine_form, entry.value, planes, rule, progress)
        stored = tuple(rounded(step, planes[entry.value].precision) for step in steps)
        return Merged(entry.value, _between(self.region, entry), described(affine_form, steps), proof, stored)

    def result(self) -> MergedRegion:
        """The result for the region; `prove` must be called first."""
        computed = {entry.value for entry in self.materialized}
        steps = self.region.steps
        return MergedRegion(
            name=steps[-1].value,
            inputs=self.region.inputs,
            outputs=self.region.outputs,
            operations=tuple(step.value for step in steps),
            merged=tuple(self.merged[entry] for entry in self.materialized if entry.sources is not None),
            unmerged=_unmerged(self.region, self.materialized, self.affine_forms, self.graph.planes),
            removed=tuple(step.value for step in steps if step.value not in computed),
            optimal=all(choice.optimal for choice in self.choices),
            before=self.before,
            after=self.after,
        )


def _between(region: Region, entry: Materialized) -> tuple[str, ...]:
    """The operations between the sources and the value, its own included, in the region's order."""
    by_value = {step.value: step for step in region.steps}
    pending, names = [entry.value], set[str]()
    while pending:
        name = pending.pop()
        if name in by_value and name not in names and name not in (entry.sources or ()):
            names.add(name)
            pending += by_value[name].inputs
    return tuple(step.value for step in region.steps if step.value in names)


def described(affine_form: AffineForm, steps: Sequence[Step]) -> str:
    """A description of the new operations, such as "3x3 convolution 16 -> 16"."""
    words = []
    for step in steps:
        operation = step.operation
        if isinstance(operation, Convolve):
            words.append(_described_convolution(operation))
        elif isinstance(operation, Scale):
            words.append(f"scale and shift of {affine_form.channels} channels")
        elif isinstance(operation, Sum):
            words.append(f"sum of {len(operation.signs)}")
    return " + ".join(words) or "its input"


def _described_convolution(operation: Convolve) -> str:
    k, l = operation.weight.shape[2:]
    inputs, outputs = operation.weight.shape[1] * operation.groups, len(operation.weight)
    kind = "convolution" if operation.groups == 1 else f"convolution in {operation.groups} groups"
    dilation = f", dilation {max(operation.dilations)}" if max(operation.dilations) > 1 else ""
    stride = f", stride {max(operation.strides)}" if max(operation.strides) > 1 else ""
    return f"{k}x{l} {kind} {inputs} -> {outputs}{dilation}{stride}"


def _unmerged(
    region: Region,
    materialized: Sequence[Materialized],
    affine_forms: AffineForms,
    planes: Mapping[str, Plane],
) -> tuple[Unmerged, ...]:
    """The operations that still read another value of the region instead of being merged with it, and why."""
    reasons = _Reasons(region, materialized, affine_forms, planes)
    read = {name for entry in materialized for name in reasons.reads(entry)}
    unmerged = []
    for step in region.steps:
        entry = reasons.computed.get(step.value)
        if entry is None or not (step.value in read or step.value in region.outputs):
            continue
        if isinstance(step.operation, Pass):
            continue  # an identity that is kept costs nothing
        inner = [name for name in reasons.reads(entry) if name in reasons.computed]
        if inner:
            unmerged.append(Unmerged(step.value, reasons.text(step.value, inner)))
    return tuple(unmerged)


class _Reasons:
    """Why values of a region are not merged with the materialized values that they read."""

    def __init__(
        self,
        region: Region,
        materialized: Sequence[Materialized],
        affine_forms: AffineForms,
        planes: Mapping[str, Plane],
    ) -> None:
        self.region, self.affine_forms, self.planes = region, affine_forms, planes
        self.steps = {step.value: step for step in region.steps}
        self.computed = {entry.value: entry for entry in materialized}

    def reads(self, entry: Materialized) -> tuple[str, ...]:
        """The values that a materialized value reads, always in the same order."""
        return self.steps[entry.value].inputs if entry.sources is None else tuple(sorted(entry.sources))

    def text(self, value: str, inner: Sequence[str]) -> str:
        """The reasons why the value is not merged with each of the inner values that it reads."""
        return "; ".join(dict.fromkeys(self._reason(value, name) for name in inner))

    def _reason(self, value: str, name: str) -> str:
        """A reason: the inner value is read elsewhere, there is no exact form, or the cost does not fall."""
        if name in self.region.outputs:
            return f"'{name}' is also read elsewhere"
        entry, inner = self.computed[value], self.computed[name]
        sources = (set(self.reads(entry)) - {name}) | set(self.reads(inner))
        try:
            reached = self.affine_forms.reached(value, frozenset(sources))
            merged = cost_of_form(self.affine_forms.final(value, reached), value, self.planes)
        except Inexact as reason:
            return str(reason)
        separate = self._cost(inner) + self._cost(entry)
        if merged.macs < separate.macs:
            return f"'{name}' is read by several operations; merging it into each of them costs more"
        return f"merged with '{name}' it costs {merged.macs:,} MACs, not less than both ({separate.macs:,})"

    def _cost(self, entry: Materialized) -> Cost:
        if entry.sources is None:
            return cost_of_step(self.steps[entry.value], self.planes)
        return cost_of_form(self.affine_forms.final(entry.value, entry.sources), entry.value, self.planes)
