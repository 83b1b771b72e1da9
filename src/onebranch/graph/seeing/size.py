"""Sizes of arrays as polynomials in the picture's height and width: what `Shape` gives and reshapes ask for.

A graph runs on pictures whose sides are multiples of some number only, so that quotients and remainders are
polynomials too; each says the multiple that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm

from onebranch.errors import OnebranchError

Powers = tuple[int, int]
"""Exponents of height and width."""


class Undecided(OnebranchError):
    """A size that depends on the picture in a way that is no polynomial; the text says where."""


@dataclass(frozen=True)
class Size:
    """A polynomial in height and width with rational coefficients, none of them zero; terms are sorted."""

    terms: tuple[tuple[Powers, Fraction], ...] = ()

    def __add__(self, other: Size | int | Fraction) -> Size:
        total = dict(self.terms)
        for powers, factor in as_size(other).terms:
            total[powers] = total.get(powers, Fraction(0)) + factor
        return _size(total)

    def __sub__(self, other: Size | int | Fraction) -> Size:
        return self + as_size(other) * -1

    def __mul__(self, other: Size | int | Fraction) -> Size:
        total: dict[Powers, Fraction] = {}
        for (i, j), one in self.terms:
            for (k, l), two in as_size(other).terms:
                total[i + k, j + l] = total.get((i + k, j + l), Fraction(0)) + one * two
        return _size(total)

    @property
    def number(self) -> Fraction | None:
        """The value where it depends on neither height nor width."""
        if not self.terms:
            return Fraction(0)
        return self.terms[0][1] if len(self.terms) == 1 and self.terms[0][0] == (0, 0) else None

    @property
    def fixed_part(self) -> Fraction:
        """The term without height and width."""
        return dict(self.terms).get((0, 0), Fraction(0))

    def at(self, height: int, width: int) -> Fraction:
        """The value for a picture of that size."""
        return sum((f * height**i * width**j for (i, j), f in self.terms), Fraction(0))

    def __str__(self) -> str:
        words = [f"{factor}{' H' * i}{' W' * j}" for (i, j), factor in reversed(self.terms)]
        return " + ".join(words) or "0"


def _size(terms: Mapping[Powers, Fraction]) -> Size:
    return Size(tuple(sorted((powers, factor) for powers, factor in terms.items() if factor)))


def as_size(number: Size | int | Fraction) -> Size:
    """A number as a size."""
    return number if isinstance(number, Size) else _size({(0, 0): Fraction(number)})


HEIGHT, WIDTH = _size({(1, 0): Fraction(1)}), _size({(0, 1): Fraction(1)})
"""The picture's own sides."""


def rounded_down(size: Size) -> tuple[Size, int]:
    """The whole part, and the multiple of the picture's sides for which it is one.

    >>> whole, multiple = rounded_down(HEIGHT * Fraction(1, 2) + Fraction(3, 2))
    >>> str(whole), multiple
    ('1/2 H + 1', 2)
    """
    varying = {powers: factor for powers, factor in size.terms if powers != (0, 0)}
    multiple = lcm(*(factor.denominator for factor in varying.values()))
    return _size(varying) + floor(size.fixed_part), multiple


def quotient(size: Size, divisor: Size) -> Size:
    """The exact quotient of proportional sizes, or by a product of sides. Raises Undecided for others.

    >>> str(quotient(HEIGHT * WIDTH * 6, WIDTH * 2)), str(quotient(HEIGHT * 4 + 2, HEIGHT * 2 + 1))
    ('3 H', '2')
    """
    if not divisor.terms:
        raise Undecided(f"{size} is divided by zero")
    ((i, j), factor) = divisor.terms[0]
    if size.terms and divisor * (size.terms[0][1] / factor) == size:
        return as_size(size.terms[0][1] / factor)
    if len(divisor.terms) > 1:
        raise Undecided(f"{size} is divided by {divisor}")
    divided = {(k - i, l - j): own / factor for (k, l), own in size.terms}
    if any(min(powers) < 0 for powers in divided):
        raise Undecided(f"{size} is divided by {divisor}")
    return _size(divided)


def sign(size: Size) -> int:
    """-1, 0 or 1 where it is that for every picture. Raises Undecided where it depends on the picture.

    >>> sign(HEIGHT + 1), sign(HEIGHT * -1)
    (1, -1)
    """
    signs = {(factor > 0) - (factor < 0) for _, factor in size.terms}
    if len(signs) > 1:
        raise Undecided(f"whether {size} is above zero depends on the picture")
    return signs.pop() if signs else 0
