"""Reach: what a piece of a picture gets right, against a definition that shares nothing with it."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onebranch.graph.seeing.reach import (
    Reach,
    resized,
    shuffled,
    smallest_piece,
    transposed,
    unshuffled,
    windowed,
)
from onebranch.graph.seeing.size import HEIGHT, WIDTH, Undecided, as_size, quotient, rounded_down, sign

MULTIPLE = 144
"""Pixels of a piece: divisible by whatever four steps divide by."""

Line = list[Any]
"""Pixels; equal only where they were computed in the same way from the same pixels."""


@dataclass(frozen=True)
class Law:
    """A step: what it does to reaches, and, by definition, to pixels.

    gaps: whether pixels between others are made of fewer, so that a later step may skip those made of most.
    """

    name: str
    law: Callable[[Reach], Reach]
    definition: Callable[[Line], Line]
    gaps: bool = False


def read(line: Line, index: int) -> Any:
    """A pixel, or what stands beyond the ends."""
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


def spread(taps: int, dilation: int, stride: int, before: int, after: int, added: int) -> Law:
    def definition(line: Line) -> Line:
        count = (len(line) - 1) * stride + added + dilation * (taps - 1) + 1 - before - after
        found: list[list[Any]] = [[] for _ in range(count)]
        for i, pixel in enumerate(line):
            for j in range(taps):
                y = i * stride - before + dilation * j
                if 0 <= y < count:
                    found[y].append((j, pixel))
        return [hash(("spread", *sorted(pixels))) for pixels in found]

    name = f"spread {taps} {dilation} {stride} {before} {after} {added}"
    law = partial(transposed, taps=taps, dilation=dilation, stride=stride, pads=(before, after), added=added)
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
    def taps(place: Fraction) -> tuple[int, int]:
        return floor(place - radius) + 1, ceil(place + radius) - 1

    def definition(line: Line) -> Line:
        result = []
        for y in range(floor(len(line) * scale)):
            place = (y + shift) / scale - shift
            low, high = taps(place)
            result.append(hash(("resized", place - low, *(read(line, i) for i in range(low, high + 1)))))
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
def test_reach_says_exactly_which_pixels_a_piece_gets_right(steps: list[Law]) -> None:
    whole: Line = [hash(("pixel", k)) for k in range(5 * MULTIPLE)]
    piece = whole[2 * MULTIPLE : 3 * MULTIPLE]
    reach = Reach()
    for step in steps:
        coarse = step.name.startswith("coarser")
        assume(MULTIPLE % reach.q == 0 and (not coarse or len(piece) % int(step.name.split()[1]) == 0))
        reach, whole, piece = step.law(reach), step.definition(whole), step.definition(piece)
    size, start = MULTIPLE * reach.scale, 2 * MULTIPLE * reach.scale
    assume(size.denominator == 1)
    assert len(piece) == size + reach.extra
    least, beyond = max(0, reach.least), int(size) + reach.beyond
    assume(least < beyond)
    assert piece[least:beyond] == whole[int(start) + least : int(start) + beyond]
    if any(step.gaps for step in steps):
        return
    if least > 0:
        assert piece[least - 1] != whole[int(start) + least - 1]
    if beyond < len(piece):
        assert piece[beyond] != whole[int(start) + beyond]


def test_a_piece_must_hold_what_is_reflected_into_it() -> None:
    """Padded by reflection, then read far away only: the reach alone would allow a piece of one pixel."""
    reach = windowed(Reach(), taps=3, pads=(1, 1))
    assert smallest_piece(reach, 4, 4) == 6  # pixel 4 must be right, and reads pixel 5
    assert smallest_piece(reach, 0, 0) == 2
    assert smallest_piece(reach, -1, -1) == 1
    assert smallest_piece(windowed(reach, taps=2, stride=2), 1, -1) == 5  # pixel 1 reads 2 and 3, so 4


def test_sizes_are_polynomials() -> None:
    size = (HEIGHT + 2) * WIDTH * 3
    assert size.at(5, 7) == 147
    assert str(size) == "3 H W + 6 W"
    assert quotient(size, WIDTH * 3) == HEIGHT + 2
    assert (HEIGHT - HEIGHT).number == 0
    assert rounded_down(HEIGHT * Fraction(2, 3) - Fraction(1, 2)) == (HEIGHT * Fraction(2, 3) - 1, 3)
    assert sign(as_size(0)) == 0


def test_what_depends_on_the_picture_is_undecided() -> None:
    for attempt in (
        lambda: sign(HEIGHT - WIDTH),
        lambda: sign(HEIGHT - 8),
        lambda: quotient(HEIGHT, WIDTH),
        lambda: quotient(HEIGHT, HEIGHT + 1),
        lambda: quotient(HEIGHT, as_size(0)),
    ):
        try:
            attempt()
        except Undecided:
            continue
        raise AssertionError("that was decided")
