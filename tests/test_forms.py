"""Affine forms against the slow definition: a graph with a form equals it at every size, borders included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebranch.algebra.padding import Padding
from onebranch.graph.merge.affine_form import AffineForm, apply, source, without_border
from onebranch.graph.merge.definition import compute, run
from onebranch.graph.merge.emission import written
from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Fill,
    Join,
    Normalize,
    Pad,
    Pass,
    Scale,
    Select,
    Step,
    Sum,
)
from onebranch.graph.merge.window import Inexact, Window, after, joined, padded, reads_only_padding, window

pytestmark = pytest.mark.fast

CHANNELS = 4

SIZES = [(1, 1), (1, 7), (2, 3), (5, 4), (9, 8)]


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape)


def convolution(rng, draw) -> Convolve:
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (2, 2), (5, 1)]))
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 3)]))
    extent = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = draw(
        st.sampled_from([(0, 0, 0, 0), (extent[0] // 2, extent[1] // 2) * 2, (1, 0, 0, 2), tuple(extent) * 2])
    )
    groups = draw(st.sampled_from([1, 1, 2, CHANNELS]))
    weight = numbers(rng, CHANNELS, CHANNELS // groups, *kernel)
    bias = numbers(rng, CHANNELS) if draw(st.booleans()) else None
    return Convolve(
        weight,
        bias,
        groups,
        draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)])),
        dilations,
        Padding.from_onnx(pads),
    )


def operation(rng, draw):
    kind = draw(
        st.sampled_from(["conv", "conv", "conv", "bn", "scale", "pad", "average", "select", "fill", "pass"])
    )
    if kind == "conv":
        return convolution(rng, draw)
    if kind == "bn":
        parts = [numbers(rng, CHANNELS) for _ in range(3)]
        return Normalize(*parts, rng.uniform(0.2, 2, CHANNELS), 1e-5)
    if kind == "scale":
        return Scale(numbers(rng, CHANNELS), numbers(rng, CHANNELS) * draw(st.sampled_from([0, 1])))
    if kind == "pad":
        return Pad(
            draw(st.sampled_from([Padding.uniform(1), Padding(top=2, bottom=1, right=3)])),
            draw(st.sampled_from([0.0, 0.5])),
        )
    if kind == "average":
        return Average((2, 2), draw(st.sampled_from([(1, 1), (2, 2)])), Padding(top=1, left=1), 4)
    if kind == "select":
        return Select(tuple(draw(st.permutations(range(CHANNELS)))))
    if kind == "fill":
        return Fill(draw(st.sampled_from([2, 3])), draw(st.sampled_from([0, -1])), 1, numbers(rng, CHANNELS))
    return Pass()


@st.composite
def graphs(draw) -> list[Step]:
    """Up to six operations on one or two earlier values, with sums, differences and concatenations."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    names, steps = ["x"], []
    for number in range(draw(st.integers(1, 6))):
        name = f"v{number}"
        read = draw(st.sampled_from(names))
        kind = draw(st.sampled_from(["one", "one", "sum", "join"]))
        if kind == "one":
            steps.append(Step(name, operation(rng, draw), (read,)))
        elif kind == "sum":
            signs = (1, draw(st.sampled_from([1, -1])))
            steps.append(Step(name, Sum(signs), (read, draw(st.sampled_from(names)))))
        else:
            other = draw(st.sampled_from(names))
            steps.append(Step(f"{name}j", Join(), (read, other)))
            weight = numbers(rng, CHANNELS, 2 * CHANNELS, 1, 1)
            steps.append(Step(name, Convolve(weight), (f"{name}j",)))
        names.append(name)
    return steps


def form_of(steps: list[Step], value: str) -> AffineForm:
    affine_forms = {"x": source("x", CHANNELS)}
    for step in steps:
        affine_forms[step.value] = apply(step.operation, [affine_forms[name] for name in step.inputs])
    return without_border(affine_forms[value])


@given(graphs(), st.integers(0, 100))
def test_what_has_a_form_equals_it_at_every_size(steps, seed):
    value = steps[-1].value
    try:
        affine_form = form_of(steps, value)
    except Inexact:
        return
    rng = np.random.default_rng(seed)
    replacement = written(affine_form, value, ())
    for height, width in SIZES:
        picture = {"x": rng.normal(0, 1, (2, CHANNELS, height, width))}
        try:
            met = run(steps, picture, value)
        except (ValueError, IndexError):
            continue  # the graph itself does not run at this size: broadcasting, or no pixel to fill
        if any(array.size == 0 for array in met.values()) or not uniform(steps, met):
            continue
        actual = run(replacement, picture, value)[value]
        largest = max(np.abs(array).max() for array in met.values())
        assert actual.shape == met[value].shape
        assert np.abs(actual - met[value]).max() <= 1e-12 * largest


def uniform(steps: list[Step], met: dict[str, np.ndarray]) -> bool:
    """True if no sum broadcasts; the readers of graphs never treat a broadcasting sum as linear."""
    sums = [step for step in steps if isinstance(step.operation, Sum | Join) and step.value in met]
    return all(len({met[name].shape[2:] for name in step.inputs}) == 1 for step in sums)


