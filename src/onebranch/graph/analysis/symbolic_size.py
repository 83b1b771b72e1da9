"""Symbolic sizes: polynomials in the sizes that a graph's inputs leave open.

`Shape` returns such sizes, and `Reshape` takes them. A size that is rounded down is either a polynomial for
pictures whose height and width are multiples of some number (`floor_with_multiple`), or exact for every
picture, with the rounded part as a symbol of its own (`floor_exactly`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm, prod

from onebranch.errors import OnebranchError


class UndeterminedSizeError(OnebranchError):
    """A size depends on the picture in a way that no polynomial describes; the message says where."""


@dataclass(frozen=True)
class FloorDivision:
    """The symbol for floor(dividend / divisor); the dividend has integer coefficients."""

    dividend: SymbolicSize
    divisor: int

    def __str__(self) -> str:
        return f"floor(({self.dividend}) / {self.divisor})"


Symbol = str | FloorDivision
"""The name of an open size, or a rounded quotient of such sizes."""

Monomial = tuple[tuple[Symbol, int], ...]
"""Symbols with their exponents (at least 1), sorted by the symbol's text; the constant term has none."""


@dataclass(frozen=True)
class SymbolicSize:
    """A polynomial with rational coefficients: sorted terms, none of them zero.

    2 H W + 3 is SymbolicSize((((), 3), ((("H", 1), ("W", 1)), 2))).
    """

    terms: tuple[tuple[Monomial, Fraction], ...] = ()

    def __add__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        total = dict(self.terms)
        for monomial, factor in as_size(other).terms:
            total[monomial] = total.get(monomial, Fraction(0)) + factor
        return _size(total)

    def __sub__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        return self + as_size(other) * -1

    def __mul__(self, other: SymbolicSize | int | Fraction) -> SymbolicSize:
        total: dict[Monomial, Fraction] = {}
        for left, left_factor in self.terms:
            for right, right_factor in as_size(other).terms:
                monomial = _multiplied(left, right)
                total[monomial] = total.get(monomial, Fraction(0)) + left_factor * right_factor
        return _size(total)

    @property
    def number(self) -> Fraction | None:
        """The value of a constant size; None if it depends on a symbol."""
        if not self.terms:
            return Fraction(0)
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def constant_term(self) -> Fraction:
        """The term without symbols."""
        return dict(self.terms).get((), Fraction(0))

    def evaluate(self, sizes: Mapping[str, int]) -> Fraction:
        """The value for these sizes of the named symbols.

        >>> (HEIGHT * WIDTH * 2).evaluate({"H": 3, "W": 5})
        Fraction(30, 1)
        """
        return sum(
            (
                factor * prod(_value(symbol, sizes) ** exponent for symbol, exponent in monomial)
                for monomial, factor in self.terms
            ),
            Fraction(0),
        )

    def __str__(self) -> str:
        words = [
            f"{factor}" + "".join(f" {symbol}" * exponent for symbol, exponent in monomial)
            for monomial, factor in reversed(self.terms)
        ]
        return " + ".join(words) or "0"


def _value(symbol: Symbol, sizes: Mapping[str, int]) -> int:
    if isinstance(symbol, str):
        return sizes[symbol]
    return floor(symbol.dividend.evaluate(sizes) / symbol.divisor)


def _size(terms: Mapping[Monomial, Fraction]) -> SymbolicSize:
    present = ((monomial, factor) for monomial, factor in terms.items() if factor)
    return SymbolicSize(tuple(sorted(present, key=lambda term: _sort_key(term[0]))))


def _sort_key(monomial: Monomial) -> tuple[int, list[tuple[str, int]]]:
    """By degree, then by the text of the symbols."""
    return sum(exponent for _, exponent in monomial), [(str(symbol), power) for symbol, power in monomial]


def _multiplied(left: Monomial, right: Monomial, sign: int = 1) -> Monomial:
    """The product of two monomials, or their quotient (sign = -1), which may have negative exponents."""
    exponents = dict(left)
    for symbol, exponent in right:
        exponents[symbol] = exponents.get(symbol, 0) + sign * exponent
    return tuple(sorted(((s, e) for s, e in exponents.items() if e), key=lambda power: str(power[0])))


def as_size(number: SymbolicSize | int | Fraction) -> SymbolicSize:
    """A number as a constant size; a size is returned unchanged."""
    return number if isinstance(number, SymbolicSize) else _size({(): Fraction(number)})


def open_size(symbol: Symbol) -> SymbolicSize:
    """The size that consists of this symbol alone."""
    return _size({((symbol, 1),): Fraction(1)})


HEIGHT, WIDTH = open_size("H"), open_size("W")
"""The height and width of the input picture."""


