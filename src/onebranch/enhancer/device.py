"""The device of a stage: the CPU, or a GPU that computes what the CPU computes and, for "auto", faster."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from onebranch.enhancer.options import Options
from onebranch.enhancer.stage import ArrayStage, ModelDescription, Stage
from onebranch.errors import OnebranchError
from onebranch.runtime.gpu import CPU, Gpu, GpuNetwork, check_gpu_request, gpu_of, names_gpu

CPU_TEXT = "CPU"
"""The name of the CPU in reports."""

TIMED_EDGE_PIXELS = 256
"""Least edge of the picture that is timed on both devices."""

MAX_TIMED_RUNS = 3
"""The largest number of timed runs after the first one; the fastest counts."""

MAX_TIMED_SECONDS = 1.0
"""No run is started after this time."""


@dataclass(frozen=True)
class StageOpener:
    """How the network of a model is opened on the CPU, as a stage, and on GPUs.

    check: raises OnebranchError if GPUs do not compute the network. identity: a text that stands for all that
    its speed depends on.
    """

    model: ModelDescription
    on_cpu: Callable[[], Stage]
    on_gpu: Callable[[Gpu], GpuNetwork]
    check: Callable[[], None]
    identity: Callable[[], str]


@dataclass(frozen=True)
class StageOnDevice:
    """A stage and the name of its device, which for "auto" includes the reason."""

    stage: Stage
    device: str


def open_stage(opener: StageOpener, options: Options) -> StageOnDevice:
    """The stage on the device that the options name.

    Raises OnebranchError, with the reason, if a GPU is named and cannot be used; "auto" then takes the CPU.
    """
    if options.device == CPU:
        return StageOnDevice(opener.on_cpu(), CPU_TEXT)
    if not names_gpu(options.device):
        return _automatic(opener, options)
    with _advice():
        gpu = _requested_gpu(options)
        opener.check()
        return _on_gpu(opener, gpu, options)


def check_request(options: Options) -> None:
    """Raise OnebranchError if the options name a GPU that cannot be used, whatever the network."""
    if names_gpu(options.device):
        with _advice():
            _requested_gpu(options)


def _requested_gpu(options: Options) -> Gpu:
    """The GPU that the options name, or the first one. Raises OnebranchError if they cannot use any."""
    check_gpu_request(options.runtime, options.precision)
    return gpu_of(options.device, options.runtime)


@contextmanager
def _advice() -> Iterator[None]:
    """Say in every error that the CPU needs no GPU."""
    try:
        yield
    except OnebranchError as error:
        raise OnebranchError(f"{error}; --device cpu computes without a GPU") from None


def _automatic(opener: StageOpener, options: Options) -> StageOnDevice:
    """The stage on the GPU if one can be used and is faster here; otherwise on the CPU, with the reason."""
    try:
        gpu = _requested_gpu(options)
        opener.check()
        on_gpu = _on_gpu(opener, gpu, options)
    except OnebranchError as error:
        return StageOnDevice(opener.on_cpu(), f"{CPU_TEXT} (auto: {error})")
    return _faster(opener, on_gpu, gpu)


def _on_gpu(opener: StageOpener, gpu: Gpu, options: Options) -> StageOnDevice:
    """The stage on a GPU that agrees with the CPU; the name says which operations the CPU computes."""
    network = opener.on_gpu(gpu)
    rest = f", {' and '.join(network.cpu_operations)} on the CPU" if network.cpu_operations else ""
    return StageOnDevice(ArrayStage(opener.model, network, options.chroma), f"{gpu.name}{rest}")


def _faster(opener: StageOpener, on_gpu: StageOnDevice, gpu: Gpu) -> StageOnDevice:
    """The stage of the device that is faster here, measured once per machine."""
    from onebranch.runtime.cores import cores
    from onebranch.runtime.speed import cache_name, kept
    from onebranch.user_cache import installed_version

    on_cpu = opener.on_cpu()
    stages = {CPU_TEXT: on_cpu, on_gpu.device: on_gpu.stage}
    versions = [installed_version(name) for name in ("onnxruntime", "onnxruntime-ep-webgpu", "torch")]
    name = cache_name(on_cpu.runtime, str(cores()), *versions, str(gpu), gpu.runtime, opener.identity())
    speeds = kept(name, stages, lambda device: _milliseconds_per_megapixel(stages[device]))
    times = ", ".join(f"{device} {speeds[device]:.0f}" for device in stages)
    fastest = min(stages, key=lambda device: speeds[device])
    return StageOnDevice(stages[fastest], f"{fastest} (auto: the faster one, ms per megapixel: {times})")


def _milliseconds_per_megapixel(stage: Stage) -> float:
    """Milliseconds per million pixels of an 8-bit RGB picture, with colour conversion and transfers.

    The first run compiles and allocates; it counts only if it takes longer than all others may.
    """
    multiple = stage.halo.multiple
    edge = -(-max(TIMED_EDGE_PIXELS, stage.halo.minimum_size) // multiple) * multiple
    height, width = stage.halo.fixed_size or (edge, edge)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    run = stage.pixels(3, "uint8", "uint8")
    times: list[float] = []
    while len(times) <= MAX_TIMED_RUNS and sum(times) < MAX_TIMED_SECONDS:
        begin = time.perf_counter()
        run(picture)
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times) * 1e6 / (height * width)
