"""The device of a service, chosen once when it starts.

It is tried in a process of its own, because the state of graphics drivers does not survive the fork by which
the processes of pictures are made. Each of those opens the GPU again.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from onebranch.enhancer.device import CPU_TEXT
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import DEFAULT_MODEL
from onebranch.runtime.gpu import AUTO_DEVICE, CPU, check_device


def choose_device(device: str) -> tuple[str, str]:
    """The device for all pictures, "cpu" or a GPU, and its name with the reason of "auto".

    It is tried with the default model. Raises OnebranchError if a GPU is named and cannot be used.
    """
    check_device(device)
    if device == CPU:
        return CPU, CPU_TEXT
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(try_device, device).result()
        except BrokenProcessPool:
            raise OnebranchError(
                f"the process that tried device '{device}' has crashed, probably in its driver; use"
                " --device cpu"
            ) from None


def try_device(device: str) -> tuple[str, str]:
    """What `choose_device` returns, in this process."""
    (name,) = Enhancer(Options(model=DEFAULT_MODEL, device=device)).devices_for((1, 1))
    if device == AUTO_DEVICE:
        device = CPU if name.startswith(CPU_TEXT) else "gpu"
    return device, name
