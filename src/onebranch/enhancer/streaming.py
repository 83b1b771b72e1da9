"""Streaming: a result is computed in bands of rows while the next rows of the picture are read."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from onebranch.enhancer.row_pipeline import RowPipeline
from onebranch.enhancer.steps import Rows
from onebranch.images.rows import Reader, read_exactly
from onebranch.images.samples import Samples


def enhanced_rows(reader: Reader, pipeline: RowPipeline, memory: int) -> Iterator[Samples]:
    """The bands of rows of the result, from the top. memory: limit of the estimated bytes of the rows."""
    bands = list(pipeline.bands(memory))
    needed = [pipeline.needs(band) for band in bands]
    held, first = _no_rows(reader), 0
    with ThreadPoolExecutor(1, "reading") as pool:

        def read_ahead(index: int, last: int) -> Future[Samples] | None:
            """Start to read the rows from `last` on that band `index` needs; None if there are none."""
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
    """All rows of a picture in one array (H, W, bands)."""
    return read_exactly(reader, reader.header.layout.height)


def _no_rows(reader: Reader) -> Samples:
    layout = reader.header.layout
    return np.empty((0, layout.width, layout.bands), layout.depth)
