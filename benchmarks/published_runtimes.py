"""The runtimes in which networks of the literature are compared; PyTorch is not imported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

ENGINE, ENGINE_INT8, ONNXRUNTIME, OPENVINO = "engine", "engine int8", "onnxruntime", "openvino"

LABELS = {ENGINE: "engine", ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO"}
"""Their names in tables."""

MODULES = {
    ENGINE: ("onebranch.runtime.program", "onebranch.model.foreign"),
    ONNXRUNTIME: ("onnxruntime", "onebranch.runtime.onnxruntime"),
    OPENVINO: ("openvino", "onebranch.runtime.openvino"),
}
"""What each runtime needs."""

Run = Callable[[np.ndarray], object]
"""Runs a network on pictures (1, C, H, W), float32."""


def _in_engine(path: Path, threads: int) -> Run:
    from onebranch.model.foreign import read_foreign
    from onebranch.runtime.program import ProgramRuntime

    return ProgramRuntime(read_foreign(path), threads).run


def _in_onnxruntime(path: Path, threads: int) -> Run:
    import onnxruntime

    from onebranch.runtime.onnxruntime import session_options

    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, session_options(threads), providers=providers)
    (first,) = session.get_inputs()
    return lambda picture: session.run(None, {first.name: picture})


def _in_openvino(path: Path, threads: int) -> Run:
    from onebranch.runtime.openvino import compiled

    network = compiled(path.read_bytes(), threads, "f32")
    return lambda picture: np.array(network([picture])[0])


OPEN: dict[str, Callable[[Path, int], Run]] = {
    ENGINE: _in_engine,
    ONNXRUNTIME: _in_onnxruntime,
    OPENVINO: _in_openvino,
}
"""How each runtime opens an ONNX file."""
