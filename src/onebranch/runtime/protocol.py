"""The one thing that everything above asks of a runtime."""

from typing import Protocol

import numpy as np

from onebranch.graph.analysis.halo import Halo


class Runtime(Protocol):
    """A network that is ready to run, with the facts its caller needs to cut pictures into pieces."""

    @property
    def name(self) -> str:
        """What runs: "engine", "onnxruntime", "openvino" or "torch"."""

    @property
    def halo(self) -> Halo:
        """How far the network looks, and its scale."""

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
