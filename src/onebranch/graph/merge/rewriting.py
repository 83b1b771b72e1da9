"""The merge of anybody's model: regions found, the cheapest choice made for each, written, and proven.

It knows neither architectures nor file formats. A reader hands over the linear operations of a model, a
writer puts the replacements in their place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from onebranch.graph.merge.choice import Choice, Forms, Kept, cheapest, choose, fewest
from onebranch.graph.merge.cost import Cost, cost_of_form, cost_of_step
from onebranch.graph.merge.emission import written
from onebranch.graph.merge.evidence import prove, rounded
from onebranch.graph.merge.form import Form
from onebranch.graph.merge.linear import Convolve, Left, LinearGraph, Plane, Scale, Step, Sum
from onebranch.graph.merge.region import Region, regions, simplified
from onebranch.graph.merge.window import Inexact
from onebranch.proof.affine import AffineProof
from onebranch.proof.rounding import RoundingError


@dataclass(frozen=True)
class Rules:
    """How to merge. force: whatever can be merged is, cheaper or not. proof: "auto" or "full".

    border_maps: whether a bias that differs at the borders may be written as a convolution of a plane of
    ones.
    """

    force: bool = False
    proof: str = "auto"
    border_maps: bool = False


@dataclass(frozen=True)
class Merged:
    """A value that is computed anew. replaces: the operations that it stands for; into: the new ones in
    words.

    steps: how it is computed, numbers in the precision in which they are stored.
    """

    value: str
    replaces: tuple[str, ...]
    into: str
    proof: AffineProof
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class MergedRegion:
    """A region: what was merged in it, and what was left, with why. optimal: no choice is cheaper."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[str, ...]
    merged: tuple[Merged, ...]
    left: tuple[Left, ...]
    removed: tuple[str, ...]
    optimal: bool
    before: Cost
    after: Cost


def merge_regions(graph: LinearGraph, rules: Rules) -> tuple[MergedRegion, ...]:
    """Every region of two operations or more, merged where that pays, and proven.

    Raises OnebranchError where a proof fails.
    """
    simple = simplified(graph)
    return tuple(_merged(region, simple, rules) for region in regions(simple) if len(region.steps) > 1)


def _merged(region: Region, graph: LinearGraph, rules: Rules) -> MergedRegion:
    forms = Forms(region.steps, graph.planes, rules.border_maps, split=rules.force)
    order = fewest if rules.force else cheapest
    done: dict[Kept, Merged] = {}
    while True:
        choices = [choose(part, graph.planes, graph.kept, forms, order) for part in region.parts]
        kept = [found for choice in choices for found in choice.kept]
        missing = [found for found in kept if found.frontier and found not in done]
        if not missing:
            break
        for found in missing:
            try:
                done[found] = _replaced(found, region, forms, graph, rules)
            except RoundingError as error:  # left, and chosen again without it
                forms.refuse(found.value, found.frontier or frozenset(), str(error))
    merged = tuple(done[found] for found in kept if found.frontier)
    computed = {found.value for found in kept}
    return MergedRegion(
        name=region.steps[-1].value,
        inputs=region.inputs,
        outputs=region.outputs,
        operations=tuple(step.value for step in region.steps),
        merged=merged,
        left=_left(region, choices, forms, graph.planes),
        removed=tuple(step.value for step in region.steps if step.value not in computed),
        optimal=all(choice.optimal for choice in choices),
        before=sum((cost_of_step(step, graph.planes) for step in region.steps), Cost()),
        after=sum((choice.cost for choice in choices), Cost()),
    )


def _replaced(found: Kept, region: Region, forms: Forms, graph: LinearGraph, rules: Rules) -> Merged:
    assert found.frontier is not None, "it is not computed by its own operation"
    form = forms.final(found.value, found.frontier)
    steps = written(form, found.value, graph.names)
    proof = prove(region.steps, steps, form, found.value, graph.planes, rules.proof)
    stored = tuple(rounded(step, graph.planes[found.value].precision) for step in steps)
    inner = _between(region, found)
    return Merged(found.value, inner, described(form, steps), proof, stored)


