"""The formats that are rows behind a few numbers, BMP and PPM, written row by row. Neither is in libvips."""

from struct import pack
from typing import BinaryIO, Protocol

import numpy as np

from onebranch.images.picture import Samples
from onebranch.images.rows import Layout

BMP_HEADER_BYTES = 54
"""Bytes before the palette of a BMP."""


class Plain(Protocol):
    """A file being written."""

    def write(self, rows: Samples) -> None:
        """The next rows (N, W, C)."""


class Ppm:
    """Binary PPM or PGM (netpbm's ppm(5), pgm(5)) of 8 or 16 bits."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file = file
        kind, white = (b"P5" if layout.channels == 1 else b"P6"), (255 if layout.depth == "uint8" else 65535)
        file.write(kind + b"\n%d %d\n%d\n" % (layout.width, layout.height, white))

    def write(self, rows: Samples) -> None:
        """16 bits have the higher byte first."""
        wide = rows.dtype == np.uint16
        self._file.write(np.ascontiguousarray(rows.astype(">u2") if wide else rows).data)


class Bmp:
    """BMP of 8 bits (BITMAPINFOHEADER): the lowest row comes first, blue before red."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file, self._layout, self._left = file, layout, layout.height
        self._stride = bmp_stride(layout)
        palette = b"".join(pack("<BBBB", grey, grey, grey, 0) for grey in range(256 * (layout.channels == 1)))
        self._start = BMP_HEADER_BYTES + len(palette)
        size = self._stride * layout.height
        file.write(pack("<2sIHHI", b"BM", self._start + size, 0, 0, self._start))
        bits = 8 * layout.channels
        file.write(pack("<IiiHHIIiiII", 40, layout.width, layout.height, 1, bits, 0, size, 2835, 2835, 0, 0))
        file.write(palette)

    def write(self, rows: Samples) -> None:
        """Rows are filled up to four bytes."""
        self._left -= len(rows)
        lines = np.zeros((len(rows), self._stride), np.uint8)
        used = self._layout.width * self._layout.channels
        lines[:, :used] = rows[::-1, :, ::-1].reshape(len(rows), used)
        self._file.seek(self._start + self._left * self._stride)
        self._file.write(lines.data)


def bmp_stride(layout: Layout) -> int:
    """Bytes of a row in the file."""
    return -(-layout.width * layout.channels // 4) * 4


PLAIN: dict[str, type[Ppm] | type[Bmp]] = {"PPM": Ppm, "BMP": Bmp}
