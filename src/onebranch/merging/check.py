"""Original and merged model, whole, on the same random inputs."""

from collections.abc import Callable, Iterable

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.merging.report import Check

BOUND = 1e-4
"""Largest float32 difference, of the largest number in an output."""

FACTOR = 16
"""A model that multiplies rounding errors may exceed the bound: by so many times what a relative change of
its input by one float32 rounding does to its output."""

MOST = 1e-2
"""No model may exceed the bound by more than that."""

TRIED = 3
"""Sizes, or where the size is fixed different inputs, that are compared."""

ROUNDING = 2.0**-23

Run = Callable[[list[np.ndarray]], list[np.ndarray]]


def check(original: Run, merged: Run, inputs: Iterable[list[np.ndarray]]) -> Check:
    """The comparison on the first `TRIED` lists of inputs that the original itself does not refuse.

    Raises OnebranchError where the outputs differ, or no size could be tried.
    """
    sizes: list[tuple[int, ...]] = []
    worst, allowed, refused = 0.0, BOUND, ""
    for values in inputs:
        if len(sizes) == TRIED:
            break
        try:
            expected = original(values)
        except Exception as reason:  # a runtime's own exceptions; the model does not take this size
            refused = refused or str(reason).splitlines()[0]
            continue
        try:
            given = merged(values)
        except OnebranchError as reason:  # the trace holds for other sizes
            refused = refused or str(reason)
            continue
        error = _difference(expected, given)
        if not error <= BOUND:
            changed = FACTOR * _difference(expected, original([_nudged(v) for v in values]))
            allowed = max(allowed, min(changed, MOST))
        if not error <= allowed:
            raise OnebranchError(
                f"check: on an input of {_words(values[0])} the merged model differs from the original by"
                f" {error:.1e} of the largest output ({allowed:.0e} is allowed)"
            )
        worst = max(worst, error)
        sizes.append(tuple(values[0].shape))
    if not sizes:
        raise OnebranchError(f"check: none of the inputs that were tried runs: {refused}")
    return Check(tuple(sizes), worst, allowed)


def check_repeats(original: Run, values: list[np.ndarray]) -> None:
    """Raise OnebranchError where the original gives another output when it is asked again."""
    if not _difference(original(values), original(values)) <= BOUND:
        raise OnebranchError(
            "check: the original gives another output for the same input; what it counts, draws at random"
            " or keeps from call to call must be taken out"
        )


def _difference(expected: list[np.ndarray], given: list[np.ndarray]) -> float:
    """The largest difference of any float output, of the largest number in it."""
    if [array.shape for array in expected] != [array.shape for array in given]:
        return float("inf")
    return max((_of_one(a, b) for a, b in zip(expected, given, strict=True)), default=0.0)


def _of_one(expected: np.ndarray, given: np.ndarray) -> float:
    """Places that are not finite must be the same; whole numbers, which a rounding may turn, are not
    compared."""
    if expected.dtype.kind != "f" or not expected.size:
        return 0.0
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(given)):
        return float("inf")
    wide = np.where(finite, expected, 0).astype(np.float64)
    difference = np.abs(wide - np.where(finite, given, 0)).max()
    largest = np.abs(wide).max()
    return float(difference / largest) if largest > 0 else float(difference)


def _nudged(values: np.ndarray) -> np.ndarray:
    """The input with every number changed by about its last bit."""
    if values.dtype.kind != "f":
        return values
    signs = np.random.default_rng(1).choice([-1.0, 1.0], values.shape)
    return np.asarray(values * (1 + ROUNDING * signs), values.dtype)


def _words(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "one number"
