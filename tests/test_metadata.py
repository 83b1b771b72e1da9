"""Metadata: kept byte for byte, adapted to the new picture, or removed on request."""

import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colour_profiles import profile
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.images.containers import exif as exif_block
from onebranch.images.containers import xmp as xmp_packet
from onebranch.images.containers.png import SIGNATURE, is_location_text, read_texts
from onebranch.images.density import DEFAULT_DENSITY, Density
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.metadata import (
    Metadata,
    of_size,
    without_location,
    without_thumbnail,
)
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import check_target, write

ENHANCER = Enhancer(Options(model="photo-x2", threads=1))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)

SUFFIXES = [".jpg", ".png", ".webp", ".avif", ".tif"]
EXACT = [".jpg", ".png", ".webp", ".avif"]
"""Formats whose EXIF is one block of bytes."""

THUMBNAIL = b"\xff\xd8\xff\xe0 the old picture, small \xff\xd9"
NOTE = b"MakerNote\0" + bytes(range(100, 160))
LOCATION = (51, 1, 28, 1, 38991, 1000)
"""Degrees, minutes and seconds north, as numerators and denominators."""

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:exif="e" xmlns:tiff="t" xmlns:dc="d" tiff:Orientation="6"
 exif:GPSLatitude="51,28.6498N"
 exif:GPSVersionID='2.3.0.0' exif:ISOSpeed="200" drone-dji:GpsLongitude="-0.00123"
 drone-dji:Latitude="51.4774">
<exif:GPSLongitude>0,0.0738W</exif:GPSLongitude><exif:GPSTimeStamp/><dc:creator>Jane</dc:creator>
<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>/9j/4AAQ</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>"""

LOCATION_PARTS = (b"51,28", b"0,0.0738W", b"0.00123", b"51.4774", b"GPS", b"GpsL")
"""The part of XMP that holds a location."""


def directory(order, at, entries, following=0):
    """A TIFF directory at an offset, followed by its values. entries: {tag: (type, count, bytes)}."""
    head, values = struct.pack(order + "H", len(entries)), b""
    end = at + 2 + 12 * len(entries) + 4
    for tag, (kind, count, content) in sorted(entries.items()):
        inline = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", end + len(values))
        head += struct.pack(order + "HHI", tag, kind, count) + inline
        values += content if len(content) > 4 else b""
    return head + struct.pack(order + "I", following) + values


def block(order="<", orientation=6, size=(20, 30)):
    """EXIF as a camera writes it, with a thumbnail, a maker's note, a private tag and a place."""

    def number(kind, value):
        return kind, 1, struct.pack(order + {3: "H", 4: "I"}[kind], value)

    details = {
        0x8827: number(3, 200),
        0x927C: (7, len(NOTE), NOTE),
        0xA002: number(3, size[1]),
        0xA003: number(4, size[0]),
        0xFDE8: (2, 12, b"Owner: Jane\0"),
    }
    location = {1: (2, 2, b"N\0"), 2: (5, 3, struct.pack(order + "6I", *LOCATION))}
    first = {
        0x010F: (2, 10, b"The Maker\0"),
        0x0112: number(3, orientation),
        0x8769: number(4, 0),
        0x8825: number(4, 0),
        0xC4A5: (7, 14, b"PrintIM\x000300\0\0"),
    }
    at = [8]
    for content in (directory(order, 0, first), directory(order, 0, details), directory(order, 0, location)):
        at.append(at[-1] + len(content))
    first[0x8769], first[0x8825] = number(4, at[1]), number(4, at[2])
    second = directory(order, at[3], {0x0201: number(4, 0), 0x0202: number(4, len(THUMBNAIL))})
    second = directory(
        order, at[3], {0x0201: number(4, at[3] + len(second)), 0x0202: number(4, len(THUMBNAIL))}
    )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    parts = (
        directory(order, 8, first, at[3]),
        directory(order, at[1], details),
        directory(order, at[2], location),
    )
    return b"Exif\0\0" + head + b"".join(parts) + second + THUMBNAIL


def written(path, encoding=None, **blocks):
    write(Picture(PIXELS, metadata=Metadata(**blocks)), path, encoding=encoding)
    return path.read_bytes()


def raw_exif(path):
    """The block as Pillow finds it in the file, from the TIFF header on."""
    with Image.open(path) as image:
        return image.info["exif"].removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", EXACT)
