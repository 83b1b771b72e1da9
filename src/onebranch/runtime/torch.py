"""A model in PyTorch, with the modules that it was trained with, on the CPU or on a CUDA device."""

from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.nn.network import load

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel


class TorchRuntime:
    """The network on a device. threads: set for the whole process; None leaves the number unchanged."""

    name = "torch"
    cpu_operations: tuple[str, ...] = ()

    def __init__(self, model: Model, threads: int | None = None, device: str = "cpu") -> None:
        self.halo = halo(lower(model.spec, model.weights))
        self._device = torch.device(device)
        self._network = load(model.spec, model.weights).to(self._device)
        if threads:
            torch.set_num_threads(threads)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device)
            output: np.ndarray = self._network(values).cpu().numpy()
        return output


def gpu_names() -> list[str]:
    """The names of the CUDA devices. Raises OnebranchError, with the reason, if there is none."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        raise OnebranchError(f"PyTorch {torch.__version__} was built without CUDA")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise OnebranchError(f"PyTorch {torch.__version__} finds no CUDA device, or no driver for it")
    return [torch.cuda.get_device_name(index) for index in range(count)]


def open_on_gpu(model: Model, index: int) -> TorchRuntime:
    """A model on the CUDA device with that index, computing in full float32.

    Convolutions in TF32, PyTorch's default, are switched off for the whole process: they are off by 1e-3.
    """
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    return TorchRuntime(model, device=f"cuda:{index}")


def open_foreign_on_gpu(model: "ForeignModel", index: int, memory: int | None) -> NoReturn:
    """Raise OnebranchError: PyTorch does not run ONNX files."""
    raise OnebranchError(
        f"runtime 'torch' does not run ONNX files such as {model.path}; on a GPU use onnxruntime,"
        " pip install 'onebranch[gpu]'"
    )
