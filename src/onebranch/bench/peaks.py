"""What the machine can do at most: multiply-accumulates a second on all threads at once, in each precision.

The engine's innermost loops measure it, on data that stays in the first cache; the best of many short pieces
counts, so that other processes take little from it.
"""

from concurrent.futures import ThreadPoolExecutor
from statistics import median

from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import PRECISIONS

SECONDS = 0.05
"""For which one measurement runs."""


class Peak:
    """A candidate of an interleaved run that keeps what it measured, the first time apart."""

    def __init__(self, engine: Engine, precision: str) -> None:
        self._engine, self._precision = engine, PRECISIONS[precision]
        self.found: list[float] = []

    def __call__(self) -> None:
        """Measure once more, on every thread at the same time."""
        threads = self._engine.threads
        with ThreadPoolExecutor(threads) as pool:
            each = [pool.submit(self._engine.peak, self._precision, SECONDS) for _ in range(threads)]
            self.found.append(sum(one.result() for one in each))

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second: the median."""
        return median(self.found[1:] or self.found)
