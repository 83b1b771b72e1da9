"""Readers for pictures that Pillow opens: rows of an uncompressed file, or rows of a decoded image."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from onebranch.images.containers.png import TRUNCATED
from onebranch.images.decoders.errors import damaged_file, decoder_errors
from onebranch.images.rows import ClosedAtExit, Header
from onebranch.images.samples import Samples

PillowImage = Any
"""A Pillow image, whose attributes differ by format."""

PIXEL_BYTES = {"1;I": 1 / 8, "L": 1, "RGB": 3, "I;16B": 2}
"""Bytes per pixel of the raw modes for which Pillow does not state the bytes of a row."""


@dataclass(frozen=True)
class RawRows:
    """The position and format of the rows of an uncompressed file.

    start: offset of the first byte. row_bytes: number of bytes of a row. mode: Pillow's raw mode. step: 1, or
    -1 if the file stores the bottom row first.
    """

    start: int
    row_bytes: int
    mode: str
    step: int


def raw_rows(image: PillowImage) -> RawRows | None:
    """The rows of an opened Pillow image in its file; None if they are compressed."""
    tiles = image.tile
    if len(tiles) != 1 or tiles[0][0] != "raw" or tuple(tiles[0][1]) != (0, 0, *image.size):
        return None
    _, _, start, arguments = tiles[0]
    mode, row_bytes, step = arguments if isinstance(arguments, tuple) else (arguments, 0, 1)
    if row_bytes == 0 and mode in PIXEL_BYTES:
        row_bytes = -int(-image.width * PIXEL_BYTES[mode] // 1)
    return RawRows(start, row_bytes, mode, step) if row_bytes > 0 and step in (1, -1) else None


def samples_in_mode(image: PillowImage, mode: str) -> Samples:
    """The samples (H, W, bands) of a Pillow image after its conversion to a mode."""
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return np.atleast_3d(samples.astype(np.uint16) if samples.dtype == np.int32 else samples)


class RawReader(ClosedAtExit):
    """A `Reader` of an uncompressed file. image: opened by Pillow, but not loaded."""

    def __init__(
        self, path: Path, name: str, image: PillowImage, raw: RawRows, mode: str, header: Header
    ) -> None:
        self.header = header
        self._path, self._name, self._raw, self._mode, self._next_row = path, name, raw, mode, 0
        self._stored_mode, self._palette = image.mode, image.palette
        self._file: IO[bytes] = path.open("rb")

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        from PIL import Image

        layout, raw = self.header.layout, self._raw
        count = max(0, min(count, layout.height - self._next_row))
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        first = self._next_row if raw.step == 1 else layout.height - self._next_row - count
        self._file.seek(raw.start + first * raw.row_bytes)
        content = self._file.read(count * raw.row_bytes)
        if len(content) < count * raw.row_bytes:
            raise damaged_file(self._path, self._name, TRUNCATED)
        self._next_row += count
        size = (layout.width, count)
        with decoder_errors(self._path, self._name):
            part = Image.frombytes(self._stored_mode, size, content, "raw", raw.mode, raw.row_bytes, raw.step)
            if self._palette is not None:
                part.palette = self._palette.copy()
            return samples_in_mode(part, self._mode)

    def close(self) -> None:
        """See `Reader.close`."""
        self._file.close()


class DecodedReader(ClosedAtExit):
    """A `Reader` of an image that Pillow has decoded; rows are converted to the mode when they are read."""

    def __init__(self, path: Path, name: str, image: PillowImage, mode: str, header: Header) -> None:
        self.header = header
        self._path, self._name, self._image, self._mode, self._next_row = path, name, image, mode, 0

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        layout, first = self.header.layout, self._next_row
        count = max(0, min(count, layout.height - first))
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        self._next_row += count
        with decoder_errors(self._path, self._name):
            part = self._image.crop((0, first, layout.width, self._next_row))
            return samples_in_mode(part, self._mode)

    def close(self) -> None:
        """See `Reader.close`."""
        self._image = None
