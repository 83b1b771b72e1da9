"""Which inner values of a region are kept and which disappear into convolutions: the cheapest choice.

A kept value is computed by its own operation where everything that it reads is kept, else from its form in
the nearest kept values before it. A dynamic programme walks the operations in order; its state is, for every
value that is still needed, the kept values that it is a function of. That determines all later cost, so the
choice is optimal over all sets of kept values, for chains, series-parallel and any other regions, unless
there were more states than `STATES`: then it is the best found.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from onebranch.graph.merge.cost import Cost, cost_of_form, cost_of_step, least_costs
from onebranch.graph.merge.form import Form, apply, convolutions, effective, settled, source
from onebranch.graph.merge.linear import Average, Convolve, Plane, Step
from onebranch.graph.merge.window import Inexact

STATES = 1000
"""States that are followed at once; beyond them the cheapest are, and the choice is no longer called
optimal."""

NARROW = 64
"""States of the first, narrow search."""

Frontier = frozenset[str]
"""The kept values that a value is a function of."""

Order = Callable[[Cost], tuple[int, ...]]
"""What a cost is compared by."""


def cheapest(cost: Cost) -> tuple[int, ...]:
    """Multiply-accumulates, then traffic, then operations; what is equal stays as it was."""
    return cost.macs, cost.traffic, cost.operations, cost.changes


def fewest(cost: Cost) -> tuple[int, ...]:
    """Operations first: whatever can be merged is."""
    return cost.operations, cost.macs, cost.traffic, cost.changes


@dataclass(frozen=True)
class Kept:
    """A value that is computed: from its form in `frontier`, or (None) by its own operation."""

    value: str
    frontier: Frontier | None


@dataclass(frozen=True)
class Choice:
    """Kept values in an order in which they can be computed, what they cost, and whether nothing is
    cheaper."""

    kept: tuple[Kept, ...]
    cost: Cost
    optimal: bool


@dataclass(frozen=True)
class _State:
    cost: Cost
    kept: tuple[Kept | None, "_State | None"] = (None, None)


Key = tuple[tuple[str, Frontier], ...]


class Forms:
    """Forms of a region's values, each worked out once for every frontier that it is asked for.

    border_maps: whether a form may need one. split: whether a convolution of several values may become one of
    each; that takes more convolutions and additions, although it may take fewer multiply-accumulates.
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
        self._known: dict[tuple[str, Frontier], Form | Inexact] = {}
        self._reached: dict[tuple[str, Frontier], Frontier] = {}
        self._refused: dict[tuple[str, Frontier], str] = {}

    def refuse(self, value: str, frontier: Frontier, reason: str) -> None:
        """From now on, the value cannot be computed from its form in this frontier."""
        self._refused[value, frontier] = reason

    def of(self, value: str, frontier: Frontier) -> Form:
        """The form of a value in these kept values. Raises Inexact where it has none."""
        key = value, frontier
        if key not in self._known:
            self._known[key] = self._worked_out(value, frontier)
        found = self._known[key]
        if isinstance(found, Inexact):
            raise found
        return found

    def final(self, value: str, frontier: Frontier) -> Form:
        """The form as it can be computed: without a frame, in at most as many convolutions as it replaces.

        Raises Inexact.
        """
        if (value, frontier) in self._refused:
            raise Inexact(self._refused[value, frontier])
        form = self._allowed(settled(self.of(value, frontier)))
        count, replaced = convolutions(form), self._convolutions(value, frontier)
        if count > max(1, replaced):
            raise Inexact(f"it would take {count} convolutions to replace {replaced}")
        return form

    def _convolutions(self, value: str, frontier: Frontier) -> int:
        """How many convolutions there are between the frontier and the value."""
        wanted, found = [value], set[str]()
        while wanted:
            name = wanted.pop()
            if name in self.steps and name not in frontier and name not in found:
                found.add(name)
                wanted += self.steps[name].inputs
        return sum(isinstance(self.steps[name].operation, Convolve | Average) for name in found)

    def _worked_out(self, value: str, frontier: Frontier) -> Form | Inexact:
        if value in frontier or value not in self.steps:
            return source(value, self.planes[value].channels)
        step = self.steps[value]
        try:
            inputs = [self.of(name, self.reached(name, frontier)) for name in step.inputs]
            if isinstance(step.operation, Convolve | Average) and not self.split and _sources(inputs[0]) > 1:
                raise Inexact("a convolution of several values is not split into one of each")
            return self._allowed(apply(step.operation, inputs))
        except Inexact as reason:
            return reason

    def reached(self, value: str, frontier: Frontier) -> Frontier:
        """Which of the kept values the value is a function of."""
        if value in frontier or value not in self.steps:
            return frozenset((value,))
        if (value, frontier) not in self._reached:
            inputs = self.steps[value].inputs
            found = frozenset[str]().union(*(self.reached(name, frontier) for name in inputs))
            self._reached[value, frontier] = found
        return self._reached[value, frontier]

    def _allowed(self, form: Form) -> Form:
        if form.needs_border_map and not self.border_maps:
            raise Inexact("a bias before zero padding would need a border map (allow it with --border-maps)")
        return form


