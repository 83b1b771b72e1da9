"""Pictures of any height through the engine, some rows at a time."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onebranch.enhancer.engine_stage import EngineStage


def stream_picture(stage: "EngineStage", height: int, rows: np.ndarray) -> int:
    """Stream a picture of `height` rows through a luma network; return the number of output rows.

    rows: RGB bytes (N, W, 3), which are repeated until the picture is complete.
    """
    stream = stage.engine.stream(height, rows.shape[1], 3, "uint8", "uint8", "y of rgb")
    starts = range(0, height, len(rows))
    return sum(len(stream.push(rows[: min(len(rows), height - start)])) for start in starts)


def random_rows(count: int, width: int) -> np.ndarray:
    """Random RGB bytes (count, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, width, 3), np.uint8)
