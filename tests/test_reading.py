"""Reading by rows equals reading as a whole: upright, with the conversion of colours recorded."""

import struct
import tempfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from onebranch.errors import OnebranchError
from onebranch.images.animation import Animation
from onebranch.images.colour_conversion import (
    ColourConversion,
    float_to_depth,
    lab_to_srgb,
    linear_to_srgb,
    srgb_to_lab,
    srgb_to_linear,
    to_float,
)
from onebranch.images.decoders import decoding, rotation
from onebranch.images.encoders.output_colours import output_colours
from onebranch.images.formats import FORMATS
from onebranch.images.libvips import pyvips
from onebranch.images.picture import Picture
from onebranch.images.probe import probe
from onebranch.images.profiles import classify_profile
from onebranch.images.reading import open_picture, read, read_animation

pytestmark = pytest.mark.fast


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def rows_of(path, count: int) -> np.ndarray:
    with open_picture(path) as reader:
        parts = []
        while len(part := reader.read(count)):
            assert len(part) <= count
            parts.append(part)
        return np.concatenate(parts)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".gif", ".bmp", ".ppm"])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_rows_together_are_the_picture(tmp_path, suffix, count):
    path = tmp_path / f"it{suffix}"
    Image.fromarray(noise(53, 31, 3)).save(path)
    with open_picture(path) as reader:
        layout = reader.header.layout
    whole = read(path).samples()
    assert whole.shape == (layout.height, layout.width, layout.bands)
    np.testing.assert_array_equal(rows_of(path, count), whole)


@pytest.fixture(params=["in memory", "in a temporary file"])
def spilled(request, monkeypatch):
    """Small pictures, rotated in memory and through a temporary file with bands of three rows."""
    if request.param != "in memory":
        monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(rotation, "MAX_IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(rotation, "BAND_BYTES", 3 * 9 * 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_pictures_come_upright_by_rows(tmp_path, spilled, orientation):
    path, exif = tmp_path / "it.png", Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(20, 9, 3)
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(rows_of(path, 4), expected)


def interlaced_png(path, samples: np.ndarray, orientation: int = 1, **options) -> None:
    """Written by libvips, which Pillow does not do."""
    spaces = ("b-w", "srgb") if samples.dtype == np.uint8 else ("grey16", "rgb16")
    image = pyvips.Image.new_from_array(samples, interpretation=spaces[samples.shape[2] > 2])
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.pngsave(str(path), interlace=True, **options)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (5, 2), (8, 8), (9, 17), (33, 30)])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_interlaced_pictures_come_in_order(tmp_path, spilled, size, depth, bands, count):
    path, samples = tmp_path / "it.png", (noise(*size, bands) * np.uint16(201)).astype(depth)
    interlaced_png(path, samples)
    np.testing.assert_array_equal(rows_of(path, count), samples)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_interlaced_palettes_and_rotations(tmp_path, monkeypatch, bits):
    path, colours = tmp_path / "it.png", noise(2**bits, 3)
    pixels = np.random.default_rng(1).integers(0, 2**bits, (29, 31))
    interlaced_png(path, colours[pixels], palette=True, bitdepth=bits, dither=0, orientation=6)
    expected = read(path).samples()
    monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rotation, "MAX_IN_MEMORY_BYTES", 0)
    np.testing.assert_array_equal(rows_of(path, 4), expected)


def test_interlaced_pictures_take_their_route(shared_data, tmp_path, monkeypatch):
    (path,) = (shared_data / "odd").glob("034_*")
    image = pyvips.Image.new_from_file(str(path)).crop(300, 300, 99, 77)
    image.pngsave(str(tmp_path / "it.png"), interlace=True)
    expected = read(tmp_path / "it.png")
    monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
    decoded = read(tmp_path / "it.png")
    assert decoded.conversion == expected.conversion and decoded.conversion.kind == "profile"
    np.testing.assert_array_equal(decoded.samples(), expected.samples())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], "it ends too soon"),
        (lambda content: content[:-16] + b"xxxx" + content[-12:], "checksum of its IDAT chunk is wrong"),
        (lambda content: content[:29] + b"x" + content[30:], "damaged or unsupported PNG"),
    ],
)
def test_damaged_interlaced_pictures_are_reported(tmp_path, monkeypatch, damage, words):
    monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
    path = tmp_path / "it.png"
    interlaced_png(path, noise(90, 80, 3))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(OnebranchError, match=words):
        read(path)


