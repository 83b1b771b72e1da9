"""Time several candidates in turns, so that noise and drift of the machine fall on all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median

Clock = Callable[[], float]


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
    """How many times longer `slow` takes: the median of the ratios within each round."""
    return median(s / f for s, f in zip(slow, fast, strict=True))
