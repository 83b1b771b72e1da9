"""Which inner values of a region are kept and which disappear into convolutions: the cheapest choice.

A kept value is computed by its own operation where everything that it reads is kept, else from its form in the
nearest kept values before it. A dynamic programme walks the operations in order; its state is, for every value
that is still needed, the kept values that it is a function of. That determines all later cost, so the choice is
optimal over all sets of kept values, for chains, series-parallel and any other regions, unless there were more
states than `STATES`: then it is the best found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onebranch.graph.cost import Cost, cost_of_form, cost_of_step
from onebranch.graph.form import Form, apply, settled, source
from onebranch.graph.linear import Plane, Step
from onebranch.graph.window import Inexact

STATES = 400
"""States that are followed at once; beyond them the cheapest are, and the choice is no longer called optimal."""

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
    """Kept values in an order in which they can be computed, what they cost, and whether nothing is cheaper."""

    kept: tuple[Kept, ...]
    cost: Cost
    optimal: bool


@dataclass(frozen=True)
class _State:
    cost: Cost
    kept: tuple[Kept | None, "_State | None"] = (None, None)


Key = tuple[tuple[str, Frontier], ...]


class Forms:
    """Forms of a region's values, each worked out once for every frontier that it is asked for."""

    def __init__(self, steps: Sequence[Step], planes: Mapping[str, Plane], border_maps: bool) -> None:
        self.steps = {step.value: step for step in steps}
        self.planes, self.border_maps = planes, border_maps
        self._known: dict[tuple[str, Frontier], Form | Inexact] = {}
        self._reached: dict[tuple[str, Frontier], Frontier] = {}

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
        """The form as it can be computed: without a frame. Raises Inexact."""
        return self._allowed(settled(self.of(value, frontier)))

    def _worked_out(self, value: str, frontier: Frontier) -> Form | Inexact:
        if value in frontier or value not in self.steps:
            return source(value, self.planes[value].channels)
        step = self.steps[value]
        try:
            inputs = [self.of(name, self.reached(name, frontier)) for name in step.inputs]
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


def choose(
    steps: Sequence[Step],
    planes: Mapping[str, Plane],
    kept: Frontier,
    forms: Forms,
    order: Order = cheapest,
    states: int = STATES,
) -> Choice:
    """The cheapest choice for a region; steps in an order in which they can run.

    kept: values that others read and that must be computed.
    """
    uses = {step.value: 0 for step in steps}
    for step in steps:
        for name in step.inputs:
            if name in uses:
                uses[name] += 1
    alive: dict[Key, _State] = {(): _State(Cost())}
    optimal = True
    for step in steps:
        gone = set()
        for name in step.inputs:
            if name in uses:
                uses[name] -= 1
                if uses[name] == 0:
                    gone.add(name)
        needed = uses[step.value] > 0
        after: dict[Key, _State] = {}
        for key, state in alive.items():
            for frontier, option in _options(step, dict(key), state, planes, kept, forms):
                live = {name: found for name, found in key if name not in gone}
                if needed:
                    live[step.value] = frontier
                place = tuple(sorted(live.items(), key=lambda item: item[0]))
                if place not in after or order(option.cost) < order(after[place].cost):
                    after[place] = option
        if len(after) > states:
            optimal = False
            after = _best(after, states, lambda item: order(_estimate(*item, planes, forms)))
        alive = after
    best = min(alive.values(), key=lambda state: order(state.cost))
    return Choice(_history(best), best.cost, optimal)


def _options(
    step: Step,
    live: Mapping[str, Frontier],
    state: _State,
    planes: Mapping[str, Plane],
    kept: Frontier,
    forms: Forms,
) -> list[tuple[Frontier, _State]]:
    """What can be done with one more operation: compute it as it stands, from its form, or not yet."""
    reads = {name: live.get(name, frozenset((name,))) for name in step.inputs}
    frontier = frozenset().union(*reads.values())
    alone = frozenset((step.value,))
    direct = all(found == {name} for name, found in reads.items())
    options: list[tuple[Frontier, _State]] = []
    if direct:
        cost = state.cost + cost_of_step(step, planes)
        options.append((alone, _State(cost, (Kept(step.value, None), state))))
    try:
        if not direct:
            final = forms.final(step.value, frontier)
            cost = state.cost + cost_of_form(final, step.value, planes)
            options.append((alone, _State(cost, (Kept(step.value, frontier), state))))
        if step.value not in kept:
            forms.of(step.value, frontier)
            options.append((frontier, state))
    except Inexact:
        pass
    return options


def _best(
    found: Mapping[Key, _State], states: int, rank: Callable[[tuple[Key, _State]], tuple[int, ...]]
) -> dict[Key, _State]:
    """The cheapest states, and the one in which every value is kept: from that one there is always a way on."""
    ranked = sorted(found.items(), key=rank)
    safe = [item for item in ranked[states:] if all(frontier == {value} for value, frontier in item[0])]
    return dict(ranked[:states] + safe)


def _estimate(key: Key, state: _State, planes: Mapping[str, Plane], forms: Forms) -> Cost:
    """The cost if every value that is still needed were computed now."""
    total = state.cost
    for value, frontier in key:
        if frontier != {value}:
            try:
                total += cost_of_form(forms.final(value, frontier), value, planes)
            except Inexact:
                total += Cost(macs=planes[value].channels * planes[value].pixels)
    return total


def _history(state: _State) -> tuple[Kept, ...]:
    found: list[Kept] = []
    kept, before = state.kept
    while kept is not None and before is not None:
        found.append(kept)
        kept, before = before.kept
    return tuple(reversed(found))
