"""Decoding of PGM and PPM files by rows. Pillow is not used, because it reduces 16-bit colours to 8 bits."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onebranch.images.containers.errors import ContainerError
from onebranch.images.containers.netpbm import KINDS, TEXTS, NetpbmStructure, read_header
from onebranch.images.decoders.errors import damaged_file
from onebranch.images.decoders.memory import check_size
from onebranch.images.rows import ClosedAtExit, Header, Layout
from onebranch.images.samples import WHITE_LEVELS, Samples

TEXT_BYTES = 1 << 20
"""Number of bytes of a text file that are converted to numbers at a time."""

MAX_NUMBER_BYTES = 1000
"""A longer word is treated as damage: numbers have at most five digits, besides leading zeros."""

_COMMENT = re.compile(rb"#[^\n\r]*[\n\r]")

TOO_SHORT, NO_NUMBER = "it is shorter than its header states", "it holds a word that is not a number"


class NetpbmReader(ClosedAtExit):
    """A `Reader` of PGM and PPM files. (Pillow reads bitmaps, P1 and P4.)

    If the file's value of white is not 255 or 65535, samples are scaled to the next larger one of these.
    Raises OnebranchError if the header is damaged, or the file is too short or has more than `max_pixels`.
    """

    def __init__(self, path: Path, structure: NetpbmStructure | None, max_pixels: int) -> None:
        self._path = path
        self._structure = structure or self._damaged_header()
        width, height = self._structure.width, self._structure.height
        check_size(path, width, height, max_pixels)
        layout = Layout(height, width, self._structure.samples, False, self._structure.depth)
        is_text = self._structure.kind in TEXTS
        self._stored = np.dtype(np.uint8 if self._structure.depth == "uint8" else ">u2")
        samples = height * width * self._structure.samples
        needed = samples * 2 - 1 if is_text else samples * self._stored.itemsize
        end = self._structure.data_offset + needed
        if path.stat().st_size < end:
            raise self._damaged(TOO_SHORT)
        self.header = Header(layout, notes=() if is_text else self._notes(end))
        self._next_row = 0
        self._numbers = self._read_numbers() if is_text else None
        self._file = path.open("rb")
        self._file.seek(self._structure.data_offset)

    def _notes(self, end: int) -> tuple[str, ...]:
        """A note if the file, in a binary format, holds further pictures after the first one."""
        with self._path.open("rb") as file:
            file.seek(end)
            is_followed = file.read(2) in KINDS
        return ("only the first of several pictures",) if is_followed else ()

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._next_row))
        row = layout.width * layout.channels
        if self._numbers is not None:
            values = self._numbers[self._next_row * row : (self._next_row + count) * row]
        else:
            content = self._file.read(count * row * self._stored.itemsize)
            if len(content) < count * row * self._stored.itemsize:
                raise self._damaged(TOO_SHORT)
            values = np.frombuffer(content, self._stored)
        self._next_row += count
        return self._stretched(values).reshape(count, layout.width, layout.channels)

    def close(self) -> None:
        """See `Reader.close`."""
        self._file.close()
        self._numbers = None

    def _stretched(self, values: Samples) -> Samples:
        """Values scaled to the white level of their type, rounded half up: 50 of 100 becomes 128 of 255."""
        depth, white = self.header.layout.depth, self._structure.white
        level = WHITE_LEVELS[depth]
        if white == level:
            return values.astype(depth)
        doubled = 2 * level * np.minimum(values, white).astype(np.int64)
        return ((doubled + white) // (2 * white)).astype(depth)

    def _read_numbers(self) -> Samples:
        """All samples of a text file (P2, P3)."""
        layout = self.header.layout
        numbers = np.empty(layout.height * layout.width * layout.channels, np.uint16)
        filled = 0
        for words in self._words():
            words = words[: len(numbers) - filled]
            try:
                values = np.array([int(word) for word in words], np.int64).clip(0, self._structure.white)
            except (ValueError, OverflowError):
                raise self._damaged(NO_NUMBER) from None
            numbers[filled : filled + len(words)] = values
            filled += len(words)
        if filled < len(numbers):
            raise self._damaged(TOO_SHORT)
        return numbers

    def _words(self) -> Iterator[list[bytes]]:
        """The words of the text without comments, in lists that cover about `TEXT_BYTES` of the file each."""
        rest = b""
        with self._path.open("rb") as file:
            file.seek(self._structure.data_offset)
            while content := file.read(TEXT_BYTES):
                text = _COMMENT.sub(b"\n", rest + content)
                text, mark, _ = text.partition(b"#")  # a comment that continues in the next piece
                words = text.split()
                is_cut = not mark and not text[-1:].isspace()
                rest = mark or (words.pop() if words and is_cut else b"")
                if len(rest) > MAX_NUMBER_BYTES:
                    raise self._damaged(NO_NUMBER)
                yield words
        yield rest.partition(b"#")[0].split()

    def _damaged_header(self) -> NetpbmStructure:
        """Read the damaged header again, in order to raise OnebranchError with the reason."""
        try:
            with self._path.open("rb") as file:
                return read_header(file)
        except ContainerError as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, why: str) -> Exception:
        return damaged_file(self._path, "PPM", why)
