"""Pixel density and pixel aspect ratio through every pair of formats; what is lost is reported."""

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from onebranch.images.reading import open_picture, read
from onebranch.images.writing import check_target, write

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def png(path, x, y, unit):
    """A PNG with a pHYs chunk of its own making."""
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    body = b"pHYs" + struct.pack(">IIB", x, y, unit)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(content[:33] + chunk + content[33:])
    return path


def jpeg(path, x, y, unit):
    """A JPEG whose JFIF header is overwritten."""
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    assert content[6:11] == b"JFIF\0"
    content[13:18] = struct.pack(">BHH", unit, x, y)
    path.write_bytes(content)
    return path


def tiff(path, x, y, unit):
    Image.fromarray(PIXELS).save(path, tiffinfo={282: Fraction(x), 283: Fraction(y), 296: unit})
    return path


def gif(path):
    """A GIF of pixels 3 wide and 4 high."""
    Image.fromarray(PIXELS).convert("P").save(path)
    content = bytearray(path.read_bytes())
    content[12] = 64 * 3 // 4 - 15
    path.write_bytes(content)
    return path


def in_png(path):
    """The content of pHYs."""
    content = path.read_bytes()
    return struct.unpack_from(">IIB", content, content.index(b"pHYs") + 4)


def in_jpeg(path):
    """JFIF's x, y and unit."""
    with Image.open(path) as image:
        return (*image.info["jfif_density"], image.info["jfif_unit"])


def in_tiff(path):
    with Image.open(path) as image:
        return float(image.tag_v2[282]), float(image.tag_v2[283]), image.tag_v2[296]


def in_bmp(path):
    return struct.unpack_from("<II", path.read_bytes(), 38)


SOURCES = {
    "png metre": lambda folder: png(folder / "in.png", 11811, 5906, 1),
    "jpeg inch": lambda folder: jpeg(folder / "in.jpg", 300, 150, 1),
    "jpeg cm": lambda folder: jpeg(folder / "in.jpg", 118, 59, 2),
    "tiff inch": lambda folder: tiff(folder / "in.tif", 300, 150, 2),
    "tiff cm": lambda folder: tiff(folder / "in.tif", 118, 59, 3),
}
RATIOS = {
    "png": lambda folder: png(folder / "in.png", 4, 3, 0),
    "jpeg": lambda folder: jpeg(folder / "in.jpg", 4, 3, 0),
    "tiff": lambda folder: tiff(folder / "in.tif", 4, 3, 1),
    "gif": lambda folder: gif(folder / "in.gif"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_pixels_per_length_go_into_every_format_that_holds_them(tmp_path, source):
    picture = read(SOURCES[source](tmp_path))
    for suffix in ("png", "jpg", "tif", "bmp"):
        write(picture, tmp_path / f"out.{suffix}")
    x, y, unit = in_png(tmp_path / "out.png")
    assert (x, y, unit) == (pytest.approx(11811, rel=2e-3), pytest.approx(5906, rel=2e-3), 1)
    x, y, unit = in_jpeg(tmp_path / "out.jpg")
    assert (x, y, unit) == ((118, 59, 2) if "cm" in source else (300, 150, 1))
    x, y, unit = in_tiff(tmp_path / "out.tif")
    scale = {2: 25.4, 3: 10}[unit]
    assert (x / scale, y / scale) == pytest.approx((11.81, 5.9), rel=2e-3)
    assert in_bmp(tmp_path / "out.bmp") == pytest.approx((11811, 5906), rel=2e-3)


@pytest.mark.parametrize("source", RATIOS)
def test_a_ratio_without_a_unit_stays_one(tmp_path, source):
    picture = read(RATIOS[source](tmp_path))
    for suffix in ("png", "jpg", "tif", "gif"):
        write(picture, tmp_path / f"out.{suffix}")
    for x, y, unit, no_unit in (
        (*in_png(tmp_path / "out.png"), 0),
        (*in_jpeg(tmp_path / "out.jpg"), 0),
        (*in_tiff(tmp_path / "out.tif"), 1),
    ):
        assert (Fraction(x / y).limit_denominator(99), unit) == (Fraction(4, 3), no_unit)
    assert (tmp_path / "out.gif").read_bytes()[12] == 64 * 3 // 4 - 15


def test_equal_numbers_without_a_unit_are_no_density(tmp_path):
    picture = read(png(tmp_path / "in.png", 300, 300, 0))
    for suffix in ("png", "jpg", "tif"):
        write(picture, tmp_path / f"out.{suffix}")
    assert in_png(tmp_path / "out.png") == (300, 300, 0)
    assert in_jpeg(tmp_path / "out.jpg") == (300, 300, 0)
    assert in_tiff(tmp_path / "out.tif") == (300, 300, 1)


def test_a_rotated_picture_has_its_density_rotated(tmp_path):
    path = tmp_path / "in.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif, dpi=(300, 150))
    write(read(path), tmp_path / "out.png")
    assert in_png(tmp_path / "out.png")[:2] == pytest.approx((5906, 11811), rel=1e-3)


@pytest.mark.parametrize(
    ("source", "target", "note"),
    [
        ("png metre", "webp", "its density of 300x150 dpi is left out: WebP cannot hold it"),
        ("jpeg inch", "ppm", "its density of 300x150 dpi is left out: PPM cannot hold it"),
        ("jpeg inch", "gif", "its density of 300x150 dpi is left out: GIF cannot hold it"),
        ("tiff inch", "bmp", ""),
        ("jpeg inch", "tif", ""),
    ],
)
def test_a_density_that_is_lost_is_reported(tmp_path, source, target, note):
    with open_picture(SOURCES[source](tmp_path)) as reader:
        notes = check_target(tmp_path / f"out.{target}", reader.header)
    assert (note in notes) if note else not any("density" in line for line in notes)


@pytest.mark.parametrize(
    ("target", "is_lost"), [("bmp", True), ("webp", True), ("avif", True), ("png", False)]
)
def test_an_aspect_ratio_that_is_lost_is_reported(tmp_path, target, is_lost):
    with open_picture(RATIOS["jpeg"](tmp_path)) as reader:
        notes = check_target(tmp_path / f"out.{target}", reader.header)
    assert any("its pixel aspect ratio of 3:4 is left out" in line for line in notes) == is_lost


def test_a_density_in_exif_stays_there(tmp_path):
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 300.0, 150.0, 2
    Image.fromarray(PIXELS).save(tmp_path / "in.webp", exif=exif)
    with open_picture(tmp_path / "in.webp") as reader:
        assert check_target(tmp_path / "out.avif", reader.header) == ()
    write(read(tmp_path / "in.webp"), tmp_path / "out.png")
    assert in_png(tmp_path / "out.png") == (11811, 5906, 1)
