"""EXIF into and out of TIFF files, classic and Big, in both orders of bytes, against Pillow."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from onebranch.images.containers.tiff import append_exif
from onebranch.images.encoders import encoding
from onebranch.images.metadata import Metadata, without_location
from onebranch.images.picture import Picture
from onebranch.images.probe import probe
from onebranch.images.reading import read
from onebranch.images.writing import Encoding, write

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 50, 3)).astype(np.uint8)
TAKEN, NOTE = "2020:01:02 03:04:05", b"a maker's note\0\1\2"


def block(order: str) -> bytes:
    """An EXIF block as a camera writes it, by Pillow."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x8298], exif[0x0112] = "Maker & Co", "Me", 1
    details = exif.get_ifd(0x8769)
    details[0x9003], details[0x927C], details[0x829A], details[0xA002] = TAKEN, NOTE, 0.25, 999
    location = exif.get_ifd(0x8825)
    location[1], location[2], location[3], location[4] = "N", (51.0, 28.0, 38.25), "W", (0.0, 7.0, 39.5)
    return exif.tobytes()


def described(exif: Image.Exif) -> dict[str, object]:
    """What is to be kept of it."""
    details = exif.get_ifd(0x8769)
    return {
        "maker": (exif[0x010F], exif[0x8298]),
        "details": (details[0x9003], details[0x927C], float(details[0x829A])),
        "place": [tuple(np.atleast_1d(value)) for value in exif.get_ifd(0x8825).values()],
    }


@pytest.fixture(params=["classic", "big"])
def kind(request, monkeypatch) -> str:
    if request.param == "big":
        monkeypatch.setattr(encoding, "MAX_CLASSIC_TIFF_BYTES", 0)
    return request.param


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_block_goes_into_a_tiff_and_comes_out_again(tmp_path, kind, order):
    write(Picture(PIXELS, metadata=Metadata(exif=block(order))), tmp_path / "it.tif")
    assert (tmp_path / "it.tif").read_bytes()[2] == (42 if kind == "classic" else 43)
    loaded = Image.Exif()
    loaded.load(block(order))
    expected = described(loaded)
    with Image.open(tmp_path / "it.tif") as image:
        assert image.getexif()[0x010F] == "Maker & Co"
        assert kind == "big" or described(image.getexif()) == expected  # Pillow follows no links in BigTIFF
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
    decoded = read(tmp_path / "it.tif")
    np.testing.assert_array_equal(decoded.pixels, PIXELS)
    again = Image.Exif()
    again.load(decoded.metadata.exif)
    assert described(again) == expected
    assert 0xA002 not in again.get_ifd(0x8769)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_pillow_gives_a_block_for_other_formats(tmp_path, order):
    exif = Image.Exif()
    exif.load(block(order))
    Image.fromarray(PIXELS).save(tmp_path / "it.tif", exif=exif)
    write(read(tmp_path / "it.tif"), tmp_path / "it.jpg")
    with Image.open(tmp_path / "it.jpg") as image:
        assert described(image.getexif()) == described(exif)


def test_a_place_that_was_taken_out_is_not_in_the_file(tmp_path):
    metadata = without_location(Metadata(exif=block("<")))
    write(Picture(PIXELS, metadata=metadata), tmp_path / "it.tif")
    content = (tmp_path / "it.tif").read_bytes()
    assert struct.pack("<II", 51, 1) not in content
    with Image.open(tmp_path / "it.tif") as image:
        assert not image.getexif().get_ifd(0x8825)
        assert image.getexif()[0x010F] == "Maker & Co"


def test_stripped_files_hold_none(tmp_path):
    original = Picture(PIXELS, metadata=Metadata(exif=block("<")))
    write(original, tmp_path / "it.tif", encoding=Encoding(strip=True))
    assert probe(tmp_path / "it.tif").structure.exif is None


@pytest.mark.parametrize("cut", [0, 7, 10, 20, 60, 150])
def test_broken_blocks_leave_a_whole_file(tmp_path, cut):
    write(Picture(PIXELS), tmp_path / "it.tif")
    append_exif(tmp_path / "it.tif", block("<")[:cut])
    np.testing.assert_array_equal(read(tmp_path / "it.tif").pixels, PIXELS)


def test_damaged_directories_give_none(tmp_path):
    write(Picture(PIXELS, metadata=Metadata(exif=block("<"))), tmp_path / "it.tif")
    content = (tmp_path / "it.tif").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for offset in rng.integers(len(content) - 900, len(content), 3):
            damaged[offset] = rng.integers(256)
        length = rng.integers(len(content) - 400, len(content) + 1)
        (tmp_path / "bad.tif").write_bytes(bytes(damaged[:length]))
        exif = probe(tmp_path / "bad.tif").structure.exif
        assert exif is None or io.BytesIO(exif).read(6) == b"Exif\0\0"
