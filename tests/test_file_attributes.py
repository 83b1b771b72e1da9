"""Results keep comments, GeoTIFF tags, permissions and, on request, times of their sources."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, TiffImagePlugin

from onebranch.cli import onebranch
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.reading import open_picture, read
from onebranch.images.writing import check_target, write

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
ENHANCER = Enhancer(Options(model="photo-x2", threads=1))

COMMENTS = (b"made by hand", "日本 äöü".encode())


def commented_jpeg(path):
    """A JPEG with two comments."""
    Image.fromarray(PIXELS).save(path, comment=COMMENTS[0])
    content = path.read_bytes()
    at = content.index(b"\xff\xdb")
    segment = b"\xff\xfe" + (len(COMMENTS[1]) + 2).to_bytes(2, "big") + COMMENTS[1]
    path.write_bytes(content[:at] + segment + content[at:])
    return path


def test_comments_of_a_jpeg_stay(tmp_path):
    source = commented_jpeg(tmp_path / "in.jpg")
    enhance_file(source, tmp_path / "out.jpg", ENHANCER, FileOptions())
    assert set(read(tmp_path / "out.jpg").metadata.comments) == set(COMMENTS)
    with Image.open(tmp_path / "out.jpg") as image:
        image.load()
        assert image.info["comment"] in COMMENTS
    enhance_file(source, tmp_path / "out.png", ENHANCER, FileOptions())
    with Image.open(tmp_path / "out.png") as image:
        assert image.text["Comment"] in [comment.decode() for comment in COMMENTS]
    for comment in COMMENTS:
        assert comment in (tmp_path / "out.png").read_bytes()
    write(read(source), tmp_path / "bare.jpg", encoding=Encoding(strip=True))
    assert read(tmp_path / "bare.jpg").metadata.comments == ()


def test_comments_that_are_lost_are_reported(tmp_path):
    with open_picture(commented_jpeg(tmp_path / "in.jpg")) as reader:
        notes = check_target(tmp_path / "out.webp", reader.header)
    assert "comments of the JPEG left out: WebP cannot hold them" in notes


def test_comments_with_a_location_go_with_it(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", comment=b"GPS 51.4774")
    write(read(tmp_path / "in.jpg"), tmp_path / "out.jpg", encoding=Encoding(strip_location=True))
    assert b"51.4774" not in (tmp_path / "out.jpg").read_bytes()


def geotiff(path, is_point=False):
    """A TIFF whose pixels are 10 m wide and high; corner (3, 2) is at (500000, 4600000)."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in (
        (33550, 12, (10.0, 10.0, 0.0)),
        (33922, 12, (3.0, 2.0, 0.0, 500000.0, 4600000.0, 0.0)),
        (34735, 3, (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 2 if is_point else 1)),
        (34737, 2, "WGS 84|"),
    ):
        directory.tagtype[tag] = kind
        directory[tag] = value
    Image.fromarray(PIXELS).save(path, tiffinfo=directory)
    return path


@pytest.mark.parametrize("is_point", [False, True])
def test_geotiff_tags_describe_the_same_area(tmp_path, is_point):
    source = geotiff(tmp_path / "in.tif", is_point=is_point)
    enhance_file(source, tmp_path / "out.tif", ENHANCER, FileOptions())
    with Image.open(tmp_path / "out.tif") as image:
        assert image.size == (60, 40)
        tags = image.tag_v2
        assert tags[33550] == (5.0, 5.0, 0.0)
        i, j, _, x, y, _ = tags[33922]
        assert (i, j) == ((6.5, 4.5) if is_point else (6.0, 4.0))
        assert (x, y) == (500000.0, 4600000.0)
        assert tags[34735][:4] == (1, 1, 0, 2)
        assert tags[34737] == "WGS 84|"


def test_geotiff_tags_that_are_lost_are_reported_and_location_goes(tmp_path):
    source = geotiff(tmp_path / "in.tif")
    with open_picture(source) as reader:
        assert "GeoTIFF tags left out: PNG cannot hold them" in check_target(
            tmp_path / "o.png", reader.header
        )
    write(read(source), tmp_path / "out.tif", encoding=Encoding(strip_location=True))
    with Image.open(tmp_path / "out.tif") as image:
        assert not {33550, 33922, 34735, 34737} & set(image.tag_v2)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o644])
def test_results_have_the_permissions_of_their_source(tmp_path, permissions):
    source = tmp_path / "in.png"
    Image.fromarray(PIXELS).save(source)
    source.chmod(permissions)
    for name in ("out.png", "out.bmp"):
        enhance_file(source, tmp_path / name, ENHANCER, FileOptions())
        assert (tmp_path / name).stat().st_mode & 0o777 == permissions


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_animations_have_the_permissions_and_times_of_their_source(tmp_path):
    source = tmp_path / "in.gif"
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "lime")]
    frames[0].save(source, save_all=True, append_images=frames[1:])
    source.chmod(0o600)
    os.utime(source, (1_000_000_000, 1_100_000_000))
    enhance_file(source, tmp_path / "out.gif", ENHANCER, FileOptions(keep_times=True))
    status = (tmp_path / "out.gif").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o600, 1_100_000_000)


@pytest.mark.parametrize("keeps", [True, False])
def test_the_command_keeps_times_on_request(tmp_path, keeps):
    source = tmp_path / "in.png"
    Image.fromarray(PIXELS).save(source)
    os.utime(source, (1_000_000_000, 1_100_000_000))
    option = ["--keep-times"] if keeps else []
    result = CliRunner().invoke(onebranch, ["enhance", str(source), "-o", str(tmp_path / "o.png"), *option])
    assert result.exit_code == 0, result.output
    assert ((tmp_path / "o.png").stat().st_mtime == 1_100_000_000) == keeps
