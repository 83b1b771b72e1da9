"""Blending of a network's result with plain interpolation, so that it looks less processed."""

import numpy as np

from onebranch.enhancer.stage import Function, ModelDescription, Stage
from onebranch.images.samples import Samples, as_depth


class StrengthStage:
    """A stage whose pixels are strength x (inner stage) + (1 - strength) x (interpolated picture).

    strength: 0 to 1. Alpha is interpolated as in the inner stage. If the model keeps the size of the picture,
    its output is blended with its input.
    """

    def __init__(self, stage: Stage, strength: float) -> None:
        self._stage, self._strength = stage, np.float32(strength)
        self.runtime, self.streams = stage.runtime, stage.streams
        self.phase, self.halo = stage.phase, stage.halo

    @property
    def model(self) -> ModelDescription:
        """The model."""
        return self._stage.model

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        network = self._stage.pixels(channels, source, "float32")
        interpolation = self._stage.alpha(source, "float32")

        def blended(picture: Samples) -> Samples:
            planes = [interpolation(np.ascontiguousarray(picture[..., [band]])) for band in range(channels)]
            plain: np.ndarray = np.concatenate(planes, axis=2)
            enhanced: np.ndarray = network(picture)
            return as_depth(plain + self._strength * (enhanced - plain), target)

        return blended

    def alpha(self, source: str, target: str) -> Function:
        """See `Stage.alpha`."""
        return self._stage.alpha(source, target)
