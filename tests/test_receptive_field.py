"""Receptive fields: which pixels a piece of a picture gives correctly, against an independent definition."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onebranch.graph.analysis.receptive_field import (
    AxisReceptiveField,
    minimum_border_tile,
    resized,
    shuffled,
    transposed,
    unshuffled,
    windowed,
)
from onebranch.graph.analysis.symbolic_size import (
    HEIGHT,
    WIDTH,
    UndeterminedSizeError,
    as_size,
    floor_with_multiple,
    quotient,
    sign,
)

MULTIPLE = 144
"""Pixels of a piece: divisible by the product of the strides of any four operations drawn below."""

Line = list[Any]
"""Pixels as hashes: equal only if computed in the same way from the same pixels."""


@dataclass(frozen=True)
class Law:
    """An operation: what it does to a receptive field, and, by definition, to pixels.

    gaps: True if some output pixels depend on fewer pixels than their neighbours, so that a later stride may
    skip those with the largest receptive field.
    """

    name: str
    law: Callable[[AxisReceptiveField], AxisReceptiveField]
    definition: Callable[[Line], Line]
    gaps: bool = False


def read(line: Line, index: int) -> Any:
    """A pixel, or a marker for positions beyond the ends."""
    return line[index] if 0 <= index < len(line) else "beyond"


def window(taps: int, dilation: int, stride: int, before: int, after: int, up: bool) -> Law:
    def definition(line: Line) -> Line:
        free = len(line) + before + after - dilation * (taps - 1) - 1
        count = (-(-free // stride) if up else free // stride) + 1
        if up and (count - 1) * stride >= len(line) + before:
            count -= 1
        return [
            hash(("window", *(read(line, y * stride - before + dilation * i) for i in range(taps))))
            for y in range(count)
        ]

    name = f"window {taps} {dilation} {stride} {before} {after} {up}"
    return Law(name, lambda r: windowed(r, taps, dilation, stride, (before, after), up), definition)


def spread(taps: int, dilation: int, stride: int, before: int, after: int, output_padding: int) -> Law:
    def definition(line: Line) -> Line:
        count = (len(line) - 1) * stride + output_padding + dilation * (taps - 1) + 1 - before - after
        contributions: list[list[Any]] = [[] for _ in range(count)]
        for i, pixel in enumerate(line):
            for j in range(taps):
                y = i * stride - before + dilation * j
                if 0 <= y < count:
                    contributions[y].append((j, pixel))
        return [hash(("spread", *sorted(pixels))) for pixels in contributions]

    name = f"spread {taps} {dilation} {stride} {before} {after} {output_padding}"
    law = partial(
        transposed,
        taps=taps,
        dilation=dilation,
        stride=stride,
        pads=(before, after),
        output_padding=output_padding,
    )
    return Law(name, law, definition, gaps=dilation > 1 or taps < stride)


def finer(factor: int) -> Law:
    return Law(
        f"finer {factor}",
        lambda r: shuffled(r, factor),
        lambda line: [hash(("finer", y % factor, line[y // factor])) for y in range(len(line) * factor)],
    )


def coarser(factor: int) -> Law:
    return Law(
        f"coarser {factor}",
        lambda r: unshuffled(r, factor),
        lambda line: [
            hash(("coarser", *line[y * factor : (y + 1) * factor])) for y in range(len(line) // factor)
        ],
    )


def resizing(scale: Fraction, shift: Fraction, radius: int) -> Law:
    def taps(position: Fraction) -> tuple[int, int]:
        return floor(position - radius) + 1, ceil(position + radius) - 1

    def definition(line: Line) -> Line:
        result = []
        for y in range(floor(len(line) * scale)):
            position = (y + shift) / scale - shift
            low, high = taps(position)
            result.append(hash(("resized", position - low, *(read(line, i) for i in range(low, high + 1)))))
        return result

    return Law(f"resized {scale} {shift} {radius}", lambda r: resized(r, scale, shift, taps), definition)


small = st.integers(0, 3)
laws = st.one_of(
    st.builds(window, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), small, small, st.booleans()),
    st.builds(
        window, st.just(1), st.just(1), st.just(1), st.integers(-3, 3), st.integers(-3, 3), st.just(False)
    ),
    st.builds(
        spread, st.integers(1, 5), st.integers(1, 2), st.integers(1, 3), small, small, st.integers(0, 1)
    ),
    st.builds(finer, st.integers(2, 3)),
    st.builds(coarser, st.integers(2, 3)),
    st.builds(
        resizing,
        st.sampled_from([Fraction(2), Fraction(1, 2), Fraction(3, 2), Fraction(2, 3), Fraction(3)]),
        st.sampled_from([Fraction(1, 2), Fraction(0)]),
        st.integers(1, 2),
    ),
)


@settings(max_examples=300)
@given(st.lists(laws, min_size=1, max_size=4))
def test_the_receptive_field_tells_exactly_which_pixels_of_a_piece_are_correct(steps: list[Law]) -> None:
    whole: Line = [hash(("pixel", k)) for k in range(5 * MULTIPLE)]
    piece = whole[2 * MULTIPLE : 3 * MULTIPLE]
    field = AxisReceptiveField()
    for step in steps:
        coarse = step.name.startswith("coarser")
        assume(MULTIPLE % field.q == 0 and (not coarse or len(piece) % int(step.name.split()[1]) == 0))
        field, whole, piece = step.law(field), step.definition(whole), step.definition(piece)
    size, start = MULTIPLE * field.scale, 2 * MULTIPLE * field.scale
    assume(size.denominator == 1)
    assert len(piece) == size + field.extra
    first_valid, valid_end = max(0, field.first_valid), int(size) + field.valid_end
    assume(first_valid < valid_end)
    assert piece[first_valid:valid_end] == whole[int(start) + first_valid : int(start) + valid_end]
    if any(step.gaps for step in steps):
        return
    if first_valid > 0:
        assert piece[first_valid - 1] != whole[int(start) + first_valid - 1]
    if valid_end < len(piece):
        assert piece[valid_end] != whole[int(start) + valid_end]


def test_a_border_tile_must_hold_the_pixels_that_are_reflected() -> None:
    """Padding by reflection reads far pixels twice: the receptive field alone would allow one pixel."""
    field = windowed(AxisReceptiveField(), taps=3, pads=(1, 1))
    assert minimum_border_tile(field, 4, 4) == 6  # pixel 4 must be right, and reads pixel 5
    assert minimum_border_tile(field, 0, 0) == 2
    assert minimum_border_tile(field, -1, -1) == 1
    assert minimum_border_tile(windowed(field, taps=2, stride=2), 1, -1) == 5  # pixel 1 reads 2 and 3, so 4


def test_sizes_are_polynomials() -> None:
    size = (HEIGHT + 2) * WIDTH * 3
    assert size.evaluate({"H": 5, "W": 7}) == 147
    assert str(size) == "3 H W + 6 W"
    assert quotient(size, WIDTH * 3) == HEIGHT + 2
    assert (HEIGHT - HEIGHT).number == 0
    assert floor_with_multiple(HEIGHT * Fraction(2, 3) - Fraction(1, 2)) == (HEIGHT * Fraction(2, 3) - 1, 3)
    assert sign(as_size(0)) == 0


def test_a_size_that_depends_on_the_picture_is_undetermined() -> None:
    for attempt in (
        lambda: sign(HEIGHT - WIDTH),
        lambda: sign(HEIGHT - 8),
        lambda: quotient(HEIGHT, WIDTH),
        lambda: quotient(HEIGHT, HEIGHT + 1),
        lambda: quotient(HEIGHT, as_size(0)),
    ):
        try:
            attempt()
        except UndeterminedSizeError:
            continue
        raise AssertionError("no error was raised")
