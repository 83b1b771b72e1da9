"""The proof of one merged value: its original operations compared with their replacement."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.graph.merge.affine_form import AffineForm
from onebranch.graph.merge.definition import run
from onebranch.graph.merge.linear import Convolve, Plane, Scale, Step
from onebranch.graph.merge.window import Window
from onebranch.progress import StepProgress, no_progress
from onebranch.proof.affine import AffineProof, AffineRegion, InputShapes, Pictures, prove_affine


def prove(
    original: Sequence[Step],
    replacement: Sequence[Step],
    affine_form: AffineForm,
    value: str,
    planes: Mapping[str, Plane],
    proof: str,
    progress: StepProgress = no_progress,
) -> AffineProof:
    """The proof that `replacement` computes `value` from the form's sources as `original` does.

    proof: "auto" or "full" (a full basis, however long it takes). progress: called with the share of the
    pictures. Raises OnebranchError that names the part that fails.
    """
    with np.errstate(all="ignore"):
        stored = [rounded(step, planes[value].precision) for step in replacement]
    between = list(_steps_between(original, value, {key.value for key in affine_form.terms}))
    digest = hashlib.sha256()
    weights = {}
    for before, after in zip(replacement, stored, strict=True):
        for name, (exact, kept) in _weight_pairs(before, after).items():
            digest.update(kept.tobytes())
            if kept.dtype == np.float32:
                weights[f"{before.value}.{name}"] = exact, kept
    rows, columns = (
        [getattr(term, axis) for term in affine_form.terms.values()] for axis in ("rows", "columns")
    )
    region = AffineRegion(
        original=lambda batch: _with_largest(between, batch, value),
        merged=lambda batch: run(replacement, batch, value)[value],
        stored=lambda batch: run(stored, batch, value)[value],
        shapes=_shapes(affine_form, planes),
        weights=weights,
        radius=(_radius(rows), _radius(columns)),
        stride=(max(w.stride for w in rows), max(w.stride for w in columns)),
        macs=_macs(between) + _macs(replacement),
        # From the stored weights, so that `verify` draws the same signs.
        seed=int.from_bytes(digest.digest()[:8], "big"),
    )
    with np.errstate(all="ignore"):  # values that are not finite fail the proof with a message
        return prove_affine(region, full=proof == "full", progress=progress)


def rounded(step: Step, precision: str) -> Step:
    """The operation with its numbers rounded to this precision, as they are stored."""
    operation = step.operation
    kind = np.dtype(precision)
    if isinstance(operation, Convolve):
        bias = None if operation.bias is None else operation.bias.astype(kind)
        shape = operation.strides, operation.dilations, operation.padding
        stored = Convolve(operation.weight.astype(kind), bias, operation.groups, *shape)
        return Step(step.value, stored, step.inputs)
    if isinstance(operation, Scale):
        stored_scale = Scale(operation.factor.astype(kind), operation.shift.astype(kind))
        return Step(step.value, stored_scale, step.inputs)
    return step


def _weight_pairs(before: Step, after: Step) -> dict[str, tuple[Floats, Floats]]:
    """Pairs of weights before and after rounding, by name."""
    names = {Convolve: ("weight", "bias"), Scale: ("factor", "shift")}.get(type(before.operation), ())
    pairs = {name: (getattr(before.operation, name), getattr(after.operation, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] is not None}


def _with_largest(steps: Sequence[Step], batch: Pictures, value: str) -> tuple[Floats, float]:
    """The value, and the largest absolute number among all values computed on the way to it."""
    values = run(steps, batch, value)
    largest = max(float(np.abs(array).max(initial=0)) for array in values.values())
    return values[value], largest


def _steps_between(steps: Sequence[Step], value: str, sources: set[str]) -> list[Step]:
    """The operations between the sources and the value."""
    by_value = {step.value: step for step in steps}
    pending, between = [value], dict[str, Step]()
    while pending:
        name = pending.pop()
        if name in by_value and name not in sources and name not in between:
            between[name] = by_value[name]
            pending += by_value[name].inputs
    return list(between.values())


def _macs(steps: Sequence[Step]) -> int:
    return sum(step.operation.weight.size for step in steps if isinstance(step.operation, Convolve)) or 1


def _radius(windows: Sequence[Window]) -> int:
    """The radius of the receptive field: half of the extent of all windows, at least the padding of any."""
    first, last = min(w.first for w in windows), max(w.last for w in windows)
    return max((last - first + 1) // 2, -first, *(w.after for w in windows))


def _shapes(affine_form: AffineForm, planes: Mapping[str, Plane]) -> Callable[[int, int], InputShapes | None]:
    """A function from the size of one source to the shapes of all; None if the outputs differ in size."""
    names = dict.fromkeys(key.value for key in affine_form.terms)
    base = max(names, key=lambda name: max(_strides(affine_form, name)))

    def shapes(height: int, width: int) -> InputShapes | None:
        if planes[base].vector and (height, width) != (1, 1):
            return None
        rows = _lengths(
            [(key.value, term.rows) for key, term in affine_form.terms.items()], 0, base, height, planes
        )
        columns = _lengths(
            [(key.value, term.columns) for key, term in affine_form.terms.items()], 1, base, width, planes
        )
        if rows is None or columns is None:
            return None
        return {name: (planes[name].channels, rows[name], columns[name]) for name in names}

    return shapes


def _strides(affine_form: AffineForm, name: str) -> list[int]:
    terms = [term for key, term in affine_form.terms.items() if key.value == name]
    return [window.stride for term in terms for window in (term.rows, term.columns)]


# Example: y = conv stride 2 (a) + b, base a of 9 rows, 3 taps, padding 1 (slack -1): 5 outputs. b is read by
# a window of stride 1 and slack -1, so it needs (5 - 1) * 1 + 1 = 5 rows.
def _lengths(
    windows: Sequence[tuple[str, Window]], axis: int, base: str, length: int, planes: Mapping[str, Plane]
) -> dict[str, int] | None:
    """The sources' lengths along one axis, by name; values with equal size keys have equal lengths.

    None if there are no lengths for which all windows give equally many outputs.
    """
    outputs = next(_length(window, length) for name, window in windows if name == base)
    if outputs < 1:
        return None
    by_key: dict[object, int] = {planes[base].size[axis]: length}
    for name, window in windows:
        by_key.setdefault(planes[name].size[axis], (outputs - 1) * window.stride - window.slack)
    lengths = {name: by_key[planes[name].size[axis]] for name, _ in windows}
    fits = all(lengths[name] >= 1 and _length(window, lengths[name]) == outputs for name, window in windows)
    return lengths if fits else None


def _length(window: Window, length: int) -> int:
    return (length + window.slack) // window.stride + 1
