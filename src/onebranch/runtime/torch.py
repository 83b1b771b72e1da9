"""A model in PyTorch, with the modules that it was trained with."""

import numpy as np
import torch

from onebranch.graph.analysis.halo import halo
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.nn.network import load


class TorchRuntime:
    """The network on the CPU. threads: set for the whole process; None leaves the number unchanged."""

    name = "torch"

    def __init__(self, model: Model, threads: int | None = None) -> None:
        self.halo = halo(lower(model.spec, model.weights))
        self._network = load(model.spec, model.weights)
        if threads:
            torch.set_num_threads(threads)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        with torch.inference_mode():
            output: np.ndarray = self._network(torch.from_numpy(np.ascontiguousarray(pictures))).numpy()
        return output
