"""A picture done in pieces, equal to the picture done whole. Knows nothing of models, only their halo."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.halo import Halo

SMALLEST = 8
"""The smallest edge of a tile that may be asked for, in pixels."""


@dataclass(frozen=True)
class Piece:
    """One stretch of rows or columns: [first, last) is wanted, [begin, end) is needed for it."""

    first: int
    last: int
    begin: int
    end: int


def pieces(length: int, tile: int, before: int, after: int, multiple: int) -> list[Piece]:
    """Stretches of about equal length, at most `tile`, that cover 0 to `length`.

    They begin at multiples of `multiple`; what is needed beyond them (`before`, `after`) is rounded up to one
    and ends with the picture, so that the picture's border stays the network's own border.

    >>> pieces(10, 6, 1, 1, 2)
    [Piece(first=0, last=6, begin=0, end=8), Piece(first=6, last=10, begin=4, end=10)]
    """
    count = -(-length // max(tile, multiple))
    step = _rounded_up(-(-length // count), multiple)
    before, after = _rounded_up(before, multiple), _rounded_up(after, multiple)
    edges = [(first, min(first + step, length)) for first in range(0, length, step)]
    return [Piece(a, b, max(0, a - before), min(length, b + after)) for a, b in edges]


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def check_tile(tile: int) -> None:
    """Raise OnebranchError for an edge that is too small to be meant."""
    if tile < SMALLEST:
        raise OnebranchError(f"tile must be at least {SMALLEST} pixels, not {tile}")


def run_tiled(
    run: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, halo: Halo, tile: int
) -> np.ndarray:
    """`run(picture)`, computed in tiles of at most `tile` x `tile` pixels plus their halo.

    picture: (H, W, ...). `run` must look no further than `halo` says and scale by `halo.scale`; what it gives
    back, a number type of its own, is written into the result without another copy.
    """
    height, width = picture.shape[:2]
    rows = pieces(height, tile, halo.top, halo.bottom, halo.multiple)
    columns = pieces(width, tile, halo.left, halo.right, halo.multiple)
    if len(rows) == len(columns) == 1:
        return run(picture)
    result: np.ndarray | None = None
    for row in rows:
        for column in columns:
            done = run(picture[row.begin : row.end, column.begin : column.end])
            if result is None:
                shape = (_scaled(height, halo), _scaled(width, halo), *done.shape[2:])
                result = np.empty(shape, done.dtype)
            wanted = done[_wanted(row, halo), _wanted(column, halo)]
            result[_target(row, halo), _target(column, halo)] = wanted
    assert result is not None, "a picture has at least one piece"
    return result


def _scaled(length: int, halo: Halo) -> int:
    """Output pixels of so many input pixels: every cell, begun or whole, gives scale x multiple."""
    return -(-length // halo.multiple) * halo.scale.numerator


def _target(piece: Piece, halo: Halo) -> slice:
    return slice(_scaled(piece.first, halo), _scaled(piece.last, halo))


def _wanted(piece: Piece, halo: Halo) -> slice:
    start = _scaled(piece.first - piece.begin, halo)
    return slice(start, start + _scaled(piece.last, halo) - _scaled(piece.first, halo))
