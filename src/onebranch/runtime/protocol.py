"""The protocol that every runtime implements."""

from typing import Protocol

import numpy as np

from onebranch.graph.analysis.halo import Halo


class Runtime(Protocol):
    """A network that is ready to run, with the facts that callers need to cut pictures into tiles."""

    @property
    def name(self) -> str:
        """The name of the runtime: "engine", "onnxruntime", "openvino" or "torch"."""

    @property
    def halo(self) -> Halo:
        """The input pixels needed around a tile, and the network's scale."""

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
