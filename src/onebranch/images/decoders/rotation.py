"""Rotated and mirrored pictures, made upright by rows: in memory, or large ones through a temporary file."""

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
"""Bytes of rows that are transposed at a time on their way into the temporary file."""

MIRRORED = 2
"""The EXIF orientation whose rows come in order."""

REVERSED = (3, 4, 7, 8)
"""EXIF orientations whose first row is the last row, or column, of the file."""


def upright_reader(reader: Reader, orientation: int, path: Path) -> Reader:
    """The upright rows of a picture that is stored with an EXIF orientation. path: for errors."""
    return RotatedReader(reader, orientation, path) if orientation in TO_UPRIGHT else reader


class RotatedReader(ClosedAtExit):
    """The rows of another reader, upright. All of them are read when the first one is asked for."""

    def __init__(self, reader: Reader, orientation: int, path: Path) -> None:
        layout = reader.header.layout
        size = layout.height, layout.width
        height, width = size[::-1] if orientation >= TRANSPOSED else size
        self.header: Header = replace(reader.header, layout=replace(layout, height=height, width=width))
        self._reader, self._orientation, self._path = reader, orientation, path
        self._stored = layout
        self._next_row, self._bands = 0, list[tuple[int, int]]()  # of each band its first row and its rows
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
        """Read all rows: into memory made upright, or into the temporary file as they are stored.

        Transposed pictures are stored as bands of rows, each transposed. Example: 3x2 pixels a b c / d e f in
        bands of one row are stored as a b c d e f; in one band of two rows as a d b e c f, so that the stored
        columns 0 and 1, upright rows, are the piece a d b e.
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
        """Stored columns as rows (count, H, bands): one contiguous piece of every band."""
        result = np.empty((count, self._stored.height, self._stored.bands), self._stored.depth)
        for row, rows in self._bands:
            pixel = row * self._stored.width + first * rows
            result[:, row : row + rows] = self._samples_at(pixel, (count, rows, self._stored.bands))
        return result

    def _samples_at(self, pixel: int, shape: tuple[int, int, int]) -> Samples:
        """Samples of the temporary file, from a pixel on."""
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
