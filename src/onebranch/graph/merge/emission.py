"""An affine form written as operations: a convolution of every source, then additions."""

from collections.abc import Collection, Iterator
from itertools import count

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding
from onebranch.graph.merge.affine_form import AffineForm, Source, Term, effective_terms
from onebranch.graph.merge.linear import Convolve, Ones, Pass, Scale, Step, Sum
from onebranch.graph.merge.window import Window


def written(affine_form: AffineForm, value: str, taken: Collection[str]) -> tuple[Step, ...]:
    """The steps that compute the value from the form's sources; inner names begin with the value's name.

    taken: names that are in use.
    """
    steps: list[Step] = []
    names = _names(value, taken)
    bias: Floats | None = affine_form.bias if affine_form.bias.any() else None
    parts: list[tuple[int, str]] = []
    for key, term in _in_order(affine_form):
        if term.identity_sign:
            parts.append((term.identity_sign, key.value))
            continue
        name, read = next(names), key.value
        if key.ones:
            read = next(names)
            steps.append(Step(read, Ones(), (key.value,)))
        steps.append(Step(name, _operation(term, bias), (read,)))
        parts.append((1, name))
        bias = None
    return tuple(_finished(steps, parts, bias, affine_form.channels, value, next(names)))


def _in_order(affine_form: AffineForm) -> list[tuple[Source, Term]]:
    """Convolutions first, because the first one takes the constant as its bias; then border maps, then
    sources that are added as they are."""
    return sorted(
        effective_terms(affine_form).items(),
        key=lambda item: (bool(item[1].identity_sign), item[0].ones, -item[1].identity_sign),
    )


def _names(value: str, taken: Collection[str]) -> Iterator[str]:
    return (name for number in count() if (name := f"{value}_merged{number}") not in taken)


# Example: y = conv (x) - z + c with the constant c: the convolution takes c as its bias, and y = Sum(+1, -1)
# of it and z. If there is no convolution (y = x - z + c), a Scale by 1 adds c after the sum.
def _finished(
    steps: list[Step],
    parts: list[tuple[int, str]],
    bias: Floats | None,
    channels: int,
    value: str,
    inner: str,
) -> list[Step]:
    """The steps and the final sum, under the value's name.

    parts: sign and name of every term. bias: the constant, if no convolution has taken it. inner: a free
    name.
    """
    signs, names = tuple(sign for sign, _ in parts), tuple(name for _, name in parts)
    if len(parts) == 1:
        return _finished_single(steps, parts[0], bias, channels, value)
    if bias is None:
        return [*steps, Step(value, Sum(signs), names)]
    return [
        *steps,
        Step(inner, Sum(signs), names),
        Step(value, Scale(np.ones(channels), bias), (inner,)),
    ]


def _finished_single(
    steps: list[Step], part: tuple[int, str], bias: Floats | None, channels: int, value: str
) -> list[Step]:
    """The steps of a form with one term, under the value's name."""
    sign, name = part
    if bias is None and steps:
        return [*steps[:-1], Step(value, steps[-1].operation, steps[-1].inputs)]
    if bias is None and sign == 1:
        return [*steps, Step(value, Pass(), (name,))]
    shift = np.zeros(channels) if bias is None else bias
    return [*steps, Step(value, Scale(np.full(channels, float(sign)), shift), (name,))]


def _operation(term: Term, bias: Floats | None) -> Convolve | Scale:
    weight = term.weight()
    if term.is_scaling:
        return Scale(weight[:, 0, 0, 0], np.zeros(term.outputs) if bias is None else bias)
    (top, bottom, rows_before, rows_after) = _padding_and_extra_taps(term.rows)
    (left, right, columns_before, columns_after) = _padding_and_extra_taps(term.columns)
    extra = ((0, 0), (0, 0), (rows_before, rows_after), (columns_before, columns_after))
    return Convolve(
        weight=np.pad(weight, extra),
        bias=bias,
        groups=term.groups,
        strides=(term.rows.stride, term.columns.stride),
        dilations=(term.rows.step or 1, term.columns.step or 1),
        padding=Padding(top, bottom, left, right),
    )


# Worked example: a window whose only tap w is two pixels to the right has first = 2, that is a padding of -2
# before. It becomes the three taps (0 0 w) with padding 0 before: two taps of zero are added.
def _padding_and_extra_taps(window: Window) -> tuple[int, int, int, int]:
    """Padding before and after, and taps of zero to add before and after so that neither is negative."""
    step = window.step or 1
    before, after = (max(0, -(side // step)) for side in (window.before, window.after))
    return window.before + before * step, window.after + after * step, before, after
