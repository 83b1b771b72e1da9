"""Encoders for BMP and PPM, which libvips does not write: a short header, then uncompressed rows."""

from struct import pack
from typing import BinaryIO, Protocol

import numpy as np

from onebranch.images.density import METRE_IN_MILLIMETRES, Density
from onebranch.images.rows import Layout
from onebranch.images.samples import WHITE_LEVELS, Samples

BMP_HEADER_BYTES = 54
"""Bytes before the palette of a BMP."""

MAX_BMP_DENSITY = 2**31 - 1
"""Largest number of pixels per metre that fits into the header of a BMP."""


class Output(Protocol):
    """A file that is written sequentially."""

    def write(self, content: "bytes | memoryview", /) -> object:
        """Write the next bytes."""


class PlainEncoder(Protocol):
    """An encoder that writes rows to a file without any compression."""

    def write(self, rows: Samples) -> None:
        """Write the next rows (N, W, C)."""


class PpmEncoder:
    """Binary PPM or PGM (netpbm's ppm(5), pgm(5)) of 8 or 16 bits."""

    def __init__(self, file: Output, layout: Layout, density: Density) -> None:
        """Write the header. `density` is ignored, because the format cannot hold it."""
        self._file = file
        kind, white = (b"P5" if layout.channels == 1 else b"P6"), WHITE_LEVELS[layout.depth]
        file.write(kind + b"\n%d %d\n%d\n" % (layout.width, layout.height, white))

    def write(self, rows: Samples) -> None:
        """See `PlainEncoder.write`. 16-bit samples are stored in big-endian order."""
        is_wide = rows.dtype == np.uint16
        self._file.write(np.ascontiguousarray(rows.astype(">u2") if is_wide else rows).data)


class BmpEncoder:
    """8-bit BMP with a BITMAPINFOHEADER. The bottom row is stored first, and the order of channels is BGR.

    density: stored in pixels per metre.
    """

    def __init__(self, file: BinaryIO, layout: Layout, density: Density) -> None:
        self._file, self._layout, self._missing_rows = file, layout, layout.height
        self._row_bytes = bmp_row_bytes(layout)
        palette = b"".join(pack("<BBBB", grey, grey, grey, 0) for grey in range(256 * (layout.channels == 1)))
        self._start = BMP_HEADER_BYTES + len(palette)
        size = self._row_bytes * layout.height
        x, y = (min(MAX_BMP_DENSITY, round(each * METRE_IN_MILLIMETRES)) for each in (density.x, density.y))
        file.write(pack("<2sIHHI", b"BM", self._start + size, 0, 0, self._start))
        bits = 8 * layout.channels
        head = (40, layout.width, layout.height, 1, bits, 0, size, x, y, 0, 0)
        file.write(pack("<IiiHHIIiiII", *head))
        file.write(palette)

    def write(self, rows: Samples) -> None:
        """See `PlainEncoder.write`. Every row is padded to a multiple of four bytes."""
        self._missing_rows -= len(rows)
        lines = np.zeros((len(rows), self._row_bytes), np.uint8)
        used = self._layout.width * self._layout.channels
        lines[:, :used] = rows[::-1, :, ::-1].reshape(len(rows), used)
        self._file.seek(self._start + self._missing_rows * self._row_bytes)
        self._file.write(lines.data)


def bmp_row_bytes(layout: Layout) -> int:
    """Bytes of a row in a BMP file, padded to a multiple of 4. Example: 5 RGB pixels (15 bytes) take 16."""
    return -(-layout.width * layout.channels // 4) * 4


PLAIN_ENCODERS: dict[str, type[PpmEncoder] | type[BmpEncoder]] = {"PPM": PpmEncoder, "BMP": BmpEncoder}
