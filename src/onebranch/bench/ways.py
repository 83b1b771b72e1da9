"""Every way in which benchmarks run a network: a runtime, a form of the network, a precision.

Packages are imported when a way opens, so that the table can be read without any of them.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onebranch.bench.networks import Network
from onebranch.errors import OnebranchError, nearest
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.selection import PRECISIONS, engine_refusal

Run = Callable[[np.ndarray], Any]
"""A network on pictures (1, C, H, W), float32, C-contiguous."""

Form = Literal["unmerged", "merged"]


@dataclass(frozen=True)
class Way:
    """label: what users read, unique. modules: what it imports, before anything is measured."""

    label: str
    runtime: str
    form: Form
    precision: str
    modules: tuple[str, ...]
    opened: Callable[[Model, int], Run]

    def model_of(self, network: Network) -> Model | None:
        """The form that it runs; None where the network has none."""
        if self.form == "unmerged":
            return network.unmerged
        return network.quantized if self.precision == "int8" else network.merged

    def reason_against(self, network: Network) -> str:
        """Why this is not measured, in one line; empty where it is."""
        model = self.model_of(network)
        if model is None and self.form == "unmerged":
            return "another network's costs the same"
        if model is None:
            return "integers do not take this network"
        if missing := [name for name in self.modules if importlib.util.find_spec(name.split(".")[0]) is None]:
            return f"{missing[0]} is not installed"
        return engine_refusal(model, self.precision) if self.runtime == "engine" else ""


def _torch(model: Model, threads: int) -> Run:
    from onebranch.runtime.torch import TorchRuntime

    return TorchRuntime(model, threads).run


def _torch_channels_last(model: Model, threads: int) -> Run:
    import torch

    from onebranch.nn.network import load

    torch.set_num_threads(threads)
    layout = torch.channels_last
    module: Any = load(model.spec, model.weights)
    module = module.to(memory_format=layout)

    def run(pictures: np.ndarray) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(pictures).contiguous(memory_format=layout)).numpy()

    return run


def _onnxruntime_as_exported(model: Model, threads: int) -> Run:
    """The exported file as it is: its PReLUs are PRelu, which ONNX Runtime does not fuse."""
    import onnxruntime

    from onebranch.graph.onnx.writing import to_onnx
    from onebranch.lowering.floats import INPUT, lower
    from onebranch.runtime.onnxruntime import session_options

    content = to_onnx(lower(model.spec, model.weights))
    session = onnxruntime.InferenceSession(
        content, session_options(threads), providers=["CPUExecutionProvider"]
    )
    return lambda pictures: session.run(None, {INPUT: pictures})[0]


def _onnxruntime(model: Model, threads: int) -> Run:
    from onebranch.runtime.onnxruntime import OnnxRuntime

    return OnnxRuntime(model, threads).run


def _openvino(precision: str) -> Callable[[Model, int], Run]:
    def opened(model: Model, threads: int) -> Run:
        from onebranch.runtime.openvino import OpenvinoRuntime

        return OpenvinoRuntime(model, threads, precision).run

    return opened


def _engine(precision: str) -> Callable[[Model, int], Run]:
    def opened(model: Model, threads: int) -> Run:
        from onebranch.runtime.engine import EngineRuntime

        return EngineRuntime(model, threads, precision).run

    return opened


BASELINE = "ONNX Runtime"
"""What ratios are to."""

_PACKAGES = {
    "torch": ("torch", "onebranch.runtime.torch"),
    "onnxruntime": ("onnxruntime", "onebranch.runtime.onnxruntime"),
    "openvino": ("openvino", "onebranch.runtime.openvino"),
    "engine": ("onebranch.runtime.engine",),
}


def _way(label: str, runtime: str, form: Form, precision: str, opened: Callable[[Model, int], Run]) -> Way:
    return Way(label, runtime, form, precision, _PACKAGES[runtime], opened)


WAYS: dict[str, Way] = {
    way.label: way
    for way in (
        _way("PyTorch, unmerged", "torch", "unmerged", "fp32", _torch),
        _way("PyTorch", "torch", "merged", "fp32", _torch_channels_last),
        _way("ONNX Runtime, unmerged", "onnxruntime", "unmerged", "fp32", _onnxruntime_as_exported),
        _way(BASELINE, "onnxruntime", "merged", "fp32", _onnxruntime_as_exported),
        _way("ONNX Runtime, PReLU rewritten", "onnxruntime", "merged", "fp32", _onnxruntime),
        *(_way(f"OpenVINO {p}", "openvino", "merged", p, _openvino(p)) for p in PRECISIONS),
        *(_way(f"engine {p}", "engine", "merged", p, _engine(p)) for p in PRECISIONS),
    )
}
"""Every way by its label."""


def chosen(runtimes: tuple[str, ...], precisions: tuple[str, ...]) -> list[Way]:
    """The ways of those runtimes and precisions, all of them where none is named.

    Raises OnebranchError, with the nearest name, for an unknown one, and where no way is left.

    >>> [way.label for way in chosen(("engine",), ("fp32", "int8"))]
    ['engine fp32', 'engine int8']
    """
    known = list(dict.fromkeys(way.runtime for way in WAYS.values()))
    for given, names, what in ((runtimes, known, "runtime"), (precisions, PRECISIONS, "precision")):
        for name in given:
            if name not in names:
                raise OnebranchError(f"unknown {what} '{name}'; {nearest(name, names)}")
    found = [
        way
        for way in WAYS.values()
        if (not runtimes or way.runtime in runtimes) and (not precisions or way.precision in precisions)
    ]
    if not found:
        raise OnebranchError(
            f"{', '.join(runtimes)} is measured in fp32 only, not in {', '.join(precisions)}; leave one out"
        )
    return found


def threads_or_all(threads: int | None) -> int:
    """The number itself; for None every core that this process may use."""
    return threads or cores()
