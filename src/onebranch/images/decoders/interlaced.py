"""Interlaced PNG by rows, which decoders hold as a whole: its seven passes become plain PNGs, read in order.

They lie in temporary files. Every pass is filtered as a picture of its own (PNG specification, 8.2).
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Self

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.decoders.png_chunks import SIGNATURE, TOO_SOON, damaged, head_chunks, stream
from onebranch.images.decoders.temporary_file import anonymous_temp_file, temporary_file_errors
from onebranch.images.picture import Samples
from onebranch.images.rows import Header, Layout, Reader

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The first column and row of each pass, and the steps across and down."""

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by the colour type in the header."""

PIECE = 1 << 20
"""Bytes of the stream that are taken at a time."""


class InterlacedReader:
    """The rows of an interlaced PNG. Its passes are set apart when the first row is asked for.

    opened: gives the reader of a plain PNG in a file that has no name, with the layout it is told.
    """

    def __init__(self, path: Path, header: Header, opened: Callable[[IO[bytes], Layout], Reader]) -> None:
        self.header = header
        self._path, self._opened, self._row = path, opened, 0
        self._passes: list[Reader | None] | None = None

    def read(self, count: int) -> Samples:
        if self._passes is None:
            self._passes = self._set_apart()
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._row))
        rows = np.empty((count, layout.width, layout.bands), layout.depth)
        for reader, (left, top, across, down) in zip(self._passes, PASSES, strict=True):
            first = (top - self._row) % down
            if reader is not None and first < count:
                rows[first::down, left::across] = reader.read(len(range(first, count, down)))
        self._row += count
        return rows

    def _set_apart(self) -> list[Reader | None]:
        layout = self.header.layout
        sizes = (size_of_pass(layout.width, layout.height, at) for at in PASSES)
        return [
            None if file is None else self._opened(file, replace(layout, width=width, height=height))
            for file, (width, height) in zip(passes_of(self._path), sizes, strict=True)
        ]

    def close(self) -> None:
        for reader in self._passes or ():
            if reader is not None:
                reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def size_of_pass(width: int, height: int, at: tuple[int, int, int, int]) -> tuple[int, int]:
    """Columns and rows of a pass."""
    left, top, across, down = at
    return len(range(left, width, across)), len(range(top, height, down))


def passes_of(path: Path) -> Iterator[IO[bytes] | None]:
    """The passes of an interlaced PNG as plain PNGs in temporary files, one after the other.

    None for a pass without pixels. OnebranchError if the file is damaged or ends too soon.
    """
    with path.open("rb") as file:
        before = head_chunks(path, file)
        header = before[0][1]
        width, height, bits, colour = struct.unpack(">IIBB", header[:10])
        pixel = bits * CHANNELS.get(colour, 4)
        source = _Inflated(path, stream(path, file))
        for at in PASSES:
            across, down = size_of_pass(width, height, at)
            if across == 0 or down == 0:
                yield None
                continue
            own = struct.pack(">II", across, down) + header[8:12] + b"\0"
            content = source.take(down * (1 + (across * pixel + 7) // 8))
            yield _plain(path, [(b"IHDR", own), *before[1:]], content)
        source.end()


def _plain(path: Path, before: Sequence[tuple[bytes, bytes]], content: Iterator[bytes]) -> IO[bytes]:
    """A PNG that is not interlaced, its stream stored without compression."""
    result = anonymous_temp_file(path)
    try:
        _write(path, result, before, content)
    except OnebranchError:
        result.close()
        raise
    return result


def _write(
    path: Path, file: IO[bytes], before: Sequence[tuple[bytes, bytes]], content: Iterator[bytes]
) -> None:
    stored = zlib.compressobj(0)
    with temporary_file_errors(path):
        file.write(SIGNATURE + b"".join(_chunk(*chunk) for chunk in before))
        for piece in content:
            file.write(_chunk(b"IDAT", stored.compress(piece)))
        file.write(_chunk(b"IDAT", stored.flush()) + _chunk(b"IEND", b""))
        file.flush()
        file.seek(0)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


class _Inflated:
    """The stream of a PNG, decompressed as it is taken."""

    def __init__(self, path: Path, compressed: Iterator[bytes]) -> None:
        self._path, self._compressed = path, compressed
        self._inflate = zlib.decompressobj()

    def take(self, count: int) -> Iterator[bytes]:
        """The next so many bytes, in pieces."""
        while count > 0:
            piece = self._some(min(count, PIECE))
            count -= len(piece)
            if piece:
                yield piece

    def _some(self, most: int) -> bytes:
        if self._inflate.eof:
            raise damaged(self._path, TOO_SOON)
        piece = self._inflate_piece(self._inflate.unconsumed_tail, most)
        if piece or self._inflate.eof:
            return piece
        content = next(self._compressed, None)
        if content is None:
            raise damaged(self._path, TOO_SOON)
        return self._inflate_piece(content, most)

    def end(self) -> None:
        """Look at the rest: whether the checksums are right."""
        for _ in self._compressed:
            pass

    def _inflate_piece(self, content: bytes, most: int) -> bytes:
        try:
            return self._inflate.decompress(content, most)
        except zlib.error:
            raise damaged(self._path, "its compressed data is wrong") from None
