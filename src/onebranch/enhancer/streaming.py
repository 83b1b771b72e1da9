"""Streaming: the rows of a result, computed band by band while the next rows of the picture are read."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from onebranch.enhancer.row_pipeline import RowPipeline
from onebranch.enhancer.steps import Rows
from onebranch.images.rows import Reader, read_exactly
from onebranch.images.samples import Samples


def enhanced_rows(reader: Reader, pipeline: RowPipeline, memory: int) -> Iterator[Samples]:
    """The rows of the result, band by band, from the top. memory: estimated bytes that the rows may take."""
    bands = list(pipeline.bands(memory))
    needed = [pipeline.needs(band) for band in bands]
    held, first = _no_rows(reader), 0
    with ThreadPoolExecutor(1, "reading") as pool:

        def read_ahead(index: int, last: int) -> Future[Samples] | None:
            """Start reading the rows beyond `last` that this band needs."""
            if index >= len(bands):
                return None
            return pool.submit(read_exactly, reader, needed[index].last - last)

        pending, last = read_ahead(0, 0), 0
        for index, (band, at) in enumerate(zip(bands, needed, strict=True)):
            assert pending is not None
            held = np.concatenate([held[at.first - first :], pending.result()])
            first, last = at.first, max(last, at.last)
            pending = read_ahead(index + 1, last)
            yield pipeline.rows(held, Rows(first, last), band)


def all_rows(reader: Reader) -> Samples:
    """The rows of the whole picture."""
    return read_exactly(reader, reader.header.layout.height)


def _no_rows(reader: Reader) -> Samples:
    layout = reader.header.layout
    return np.empty((0, layout.width, layout.bands), layout.depth)
