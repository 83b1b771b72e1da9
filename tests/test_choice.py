"""The choice of materialized values is compared with the cheapest of all sets, tried one by one."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebranch.algebra.padding import Padding
from onebranch.graph.merge import choice
from onebranch.graph.merge.choice import AffineForms, Choice, Order, cheapest, choose, fewest
from onebranch.graph.merge.cost import Cost, cost_of_form, cost_of_step
from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Join,
    Linear,
    Normalize,
    Plane,
    Scale,
    Select,
    Step,
    Sum,
)
from onebranch.graph.merge.window import Inexact

MAX_OPERATIONS = 8
"""Operations of a region: 2^8 sets are tried."""

SIDE = 16


class Sketch:
    """Collects the operations of a region; all values have the picture's size."""

    def __init__(self, seed: int, channels: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.steps: list[Step] = []
        self.planes = {"x": self._plane(channels)}

    def _plane(self, channels: int) -> Plane:
        return Plane(channels, ("H", "W"), (SIDE, SIDE))

    def add(self, operation: Linear, inputs: Sequence[str], channels: int) -> str:
        """Append an operation; returns its value's name."""
        name = f"v{len(self.steps)}"
        self.steps.append(Step(name, operation, tuple(inputs)))
        self.planes[name] = self._plane(channels)
        return name

    def convolve(self, source: str, outputs: int, side: int, bias: bool, depthwise: bool) -> str:
        """A convolution that keeps the size; some of its weights may be zero."""
        inputs = self.planes[source].channels
        if depthwise:
            outputs = inputs
        shape = (outputs, 1 if depthwise else inputs, side, side)
        weight = self.random.normal(0, 1, shape) * (self.random.random(shape) < 0.8)
        shift = self.random.normal(0, 1, outputs) if bias else None
        padding = Padding.uniform(side // 2)
        return self.add(
            Convolve(weight, shift, inputs if depthwise else 1, padding=padding), [source], outputs
        )

    def normalize(self, source: str) -> str:
        """BN."""
        channels = self.planes[source].channels
        parts = [self.random.normal(0, 1, channels) for _ in range(3)]
        variance = self.random.uniform(0.3, 3, channels)
        return self.add(Normalize(parts[0], parts[1], parts[2], variance, 1e-3), [source], channels)

    def scale(self, source: str) -> str:
        """A factor and a shift, sometimes none."""
        channels = self.planes[source].channels
        shift = self.random.normal(0, 1, channels) * self.random.integers(0, 2)
        return self.add(Scale(self.random.normal(0, 1, channels), shift), [source], channels)

    def one(self, source: str) -> str:
        """Any operation of one value."""
        kind = self.random.integers(9)
        channels = self.planes[source].channels
        if kind < 5:
            side, wide = (1, 3, 1, 3, 5)[kind], int(self.random.choice([1, 2, 3, 6]))
            return self.convolve(source, wide, side, bool(self.random.integers(2)), kind == 3)
        if kind == 5:
            return self.normalize(source)
        if kind == 6:
            return self.scale(source)
        if kind == 7:
            return self.add(Average((3, 3), (1, 1), Padding.uniform(1), 9), [source], channels)
        indices = self.random.integers(0, channels, int(self.random.integers(1, 4)))
        return self.add(Select(tuple(int(i) for i in indices)), [source], len(indices))

    def left(self) -> int:
        """The number of operations that may still be added."""
        return MAX_OPERATIONS - len(self.steps)

    def series(self, source: str, length: int) -> str:
        """A series of operations and parallel parts."""
        for _ in range(length):
            if self.left() <= 0:
                break
            source = self.parallel(source) if self.random.random() < 0.3 else self.one(source)
        return source

    def parallel(self, source: str) -> str:
        """Two series on the same input, summed if their widths are equal, otherwise concatenated."""
        if self.left() < 2:
            return self.one(source)
        first = self.series(source, int(self.random.integers(1, 3)))
        second = self.series(source, int(self.random.integers(0, 3)))
        if not self.left():
            return second if second != source else first
        widths = [self.planes[name].channels for name in (first, second)]
        if widths[0] == widths[1]:
            signs = (1, int(self.random.choice([1, -1])))
            return self.add(Sum(signs), [first, second], widths[0])
        return self.add(Join(), [first, second], sum(widths))


Region = tuple[list[Step], dict[str, Plane], frozenset[str]]


def chain(seed: int, length: int) -> Region:
    """A chain of operations; only its end is required."""
    s = Sketch(seed)
    current = "x"
    for _ in range(length):
        current = s.one(current)
    return s.steps, s.planes, frozenset((current,))


def series_parallel(seed: int, length: int) -> Region:
    """A series-parallel region; values that nothing reads are required, sometimes an inner value too."""
    s = Sketch(seed)
    s.series("x", length)
    read = {name for step in s.steps for name in step.inputs}
    required = {step.value for step in s.steps if step.value not in read}
    if s.random.random() < 0.3:
        required.add(s.steps[int(s.random.integers(len(s.steps)))].value)
    return s.steps, s.planes, frozenset(required)


def cost_of(region: Region, chosen: frozenset[str], affine_forms: AffineForms) -> Cost:
    """The cost of a region where these values are materialized. Raises Inexact where that is impossible."""
    steps, planes, _ = region
    total = Cost()
    for step in steps:
        reads = [source(name, chosen, steps) for name in step.inputs]
        sources = frozenset[str]().union(*reads)
        if step.value not in chosen:
            affine_forms.of(step.value, sources)
        elif all(values == {name} for values, name in zip(reads, step.inputs, strict=True)):
            total += cost_of_step(step, planes)
        else:
            total += cost_of_form(affine_forms.final(step.value, sources), step.value, planes)
    return total


def source(value: str, chosen: frozenset[str], steps: Sequence[Step]) -> frozenset[str]:
    """The materialized values, and inputs of the region, that a value is computed from."""
    inputs = {step.value: step.inputs for step in steps}
    if value in chosen or value not in inputs:
        return frozenset((value,))
    return frozenset[str]().union(*(source(name, chosen, steps) for name in inputs[value]))


def possible(region: Region, affine_forms: AffineForms) -> Iterator[Cost]:
    """The cost of every set of materialized values that can be computed."""
    steps, _, required = region
    free = [step.value for step in steps if step.value not in required]
    for count in range(len(free) + 1):
        for some in itertools.combinations(free, count):
            try:
                yield cost_of(region, required | frozenset(some), affine_forms)
            except Inexact:
                continue


def hold(region: Region, order: Order, border_maps: bool) -> Choice:
    """Compare the choice with all others; returns it."""
    steps, planes, required = region
    choice = choose(steps, planes, required, AffineForms(steps, planes, border_maps), order)
    others = list(possible(region, AffineForms(steps, planes, border_maps)))
    assert choice.optimal
    assert order(choice.cost) == min(map(order, others)), f"{choice.cost} of {len(others)} costs"
    chosen = frozenset(entry.value for entry in choice.materialized)
    assert cost_of(region, chosen, AffineForms(steps, planes, border_maps)) == choice.cost
    return choice


ORDERS: Mapping[str, Order] = {"cheapest": cheapest, "fewest": fewest}

SEEDS = st.integers(0, 2**31)


@pytest.mark.parametrize("order", ORDERS)
@given(SEEDS, st.integers(1, MAX_OPERATIONS), st.booleans())
@settings(max_examples=60)
def test_chains_are_merged_as_cheaply_as_any_choice_allows(order, seed, length, border_maps):
    hold(chain(seed, length), ORDERS[order], border_maps)


@pytest.mark.parametrize("order", ORDERS)
@given(SEEDS, st.integers(1, MAX_OPERATIONS), st.booleans())
@settings(max_examples=60)
def test_series_parallel_regions_are_merged_as_cheaply_as_any_choice_allows(order, seed, length, border_maps):
    hold(series_parallel(seed, length), ORDERS[order], border_maps)


@pytest.mark.parametrize("narrow", [1, 3])
@given(SEEDS, st.booleans())
@settings(max_examples=60)
def test_what_the_narrow_search_cuts_off_is_not_the_cheapest(narrow, seed, border_maps):
    """The wide search drops states that must end above the cost of the narrow search's result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "NARROW_STATES", narrow)
        hold(series_parallel(seed, MAX_OPERATIONS), cheapest, border_maps)


@given(SEEDS)
@settings(max_examples=40)
def test_a_search_cut_short_says_so_and_is_valid(seed):
    region = series_parallel(seed, MAX_OPERATIONS)
    steps, planes, required = region
    choice = choose(steps, planes, required, AffineForms(steps, planes, True), states=1)
    best = min(cheapest(cost) for cost in possible(region, AffineForms(steps, planes, True)))
    assert cheapest(choice.cost) >= best
    assert cheapest(choice.cost) == best or not choice.optimal
    chosen = frozenset(entry.value for entry in choice.materialized)
    assert required <= chosen
    assert cost_of(region, chosen, AffineForms(steps, planes, True)) == choice.cost


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_many_regions_are_merged_as_cheaply_as_any_choice_allows(order):
    choices = [
        hold(series_parallel(seed, MAX_OPERATIONS), ORDERS[order], bool(seed % 2)) for seed in range(1500)
    ]
    assert sum(len(entry.materialized) > 1 for entry in choices) > 100


def test_chains_are_merged_partially_where_that_is_best():
    """Two narrow pointwise convolutions become one, the wide 3x3 ones stay two."""
    s = Sketch(0, 16)
    for side, width in ((3, 16), (3, 16), (1, 8), (1, 16)):
        last = s.convolve(s.steps[-1].value if s.steps else "x", width, side, False, False)
    affine_forms = AffineForms(s.steps, s.planes, False)
    choice = choose(s.steps, s.planes, frozenset((last,)), affine_forms)
    materialized = {entry.value: entry.sources for entry in choice.materialized}
    assert materialized == {"v0": None, "v2": frozenset(("v0",)), "v3": None}
    assert choice.cost.macs == SIDE**2 * (16 * 16 * 9 + 16 * 8 * 9 + 8 * 16)


def test_the_regions_that_are_tried_are_worth_it():
    """Many have several possible merges, and merging everything or nothing is rarely the best."""
    partial = 0
    for seed in range(60):
        region = series_parallel(seed, MAX_OPERATIONS)
        steps, planes, required = region
        choice = choose(steps, planes, required, AffineForms(steps, planes, False))
        partial += len(required) < len(choice.materialized) < len(steps)
    assert partial > 15