def test_interlaced_pictures_whose_data_is_wrong_or_short_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
    path = tmp_path / "it.png"
    interlaced_png(path, noise(40, 40, 3))
    content = path.read_bytes()
    head, tail = content[:33], chunk(b"IEND", b"")
    raw = bytes(40 * 121 - 1)
    for data, words in (
        (zlib.compress(raw[:3000]), "it ends too soon"),
        (b"\x78\x9c" + b"\xff" * 50, "compressed data is damaged"),
    ):
        path.write_bytes(head + chunk(b"IDAT", data) + tail)
        with pytest.raises(OnebranchError, match=words):
            read(path)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_no_space_for_a_temporary_file_is_reported(tmp_path, monkeypatch):
    path, exif = tmp_path / "it.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 9, 3)).save(path, exif=exif)
    monkeypatch.setattr(rotation, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(
        OnebranchError, match=r"temporary file, which cannot be created in '.*nowhere': no such file.*TMPDIR"
    ):
        read(path)


@pytest.mark.parametrize("make", [
    lambda path: Image.fromarray(noise(40, 31, 3)).save(path, "BMP"),
    lambda path: Image.fromarray(noise(40, 31, 4)).save(path, "BMP"),
    lambda path: Image.fromarray(noise(40, 31)).save(path, "BMP"),
    lambda path: Image.fromarray(noise(40, 31, 3)).quantize(16).save(path, "BMP"),
    lambda path: Image.fromarray(noise(40, 31)).convert("1").save(path, "BMP"),
    lambda path: Image.fromarray(noise(40, 31)).convert("1").save(path, "PPM"),
    lambda path: Image.fromarray(noise(40, 31, 3)).save(path, "ICO", sizes=[(31, 31)]),
])  # fmt: skip
@pytest.mark.parametrize("count", [1, 7, 100])
def test_rows_of_uncompressed_pictures_are_those_of_pillow(tmp_path, make, count):
    path = tmp_path / "it"
    make(path)
    with Image.open(path) as image:
        modes = {"1": "L", "P": "RGB"}
        expected = np.atleast_3d(np.asarray(image.convert(modes.get(image.mode, image.mode))))
    np.testing.assert_array_equal(rows_of(path, count), expected)


def test_a_bmp_with_a_palette_of_no_colours_is_reported(tmp_path):
    path = tmp_path / "it.bmp"
    Image.fromarray(noise(4, 4, 3)).quantize(16).save(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 10, 54)  # the samples begin where the palette is
    struct.pack_into("<I", content, 46, 257)
    path.write_bytes(content)
    with pytest.raises(OnebranchError, match="damaged or unsupported BMP"):
        read(path)


def test_an_uncompressed_picture_that_is_cut_is_reported(tmp_path):
    path = tmp_path / "it.bmp"
    Image.fromarray(noise(40, 31, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OnebranchError, match=r"it\.bmp': damaged.* ends too soon"):
        read(path)


WHOLE_DECODES = {
    "it.webp": (lambda image, path: image.webpsave(path), "a WebP picture of 400x300 pixels"),
    "it.avif": (lambda image, path: image.heifsave(path, compression="av1", effort=0), "an AVIF picture"),
    "it.gif": (lambda image, path: image.gifsave(path), "a GIF picture"),
    "it.jpg": (lambda image, path: image.jpegsave(path, interlace=True), "a progressive JPEG of 400x300"),
    "it.jp2": (lambda image, path: Image.fromarray(image.numpy()).save(path), "a JPEG 2000 picture"),
    "one.tif": (lambda image, path: image.tiffsave(path, compression="jpeg", tile_height=300), "300 rows"),
    "big.tif": (
        lambda image, path: image.tiffsave(path, compression="lzw", tile_height=300, bigtiff=True),
        "a TIFF with strips of 300 rows",
    ),
    "tiles.tif": (
        lambda image, path: image.tiffsave(path, tile=True, tile_width=256, tile_height=256),
        "a TIFF with tiles of 256x256 pixels",
    ),
}


@pytest.mark.parametrize("name", WHOLE_DECODES)
def test_what_is_decoded_as_a_whole_is_held_against_the_memory(tmp_path, name):
    make, words = WHOLE_DECODES[name]
    image = pyvips.Image.new_from_array(noise(300, 400, 3))
    make(image, str(tmp_path / name))
    with pytest.raises(OnebranchError, match=rf"cannot read .*{words}.* needs about 0.0 GB .*--memory"):
        open_picture(tmp_path / name, memory=200_000)
    assert read(tmp_path / name, memory=400 * 300 * 20).width == 400


@pytest.mark.parametrize(
    "name", ["it.png", "interlaced.png", "it.jpg", "strips.tif", "it.bmp", "it.ppm", "tiles.tif"]
)
def test_what_comes_by_rows_needs_no_memory(tmp_path, name):
    image = pyvips.Image.new_from_array(noise(300, 400, 3))
    if name in ("it.bmp", "it.ppm"):
        Image.fromarray(image.numpy()).save(tmp_path / name)
    else:
        options = {
            "interlaced.png": {"interlace": True},
            "strips.tif": {"tile_height": 16, "compression": "jpeg"},
            "tiles.tif": {"tile": True, "tile_width": 16, "tile_height": 16},
        }
        image.write_to_file(str(tmp_path / name), **options.get(name, {}))
    assert read(tmp_path / name, memory=40_000).width == 400


@pytest.mark.parametrize(
    ("name", "words"),
    [("it.png", "a picture of 200000x30 pixels"), ("it.tif", "a TIFF with strips of 30 rows")],
)
def test_very_wide_rows_are_held_against_the_memory(tmp_path, name, words):
    pyvips.Image.black(200_000, 30, bands=3).copy(interpretation="srgb").write_to_file(str(tmp_path / name))
    with pytest.raises(OnebranchError, match=f"{words} needs about"):
        read(tmp_path / name, memory=14_000_000)
    assert read(tmp_path / name, memory=36_000_000).height == 30


def test_lab_is_converted_beyond_srgb_and_back():
    grid = [np.linspace(0, 100, 7), np.linspace(-120, 120, 7), np.linspace(-120, 120, 7)]
    lab = np.stack(np.meshgrid(*grid), -1).reshape(7, 49, 3).astype(np.float32)
    image = vips(lab).copy(interpretation="lab")
    shown = lab_to_srgb(image)
    assert shown.min() < -1
    assert shown.max() > 1.5
    np.testing.assert_allclose(srgb_to_lab(shown).numpy(), lab, atol=1e-3)


def test_lab_of_srgb_colours_is_that_of_a_profile():
    """The formulas against libvips' sRGB profile through Little CMS."""
    image = pyvips.Image.new_from_array(noise(16, 16, 3), interpretation="srgb")
    expected = image.icc_import(input_profile="srgb", pcs="lab", intent="relative")
    actual = srgb_to_lab(to_float(image))
    difference = actual.dE00(expected)
    assert difference.avg() < 0.02
    assert difference.max() < 0.2  # in the dark, where the profile's curve is a table


def test_all_frames_are_held_against_the_memory(tmp_path):
    path = tmp_path / "it.gif"
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert len(read_animation(path, memory=200_000).frames) == 3
    with pytest.raises(OnebranchError, match="an animation of 3 frames of 100x100 pixels"):
        read_animation(path, memory=150_000)


def test_damage_further_down_is_reported_when_it_is_met(tmp_path):
    path = tmp_path / "it.png"
    Image.fromarray(noise(400, 300, 3)).save(path)
    path.write_bytes(path.read_bytes()[:200_000])
    with open_picture(path) as reader:
        assert reader.header.layout.height == 400
        with pytest.raises(OnebranchError, match=r"cannot read '.*it\.png': damaged or unsupported PNG"):
            reader.read(400)


def test_frames_come_with_their_timing(tmp_path):
    path = tmp_path / "it.gif"
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[50, 120, 80], loop=0)
    decoded = read_animation(path)
    assert probe(path).frames == 3
    assert decoded.delays == (50, 120, 80)
    assert decoded.loop == 0
    shown = [tuple(frame.pixels[5, 5].tolist()) for frame in decoded.frames]
    assert shown == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    with pytest.raises(OnebranchError, match="12x30 pixels, more than the limit of 300"):
        read_animation(path, max_pixels=300)
    assert read(path, max_pixels=300).notes == ("only the first of 3 frames",)


def test_a_still_picture_is_one_frame(tmp_path):
    path = tmp_path / "it.png"
    Image.fromarray(noise(4, 5)).save(path)
    assert probe(path).frames == 1
    assert len(read_animation(path).frames) == 1


def test_an_avif_that_lies_about_its_size_is_refused(tmp_path, capfd):
    path = tmp_path / "it.avif"
    Image.fromarray(noise(33, 47, 3)).save(path)
    sound = path.read_bytes()
    offset = sound.index(b"ispe") + 8
    for width, words in (
        (2**31 - 1, "2147483647x33 pixels; a picture has at most 100000000"),
        (5000, "limit of 9999"),
    ):
        path.write_bytes(sound[:offset] + width.to_bytes(4, "big") + sound[offset + 4 :])
        with pytest.raises(OnebranchError, match=words):
            read(path, max_pixels=9999)
    assert capfd.readouterr() == ("", "")


def test_pillow_says_nothing_of_an_icon_of_another_size(tmp_path):
    path = tmp_path / "it.ico"
    Image.fromarray(noise(16, 16, 4)).save(path, sizes=[(16, 16)])
    content = bytearray(path.read_bytes())
    content[7] = 11  # the height that the directory says
    path.write_bytes(content)
    assert read(path).samples().shape == (16, 16, 4)


def test_an_animation_needs_a_delay_for_each_frame():
    with pytest.raises(OnebranchError, match="1 frame and 2 delays"):
        Animation((Picture(noise(2, 2, 1)),), (1, 2))


def vips(values: np.ndarray):
    height, width, bands = values.shape
    return pyvips.Image.new_from_memory(values.tobytes(), width, height, bands, "float")


@pytest.mark.parametrize(
    ("there", "back", "low", "high"),
    [(linear_to_srgb, srgb_to_linear, -0.5, 1.3), (srgb_to_lab, lab_to_srgb, 0, 1)],
)
def test_transfers_and_lab_are_undone(there, back, low, high):
    values = np.random.default_rng(1).uniform(low, high, (16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(back(there(vips(values))).numpy(), values, atol=2e-4)


def test_middle_grey_is_encoded_as_the_standard_says():
    image = vips(np.full((1, 1, 3), 0.214041, np.float32))
    assert linear_to_srgb(image).numpy() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_linear_light_goes_back_to_the_samples_of_the_file(depth):
    samples = np.arange(256, dtype=depth).reshape(16, 16, 1) * (1 if depth == "uint8" else 257)
    image = pyvips.Image.new_from_array(samples)
    back = ColourConversion("", depth, "linear").restore(linear_to_srgb(to_float(image)), depth)
    np.testing.assert_array_equal(np.atleast_3d(back.numpy()), samples)


def test_depths_round_and_clip():
    image = vips(np.array([[[-0.5, 0.5, 2.0]]], np.float32))
    assert float_to_depth(image, "uint8").numpy().ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("name", ["srgb", "p3"])
def test_ordinary_profiles_need_no_route(name):
    assert classify_profile(profile_of(name), 3) == ""


def profile_of(name: str) -> bytes:
    """One of libvips' own profiles."""
    return bytes(pyvips.Operation.call("profile_load", name))


def test_what_is_no_profile_is_damaged():
    assert classify_profile(b"\0" * 200, 3) == "damaged"


def test_the_permuting_profile_takes_a_route_and_comes_back(shared_data):
    (path,) = (shared_data / "odd").glob("034_*")
    decoded = read(path)
    assert (decoded.conversion.kind, decoded.conversion.depth, decoded.metadata.icc) == (
        "profile",
        "uint8",
        None,
    )
    back = decoded.conversion.restore(vips(decoded.samples()), "uint8")
    with Image.open(path) as image:
        original = np.asarray(image).astype(int)
    seen = original[..., 3] > 0
    difference = np.abs(back.numpy().astype(int) - original)[seen]
    assert difference.max() <= 5
    assert difference.mean() < 0.5
    assert back.get("icc-profile-data") == decoded.conversion.profile


@pytest.mark.parametrize("number", ["037", "103"])
def test_cmyk_comes_back_as_the_same_colours(shared_data, number):
    (path,) = (shared_data / "odd").glob(f"{number}_*")
    decoded = read(path)
    original = pyvips.Image.new_from_file(str(path))
    back = decoded.conversion.restore(vips(decoded.samples()), "uint8")
    assert (back.interpretation, back.bands) == ("cmyk", 4)
    lab = [image.icc_import(embedded=True, pcs="lab", intent="relative") for image in (original, back)]
    assert lab[0].dE00(lab[1]).avg() < 1


@pytest.mark.parametrize(("depth", "error"), [("uint8", 1e-6), ("uint16", 1e-3), ("float32", 1e-4)])
def test_lab_is_written_as_lab_and_read_the_same(shared_data, tmp_path, depth, error):
    (path,) = (shared_data / "odd").glob("101_*")
    decoded = read(path)
    image = decoded.conversion.restore(vips(decoded.samples()), depth)
    image.tiffsave(str(tmp_path / "it.tif"))
    again = read(tmp_path / "it.tif")
    assert again.conversion.kind == "Lab"
    assert again.conversion.depth == depth
    assert np.abs(again.pixels - decoded.pixels).max() <= error


def test_a_format_without_these_colours_gets_srgb(shared_data):
    (path,) = (shared_data / "odd").glob("037_*")
    decoded = read(path)
    back = output_colours(decoded.header, FORMATS["PNG"]).convert(vips(decoded.samples()))
    assert (back.interpretation, back.bands) == ("srgb", 3)
    assert not back.get_typeof("icc-profile-data")


def test_temporary_files_have_no_name(tmp_path, monkeypatch):
    """So that a process that is killed leaves none."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(decoding, "MAX_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rotation, "MAX_IN_MEMORY_BYTES", 0)
    made = []
    monkeypatch.setattr(tempfile, "TemporaryFile", counting(tempfile.TemporaryFile, made))
    interlaced_png(tmp_path / "it.png", noise(40, 30, 3), orientation=6)
    with open_picture(tmp_path / "it.png") as reader:
        reader.read(1)
        assert len(made) == 8  # seven passes, and the turned picture
        assert list(folder.iterdir()) == []


def counting(function, calls: list):
    def counted(*given, **named):
        calls.append(given)
        return function(*given, **named)

    return counted
