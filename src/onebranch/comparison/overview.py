"""Overviews of large pictures, computed from bands of rows: box means, maxima, and amounts of detail."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebranch.comparison.levels import Levels, PictureSize
from onebranch.metrics import Bytes

MAX_ASPECT = 1.25
"""Largest ratio of the height of a shown picture to the width of its column; taller ones are shrunk."""

MAX_DETAIL_PIXELS = 128
"""Largest side of the square that is magnified, in pixels of the picture."""

MAX_DETAIL_CELLS = 1 << 22
"""Largest number of cells of a detail map."""


@dataclass(frozen=True)
class Square:
    """A square part of a picture, in pixels."""

    top: int
    left: int
    side: int


class DownscaledPicture:
    """A picture downscaled, by averaging boxes of pixels, to about twice the size at which it is shown."""

    def __init__(self, size: PictureSize, width: int) -> None:
        shown = shown_size(size, width)
        self._size = size
        self._box = max(1, size[0] // (2 * shown[0])), max(1, size[1] // (2 * shown[1]))
        self._row = 0
        self._held: Levels = np.empty((0, size[1], 3), np.float32)
        self._parts: list[Levels] = []

    def add(self, rows: Levels) -> None:
        """Add the next rows (N, W, 3)."""
        self._row += len(rows)
        rows = np.concatenate([self._held, rows]) if len(self._held) else rows
        complete = len(rows) if self._row == self._size[0] else len(rows) // self._box[0] * self._box[0]
        if complete:
            self._parts.append(_box_means(rows[:complete], self._box))
        self._held = rows[complete:]

    def pixels(self) -> Bytes:
        """The downscaled picture (H', W', 3), after all rows have been added."""
        return as_bytes(np.concatenate(self._parts))


def _box_means(rows: Levels, box: tuple[int, int]) -> Levels:
    """The mean of every box of (height, width) pixels; boxes at the right and bottom may be smaller.

    Example: boxes of width 2 of the row 1 2 3 4 5 have the means 1.5, 3.5 and 5.
    """
    if box == (1, 1):
        return rows.copy()
    starts = [np.arange(0, length, side) for length, side in zip(rows.shape[:2], box, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(rows, starts[0], axis=0), starts[1], axis=1)
    counts = [np.diff([*first, length]) for first, length in zip(starts, rows.shape[:2], strict=True)]
    return np.asarray(sums / (counts[0][:, None] * counts[1])[..., None].astype(np.float32))


class MaximumMap:
    """The largest value among the pixels of a picture that each shown pixel covers."""

    def __init__(self, size: PictureSize, width: int) -> None:
        shown = shown_size(size, width)
        self._size = size
        self.values: Levels = np.zeros((min(shown[0], size[0]), min(shown[1], size[1]), 1), np.float32)
        self._row = 0

    def add(self, rows: Levels) -> None:
        """Add the next rows (N, W, 1) of values that are at least 0.

        Example: if a picture of 5x5 pixels is shown at 2x2, the shown columns begin at columns 0 and 3, and
        the shown rows at rows 0 and 3. So a value at row 2, column 4 counts for the shown pixel (0, 1).
        """
        height, width = self.values.shape[:2]
        columns = -(np.arange(width) * -self._size[1] // width)
        shown_rows = (self._row + np.arange(len(rows))) * height // self._size[0]
        starts = np.flatnonzero(np.diff(shown_rows, prepend=-1))
        maxima = np.maximum.reduceat(np.maximum.reduceat(rows, columns, axis=1), starts, axis=0)
        targets = shown_rows[starts]
        self.values[targets] = np.maximum(self.values[targets], maxima)
        self._row += len(rows)


class DetailMap:
    """The amount of fine detail in every cell of a picture: the sum of the absolute gradients in it."""

    def __init__(self, size: PictureSize, width: int) -> None:
        self._size = size
        side = square_side(size, width)
        self.cell = max(1, side // 8, math.isqrt(size[0] * size[1] // MAX_DETAIL_CELLS) + 1)
        self._above: Levels | None = None
        self._sums = np.zeros((-(-size[0] // self.cell), -(-size[1] // self.cell)))
        self._row = 0

    def add(self, rows: Levels) -> None:
        """Add the next rows (N, W, C)."""
        grey = rows.mean(axis=2)
        gradients = np.zeros_like(grey)
        gradients[:, 1:] += np.abs(np.diff(grey, axis=1))
        above = grey[:1] if self._above is None else self._above
        gradients += np.abs(np.diff(np.concatenate([above, grey]), axis=0))
        self._above = grey[-1:].copy()
        columns = np.add.reduceat(gradients, np.arange(0, gradients.shape[1], self.cell), axis=1)
        np.add.at(self._sums, (self._row + np.arange(len(rows))) // self.cell, columns)
        self._row += len(rows)

    def most_detailed(self, side: int) -> Square:
        """The square of `side` pixels with the most detail."""
        count = max(1, side // self.cell)
        sums = _window_sums(self._sums, (min(count, self._sums.shape[0]), min(count, self._sums.shape[1])))
        row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
        middle = max(0, self.cell - side) // 2  # centres the square in a cell that is larger than it
        top, left = (int(index) * self.cell + middle for index in (row, column))
        height, width = self._size
        return Square(min(top, height - side), min(left, width - side), side)


def most_detailed_square(detail: DetailMap, size: PictureSize, width: int) -> Square:
    """The square with the most detail, of the size that is magnified to a column of `width` pixels."""
    return detail.most_detailed(square_side(size, width))


def most_detailed_part(pixels: Bytes, side: int) -> tuple[int, int, int]:
    """(top, left, side) of the square with the most fine detail in a picture in memory."""
    grey = pixels.astype(np.float64).mean(2)
    gradients = np.zeros_like(grey)
    gradients[:, 1:] += np.abs(np.diff(grey, axis=1))
    gradients[1:] += np.abs(np.diff(grey, axis=0))
    side = min(side, *grey.shape)
    sums = _window_sums(gradients, (side, side))
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left), side


def _window_sums(values: npt.NDArray[np.float64], window: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The sums of all windows of (height, width) inside the array, by a summed-area table.

    Example: the windows (1, 2) of the row 1 2 3 have the sums 3 and 5. The table's last row is 0 1 3 6, so
    they are 3 - 0 and 6 - 1.
    """
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    down, across = window
    return np.asarray(
        table[down:, across:] - table[:-down, across:] - table[down:, :-across] + table[:-down, :-across]
    )


def square_side(size: PictureSize, width: int) -> int:
    """The side of the magnified square: the largest that fits into the picture and divides `width`.

    So the square can be magnified by repeating pixels.

    >>> square_side((500, 700), 640), square_side((500, 700), 480), square_side((30, 700), 480)
    (128, 120, 30)
    """
    limit = min(MAX_DETAIL_PIXELS, *size)
    return next(side for side in range(limit, 0, -1) if width % side == 0)


def shown_size(size: PictureSize, width: int) -> PictureSize:
    """The (height, width) at which a picture is shown in a column of that width, keeping its proportions.

    >>> shown_size((300, 600), 480), shown_size((6000, 600), 480), shown_size((1, 9000), 480)
    ((240, 480), (600, 60), (1, 480))
    """
    factor = min(width / size[1], MAX_ASPECT * width / size[0])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def as_bytes(levels: Levels) -> Bytes:
    """Levels as uint8, clipped and rounded half up."""
    return (np.clip(levels, 0, 255) + 0.5).astype(np.uint8)
