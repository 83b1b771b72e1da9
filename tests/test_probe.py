"""Probing a file: size, frames and memory of every format, and no error but ours from any bytes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebranch.errors import OnebranchError
from onebranch.images.probe import probe
from onebranch.images.reading import open_picture, read

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)

FORMATS = {
    "png": {},
    "jpg": {"comment": b"a comment", "dpi": (300, 300)},
    "tif": {"dpi": (300, 300)},
    "webp": {},
    "gif": {},
    "avif": {},
    "bmp": {},
    "ppm": {},
    "tga": {},
    "jp2": {},
    "ico": {"sizes": [(30, 20)]},
}


def file_of(suffix: str) -> bytes:
    """The bytes of a picture of that format."""
    content = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper())
    Image.fromarray(PIXELS).save(content, kind, **FORMATS[suffix])
    return content.getvalue()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_size_is_that_of_the_decoded_picture(tmp_path, suffix):
    path = tmp_path / f"it.{suffix}"
    path.write_bytes(file_of(suffix))
    probed = probe(path)
    assert (probed.width, probed.height, probed.frames) == (30, 20, 1)
    assert probed.memory.bytes > 0
    assert (read(probed).width, read(path).height) == (30, 20)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_frames_of_an_animation_are_counted(tmp_path, suffix):
    frames = [Image.fromarray(np.roll(PIXELS, shift)) for shift in range(5)]
    frames[0].save(tmp_path / f"it.{suffix}", save_all=True, append_images=frames[1:], duration=40)
    probed = probe(tmp_path / f"it.{suffix}")
    assert (probed.width, probed.height, probed.frames) == (30, 20, 5)


def test_a_png_is_opened_once_beside_its_decoder(tmp_path, monkeypatch):
    """libvips opens the file itself."""
    path = tmp_path / "once.png"
    path.write_bytes(file_of("png"))
    opened, original = [], Path.open

    def counted(self, *arguments):
        opened.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(Path, "open", counted)
    with open_picture(path) as reader:
        assert len(reader.read(20)) == 20
    assert opened == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_probed_or_refused(tmp_path, suffix):
    whole, rng = file_of(suffix), np.random.default_rng(1)
    path = tmp_path / f"it.{suffix}"
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 400), rng.integers(1, 6)):
            damaged[at] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)])
        path.write_bytes(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        try:
            probed = probe(path)
        except OnebranchError:
            continue
        assert min(probed.width, probed.height, probed.samples, probed.frames - 1, probed.memory.bytes) >= 0