def test_makers_notes_and_private_tags_stay_where_they_are(tmp_path, suffix, order):
    exif = block(order, orientation=1)
    written(tmp_path / f"it{suffix}", exif=exif)
    actual = raw_exif(tmp_path / f"it{suffix}")
    assert actual.index(NOTE) == exif.index(NOTE) - 6
    with Image.open(tmp_path / f"it{suffix}") as image:
        image.load()
        tags = image.getexif()
        assert (tags[0x010F], tags[0x0112], tags[0xC4A5]) == ("The Maker", 1, b"PrintIM\x000300\0\0")
        details = tags.get_ifd(0x8769)
        assert (details[0x8827], details[0xFDE8]) == (200, "Owner: Jane")
        assert details[0x927C] == NOTE
        assert tuple(map(float, tags.get_ifd(0x8825)[2])) == (51, 28, 38.991)
    assert not re.search(b"to be replaced", (tmp_path / f"it{suffix}").read_bytes())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_old_thumbnail_is_gone(tmp_path, suffix, order):
    content = written(tmp_path / f"it{suffix}", exif=block(order, 1), xmp=XMP)
    assert b"the old picture" not in content
    assert b"Thumbnails" not in content
    if suffix != ".tif":
        with Image.open(tmp_path / f"it{suffix}") as image:
            assert not image.getexif().get_ifd(0x0201)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", EXACT)
def test_the_size_in_exif_is_the_new_one(tmp_path, suffix, order):
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", exif=block(order, 6))
    enhance_file(tmp_path / "in.jpg", tmp_path / f"out{suffix}", ENHANCER, FileOptions())
    with Image.open(tmp_path / f"out{suffix}") as image:
        tags = image.getexif()
        assert image.size == (40, 60)
        assert tags.get(0x0112, 1) == 1
        details = tags.get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == (40, 60)


