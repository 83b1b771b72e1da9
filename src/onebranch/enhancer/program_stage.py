"""A third-party network in the native engine: an `ArrayStage` that needs no tiles."""

import numpy as np

from onebranch.enhancer.finite import checked
from onebranch.enhancer.stage import ArrayStage, Function, ModelDescription
from onebranch.images.resize import Kernel
from onebranch.images.samples import Samples, as_depth
from onebranch.runtime.program import ProgramRuntime


class ProgramStage(ArrayStage):
    """A stage that passes RGB pictures to an RGB network unchanged; numpy converts other colours."""

    streams = True

    def __init__(self, model: ModelDescription, network: ProgramRuntime, chroma: Kernel = "bicubic") -> None:
        super().__init__(model, network, chroma)
        self._engine = network.engine

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        if self.model.colour != "rgb" or channels != 3:
            return super().pixels(channels, source, target)
        run = checked(lambda piece: self._engine.run(np.ascontiguousarray(piece), "float32"), self.model.name)

        def enhanced(piece: Samples) -> Samples:
            return as_depth(run(piece), target)

        return enhanced
