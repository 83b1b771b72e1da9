"""Which input pixels an output pixel reads, along one axis: the integer half of every law.

A window is exact for every length of the input: composing, padding and joining never look at a size.
"""

from dataclasses import dataclass, replace
from math import gcd

from onebranch.errors import OnebranchError


class Inexact(OnebranchError):
    """Two operations are no single convolution, exactly and for every size; the text says why."""


@dataclass(frozen=True)
class Window:
    """Output pixel y reads input pixels y * stride + first + step * i, for i from 0 to taps - 1.

    The input counts as zero outside of its n pixels; the output has floor((n + slack) / stride) + 1. The step
    of a single tap is 0.
    """

    first: int = 0
    taps: int = 1
    step: int = 0
    stride: int = 1
    slack: int = -1

    @property
    def before(self) -> int:
        """Zeros that a convolution pads before the first pixel."""
        return -self.first

    @property
    def after(self) -> int:
        """Zeros that a convolution pads after the last pixel."""
        return self.slack + self.last + 1

    @property
    def last(self) -> int:
        """Offset of the last tap."""
        return self.first + (self.taps - 1) * self.step


def window(taps: int, dilation: int, stride: int, before: int, after: int) -> Window:
    """The window of a convolution with this kernel size and padding.

    >>> window(3, 1, 1, 1, 1)
    Window(first=-1, taps=3, step=1, stride=1, slack=-1)
    """
    step = dilation if taps > 1 else 0
    return Window(-before, taps, step, stride, before + after - (taps - 1) * step - 1)


def after(outer: Window, inner: Window) -> Window:
    """`outer` reading the output of `inner`, never beyond its ends.

    >>> after(window(3, 1, 1, 0, 0), window(3, 1, 2, 1, 1))
    Window(first=-1, taps=7, step=1, stride=2, slack=-5)
    """
    spread = outer.step * inner.stride
    step = gcd(inner.step, spread)
    reach = inner.step * (inner.taps - 1) + spread * (outer.taps - 1)
    return Window(
        first=inner.first + outer.first * inner.stride,
        taps=reach // step + 1 if step else 1,
        step=step,
        stride=inner.stride * outer.stride,
        slack=inner.slack + inner.stride * (1 + outer.slack),
    )


def padded(inner: Window, before: int, end: int) -> Window:
    """The output of `inner` with constants around it, where its own formula gives zero.

    Raises Inexact where the formula would read pixels of the picture there.
    """
    if before > 0 and inner.last >= inner.stride:
        raise Inexact("zero padding cuts off what the operation before it computes beyond the border")
    if end > 0 and inner.slack + 1 + inner.first < 0:
        raise Inexact("zero padding cuts off what the operation before it computes beyond the border")
    return replace(
        inner,
        first=inner.first - before * inner.stride,
        slack=inner.slack + inner.stride * (before + end),
    )


def outside(inner: Window, start: int, count: int) -> bool:
    """Whether output pixels from `start` on (negative: from the end) read only zeros, for every length."""
    if start >= 0:
        return (start + count - 1) * inner.stride + inner.last < 0
    return inner.slack + 1 + start * inner.stride + inner.first >= 0


def joined(one: Window, other: Window) -> Window:
    """The window that holds the taps of both.

    Raises Inexact where their outputs differ in length for some input.
    """
    if (one.stride, one.slack) != (other.stride, other.slack):
        raise Inexact("the branches' strides and paddings give different sizes for some pictures")
    first, last = min(one.first, other.first), max(one.last, other.last)
    step = gcd(gcd(one.step, other.step), abs(one.first - other.first))
    return replace(one, first=first, step=step, taps=(last - first) // step + 1 if step else 1)
