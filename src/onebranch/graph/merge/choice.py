"""The choice of the values of a region that are materialized; the others disappear into convolutions.

A materialized value is computed and stored: by its own operation where everything that it reads is
materialized, otherwise from its affine form in the nearest materialized values before it (its sources).

The search is a dynamic programme over the operations in order. Its state holds, for every value that a later
operation still reads, the sources of that value. The sources determine all later costs, so the choice is
optimal over all sets of materialized values, for chains, series-parallel and any other regions. If there are
more than `MAX_STATES` states, only the cheapest are kept, and the choice is not reported as optimal.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from onebranch.graph.merge.affine_form import (
    AffineForm,
    apply,
    convolution_count,
    effective_terms,
    source,
    without_border,
)
from onebranch.graph.merge.cost import Cost, cost_of_form, cost_of_step, lower_bounds
from onebranch.graph.merge.linear import Average, Convolve, Plane, Step
from onebranch.graph.merge.window import Inexact

MAX_STATES = 1000
"""The largest number of states that the search keeps; of more states it keeps the cheapest."""

NARROW_STATES = 64
"""States of the first, narrow search, whose result bounds the costs of the wide one."""

Sources = frozenset[str]
"""Names of the materialized values (or region inputs) that a value is a function of."""

Order = Callable[[Cost], tuple[int, ...]]
"""The key by which costs are compared; lower is better."""


def cheapest(cost: Cost) -> tuple[int, ...]:
    """Compare multiply-accumulates, then traffic, then operations; ties keep the original operation."""
    return cost.macs, cost.traffic, cost.operations, cost.changes


def fewest(cost: Cost) -> tuple[int, ...]:
    """Compare operations first: everything that can be merged is merged."""
    return cost.operations, cost.macs, cost.traffic, cost.changes


def penalized(order: Order, macs_per_convolution: int) -> Order:
    """The order with a penalty for every convolution, in units of the order's first entry."""

    def key(cost: Cost) -> tuple[int, ...]:
        first, *rest = order(cost)
        return first + macs_per_convolution * cost.convolutions, cost.convolutions, *rest

    return key


@dataclass(frozen=True)
class Materialized:
    """A value that is computed from its affine form in `sources`, or by its operation if that is None."""

    value: str
    sources: Sources | None


@dataclass(frozen=True)
class Choice:
    """The materialized values in an order in which they can be computed, and their cost.

    optimal: True if no choice is cheaper.
    """

    materialized: tuple[Materialized, ...]
    cost: Cost
    optimal: bool


@dataclass(frozen=True)
class _State:
    """The cost so far, the value that was materialized last, and the state before it."""

    cost: Cost
    last: tuple[Materialized | None, "_State | None"] = (None, None)


StateKey = tuple[tuple[str, Sources], ...]
"""The sources of every value that is still read, ordered by the value's name."""


