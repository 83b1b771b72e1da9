"""PPM and PGM in rows, with all bits (netpbm's ppm(5), pgm(5)): Pillow takes 16-bit colours to 8 bits."""

import re
from pathlib import Path
from typing import Self

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.picture import DEPTHS, Samples
from onebranch.images.rows import Header, Layout

KINDS = (b"P2", b"P3", b"P5", b"P6")
"""What is read here: grey and colours, as words and as bytes; bitmaps (P1, P4) are not."""

HEAD = re.compile(rb"P[2356]" + rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" * 3 + rb"(?:#[^\n\r]*[\n\r])?\s")
"""Width, height and the value of white; anywhere between them a comment up to the line's end."""

LONGEST_HEAD = 1 << 16


def is_netpbm(path: Path) -> bool:
    """Whether `NetpbmReader` reads the file."""
    with path.open("rb") as file:
        return file.read(2) in KINDS


class NetpbmReader:
    """A `Reader` of a PPM or PGM. OnebranchError for a damaged header, a file that is too short or too large.

    White values other than 255 and 65535 are stretched to the next of these.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path = path
        with path.open("rb") as file:
            found = HEAD.match(file.read(LONGEST_HEAD))
        if found is None:
            raise self._damaged("its header is no header")
        width, height, self._white = (int(number) for number in found.groups())
        if not (width and height and 1 <= self._white <= 65535):
            raise self._damaged(f"it says {width}x{height} pixels, white {self._white}")
        if width * height > max_pixels:
            raise OnebranchError(
                f"cannot read '{path}': it says that it has {width}x{height} pixels,"
                f" more than the limit of {max_pixels}; raise the limit if you trust the file"
            )
        kind, channels = found[0][:2], 3 if found[0][:2] in (b"P3", b"P6") else 1
        depth = "uint8" if self._white < 256 else "uint16"
        self.header = Header(Layout(height, width, channels, False, depth))
        self._stored = np.dtype(np.uint8 if self._white < 256 else ">u2")
        needed = height * width * channels * (self._stored.itemsize if kind in (b"P5", b"P6") else 2)
        if path.stat().st_size - found.end() < needed - 1:  # the last word needs no space behind it
            raise self._damaged("it is shorter than its header says")
        self._row = 0
        self._words = self._read_words(found.end()) if kind in (b"P2", b"P3") else None
        self._file = path.open("rb")
        self._file.seek(found.end())

    def read(self, count: int) -> Samples:
        """As `Reader.read`."""
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._row))
        line = layout.width * layout.channels
        if self._words is not None:
            values = self._words[self._row * line : (self._row + count) * line]
        else:
            content = self._file.read(count * line * self._stored.itemsize)
            if len(content) < count * line * self._stored.itemsize:
                raise self._damaged("it is shorter than its header says")
            values = np.frombuffer(content, self._stored)
        self._row += count
        return self._stretched(values).reshape(count, layout.width, layout.channels)

    def close(self) -> None:
        """As `Reader.close`."""
        self._file.close()
        self._words = None

    def _stretched(self, values: Samples) -> Samples:
        depth = self.header.layout.depth
        if self._white == DEPTHS[depth]:
            return values.astype(depth)
        twice = 2 * DEPTHS[depth] * np.minimum(values, self._white).astype(np.int64)
        return ((twice + self._white) // (2 * self._white)).astype(depth)

    def _read_words(self, start: int) -> Samples:
        layout = self.header.layout
        with self._path.open("rb") as file:
            file.seek(start)
            text = re.sub(rb"#[^\n\r]*", b"", file.read())
        words = text.split(maxsplit=layout.height * layout.width * layout.channels)
        wanted = words[: layout.height * layout.width * layout.channels]
        if len(wanted) < layout.height * layout.width * layout.channels:
            raise self._damaged("it is shorter than its header says")
        try:
            return np.array([int(word) for word in wanted], np.int64).clip(0, self._white)
        except (ValueError, OverflowError):
            raise self._damaged("it holds what is no number") from None

    def _damaged(self, why: str) -> OnebranchError:
        return OnebranchError(f"cannot read '{self._path}': damaged or unsupported PPM file: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
