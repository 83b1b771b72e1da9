"""How fast the engine runs a model on this machine, and which precision is the fastest."""

import time

import numpy as np

from onebranch.model.file import Model
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import describe

EDGE_PIXELS = 128
"""Edge of the picture that is timed: a few milliseconds of work."""

ROUNDS = 5
"""The number of timed runs, of which the fastest counts."""


def milliseconds_per_megapixel(model: Model, precision: str) -> float:
    """Milliseconds of one core in the engine per million pixels of the network's input.

    It is processor time, measured on a small picture: an estimate; `onebranch bench` measures thoroughly.
    Raises OnebranchError if the engine is unavailable or does not support the model in that precision.
    """
    engine = Engine(describe(model, precision), threads=1)
    size = (EDGE_PIXELS, EDGE_PIXELS, model.spec.channels)
    picture = np.arange(EDGE_PIXELS**2 * model.spec.channels).astype(np.uint8).reshape(size)
    seconds = min(_seconds(engine, picture) for _ in range(ROUNDS))
    return 1e3 * seconds * 1e6 / EDGE_PIXELS**2


def _seconds(engine: Engine, picture: np.ndarray) -> float:
    start = time.thread_time()
    engine.run(picture, "uint8")
    return time.thread_time() - start