def _between(region: Region, found: Kept) -> tuple[str, ...]:
    """The operations that a replaced value stands for, itself included."""
    by_value = {step.value: step for step in region.steps}
    wanted, names = [found.value], set[str]()
    while wanted:
        name = wanted.pop()
        if name in by_value and name not in names and name not in (found.frontier or ()):
            names.add(name)
            wanted += by_value[name].inputs
    return tuple(step.value for step in region.steps if step.value in names)


def described(form: Form, steps: tuple[Step, ...]) -> str:
    """The new operations in words, such as "3x3 convolution 16 -> 16"."""
    words = []
    for step in steps:
        operation = step.operation
        if isinstance(operation, Convolve):
            k, l = operation.weight.shape[2:]
            inputs, outputs = operation.weight.shape[1] * operation.groups, len(operation.weight)
            kind = "convolution" if operation.groups == 1 else f"convolution in {operation.groups} groups"
            apart = f", dilation {max(operation.dilations)}" if max(operation.dilations) > 1 else ""
            stride = f", stride {max(operation.strides)}" if max(operation.strides) > 1 else ""
            words.append(f"{k}x{l} {kind} {inputs} -> {outputs}{apart}{stride}")
        elif isinstance(operation, Scale):
            words.append(f"scale and shift of {form.channels} channels")
        elif isinstance(operation, Sum):
            words.append(f"sum of {len(operation.signs)}")
    return " + ".join(words) or "its input"


def _left(
    region: Region, choices: list[Choice], forms: Forms, planes: Mapping[str, Plane]
) -> tuple[Left, ...]:
    """Operations that still read a value of the region instead of being one with it, and why."""
    computed = {found.value: found for choice in choices for found in choice.kept}
    needed = {name for choice in choices for found in choice.kept for name in _read(found, region)}
    found = []
    for step in region.steps:
        own = computed.get(step.value)
        inner = [name for name in _read(own, region) if name in computed]
        if own is None or not inner or (step.value not in needed and step.value not in region.outputs):
            continue
        found.append(Left(step.value, _reason(step, inner, region, forms, planes, computed)))
    return tuple(found)


def _read(found: Kept | None, region: Region) -> tuple[str, ...]:
    """Which values a kept value reads."""
    if found is None:
        return ()
    if found.frontier is not None:
        return tuple(found.frontier)
    return next(step.inputs for step in region.steps if step.value == found.value)


def _reason(
    step: Step,
    inner: list[str],
    region: Region,
    forms: Forms,
    planes: Mapping[str, Plane],
    computed: Mapping[str, Kept],
) -> str:
    """Why a value is not one with the kept values that it reads: outputs, no exact form, or cost."""
    reasons = []
    for name in inner:
        if name in region.outputs:
            reasons.append(f"'{name}' is also read elsewhere")
            continue
        own = computed[name]
        beyond = set(_read(own, region))
        frontier = (set(_read(computed[step.value], region)) - {name}) | beyond
        try:
            reached = forms.reached(step.value, frozenset(frontier))
            merged = cost_of_form(forms.final(step.value, reached), step.value, planes)
        except Inexact as reason:
            reasons.append(str(reason))
            continue
        apart = _cost(own, region, forms, planes) + _cost(computed[step.value], region, forms, planes)
        if merged.macs < apart.macs:
            reasons.append(f"'{name}' is needed by several operations; one with each of them costs more")
        else:
            reasons.append(
                f"one with '{name}' costs {merged.macs:,} MACs, no less than both ({apart.macs:,})"
            )
    return "; ".join(dict.fromkeys(reasons))


def _cost(found: Kept, region: Region, forms: Forms, planes: Mapping[str, Plane]) -> Cost:
    if found.frontier is None:
        return cost_of_step(next(s for s in region.steps if s.value == found.value), planes)
    return cost_of_form(forms.final(found.value, found.frontier), found.value, planes)
