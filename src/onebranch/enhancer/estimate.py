"""How long networks will take for a picture: a small piece is timed."""

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Size
from onebranch.enhancer.single_file import EnhancementPreview
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture

PIECE = 256
"""Edge of the piece, at most."""

SLOW = 0.3
"""Seconds after which a piece is not timed again."""


class Estimate:
    """Seconds that the networks take, by pieces that are timed once for every chain of networks."""

    def __init__(self, enhancer: Enhancer) -> None:
        self._enhancer = enhancer
        self._known: dict[tuple[tuple[str, ...], float], float | None] = {}

    def seconds(self, preview: EnhancementPreview) -> float | None:
        """About, for that picture, with all cores; None where no piece can be run."""
        factor = _factor(preview)
        key = preview.models, factor
        if key not in self._known:
            self._known[key] = self._of_pixel(preview.before, factor)
        known = self._known[key]
        height, width = preview.before
        return None if known is None else known * height * width * preview.frames

    def _of_pixel(self, size: Size, factor: float) -> float | None:
        options = self._enhancer.options
        if options.width is not None or options.height is not None:
            options = replace(options, width=None, height=None, scale=factor)
        height, width = (min(PIECE, side) for side in size)
        values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        try:
            enhancer = Enhancer(replace(options, threads=None) if self._enhancer.concurrency > 1 else options)
            return min(_times(enhancer, Picture(values))) / (height * width)
        except OnebranchError:
            return None


def _times(enhancer: Enhancer, picture: Picture) -> Iterable[float]:
    """The first, which opens and warms everything, and more unless it is slow."""
    found: list[float] = []
    while len(found) < 3 and sum(found) < SLOW:
        begin = time.perf_counter()
        enhancer.enhance(picture)
        found.append(time.perf_counter() - begin)
    return found


def _factor(preview: EnhancementPreview) -> float:
    return max(after / before for before, after in zip(preview.before, preview.after, strict=True))
