"""Models on GPUs of any vendor by ONNX Runtime's WebGPU plugin, the package onnxruntime-ep-webgpu.

The plugin uses Vulkan on Linux, Direct3D 12 on Windows and Metal on macOS. ONNX Runtime's fallback of a whole
session to the CPU is switched off. Single operations that the plugin lacks run on the CPU: those that compute
sizes belong there, others are reported, and a network whose convolutions would run there is refused.

The plugin takes one device, and chooses the GPU itself: the one that promises the most performance. From
version 0.5 on, an option names another one.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.model.foreign import ForeignModel
from onebranch.runtime.foreign import NO_LOG, ForeignRuntime
from onebranch.runtime.onnxruntime import session_options
from onebranch.user_cache import installed_version

LIBRARY_NAME = "onebranch.webgpu"
"""The name under which this process registers the plugin."""

RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""The setting with which a session records where each operation runs."""

CPU_PROVIDER = "CPUExecutionProvider"

SIZE_OPERATIONS = frozenset(
    (
        *("Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div"),
        *("Equal", "Expand", "Floor", "Gather", "Identity", "Max", "Min"),
        *("Mod", "Mul", "Neg", "Range", "ReduceProd", "Reshape", "Shape"),
        *("Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
    )
)
"""Operations that ONNX Runtime runs on the CPU where they compute sizes, although the plugin has them."""

COSTLY_OPERATIONS = frozenset(("Conv", "FusedConv", "ConvTranspose", "MatMul", "Gemm"))
"""Operations for which a GPU is used."""

ADAPTER_INDEX, FIRST_VERSION_WITH_INDEX = "adapterIndex", (0, 5)
"""The plugin's option that selects a GPU, and the version that has it; older ones ignore it."""

VENDORS = {
    0x1002: "AMD",
    0x106B: "Apple",
    0x10DE: "NVIDIA",
    0x13B5: "Arm",
    0x5143: "Qualcomm",
    0x8086: "Intel",
}
"""Names of vendors by their PCI numbers."""

NO_GPU = (
    "the WebGPU plugin lists no GPU; it needs a graphics driver, and on Linux the Vulkan loader"
    " (libvulkan.so.1)"
)


class GpuSession:
    """An ONNX Runtime session on one GPU, of which one picture is computed at a time.

    content: an ONNX file's bytes, or its path. Raises OnebranchError if the session cannot be opened, or
    convolutions or matrix products would run on the CPU.
    """

    def __init__(self, content: bytes | Path, index: int) -> None:
        options = session_options(None)
        options.log_severity_level = NO_LOG
        options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
        self._name, self._lock = gpu_names()[index], threading.Lock()
        selection = {ADAPTER_INDEX: str(index)} if len(gpu_names()) > 1 else {}
        try:
            options.add_provider_for_devices([_devices()[0]], selection)
            self._session = onnxruntime.InferenceSession(content, options, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
            raise OnebranchError(f"{self._name} does not run the network: {_one_line(error)}") from None
        self.cpu_operations = _operations_on_cpu(self._session)
        if costly := COSTLY_OPERATIONS.intersection(self.cpu_operations):
            raise OnebranchError(f"{self._name} does not run the network's {', '.join(sorted(costly))}")

    def run(self, outputs: Sequence[str], values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs with these names for inputs by name. Raises OnebranchError if the GPU fails."""
        try:
            with self._lock:
                results: list[np.ndarray] = self._session.run(list(outputs), dict(values))
        except Exception as error:  # as above
            raise OnebranchError(
                f"{self._name} failed: {_one_line(error)}; less memory is needed with a smaller --tile"
            ) from None
        return results


class WebgpuRuntime:
    """A model on a GPU. index: of `gpu_names`. Raises OnebranchError if the GPU cannot run it."""

    name = "onnxruntime"

    def __init__(self, model: Model, index: int) -> None:
        graph = lower(model.spec, model.weights)
        self.halo = halo(graph)
        (self._input,), (self._output,) = graph.inputs, graph.outputs
        self._session = GpuSession(to_onnx(graph), index)
        self.cpu_operations = self._session.cpu_operations

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        (output,) = self._session.run([self._output], {self._input: pictures})
        return output


class ForeignWebgpuRuntime(ForeignRuntime):
    """A third-party model on a GPU. memory: as `ForeignRuntime` takes it."""

    def __init__(self, model: ForeignModel, index: int, memory: int | None) -> None:
        session = GpuSession(model.content or model.path, index)
        self.cpu_operations = session.cpu_operations
        super().__init__(model, None, memory, session)


def open_on_gpu(model: Model, index: int) -> WebgpuRuntime:
    """A model on the GPU with that index."""
    return WebgpuRuntime(model, index)


def open_foreign_on_gpu(model: ForeignModel, index: int, memory: int | None) -> ForeignWebgpuRuntime:
    """A third-party model on the GPU with that index."""
    return ForeignWebgpuRuntime(model, index, memory)


@cache
def gpu_names() -> list[str]:
    """The names of the GPUs that can be selected. Raises OnebranchError, with the reason, if there is none.

    Where there are several, the plugin does not say which of them has which index.
    """
    names = [_name(each.device) for each in _devices()]
    if len(names) == 1:
        return names
    together = ", ".join(names)
    if _plugin_version() < FIRST_VERSION_WITH_INDEX:
        return [f"the plugin's choice of {together}"]
    return [f"adapter {index} of {together}" for index in range(len(names))]


@cache
def _devices() -> list[Any]:
    """The GPUs that the plugin lists; it is registered before. OnebranchError if that fails."""
    import onnxruntime_ep_webgpu as plugin  # imported here because the package is an optional extra

    try:
        onnxruntime.register_execution_provider_library(LIBRARY_NAME, plugin.get_library_path())
        devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == plugin.get_ep_name()]
    except Exception as error:  # as above
        raise OnebranchError(f"ONNX Runtime cannot load its WebGPU plugin: {_one_line(error)}") from None
    if not devices:
        raise OnebranchError(NO_GPU)
    return devices


def _name(device: Any) -> str:
    """The name of a device: its description, or its vendor and number, such as "NVIDIA GPU 0x2684"."""
    if device.type == onnxruntime.OrtHardwareDeviceType.CPU:
        return "software GPU"
    if description := device.metadata.get("Description"):
        return str(description)
    vendor = VENDORS.get(device.vendor_id) or device.vendor or "unknown"
    return f"{vendor} GPU {device.device_id:#06x}"


def _operations_on_cpu(session: onnxruntime.InferenceSession) -> tuple[str, ...]:
    """The kinds of operations that run on the CPU and do not compute sizes, in alphabetical order."""
    subgraphs = session.get_provider_graph_assignment_info()
    nodes = [node for each in subgraphs if each.ep_name == CPU_PROVIDER for node in each.get_nodes()]
    return tuple(sorted({node.op_type for node in nodes} - SIZE_OPERATIONS))


def _plugin_version() -> tuple[int, ...]:
    """The version of the plugin's package, such as (0, 4, 0)."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", installed_version("onnxruntime-ep-webgpu")))


def _one_line(error: Exception) -> str:
    """The message of an error, without the source line of the condition that failed."""
    return " ".join(str(error).split()).rpartition("was false. ")[2]
