"""A form written as operations again: a convolution of every source, additions, and nothing else."""

from collections.abc import Collection, Iterator
from itertools import count

import numpy as np

from onebranch.graph.merge.form import Form, Source, Term, effective
from onebranch.graph.merge.linear import Convolve, Floats, Ones, Pass, Scale, Step, Sum
from onebranch.graph.merge.window import Window


def written(form: Form, value: str, taken: Collection[str]) -> tuple[Step, ...]:
    """Steps that compute the value from the form's sources; inner names begin with the value's.

    taken: names that must not be given again.
    """
    steps: list[Step] = []
    names = _names(value, taken)
    bias: Floats | None = form.bias if form.bias.any() else None
    parts: list[tuple[int, str]] = []
    for key, term in _in_order(form):
        if term.plain:
            parts.append((term.plain, key.value))
            continue
        name, read = next(names), key.value
        if key.ones:
            read = next(names)
            steps.append(Step(read, Ones(), (key.value,)))
        steps.append(Step(name, _operation(term, bias), (read,)))
        parts.append((1, name))
        bias = None
    return tuple(_finished(steps, parts, bias, form.channels, value, next(names)))


def _in_order(form: Form) -> list[tuple[Source, Term]]:
    """Convolutions first, so that one of them takes the constant; border maps after them, sources last."""
    return sorted(
        effective(form).items(), key=lambda item: (bool(item[1].plain), item[0].ones, -item[1].plain)
    )


def _names(value: str, taken: Collection[str]) -> Iterator[str]:
    return (name for number in count() if (name := f"{value}_merged{number}") not in taken)


def _finished(
    steps: list[Step],
    parts: list[tuple[int, str]],
    bias: Floats | None,
    channels: int,
    value: str,
    inner: str,
) -> list[Step]:
    """The last steps: the sum of the parts and what is left of the constant, under the value's name."""
    signs, names = tuple(sign for sign, _ in parts), tuple(name for _, name in parts)
    if bias is None and len(parts) == 1 and steps:
        return [*steps[:-1], Step(value, steps[-1].operation, steps[-1].inputs)]
    if bias is None and signs == (1,):
        return [*steps, Step(value, Pass(), names)]
    if len(parts) == 1:
        shift = np.zeros(channels) if bias is None else bias
        return [*steps, Step(value, Scale(np.full(channels, float(signs[0])), shift), names)]
    if bias is None:
        return [*steps, Step(value, Sum(signs), names)]
    return [
        *steps,
        Step(inner, Sum(signs), names),
        Step(value, Scale(np.ones(channels), bias), (inner,)),
    ]


def _operation(term: Term, bias: Floats | None) -> Convolve | Scale:
    weight = term.weight()
    if term.scales:
        return Scale(weight[:, 0, 0, 0], np.zeros(term.outputs) if bias is None else bias)
    (top, bottom, first, last_row) = _sides(term.rows)
    (left, right, begin, last_column) = _sides(term.columns)
    grown = np.pad(weight, ((0, 0), (0, 0), (first, last_row), (begin, last_column)))
    return Convolve(
        weight=grown,
        bias=bias,
        groups=term.groups,
        strides=(term.rows.stride, term.columns.stride),
        dilations=(term.rows.step or 1, term.columns.step or 1),
        pads=(top, left, bottom, right),
    )


def _sides(window: Window) -> tuple[int, int, int, int]:
    """Padding before and after, never negative: taps of zero that are added before and after instead."""
    step = window.step or 1
    first, last = (max(0, -(side // step)) for side in (window.before, window.after))
    return window.before + first * step, window.after + last * step, first, last
