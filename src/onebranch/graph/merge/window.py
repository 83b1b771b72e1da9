"""The window of input pixels that an output pixel reads, along one axis: the integer half of every law.

The laws hold for every length of the input: composing, padding and joining do not depend on a length.
"""

from dataclasses import dataclass, replace
from math import gcd

from onebranch.errors import OnebranchError


class Inexact(OnebranchError):
    """Operations that are not equal to one convolution at every picture size; the message says why."""


@dataclass(frozen=True)
class Window:
    """Output pixel y reads the input pixels y * stride + first + step * i, for i from 0 to taps - 1.

    first: offset of the first tap; its negative is the padding before the picture. step: distance between
    taps (the dilation); 0 for a single tap. slack: padding minus kernel extent, so that an input of n pixels
    has floor((n + slack) / stride) + 1 output pixels. The input is zero outside of its n pixels.
    """

    first: int = 0
    taps: int = 1
    step: int = 0
    stride: int = 1
    slack: int = -1

    @property
    def before(self) -> int:
        """The padding before the first pixel."""
        return -self.first

    @property
    def after(self) -> int:
        """The padding after the last pixel."""
        return self.slack + self.last + 1

    @property
    def last(self) -> int:
        """The offset of the last tap."""
        return self.first + (self.taps - 1) * self.step


def window(taps: int, dilation: int, stride: int, before: int, after: int) -> Window:
    """The window of a convolution with this kernel size and padding.

    >>> window(3, 1, 1, 1, 1)
    Window(first=-1, taps=3, step=1, stride=1, slack=-1)
    """
    step = dilation if taps > 1 else 0
    return Window(-before, taps, step, stride, before + after - (taps - 1) * step - 1)


# Worked example. inner: 3 taps, stride 2, padding 1: output pixel y reads input pixels 2 y - 1, 2 y and
# 2 y + 1. outer: 3 taps, stride 1, no padding: output pixel z reads inner's pixels z, z + 1 and z + 2.
# Together z reads the input pixels from 2 z - 1 to 2 (z + 2) + 1 = 2 z + 5, that is 7 taps of stride 2:
#     first   -1 + 0 * 2 = -1
#     step    gcd(1, 1 * 2) = 1: the grid that holds the taps of both
#     extent  1 * (3 - 1) + 2 * (3 - 1) = 6, so 6 / 1 + 1 = 7 taps
#     slack   inner has -1 (n pixels give floor((n - 1) / 2) + 1), outer -3: -1 + 2 * (1 - 3) = -5
# Check with n = 9: inner gives 5 pixels, outer 3 of them, and floor((9 - 5) / 2) + 1 = 3.
def after(outer: Window, inner: Window) -> Window:
    """The window of `outer` applied to the output of `inner`, where `outer` has no padding.

    >>> after(window(3, 1, 1, 0, 0), window(3, 1, 2, 1, 1))
    Window(first=-1, taps=7, step=1, stride=2, slack=-5)
    """
    outer_step = outer.step * inner.stride
    step = gcd(inner.step, outer_step)
    extent = inner.step * (inner.taps - 1) + outer_step * (outer.taps - 1)
    return Window(
        first=inner.first + outer.first * inner.stride,
        taps=extent // step + 1 if step else 1,
        step=step,
        stride=inner.stride * outer.stride,
        slack=inner.slack + inner.stride * (1 + outer.slack),
    )


# Worked example. A 3-tap convolution without padding (first 0, slack -3), then padding by 1 before and after.
# Without the second padding, output 0 reads pixels 0 to 2. The new output 0 must be 0; its window reads
# pixels -1 to 1, where pixels 0 and 1 belong to the picture: Inexact. A 1-tap convolution (first 0) is padded
# to first -1: the new output 0 reads only pixel -1, which is zero.
def padded(inner: Window, before: int, end: int) -> Window:
    """The window of `inner` followed by `before` and `end` pixels of padding.

    The extended window must read only zeros in the padding. Raises Inexact where it would read pixels of the
    picture.
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


def reads_only_padding(inner: Window, start: int, count: int) -> bool:
    """Return True if `count` output pixels from `start` on read only padding, for every input length.

    A negative start counts from the end.
    """
    if start >= 0:
        return (start + count - 1) * inner.stride + inner.last < 0
    return inner.slack + 1 + start * inner.stride + inner.first >= 0


# Example: taps at -1, 0, 1 and at 0 give -1, 0, 1; taps at -2, 0, 2 and at -1, 0, 1 give -2 to 2.
def joined(one: Window, other: Window) -> Window:
    """The smallest window that holds the taps of both.

    Raises Inexact where their outputs differ in length for some input.
    """
    if (one.stride, one.slack) != (other.stride, other.slack):
        raise Inexact("the branches' strides and paddings give different sizes for some pictures")
    first, last = min(one.first, other.first), max(one.last, other.last)
    step = gcd(gcd(one.step, other.step), abs(one.first - other.first))
    return replace(one, first=first, step=step, taps=(last - first) // step + 1 if step else 1)
