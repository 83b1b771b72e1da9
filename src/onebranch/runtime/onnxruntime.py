"""Models and other graphs in ONNX Runtime, without PyTorch."""

import numpy as np
import onnxruntime

from onebranch.graph.analysis.halo import halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.graph.operations import Graph
from onebranch.graph.prelu import prelu_as_convolutions
from onebranch.lowering.floats import lower
from onebranch.model.file import Model

EXACT_INT8 = "session.x64quantprecision"
"""The setting with which 8-bit products do not saturate on x86 processors without VNNI."""

ERRORS_ONLY = 3
"""The log level of ONNX Runtime that shows errors, no warnings."""


class Session:
    """A graph of one input and one output on the CPU. threads: None takes every core."""

    def __init__(self, graph: Graph, threads: int | None = None) -> None:
        (self._input,), (self._output,) = graph.inputs, graph.outputs
        content = to_onnx(prelu_as_convolutions(graph))
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(content, session_options(threads), providers=providers)

    def run(self, values: np.ndarray) -> np.ndarray:
        """The graph's output for its input, in the types and shapes that the graph declares."""
        output: np.ndarray = self._session.run([self._output], {self._input: values})[0]
        return output


class OnnxRuntime:
    """A model on the CPU. threads: how many compute one picture; None takes every core."""

    name = "onnxruntime"

    def __init__(self, model: Model, threads: int | None = None) -> None:
        graph = lower(model.spec, model.weights)
        self.halo = halo(graph)
        self._session = Session(graph, threads)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        return self._session.run(pictures)


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Options for full graph optimization and sequential execution. threads: None takes every core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(EXACT_INT8, "1")
    return options
