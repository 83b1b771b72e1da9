"""Estimates of the time that networks take for a picture, by timing them on a small piece."""

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Size
from onebranch.enhancer.single_file import EnhancementPreview
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture

PIECE_SIDE_PIXELS = 256
"""Largest height and width of the timed piece, in pixels."""

ENOUGH_SECONDS = 0.3
"""The piece is processed up to three times, until the total time reaches this."""


class DurationEstimator:
    """Estimates the seconds that networks take. A combination of networks and scale is timed only once."""

    def __init__(self, enhancer: Enhancer) -> None:
        self._enhancer = enhancer
        self._seconds_per_pixel: dict[tuple[tuple[str, ...], float], float | None] = {}

    def seconds(self, preview: EnhancementPreview) -> float | None:
        """The estimated seconds for all frames of a picture; None if the networks cannot run on the piece.

        Example: a piece of 256x256 pixels that takes 0.5 s gives 8 s for 1024x1024 pixels.
        """
        factor = _factor(preview)
        key = preview.models, factor
        if key not in self._seconds_per_pixel:
            self._seconds_per_pixel[key] = self._time_pixel(preview.before, factor)
        per_pixel = self._seconds_per_pixel[key]
        height, width = preview.before
        return None if per_pixel is None else per_pixel * height * width * preview.frames

    def _time_pixel(self, size: Size, factor: float) -> float | None:
        """Seconds per input pixel, measured on random pixels; None if the networks cannot run on them."""
        options = self._enhancer.options
        if options.width is not None or options.height is not None:
            options = replace(options, width=None, height=None, scale=factor)
        height, width = (min(PIECE_SIDE_PIXELS, side) for side in size)
        values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        try:
            enhancer = Enhancer(replace(options, threads=None) if self._enhancer.concurrency > 1 else options)
            return min(_times(enhancer, Picture(values))) / (height * width)
        except OnebranchError:
            return None


def _times(enhancer: Enhancer, picture: Picture) -> Iterable[float]:
    """The seconds of one to three runs. The first run includes opening and warming up the runtime."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < ENOUGH_SECONDS:
        begin = time.perf_counter()
        enhancer.enhance(picture)
        times.append(time.perf_counter() - begin)
    return times


def _factor(preview: EnhancementPreview) -> float:
    return max(after / before for before, after in zip(preview.before, preview.after, strict=True))
