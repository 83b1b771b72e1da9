"""GPUs: which there are, and whether one of them computes what the CPU computes.

A device is "cpu", "gpu" (the first GPU), "gpu:N", or "auto". Two runtimes compute on GPUs; each is a module
with the functions of `GpuModule` and a line in `GPU_RUNTIMES`. A GPU is trusted with a network only after its
output for a probe tile was compared with the CPU's.
"""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.extras import missing_packages
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime
from onebranch.runtime.selection import AUTO, FAST, open_foreign, open_runtime, resolve_precision

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel

CPU = "cpu"
"""The device that computes unless another one is named."""

AUTO_DEVICE = "auto"
"""Stands for a GPU if one computes what the CPU computes, and faster; otherwise for the CPU."""

GPU_NAME = re.compile(r"gpu(?::([0-9]{1,3}))?")
"""The name of a GPU, with its index where it is not the first one."""

PROBE_TOLERANCE = 1e-4
"""The largest difference between a GPU's output for the probe tile and the CPU's.

It is relative to the larger of 1 and the CPU's largest value, and is a fortieth of a grey level of 8 bits, so
that rounded samples differ by one level at most. fp32 sums in another order differ by about 1e-6; half
precision and TF32 are refused.
"""

PROBE_SIZE = (61, 77)
"""Height and width of the probe tile in pixels: odd, so that no group of a GPU's threads divides them."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: the runtime that lists it, its index in that list, and the name that the runtime gives it."""

    runtime: str
    index: int
    name: str

    def __str__(self) -> str:
        return f"gpu:{self.index} {self.name}"


@dataclass(frozen=True)
class GpuRuntimeEntry:
    """A runtime that computes on GPUs: its module, a `GpuModule`, and the extra that it needs."""

    module: str
    extra: str


GPU_RUNTIMES = {
    "onnxruntime": GpuRuntimeEntry("onebranch.runtime.webgpu", "gpu"),
    "torch": GpuRuntimeEntry("onebranch.runtime.torch", "train"),
}
"""The runtimes that compute on GPUs, by their command-line names, in the order in which they are tried."""

GPU_PRECISION = "fp32"
"""The precision of networks on GPUs."""


class GpuNetwork(Runtime, Protocol):
    """A network on a GPU."""

    @property
    def cpu_operations(self) -> Sequence[str]:
        """The kinds of operations on pictures that run on the CPU, because the GPU lacks them."""


class GpuModule(Protocol):
    """What a module of `GPU_RUNTIMES` defines."""

    def gpu_names(self) -> list[str]:
        """The names of the GPUs, at least one. Raises OnebranchError, with the reason, if there is none."""

    def open_on_gpu(self, model: Model, index: int) -> GpuNetwork:
        """A model on the GPU with that index."""

    def open_foreign_on_gpu(self, model: "ForeignModel", index: int, memory: int | None) -> GpuNetwork:
        """A third-party model on the GPU with that index; memory: as in `selection.open_foreign`."""


def names_gpu(device: str) -> bool:
    """True for a device that is a GPU and nothing else.

    >>> names_gpu("gpu:1"), names_gpu("auto")
    (True, False)
    """
    return GPU_NAME.fullmatch(device) is not None


def check_device(device: str) -> None:
    """Raise OnebranchError for an unknown name of a device."""
    if device not in (CPU, AUTO_DEVICE) and not names_gpu(device):
        raise OnebranchError(
            f"unknown device '{device}'; valid: auto, cpu, gpu, and gpu:N for the GPU with index N, from 0"
        )


def check_gpu_request(runtime: str, precision: str) -> None:
    """Raise OnebranchError for a runtime or a precision that no GPU computes in."""
    if runtime not in ("auto", *GPU_RUNTIMES):
        raise OnebranchError(
            f"runtime '{runtime}' computes on the CPU only; {' and '.join(GPU_RUNTIMES)} compute on GPUs"
        )
    if precision not in (AUTO, GPU_PRECISION, FAST):
        raise OnebranchError(f"GPUs compute in {GPU_PRECISION}, not in {precision}")


