"""Which pixels of a value a piece of the picture gets right, along one axis: the laws that halos rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, gcd

Taps = Callable[[Fraction], tuple[int, int]]
"""First and last pixel that is read for a place between pixels."""


@dataclass(frozen=True)
class Reach:
    """A piece of n input pixels gives p n / q + extra pixels of this value (n: a multiple of q).

    Pixel y is computed from input pixels floor((q y + first) / p) to floor((q y + last) / p), or is right, at
    least, where these lie in the piece: what lies beyond a piece's end is not what lies there in the picture.
    """

    p: int = 1
    q: int = 1
    first: int = 0
    last: int = 0
    extra: int = 0

    @property
    def scale(self) -> Fraction:
        """Pixels of this value for one input pixel."""
        return Fraction(self.p, self.q)

    def pixels_for(self, pixels: int) -> int:
        """Input pixels for which there are at least so many of this value."""
        return -((self.extra - pixels) * self.q // self.p)

    @property
    def least(self) -> int:
        """Pixel y is right from that y on: the smallest y with q y + first >= 0."""
        return -(self.first // self.q)

    @property
    def beyond(self) -> int:
        """Pixel y is right up to, without it, y = p n / q + beyond."""
        return -(self.last // self.q)


def _reach(scale: Fraction, first: int, last: int, extra: int) -> Reach:
    """With p and q in lowest terms and no pixel right that is not there."""
    p, q = scale.numerator, scale.denominator
    return Reach(p, q, min(first, q - 1), max(last, -q * extra), extra)


def _between(scale: Fraction, least: int, beyond: int, extra: int) -> Reach:
    """Right from pixel `least` up to, without it, p n / q + `beyond`; of all such reaches the widest."""
    q = scale.denominator
    return _reach(scale, -q * least, q - 1 - q * beyond, extra)


def windowed(
    reach: Reach,
    taps: int,
    dilation: int = 1,
    stride: int = 1,
    pads: tuple[int, int] = (0, 0),
    up: bool = False,
) -> Reach:
    """Pixel y made from pixels y stride - pads[0] + dilation i, i < taps; negative pads cut pixels off.

    up: the number of pixels is rounded up, as long as each begins within the value or the pixels before it.

    >>> windowed(Reach(), taps=3, stride=2, pads=(1, 1))
    Reach(p=1, q=2, first=-1, last=1, extra=0)
    """
    spread = dilation * (taps - 1)
    free = reach.extra + sum(pads) - spread - 1
    extra = (-(-free // stride) if up else free // stride) + 1
    if up and (extra - 1) * stride >= reach.extra + pads[0]:
        extra -= 1
    common = gcd(reach.p, reach.q * stride)
    first = (reach.first - reach.q * pads[0]) // common
    last = (reach.last + reach.q * (spread - pads[0])) // common
    return _reach(reach.scale / stride, first, last, extra)


def shuffled(reach: Reach, factor: int) -> Reach:
    """Pixel y taken from pixel floor(y / factor)."""
    return _between(reach.scale * factor, reach.least * factor, reach.beyond * factor, reach.extra * factor)


def unshuffled(reach: Reach, factor: int) -> Reach:
    """Pixel y made from pixels y factor to y factor + factor - 1; there must be a whole number of them."""
    return windowed(reach, taps=factor, stride=factor)


def transposed(
    reach: Reach, taps: int, dilation: int, stride: int, pads: tuple[int, int], added: int
) -> Reach:
    """Pixel y made from those pixels i for which y = i stride - pads[0] + dilation j, j < taps.

    added: pixels at the end beyond those that have a pixel to be made from (ONNX: output_padding).
    """
    spread = dilation * (taps - 1)
    return _between(
        reach.scale * stride,
        (reach.least - 1) * stride + 1 + spread - pads[0],
        reach.beyond * stride - pads[0],
        (reach.extra - 1) * stride + added + spread + 1 - sum(pads),
    )


def resized(reach: Reach, scale: Fraction, shift: Fraction, taps: Taps) -> Reach:
    """Pixel y made from the pixels that `taps` reads around place (y + shift) / scale - shift.

    shift: 1/2 where pixels have centres, 0 where they have corners.
    """

    def read(pixel: int) -> tuple[int, int]:
        return taps((pixel + shift) / scale - shift)

    if scale.numerator == 1:  # every pixel reads as the first does
        (low, high), stride = read(0), scale.denominator
        return windowed(reach, high - low + 1, stride=stride, pads=(-low, high + 1 - stride))
    least = _smallest(lambda y: read(y)[0] >= reach.least, floor(reach.least * scale), scale)
    beyond = _smallest(lambda y: read(y)[1] >= reach.beyond, floor(reach.beyond * scale), scale)
    return _between(reach.scale * scale, least, beyond, floor(reach.extra * scale))


def _smallest(holds: Callable[[int], bool], near: int, scale: Fraction) -> int:
    """The smallest number for which a rising condition holds, near a first guess."""
    step = ceil(scale)
    while holds(near):
        near -= step
    while not holds(near):
        near += 1
    return near


def smallest_piece(reach: Reach, before: int, after: int) -> int:
    """Input pixels that a piece at the picture's border needs, where pixels near the border are read twice.

    Beyond the value's begin its pixels up to `before` are read, beyond its end those from the last but
    `after` on; they must be right although the piece ends somewhere. -1: none is read.
    """
    from_begin = (reach.q * before + reach.last) // reach.p + 1 if before >= 0 else 1
    from_end = -((reach.first - reach.q * (1 + after - reach.extra)) // reach.p) if after >= 0 else 1
    return max(1, from_begin, from_end)


def beyond_cell(reach: Reach, cell: int) -> tuple[int, int]:
    """Input pixels needed before and after a cell of so many (a multiple of q), rounded up to whole cells.

    >>> beyond_cell(windowed(windowed(Reach(), taps=3, pads=(1, 1)), taps=3, stride=2, pads=(1, 1)), 2)
    (2, 2)
    """
    before = -(reach.first // reach.p)
    after = (reach.q * (reach.p - 1) + reach.last) // reach.p - (reach.q - 1)
    return -(-max(0, before) // cell) * cell, -(-max(0, after) // cell) * cell
