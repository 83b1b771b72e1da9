"""Judges a merge: correct, unmerged with a reason, refused in one line, or wrong (the test fails).

A variant is a mergeable network with one change, made by `onnx_mutations` or `torch_mutations`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

import onebranch
from onebranch.errors import OnebranchError

TOLERANCES = {"float16": 4e-3, "bfloat16": 3e-2}
"""Tolerance relative to the largest output, by type: four roundings. Other types: `TOLERANCE`."""

TOLERANCE = 1e-4
"""Tolerance for float32 and float64; sums in another order differ by 1e-6 here."""

SMALLEST = 1e-2
"""Lower bound of the magnitude that errors are relative to: inputs are about 1, and branches may cancel."""

Arrays = Sequence[np.ndarray]
Merge = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True)
class Expectation:
    """Requirements on the report about a variant.

    outside: operations that must not be in a region. apart: pairs of operations that must not become one.
    named: one of these texts must be in the names or reasons of unmerged operations, or in the refusal.
    merges: True if something must be merged, because the change is harmless. one_size: True if the original
    runs at one size only, so the merged model may refuse others. jumps: True if it rounds, so that a
    sum in another order may reach the next level: one number in fifty may differ, and at least one (a wrong
    merge changes nearly all).
    """

    outside: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    named: tuple[str, ...] = ()
    merges: bool = False
    one_size: bool = False
    jumps: bool = False


class Variant(Protocol):
    """A network that can be merged and run."""

    name: str
    expectation: Expectation

    def inputs(self) -> list[Arrays]:
        """Inputs of several sizes, first that of the example."""

    def runner(self, model: Any) -> Callable[[Arrays], Arrays]:
        """A function that runs the original (None) or a merged model; it raises if the inputs do not fit."""

    def merge(self, merge: Merge, **options: Any) -> tuple[Any, Any]:
        """The merged variant and its report."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a merge: refused, unmerged, merged, or the description of a fault."""

    outcome: str
    faults: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return "; ".join((self.outcome, *self.faults))


def judge(variant: Variant, merge: Merge = onebranch.merge, **options: Any) -> Verdict:
    """The verdict on a merge of the variant; it has no faults if nothing is silently wrong."""
    references = _reference(variant)
    if not references:
        return Verdict("broken", ("the variant itself runs at no size",))
    try:
        merged, report = variant.merge(merge, **options)
    except OnebranchError as error:
        return Verdict("refused", tuple(_refusal_faults(str(error), variant.expectation)))
    except Exception as error:
        return Verdict("crashed", (f"{type(error).__name__}: {error}",))
    faults = [*_report_faults(report, variant.expectation), *_differences(variant, merged, references)]
    return Verdict("merged" if report.changed else "left", tuple(faults))


def _reference(variant: Variant) -> list[tuple[Arrays, Arrays]]:
    """Inputs and the original's outputs at every size at which the outputs are not empty."""
    run, pairs = variant.runner(None), []
    for inputs in variant.inputs():
        try:
            outputs = run(inputs)
        except Exception:
            continue
        if all(output.size for output in outputs):
            pairs.append((inputs, outputs))
    return pairs


def _refusal_faults(text: str, expectation: Expectation) -> list[str]:
    faults = []
    if not text.strip() or "\n" in text:
        faults.append(f"a refusal is one line, not {text!r}")
    if expectation.merges:
        faults.append(f"refused what can be merged: {text}")
    if expectation.named and not any(name in text for name in expectation.named):
        faults.append(f"the refusal names none of {expectation.named}: {text}")
    return faults


def _report_faults(report: Any, expectation: Expectation) -> list[str]:
    faults = []
    held = {name for region in report.regions for name in region.operations}
    groups = [set(merged.replaces) for region in report.regions for merged in region.merged]
    left = " ".join(f"{entry.name}: {entry.reason}" for entry in report.unmerged)
    if wrongly := held.union(*groups) & set(expectation.outside):
        faults.append(f"{sorted(wrongly)} in a region")
    faults += [f"{pair} became one" for pair in expectation.apart if any(set(pair) <= g for g in groups)]
    if expectation.named and not any(name in left for name in expectation.named):
        faults.append(f"none of {expectation.named} is among what is left: {left}")
    if expectation.merges and not report.changed:
        faults.append(f"nothing was merged: {left}")
    if report.changed and (report.check is None or not report.check.sizes):
        faults.append("merged without a check of the whole model")
    if report.changed != any(groups):
        faults.append(f"changed is {report.changed}, with {len(groups)} replacements")
    return faults


def _differences(variant: Variant, merged: Any, references: list[tuple[Arrays, Arrays]]) -> list[str]:
    try:
        run = variant.runner(merged)
    except Exception as error:
        return [f"the merged model does not load: {type(error).__name__}: {error}"]
    faults = []
    for number, (inputs, expected) in enumerate(references):
        try:
            sizes = [value.shape for value in inputs]
            faults += _compared(run(inputs), expected, sizes, variant.expectation.jumps)
        except Exception as error:
            loud = isinstance(error, OnebranchError) or variant.expectation.one_size
            if number == 0 or not loud:
                faults.append(f"the merged model fails at {inputs[0].shape}: {type(error).__name__}: {error}")
    return faults


def _compared(
    outputs: Arrays, expected: Arrays, sizes: list[tuple[int, ...]], jumps: bool = False
) -> list[str]:
    if len(outputs) != len(expected):
        return [f"{len(outputs)} outputs instead of {len(expected)}"]
    faults = []
    for number, (output, right) in enumerate(zip(outputs, expected, strict=True)):
        if output.shape != right.shape or output.dtype != right.dtype:
            faults.append(f"output {number} at {sizes} is {_kind(output)} instead of {_kind(right)}")
        elif off := _off(output, right, max(1, right.size // 50) if jumps else 0):
            faults.append(f"output {number} at {sizes} differs by {off:.1e} of its largest value")
    return faults


def _off(output: np.ndarray, expected: np.ndarray, jumps: int) -> float:
    """The relative error if it is too large, otherwise 0; up to `jumps` numbers may have any value."""
    tolerance = TOLERANCES.get(str(expected.dtype), TOLERANCE)
    error = relative_error(output, expected)
    if error <= tolerance:
        return 0.0
    if not jumps or error == float("inf"):
        return error
    off = np.abs(output.astype(np.float64) - expected) > tolerance * np.abs(expected).max(initial=SMALLEST)
    return 0.0 if off.sum() <= jumps else error


def _kind(value: np.ndarray) -> str:
    return f"{value.dtype} {value.shape}"


def relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest finite value; infinite if other values are finite.

    A value that is not finite may be NaN or infinite, depending on the order of a sum.
    """
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(output)):
        return float("inf")
    if not finite.any():
        return 0.0
    right, given = expected[finite].astype(np.float64), output[finite].astype(np.float64)
    return float(np.abs(given - right).max() / max(np.abs(right).max(), SMALLEST))
