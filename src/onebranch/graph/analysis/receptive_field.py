"""Receptive fields along one axis: which pixels of a value are correct if only a piece of the input is known.

A piece is a run of consecutive input pixels cut out of the picture. A pixel of a value is correct if it
equals the pixel computed from the whole picture. All laws in this module are exact integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, gcd

Taps = Callable[[Fraction], tuple[int, int]]
"""A function from a position between pixels to the first and last pixel that interpolation reads."""


@dataclass(frozen=True)
class AxisReceptiveField:
    """The receptive field of a value's pixels along one axis, in input pixels.

    A piece of n input pixels (n: a multiple of q) gives n p / q + extra pixels of the value; p / q is the
    scale in lowest terms. Pixel y depends on input pixels floor((q y + first) / p) to
    floor((q y + last) / p), and is correct if these lie in the piece.

    After one 3-tap convolution padded by 1: p = q = 1, first = -1, last = 1, extra = 0; pixel y depends on
    input pixels y - 1 to y + 1.
    """

    p: int = 1
    q: int = 1
    first: int = 0
    last: int = 0
    extra: int = 0

    @property
    def scale(self) -> Fraction:
        """Pixels of this value per input pixel."""
        return Fraction(self.p, self.q)

    def pixels_for(self, pixels: int) -> int:
        """Input pixels needed for this value to have at least `pixels` pixels."""
        return -((self.extra - pixels) * self.q // self.p)

    @property
    def first_valid(self) -> int:
        """The first pixel that is correct: the smallest y with q y + first >= 0."""
        return -(self.first // self.q)

    @property
    def valid_end(self) -> int:
        """The end of the correct pixels relative to p n / q: pixels y < p n / q + valid_end are correct."""
        return -(self.last // self.q)


def _normalized_field(scale: Fraction, first: int, last: int, extra: int) -> AxisReceptiveField:
    """The field with p and q in lowest terms; only pixels that exist are correct."""
    p, q = scale.numerator, scale.denominator
    return AxisReceptiveField(p, q, min(first, q - 1), max(last, -q * extra), extra)


def _from_valid_range(scale: Fraction, first_valid: int, valid_end: int, extra: int) -> AxisReceptiveField:
    """The largest field whose correct pixels are `first_valid` <= y < p n / q + `valid_end`."""
    q = scale.denominator
    return _normalized_field(scale, -q * first_valid, q - 1 - q * valid_end, extra)


def windowed(
    field: AxisReceptiveField,
    taps: int,
    dilation: int = 1,
    stride: int = 1,
    pads: tuple[int, int] = (0, 0),
    ceil_mode: bool = False,
) -> AxisReceptiveField:
    """After a convolution or pool: pixel y reads pixels y stride - pads[0] + dilation i, 0 <= i < taps.

    Negative pads crop. ceil_mode: the number of pixels is rounded up, as long as the last window begins
    within the value or its padding before it.

    >>> windowed(AxisReceptiveField(), taps=3, stride=2, pads=(1, 1))
    AxisReceptiveField(p=1, q=2, first=-1, last=1, extra=0)
    """
    extent = dilation * (taps - 1)
    free = field.extra + sum(pads) - extent - 1
    extra = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (extra - 1) * stride >= field.extra + pads[0]:
        extra -= 1
    common = gcd(field.p, field.q * stride)
    first = (field.first - field.q * pads[0]) // common
    last = (field.last + field.q * (extent - pads[0])) // common
    return _normalized_field(field.scale / stride, first, last, extra)


def shuffled(field: AxisReceptiveField, factor: int) -> AxisReceptiveField:
    """The axis after a pixel shuffle: output pixel y depends on input pixel floor(y / factor)."""
    return _from_valid_range(
        field.scale * factor, field.first_valid * factor, field.valid_end * factor, field.extra * factor
    )


def unshuffled(field: AxisReceptiveField, factor: int) -> AxisReceptiveField:
    """After a pixel unshuffle: pixel y reads pixels y factor to y factor + factor - 1."""
    return windowed(field, taps=factor, stride=factor)


def transposed(
    field: AxisReceptiveField,
    taps: int,
    dilation: int,
    stride: int,
    pads: tuple[int, int],
    output_padding: int,
) -> AxisReceptiveField:
    """After a transposed convolution: pixel y sums pixels i where y = i stride - pads[0] + dilation j.

    0 <= j < taps. output_padding: pixels added at the end to which no input pixel contributes (ONNX).
    """
    extent = dilation * (taps - 1)
    return _from_valid_range(
        field.scale * stride,
        (field.first_valid - 1) * stride + 1 + extent - pads[0],
        field.valid_end * stride - pads[0],
        (field.extra - 1) * stride + output_padding + extent + 1 - sum(pads),
    )


# Example: linear interpolation to twice the size, half-pixel centres (scale 2, shift 1/2, one pixel read on
# each side of a position). Pixel 0 lies at (0 + 1/2) / 2 - 1/2 = -1/4 and reads pixels -1 and 0, pixel 1 lies
# at 1/4 and reads 0 and 1. A piece begins at pixel 0, so pixel 1 is the first correct one (first_valid = 1).
# Relative to the end of the piece, pixel -1 lies at -3/4 and reads -1 and 0, where 0 is beyond the end, and
# pixel -2 lies at -5/4 and reads -2 and -1: so valid_end = -1, and a piece of n pixels gives the correct
# pixels 1 to 2 n - 2. Result: AxisReceptiveField(p=2, q=1, first=-1, last=1, extra=0).
def resized(field: AxisReceptiveField, scale: Fraction, shift: Fraction, taps: Taps) -> AxisReceptiveField:
    """After a resize: pixel y reads the pixels that `taps` gives for position (y + shift) / scale - shift.

    shift: 1/2 if pixel y has the coordinate y + 1/2 (half-pixel centres), 0 if it has the coordinate y.
    """

    def read(pixel: int) -> tuple[int, int]:
        return taps((pixel + shift) / scale - shift)

    if scale.numerator == 1:  # every pixel reads the same pattern as the first one
        (low, high), stride = read(0), scale.denominator
        return windowed(field, high - low + 1, stride=stride, pads=(-low, high + 1 - stride))
    first_valid = _first_where(
        lambda y: read(y)[0] >= field.first_valid, floor(field.first_valid * scale), scale
    )
    valid_end = _first_where(lambda y: read(y)[1] >= field.valid_end, floor(field.valid_end * scale), scale)
    return _from_valid_range(field.scale * scale, first_valid, valid_end, floor(field.extra * scale))


def _first_where(holds: Callable[[int], bool], guess: int, scale: Fraction) -> int:
    """The smallest integer for which a monotonic condition holds, searched from a guess near it."""
    step = ceil(scale)
    while holds(guess):
        guess -= step
    while not holds(guess):
        guess += 1
    return guess


# Example: a 3-tap convolution padded by 1, then padding by reflection of 4 pixels. Beyond the begin, the
# reflection reads pixels 1 to 4 of the convolution (before = 4). Pixel 4 depends on input pixels 3 to 5, so a
# piece at the picture's border must hold pixels 0 to 5: 6 pixels. With before = after = 0 (padding by
# replication), pixel 0 depends on input pixels 0 and 1: 2 pixels.
def minimum_border_tile(field: AxisReceptiveField, before: int, after: int) -> int:
    """Input pixels that a piece at the picture's border needs so that border padding reads correct pixels.

    before, after: the distance from the value's first and last pixel to the furthest pixel that the padding
    at that end reads (0 for replication, the amount of padding for reflection); -1 if it reads none.
    """
    from_begin = (field.q * before + field.last) // field.p + 1 if before >= 0 else 1
    from_end = -((field.first - field.q * (1 + after - field.extra)) // field.p) if after >= 0 else 1
    return max(1, from_begin, from_end)


def halo_of_cell(field: AxisReceptiveField, cell: int) -> tuple[int, int]:
    """Input pixels needed before and after a cell of `cell` pixels (a multiple of q), in whole cells.

    >>> twice = windowed(windowed(AxisReceptiveField(), taps=3, pads=(1, 1)), taps=3, stride=2, pads=(1, 1))
    >>> halo_of_cell(twice, 2)
    (2, 2)
    """
    before = -(field.first // field.p)
    after = (field.q * (field.p - 1) + field.last) // field.p - (field.q - 1)
    return -(-max(0, before) // cell) * cell, -(-max(0, after) // cell) * cell
