"""Pictures as a sequence of rows, from the top: the layout of rows, and the protocol of their readers."""

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np

from onebranch.images.colour_conversion import ColourConversion
from onebranch.images.metadata import Metadata
from onebranch.images.samples import Samples


@dataclass(frozen=True)
class Layout:
    """The layout of rows of samples (count, width, channels + alpha); alpha is last and not premultiplied.

    channels: 1 (grey) or 3 (RGB). depth: "uint8", "uint16" or "float32" (0 is black, 1 is white).
    """

    height: int
    width: int
    channels: int
    alpha: bool
    depth: str

    @property
    def bands(self) -> int:
        """Number of samples per pixel."""
        return self.channels + self.alpha


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its rows are read. See `Picture` for the fields.

    decoder_bytes: estimated bytes that the decoder holds, without the rows that it returns.
    """

    layout: Layout
    metadata: Metadata = field(default_factory=Metadata)
    conversion: ColourConversion = field(default_factory=ColourConversion)
    notes: tuple[str, ...] = ()
    decoder_bytes: int = 0


class Reader(Protocol):
    """A context manager that reads a picture once, from top to bottom, in bounded memory."""

    @property
    def header(self) -> Header:
        """What is known of the picture before its first row is read."""

    def read(self, count: int) -> Samples:
        """The next rows (N, W, bands), N <= count; N is 0 at the end. OnebranchError if they are damaged."""

    def close(self) -> None:
        """Release files and memory."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *problem: object) -> None: ...


class ClosedAtExit:
    """The base class of all readers: a context manager that calls `close` at its end."""

    def close(self) -> None:
        """See `Reader.close`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class WithoutAlpha(ClosedAtExit):
    """A `Reader` of the rows of another reader without their last band."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        header = reader.header
        self.header = replace(header, layout=replace(header.layout, alpha=False))

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        return np.ascontiguousarray(self._reader.read(count)[..., :-1])

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()


class ArrayReader(ClosedAtExit):
    """A `Reader` of samples (H, W, bands) in memory."""

    def __init__(self, samples: Samples, header: Header) -> None:
        self.header = header
        self._rest = samples

    def read(self, count: int) -> Samples:
        """See `Reader.read`."""
        rows, self._rest = self._rest[:count], self._rest[count:]
        return rows

    def close(self) -> None:
        """See `Reader.close`."""
        self._rest = self._rest[:0]


def read_exactly(reader: Reader, count: int) -> Samples:
    """The next `count` rows (count, W, bands), joined if the reader returns them in several parts."""
    layout = reader.header.layout
    parts = []
    while count > 0:
        parts.append(reader.read(count))
        assert len(parts[-1]), "a reader returns as many rows as its header states, or raises an error"
        count -= len(parts[-1])
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty((0, layout.width, layout.bands), layout.depth), *parts])
