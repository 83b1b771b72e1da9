"""Pictures of any height through the engine, some rows at a time."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onebranch.enhancer.engine_stage import EngineStage


def streamed(stage: "EngineStage", height: int, rows: np.ndarray) -> int:
    """A picture of so many rows through photo-x2 or its like; how many rows it gave.

    rows: some rows of RGB bytes (N, W, 3), which are given again and again.
    """
    stream = stage.engine.stream(height, rows.shape[1], 3, "uint8", "uint8", "y of rgb")
    starts = range(0, height, len(rows))
    return sum(len(stream.push(rows[: min(len(rows), height - start)])) for start in starts)


def random_rows(count: int, width: int) -> np.ndarray:
    """(N, W, 3) bytes."""
    return np.random.default_rng(0).integers(0, 256, (count, width, 3), np.uint8)