def _sources(form: Form) -> int:
    """How many values the form is a function of."""
    return sum(not key.ones for key in effective(form))


def choose(
    steps: Sequence[Step],
    planes: Mapping[str, Plane],
    kept: Frontier,
    forms: Forms,
    order: Order = cheapest,
    states: int = STATES,
) -> Choice:
    """The cheapest choice for a region; steps in an order in which they can run.

    kept: values that others read and that must be computed. A narrow search comes first: what costs more than
    the choice that it finds is not followed in the wide one.
    """
    problem = _Problem(steps, planes, kept, forms, order)
    narrow = problem.searched(min(NARROW, states), None)
    if narrow.optimal:
        return narrow
    return problem.searched(states, narrow.cost)


@dataclass(frozen=True)
class _Problem:
    """A region, and what is looked for in it."""

    steps: Sequence[Step]
    planes: Mapping[str, Plane]
    kept: Frontier
    forms: Forms
    order: Order

    def searched(self, states: int, bound: Cost | None) -> Choice:
        """The cheapest choice, following at most so many states, and none that costs more than the bound."""
        uses = Counter(name for step in self.steps for name in step.inputs)
        alive: dict[Key, _State] = {(): _State(Cost())}
        optimal = True
        for step, ahead in zip(self.steps, self._ahead(), strict=True):
            uses.subtract(step.inputs)
            alive = self._after(step, alive, uses, partial(self._pays, ahead, bound))
            if len(alive) > states:
                optimal, alive = False, self._best(alive, states)
        best = min(alive.values(), key=lambda state: self.order(state.cost))
        return Choice(_history(best), best.cost, optimal)

    def _pays(self, ahead: Cost, bound: Cost | None, cost: Cost) -> bool:
        """Whether a state of this cost may still end at no more than the bound."""
        return bound is None or self.order(cost + ahead) <= self.order(bound)

    def _ahead(self) -> list[Cost]:
        """After every operation: what the values that must be kept later on cost at least."""
        least = least_costs(self.steps, self.planes)
        ahead = [Cost()]
        for step in reversed(self.steps[1:]):
            ahead.append(ahead[-1] + least[step.value] if step.value in self.kept else ahead[-1])
        return ahead[::-1]

    def _after(
        self,
        step: Step,
        alive: Mapping[Key, _State],
        uses: Mapping[str, int],
        pays: Callable[[Cost], bool],
    ) -> dict[Key, _State]:
        """The states after one more operation; of those that are equal from here on, the cheapest."""
        after: dict[Key, _State] = {}
        for key, state in alive.items():
            live = dict(key)
            reads = {name: live.get(name, frozenset((name,))) for name in step.inputs}
            rest = {name: frontier for name, frontier in key if uses[name]}
            for frontier, option in _options(step, reads, state, self.planes, self.kept, self.forms):
                if not pays(option.cost):
                    continue
                if uses[step.value]:
                    rest[step.value] = frontier
                place = tuple(sorted(rest.items(), key=lambda item: item[0]))
                if place not in after or self.order(option.cost) < self.order(after[place].cost):
                    after[place] = option
        return after

    def _best(self, found: Mapping[Key, _State], states: int) -> dict[Key, _State]:
        """The cheapest states, and the one that keeps every value: from that one there is always a way on."""
        ranked = sorted(found.items(), key=lambda item: self.order(self._estimate(*item)))
        safe = [item for item in ranked[states:] if all(frontier == {name} for name, frontier in item[0])]
        return dict(ranked[:states] + safe)

    def _estimate(self, key: Key, state: _State) -> Cost:
        """The cost if every value that is still needed were computed now."""
        total = state.cost
        for value, frontier in key:
            if frontier != {value}:
                try:
                    total += cost_of_form(self.forms.final(value, frontier), value, self.planes)
                except Inexact:
                    total += Cost(macs=self.planes[value].channels * self.planes[value].pixels)
        return total


def _options(
    step: Step,
    reads: Mapping[str, Frontier],
    state: _State,
    planes: Mapping[str, Plane],
    kept: Frontier,
    forms: Forms,
) -> list[tuple[Frontier, _State]]:
    """What can be done with one more operation: compute it as it stands, from its form, or not yet."""
    frontier = frozenset[str]().union(*reads.values())
    alone = frozenset((step.value,))
    options: list[tuple[Frontier, _State]] = []
    direct = all(found == {name} for name, found in reads.items())
    if direct:
        cost = state.cost + cost_of_step(step, planes)
        options.append((alone, _State(cost, (Kept(step.value, None), state))))
    try:
        if not direct:
            cost = state.cost + cost_of_form(forms.final(step.value, frontier), step.value, planes)
            options.append((alone, _State(cost, (Kept(step.value, frontier), state))))
    except Inexact:
        pass
    try:
        if step.value not in kept:
            forms.of(step.value, frontier)
            options.append((frontier, state))
    except Inexact:
        pass
    return options


def _history(state: _State) -> tuple[Kept, ...]:
    found: list[Kept] = []
    kept, before = state.kept
    while kept is not None and before is not None:
        found.append(kept)
        kept, before = before.kept
    return tuple(reversed(found))