class AffineForms:
    """The affine forms of a region's values, each computed once for every set of sources.

    border_maps: True if a form may need a border map. split: True if a convolution of a sum of several values
    may become one convolution of each value: this takes more convolutions and additions, although it may take
    fewer multiply-accumulates.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        planes: Mapping[str, Plane],
        border_maps: bool,
        split: bool = False,
    ) -> None:
        self.steps = {step.value: step for step in steps}
        self.planes, self.border_maps, self.split = planes, border_maps, split
        self._known: dict[tuple[str, Sources], AffineForm | Inexact] = {}
        self._reached: dict[tuple[str, Sources], Sources] = {}
        self._refused: dict[tuple[str, Sources], str] = {}

    def refuse(self, value: str, sources: Sources, reason: str) -> None:
        """From now on, do not compute the value from its form in these sources."""
        self._refused[value, sources] = reason

    def of(self, value: str, sources: Sources) -> AffineForm:
        """The affine form of a value in these sources. Raises Inexact where there is none."""
        key = value, sources
        if key not in self._known:
            self._known[key] = self._form_or_reason(value, sources)
        affine_form = self._known[key]
        if isinstance(affine_form, Inexact):
            raise affine_form
        return affine_form

    def final(self, value: str, sources: Sources) -> AffineForm:
        """The form as it can be computed: without a border, in at most as many convolutions as it replaces.

        Raises Inexact where there is none.
        """
        if (value, sources) in self._refused:
            raise Inexact(self._refused[value, sources])
        affine_form = self._allowed(without_border(self.of(value, sources)))
        count, replaced = convolution_count(affine_form), self._convolutions_between(sources, value)
        if count > max(1, replaced):
            raise Inexact(f"it would take {count} convolutions to replace {replaced}")
        return affine_form

    def reached(self, value: str, sources: Sources) -> Sources:
        """The sources among these that the value is a function of, or the region inputs before them."""
        if value in sources or value not in self.steps:
            return frozenset((value,))
        if (value, sources) not in self._reached:
            inputs = self.steps[value].inputs
            reached = frozenset[str]().union(*(self.reached(name, sources) for name in inputs))
            self._reached[value, sources] = reached
        return self._reached[value, sources]

    def _convolutions_between(self, sources: Sources, value: str) -> int:
        """The number of convolutions on the paths from the sources to the value."""
        pending, between = [value], set[str]()
        while pending:
            name = pending.pop()
            if name in self.steps and name not in sources and name not in between:
                between.add(name)
                pending += self.steps[name].inputs
        return sum(isinstance(self.steps[name].operation, Convolve | Average) for name in between)

    def _form_or_reason(self, value: str, sources: Sources) -> AffineForm | Inexact:
        if value in sources or value not in self.steps:
            return source(value, self.planes[value].channels)
        step = self.steps[value]
        try:
            inputs = [self.of(name, self.reached(name, sources)) for name in step.inputs]
            convolves = isinstance(step.operation, Convolve | Average)
            if convolves and not self.split and _source_count(inputs[0]) > 1:
                raise Inexact("a convolution of a sum of values is not split into one for each value")
            return self._allowed(apply(step.operation, inputs))
        except Inexact as reason:
            return reason

    def _allowed(self, affine_form: AffineForm) -> AffineForm:
        if affine_form.needs_border_map and not self.border_maps:
            raise Inexact("a bias before zero padding would need a border map (allow it with --border-maps)")
        return affine_form


def _source_count(affine_form: AffineForm) -> int:
    """The number of values that the form is a function of."""
    return sum(not key.ones for key in effective_terms(affine_form))


def choose(
    steps: Sequence[Step],
    planes: Mapping[str, Plane],
    required: Sources,
    affine_forms: AffineForms,
    order: Order = cheapest,
    states: int = MAX_STATES,
) -> Choice:
    """The cheapest choice for a region; steps in an order in which they can run.

    required: values that are read outside of the region and must be materialized. A narrow search comes
    first; the wide search drops every state that cannot end at or below the cost of the narrow one's result.
    """
    search = _ChoiceSearch(steps, planes, required, affine_forms, order)
    narrow = search.run(min(NARROW_STATES, states), None)
    if narrow.optimal:
        return narrow
    return search.run(states, narrow.cost)


@dataclass(frozen=True)
class _ChoiceSearch:
    """The dynamic programme over the operations of one region."""

    steps: Sequence[Step]
    planes: Mapping[str, Plane]
    required: Sources
    affine_forms: AffineForms
    order: Order

    def run(self, max_states: int, bound: Cost | None) -> Choice:
        """The cheapest choice that follows at most `max_states` states and costs at most `bound`."""
        readers = Counter(name for step in self.steps for name in step.inputs)
        states: dict[StateKey, _State] = {(): _State(Cost())}
        optimal = True
        for step, remaining in zip(self.steps, self._remaining_costs(), strict=True):
            readers.subtract(step.inputs)
            states = self._after(step, states, readers, partial(self._within, remaining, bound))
            if len(states) > max_states:
                optimal, states = False, self._best(states, max_states)
        best = min(states.values(), key=lambda state: self.order(state.cost))
        return Choice(_history(best), best.cost, optimal)

    def _within(self, remaining: Cost, bound: Cost | None, cost: Cost) -> bool:
        """Return True if a state of this cost can still end at the bound or below."""
        return bound is None or self.order(cost + remaining) <= self.order(bound)

    def _remaining_costs(self) -> list[Cost]:
        """For every operation: a lower bound of the cost of the required values after it."""
        bounds = lower_bounds(self.steps, self.planes)
        remaining = [Cost()]
        for step in reversed(self.steps[1:]):
            last = remaining[-1]
            remaining.append(last + bounds[step.value] if step.value in self.required else last)
        return remaining[::-1]

    # Worked example. The region is a = conv 3x3 (x), b = conv 1x1 (a), required: b; 16 channels, 100 pixels.
    # Before `a` there is one state: {} at cost 0 (x is a region input, so it needs no entry).
    # After `a`, which `b` still reads:
    #     (a: {a})  a is materialized by its own operation           16 * 16 * 9 * 100 = 230,400 MACs
    #     (a: {x})  a is not computed; it stays a form in x                             0 MACs
    # After `b`, which nothing in the region reads any more, so that the key is empty again:
    #     from (a: {a})  b by its own operation                      230,400 + 16 * 16 * 100 = 256,000 MACs
    #     from (a: {x})  b from its form, one 3x3 convolution of x                      230,400 MACs
    # Both have the key (), so only the second, cheaper one is kept: b = conv 3x3 (x), a disappears.
    def _after(
        self,
        step: Step,
        states: Mapping[StateKey, _State],
        readers: Mapping[str, int],
        within: Callable[[Cost], bool],
    ) -> dict[StateKey, _State]:
        """The states after one more operation; of the states with the same key, the cheapest."""
        after: dict[StateKey, _State] = {}
        for key, state in states.items():
            known = dict(key)
            reads = {name: known.get(name, frozenset((name,))) for name in step.inputs}
            still_read = {name: sources for name, sources in key if readers[name]}
            for sources, extended in self._extensions(step, reads, state):
                if not within(extended.cost):
                    continue
                if readers[step.value]:
                    still_read[step.value] = sources
                new_key = tuple(sorted(still_read.items(), key=lambda item: item[0]))
                if new_key not in after or self.order(extended.cost) < self.order(after[new_key].cost):
                    after[new_key] = extended
        return after

    def _extensions(
        self, step: Step, reads: Mapping[str, Sources], state: _State
    ) -> Iterator[tuple[Sources, _State]]:
        """The ways to treat one more operation: materialize its value (by itself or from its form), or not.

        Yields the sources of the value and the new state.
        """
        sources = frozenset[str]().union(*reads.values())
        materialized = self._materialized(step, reads, sources)
        if materialized is not None:
            entry, cost = materialized
            yield frozenset((step.value,)), _State(state.cost + cost, (entry, state))
        if step.value not in self.required and self._has_form(step.value, sources):
            yield sources, state

    def _materialized(
        self, step: Step, reads: Mapping[str, Sources], sources: Sources
    ) -> tuple[Materialized, Cost] | None:
        """The materialization of the step's value and its cost; None if there is no exact one."""
        if all(read == {name} for name, read in reads.items()):
            return Materialized(step.value, None), cost_of_step(step, self.planes)
        try:
            cost = cost_of_form(self.affine_forms.final(step.value, sources), step.value, self.planes)
        except Inexact:
            return None
        return Materialized(step.value, sources), cost

    def _has_form(self, value: str, sources: Sources) -> bool:
        try:
            self.affine_forms.of(value, sources)
        except Inexact:
            return False
        return True

    def _best(self, states: Mapping[StateKey, _State], count: int) -> dict[StateKey, _State]:
        """The cheapest states, and the one that materializes every value: it can always be continued."""
        ranked = sorted(states.items(), key=lambda item: self.order(self._estimate(*item)))
        safe = [item for item in ranked[count:] if all(sources == {name} for name, sources in item[0])]
        return dict(ranked[:count] + safe)

    def _estimate(self, key: StateKey, state: _State) -> Cost:
        """The cost if every value that is still read were materialized now."""
        total = state.cost
        for value, sources in key:
            if sources != {value}:
                try:
                    total += cost_of_form(self.affine_forms.final(value, sources), value, self.planes)
                except Inexact:
                    total += Cost(macs=self.planes[value].channels * self.planes[value].pixels)
        return total


def _history(state: _State) -> tuple[Materialized, ...]:
    """Everything that was materialized on the way to the state, in order."""
    entries: list[Materialized] = []
    last, before = state.last
    while last is not None and before is not None:
        entries.append(last)
        last, before = before.last
    return tuple(reversed(entries))
