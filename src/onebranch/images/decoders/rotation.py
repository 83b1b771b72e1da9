"""Pictures that lie on their side, made upright by rows: from memory, or large ones from a temporary file."""

import os
from dataclasses import replace
from pathlib import Path
from typing import IO, Self

import numpy as np

from onebranch.images.decoders.temporary_file import HELD, anonymous_temp_file, size_of, temporary_file_errors
from onebranch.images.metadata import TURNS
from onebranch.images.picture import Samples
from onebranch.images.rows import Header, Reader

BAND = 16 << 20
"""Bytes of rows that are turned at a time on their way into the temporary file."""

MIRRORED = 2
"""The EXIF orientation whose rows come in order."""

REVERSED = (3, 4, 7, 8)
"""EXIF orientations whose first row is the last row, or column, of the file."""


def turned(reader: Reader, orientation: int, path: Path) -> Reader:
    """The upright rows of a picture that is stored with an EXIF orientation; path: for words."""
    return TurnedReader(reader, orientation, path) if orientation in TURNS else reader


class TurnedReader:
    """Rows of another reader, upright. All of them are read when the first one is asked for."""

    def __init__(self, reader: Reader, orientation: int, path: Path) -> None:
        layout = reader.header.layout
        height, width = (layout.width, layout.height) if orientation >= 5 else (layout.height, layout.width)
        self.header: Header = replace(reader.header, layout=replace(layout, height=height, width=width))
        self._inner, self._turn, self._path = reader, orientation, path
        self._stored = layout
        self._row, self._bands = 0, list[tuple[int, int]]()
        self._file: IO[bytes] | None = None
        self._whole: Samples | None = None

    def read(self, count: int) -> Samples:
        layout = self.header.layout
        if self._turn == MIRRORED:
            return np.ascontiguousarray(TURNS[MIRRORED](self._inner.read(count)))
        count = max(0, min(count, layout.height - self._row))
        if self._whole is None and self._file is None:
            self._take()
        start = self._row
        self._row += count
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        if self._whole is not None:
            return self._whole[start : self._row]
        lines = layout.height - self._row if self._turn in REVERSED else start
        if self._turn < 5:
            return np.ascontiguousarray(TURNS[self._turn](self._rows(lines, count)))
        part = self._columns(lines, count)
        return part if self._turn == 5 else np.ascontiguousarray(TURNS[self._turn - 4](part))

    def _take(self) -> None:
        """All rows of the other reader, into memory or the file: there in bands, on their sides."""
        stored = self._stored
        line = stored.width * self._pixel
        if size_of(stored) <= HELD:
            self._whole = np.ascontiguousarray(TURNS[self._turn](self._inner.read(stored.height)))
            self._inner.close()
            return
        self._file = anonymous_temp_file(self._path)
        first, step = 0, max(1, BAND // line)
        while len(rows := self._inner.read(step)):
            self._bands.append((first, len(rows)))
            first += len(rows)
            with temporary_file_errors(self._path):
                self._file.write(np.ascontiguousarray(rows.swapaxes(0, 1) if self._turn >= 5 else rows).data)
        with temporary_file_errors(self._path):
            self._file.flush()
        self._inner.close()

    @property
    def _pixel(self) -> int:
        return self._stored.bands * np.dtype(self._stored.depth).itemsize

    def _rows(self, first: int, count: int) -> Samples:
        """Rows as they are stored."""
        return self._piece(first * self._stored.width, (count, self._stored.width, self._stored.bands))

    def _columns(self, first: int, count: int) -> Samples:
        """Stored columns as rows (count, H, bands): of every band a piece that lies in one place."""
        result = np.empty((count, self._stored.height, self._stored.bands), self._stored.depth)
        for row, rows in self._bands:
            place = row * self._stored.width + first * rows
            result[:, row : row + rows] = self._piece(place, (count, rows, self._stored.bands))
        return result

    def _piece(self, pixel: int, shape: tuple[int, int, int]) -> Samples:
        assert self._file is not None
        piece = np.empty(shape, self._stored.depth)
        with temporary_file_errors(self._path):
            self._file.seek(pixel * self._pixel, os.SEEK_SET)
            self._file.readinto(piece.reshape(-1).data)  # type: ignore[attr-defined]
        return piece

    def close(self) -> None:
        self._inner.close()
        self._whole = None
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
