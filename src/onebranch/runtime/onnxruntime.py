"""A model in ONNX Runtime, from a graph that is lowered from the spec and the weights, without PyTorch."""

import numpy as np
import onnxruntime

from onebranch.graph.halo import halo
from onebranch.graph.onnx import to_onnx
from onebranch.graph.prelu import prelu_as_convolutions
from onebranch.lowering import INPUT, OUTPUT, lower
from onebranch.model.file import Model

WARNINGS_OFF = 3
"""ONNX Runtime's log level that shows errors only."""


class OnnxRuntime:
    """A session on the CPU. `threads`: how many work on one picture; None takes every core."""

    name = "onnxruntime"

    def __init__(self, model: Model, threads: int | None = None) -> None:
        graph = lower(model.spec, model.weights)
        self.halo = halo(graph)
        self._session = onnxruntime.InferenceSession(
            to_onnx(prelu_as_convolutions(graph)), _options(threads), providers=["CPUExecutionProvider"]
        )

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        output: np.ndarray = self._session.run([OUTPUT], {INPUT: pictures})[0]
        return output


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = WARNINGS_OFF
    return options