def gpus(runtime: str = "auto") -> list[Gpu]:
    """The GPUs of a runtime; "auto": of the first runtime that lists any.

    Raises OnebranchError, with the reason of each runtime, if there is none.
    """
    reasons = []
    for name in GPU_RUNTIMES if runtime == "auto" else (runtime,):
        try:
            return [Gpu(name, index, text) for index, text in enumerate(_module(name).gpu_names())]
        except OnebranchError as error:
            reasons.append(f"{name}: {error}")
    raise OnebranchError(f"no GPU can be used ({'; '.join(reasons)})")


def gpu_of(device: str, runtime: str = "auto") -> Gpu:
    """The GPU that a device names; "auto" is the first one. Raises OnebranchError if there is none."""
    name = GPU_NAME.fullmatch(device)
    index = int(name[1] or 0) if name else 0
    available = gpus(runtime)
    if index >= len(available):
        raise OnebranchError(f"there is no {device}; the GPUs here: {', '.join(map(str, available))}")
    return available[index]


def check_model(model: Model, precision: str, runtime: str = "auto") -> None:
    """Raise OnebranchError for a model that would run in another precision than a GPU's."""
    resolved = resolve_precision(model, precision, runtime)
    if resolved != GPU_PRECISION:
        raise OnebranchError(
            f"{model.name or 'the model'} runs in {resolved}, which is exact to the bit on the CPU and not"
            f" computed on GPUs (--precision {GPU_PRECISION} is)"
        )


def open_on(gpu: Gpu, model: Model, threads: int | None = None) -> GpuNetwork:
    """A model on a GPU, compared with the CPU. threads: of the CPU.

    Raises OnebranchError if the GPU cannot run it, or computes something else.
    """
    network = _module(gpu.runtime).open_on_gpu(model, gpu.index)
    reference = open_runtime(model, "auto", threads, GPU_PRECISION)
    check_probe(gpu, network, reference, probe_tile(model.spec.channels, *PROBE_SIZE))
    return network


def open_foreign_on(
    gpu: Gpu, model: "ForeignModel", threads: int | None = None, memory: int | None = None
) -> GpuNetwork:
    """A third-party model on a GPU, compared with the CPU; arguments and errors are those of `open_on`."""
    network = _module(gpu.runtime).open_foreign_on_gpu(model, gpu.index, memory)
    reference = open_foreign(model, "auto", threads, memory)
    channels = model.usable()[1].channels[0]
    check_probe(gpu, network, reference, probe_tile(channels, *_probe_size(network)))
    return network


def probe_tile(channels: int, height: int, width: int) -> np.ndarray:
    """One picture (1, C, H, W) of random values from 0 to 1, float32, always the same."""
    return np.random.default_rng(0).random((1, channels, height, width), np.float32)


def check_probe(gpu: Gpu, network: Runtime, reference: Runtime, tile: np.ndarray) -> None:
    """Raise OnebranchError unless both networks give the same output for a tile, within `PROBE_TOLERANCE`."""
    error = relative_difference(network.run(tile), reference.run(tile))
    if not error <= PROBE_TOLERANCE:
        raise OnebranchError(
            f"{gpu.name} is not used: its output for a probe tile differs from the CPU's by {error:.1e}, more"
            f" than {PROBE_TOLERANCE:.0e}"
        )


def relative_difference(output: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the larger of 1 and the largest expected value.

    It is infinite for another shape, and for a value that is not finite.

    >>> relative_difference(np.array([1.0, 4.5]), np.array([1.0, 5.0]))
    0.1
    """
    if output.shape != expected.shape or not np.isfinite(output).all():
        return float("inf")
    return float(np.abs(output - expected).max() / max(1.0, np.abs(expected).max()))


def _probe_size(network: Runtime) -> tuple[int, int]:
    """Height and width of a tile on which a third-party network runs."""
    if network.halo.fixed_size is not None:
        return network.halo.fixed_size
    multiple, minimum = network.halo.multiple, network.halo.minimum_size
    height, width = (-(-max(side, minimum) // multiple) * multiple for side in PROBE_SIZE)
    return height, width


def _module(runtime: str) -> GpuModule:
    """The module of a runtime, imported. Raises OnebranchError if its packages are not installed."""
    entry = GPU_RUNTIMES[runtime]
    if missing := missing_packages(entry.extra):
        raise OnebranchError(f"{' and '.join(missing)} not installed, pip install 'onebranch[{entry.extra}]'")
    return cast(GpuModule, importlib.import_module(entry.module))