def test_png_files_stay_whole(tmp_path):
    """Chunks are checked by sums; Pillow verifies them all."""
    written(tmp_path / "it.png", exif=block("<", 1), xmp=XMP, icc=profile("p3"))
    with Image.open(tmp_path / "it.png") as image:
        image.verify()
    np.testing.assert_array_equal(read(tmp_path / "it.png").pixels, PIXELS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_stripped_files_have_the_profile_and_nothing_else(tmp_path, suffix):
    blocks = {"exif": block(), "xmp": XMP, "icc": profile("Display P3"), "density": Density(12.0, 12.0)}
    content = written(tmp_path / f"it{suffix}", Encoding(strip=True), **blocks)
    with Image.open(tmp_path / f"it{suffix}") as image:
        assert image.info["icc_profile"] == profile("Display P3")
        assert "exif" not in image.info
        assert "xmp" not in image.info
        if suffix != ".tif":
            assert len(image.getexif()) == 0
    for word in (b"The Maker", NOTE, b"Jane", b"xmpmeta", b"Exif\0\0", b"eXIf", b"the old picture"):
        assert word not in content


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_byte_of_the_location_is_left_and_all_else_is(tmp_path, suffix, order):
    content = written(tmp_path / f"it{suffix}", Encoding(strip_location=True), exif=block(order, 1), xmp=XMP)
    for sign in "<>":
        assert struct.pack(sign + "6I", *LOCATION) not in content
        assert struct.pack(sign + "II", *LOCATION[4:]) not in content
    assert not any(part in content for part in LOCATION_PARTS)
    with Image.open(tmp_path / f"it{suffix}") as image:
        tags = image.getexif()
        assert not tags.get_ifd(0x8825)
        assert 0x8825 not in tags
        assert tags[0x010F] == "The Maker"
        assert tags.get_ifd(0x8769)[0x8827] == 200
    assert NOTE in content
    xmp = read(tmp_path / f"it{suffix}").metadata.xmp
    assert not any(part in xmp for part in LOCATION_PARTS)
    assert b'exif:ISOSpeed="200"' in xmp
    assert b"<dc:creator>Jane</dc:creator>" in xmp


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_location_is_kept_unless_it_is_removed(tmp_path, suffix):
    """Otherwise the test above would prove nothing."""
    content = written(tmp_path / f"it{suffix}", exif=block("<", 1), xmp=XMP)
    assert struct.pack("<6I", *LOCATION) in content
    assert all(part in read(tmp_path / f"it{suffix}").metadata.xmp for part in LOCATION_PARTS)
    assert all(part in content for part in LOCATION_PARTS) or suffix == ".png"  # where XMP is compressed


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_location_that_is_stored_twice_is_removed_twice(order):
    exif = block(order, 1)
    head = exif.index(struct.pack(order + "HH", 0xC4A5, 7))
    link = exif.index(struct.pack(order + "HH", 0x8825, 4))
    twice = exif[:head] + exif[link : link + 12] + exif[head + 12 :]
    cleaned = without_location(Metadata(exif=twice)).exif
    assert struct.pack(order + "H", 0x8825) not in cleaned
    assert struct.pack(order + "6I", *LOCATION) not in cleaned


def test_xmp_says_upright():
    for notation in (
        b'tiff:Orientation="%d"',
        b"tiff:Orientation = '%d'",
        b"<tiff:Orientation>%d</tiff:Orientation>",
    ):
        for number in range(1, 9):
            assert xmp_packet.set_upright(notation % number) == notation % 1
    assert (
        xmp_packet.set_upright(b'exif:Orientation="60" tiff:Orientation="9"')
        == b'exif:Orientation="60" tiff:Orientation="9"'
    )


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_rotated_pictures_say_everywhere_that_they_are_upright(tmp_path, suffix):
    options = {"xmp": XMP} if suffix != ".tif" else {}
    Image.fromarray(PIXELS).save(tmp_path / f"in{suffix}", exif=block(), **options)
    for target in SUFFIXES:
        enhance_file(tmp_path / f"in{suffix}", tmp_path / f"out{target}", ENHANCER, FileOptions())
        with Image.open(tmp_path / f"out{target}") as image:
            assert image.size == (40, 60)
            assert image.getexif().get(0x0112, 1) == 1
            assert b'tiff:Orientation="6"' not in (tmp_path / f"out{target}").read_bytes()


EDITS = (
    exif_block.set_upright,
    lambda exif: without_location(Metadata(exif=exif)).exif,
    lambda exif: without_thumbnail(Metadata(exif=exif)).exif,
    lambda exif: of_size(Metadata(exif=exif), 7, 9).exif,
)


@pytest.mark.parametrize("edit", EDITS)
def test_edits_keep_the_length_and_never_fail(edit):
    """Cut and damaged blocks too."""
    rng = np.random.default_rng(0)
    for order in "<>":
        whole = block(order)
        assert len(edit(whole)) == len(whole)
        for _ in range(400):
            damaged = bytearray(whole)
            for at in rng.integers(0, len(whole), rng.integers(0, 4)):
                damaged[at] = rng.integers(256)
            given = bytes(damaged[: rng.integers(0, len(whole) + 1)])
            edited = edit(given)
            assert edited is None or len(edited) == len(given)


def test_whole_blocks_are_distinguished_from_broken_ones():
    for order in "<>":
        whole = block(order)
        assert exif_block.is_complete(whole)
        assert exif_block.is_complete(whole.removeprefix(b"Exif\0\0"))
        for cut in (0, 5, 8, 14, 30, whole.index(NOTE) + 5):
            assert not exif_block.is_complete(whole[:cut])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_broken_blocks_leave_a_whole_and_upright_picture(tmp_path, suffix):
    whole = block()
    note = whole.index(NOTE) + 5
    for cut, encoding in ((7, None), (20, None), (note, None), (note, Encoding(strip_location=True))):
        path = tmp_path / f"{cut}{encoding is None}{suffix}"
        picture = Picture(PIXELS, metadata=Metadata(exif=exif_block.set_upright(whole[:cut])))
        write(picture, path, encoding=encoding)
        assert read(path).pixels.shape == PIXELS.shape
        with Image.open(path) as image:
            image.load()
            assert image.size == (30, 20)


@pytest.mark.parametrize("number", ["049", "050"])
def test_odd_exif_in_the_wild_is_harmless(shared_data, tmp_path, number):
    (source,) = (shared_data / "odd").glob(f"{number}_*")
    for suffix in SUFFIXES:
        write(read(source), tmp_path / f"it{suffix}")
        with Image.open(tmp_path / f"it{suffix}") as image:
            image.load()
            assert image.getexif().get(0x0112, 1) == 1
        assert read(tmp_path / f"it{suffix}").pixels.shape == read(source).pixels.shape


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".png"])
def test_a_block_too_long_for_a_segment_does_no_harm(tmp_path, suffix):
    order = "<"
    long = block(order, 1)
    text = b"y" * 70_000
    entries = {0x010E: (2, len(text), text)}
    long = b"Exif\0\0II*\0\x08\0\0\0" + directory(order, 8, entries)
    written(tmp_path / f"it{suffix}", exif=long)
    with Image.open(tmp_path / f"it{suffix}") as image:
        assert image.size == (30, 20)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_resolution_is_kept_and_none_is_72(tmp_path, suffix):
    for exif in (None, block("<", 1)):
        for inch in ((72, 72), (300, 150)):
            density = None if inch == (72, 72) else Density(inch[0] / 25.4, inch[1] / 25.4)
            picture = Picture(PIXELS, metadata=Metadata(exif=exif, density=density))
            write(picture, tmp_path / f"it{suffix}", overwrite=True)
            actual = read(tmp_path / f"it{suffix}").metadata.density or DEFAULT_DENSITY
            assert (actual.x, actual.y) == pytest.approx((inch[0] / 25.4, inch[1] / 25.4), rel=0.01)
            with Image.open(tmp_path / f"it{suffix}") as image:
                assert round(float(image.info.get("dpi", (72, 72))[0])) == inch[0]


