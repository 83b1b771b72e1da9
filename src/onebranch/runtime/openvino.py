"""Models in OpenVINO on the CPU.

The precision is always set, because OpenVINO chooses bf16 by default where the processor has it. fp32 and
bf16 run the model's graph; int8 runs the quantized graph, whose 8-bit operations OpenVINO fuses.
"""

import threading
from functools import cache
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.floats import INPUT, lower
from onebranch.lowering.integers import lower_integer
from onebranch.model.file import Model
from onebranch.runtime.processor import processor_flags
from onebranch.spec.quantization import quantization_of

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of the float precisions; for int8, of the operations that stay float."""

MIN_PIXELS = 64
"""Minimum pixels of a batch: up to 18, OpenVINO 2026.4 fuses a sum into a convolution incorrectly."""

CORE_LOCK = threading.Lock()
"""Held while `_core` is called: `cache` alone lets two threads create one each."""


class OpenvinoRuntime:
    """A model on the CPU. threads: None takes every core. precision: "fp32", "bf16" or "int8".

    Raises OnebranchError if OpenVINO does not support that precision on this machine.
    """

    name = "openvino"

    def __init__(self, model: Model, threads: int | None = None, precision: str = "fp32") -> None:
        graph = lower(model.spec, model.weights)
        self.halo, self.precision = halo(graph), precision
        if precision == "int8":
            if int8_saturates():
                raise OnebranchError(
                    "OpenVINO's 8-bit products saturate on processors without VNNI: wrong pictures;"
                    " use --runtime engine, or --precision fp32"
                )
            record = quantization_of(model.quantization or {}, model.spec)
            graph = lower_integer(model.spec, model.weights, record)
        self._compiled = compiled(to_onnx(graph), threads, PRECISION_HINTS[precision])
        self._of_thread = threading.local()

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        values = np.ascontiguousarray(pictures, np.float32)
        count, _, height, width = values.shape
        # Example: one picture of 3x3 pixels: ceil(64 / 9) = 8 copies in a batch; the first result is
        # returned.
        copies = -(-MIN_PIXELS // (count * height * width))
        if copies > 1:
            values = np.concatenate([values] * copies)
        return np.array(self._request().infer({INPUT: values})[0][:count])

    def _request(self) -> Any:
        """This thread's own request: calls of the compiled model share one, and mix up pictures."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


@cache
def int8_saturates() -> bool:
    """True on x86 processors without VNNI, where OpenVINO adds pairs of 8-bit products in 16 bits.

    Example: 255 * 127 + 255 * 127 = 64,770 becomes 32,767. Known on Linux only; elsewhere False.
    """
    flags = processor_flags()
    return "sse2" in flags and not flags & {"avx512_vnni", "avx_vnni"}


def compiled(content: bytes, threads: int | None, hint: str) -> Any:
    """An ONNX file's content, compiled for the CPU. hint: precision of float operations, "f32" or "bf16"."""
    with CORE_LOCK:
        core = _core()
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    settings |= {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
    result = core.compile_model(core.read_model(content), "CPU", settings)
    if (actual := _float_precision(result)) != hint:
        raise OnebranchError(
            f"OpenVINO computes in {actual} on this machine, not in {hint}; use --precision fp32"
        )
    return result


@cache
def _core() -> Any:
    """The only `openvino.Core` of the process. It is never destroyed.

    OpenVINO's CPU plugin sets the alternate signal stack of the thread that loads it. When the plugin is
    destroyed in another thread, or before another one that was loaded later, that thread is left with an
    unmapped stack, and the next signal with a Python handler ends the process with SIGSEGV (OpenVINO 2026.4).
    """
    import openvino  # imported here because the package is an optional extra

    return openvino.Core()


def _float_precision(compiled: Any) -> str:
    """The precision that OpenVINO uses for float operations."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
