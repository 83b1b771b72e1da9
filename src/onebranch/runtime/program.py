"""Third-party ONNX models in the native engine: graphs of local operations, compiled into programs."""

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo_of
from onebranch.lowering.program_compiler import compile_graph
from onebranch.model.foreign import ForeignModel
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_library import programs_available


class ProgramRuntime:
    """A third-party network in the engine, in float32; memory grows with the width of a picture only.

    threads: how many compute one picture; None takes every core. Raises OnebranchError, with the reason, for
    a network that the engine does not run.
    """

    name = "engine"

    def __init__(self, model: ForeignModel, threads: int | None = None) -> None:
        graph, analysis = model.usable()
        self.program = compile_graph(graph, analysis)
        self.halo = halo_of(analysis)
        self.engine = Engine(self.program.packed(), threads)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        return np.stack([self.engine.run(picture, "float32", planar=True) for picture in pictures])


def program_refusal(model: ForeignModel) -> str:
    """Why the engine does not run a third-party network, in one line; empty if it does."""
    if reason := programs_available():
        return reason
    try:
        ProgramRuntime(model, threads=1)
    except OnebranchError as error:
        return str(error)
    return ""
