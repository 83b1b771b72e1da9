"""photo-x2 end to end, RGB bytes to RGB bytes, compared with OpenCV's Lanczos-4 resize."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from onebranch.bench import DEFAULT_PACING, Pacing, median_ratio, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import load
from onebranch.runtime.engine_library import available

LANCZOS = "OpenCV Lanczos-4"

MODELS = {"fp32": "photo-x2", "bf16": "photo-x2", "int8": "photo-x2-int8"}
"""The shipped model of each precision."""


@dataclass(frozen=True)
class EndToEndRow:
    """milliseconds: median. megapixels: of output per second. ratio: to OpenCV's time, if installed."""

    label: str
    precision: str
    milliseconds: float
    megapixels: float
    ratio: float | None


def compare(
    size: tuple[int, int],
    rounds: int,
    threads: int,
    precisions: Sequence[str] = (),
    pacing: Pacing = DEFAULT_PACING,
) -> tuple[list[EndToEndRow], list[str]]:
    """Time photo-x2 with bicubic chroma, and OpenCV; also returns a line for each that was skipped.

    size: height and width of the input. precisions: empty means all.
    """
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    runs, notes = _candidates(frame, threads, precisions or tuple(MODELS))
    seconds = time_interleaved(runs, rounds, pacing) if runs else {}
    reference = seconds.get(LANCZOS)
    rows = [
        EndToEndRow(
            name,
            name.rpartition(" ")[2] if name != LANCZOS else "",
            1e3 * median(times),
            4 * size[0] * size[1] / median(times) / 1e6,
            median_ratio(times, reference) if reference else None,
        )
        for name, times in seconds.items()
    ]
    return rows, notes


def _candidates(
    frame: np.ndarray, threads: int, precisions: Sequence[str]
) -> tuple[dict[str, Callable[[], object]], list[str]]:
    runs: dict[str, Callable[[], object]] = {}
    notes = []
    if importlib.util.find_spec("cv2"):
        runs[LANCZOS] = _lanczos(frame, threads)
    else:
        notes.append(f"{LANCZOS} is skipped: pip install opencv-python-headless")
    if missing := available():
        return runs, [*notes, f"the engine is skipped: {missing}"]
    for precision in precisions:
        try:
            runs[f"engine {precision}"] = _stage(MODELS[precision], precision, frame, threads)
        except OnebranchError as error:
            notes.append(f"the engine in {precision} is skipped: {error}")
    return runs, notes


def _stage(name: str, precision: str, frame: Any, threads: int) -> Callable[[], object]:
    from onebranch.enhancer.engine_stage import EngineStage

    function = EngineStage(load(name), threads=threads, precision=precision).pixels(3, "uint8", "uint8")
    return lambda: function(frame)


def _lanczos(frame: np.ndarray, threads: int) -> Callable[[], object]:
    cv2 = importlib.import_module("cv2")  # optional, and its stubs are not everywhere
    cv2.setNumThreads(threads)
    height, width = frame.shape[:2]
    return lambda: cv2.resize(frame, (2 * width, 2 * height), interpolation=cv2.INTER_LANCZOS4)
