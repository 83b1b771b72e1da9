"""Configurations of the benchmarks: runtime, form of the network (unmerged or merged), precision.

A configuration imports its packages when it opens, so that the table can be read without any of them.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.networks import Network
from onebranch.errors import OnebranchError, nearest
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.selection import PRECISIONS, engine_refusal

Run = Callable[[np.ndarray], Any]
"""Runs a network on pictures (1, C, H, W), float32, C-contiguous."""

Structure = Literal["unmerged", "merged"]


@dataclass(frozen=True)
class Configuration:
    """label: unique, shown to users. modules: imported before anything is measured. open: sets a model up."""

    label: str
    runtime: str
    structure: Structure
    precision: str
    modules: tuple[str, ...]
    open: Callable[[Model, int], Run]

    def model_for(self, network: Network) -> Model | None:
        """The form of the network that is run; None if the network has no such form."""
        if self.structure == "unmerged":
            return network.unmerged
        return network.quantized if self.precision == "int8" else network.merged

    def unsupported_reason(self, network: Network) -> str:
        """Why the network is not measured in this configuration, in one line; empty if it is."""
        model = self.model_for(network)
        if model is None and self.structure == "unmerged":
            return "it costs the same as another network"
        if model is None:
            return "this network cannot be quantized"
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
    """The file as it is exported, with PRelu operators, which ONNX Runtime does not fuse."""
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
    def open_model(model: Model, threads: int) -> Run:
        from onebranch.runtime.openvino import OpenvinoRuntime

        return OpenvinoRuntime(model, threads, precision).run

    return open_model


def _engine(precision: str) -> Callable[[Model, int], Run]:
    def open_model(model: Model, threads: int) -> Run:
        from onebranch.runtime.engine import EngineRuntime

        return EngineRuntime(model, threads, precision).run

    return open_model


BASELINE = "ONNX Runtime"
"""The label that speedups are relative to."""

_PACKAGES = {
    "torch": ("torch", "onebranch.runtime.torch"),
    "onnxruntime": ("onnxruntime", "onebranch.runtime.onnxruntime"),
    "openvino": ("openvino", "onebranch.runtime.openvino"),
    "engine": ("onebranch.runtime.engine",),
}


def _entry(
    label: str, runtime: str, structure: Structure, precision: str, open: Callable[[Model, int], Run]
) -> Configuration:
    return Configuration(label, runtime, structure, precision, _PACKAGES[runtime], open)


CONFIGURATIONS: dict[str, Configuration] = {
    entry.label: entry
    for entry in (
        _entry("PyTorch, unmerged", "torch", "unmerged", "fp32", _torch),
        _entry("PyTorch", "torch", "merged", "fp32", _torch_channels_last),
        _entry("ONNX Runtime, unmerged", "onnxruntime", "unmerged", "fp32", _onnxruntime_as_exported),
        _entry(BASELINE, "onnxruntime", "merged", "fp32", _onnxruntime_as_exported),
        _entry("ONNX Runtime, PReLU rewritten", "onnxruntime", "merged", "fp32", _onnxruntime),
        *(_entry(f"OpenVINO {p}", "openvino", "merged", p, _openvino(p)) for p in PRECISIONS),
        *(_entry(f"engine {p}", "engine", "merged", p, _engine(p)) for p in PRECISIONS),
    )
}
"""Every configuration by its label."""


def select_configurations(runtimes: tuple[str, ...], precisions: tuple[str, ...]) -> list[Configuration]:
    """The configurations of these runtimes and precisions; empty selects all.

    Raises OnebranchError, with the nearest name, for an unknown one, and if no configuration remains.

    >>> [each.label for each in select_configurations(("engine",), ("fp32", "int8"))]
    ['engine fp32', 'engine int8']
    """
    known = list(dict.fromkeys(each.runtime for each in CONFIGURATIONS.values()))
    for given, names, kind in ((runtimes, known, "runtime"), (precisions, PRECISIONS, "precision")):
        for name in given:
            if name not in names:
                raise OnebranchError(f"unknown {kind} '{name}'; {nearest(name, names)}")
    selected = [
        each
        for each in CONFIGURATIONS.values()
        if (not runtimes or each.runtime in runtimes) and (not precisions or each.precision in precisions)
    ]
    if not selected:
        raise OnebranchError(
            f"{', '.join(runtimes)} is measured in fp32 only, not in {', '.join(precisions)}; leave one out"
        )
    return selected


def threads_or_all(threads: int | None) -> int:
    """The number itself; None means every core that this process may use."""
    return threads or cores()
