"""Self-ensemble: the mean of a network's answers to a picture's eight flips and turns, each turned back.

Source: B. Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution (2017), section 3.4.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from onebranch.enhancer.stage import Described, Function, Stage
from onebranch.enhancer.tiles import run_tiled
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo
from onebranch.images.picture import Samples, as_depth

PHASE = 4
"""Columns that the engine computes together in sums of their own; turned, these are rows from either end."""


class EnsembleStage:
    """A stage whose pixels are the mean over the eight turns; alpha is resized as before.

    tile: the edge of the tiles that the stage within takes. Raises OnebranchError for a network of one fixed
    size that is not square, which cannot be turned.
    """

    streams = True
    phase = PHASE

    def __init__(self, stage: Stage, tile: int) -> None:
        if stage.halo.fixed_size is not None and stage.halo.fixed_size[0] != stage.halo.fixed_size[1]:
            raise OnebranchError(
                f"'{stage.model.name}' runs on one size, which is not square, so no picture can be turned;"
                " leave the self-ensemble out"
            )
        self._stage, self._tile = stage, tile
        self.runtime = stage.runtime
        self.halo = _even(stage.halo, PHASE if stage.streams else 1)

    @property
    def model(self) -> Described:
        """The model."""
        return self._stage.model

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """As `Stage.pixels`."""
        run = self._whole(self._stage.pixels(channels, source, "float32"))
        cell, scale = self.halo.multiple, self.halo.scale
        return lambda picture: as_depth(mean_of_turns(run, picture, cell, scale), target)

    def alpha(self, source: str, target: str) -> Function:
        """As `Stage.alpha`."""
        return self._whole(self._stage.alpha(source, target))

    def _whole(self, function: Function) -> Function:
        """The stage's function, in tiles where it takes them."""
        if self._stage.streams:
            return function
        return lambda picture: run_tiled(function, picture, self._stage.halo, self._tile)


def _even(halo: Halo, phase: int) -> Halo:
    """The same reach on every side, for the last bits too: each layer's reach grows to whole phases."""
    reach = phase * max(halo.top, halo.bottom, halo.left, halo.right)
    return replace(halo, top=reach, bottom=reach, left=reach, right=reach)


def mean_of_turns(
    run: Callable[[Samples], Samples], picture: Samples, cell: int, scale: Fraction
) -> np.ndarray:
    """The mean of run(picture) over the eight turns, (H, W, C) -> (H', W', C), float32.

    cell: the sides are first filled up to multiples of it by the last row and column, as networks that reduce
    do, so that every turn puts the cells at the same places.
    """
    height, width = picture.shape[:2]
    rows, columns = -height % cell, -width % cell
    if rows or columns:
        picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
    total: np.ndarray | None = None
    for quarter in range(4):
        turned = np.rot90(picture, quarter)
        for flipped in (False, True):
            seen = turned[:, ::-1] if flipped else turned
            answer = run(np.ascontiguousarray(seen))
            answer = np.rot90(answer[:, ::-1] if flipped else answer, -quarter)
            total = answer.astype(np.float32) if total is None else total + answer
    assert total is not None
    tall, wide = (-(-side * scale.numerator // scale.denominator) for side in (height, width))
    return np.asarray(total[:tall, :wide] / np.float32(8))
