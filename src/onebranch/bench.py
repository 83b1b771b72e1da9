"""How fast models run on this machine, in every installed runtime and precision.

Candidates take turns, so that noise and drift of the machine fall on all of them alike. Comparisons with
other programs live in `benchmarks/` of the source tree.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.model import catalogue
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.gpu import (
    CPU,
    GPU_PRECISION,
    GPU_RUNTIMES,
    Gpu,
    check_device,
    gpu_of,
    names_gpu,
    open_on,
)
from onebranch.runtime.selection import PRECISIONS, RUNTIMES, open_runtime

Clock = Callable[[], float]
LineReport = Callable[[str], None]

MODELS = ("restore-x2", "photo-x2", "restore-x4", "photo-x4", "denoise", "shrink-x2")
"""The shipped models that are timed when none is named."""

FRAME_SIZE = (540, 960)
"""Height and width of the input in pixels: a quarter of a full-HD frame."""

BASELINE = ("onnxruntime", "fp32")
"""Runtime and precision that speedups are relative to."""

BUSY_SHARE = 0.5
"""Timings are reported as unreliable if other processes use at least this share of the cores."""

MAX_WARM_BATCHES = 10
"""A candidate whose first run lasts longer than this many batches is not warmed up a second time."""


@dataclass(frozen=True)
class Pacing:
    """How candidates of very different speed share the time; all in seconds.

    batch_seconds: a fast candidate is repeated until one measurement lasts this long. budget_seconds: a
    candidate that has used more skips the remaining rounds. rest_seconds: pause before each measurement, in
    which the spinning threads of other runtimes go to sleep.
    """

    batch_seconds: float = 0.1
    budget_seconds: float = 6.0
    rest_seconds: float = 0.02


DEFAULT_PACING = Pacing()
ONE_RUN_EACH = Pacing(batch_seconds=0, budget_seconds=math.inf, rest_seconds=0)


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    pacing: Pacing = DEFAULT_PACING,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per run of every candidate, one value for each round that it took part in (at least one).

    The warm-up is not counted; it determines how often a candidate runs in a batch. A candidate that
    exceeds its budget skips the last rounds, so equal indices always refer to the same round.
    """
    repeats = {}
    for name, run in candidates.items():
        once = _timed(run, 1, clock)
        if once < MAX_WARM_BATCHES * pacing.batch_seconds:  # the first run is slower than the others
            once = _timed(run, 1, clock)
        repeats[name] = max(1, math.ceil(pacing.batch_seconds / once)) if once > 0 else 1
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            if sum(seconds[name]) * repeats[name] <= pacing.budget_seconds:
                time.sleep(pacing.rest_seconds)
                seconds[name].append(_timed(run, repeats[name], clock) / repeats[name])
    return seconds


def _timed(run: Callable[[], object], repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        run()
    return clock() - start


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times longer `slow` takes: the median of the ratios within each round that both took part in.

    >>> median_ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0])
    3.0
    """
    return median(s / f for s, f in zip(slow, fast, strict=False))


@dataclass(frozen=True)
class Measurement:
    """One model in one runtime and precision.

    seconds: per run, one value for each round. megapixels: output per second, in units of 10^6 pixels.
    speedup: relative to ONNX Runtime in fp32; None if that was not measured.
    """

    model: str
    runtime: str
    precision: str
    seconds: tuple[float, ...]
    megapixels: float
    speedup: float | None

    @property
    def milliseconds(self) -> float:
        """The median time of one run."""
        return 1e3 * median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Every field, and the median, as JSON values."""
        return {**asdict(self), "milliseconds": self.milliseconds}


@dataclass(frozen=True)
class BenchSettings:
    """How `measure` times.

    size: height and width of the input in pixels. threads: number for each runtime. device: as in `Options`.
    """

    size: tuple[int, int] = FRAME_SIZE
    rounds: int = 5
    threads: int = 1
    pacing: Pacing = DEFAULT_PACING
    device: str = CPU


def measure(
    models: Sequence[str],
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    settings: BenchSettings | None = None,
    report: LineReport = lambda line: None,
) -> tuple[list[Measurement], list[str]]:
    """Time models in runtimes and precisions (empty: all); also returns a line for each that was skipped.

    models: names of shipped models, or files. A shipped model runs in int8 as its quantized form. report:
    receives one line of progress per model. A device "gpu" or "gpu:N" times that GPU alone, "auto" the first
    GPU, too; a GPU whose output differs from the CPU's is skipped. Raises OnebranchError for an unknown name
    or file, and where nothing can run.
    """
    settings = settings or BenchSettings(threads=cores())
    check_device(settings.device)
    pairs = list(_pairs(runtimes, precisions))
    skipped: list[str] = []
    gpus = list(_gpus(pairs, settings.device, skipped))
    if names_gpu(settings.device):
        pairs = []
    loaded = [(name, catalogue.load(name)) for name in dict.fromkeys(models)]
    rows: list[Measurement] = []
    for name, model in loaded:
        report(f"{model.name}: opening runtimes")
        opened = dict(_opened(name, model, pairs, settings, skipped))
        opened |= dict(_opened_on_gpus(model, gpus, settings, skipped))
        report(f"{model.name}: timing {len(opened)} runtimes and precisions")
        rows += _timed_rows(model, opened, settings)
    if not rows:
        raise OnebranchError(f"nothing can be timed: {'; '.join(skipped)}")
    return rows, list(dict.fromkeys(skipped))


