"""A value as an affine function of other values: one convolution of each, and a constant. The laws, in a
table.

A form is exact at every pixel of every picture, borders included. What has no exact form raises `Inexact`.
Windows (integers) are worked out at once, so that choices are cheap; weights only when they are asked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from onebranch.algebra.conv import Conv, compose, regroup
from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Fill,
    Floats,
    Join,
    Linear,
    Normalize,
    Pad,
    Pass,
    Scale,
    Select,
    Sides,
    Sum,
)
from onebranch.graph.merge.window import Inexact, Window, after, joined, outside, padded, window

CONSTANT_DRIFT = 1e-13
"""Constants that were computed in two orders in float64 are equal up to this part of the larger."""


@dataclass(frozen=True)
class Source:
    """What a form reads: a value, or (`ones`) a plane of ones as large as it, zero outside like
    everything."""

    value: str
    ones: bool = False


@dataclass(frozen=True, eq=False)
class Term:
    """A convolution of one source. plain: +1 or -1 where it only passes the source on, else 0. zero: whether
    what was added has been subtracted again.

    weight(): (O, I / groups, K, L), float64, its taps `step` apart; computed when asked for.
    """

    rows: Window
    columns: Window
    groups: int
    outputs: int
    inputs: int
    weight: Callable[[], Floats]
    plain: int = 0
    zero: bool = False

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.rows.taps * self.columns.taps

    @property
    def scales(self) -> bool:
        """Whether it only scales every channel."""
        pointwise = (self.rows, self.columns) == (Window(), Window())
        return pointwise and self.groups == self.inputs == self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one output pixel; none where the source is only passed on."""
        return 0 if self.plain else self.outputs * (self.inputs // self.groups) * self.taps

    def conv(self) -> Conv:
        """The kernel as the algebra's value; strides and steps stay in the windows."""
        return Conv(self.weight(), np.zeros(self.outputs), self.groups)


@dataclass(frozen=True, eq=False)
class Form:
    """A value of `channels` channels: the sum of its terms, and a constant.

    constant: (C, T + 1 + B, L + 1 + R): a value of its own for each of the T first and B last rows and each
    of the L first and R last columns, and one for all that is between. frame: (T, L, B, R).
    """

    terms: Mapping[Source, Term]
    constant: Floats
    frame: Sides = (0, 0, 0, 0)

    @property
    def channels(self) -> int:
        """Channels of the value."""
        return len(self.constant)

    @property
    def bias(self) -> Floats:
        """The constant (C,) of a form without a frame."""
        assert self.frame == (0, 0, 0, 0), "settled first"
        return np.asarray(self.constant[:, 0, 0])

    @property
    def needs_border_map(self) -> bool:
        """Whether its constant differs at the borders."""
        return any(source.ones for source in self.terms)


def effective(form: Form) -> dict[Source, Term]:
    """The terms that must be computed: those that are not zero, or one of them where all are."""
    found = {key: term for key, term in form.terms.items() if not term.zero}
    return found or dict(list(form.terms.items())[:1])


def convolutions(form: Form) -> int:
    """How many convolutions it takes; scalings, border maps and sources that are passed on are none."""
    return sum(not (term.plain or term.scales or key.ones) for key, term in effective(form).items())


def source(name: str, channels: int) -> Form:
    """A value as a function of itself."""
    term = Term(Window(), Window(), channels, channels, channels, lambda: np.ones((channels, 1, 1, 1)), 1)
    return Form({Source(name): term}, np.zeros((channels, 1, 1)))


def apply(operation: Linear, inputs: Sequence[Form]) -> Form:
    """The form of an operation's value, from the forms of its inputs: the law in the table. Raises
    Inexact."""
    return _LAWS[type(operation)](operation, inputs)


def settled(form: Form) -> Form:
    """The same form without a frame.

    Where the frame's constant is another than the middle's, the difference is a convolution of a plane of
    ones: exact at every size, where the middle is the source's own extent. Raises Inexact where it is not.
    """
    if form.frame == (0, 0, 0, 0):
        return form
    top, left = form.frame[:2]
    middle = form.constant[:, top, left]
    rest = np.delete(form.constant.reshape(form.channels, -1), top * form.constant.shape[2] + left, axis=1)
    ring = rest[:, 0]
    largest = np.abs(form.constant).max()
    if np.abs(rest - ring[:, None]).max() > CONSTANT_DRIFT * largest:
        raise Inexact("the constants at the borders differ from side to side")
    bare = replace(form, constant=ring[:, None, None], frame=(0, 0, 0, 0))
    if np.abs(middle - ring).max() <= CONSTANT_DRIFT * largest:
        return replace(bare, constant=middle[:, None, None])
    extent, term = _extent(form)
    ones = replace(
        term,
        rows=replace(term.rows, first=-top * term.rows.stride, taps=1, step=0),
        columns=replace(term.columns, first=-left * term.columns.stride, taps=1, step=0),
        groups=1,
        outputs=form.channels,
        inputs=1,
        weight=lambda: (middle - ring)[:, None, None, None],
        plain=0,
    )
    return _sum(Sum((1, 1)), [bare, Form({Source(extent, ones=True): ones}, np.zeros((form.channels, 1, 1)))])


def _extent(form: Form) -> tuple[str, Term]:
    """A source of which the form's middle is the whole extent, pixel for pixel or one of every stride."""
    top, left, bottom, right = form.frame
    for key, term in form.terms.items():
        rows, columns = term.rows, term.columns
        fits = (
            rows.slack == rows.stride * (top + bottom) - 1
            and columns.slack == columns.stride * (left + right) - 1
        )
        if fits and not key.ones:
            return key.value, term
    raise Inexact("a constant differs at the borders, and no plane of ones describes where")


def _pass(operation: Pass, inputs: Sequence[Form]) -> Form:
    return inputs[0]


def _convolve(operation: Convolve, inputs: Sequence[Form]) -> Form:
    """Law: compose, after padding. Padding and dilation stay outside of the weights."""
    form = settled(_padded(inputs[0], operation.pads, np.zeros(inputs[0].channels)))
    k, l = operation.weight.shape[2:]
    rows = window(k, operation.dilations[0], operation.strides[0], 0, 0)
    columns = window(l, operation.dilations[1], operation.strides[1], 0, 0)
    own = Conv(operation.weight, np.zeros(len(operation.weight)), operation.groups)
    terms = {key: _composed(own, rows, columns, term) for key, term in form.terms.items()}
    constant = _spread(operation, form.bias)
    return Form(terms, constant[:, None, None])


def _spread(operation: Convolve, constant: Floats) -> Floats:
    """What a constant input becomes."""
    sums = operation.weight.sum((2, 3))
    outputs, per_group = sums.shape
    grouped = sums.reshape(operation.groups, outputs // operation.groups, per_group)
    result = (grouped @ constant.reshape(operation.groups, per_group, 1)).reshape(outputs)
    return np.asarray(result if operation.bias is None else result + operation.bias)


def _composed(own: Conv, rows: Window, columns: Window, term: Term) -> Term:
    """Kernels convolve on the grid that holds the taps of both; groups: the greatest common divisor."""
    tall, wide = after(rows, term.rows), after(columns, term.columns)

    def weight() -> Floats:
        outer = _on_grid(own.weight, (rows, columns), (tall, wide), (term.rows.stride, term.columns.stride))
        inner = _on_grid(term.weight(), (term.rows, term.columns), (tall, wide), (1, 1))
        first = Conv(inner, np.zeros(term.outputs), term.groups)
        composed: Floats = compose(replace(own, weight=outer), first).weight
        return composed

    groups = math.gcd(own.groups, term.groups)
    return Term(tall, wide, groups, own.outputs, term.inputs, cache(weight), zero=term.zero)


def _on_grid(
    weight: Floats,
    old: tuple[Window, Window],
    new: tuple[Window, Window],
    strides: tuple[int, int],
) -> Floats:
    """The kernel with zeros between its taps, as the new windows' steps want it."""
    factors = [
        spread * of.step // grid.step if of.step else 1
        for of, grid, spread in zip(old, new, strides, strict=True)
    ]
    if factors == [1, 1]:
        return weight
    o, i, k, l = weight.shape
    result = np.zeros((o, i, (k - 1) * factors[0] + 1, (l - 1) * factors[1] + 1))
    result[:, :, :: factors[0], :: factors[1]] = weight
    return result


def _normalize(operation: Normalize, inputs: Sequence[Form]) -> Form:
    """Law: scale, with the factor and shift of the population statistics."""
    factor = operation.weight / np.sqrt(operation.variance + operation.epsilon)
    return _scaled(inputs[0], factor, operation.bias - operation.mean * factor)


def _scale(operation: Scale, inputs: Sequence[Form]) -> Form:
    return _scaled(inputs[0], operation.factor, operation.shift)


def _scaled(form: Form, factor: Floats, shift: Floats) -> Form:
    """Every output channel times its factor, plus its shift."""
    sign = 1 if (factor == 1).all() else -1 if (factor == -1).all() else 0

    def scaled(term: Term) -> Term:
        weight = cache(lambda: term.weight() * factor[:, None, None, None])
        return replace(term, weight=weight, plain=term.plain * sign)

    terms = {key: scaled(term) for key, term in form.terms.items()}
    constant = form.constant * factor[:, None, None] + shift[:, None, None]
    return Form(terms, constant, form.frame)


def _sum(operation: Sum, inputs: Sequence[Form]) -> Form:
    """Law: add, source by source; kernels are laid upon each other where their windows say."""
    forms, frame = _framed_alike(inputs)
    terms: dict[Source, Term] = {}
    for sign, form in zip(operation.signs, forms, strict=True):
        signed = form if sign == 1 else _scaled(form, -np.ones(form.channels), np.zeros(form.channels))
        for key, term in signed.terms.items():
            terms[key] = _added(terms[key], term) if key in terms else term
    constants = [sign * form.constant for sign, form in zip(operation.signs, forms, strict=True)]
    return Form(terms, sum(constants[1:], constants[0]) + np.zeros((1, 1, 1)), frame)


def _framed_alike(inputs: Sequence[Form]) -> tuple[list[Form], Sides]:
    """The forms with one frame, or without any: a constant without a frame fits every frame."""
    frames = {form.frame for form in inputs} - {(0, 0, 0, 0)}
    if len(frames) == 1:
        return list(inputs), frames.pop()
    return [settled(form) for form in inputs], (0, 0, 0, 0)


def _added(one: Term, other: Term) -> Term:
    rows, columns = joined(one.rows, other.rows), joined(one.columns, other.columns)
    if one.zero or other.zero:
        return other if one.zero else one
    if one.plain and one.plain == -other.plain:
        nothing = cache(lambda: np.zeros((one.outputs, 1, 1, 1)))
        return replace(one, weight=nothing, plain=0, zero=True)
    groups = math.gcd(one.groups, other.groups)

    def weight() -> Floats:
        return np.asarray(_placed(one, rows, columns, groups) + _placed(other, rows, columns, groups))

    return Term(rows, columns, groups, one.outputs, one.inputs, cache(weight))


def _placed(term: Term, rows: Window, columns: Window, groups: int) -> Floats:
    """The term's kernel in a larger window."""
    weight = regroup(term.conv(), groups).weight
    spots = []
    for own, grid in ((term.rows, rows), (term.columns, columns)):
        step = grid.step or 1
        offset, spacing = (own.first - grid.first) // step, own.step // step or 1
        spots.append(slice(offset, offset + (own.taps - 1) * spacing + 1, spacing))
    result = np.zeros((*weight.shape[:2], rows.taps, columns.taps))
    result[:, :, spots[0], spots[1]] = weight
    return result


def _join(operation: Join, inputs: Sequence[Form]) -> Form:
    """Law: outputs stand one after the other; what a source does not reach is zero."""
    forms, frame = _framed_alike(inputs)
    total = sum(form.channels for form in forms)
    terms: dict[Source, Term] = {}
    offset = 0
    for form in forms:
        for key, term in form.terms.items():
            moved = _moved(term, offset, total)
            terms[key] = _added(terms[key], moved) if key in terms else moved
        offset += form.channels
    largest = max((form.constant for form in forms), key=np.size).shape[1:]
    constants = [np.broadcast_to(form.constant, (form.channels, *largest)) for form in forms]
    return Form(terms, np.concatenate(constants), frame)


def _moved(term: Term, offset: int, total: int) -> Term:
    """The term as some of a larger number of outputs."""

    def weight() -> Floats:
        own = regroup(term.conv(), 1).weight
        result = np.zeros((total, *own.shape[1:]))
        result[offset : offset + term.outputs] = own
        return result

    if (term.outputs, offset) == (total, 0):
        return term
    return replace(term, groups=1, outputs=total, weight=cache(weight), plain=0)


def _select(operation: Select, inputs: Sequence[Form]) -> Form:
    """Law: rows of the kernel are chosen."""
    (form,) = inputs
    indices = np.asarray(operation.indices)
    if operation.indices == tuple(range(form.channels)):
        return form

    def selected(term: Term) -> Term:
        weight = cache(lambda: regroup(term.conv(), 1).weight[indices])
        return replace(term, groups=1, outputs=len(indices), weight=weight, plain=0)

    terms = {key: selected(term) for key, term in form.terms.items()}
    return Form(terms, form.constant[indices], form.frame)


def _pad(operation: Pad, inputs: Sequence[Form]) -> Form:
    return _padded(inputs[0], operation.pads, np.full(inputs[0].channels, operation.value))


def _padded(form: Form, pads: Sides, value: Floats) -> Form:
    """Law: pad. The frame holds `value`; the form's own formula must give nothing but its constant there."""
    if not any(pads):
        return form
    if any(form.frame):
        form = settled(form)
    top, left, bottom, right = pads
    terms = {
        key: replace(
            term, rows=padded(term.rows, top, bottom), columns=padded(term.columns, left, right), plain=0
        )
        for key, term in form.terms.items()
    }
    constant = np.broadcast_to(
        value[:, None, None], (form.channels, top + 1 + bottom, left + 1 + right)
    ).copy()
    constant[:, top, left] = form.bias
    return Form(terms, constant, pads)


def _fill(operation: Fill, inputs: Sequence[Form]) -> Form:
    """Law: rows or columns of the frame are overwritten; the form's terms must be zero there."""
    (form,) = inputs
    row = operation.axis == 2
    before, behind = (form.frame[0], form.frame[2]) if row else (form.frame[1], form.frame[3])
    start, count = operation.start, operation.count
    inside = start + count <= before if start >= 0 else -start <= behind and start + count <= 0
    windows = [term.rows if row else term.columns for term in form.terms.values()]
    if not inside or not all(outside(w, start, count) for w in windows):
        raise Inexact("rows or columns are overwritten that are not padding")
    length = form.constant.shape[1 if row else 2]
    spot = slice(start % length, start % length + count)
    constant = form.constant.copy()
    constant[(slice(None), spot) if row else (slice(None), slice(None), spot)] = operation.value[
        :, None, None
    ]
    return replace(form, constant=constant)


def _average(operation: Average, inputs: Sequence[Form]) -> Form:
    """Law: a depthwise convolution of 1 / divisor."""
    channels = inputs[0].channels
    weight = np.full((channels, 1, *operation.kernel), 1 / operation.divisor)
    conv = Convolve(weight, None, channels, operation.strides, (1, 1), operation.pads)
    return _convolve(conv, inputs)


_LAWS: dict[type, Callable[..., Form]] = {
    Pass: _pass,
    Convolve: _convolve,
    Normalize: _normalize,
    Scale: _scale,
    Sum: _sum,
    Join: _join,
    Select: _select,
    Pad: _pad,
    Fill: _fill,
    Average: _average,
}
"""Every linear operation, with the law that says what it does to a form."""
