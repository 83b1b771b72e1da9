"""Symbolic sizes: polynomials in the height and width of the input picture.

`Shape` gives such sizes and `Reshape` asks for them. Rounded quotients are polynomials only for pictures
whose height and width are multiples of some number; the functions that round also return that number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm

from onebranch.errors import OnebranchError

Powers = tuple[int, int]
"""Exponents of height and width."""


class UndeterminedSizeError(OnebranchError):
    """A size depends on the picture in a way that no polynomial describes; the message says where."""


@dataclass(frozen=True)
class SymbolicSize:
    """A polynomial in H and W with rational coefficients: sorted terms, none of them zero.

    2 H W + 3 is SymbolicSize((((0, 0), 3), ((1, 1), 2))).
    """

    terms: tuple[tuple[Powers, Fraction], ...] = ()

    def __add__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        total = dict(self.terms)
        for powers, factor in as_size(other).terms:
            total[powers] = total.get(powers, Fraction(0)) + factor
        return _size(total)

    def __sub__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        return self + as_size(other) * -1

    def __mul__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        total: dict[Powers, Fraction] = {}
        for (i, j), one in self.terms:
            for (k, l), two in as_size(other).terms:
                total[i + k, j + l] = total.get((i + k, j + l), Fraction(0)) + one * two
        return _size(total)

    @property
    def number(self) -> Fraction | None:
        """The value of a constant size; None if it depends on the height or width."""
        if not self.terms:
            return Fraction(0)
        return self.terms[0][1] if len(self.terms) == 1 and self.terms[0][0] == (0, 0) else None

    @property
    def fixed_part(self) -> Fraction:
        """The constant term."""
        return dict(self.terms).get((0, 0), Fraction(0))

    def at(self, height: int, width: int) -> Fraction:
        """The value for a picture of `height` x `width` pixels."""
        return sum((f * height**i * width**j for (i, j), f in self.terms), Fraction(0))

    def __str__(self) -> str:
        words = [f"{factor}{' H' * i}{' W' * j}" for (i, j), factor in reversed(self.terms)]
        return " + ".join(words) or "0"


def _size(terms: Mapping[Powers, Fraction]) -> SymbolicSize:
    return SymbolicSize(tuple(sorted((powers, factor) for powers, factor in terms.items() if factor)))


def as_size(number: SymbolicSize | int | Fraction) -> SymbolicSize:
    """A number as a constant size; a size stays what it is."""
    return number if isinstance(number, SymbolicSize) else _size({(0, 0): Fraction(number)})


HEIGHT, WIDTH = _size({(1, 0): Fraction(1)}), _size({(0, 1): Fraction(1)})
"""The height and width of the input picture."""


def floor_with_multiple(size: SymbolicSize) -> tuple[SymbolicSize, int]:
    """The size rounded down, and the multiple of height and width for which that polynomial is exact.

    >>> whole, multiple = floor_with_multiple(HEIGHT * Fraction(1, 2) + Fraction(3, 2))
    >>> str(whole), multiple
    ('1/2 H + 1', 2)
    """
    varying = {powers: factor for powers, factor in size.terms if powers != (0, 0)}
    multiple = lcm(*(factor.denominator for factor in varying.values()))
    return _size(varying) + floor(size.fixed_part), multiple


def quotient(size: SymbolicSize, divisor: SymbolicSize) -> SymbolicSize:
    """The exact quotient, where the sizes are proportional or the divisor is a single term.

    Raises UndeterminedSizeError for every other divisor.

    >>> str(quotient(HEIGHT * WIDTH * 6, WIDTH * 2)), str(quotient(HEIGHT * 4 + 2, HEIGHT * 2 + 1))
    ('3 H', '2')
    """
    if not divisor.terms:
        raise UndeterminedSizeError(f"{size} is divided by zero")
    ((i, j), factor) = divisor.terms[0]
    if size.terms and divisor * (size.terms[0][1] / factor) == size:
        return as_size(size.terms[0][1] / factor)
    if len(divisor.terms) > 1:
        raise UndeterminedSizeError(f"{size} is divided by {divisor}")
    divided = {(k - i, l - j): coefficient / factor for (k, l), coefficient in size.terms}
    if any(min(powers) < 0 for powers in divided):
        raise UndeterminedSizeError(f"{size} is divided by {divisor}")
    return _size(divided)


def sign(size: SymbolicSize) -> int:
    """-1, 0 or 1. Raises UndeterminedSizeError if the sign depends on the picture.

    >>> sign(HEIGHT + 1), sign(HEIGHT * -1)
    (1, -1)
    """
    signs = {(factor > 0) - (factor < 0) for _, factor in size.terms}
    if len(signs) > 1:
        raise UndeterminedSizeError(f"whether {size} is above zero depends on the picture")
    return signs.pop() if signs else 0
