"""A value as an affine form: a sum of convolutions of other values plus a constant. The laws, in a table.

An affine form is exact at every pixel of every picture, borders included; where there is no exact form,
`Inexact` is raised. Windows (integers) are computed immediately, so that choices are cheap to compare;
weights are computed only when they are read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from onebranch.algebra.conv import Conv, compose, regroup
from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding
from onebranch.graph.merge.linear import (
    NO_PADDING,
    Average,
    Convolve,
    Fill,
    Fills,
    Join,
    Linear,
    Normalize,
    Pad,
    Pass,
    Scale,
    Select,
    Sum,
)
from onebranch.graph.merge.window import Inexact, Window, after, joined, padded, reads_only_padding, window

CONSTANT_DRIFT = 1e-13
"""Relative difference up to which two float64 constants, summed in different orders, count as equal."""

MAX_BORDER_VALUES = 1 << 24
"""Largest number of values of a padded border; damaged files declare paddings of billions of pixels."""


@dataclass(frozen=True)
class Source:
    """The input of a term's convolution: a value or, if `ones`, a plane of ones of the value's size.

    Both are zero outside of the picture.
    """

    value: str
    ones: bool = False


@dataclass(frozen=True, eq=False)
class Term:
    """A convolution of one source.

    rows, columns: the windows, which hold stride, dilation and padding. outputs, inputs: channels.
    weight(): (O, I / groups, K, L), float64, its taps `step` apart; computed when it is called.
    identity_sign: +1 or -1 if the term is the source itself or its negative, otherwise 0.
    cancelled: True if the term cancelled to zero.
    """

    rows: Window
    columns: Window
    groups: int
    outputs: int
    inputs: int
    weight: Callable[[], Floats]
    identity_sign: int = 0
    cancelled: bool = False

    @property
    def taps(self) -> int:
        """The number of taps of the kernel."""
        return self.rows.taps * self.columns.taps

    @property
    def is_scaling(self) -> bool:
        """True if the term only multiplies every channel by a number."""
        pointwise = (self.rows, self.columns) == (Window(), Window())
        return pointwise and self.groups == self.inputs == self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one output pixel; 0 if the term is the source itself or its negative."""
        return 0 if self.identity_sign else self.outputs * (self.inputs // self.groups) * self.taps

    def conv(self) -> Conv:
        """The kernel as a `Conv` of the algebra; strides and dilations stay in the windows."""
        return Conv(self.weight(), np.zeros(self.outputs), self.groups)


@dataclass(frozen=True, eq=False)
class AffineForm:
    """A value of `channels` channels: the sum of its terms, plus a constant.

    constant: (C, T + 1 + B, L + 1 + R). Row i < T belongs to the i-th row of the picture, the last B rows to
    the picture's last B rows, and row T to all rows between; columns likewise.
    border_width: the numbers of rows at the top (T) and bottom (B), and of columns on the left (L) and right
    (R), that have constants different from the middle.
    """

    terms: Mapping[Source, Term]
    constant: Floats
    border_width: Padding = NO_PADDING

    @property
    def channels(self) -> int:
        """The number of channels of the value."""
        return len(self.constant)

    @property
    def bias(self) -> Floats:
        """The constant (C,) of a form without a border."""
        assert not self.border_width, "call without_border first"
        return np.asarray(self.constant[:, 0, 0])

    @property
    def needs_border_map(self) -> bool:
        """True if a term convolves a plane of ones, because the constant differs at the borders."""
        return any(source.ones for source in self.terms)


def effective_terms(affine: AffineForm) -> dict[Source, Term]:
    """The terms that must be computed: those that did not cancel, or the first one if all did."""
    terms = {key: term for key, term in affine.terms.items() if not term.cancelled}
    return terms or dict(list(affine.terms.items())[:1])


def convolution_count(affine: AffineForm) -> int:
    """The number of convolutions that compute the form.

    Terms that only scale, border maps and sources that are added as they are do not count.
    """
    return sum(
        not (term.identity_sign or term.is_scaling or key.ones)
        for key, term in effective_terms(affine).items()
    )


def source(name: str, channels: int) -> AffineForm:
    """The form of a value in terms of itself: the identity."""
    term = Term(Window(), Window(), channels, channels, channels, lambda: np.ones((channels, 1, 1, 1)), 1)
    return AffineForm({Source(name): term}, np.zeros((channels, 1, 1)))


def apply(operation: Linear, inputs: Sequence[AffineForm]) -> AffineForm:
    """The form of an operation's value, from the forms of its inputs. Raises Inexact where there is none."""
    return _LAWS[type(operation)](operation, inputs)


# Worked example. x has one channel, a = 2 x + 3 is a 1x1 convolution, and b pads a by one pixel of 0 on every
# side. The form of b:
#     terms         2 * x, read through a window with one row and column of padding
#     border_width  1 on every side
#     constant      0 0 0      (the corners and edges of the padded picture)
#                   0 3 0      (everything between)
#                   0 0 0
# The ring is 0 everywhere and the middle is 3, so the form without a border is
#     2 * x + 3 * ones(x) + 0
# where ones(x) is a plane of ones of x's size, padded like x: 0 in the ring, 1 in the middle.
# If the padding value were 3 as well, ring and middle would be equal, and the result 2 * x + 3.
def without_border(affine: AffineForm) -> AffineForm:
    """The same form with one constant for the whole picture.

    If the constant at the border differs from the constant in the middle, the difference becomes a
    convolution of a plane of ones. This is exact for every picture size if the middle has exactly the
    extent of one source. Raises Inexact if it has not.
    """
    if not affine.border_width:
        return affine
    top, left = affine.border_width.top, affine.border_width.left
    # One entry of the constant is the middle; all others are the border, the "ring".
    middle = affine.constant[:, top, left]
    rest = np.delete(
        affine.constant.reshape(affine.channels, -1), top * affine.constant.shape[2] + left, axis=1
    )
    ring = rest[:, 0]
    largest = np.abs(affine.constant).max()
    if np.abs(rest - ring[:, None]).max() > CONSTANT_DRIFT * largest:
        raise Inexact("the constants at the borders differ from side to side")
    bare = replace(affine, constant=ring[:, None, None], border_width=NO_PADDING)
    if np.abs(middle - ring).max() <= CONSTANT_DRIFT * largest:
        return replace(bare, constant=middle[:, None, None])
    extent, term = _extent(affine)
    ones = replace(
        term,
        rows=replace(term.rows, first=-top * term.rows.stride, taps=1, step=0),
        columns=replace(term.columns, first=-left * term.columns.stride, taps=1, step=0),
        groups=1,
        outputs=affine.channels,
        inputs=1,
        weight=lambda: (middle - ring)[:, None, None, None],
        identity_sign=0,
    )
    return _sum(
        Sum((1, 1)), [bare, AffineForm({Source(extent, ones=True): ones}, np.zeros((affine.channels, 1, 1)))]
    )


def _extent(affine: AffineForm) -> tuple[str, Term]:
    """The source, and its term, whose extent, subsampled by the stride, is the middle of the form."""
    border = affine.border_width
    for key, term in affine.terms.items():
        rows, columns = term.rows, term.columns
        fits = (
            rows.slack == rows.stride * border.height - 1
            and columns.slack == columns.stride * border.width - 1
        )
        if fits and not key.ones:
            return key.value, term
    raise Inexact("a constant differs at the borders, and no plane of ones describes where")


def _pass(operation: Pass, inputs: Sequence[AffineForm]) -> AffineForm:
    return inputs[0]


def _convolve(operation: Convolve, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: composition. The input is padded first; padding and dilation stay in the windows."""
    affine = without_border(_pad_form(inputs[0], operation.padding, np.zeros(inputs[0].channels)))
    k, l = operation.weight.shape[2:]
    rows = window(k, operation.dilations[0], operation.strides[0], 0, 0)
    columns = window(l, operation.dilations[1], operation.strides[1], 0, 0)
    conv = Conv(operation.weight, np.zeros(len(operation.weight)), operation.groups)
    terms = {key: _composed(conv, rows, columns, term) for key, term in affine.terms.items()}
    constant = _response_to_constant(operation, affine.bias)
    return AffineForm(terms, constant[:, None, None])


def _response_to_constant(operation: Convolve, constant: Floats) -> Floats:
    """The output (O,) for an input that is the constant (I,) everywhere."""
    sums = operation.weight.sum((2, 3))
    outputs, per_group = sums.shape
    grouped = sums.reshape(operation.groups, outputs // operation.groups, per_group)
    result = (grouped @ constant.reshape(operation.groups, per_group, 1)).reshape(outputs)
    return np.asarray(result if operation.bias is None else result + operation.bias)


def _composed(conv: Conv, rows: Window, columns: Window, term: Term) -> Term:
    """The term after the convolution `conv`.

    Both kernels are written on a grid that contains the taps of both, and convolved there. The number of
    groups is the greatest common divisor of both.
    """
    tall, wide = after(rows, term.rows), after(columns, term.columns)

    def weight() -> Floats:
        outer = _upsampled_kernel(
            conv.weight, (rows, columns), (tall, wide), (term.rows.stride, term.columns.stride)
        )
        inner = _upsampled_kernel(term.weight(), (term.rows, term.columns), (tall, wide), (1, 1))
        first = Conv(inner, np.zeros(term.outputs), term.groups)
        composed: Floats = compose(replace(conv, weight=outer), first).weight
        return composed

    # A composition of 4 and of 6 groups has 2: only channels within the same half can be connected.
    groups = math.gcd(conv.groups, term.groups)
    return Term(tall, wide, groups, conv.outputs, term.inputs, cache(weight), cancelled=term.cancelled)


def _upsampled_kernel(
    weight: Floats,
    old: tuple[Window, Window],
    new: tuple[Window, Window],
    strides: tuple[int, int],
) -> Floats:
    """The kernel with zeros between its taps, on the grid of the new windows.

    old, new: windows of rows and columns. strides: those of the operation whose output the kernel reads.
    """
    factors = [
        stride * before.step // after.step if before.step else 1
        for before, after, stride in zip(old, new, strides, strict=True)
    ]
    if factors == [1, 1]:
        return weight
    o, i, k, l = weight.shape
    result = np.zeros((o, i, (k - 1) * factors[0] + 1, (l - 1) * factors[1] + 1))
    result[:, :, :: factors[0], :: factors[1]] = weight
    return result


def _normalize(operation: Normalize, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: scaling by weight / sqrt(variance + epsilon), then a shift."""
    factor = operation.weight / np.sqrt(operation.variance + operation.epsilon)
    return _scaled(inputs[0], factor, operation.bias - operation.mean * factor)


def _scale(operation: Scale, inputs: Sequence[AffineForm]) -> AffineForm:
    return _scaled(inputs[0], operation.factor, operation.shift)


def _scaled(affine: AffineForm, factor: Floats, shift: Floats) -> AffineForm:
    """Every output channel times its factor, plus its shift."""
    sign = 1 if (factor == 1).all() else -1 if (factor == -1).all() else 0

    def scaled(term: Term) -> Term:
        weight = cache(lambda: term.weight() * factor[:, None, None, None])
        return replace(term, weight=weight, identity_sign=term.identity_sign * sign)

    terms = {key: scaled(term) for key, term in affine.terms.items()}
    constant = affine.constant * factor[:, None, None] + shift[:, None, None]
    return AffineForm(terms, constant, affine.border_width)


def _sum(operation: Sum, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: addition, source by source; kernels are aligned by their windows and added."""
    affine_forms, border_width = _with_equal_borders(inputs)
    terms: dict[Source, Term] = {}
    for sign, affine in zip(operation.signs, affine_forms, strict=True):
        signed = (
            affine if sign == 1 else _scaled(affine, -np.ones(affine.channels), np.zeros(affine.channels))
        )
        for key, term in signed.terms.items():
            terms[key] = _add_terms(terms[key], term) if key in terms else term
    constants = [sign * affine.constant for sign, affine in zip(operation.signs, affine_forms, strict=True)]
    return AffineForm(terms, sum(constants[1:], constants[0]) + np.zeros((1, 1, 1)), border_width)


def _with_equal_borders(inputs: Sequence[AffineForm]) -> tuple[list[AffineForm], Padding]:
    """The forms with one common border width, or without borders if their border widths differ.

    A form without a border can be added to a form with any border.
    """
    widths = {affine.border_width for affine in inputs if affine.border_width}
    if len(widths) == 1:
        return list(inputs), widths.pop()
    return [without_border(affine) for affine in inputs], NO_PADDING


# Worked example, in one dimension. `one` is a 3-tap kernel (1 2 3) with padding 1: its taps have the offsets
# -1, 0 and 1. `other` is a 1-tap kernel (5) without padding, of offset 0. The joined window has the offsets
# -1, 0 and 1, on which `other` is (0 5 0), so the sum is (1 7 3). A kernel (a b) of dilation 2, with the
# offsets -1 and 1, would be aligned as (a 0 b).
def _add_terms(one: Term, other: Term) -> Term:
    """The sum of two terms of one source. Raises Inexact if their windows cannot be aligned."""
    rows, columns = joined(one.rows, other.rows), joined(one.columns, other.columns)
    if one.cancelled or other.cancelled:
        return other if one.cancelled else one
    if one.identity_sign and one.identity_sign == -other.identity_sign:
        nothing = cache(lambda: np.zeros((one.outputs, 1, 1, 1)))
        return replace(one, weight=nothing, identity_sign=0, cancelled=True)
    groups = math.gcd(one.groups, other.groups)

    def weight() -> Floats:
        return np.asarray(
            _aligned_kernel(one, rows, columns, groups) + _aligned_kernel(other, rows, columns, groups)
        )

    return Term(rows, columns, groups, one.outputs, one.inputs, cache(weight))


def _aligned_kernel(term: Term, rows: Window, columns: Window, groups: int) -> Floats:
    """The term's kernel in a larger window, zero at the other taps."""
    weight = regroup(term.conv(), groups).weight
    slices = []
    for small, large in ((term.rows, rows), (term.columns, columns)):
        step = large.step or 1
        offset, spacing = (small.first - large.first) // step, small.step // step or 1
        slices.append(slice(offset, offset + (small.taps - 1) * spacing + 1, spacing))
    result = np.zeros((*weight.shape[:2], rows.taps, columns.taps))
    result[:, :, slices[0], slices[1]] = weight
    return result


def _join(operation: Join, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: concatenation. A source's kernel is zero for outputs that do not depend on the source."""
    affine_forms, border_width = _with_equal_borders(inputs)
    total = sum(affine.channels for affine in affine_forms)
    terms: dict[Source, Term] = {}
    offset = 0
    for affine in affine_forms:
        for key, term in affine.terms.items():
            moved = _moved(term, offset, total)
            terms[key] = _add_terms(terms[key], moved) if key in terms else moved
        offset += affine.channels
    largest = max((affine.constant for affine in affine_forms), key=np.size).shape[1:]
    constants = [np.broadcast_to(affine.constant, (affine.channels, *largest)) for affine in affine_forms]
    return AffineForm(terms, np.concatenate(constants), border_width)


def _moved(term: Term, offset: int, total: int) -> Term:
    """The term as the outputs from `offset` on of `total` outputs, the others zero."""

    def weight() -> Floats:
        dense = regroup(term.conv(), 1).weight
        result = np.zeros((total, *dense.shape[1:]))
        result[offset : offset + term.outputs] = dense
        return result

    if (term.outputs, offset) == (total, 0):
        return term
    return replace(term, groups=1, outputs=total, weight=cache(weight), identity_sign=0)


def _select(operation: Select, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: selection of output channels of the kernel."""
    (affine,) = inputs
    indices = np.asarray(operation.indices, np.int64)
    if operation.indices == tuple(range(affine.channels)):
        return affine

    def selected(term: Term) -> Term:
        weight = cache(lambda: regroup(term.conv(), 1).weight[indices])
        return replace(term, groups=1, outputs=len(indices), weight=weight, identity_sign=0)

    terms = {key: selected(term) for key, term in affine.terms.items()}
    return AffineForm(terms, affine.constant[indices], affine.border_width)


def _pad(operation: Pad, inputs: Sequence[AffineForm]) -> AffineForm:
    return _pad_form(inputs[0], operation.padding, np.full(inputs[0].channels, operation.value))


def _pad_form(affine: AffineForm, padding: Padding, value: Floats) -> AffineForm:
    """Law: padding. The border holds `value` (C,); the terms must be zero there. Raises Inexact otherwise."""
    if not padding:
        return affine
    shape = affine.channels, padding.height + 1, padding.width + 1
    if math.prod(shape) > MAX_BORDER_VALUES:
        raise Inexact(f"a padding of {padding.height} rows and {padding.width} columns is too large to merge")
    if affine.border_width:
        affine = without_border(affine)

    def padded_term(term: Term) -> Term:
        rows = padded(term.rows, padding.top, padding.bottom)
        columns = padded(term.columns, padding.left, padding.right)
        return replace(term, rows=rows, columns=columns, identity_sign=0)

    terms = {key: padded_term(term) for key, term in affine.terms.items()}
    constant = np.broadcast_to(value[:, None, None], shape).copy()
    constant[:, padding.top, padding.left] = affine.bias
    return AffineForm(terms, constant, padding)


def _fill(operation: Fill, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: rows or columns of the border are overwritten. The form's terms must be zero there."""
    (affine,) = inputs
    axis = operation.axis - 1  # of the constant, which has no batch
    if not _fills_border(operation, affine):
        raise Inexact("rows or columns are overwritten that are not padding")
    length = affine.constant.shape[axis]
    first = operation.start % length
    filled = slice(first, first + operation.count)
    constant = affine.constant.copy()
    constant[(slice(None), filled) if axis == 1 else (slice(None), slice(None), filled)] = operation.value[
        :, None, None
    ]
    return replace(affine, constant=constant)


def _fill_in_turn(operation: Fills, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: the fills are applied one after the other."""
    (affine,) = inputs
    for fill in operation.fills:
        affine = _fill(fill, [affine])
    return affine


def _fills_border(operation: Fill, affine: AffineForm) -> bool:
    """Return True if the rows or columns lie in the form's border, where all terms are zero."""
    rows = operation.axis == 2
    border = affine.border_width
    before, behind = (border.top, border.bottom) if rows else (border.left, border.right)
    start, end = operation.start, operation.start + operation.count
    in_border = end <= before if start >= 0 else -start <= behind and end <= 0
    windows = [term.rows if rows else term.columns for term in affine.terms.values()]
    return in_border and all(reads_only_padding(window, start, operation.count) for window in windows)


def _average(operation: Average, inputs: Sequence[AffineForm]) -> AffineForm:
    """Law: a depthwise convolution with the weight 1 / divisor."""
    channels = inputs[0].channels
    weight = np.full((channels, 1, *operation.kernel), 1 / operation.divisor)
    conv = Convolve(weight, None, channels, operation.strides, (1, 1), operation.padding)
    return _convolve(conv, inputs)


_LAWS: dict[type, Callable[..., AffineForm]] = {
    Pass: _pass,
    Convolve: _convolve,
    Normalize: _normalize,
    Scale: _scale,
    Sum: _sum,
    Join: _join,
    Select: _select,
    Pad: _pad,
    Fill: _fill,
    Fills: _fill_in_turn,
    Average: _average,
}
"""For every linear operation: the law that gives its form from the forms of its inputs."""
