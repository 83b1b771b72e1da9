"""Content of a file besides its first picture: reported, and removed from the metadata."""

import struct

import numpy as np
import pytest
from PIL import Image

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file, preview_file
from onebranch.errors import OnebranchError
from onebranch.images.folders import find_pictures, is_picture, is_unread_picture
from onebranch.images.libvips import pyvips
from onebranch.images.probe import probe
from onebranch.images.reading import read

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
ENHANCER = Enhancer(Options(model="photo-x2", threads=1))

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<r:Description xmlns:hdrgm="h" xmlns:GCamera="g" xmlns:Container="c" xmlns:Item="i" xmlns:dc="d"'
    ' hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:BurstID="7" xmpNote:HasExtendedXMP="ABC">'
    '<Container:Directory><r:Seq><r:li><Container:Item Item:Length="1234"/></r:li></r:Seq>'
    "</Container:Directory><dc:creator>Jane</dc:creator></r:Description></r:RDF></x:xmpmeta>"
)
XMP = XMP.replace("<r:Description", "<r:Description xmlns:xmpNote='n'")


def jpeg(path, *trailers, xmp=XMP):
    Image.fromarray(PIXELS).save(path, xmp=xmp.encode())
    path.write_bytes(path.read_bytes() + b"".join(trailers))
    return path


def small_jpeg(folder):
    Image.fromarray(PIXELS[::2, ::2]).save(folder / "small.jpg")
    return (folder / "small.jpg").read_bytes()


VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200)


def test_a_gain_map_is_reported_and_no_longer_announced(tmp_path):
    source = jpeg(tmp_path / "in.jpg", small_jpeg(tmp_path))
    notes = preview_file(source, tmp_path / "out.jpg", ENHANCER, FileOptions()).notes
    assert notes == ("its gain map is left out",)
    enhance_file(source, tmp_path / "out.jpg", ENHANCER, FileOptions())
    content = (tmp_path / "out.jpg").read_bytes()
    for word in (b"hdrgm:Version", b"Item:Length", b"Container:Item", b"MotionPhoto=", b"HasExtendedXMP="):
        assert word not in content
    assert b'GCamera:BurstID="7"' in content
    assert b"<dc:creator>Jane</dc:creator>" in content


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_a_motion_video_is_reported_and_no_longer_announced(tmp_path, suffix):
    source = jpeg(tmp_path / "in.jpg", VIDEO, xmp=XMP.replace(' hdrgm:Version="1.0"', ""))
    assert read(source).notes == ("its motion video is left out",)
    enhance_file(source, tmp_path / f"out{suffix}", ENHANCER, FileOptions())
    xmp = read(tmp_path / f"out{suffix}").metadata.xmp
    assert b"MotionPhoto=" not in xmp
    assert b"Item:" not in xmp.replace(b"xmlns:Item", b"")


def test_both_are_reported(tmp_path):
    source = jpeg(tmp_path / "in.jpg", small_jpeg(tmp_path), VIDEO)
    assert read(source).notes == ("its gain map is left out", "its motion video is left out")


def test_an_ordinary_jpeg_has_no_notes(tmp_path):
    """A thumbnail in EXIF is a JPEG inside the first one; zeros behind the end mean nothing."""
    exif = Image.Exif()
    exif[0x010E] = "a" + small_jpeg(tmp_path).decode("latin-1")
    for progressive in (False, True):
        path = tmp_path / f"{progressive}.jpg"
        Image.fromarray(PIXELS).save(path, exif=exif.tobytes(), progressive=progressive)
        path.write_bytes(path.read_bytes() + bytes(999))
        assert read(path).notes == ()


def mpo(path, count):
    frames = [Image.fromarray(PIXELS) for _ in range(count)]
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    return path


def test_pictures_of_an_mpo_are_counted(tmp_path):
    assert read(mpo(tmp_path / "in.mpo", 3)).notes == ("only the first of 3 pictures",)


def test_previews_in_an_mpo_are_no_pictures(tmp_path):
    path = mpo(tmp_path / "in.mpo", 2)
    content = bytearray(path.read_bytes())
    start = content.index(b"MPF\0") + 4
    order = {b"II": "<", b"MM": ">"}[bytes(content[start : start + 2])]
    entry = start + content[start:].index(struct.pack(order + "HHI", 0xB002, 7, 32))
    (offset,) = struct.unpack_from(order + "I", content, entry + 8)
    struct.pack_into(order + "I", content, start + offset + 16, 0x010001)
    path.write_bytes(content)
    assert read(path).notes == ()


def test_a_gain_map_of_an_avif_is_reported(tmp_path):
    path = tmp_path / "in.avif"
    Image.fromarray(PIXELS).save(path)
    entry = b"infe\2\0\0\0\0\2\0\0tmap\0"
    path.write_bytes(path.read_bytes() + (len(entry) + 8).to_bytes(4, "big") + b"free" + entry)
    assert read(path).notes == ("its gain map is left out",)


def test_further_pictures_of_other_containers_are_reported(tmp_path):
    image = pyvips.Image.new_from_array(np.tile(PIXELS, (20, 20, 1)))
    image.tiffsave(str(tmp_path / "sub.tif"), tile=True, pyramid=True, subifd=True)
    (note,) = read(tmp_path / "sub.tif").notes
    assert note.endswith("sub-images left out")
    Image.fromarray(PIXELS).save(tmp_path / "in.ico", sizes=[(16, 16), (20, 20)])
    assert probe(tmp_path / "in.ico").structure.pictures == 2
    assert read(tmp_path / "in.ico").notes == ("only the largest of 2 pictures",)
    (tmp_path / "two.pgm").write_bytes(b"P5 2 1 255 ab" + b"P5 2 1 255 cd")
    assert read(tmp_path / "two.pgm").notes == ("only the first of several pictures",)
    (tmp_path / "one.pgm").write_bytes(b"P5 2 1 255 ab\n")
    assert read(tmp_path / "one.pgm").notes == ()


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("in.mpo", "RGB", {"format": "MPO"}),
        ("in.apng", "RGB", {"format": "PNG", "save_all": True}),
        ("in.pbm", "1", {"format": "PPM"}),
        ("in.tga", "RGB", {}),
        ("in.tga", "RGBA", {"compression": "tga_rle"}),
        ("in.tga", "L", {}),
    ],
)
def test_what_can_be_read_is_found_in_folders(tmp_path, name, mode, options):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / name, **options)
    (source,) = find_pictures(tmp_path)
    picture = read(source)
    if name != "in.mpo":
        expected = np.atleast_3d(np.asarray(image.convert("L") if mode == "1" else image))
        np.testing.assert_array_equal(picture.samples(), expected)
    enhance_file(source, tmp_path / "out.png", ENHANCER, FileOptions())
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (60, 40)


@pytest.mark.parametrize("suffix", [".heic", ".JXL", ".heif", ".cr2", ".psd"])
def test_pictures_that_are_not_read_are_known(tmp_path, suffix):
    path = tmp_path / f"it{suffix}"
    assert is_unread_picture(path)
    assert not is_picture(path)


def test_a_file_named_tga_that_is_none_is_refused(tmp_path):
    (tmp_path / "it.tga").write_bytes(b"hello, this is no picture at all")
    with pytest.raises(OnebranchError, match=r"cannot read .*it\.tga"):
        read(tmp_path / "it.tga")
