"""Rows from Python as a libvips image with sequential access.

libvips cannot request rows from Python, but it can read a PNG through a callback. So the rows are encoded as
an uncompressed PNG. It has one grey channel, and its width is the number of samples in a row. A float32 is
passed as two samples of 16 bits, so a row of 10 RGB pixels of float32 has 60 samples. Only a few blocks are
in memory.
"""

import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from struct import pack
from typing import Any

import numpy as np

from onebranch.images.containers.png import IEND, SIGNATURE, chunk_bytes
from onebranch.images.libvips import VipsImage, pyvips
from onebranch.images.rows import Layout
from onebranch.images.samples import VIPS_FORMATS, Samples

BLOCK_BYTES = 65535
"""Bytes of the largest stored block of Deflate (RFC 1951, 3.2.4)."""

MAX_QUEUED_PIECES = 2
"""Largest number of pieces in the queue to libvips."""

PIPED_BYTES = 1 << 20
"""Approximate bytes of a piece of rows, which is copied and queued as a unit."""

POLL_SECONDS = 0.1
"""While a call waits, it checks after this many seconds whether the consuming thread has ended."""


def of_memory(samples: Samples) -> VipsImage:
    """Contiguous samples (H, W, bands) as a libvips image. The caller must keep the samples alive."""
    height, width, bands = samples.shape
    depth = samples.dtype.name
    image = pyvips.Image.new_from_memory(samples.data, width, height, bands, VIPS_FORMATS[depth])
    return _interpreted(image, bands, depth)


class Pipe:
    """A thread that consumes a libvips image while its rows are written here, from the top.

    consume: called in that thread with the image. Its exceptions are raised by `write` or `close`.
    """

    def __init__(self, layout: Layout, consume: Callable[[VipsImage], None]) -> None:
        self._layout, self._consume = layout, consume
        self._pieces: queue.Queue[Samples | None] = queue.Queue(MAX_QUEUED_PIECES)
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writing", daemon=True)
        self._thread.start()

    def write(self, rows: Samples) -> None:
        """Queue the next rows (N, W, bands) in the layout's depth. The array must not change afterwards."""
        step = max(1, PIPED_BYTES // max(1, rows[0].nbytes))
        for first in range(0, len(rows), step):
            self._put(rows[first : first + step])

    def close(self) -> None:
        """Wait until all rows are consumed."""
        self._put(None)
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def abandon(self) -> None:
        """Stop: the image is truncated, and errors of its consumer are ignored."""
        while self._thread.is_alive():
            try:
                self._pieces.put(None, timeout=POLL_SECONDS)
                self._thread.join()
            except queue.Full:
                continue

    def _put(self, rows: Samples | None) -> None:
        while self._thread.is_alive():
            try:
                return self._pieces.put(rows, timeout=POLL_SECONDS)
            except queue.Full:
                continue
        if self._problem is not None:
            raise self._problem
        return None

    def _run(self) -> None:
        try:
            source = pyvips.SourceCustom()  # a local name: images do not keep their source alive
            self._consume(_image_of(self._layout, self._handed_over(), source))
        except BaseException as problem:  # `write` or `close` raises it
            self._problem = problem

    def _handed_over(self) -> Iterator[Samples]:
        while (rows := self._pieces.get()) is not None:
            yield rows


def _image_of(layout: Layout, rows: Iterator[Samples], source: Any) -> VipsImage:
    """The libvips image of the rows, read through a custom source with sequential access."""
    stream = _Stream(_stored_png(layout, rows))
    source.on_read(stream.read)
    image = pyvips.Image.pngload_source(source, access="sequential", unlimited=True)
    words = 2 if layout.depth == "float32" else 1
    image = image.bandfold(factor=layout.bands * words)
    if words > 1:
        image = image.copy(bands=layout.bands, format="float")
    return _interpreted(image, layout.bands, layout.depth)


def _interpreted(image: VipsImage, bands: int, depth: str) -> VipsImage:
    grey, colour = ("grey16", "rgb16") if depth == "uint16" else ("b-w", "srgb")
    return image.copy(interpretation=colour if bands > 2 else grey)


class _Stream:
    """A file-like object that reads from an iterator of bytes."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._part, self._position = parts, b"", 0

    def read(self, count: int) -> bytes:
        """At most `count` bytes; b"" at the end."""
        while self._position >= len(self._part):
            part = next(self._parts, None)
            if part is None:
                return b""
            self._part, self._position = part, 0
        content = self._part[self._position : self._position + count]
        self._position += len(content)
        return content


def _stored_png(layout: Layout, rows: Iterator[Samples]) -> Iterator[bytes]:
    """The bytes of an uncompressed PNG (PNG specification, third edition) that holds the rows."""
    samples = layout.width * layout.bands * (2 if layout.depth == "float32" else 1)
    bits = 8 if layout.depth == "uint8" else 16
    yield SIGNATURE
    yield chunk_bytes(b"IHDR", pack(">IIBBBBB", samples, layout.height, bits, 0, 0, 0, 0))
    yield chunk_bytes(b"IDAT", b"\x78\x01")
    checksum = 1
    for part in rows:
        lines = _filtered_lines(part)
        checksum = zlib.adler32(lines, checksum)
        for first in range(0, len(lines), 16 * BLOCK_BYTES):
            yield chunk_bytes(b"IDAT", *_stored_blocks(lines[first : first + 16 * BLOCK_BYTES]))
    yield chunk_bytes(b"IDAT", b"\x01\0\0\xff\xff" + pack(">I", checksum))
    yield IEND


def _filtered_lines(rows: Samples) -> memoryview:
    """The rows as PNG stores them: each behind its filter byte (0 for none), samples in big-endian order."""
    count = len(rows)
    words = np.ascontiguousarray(rows).reshape(count, -1)
    if words.dtype != np.uint8:
        words = words.view(np.uint16).astype(">u2").view(np.uint8)
    lines = np.zeros((count, 1 + words.shape[1]), np.uint8)
    lines[:, 1:] = words
    return lines.reshape(-1).data


def _stored_blocks(lines: memoryview) -> Iterator[bytes | memoryview]:
    """The bytes as stored blocks of Deflate, each behind its length and the complement of its length."""
    for first in range(0, len(lines), BLOCK_BYTES):
        block = lines[first : first + BLOCK_BYTES]
        yield pack("<BHH", 0, len(block), len(block) ^ 0xFFFF)
        yield block
