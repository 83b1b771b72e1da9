"""Models in OpenVINO on the CPU, in a precision that is always said: left alone, it takes bf16 where it can.

In fp32 and bf16 it runs the model's graph; in int8 the quantized graph, whose 8-bit operations it fuses.
"""

from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.floats import INPUT, lower
from onebranch.lowering.integers import lower_integer
from onebranch.model.file import Model
from onebranch.spec.quantization import quantization_of

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of the precisions of floats; in int8, of what stays a float."""


FEWEST_PIXELS = 64
"""Of all pictures together: OpenVINO 2026.4 fuses a sum into a convolution of 18 samples or fewer wrongly."""


class OpenvinoRuntime:
    """A model on the CPU. threads: None takes every core. precision: "fp32", "bf16", "int8".

    Raises OnebranchError where the machine or OpenVINO does not compute in that precision.
    """

    name = "openvino"

    def __init__(self, model: Model, threads: int | None = None, precision: str = "fp32") -> None:
        graph = lower(model.spec, model.weights)
        self.halo, self.precision = halo(graph), precision
        if precision == "int8":
            record = quantization_of(model.quantization or {}, model.spec)
            graph = lower_integer(model.spec, model.weights, record)
        self._compiled = compiled(to_onnx(graph), threads, HINTS[precision])

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        values = np.ascontiguousarray(pictures, np.float32)
        count, _, height, width = values.shape
        copies = -(-FEWEST_PIXELS // (count * height * width))
        if copies > 1:
            values = np.concatenate([values] * copies)
        return np.array(self._compiled({INPUT: values})[0][:count])


def compiled(content: bytes, threads: int | None, hint: str) -> Any:
    """An ONNX file's content, compiled for the CPU; floats are computed in `hint`: "f32", "bf16"."""
    import openvino  # imported late: the package is an extra, and modules here import without it

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    settings |= {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
    result = core.compile_model(core.read_model(content), "CPU", settings)
    if (taken := _taken(result)) != hint:
        raise OnebranchError(
            f"OpenVINO computes in {taken} on this machine, not in {hint}; use --precision fp32"
        )
    return result


def _taken(compiled: Any) -> str:
    """The precision that OpenVINO chose for floats."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
