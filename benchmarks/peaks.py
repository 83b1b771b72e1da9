"""The machine's peak: multiply-accumulates per second on all threads at once, in each precision.

The engine's innermost loops measure it on data that stays in the first-level cache. The best of many short
measurements counts, so that other processes hardly change it.
"""

from concurrent.futures import ThreadPoolExecutor
from statistics import median

from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import PRECISION_CODES

MEASUREMENT_SECONDS = 0.05


class Peak:
    """A candidate of an interleaved run that records the peak each time it runs."""

    def __init__(self, engine: Engine, precision: str) -> None:
        self._engine, self._precision = engine, PRECISION_CODES[precision]
        self.rates: list[float] = []

    def __call__(self) -> None:
        """Measure once more, on every thread at the same time."""
        threads = self._engine.threads
        with ThreadPoolExecutor(threads) as pool:
            futures = [
                pool.submit(self._engine.peak, self._precision, MEASUREMENT_SECONDS) for _ in range(threads)
            ]
            self.rates.append(sum(future.result() for future in futures))

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second: the median, without the warm-up."""
        return median(self.rates[1:] or self.rates)
