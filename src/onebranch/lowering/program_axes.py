"""Reshapes and transpositions in programs: pixel shuffles, unshuffles and channel shuffles written with them.

PyTorch exports `PixelUnshuffle` in this way, and modules with `view` and `permute`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from onebranch.lowering.program_builder import Feature, ProgramBuilder, UnsupportedByProgramError

MIXED_AXES = "it mixes channels with rows or columns"


@dataclass(frozen=True)
class AxisFeature:
    """A feature whose channels and pixels lie on any number of axes.

    numbers: the number of the program's channel, with one dimension for each axis. rows, columns: the axes
    that hold the rows and columns of the values: element i of the axis `rows` is row i // n of the values,
    where n is that dimension of `numbers`. rate: as in `Feature`.

    Example: a picture of 3 channels whose rows and columns are split into pairs, (1, 3, H/2, 2, W/2, 2), has
    numbers (1, 3, 1, 2, 1, 2), rows 2, columns 4, and rate 1/2: it consists of 12 channels of half the size.
    """

    numbers: np.ndarray
    rows: int
    columns: int
    rate: Fraction

    def as_feature(self) -> Feature | None:
        """The same as a picture (1, C, rows, columns); None if its axes are others."""
        shape = self.numbers.shape
        if len(shape) != 4 or (self.rows, self.columns) != (2, 3) or shape[0] != 1 or shape[2] != shape[3]:
            return None
        return Feature(self.numbers[0], self.rate)

    def transposed(self, order: Sequence[int]) -> AxisFeature:
        """Axis k of the result is axis order[k]."""
        rows, columns = (order.index(axis) for axis in (self.rows, self.columns))
        return AxisFeature(self.numbers.transpose(order), rows, columns, self.rate)

    # Example: (1, 3, H, W) at rate 1 to (1, 3, H/2, 2, W/2, 2): the third axis has 1/2 of the values' rows,
    # so the values are unshuffled by 2 first. Then `numbers` (1, 3, 2, 2) become (1, 3, 1, 2, 1, 2).
    def reshaped(
        self, sizes: Sequence[Fraction], rows: int, columns: int, builder: ProgramBuilder
    ) -> AxisFeature:
        """The elements in the same order on other axes.

        sizes: of every axis; of the axes `rows` and `columns` divided by the rows and columns of the values.
        Raises UnsupportedByProgramError if an axis would mix channels with rows or columns.
        """
        factor = max(sizes[rows].denominator, sizes[columns].denominator)
        split = self._unshuffled(factor, builder)
        shape = [size * factor if axis in (rows, columns) else size for axis, size in enumerate(sizes)]
        if any(size.denominator != 1 for size in shape) or _parts(
            split.numbers.shape, split.rows, split.columns
        ) != _parts(shape, rows, columns):
            raise UnsupportedByProgramError(MIXED_AXES)
        return AxisFeature(split.numbers.reshape([int(size) for size in shape]), rows, columns, split.rate)

    def _unshuffled(self, factor: int, builder: ProgramBuilder) -> AxisFeature:
        """The same in values of 1 / factor as many rows and columns."""
        if factor == 1:
            return self
        channels = builder.unshuffled(Feature(self.numbers.reshape(-1, 1, 1), self.rate), factor)
        shape, count = list(self.numbers.shape), self.numbers.ndim
        # Row y of the values is row factor * Y + dy, so dy comes before what else lies on the axis.
        order = [*range(count)]
        order.insert(order.index(self.rows), count)
        order.insert(order.index(self.columns), count + 1)
        split = channels.numbers.reshape(*shape, factor, factor).transpose(order)
        shape[self.rows] *= factor
        shape[self.columns] *= factor
        return AxisFeature(split.reshape(shape), self.rows, self.columns, channels.rate)


def of_picture(feature: Feature) -> AxisFeature:
    """A feature on the axes (1, C, rows, columns)."""
    if not feature.frame.is_empty:
        raise UnsupportedByProgramError("it reads pixels that were padded; only convolutions do")
    return AxisFeature(feature.numbers[None], 2, 3, feature.rate)


def _parts(shape: Sequence[Fraction | int], rows: int, columns: int) -> list[Fraction | int | str]:
    """The numbers of elements before, between and after rows and columns, and which of these comes first.

    Two shapes with equal parts hold the same elements in the same order.
    """
    first, last = sorted((rows, columns))
    return [
        prod(shape[:first]),
        prod(shape[first:last]),
        prod(shape[last:]),
        "rows" if rows < columns else "columns",
    ]
