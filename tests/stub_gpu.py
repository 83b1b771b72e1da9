"""A GPU that is none: it computes on the CPU, and makes the mistakes that a test asks for."""

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.model.file import Model
from onebranch.model.foreign import ForeignModel
from onebranch.runtime.protocol import Runtime
from onebranch.runtime.selection import open_foreign, open_runtime

NAMES = ["Stub 3000", "Stub 1000"]
"""The GPUs that the stub lists; none: it gives a reason."""

ERROR = 0.0
"""What is added to every output, or NaN."""


class StubNetwork:
    """A network whose outputs are off by `ERROR`."""

    name = "onnxruntime"
    cpu_operations: tuple[str, ...] = ()

    def __init__(self, network: Runtime, index: int) -> None:
        self._network, self.index = network, index
        self.halo = network.halo

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """The network's output."""
        return self._network.run(pictures) + np.float32(ERROR)


def gpu_names() -> list[str]:
    """The GPUs."""
    if not NAMES:
        raise OnebranchError("the stub has no GPU")
    return NAMES


def open_on_gpu(model: Model, index: int) -> StubNetwork:
    """The model in ONNX Runtime."""
    return StubNetwork(open_runtime(model, "onnxruntime", 1), index)


def open_foreign_on_gpu(model: ForeignModel, index: int, memory: int | None) -> StubNetwork:
    """The third-party model in ONNX Runtime."""
    return StubNetwork(open_foreign(model, "onnxruntime", 1, memory), index)
