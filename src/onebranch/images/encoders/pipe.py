"""Rows from Python become a libvips image that is read in order: libvips has no way to ask for them.

It can read a PNG from a callback, so the rows travel as a stored (not compressed) PNG of one grey channel,
whose width is all samples of a row; a float is two samples of 16 bits. Nothing is held but a few blocks.
"""

import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from struct import pack
from typing import Any

import numpy as np

from onebranch.images.libvips import pyvips
from onebranch.images.picture import Samples
from onebranch.images.rows import Layout

Image = Any
"""A pyvips image: not typed."""

SORTS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}
"""libvips' names of our sample types."""

BLOCK = 65535
"""Bytes of a stored block at most (RFC 1951, 3.2.4)."""

WAITING = 2
"""Pieces of rows that wait for libvips at most."""

PIECE = 1 << 20
"""Bytes of rows that are handed over at a time, about: of these there are copies."""


def of_memory(samples: Samples) -> Image:
    """Samples (H, W, bands), contiguous, as a libvips image, which does not keep them alive."""
    height, width, bands = samples.shape
    image = pyvips.Image.new_from_memory(samples.data, width, height, bands, SORTS[samples.dtype.name])
    return _interpreted(image, bands, samples.dtype.name)


class Pipe:
    """A thread that consumes a libvips image whose rows are handed over here, from the top.

    consume: called in that thread with the image; what it raises comes out of `write` or `close`.
    """

    def __init__(self, layout: Layout, consume: Callable[[Image], None]) -> None:
        self._layout, self._consume = layout, consume
        self._rows: queue.Queue[Samples | None] = queue.Queue(WAITING)
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writing", daemon=True)
        self._thread.start()

    def write(self, rows: Samples) -> None:
        """Hand over the next rows (N, W, bands) of the layout's depth, which must not change afterwards."""
        step = max(1, PIECE // max(1, rows[0].nbytes))
        for at in range(0, len(rows), step):
            self._put(rows[at : at + step])

    def close(self) -> None:
        """Wait until all is consumed."""
        self._put(None)
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def abandon(self) -> None:
        """Stop: the image ends too early, and what its consumer raises is of no interest."""
        while self._thread.is_alive():
            try:
                self._rows.put(None, timeout=0.1)
                self._thread.join()
            except queue.Full:
                continue

    def _put(self, rows: Samples | None) -> None:
        while self._thread.is_alive():
            try:
                return self._rows.put(rows, timeout=0.1)
            except queue.Full:
                continue
        if self._problem is not None:
            raise self._problem
        return None

    def _run(self) -> None:
        try:
            source = pyvips.SourceCustom()  # kept here: images do not keep their source's callbacks alive
            self._consume(_image_of(self._layout, self._handed_over(), source))
        except BaseException as problem:  # it is raised in the thread that writes
            self._problem = problem

    def _handed_over(self) -> Iterator[Samples]:
        while (rows := self._rows.get()) is not None:
            yield rows


def _image_of(layout: Layout, rows: Iterator[Samples], source: Any) -> Image:
    """The libvips image that these rows make, through a custom source; read in order only, as they come."""
    stream = _Stream(_stored_png(layout, rows))
    source.on_read(stream.read)
    image = pyvips.Image.pngload_source(source, access="sequential", unlimited=True)
    words = 2 if layout.depth == "float32" else 1
    image = image.bandfold(factor=layout.bands * words)
    if words > 1:
        image = image.copy(bands=layout.bands, format="float")
    return _interpreted(image, layout.bands, layout.depth)


def _interpreted(image: Image, bands: int, depth: str) -> Image:
    spaces = ("grey16", "rgb16") if depth == "uint16" else ("b-w", "srgb")
    return image.copy(interpretation=spaces[bands > 2])


class _Stream:
    """Bytes in the portions that are asked for."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._part, self._at = parts, b"", 0

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end."""
        while self._at >= len(self._part):
            part = next(self._parts, None)
            if part is None:
                return b""
            self._part, self._at = part, 0
        found = self._part[self._at : self._at + count]
        self._at += len(found)
        return found


def _stored_png(layout: Layout, rows: Iterator[Samples]) -> Iterator[bytes]:
    """The bytes of a PNG (W3C PNG, third edition) that holds the rows as they are."""
    samples = layout.width * layout.bands * (2 if layout.depth == "float32" else 1)
    bits = 8 if layout.depth == "uint8" else 16
    yield b"\x89PNG\r\n\x1a\n"
    yield _chunk(b"IHDR", pack(">IIBBBBB", samples, layout.height, bits, 0, 0, 0, 0))
    yield _chunk(b"IDAT", b"\x78\x01")
    check = 1
    for part in rows:
        lines = _lines(part)
        check = zlib.adler32(lines, check)
        for at in range(0, len(lines), 16 * BLOCK):
            yield _chunk(b"IDAT", b"".join(_blocks(lines[at : at + 16 * BLOCK])))
    yield _chunk(b"IDAT", b"\x01\0\0\xff\xff" + pack(">I", check))
    yield _chunk(b"IEND", b"")


def _lines(rows: Samples) -> memoryview:
    """Every row behind its filter byte (none), in PNG's order of bytes."""
    count = len(rows)
    words = np.ascontiguousarray(rows).reshape(count, -1)
    if words.dtype != np.uint8:
        words = words.view(np.uint16).astype(">u2").view(np.uint8)
    lines = np.zeros((count, 1 + words.shape[1]), np.uint8)
    lines[:, 1:] = words
    return lines.reshape(-1).data


def _blocks(lines: memoryview) -> Iterator[bytes | memoryview]:
    for at in range(0, len(lines), BLOCK):
        block = lines[at : at + BLOCK]
        yield pack("<BHH", 0, len(block), len(block) ^ 0xFFFF)
        yield block


def _chunk(name: bytes, content: bytes) -> bytes:
    return b"".join(
        (pack(">I", len(content)), name, content, pack(">I", zlib.crc32(content, zlib.crc32(name))))
    )
