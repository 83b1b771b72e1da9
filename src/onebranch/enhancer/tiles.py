"""Tiling: a function is applied to a picture in tiles, with the same result as for the whole picture.

This module knows nothing about a model except its halo.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo

MIN_TILE_PIXELS = 8
"""Smallest side length of a tile that can be requested."""

DEFAULT_TILE_PIXELS = 512
"""Side of tiles if memory allows: 16 channels take 16 MiB, and photo-x2's halo adds 5 % to the pixels."""

ASSUMED_CHANNELS = 64
"""Number of channels on which the estimated memory of a tile is based."""


@dataclass(frozen=True)
class Piece:
    """A range of rows or columns. The output for [first, last) depends on the input in [begin, end)."""

    first: int
    last: int
    begin: int
    end: int


def pieces(length: int, tile: int, before: int, after: int, multiple: int, smallest: int = 1) -> list[Piece]:
    """The division of [0, length) into ranges of similar length, at most `tile`.

    They begin at multiples of `multiple`. The halo (`before`, `after`) is rounded up to a multiple. It ends
    at the border of the picture, where the network applies its own padding. smallest: the minimum input size
    of the network in pixels.

    >>> pieces(10, 6, 1, 1, 2)
    [Piece(first=0, last=6, begin=0, end=8), Piece(first=6, last=10, begin=4, end=10)]
    """
    count = -(-length // max(tile, multiple))
    step = _rounded_up(-(-length // count), multiple)
    before, after = _rounded_up(before, multiple), _rounded_up(after, multiple)
    needed = _rounded_up(smallest, multiple)
    ranges = []
    for first in range(0, length, step):
        last = min(first + step, length)
        begin, end = max(0, first - before), min(length, last + after)
        end = min(length, max(end, begin + needed))
        begin = max(0, min(begin, _rounded_up(end, multiple) - needed))
        ranges.append(Piece(first, last, begin, end))
    return ranges


def exact_pieces(length: int, size: int, before: int, after: int, multiple: int) -> list[Piece]:
    """The division of [0, length) into ranges that depend on exactly `size` pixels each.

    length and size must be multiples of `multiple`. Raises OnebranchError if the halo on both sides leaves no
    pixel of `size`.

    >>> exact_pieces(10, 8, 1, 1, 2)
    [Piece(first=0, last=6, begin=0, end=8), Piece(first=6, last=10, begin=2, end=10)]
    """
    before, after = _rounded_up(before, multiple), _rounded_up(after, multiple)
    if size < length and size <= before + after:
        raise OnebranchError(
            f"the network's input size is fixed to {size} pixels, which is too small for tiles with a halo of"
            f" {before} and {after} pixels; export the network with open sizes"
        )
    ranges: list[Piece] = []
    last = 0
    while last < length:
        first, begin = last, min(max(0, last - before), length - size)
        last = length if begin + size == length else begin + size - after
        ranges.append(Piece(first, last, begin, begin + size))
    return ranges


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def check_tile(tile: int) -> None:
    """Raise OnebranchError for a side length that is too small. 0 is allowed: `tile_for` then selects it."""
    if tile and tile < MIN_TILE_PIXELS:
        raise OnebranchError(
            f"tile must be at least {MIN_TILE_PIXELS} pixels, or 0 for automatic selection, not {tile}"
        )


def tile_for(memory: int) -> int:
    """The side length of tiles for a network that may use `memory` bytes.

    >>> tile_for(2**30), tile_for(50 * 2**20)
    (512, 256)
    """
    edge = DEFAULT_TILE_PIXELS
    while edge > 32 and 3 * 4 * ASSUMED_CHANNELS * edge * edge > memory:
        edge //= 2
    return edge


def run_tiled(
    run: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, halo: Halo, tile: int
) -> np.ndarray:
    """`run(picture)`, computed in tiles of at most `tile` x `tile` pixels plus their halo.

    picture: (H, W, ...). The output of `run` must depend only on pixels within `halo`, and be scaled by
    `halo.scale`; its sample type is that of the result. If the network needs the whole picture, there is one
    tile. If it runs on one size only, tiles have that size, provided that the picture is large enough.
    """
    halo = halo.at(*picture.shape[:2])
    if halo.needs_whole_picture:
        return run(picture)
    if halo.fixed_size is not None and all(
        a >= b for a, b in zip(picture.shape, halo.fixed_size, strict=False)
    ):
        return _run_exact(run, picture, halo, halo.fixed_size)
    height, width = picture.shape[:2]
    rows = pieces(height, tile, halo.top, halo.bottom, halo.multiple, halo.minimum_border_tile)
    columns = pieces(width, tile, halo.left, halo.right, halo.multiple, halo.minimum_border_tile)
    return _run_pieces(run, picture, halo, rows, columns)


def _run_exact(
    run: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, halo: Halo, size: tuple[int, int]
) -> np.ndarray:
    """`run(picture)` in tiles of exactly that size, for a network that runs on one size only.

    The picture is first padded to a multiple of the cell by repeating its last row and column.
    """
    height, width = picture.shape[:2]
    padded_height, padded_width = _rounded_up(height, halo.multiple), _rounded_up(width, halo.multiple)
    if (padded_height, padded_width) != (height, width):
        rest = ((0, 0),) * (picture.ndim - 2)
        picture = np.pad(
            picture, ((0, padded_height - height), (0, padded_width - width), *rest), mode="edge"
        )
    rows = exact_pieces(padded_height, size[0], halo.top, halo.bottom, halo.multiple)
    columns = exact_pieces(padded_width, size[1], halo.left, halo.right, halo.multiple)
    return _run_pieces(run, picture, halo, rows, columns)[: halo.scaled(height), : halo.scaled(width)]


def _run_pieces(
    run: Callable[[np.ndarray], np.ndarray],
    picture: np.ndarray,
    halo: Halo,
    rows: list[Piece],
    columns: list[Piece],
) -> np.ndarray:
    if len(rows) == len(columns) == 1:
        return run(picture)
    height, width = picture.shape[:2]
    result: np.ndarray | None = None
    for row in rows:
        for column in columns:
            done = run(picture[row.begin : row.end, column.begin : column.end])
            if result is None:
                shape = (halo.scaled(height), halo.scaled(width), *done.shape[2:])
                result = np.empty(shape, done.dtype)
            wanted = done[_wanted(row, halo), _wanted(column, halo)]
            result[_target(row, halo), _target(column, halo)] = wanted
    assert result is not None, "a picture has at least one piece"
    return result


def _target(piece: Piece, halo: Halo) -> slice:
    return slice(halo.scaled(piece.first), halo.scaled(piece.last))


def _wanted(piece: Piece, halo: Halo) -> slice:
    start = halo.scaled(piece.first - piece.begin)
    return slice(start, start + halo.scaled(piece.last) - halo.scaled(piece.first))
