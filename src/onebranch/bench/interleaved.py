"""Time several candidates in turns, so that noise and drift of the machine fall on all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Clock = Callable[[], float]


@dataclass(frozen=True)
class Turns:
    """How candidates of very different speed take turns; all in seconds.

    turn: a candidate that is quicker runs several times. budget: a candidate that has taken more sits out the
    rounds that are left. rest: pause before each turn, in which the others' threads stop spinning.
    """

    turn: float = 0.1
    budget: float = 6.0
    rest: float = 0.02


USUAL = Turns()

LONG = 10
"""Turns for which a candidate's first run may last before it is taken for slow, and warmed up no further."""


def in_turns(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    turns: Turns = USUAL,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one run of every candidate, in every round that it was part of; at least one.

    Nothing of the warm-up counts, which finds out how often a candidate runs in a turn. Those who sit out
    lack the last rounds, so that equal places are the same round.
    """
    repeats = {}
    for name, run in candidates.items():
        once = _timed(run, 1, clock)
        if once < LONG * turns.turn:  # the first time is slower than the others
            once = _timed(run, 1, clock)
        repeats[name] = max(1, math.ceil(turns.turn / once))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            if sum(seconds[name]) * repeats[name] <= turns.budget:
                time.sleep(turns.rest)
                seconds[name].append(_timed(run, repeats[name], clock) / repeats[name])
    return seconds


def _timed(run: Callable[[], object], repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        run()
    return clock() - start


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every candidate in every round; one round that is not counted warms them up."""
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """How much longer `slow` takes: the median of the ratios within each round that both took part in."""
    return median(s / f for s, f in zip(slow, fast, strict=False))