# Example: a pool of stride 2 over H + 3 rows gives floor((H + 3) / 2). For even H that is H / 2 + floor(3 /
# 2) = H / 2 + 1: a polynomial, exact for multiples of 2.
def floor_with_multiple(size: SymbolicSize) -> tuple[SymbolicSize, int]:
    """The size rounded down, and the multiple of height and width for which that polynomial is exact.

    >>> whole, multiple = floor_with_multiple(HEIGHT * Fraction(1, 2) + Fraction(3, 2))
    >>> str(whole), multiple
    ('1/2 H + 1', 2)
    """
    varying = {monomial: factor for monomial, factor in size.terms if monomial}
    multiple = lcm(*(factor.denominator for factor in varying.values()))
    return _size(varying) + floor(size.constant_term), multiple


# Example: two convolutions of 3 taps with stride 2, padded by 1. The first one has floor((H - 1) / 2) + 1
# rows: H - 1 = 2 * (-1) + (H + 1), so the size becomes floor((H + 1) / 2). The second one has
# floor((floor((H + 1) / 2) - 1) / 2) + 1 = floor((floor((H + 1) / 2) + 1) / 2), and a floor of a floor is one
# floor: floor((H + 1 + 1 * 2) / 4) = floor((H + 3) / 4). Equal sizes therefore have equal forms.
def floor_exactly(size: SymbolicSize) -> SymbolicSize:
    """The size rounded down, for every picture: a polynomial plus at most one `FloorDivision`.

    >>> str(floor_exactly(HEIGHT * Fraction(1, 2) + Fraction(3, 2)))
    '1 floor((1 H + 1) / 2) + 1'
    """
    divisor = lcm(*(factor.denominator for _, factor in size.terms))
    # Whole multiples are taken out of the floor first. Example: 5/2 H + 3/2 = 2 H + 1 + (H + 1) / 2.
    quotients = {monomial: floor(factor) for monomial, factor in size.terms}
    whole = _size({monomial: Fraction(number) for monomial, number in quotients.items()})
    remainder = (size - whole) * divisor
    if remainder.number is not None:
        return whole
    nested = _nested_floor(remainder, divisor)
    return whole + (open_size(FloorDivision(remainder, divisor)) if nested is None else nested)


def _nested_floor(dividend: SymbolicSize, divisor: int) -> SymbolicSize | None:
    """floor((floor(a / m) + b) / n) as floor((a + b m) / (m n)); None if the dividend is not of that form."""
    for monomial, factor in dividend.terms:
        if len(monomial) != 1 or factor != 1:
            continue
        symbol, exponent = monomial[0]
        if isinstance(symbol, FloorDivision) and exponent == 1:
            rest = dividend - open_size(symbol)
            combined = symbol.dividend + rest * symbol.divisor
            return floor_exactly(combined * Fraction(1, symbol.divisor * divisor))
    return None


def quotient(size: SymbolicSize, divisor: SymbolicSize) -> SymbolicSize:
    """The exact quotient, where the sizes are proportional or the divisor is a single term.

    Raises UndeterminedSizeError for every other divisor.

    >>> str(quotient(HEIGHT * WIDTH * 6, WIDTH * 2)), str(quotient(HEIGHT * 4 + 2, HEIGHT * 2 + 1))
    ('3 H', '2')
    """
    if not divisor.terms:
        raise UndeterminedSizeError(f"{size} is divided by zero")
    (monomial, factor) = divisor.terms[0]
    # Proportional sizes, such as 4 H + 2 and 2 H + 1: the first terms give the only possible ratio.
    if size.terms and divisor * (size.terms[0][1] / factor) == size:
        return as_size(size.terms[0][1] / factor)
    if len(divisor.terms) > 1:
        raise UndeterminedSizeError(f"{size} is divided by {divisor}")
    divided = {_multiplied(term, monomial, -1): coefficient / factor for term, coefficient in size.terms}
    if any(exponent < 0 for term in divided for _, exponent in term):
        raise UndeterminedSizeError(f"{size} is divided by {divisor}")
    return _size(divided)


def sign(size: SymbolicSize) -> int:
    """-1, 0 or 1. Raises UndeterminedSizeError if the sign depends on the picture.

    >>> sign(HEIGHT + 1), sign(HEIGHT * -1)
    (1, -1)
    """
    signs = {(factor > 0) - (factor < 0) for _, factor in size.terms}
    if len(signs) > 1 or not all(map(_is_positive, _symbols(size))):
        raise UndeterminedSizeError(f"whether {size} is above zero depends on the picture")
    return signs.pop() if signs else 0


def _symbols(size: SymbolicSize) -> list[Symbol]:
    return [symbol for monomial, _ in size.terms for symbol, _ in monomial]


def _is_positive(symbol: Symbol) -> bool:
    """True if a symbol is at least 1 for every picture of at least one pixel."""
    # With every open size at least 1, floor((a H + b) / d) is at least 1 if a > 0, b > 0 and a + b >= d.
    if isinstance(symbol, str):
        return True
    factors = [factor for _, factor in symbol.dividend.terms]
    return min(factors) > 0 and sum(factors) >= symbol.divisor
