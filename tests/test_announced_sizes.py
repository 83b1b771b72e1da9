"""A file whose header announces more than the memory limit is refused in one line, before it is decoded."""

import numpy as np
import pytest

from announced_sizes import FILES, gif, jpeg_2000, png
from onebranch.errors import OnebranchError
from onebranch.images.probe import probe
from onebranch.images.reading import open_picture, read
from onebranch.images.rows import ArrayReader, Header, Layout
from reading_worker import Worker

MEGABYTES = 150
"""Most memory of a process that refuses a file: Python, NumPy, libvips and Pillow take nearly as much."""


@pytest.mark.fast
def test_a_file_that_announces_too_much_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "it.tga"  # TGA is recognized by its suffix
    with Worker("by_rows") as worker:
        for name, content in FILES.items():
            path.write_bytes(content())
            answer = worker.ask(path)
            assert not answer.fault, (name, answer)
            assert answer.outcome[0] == "refused", (name, answer)
            assert "of memory to decode, more than" in answer.outcome[1], (name, answer)
            assert answer.megabytes < MEGABYTES, (name, answer)


def test_ordinary_tiles_blocks_and_precincts_of_jpeg_2000_take_little(tmp_path):
    path = tmp_path / "it.j2k"
    for options in ({}, {"tile": 256}, {"precinct": 0x88}, {"block": 3}):
        path.write_bytes(jpeg_2000(2000, **options))
        probed = probe(path)
        assert (probed.width, probed.height) == (2000, 2000)
        assert 80e6 <= probed.memory.bytes < 100e6, options


def test_more_memory_is_a_way_out(tmp_path):
    path = tmp_path / "it.gif"
    path.write_bytes(gif(12_000, 12_000))
    with pytest.raises(OnebranchError, match="raise the limit"):
        read(path)
    with open_picture(path, memory=2**31) as reader:
        assert (reader.header.layout.width, reader.header.layout.height) == (12_000, 12_000)


def test_a_picture_too_large_for_the_machine_is_refused_in_one_line(tmp_path, monkeypatch):
    """Rows are read in bounded memory; the whole picture at once may be more than there is."""

    def fail(self: ArrayReader, count: int) -> np.ndarray:
        raise MemoryError

    path = tmp_path / "it.png"
    path.write_bytes(png(20, 20))
    layout = Layout(20, 20, 3, False, "uint8")
    monkeypatch.setattr(ArrayReader, "read", fail)
    monkeypatch.setattr(
        "onebranch.images.reading.open_picture", lambda *_, **__: ArrayReader(np.zeros(0), Header(layout))
    )
    with pytest.raises(OnebranchError, match="not enough memory for 20x20 pixels as a whole"):
        read(path)
