"""Rows of pictures that Pillow reads: as they lie in an uncompressed file, else of the decoded whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from onebranch.images.decoders.errors import damaged, decoder_errors
from onebranch.images.picture import Samples
from onebranch.images.rows import Header

Image = Any
"""A Pillow image: not fully typed."""

PIXELS = {"1;I": 1 / 8, "L": 1, "RGB": 3, "I;16B": 2}
"""Bytes of a pixel in the raw modes that leave the length of a row to be known."""


@dataclass(frozen=True)
class Raw:
    """Where the rows lie in an uncompressed file. step: 1, or -1 if the last row comes first."""

    start: int
    length: int
    mode: str
    step: int


def raw_rows(image: Image) -> Raw | None:
    """The place of the rows, if they lie in the file as they are, by what Pillow has found in the header."""
    tiles = image.tile
    if len(tiles) != 1 or tiles[0][0] != "raw" or tuple(tiles[0][1]) != (0, 0, *image.size):
        return None
    _, _, start, given = tiles[0]
    mode, length, step = given if isinstance(given, tuple) else (given, 0, 1)
    if length == 0 and mode in PIXELS:
        length = -int(-image.width * PIXELS[mode] // 1)
    return Raw(start, length, mode, step) if length > 0 and step in (1, -1) else None


def in_mode(image: Image, mode: str) -> Samples:
    """A Pillow image as samples (H, W, bands)."""
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return np.atleast_3d(samples.astype(np.uint16) if samples.dtype == np.int32 else samples)


class RawReader:
    """The rows of an uncompressed file, read as they are asked for. image: opened by Pillow, not loaded."""

    def __init__(self, path: Path, name: str, image: Image, raw: Raw, mode: str, header: Header) -> None:
        self.header = header
        self._path, self._name, self._raw, self._mode, self._row = path, name, raw, mode, 0
        self._kind, self._palette = image.mode, image.palette
        self._file: IO[bytes] = path.open("rb")

    def read(self, count: int) -> Samples:
        from PIL import Image as Pillow

        layout, raw = self.header.layout, self._raw
        count = max(0, min(count, layout.height - self._row))
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        first = self._row if raw.step == 1 else layout.height - self._row - count
        self._file.seek(raw.start + first * raw.length)
        content = self._file.read(count * raw.length)
        if len(content) < count * raw.length:
            raise damaged(self._path, self._name, "it ends too soon")
        self._row += count
        size = (layout.width, count)
        with decoder_errors(self._path, self._name):
            part = Pillow.frombytes(self._kind, size, content, "raw", raw.mode, raw.length, raw.step)
            if self._palette is not None:
                part.palette = self._palette.copy()
            return in_mode(part, self._mode)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class DecodedReader:
    """The rows of an image that Pillow has decoded, converted as they are asked for."""

    def __init__(self, path: Path, name: str, image: Image, mode: str, header: Header) -> None:
        self.header = header
        self._path, self._name, self._image, self._mode, self._row = path, name, image, mode, 0

    def read(self, count: int) -> Samples:
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._row))
        if count == 0:
            return np.empty((0, layout.width, layout.bands), layout.depth)
        self._row += count
        with decoder_errors(self._path, self._name):
            return in_mode(self._image.crop((0, self._row - count, layout.width, self._row)), self._mode)

    def close(self) -> None:
        self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
