"""Decoding of interlaced PNG files by rows, in bounded memory.

Decoders hold an interlaced picture as a whole. Its seven passes are filtered as independent pictures (PNG
specification, 8.2), so they are written to temporary files as plain PNGs, which are then decoded in parallel,
row by row.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.containers.errors import ContainerError
from onebranch.images.containers.png import (
    IEND,
    SIGNATURE,
    TRUNCATED,
    Chunk,
    PngStructure,
    chunk_bytes,
    image_data,
)
from onebranch.images.decoders.errors import damaged_file
from onebranch.images.decoders.temporary_file import anonymous_temp_file, temporary_file_errors
from onebranch.images.rows import ClosedAtExit, Header, Layout, Reader
from onebranch.images.samples import Samples

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: the first column and row, and the distance between its columns and between its rows."""

PIECE_BYTES = 1 << 20
"""Largest number of bytes that are decompressed at a time."""


class InterlacedReader(ClosedAtExit):
    """A `Reader` of an interlaced PNG, which separates the passes when the first row is read.

    open_pass: opens a plain PNG, given as a file and the layout of its rows.
    """

    def __init__(
        self,
        path: Path,
        structure: PngStructure,
        header: Header,
        open_pass: Callable[[IO[bytes], Layout], Reader],
    ) -> None:
        self.header = header
        self._path, self._structure, self._open_pass, self._next_row = path, structure, open_pass, 0
        self._passes: list[Reader | None] | None = None

    def read(self, count: int) -> Samples:
        """See `Reader.read`.

        Example: in row 0, columns 0, 8, 16, ... come from the first pass, 4, 12, ... from the second,
        2, 6, ... from the fourth, and all odd columns from the sixth. Row 1 is the first row of the seventh.
        """
        if self._passes is None:
            self._passes = self._separate()
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._next_row))
        rows = np.empty((count, layout.width, layout.bands), layout.depth)
        for reader, (left, top, across, down) in zip(self._passes, PASSES, strict=True):
            first = (top - self._next_row) % down
            if reader is not None and first < count:
                rows[first::down, left::across] = reader.read(len(range(first, count, down)))
        self._next_row += count
        return rows

    def _separate(self) -> list[Reader | None]:
        layout = self.header.layout
        sizes = (size_of_pass(layout.width, layout.height, each) for each in PASSES)
        files = passes_of(self._path, self._structure)
        try:
            return [
                None if file is None else self._open_pass(file, replace(layout, width=width, height=height))
                for file, (width, height) in zip(files, sizes, strict=True)
            ]
        except ContainerError as error:
            raise damaged_file(self._path, "PNG", str(error)) from None

    def close(self) -> None:
        """See `Reader.close`."""
        for reader in self._passes or ():
            if reader is not None:
                reader.close()


def size_of_pass(width: int, height: int, each: tuple[int, int, int, int]) -> tuple[int, int]:
    """Number of columns and rows of a pass. each: an element of `PASSES`.

    >>> [size_of_pass(5, 5, each) for each in PASSES]
    [(1, 1), (1, 1), (2, 1), (1, 2), (3, 1), (2, 3), (5, 2)]
    """
    left, top, across, down = each
    return len(range(left, width, across)), len(range(top, height, down))


def passes_of(path: Path, structure: PngStructure) -> Iterator[IO[bytes] | None]:
    """The seven passes of an interlaced PNG as plain PNGs in temporary files; None for a pass without pixels.

    Raises ContainerError if the file is damaged or ends too soon.
    """
    header = structure.header
    if structure.problem or header is None:
        raise ContainerError(structure.problem or "its first chunk is not a valid header")
    pixel_bits = header.bit_depth * header.stored_samples
    ihdr = structure.leading[0].content
    with path.open("rb") as file:
        file.seek(structure.data_offset)
        data = _DecompressedData(file)
        for each in PASSES:
            columns, rows = size_of_pass(header.width, header.height, each)
            if columns == 0 or rows == 0:
                yield None
                continue
            pass_header = Chunk(b"IHDR", struct.pack(">II", columns, rows) + ihdr[8:12] + b"\0")
            content = data.take(rows * (1 + (columns * pixel_bits + 7) // 8))
            yield _plain_png(path, [pass_header, *structure.leading[1:]], content)
        data.check_rest()


def _plain_png(path: Path, leading: Sequence[Chunk], content: Iterator[bytes]) -> IO[bytes]:
    """A temporary file with a PNG that is not interlaced and whose image data is not compressed."""
    file = anonymous_temp_file(path)
    try:
        stored = zlib.compressobj(0)
        with temporary_file_errors(path):
            file.write(SIGNATURE + b"".join(chunk_bytes(*chunk) for chunk in leading))
            for piece in content:
                file.write(chunk_bytes(b"IDAT", stored.compress(piece)))
            file.write(chunk_bytes(b"IDAT", stored.flush()) + IEND)
            file.flush()
            file.seek(0)
    except (OnebranchError, ContainerError):
        file.close()
        raise
    return file


class _DecompressedData:
    """The image data of a PNG, decompressed on demand. Methods raise ContainerError if it is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._compressed = image_data(file)
        self._decompressor = zlib.decompressobj()

    def take(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes, in pieces."""
        while count > 0:
            piece = self._next_piece(min(count, PIECE_BYTES))
            count -= len(piece)
            if piece:
                yield piece

    def _next_piece(self, max_bytes: int) -> bytes:
        if self._decompressor.eof:
            raise ContainerError(TRUNCATED)
        piece = self._decompress(self._decompressor.unconsumed_tail, max_bytes)
        if piece or self._decompressor.eof:
            return piece
        content = next(self._compressed, None)
        if content is None:
            raise ContainerError(TRUNCATED)
        return self._decompress(content, max_bytes)

    def check_rest(self) -> None:
        """Read the remaining data, which checks its checksums."""
        for _ in self._compressed:
            pass

    def _decompress(self, content: bytes, max_bytes: int) -> bytes:
        try:
            return self._decompressor.decompress(content, max_bytes)
        except zlib.error:
            raise ContainerError("its compressed data is damaged") from None
