"""The whole path of an ordinary picture, RGB bytes to RGB bytes, beside OpenCV's Lanczos-4 resize."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from onebranch.bench.interleaved import USUAL, Turns, in_turns, ratio
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import load
from onebranch.runtime.engine_library import available

LANCZOS = "OpenCV Lanczos-4"

MODELS = {"fp32": "photo-x2", "bf16": "photo-x2", "int8": "photo-x2-int8"}
"""What runs in each precision."""


@dataclass(frozen=True)
class PathRow:
    """milliseconds: median. megapixels: of output, a second. ratio: times as long as OpenCV takes, where it
    is there."""

    way: str
    precision: str
    milliseconds: float
    megapixels: float
    ratio: float | None


def compare(
    size: tuple[int, int],
    rounds: int,
    threads: int,
    precisions: Sequence[str] = (),
    turns: Turns = USUAL,
) -> tuple[list[PathRow], list[str]]:
    """photo-x2 with bicubic chroma in those precisions, and OpenCV, interleaved; what is left out, and why.

    precisions: none means all.
    """
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    runs, notes = _candidates(frame, threads, precisions or tuple(MODELS))
    seconds = in_turns(runs, rounds, turns) if runs else {}
    reference = seconds.get(LANCZOS)
    rows = [
        PathRow(
            name,
            name.rpartition(" ")[2] if name != LANCZOS else "",
            1e3 * median(own),
            4 * size[0] * size[1] / median(own) / 1e6,
            ratio(own, reference) if reference else None,
        )
        for name, own in seconds.items()
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
        notes.append(f"{LANCZOS} is left out: pip install opencv-python-headless")
    if missing := available():
        return runs, [*notes, f"the engine is left out: {missing}"]
    for precision in precisions:
        try:
            runs[f"engine {precision}"] = _stage(MODELS[precision], precision, frame, threads)
        except OnebranchError as error:
            notes.append(f"the engine in {precision} is left out: {error}")
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
