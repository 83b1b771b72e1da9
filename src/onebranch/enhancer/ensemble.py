"""Self-ensemble: the mean of a network's outputs for eight flips and rotations, each rotated back.

Source: B. Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution (2017), section 3.4.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from onebranch.enhancer.stage import Function, ModelDescription, Stage
from onebranch.enhancer.tiles import run_tiled
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo
from onebranch.images.samples import Samples, as_depth

ENGINE_PHASE = 4
"""Number of columns that the engine adds up as a group, so that its rounding depends on x modulo 4.

After a rotation by 90 degrees, its columns are rows of the picture, whose halo must then be a multiple of 4.
"""


class EnsembleStage:
    """A stage whose pixels are the mean over eight flips and rotations of the picture.

    Alpha is interpolated as in the inner stage. tile: side length of the inner stage's tiles in pixels.
    Raises OnebranchError for a network that runs on one size only which is not square, because its input
    cannot be rotated.
    """

    streams = True
    phase = ENGINE_PHASE

    def __init__(self, stage: Stage, tile: int) -> None:
        if stage.halo.fixed_size is not None and stage.halo.fixed_size[0] != stage.halo.fixed_size[1]:
            raise OnebranchError(
                f"'{stage.model.name}' runs on one size, which is not square, so its input cannot be rotated;"
                " leave the self-ensemble out"
            )
        self._stage, self._tile = stage, tile
        self.runtime = stage.runtime
        self.halo = _symmetric(stage.halo, ENGINE_PHASE if stage.streams else 1)

    @property
    def model(self) -> ModelDescription:
        """The model."""
        return self._stage.model

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        run = self._with_tiles(self._stage.pixels(channels, source, "float32"))
        cell, scale = self.halo.multiple, self.halo.scale
        return lambda picture: as_depth(mean_of_orientations(run, picture, cell, scale), target)

    def alpha(self, source: str, target: str) -> Function:
        """See `Stage.alpha`."""
        return self._with_tiles(self._stage.alpha(source, target))

    def _with_tiles(self, function: Function) -> Function:
        """The function of the inner stage, applied in tiles unless the stage streams."""
        if self._stage.streams:
            return function
        return lambda picture: run_tiled(function, picture, self._stage.halo, self._tile)


def _symmetric(halo: Halo, phase: int) -> Halo:
    """The largest halo on every side, rounded up to multiples of the phase, so that results are bit-exact."""
    pixels = phase * max(halo.top, halo.bottom, halo.left, halo.right)
    return replace(halo, top=pixels, bottom=pixels, left=pixels, right=pixels)


def mean_of_orientations(
    run: Callable[[Samples], Samples], picture: Samples, cell: int, scale: Fraction
) -> np.ndarray:
    """The mean of run(picture) over the eight flips and rotations, (H, W, C) -> (H', W', C), float32.

    cell: the picture is first padded to a multiple of this by repeating its last row and column, as a network
    with strides pads it. So the cells of the network are at the same positions in every orientation.
    """
    height, width = picture.shape[:2]
    rows, columns = -height % cell, -width % cell
    if rows or columns:
        picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
    total: np.ndarray | None = None
    for quarter in range(4):
        rotated = np.rot90(picture, quarter)
        for flipped in (False, True):
            oriented = rotated[:, ::-1] if flipped else rotated
            output = run(np.ascontiguousarray(oriented))
            output = np.rot90(output[:, ::-1] if flipped else output, -quarter)
            total = output.astype(np.float32) if total is None else total + output
    assert total is not None
    target_height, target_width = (
        -(-side * scale.numerator // scale.denominator) for side in (height, width)
    )
    return np.asarray(total[:target_height, :target_width] / np.float32(8))