def _pairs(runtimes: Sequence[str], precisions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every supported pair of a runtime and a precision, the baseline first."""
    for kind, given, valid in (("runtime", runtimes, RUNTIMES), ("precision", precisions, PRECISIONS)):
        for name in given:
            if name not in valid:
                raise OnebranchError(f"unknown {kind} '{name}'; {nearest(name, valid)}")
    pairs = [
        (runtime, precision)
        for runtime in runtimes or RUNTIMES
        for precision in precisions or PRECISIONS
        if precision in RUNTIMES[runtime].precisions
    ]
    if not pairs:
        raise OnebranchError(
            f"{', '.join(runtimes)} cannot compute in {', '.join(precisions)}; leave one out"
        )
    yield from sorted(dict.fromkeys(pairs), key=lambda pair: pair != BASELINE)


def _opened(
    name: str,
    model: Model,
    pairs: Sequence[tuple[str, str]],
    settings: BenchSettings,
    skipped: list[str],
) -> Iterator[tuple[tuple[str, str], Callable[[], object]]]:
    """Functions that run the model on one random picture. Pairs that cannot run add a line to `skipped`."""
    picture = np.random.default_rng(0).random((1, model.spec.channels, *settings.size), np.float32)
    for runtime, precision in pairs:
        try:
            version = catalogue.load(catalogue.quantized_name(name)) if precision == "int8" else model
            run = open_runtime(version, runtime, settings.threads, precision).run
        except OnebranchError as error:
            skipped.append(f"skipped {model.name} in {runtime} {precision}: {error}")
            continue
        yield (runtime, precision), lambda run=run: run(picture)  # type: ignore[misc]


def _gpus(pairs: Sequence[tuple[str, str]], device: str, skipped: list[str]) -> Iterator[Gpu]:
    """The GPU of each of the runtimes that compute on GPUs. Runtimes without one add a line to `skipped`."""
    for runtime in GPU_RUNTIMES if device != CPU else ():
        if (runtime, GPU_PRECISION) in pairs:
            try:
                yield gpu_of(device, runtime)
            except OnebranchError as error:
                skipped.append(f"skipped {runtime} on a GPU: {error}")


def _opened_on_gpus(
    model: Model, gpus: Sequence[Gpu], settings: BenchSettings, skipped: list[str]
) -> Iterator[tuple[tuple[str, str], Callable[[], object]]]:
    """The same as `_opened` for GPUs."""
    picture = np.random.default_rng(0).random((1, model.spec.channels, *settings.size), np.float32)
    for gpu in gpus:
        try:
            run = open_on(gpu, model, settings.threads).run
        except OnebranchError as error:
            skipped.append(f"skipped {model.name} in {gpu.runtime} on {gpu.name}: {error}")
            continue
        yield (f"{gpu.runtime} on {gpu.name}", GPU_PRECISION), lambda run=run: run(picture)  # type: ignore[misc]


def _timed_rows(
    model: Model, runs: Mapping[tuple[str, str], Callable[[], object]], settings: BenchSettings
) -> Iterator[Measurement]:
    labels = {" ".join(pair): pair for pair in runs}
    candidates = {label: runs[pair] for label, pair in labels.items()}
    seconds = time_interleaved(candidates, settings.rounds, settings.pacing)
    baseline = seconds.get(" ".join(BASELINE))
    scale = 1 / model.spec.scale if model.spec.task == "downscale" else model.spec.scale
    pixels = settings.size[0] * settings.size[1] * scale**2
    for label, (runtime, precision) in labels.items():
        times = seconds[label]
        speedup = median_ratio(baseline, times) if baseline else None
        yield Measurement(model.name, runtime, precision, tuple(times), pixels / median(times) / 1e6, speedup)


def busy_warning() -> list[str]:
    """One line if other processes use so much of the machine that timings mean little; else an empty list."""
    if not hasattr(os, "getloadavg"):
        return []
    load, count = os.getloadavg()[0], os.cpu_count() or 1
    if load < BUSY_SHARE * count:
        return []
    return [f"the machine was busy before the run (load {load:.1f} on {count} cores); repeat it when idle"]
