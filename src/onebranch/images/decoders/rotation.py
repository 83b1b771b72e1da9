"""Rotation of pictures to their upright orientation, in memory or, if large, through a temporary file."""

import os
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from onebranch.images.decoders.temporary_file import (
    MAX_IN_MEMORY_BYTES,
    anonymous_temp_file,
    sample_bytes,
    temporary_file_errors,
)
from onebranch.images.metadata import TO_UPRIGHT, TRANSPOSED
from onebranch.images.rows import ClosedAtExit, Header, Reader
from onebranch.images.samples import Samples

BAND_BYTES = 16 << 20
"""Bytes of the bands of rows that are transposed as a unit before they are stored in the temporary file."""

MIRRORED = 2
"""The EXIF orientation that only mirrors each row, so that rows can be returned as they are decoded."""

REVERSED = (3, 4, 7, 8)
"""EXIF orientations whose first upright row is the last stored row or column."""


def upright_reader(reader: Reader, orientation: int, path: Path) -> Reader:
    """A reader of the upright rows of a picture with an EXIF orientation. path: the file, for errors."""
    return RotatedReader(reader, orientation, path) if orientation in TO_UPRIGHT else reader


class RotatedReader(ClosedAtExit):
    """A `Reader` of the upright rows of another reader, which is read completely before the first row."""

    def __init__(self, reader: Reader, orientation: int, path: Path) -> None:
        layout = reader.header.layout
        size = layout.height, layout.width
        height, width = size[::-1] if orientation >= TRANSPOSED else size
        self.header: Header = replace(reader.header, layout=replace(layout, height=height, width=width))
        self._reader, self._orientation, self._path = reader, orientation, path
        self._stored = layout
        self._next_row, self._bands = 0, list[tuple[int, int]]()  # (first row, number of rows) of each band
        self._file: IO[bytes] | None = None
        self._upright: Samples | None = None

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        layout, orientation = self.header.layout, self._orientation
        if orientation == MIRRORED:
            return np.ascontiguousarray(TO_UPRIGHT[MIRRORED](self._reader.read(count)))
        count = max(0, min(count, layout.height - self._next_row))
        if self._upright is None and self._file is None:
            self._read_all()
        first = self._next_row
        self._next_row += count
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        if self._upright is not None:
            return self._upright[first : self._next_row]
        stored = layout.height - self._next_row if orientation in REVERSED else first
        if orientation < TRANSPOSED:
            return np.ascontiguousarray(TO_UPRIGHT[orientation](self._stored_rows(stored, count)))
        rows = self._stored_columns(stored, count)
        return rows if orientation == 5 else np.ascontiguousarray(TO_UPRIGHT[orientation - 4](rows))

    def _read_all(self) -> None:
        """Read all rows, either into memory, where they are made upright, or into the temporary file.

        If upright rows are stored columns, the file gets bands of rows, each of them transposed. Example: a
        picture of 3x2 pixels has the rows a b c and d e f. Bands of one row give the file a b c d e f. One
        band of two rows gives a d b e c f, in which the columns 0 and 1 are the contiguous piece a d b e.
        """
        stored = self._stored
        row_bytes = stored.width * self._pixel_bytes
        if sample_bytes(stored) <= MAX_IN_MEMORY_BYTES:
            rows = self._reader.read(stored.height)
            self._upright = np.ascontiguousarray(TO_UPRIGHT[self._orientation](rows))
            self._reader.close()
            return
        self._file = anonymous_temp_file(self._path)
        first, step = 0, max(1, BAND_BYTES // row_bytes)
        while len(rows := self._reader.read(step)):
            self._bands.append((first, len(rows)))
            first += len(rows)
            if self._orientation >= TRANSPOSED:
                rows = rows.swapaxes(0, 1)
            with temporary_file_errors(self._path):
                self._file.write(np.ascontiguousarray(rows).data)
        with temporary_file_errors(self._path):
            self._file.flush()
        self._reader.close()

    @property
    def _pixel_bytes(self) -> int:
        return self._stored.bands * np.dtype(self._stored.depth).itemsize

    def _stored_rows(self, first: int, count: int) -> Samples:
        return self._samples_at(first * self._stored.width, (count, self._stored.width, self._stored.bands))

    def _stored_columns(self, first: int, count: int) -> Samples:
        """`count` stored columns as rows (count, H, bands), read as one contiguous piece of every band."""
        result = np.empty((count, self._stored.height, self._stored.bands), self._stored.depth)
        for row, rows in self._bands:
            pixel = row * self._stored.width + first * rows
            result[:, row : row + rows] = self._samples_at(pixel, (count, rows, self._stored.bands))
        return result

    def _samples_at(self, pixel: int, shape: tuple[int, int, int]) -> Samples:
        """Samples of that shape, read from the temporary file at the offset of a pixel."""
        assert self._file is not None, "all rows have been read"
        samples = np.empty(shape, self._stored.depth)
        with temporary_file_errors(self._path):
            self._file.seek(pixel * self._pixel_bytes, os.SEEK_SET)
            self._file.readinto(samples.reshape(-1).data)  # type: ignore[attr-defined]
        return samples

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()
        self._upright = None
        if self._file is not None:
            self._file.close()
