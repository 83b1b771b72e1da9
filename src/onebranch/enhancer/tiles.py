"""A picture done in pieces, equal to the picture done whole. Knows nothing of models, only their halo."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo

SMALLEST = 8
"""The smallest edge of a tile that may be asked for, in pixels."""

AUTOMATIC = 512
"""Edge of a tile where there is memory: 16 channels are 16 MiB, and photo-x2's halo costs 5 % more pixels."""

WIDEST = 64
"""Channels that a network is taken to hold at a time when a tile must fit into little memory."""


@dataclass(frozen=True)
class Piece:
    """One stretch of rows or columns: [first, last) is wanted, [begin, end) is needed for it."""

    first: int
    last: int
    begin: int
    end: int


def pieces(length: int, tile: int, before: int, after: int, multiple: int, smallest: int = 1) -> list[Piece]:
    """Stretches of about equal length, at most `tile`, that cover 0 to `length`.

    They begin at multiples of `multiple`; what is needed beyond them (`before`, `after`) is rounded up to one
    and ends with the picture, so that the picture's border stays the network's own border. smallest: pixels
    that are needed at least, of the picture's.

    >>> pieces(10, 6, 1, 1, 2)
    [Piece(first=0, last=6, begin=0, end=8), Piece(first=6, last=10, begin=4, end=10)]
    """
    count = -(-length // max(tile, multiple))
    step = _rounded_up(-(-length // count), multiple)
    before, after = _rounded_up(before, multiple), _rounded_up(after, multiple)
    least = _rounded_up(smallest, multiple)
    found = []
    for first in range(0, length, step):
        last = min(first + step, length)
        begin, end = max(0, first - before), min(length, last + after)
        end = min(length, max(end, begin + least))
        begin = max(0, min(begin, _rounded_up(end, multiple) - least))
        found.append(Piece(first, last, begin, end))
    return found


def exact_pieces(length: int, size: int, before: int, after: int, multiple: int) -> list[Piece]:
    """Stretches of which exactly `size` pixels are needed each; length and size are multiples of `multiple`.

    Raises OnebranchError where what is needed beyond them leaves nothing of `size`.

    >>> exact_pieces(10, 8, 1, 1, 2)
    [Piece(first=0, last=6, begin=0, end=8), Piece(first=6, last=10, begin=2, end=10)]
    """
    before, after = _rounded_up(before, multiple), _rounded_up(after, multiple)
    if size < length and size <= before + after:
        raise OnebranchError(
            f"the network's size is fixed: {size} pixels leave nothing beside the {before} and {after} that"
            " a tile needs around it; export it with open sizes"
        )
    found: list[Piece] = []
    last = 0
    while last < length:
        first, begin = last, min(max(0, last - before), length - size)
        last = length if begin + size == length else begin + size - after
        found.append(Piece(first, last, begin, begin + size))
    return found


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def check_tile(tile: int) -> None:
    """Raise OnebranchError for an edge that is too small to be meant; 0 leaves it to `tile_for`."""
    if tile and tile < SMALLEST:
        raise OnebranchError(f"tile must be at least {SMALLEST} pixels, or 0 for a fitting one, not {tile}")


def tile_for(memory: int) -> int:
    """The edge of a tile whose network may take so many bytes.

    >>> tile_for(2**30), tile_for(50 * 2**20)
    (512, 256)
    """
    edge = AUTOMATIC
    while edge > 32 and 3 * 4 * WIDEST * edge * edge > memory:
        edge //= 2
    return edge


def run_tiled(
    run: Callable[[np.ndarray], np.ndarray], picture: np.ndarray, halo: Halo, tile: int
) -> np.ndarray:
    """`run(picture)`, computed in tiles of at most `tile` x `tile` pixels plus their halo.

    picture: (H, W, ...). `run` must look no further than `halo` says and scale by `halo.scale`; what it gives
    back, a number type of its own, is written into the result without another copy. A halo that is the whole
    picture makes one tile; a network of one exact size gets tiles of that size from a picture that has it.
    """
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
    """In tiles of that size, of the picture filled up to a multiple by its last row and column."""
    height, width = picture.shape[:2]
    tall, wide = _rounded_up(height, halo.multiple), _rounded_up(width, halo.multiple)
    if (tall, wide) != (height, width):
        rest = ((0, 0),) * (picture.ndim - 2)
        picture = np.pad(picture, ((0, tall - height), (0, wide - width), *rest), mode="edge")
    rows = exact_pieces(tall, size[0], halo.top, halo.bottom, halo.multiple)
    columns = exact_pieces(wide, size[1], halo.left, halo.right, halo.multiple)
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
