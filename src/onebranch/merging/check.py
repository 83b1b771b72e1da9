"""The comparison of the whole original and merged model on the same random inputs."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.merging.report import Check
from onebranch.progress import StepProgress, no_progress

BOUND = 1e-4
"""Largest accepted difference in float32, relative to the largest number in an output."""

AMPLIFICATION_FACTOR = 16
"""A model that amplifies rounding errors may exceed the bound: its difference may be this many times the
change of its output when its input changes by one float32 rounding."""

MAX_BOUND = 1e-2
"""Largest difference that is accepted from a model that amplifies rounding errors."""

MIN_COMPARED = 3
"""The number of sizes that are compared, or of different inputs if the size is fixed."""

FLOAT32_EPSILON = 2.0**-23

Run = Callable[[list[np.ndarray]], list[np.ndarray]]


def check(
    original: Run,
    merged: Run,
    inputs: Iterable[list[np.ndarray]],
    advice: str = "",
    random_operations: Sequence[str] = (),
    progress: StepProgress = no_progress,
) -> Check:
    """The comparison on the first `MIN_COMPARED` lists of inputs that the original accepts.

    advice: what the user can do where the original accepts no input; the error's message contains it.
    random_operations: names of operations that may draw random numbers, for the message. progress: called
    with the share of the comparisons. Raises OnebranchError where the outputs differ, where the original does
    not give the same output twice, or where it accepts no input.
    """
    sizes: list[tuple[int, ...]] = []
    worst, allowed, refused = 0.0, BOUND, ""
    for values in inputs:
        if len(sizes) == MIN_COMPARED:
            break
        try:
            expected = original(values)
        except Exception as reason:  # of the runtime: the model does not accept this size
            refused = refused or str(reason).splitlines()[0]
            continue
        try:
            given = merged(values)
        except OnebranchError as reason:  # the trace holds for other sizes only
            refused = refused or str(reason)
            continue
        error = _difference(expected, given)
        if not error <= BOUND:
            changed = AMPLIFICATION_FACTOR * _difference(expected, original([_perturbed(v) for v in values]))
            allowed = max(allowed, min(changed, MAX_BOUND))
        if not error <= allowed:
            check_repeats(original, values, random_operations)
            raise OnebranchError(
                f"check: on an input of {_shape_text(values[0])} the merged model differs from the original"
                f" by {error:.1e} of the largest output ({allowed:.0e} is allowed)"
            )
        worst = max(worst, error)
        sizes.append(tuple(values[0].shape))
        progress(f"compared on {_shape_text(values[0])}", len(sizes) / MIN_COMPARED)
    if not sizes:
        why = f": {refused}" if refused else ""
        raise OnebranchError(f"check: it runs on none of the inputs that were tried{advice}{why}")
    return Check(tuple(sizes), worst, allowed)


def check_repeats(original: Run, values: list[np.ndarray], random_operations: Sequence[str] = ()) -> None:
    """Raise OnebranchError if the original gives two different outputs for the same input.

    random_operations: names for the message.
    """
    if not _difference(original(values), original(values)) <= BOUND:
        raise OnebranchError(
            "check: the original model itself gives two different outputs for the same input, so that the"
            " merged model cannot be compared with it; remove random operations"
            f" ({', '.join(random_operations) or 'such as RandomNormalLike, or dropout in training mode'})"
            " and state that is kept between calls"
        )


def _difference(expected: list[np.ndarray], given: list[np.ndarray]) -> float:
    """The largest difference of any float output, relative to the largest number in it."""
    if [array.shape for array in expected] != [array.shape for array in given]:
        return float("inf")
    return max((_difference_of_one(a, b) for a, b in zip(expected, given, strict=True)), default=0.0)


def _difference_of_one(expected: np.ndarray, given: np.ndarray) -> float:
    """The largest relative difference of one output; infinite if other numbers are not finite.

    Integers are not compared, because a rounding error may change them.
    """
    if expected.dtype.kind != "f" or not expected.size:
        return 0.0
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(given)):
        return float("inf")
    wide = np.where(finite, expected, 0).astype(np.float64)
    difference = np.abs(wide - np.where(finite, given, 0)).max()
    largest = np.abs(wide).max()
    return float(difference / largest) if largest > 0 else float(difference)


def _perturbed(values: np.ndarray) -> np.ndarray:
    """The input with every number changed by about its last bit."""
    if values.dtype.kind != "f":
        return values
    signs = np.random.default_rng(1).choice([-1.0, 1.0], values.shape)
    return np.asarray(values * (1 + FLOAT32_EPSILON * signs), values.dtype)


def _shape_text(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "one number"
