"""The completed share of a piece of work, reported to a function that the caller passes."""

from collections.abc import Callable

StepProgress = Callable[[str, float], None]
"""A function that is called with the current step, as text, and the completed share of the work, 0 to 1."""


def no_progress(step: str, share: float) -> None:
    """Report nothing."""


def part_of(progress: StepProgress, start: float, end: float) -> StepProgress:
    """The progress of a part of the work: its shares 0 to 1 become `start` to `end` of the whole.

    >>> part_of(print, 0.2, 0.8)("proving", 0.5)
    proving 0.5
    """

    def report(step: str, share: float) -> None:
        progress(step, start + (end - start) * share)

    return report


def named(progress: StepProgress, step: str) -> StepProgress:
    """The same progress, with the name of the step before each text.

    >>> named(print, "proving block 2")("pictures of 3x4", 0.5)
    proving block 2: pictures of 3x4 0.5
    """

    def report(detail: str, share: float) -> None:
        progress(f"{step}: {detail}", share)

    return report


def never_falling(progress: StepProgress) -> StepProgress:
    """The same progress, with shares from 0 to 1 that are never smaller than one reported before.

    >>> report = never_falling(print)
    >>> report("proving", 0.5), report("proving again", 0.1)
    proving 0.5
    proving again 0.5
    (None, None)
    """
    reached = 0.0

    def report(step: str, share: float) -> None:
        nonlocal reached
        reached = max(reached, min(share, 1.0))
        progress(step, reached)

    return report
