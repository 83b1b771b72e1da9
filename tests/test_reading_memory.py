"""Large pictures are read in less memory than their samples take, however they lie in their files."""

import pytest

from onebranch.images.libvips import pyvips
from reading_worker import Worker

WIDTH, HEIGHT = 6_000, 15_000
SAMPLES = WIDTH * HEIGHT * 3 // 10**6
"""In MB: 270."""

KINDS = {
    "rows.png": {"compression": 1},
    "interlaced.png": {"compression": 1, "interlace": True},
    "turned.png": {"compression": 1, "orientation": 6},
    "upside down.jpg": {"orientation": 3},
    "rows.jpg": {},
    "one strip.tif": {"tile_height": HEIGHT},
    "one packed strip.tif": {"tile_height": HEIGHT, "compression": "deflate"},
    "tiles.tif": {"tile": True, "tile_width": 512, "tile_height": 512},
    "turned.tif": {"tile_height": 16, "orientation": 8},
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_take_less_memory_than_the_picture(tmp_path, name):
    options = dict(KINDS[name])
    ramp = pyvips.Image.xyz(WIDTH, HEIGHT)
    image = ((ramp[0] / 24) % 251).bandjoin([(ramp[1] / 60) % 241, (ramp[0] + ramp[1]) / 100]).cast("uchar")
    image = image.copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", options.pop("orientation", 1))
    image.write_to_file(str(tmp_path / name), **options)
    with Worker("in_order") as worker:
        answer = worker.ask(tmp_path / name, seconds=120)
    (tmp_path / name).unlink()
    assert (answer.outcome, answer.fault) == (["read"], "")
    assert answer.megabytes < SAMPLES
