"""`onebranch evaluate` beside its former definition: SSIM by shifted planes, one picture at a time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from onebranch import evaluation, metrics
from onebranch.bench import ONE_RUN_EACH, time_interleaved
from onebranch.evaluation import Evaluation

MAX_DIFFERENCE = 1e-9
"""Largest difference of a score (decibels, or SSIM) between the definitions."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """A way to score pictures. shifts: SSIM by shifted planes. parallel: several pictures at a time."""

    shifts: bool
    parallel: bool


VARIANTS = {
    "shifted planes, one picture at a time": Variant(shifts=True, parallel=False),
    "matrix products, one picture at a time": Variant(shifts=False, parallel=False),
    "matrix products, pictures at the same time": Variant(shifts=False, parallel=True),
}
"""The former way first, today's last."""


@dataclass(frozen=True)
class EvaluationTimes:
    """Median seconds of every variant, in the order of `VARIANTS`, and the largest difference of a score."""

    seconds: dict[str, float]
    difference: float

    @property
    def speedup(self) -> float:
        """The former way's time divided by today's."""
        former, *_, today = self.seconds.values()
        return former / today


def compare(folder: Path, model: str, rounds: int, threads: int | None = None) -> EvaluationTimes:
    """All variants on the pictures of a folder, interleaved."""
    results: dict[str, Evaluation] = {}

    def run(name: str) -> Callable[[], None]:
        def evaluate() -> None:
            results[name] = evaluate_as(name, folder, model, threads)

        return evaluate

    times = time_interleaved({name: run(name) for name in VARIANTS}, rounds, ONE_RUN_EACH)
    former, *_, today = (results[name] for name in VARIANTS)
    return EvaluationTimes(
        {name: median(seconds) for name, seconds in times.items()}, difference(former, today)
    )


def evaluate_as(variant: str, folder: Path, model: str, threads: int | None = None) -> Evaluation:
    """The scores of a model on the pictures of a folder, by one of `VARIANTS`."""
    with ExitStack() as stack:
        if VARIANTS[variant].shifts:
            stack.enter_context(patch.object(metrics, "ssim", shifted_ssim))
        if not VARIANTS[variant].parallel:
            stack.enter_context(patch.object(evaluation, "MAX_CONCURRENCY", 1))
        return evaluation.evaluate(model, folder, threads=threads)


def difference(one: Evaluation, other: Evaluation) -> float:
    """The largest difference of a score between two evaluations of the same pictures."""
    return max(abs(a - b) for a, b in zip(_scores(one), _scores(other), strict=True))


def _scores(result: Evaluation) -> Iterator[float]:
    for row in result.rows:
        yield from astuple(row.scores)
        if row.baseline is not None:
            yield from astuple(row.baseline)


def shifted_ssim(picture: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]) -> float:
    """SSIM of two planes (H, W), its Gaussian windows as sums of eleven shifted planes in each direction."""
    weights = np.exp(-np.square(np.arange(metrics.WINDOW) - metrics.WINDOW // 2) / (2 * metrics.SIGMA**2))
    x, y = picture.astype(np.float64), reference.astype(np.float64)

    def means(plane: Floats) -> Floats:
        for _ in range(2):
            length = plane.shape[0] - metrics.WINDOW + 1
            total = np.zeros((length, plane.shape[1]))
            for k, weight in enumerate(weights / weights.sum()):
                total += weight * plane[k : k + length]
            plane = total.T
        return plane

    mean_x, mean_y = means(x), means(y)
    variances = means(x * x) - mean_x**2 + means(y * y) - mean_y**2
    covariance = means(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + metrics.C1) / (mean_x**2 + mean_y**2 + metrics.C1)
    return float(np.mean(light * (2 * covariance + metrics.C2) / (variances + metrics.C2)))