def test_metadata_of_an_animation_is_that_of_a_frame(tmp_path):
    from onebranch.images.animation import Animation
    from onebranch.images.writing import write_animation

    frame = Picture(PIXELS, metadata=Metadata(exif=block("<", 1), icc=profile("p3")))
    other = replace(frame, pixels=255 - PIXELS)
    write_animation(Animation((frame, other), (50, 70)), tmp_path / "it.webp")
    with Image.open(tmp_path / "it.webp") as image:
        assert image.n_frames == 2
        assert image.getexif().get_ifd(0x8769)[0xA003] == 20
        assert image.info["icc_profile"] == profile("p3")


def texts():
    info = PngInfo()
    info.add_text("Title", "Näme")
    info.add_itxt("Description", "日本 äöü", "ja", "題")
    info.add_text("Comment", "long " * 900, zip=True)
    info.add_itxt("Comment", "packed", zip=True)
    return info


def texts_in(path):
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        return read_texts(file)


SAID = {"Title": "Näme", "Description": "日本 äöü", "Comment": "packed"}


def said(path):
    with Image.open(path) as image:
        image.load()
        return {key: str(value) for key, value in image.text.items()}


def test_texts_of_a_png_are_kept_again_and_again(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "0.png", pnginfo=texts(), exif=block("<", 1))
    for turn in range(2):
        enhance_file(tmp_path / f"{turn}.png", tmp_path / f"{turn + 1}.png", ENHANCER, FileOptions())
        with Image.open(tmp_path / f"{turn + 1}.png") as image:
            image.verify()
        assert said(tmp_path / f"{turn + 1}.png") == SAID
    assert (tmp_path / "2.png").read_bytes().count(b"zTXtComment") == 1
    decoded = read(tmp_path / "0.png")
    write(decoded, tmp_path / "bare.png", encoding=Encoding(strip=True))
    assert said(tmp_path / "bare.png") == {}
    assert any(
        "texts of the PNG left out" in word for word in check_target(tmp_path / "it.jpg", decoded.header)
    )


@pytest.mark.parametrize("packed", [False, True])
def test_texts_with_a_location_are_removed_with_it(tmp_path, packed):
    info = texts()
    info.add_text("Where", "GPSLatitude=51.4774", zip=packed)
    info.add_itxt("Place", "latitude 51.4774", zip=packed)
    info.add_text("Raw profile type exif", "stale")
    info.add_text("exif:Orientation", "6")
    Image.fromarray(PIXELS).save(tmp_path / "in.png", pnginfo=info)
    write(read(tmp_path / "in.png"), tmp_path / "all.png")
    assert set(said(tmp_path / "all.png")) == {*SAID, "Where", "Place"}
    write(read(tmp_path / "in.png"), tmp_path / "it.png", encoding=Encoding(strip_location=True))
    assert said(tmp_path / "it.png") == SAID


def test_damaged_texts_are_left_out(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "in.png", pnginfo=texts())
    content = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(content.replace(b"tEXtTitle\0N", b"tEXtTitle\0M"))
    assert len(texts_in(tmp_path / "in.png")) == 3
    for length in range(0, len(content), 7):
        (tmp_path / "cut.png").write_bytes(content[:length])
        assert isinstance(texts_in(tmp_path / "cut.png"), tuple)
    for bad in (b"zTXtA\0\0no zlib", b"iTXtA\0", b"iTXtA\0\1\0\0\0no zlib"):
        assert is_location_text(b"\0\0\0\0" + bad + b"\0\0\0\0")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_holds_exif_and_stays_readable(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "in.jpg", exif=block(">", 8), dpi=(300, 300))
    enhance_file(tmp_path / "in.jpg", tmp_path / "out.jpg", ENHANCER, FileOptions())
    with Image.open(tmp_path / "out.jpg") as result:
        result.load()
        assert (result.mode, result.size) == (mode, (40, 60))
        assert result.getexif()[0x010F] == "The Maker"
    assert raw_exif(tmp_path / "out.jpg").index(NOTE) == block(">").index(NOTE) - 6
    assert read(tmp_path / "out.jpg").conversion.kind == ("CMYK" if mode == "CMYK" else "")


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_a_profile_gets_none(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    Image.effect_noise((64, 48), 60).convert("RGB").convert("CMYK").save(source)
    picture = read(source)
    write(picture, tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert (image.mode, image.info.get("icc_profile")) == ("CMYK", None)
    assert (tmp_path / f"out{suffix}").stat().st_size < 40_000
    again = read(tmp_path / f"out{suffix}")
    assert again.conversion.kind == "CMYK"
    assert np.abs(again.pixels - picture.pixels).mean() < 0.02
