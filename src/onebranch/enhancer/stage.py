"""One model at work on a picture's float values: its colour channels through the network and back.

A picture that is not in the network's colours is converted, tile by tile, so that no float copy of the whole
picture is made. Y networks see luma; chroma is resized by interpolation.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from onebranch.graph.halo import Halo
from onebranch.images.colour import luma, to_rgb, to_ycbcr
from onebranch.images.resize import Kernel, resize
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime

BLACK, RANGE = np.float32(16 / 255), np.float32(219 / 255)
"""Studio luma of black, and of white less that of black."""

INTERPOLATION_REACH = 2
"""Pixels that bicubic interpolation needs on each side, times the factor where it reduces."""


@dataclass(frozen=True)
class Stage:
    """A network that is ready to run, with its colours and the interpolation of what it does not see."""

    model: Model
    runtime: Runtime
    chroma: Kernel = "bicubic"

    @property
    def scale(self) -> Fraction:
        """Output pixels for one input pixel, along an axis."""
        return self.runtime.halo.scale

    @property
    def halo(self) -> Halo:
        """The larger of the network's halo and the interpolation's."""
        own = self.runtime.halo
        reach = INTERPOLATION_REACH * own.multiple if own.scale != 1 else 0
        sides = {side: max(reach, getattr(own, side)) for side in ("top", "bottom", "left", "right")}
        return replace(own, **sides)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The enhanced picture, unclipped; picture: (H, W, 1 or 3), float32 in [0, 1], grey or RGB.

        A Y network sees the grey value g as the studio luma of (g, g, g), that is 16/255 + g 219/255, and its
        output is mapped back. An RGB network sees (g, g, g); the studio luma of its output is mapped back.
        """
        if self.model.spec.colour == "rgb":
            return self._rgb_network(picture)
        return self._y_network_on_grey(picture) if picture.shape[2] == 1 else self._y_network_on_rgb(picture)

    def interpolate(self, planes: np.ndarray) -> np.ndarray:
        """Planes (H, W, C) that the network does not see, at the size of its output, unclipped."""
        if self.scale == 1:
            return planes
        multiple, scale = self.runtime.halo.multiple, self.scale
        rows, columns = -planes.shape[0] % multiple, -planes.shape[1] % multiple
        if rows or columns:
            planes = np.pad(planes, ((0, rows), (0, columns), (0, 0)), mode="edge")
        height, width = (int(side * scale) for side in planes.shape[:2])
        return resize(planes, height, width, kernel=self.chroma)

    def _run(self, planes: np.ndarray) -> np.ndarray:
        """(H, W, C) through the network, as (H', W', C)."""
        pictures = np.ascontiguousarray(planes.transpose(2, 0, 1)[None])
        return np.asarray(self.runtime.run(pictures)[0].transpose(1, 2, 0))

    def _rgb_network(self, picture: np.ndarray) -> np.ndarray:
        if picture.shape[2] == 3:
            return self._run(picture)
        coloured = self._run(np.broadcast_to(picture, (*picture.shape[:2], 3)))
        return np.asarray((luma(coloured)[..., None] - BLACK) / RANGE)

    def _y_network_on_grey(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray((self._run(picture * RANGE + BLACK) - BLACK) / RANGE)

    def _y_network_on_rgb(self, picture: np.ndarray) -> np.ndarray:
        ycbcr = to_ycbcr(picture)
        enhanced = self._run(ycbcr[..., :1])
        return to_rgb(np.concatenate([enhanced, self.interpolate(ycbcr[..., 1:])], axis=2))
