"""A stage that runs in the native engine, which converts sample types and colours itself.

It needs no tiles, because its memory depends on the width of a picture, but not on its height.
"""

import numpy as np

from onebranch.enhancer.finite import checked
from onebranch.enhancer.stage import Function, with_interpolation
from onebranch.graph.analysis.halo import halo
from onebranch.images.resize import Kernel
from onebranch.images.samples import Samples
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import describe, describe_interpolation

ENGINE_CONVERSIONS = {
    ("y", 3): "y of rgb",
    ("y", 1): "y of grey",
    ("rgb", 3): "own",
    ("rgb", 1): "rgb of grey",
}
"""The engine's name of a colour conversion, by the network's colour and the picture's channels."""


class EngineStage:
    """A `Stage` in the engine. threads: None uses all cores. precision: "fp32", "bf16" or "int8"."""

    runtime = "engine"
    streams = True
    phase = 1

    def __init__(
        self, model: Model, chroma: Kernel = "bicubic", threads: int | None = None, precision: str = "fp32"
    ) -> None:
        self.model, self.chroma, self.precision, self._threads = model, chroma, precision, threads
        self.halo = with_interpolation(halo(lower(model.spec, model.weights)))
        self.engine = Engine(describe(model, precision, chroma), threads)
        self._interpolation: Engine | None = None

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        colour = ENGINE_CONVERSIONS[self.model.colour, channels]

        def run(picture: Samples) -> Samples:
            return self.engine.run(np.ascontiguousarray(picture), target, colour)

        return checked(run, self.model.name) if target == "float32" else run

    def alpha(self, source: str, target: str) -> Function:
        """See `Stage.alpha`."""
        if self._interpolation is None:
            description = describe_interpolation(self.model.spec, self.chroma)
            self._interpolation = Engine(description, self._threads)
        engine = self._interpolation
        return lambda picture: engine.run(np.ascontiguousarray(picture), target)