def test_the_search_for_forms_finds_many():
    """The property above would test nothing if most graphs had no form."""
    successes = []

    @given(graphs())
    def count(steps):
        try:
            form_of(steps, steps[-1].value)
            successes.append(True)
        except Inexact:
            successes.append(False)

    count()
    assert sum(successes) > 0.4 * len(successes) > 10


WINDOWS = [
    window(k, d, s, a, b)
    for k in (1, 2, 3)
    for d in (1, 2)
    for s in (1, 2, 3)
    for a in (0, 1, 2)
    for b in (0, 1)
]


def reads(of: Window, length: int) -> list[set[int]]:
    """For every output pixel, the set of input pixels that it reads, without those beyond the ends."""
    count = (length + of.slack) // of.stride + 1
    return [
        {p for i in range(of.taps) if 0 <= (p := y * of.stride + of.first + of.step * i) < length}
        for y in range(count)
    ]


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_windows_read_what_their_arithmetic_says(length):
    for inner in WINDOWS:
        middle = reads(inner, length)
        for outer in WINDOWS:
            if outer.before or outer.after or not middle:
                continue
            expected = [set().union(*(middle[y] for y in rows)) for rows in reads(outer, len(middle))]
            given = reads(after(outer, inner), length)
            assert len(given) == len(expected)
            assert all(wide >= exact for wide, exact in zip(given, expected, strict=True))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_padding_reads_nothing_of_the_picture_or_is_refused(length):
    for inner in WINDOWS:
        middle = reads(inner, length)
        for before, end in ((1, 0), (0, 1), (2, 1)):
            try:
                framed = padded(inner, before, end)
            except Inexact:
                continue
            given = reads(framed, length)
            assert given == [set()] * before + middle + [set()] * end


def test_windows_of_different_lengths_are_not_added():
    with pytest.raises(Inexact, match="different sizes"):
        joined(window(2, 1, 2, 0, 0), window(1, 1, 2, 0, 0))


def test_a_dilated_kernel_with_an_identity_stays_dilated():
    both = joined(window(3, 4, 1, 4, 4), Window())
    assert (both.taps, both.step) == (3, 4)


def test_rows_outside_are_those_that_read_zeros():
    framed = padded(Window(), 1, 1)
    assert reads_only_padding(framed, 0, 1) and reads_only_padding(framed, -1, 1)
    assert not reads_only_padding(framed, 1, 1) and not reads_only_padding(framed, -2, 1)


def test_a_bias_before_zero_padding_needs_a_border_map_and_is_exact_with_it():
    rng = np.random.default_rng(0)
    steps = [
        Step("a", Convolve(numbers(rng, 6, CHANNELS, 1, 1), numbers(rng, 6)), ("x",)),
        Step(
            "b",
            Convolve(numbers(rng, CHANNELS, 6, 3, 3), numbers(rng, CHANNELS), padding=Padding.uniform(1)),
            ("a",),
        ),
    ]
    affine_form = form_of(steps, "b")
    assert affine_form.needs_border_map
    replacement = written(affine_form, "b", ())
    for height, width in ((1, 1), (1, 7), (3, 3), (5, 5)):
        picture = {"x": rng.normal(0, 1, (1, CHANNELS, height, width))}
        expected, actual = run(steps, picture, "b")["b"], run(replacement, picture, "b")["b"]
        assert np.abs(expected - actual).max() < 1e-12


def test_two_padded_convolutions_are_not_one():
    kernel = np.ones((CHANNELS, CHANNELS, 3, 3))
    first = apply(Convolve(kernel, padding=Padding.uniform(1)), [source("x", CHANNELS)])
    with pytest.raises(Inexact, match="cuts off"):
        apply(Convolve(kernel, padding=Padding.uniform(1)), [first])


@pytest.mark.parametrize("padding", [Padding(2**31, 0, 0, 0), Padding(3000, 3000, 3000, 3000)])
def test_a_padding_of_billions_of_values_is_refused_and_takes_no_memory(padding):
    with pytest.raises(Inexact, match=r"a padding of \d+ rows and \d+ columns is too large to merge"):
        apply(Pad(padding), [source("x", CHANNELS)])


def test_the_definition_of_convolution_agrees_with_an_independent_one():
    scipy_like = np.zeros((1, 2, 3, 3))
    rng = np.random.default_rng(1)
    weight, picture = rng.normal(0, 1, (2, 1, 2, 2)), rng.normal(0, 1, (1, 2, 5, 5))
    for o in range(2):
        for y in range(3):
            for x in range(3):
                for k in range(2):
                    for l in range(2):
                        v, u = 2 * y + k - 1, 2 * x + l - 1
                        if 0 <= v < 5 and 0 <= u < 5:
                            scipy_like[0, o, y, x] += weight[o, 0, k, l] * picture[0, o, v, u]
    actual = compute(Convolve(weight, None, 2, (2, 2), (1, 1), Padding.uniform(1)), [picture])
    assert np.abs(actual - scipy_like).max() < 1e-14
