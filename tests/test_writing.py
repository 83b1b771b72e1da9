"""Writing row by row gives the same files as writing at once, with the requested options, or no file."""

import gc
import resource
import signal
import struct
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colour_profiles import profile
from onebranch.errors import OnebranchError
from onebranch.images import writing
from onebranch.images.colour_conversion import ColourConversion
from onebranch.images.encoders import encoding as encoding_module
from onebranch.images.encoders.encoding import COMPRESSIONS, DEFAULT_ENCODING, DEFAULT_QUALITY, Encoding
from onebranch.images.encoders.pipe import Pipe
from onebranch.images.formats import FORMATS
from onebranch.images.libvips import pyvips
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.rows import Header, Layout
from onebranch.images.samples import WHITE_LEVELS, as_depth
from onebranch.images.writing import Writer, bytes_for_writing, check_target, write

SIZE = (37, 21)
SUFFIX = {name: file_format.suffixes[0] for name, file_format in FORMATS.items()}

CASES = [
    (name, depth, channels, alpha)
    for name, file_format in FORMATS.items()
    for depth in WHITE_LEVELS
    for channels in (1, 3)
    for alpha in ((False, True) if file_format.alpha else (False,))
]

ROUTES = {
    "linear": ColourConversion("linear", "uint16", "linear"),
    "profile": ColourConversion("profile", "uint8", "profile", profile("p3")),
    "CMYK": ColourConversion("CMYK", "uint8", "CMYK"),
    "Lab": ColourConversion("Lab", "uint16", "Lab"),
    "Lab of 8 bits": ColourConversion("Lab", "uint8", "Lab"),
}


def picture(channels=3, depth="uint8", alpha=False, size=SIZE, seed=0):
    """Noise, partly transparent if it has alpha."""
    values = np.random.default_rng(seed).random((*size, channels + 1))
    samples = as_depth(values.astype(np.float32), depth)
    return Picture(samples[..., :channels].copy(), samples[..., channels].copy() if alpha else None)


def write_by_rows(original, path, cuts, encoding=None):
    samples = original.samples()
    with Writer(path, original.header, encoding or Encoding()) as writer:
        for rows in np.split(samples, cuts):
            writer.write(rows)


@pytest.fixture
def piped(monkeypatch):
    """Rows are piped to the encoder as they come, whatever the size of the picture."""
    monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", 0)
    monkeypatch.setattr("onebranch.images.encoders.pipe.PIPED_BYTES", 500)


@pytest.fixture(autouse=True)
def no_thread_left():
    """Every test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        assert not thread.name.startswith("writing"), "a thread of writing is left"


@pytest.mark.parametrize(("name", "depth", "channels", "alpha"), CASES)
def test_any_cut_gives_the_same_file(tmp_path, monkeypatch, name, depth, channels, alpha):
    original = picture(channels, depth, alpha)
    if not FORMATS[name].alpha:
        original = replace(original, alpha=None)
    suffix = SUFFIX[name]
    write(original, tmp_path / f"whole{suffix}")
    expected = (tmp_path / f"whole{suffix}").read_bytes()
    for held in (writing.MAX_COLLECTED_BYTES, 0):
        monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", held)
        for number, cuts in enumerate(([1], [20, 21, 36], list(range(1, SIZE[0])))):
            path = tmp_path / f"{held}-{number}{suffix}"
            write_by_rows(original, path, cuts)
            assert path.read_bytes() == expected


WITH_ALPHA = [(name, alpha) for name, file_format in FORMATS.items() for alpha in {False, file_format.alpha}]


@pytest.mark.parametrize("kind", list(ROUTES))
@pytest.mark.parametrize(("name", "alpha"), WITH_ALPHA)
def test_any_cut_gives_the_same_file_on_every_route(tmp_path, piped, name, kind, alpha):
    original = replace(picture(3, "float32", alpha), conversion=ROUTES[kind])
    path, whole = tmp_path / f"rows{SUFFIX[name]}", tmp_path / f"whole{SUFFIX[name]}"
    write(original, whole)
    write_by_rows(original, path, [1, 5, 6, 30])
    assert path.read_bytes() == whole.read_bytes()


def test_large_pictures_go_through_the_pipe_and_small_ones_do_not(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(writing, "Pipe", lambda *a: used.append(1) or Pipe(*a))
    write_by_rows(picture(), tmp_path / "small.png", [9])
    assert used == []
    monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", 37 * 21 * 3 - 1)
    write_by_rows(picture(), tmp_path / "large.png", [9])
    assert used == [1]


class StopError(Exception):
    """An error of the code that produces the rows."""


SUFFIXES = [".png", ".tif", ".jpg", ".webp", ".gif", ".bmp", ".ppm"]


@pytest.mark.parametrize("problem", [StopError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("given", [0, 1, 30, 37])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_when_the_producer_fails(tmp_path, piped, suffix, given, problem):
    original = picture()

    def produce():
        with Writer(tmp_path / f"it{suffix}", original.header) as writer:
            for row in original.samples()[:given, None]:
                writer.write(row)
            raise problem

    with pytest.raises(problem):
        produce()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [0, 1 << 20])
@pytest.mark.parametrize("given", [0, 1, 36])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_rows_are_reported(tmp_path, monkeypatch, suffix, given, held):
    monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", held)
    original = picture()
    writer = Writer(tmp_path / f"it{suffix}", original.header)
    if given:
        writer.write(original.samples()[:given])
    with pytest.raises(OnebranchError, match=f"rows are missing: {37 - given}"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [0, 1 << 20])
def test_an_encoder_that_fails_is_reported_in_one_line(tmp_path, monkeypatch, held):
    monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", held)
    monkeypatch.setattr(
        encoding_module, "_tiff_options", lambda *_: {"compression": "deflate", "predictor": "float"}
    )
    with pytest.raises(OnebranchError, match=r"cannot write '.*it\.tif' as TIFF: ") as caught:
        write_by_rows(picture(size=(600, 600)), tmp_path / "it.tif", range(1, 600))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk():
    """Limits files to 100 kB, which simulates a full disk."""
    usual, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, usual)


@pytest.mark.parametrize("held", [0, 64 << 20])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".avif"])
def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, small_disk, suffix, held
):
    monkeypatch.setattr(writing, "MAX_COLLECTED_BYTES", held)
    original = picture(size=(400, 500))
    with pytest.raises(OnebranchError, match=r"cannot write '.*': file too large") as caught:
        write_by_rows(original, tmp_path / f"it{suffix}", range(10, 400, 10), Encoding(quality=100))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_taken_before_or_meanwhile_stays_what_it_was(tmp_path, piped):
    path, original = tmp_path / "it.png", picture()
    path.write_text("mine")
    with pytest.raises(OnebranchError, match="it exists"):
        Writer(path, original.header)
    path.unlink()
    writer = Writer(path, original.header)
    writer.write(original.samples()[:5])
    assert not path.exists()
    path.write_text("another program's")
    writer.write(original.samples()[5:])
    with pytest.raises(OnebranchError, match="it exists"):
        writer.close()
    assert path.read_text() == "another program's"
    assert list(tmp_path.iterdir()) == [path]
    with Writer(path, original.header, overwrite=True) as writer:
        writer.write(original.samples())
        assert path.read_text() == "another program's"
    np.testing.assert_array_equal(read(path).pixels, original.pixels)


def test_no_descriptor_is_left_open(tmp_path, piped):
    def opened():
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    write(picture(), tmp_path / "first.png")
    before = opened()
    for number, suffix in enumerate(SUFFIXES):
        write_by_rows(picture(), tmp_path / f"{number}{suffix}", [3])
        writer = Writer(tmp_path / f"{number}b{suffix}", picture().header)
        writer.write(picture().samples()[:7])
        with pytest.raises(OnebranchError, match="rows are missing"):
            writer.close()
    pyvips.cache_set_max(0)
    pyvips.cache_set_max(100)
    assert opened() <= before


def directory(path):
    """A TIFF's version, and its first directory as numbers: {tag: (type, count, first value or offset)}."""
    content = path.read_bytes()
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    (version,) = struct.unpack_from(order + "H", content, 2)
    big = version == 43
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, first)
    start, length = first + (8 if big else 2), 20 if big else 12
    file_format = order + ("HHQQ" if big else "HHII")
    entries = [struct.unpack_from(file_format, content, start + length * i) for i in range(count)]
    return version, {tag: rest for tag, *rest in entries}


def test_a_tiff_beyond_four_gigabytes_is_big(tmp_path, monkeypatch):
    original = picture(size=(300, 21))
    write(original, tmp_path / "small.tif")
    monkeypatch.setattr(encoding_module, "MAX_CLASSIC_TIFF_BYTES", 300 * 21 * 3 - 1)
    write(original, tmp_path / "large.tif")
    for path, version in ((tmp_path / "small.tif", 42), (tmp_path / "large.tif", 43)):
        assert directory(path)[0] == version
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), original.pixels)
        np.testing.assert_array_equal(read(path).pixels, original.pixels)


@pytest.mark.parametrize(("width", "rows"), [(21, 128), (40_000, 64), (300_000, 16)])
def test_strips_of_a_tiff_are_small(tmp_path, width, rows):
    write(Picture(np.zeros((160, width, 3), np.uint8)), tmp_path / "it.tif")
    _, tags = directory(tmp_path / "it.tif")
    assert tags[278][2] % 65536 == rows  # RowsPerStrip
    assert width * 3 * rows <= max(encoding_module.TIFF_STRIP_BYTES, width * 3 * 16)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("depth", list(WHITE_LEVELS))
@pytest.mark.parametrize("channels", [1, 3])
def test_compressions_of_tiff_are_lossless_everywhere(tmp_path, compression, depth, channels):
    original = picture(channels, depth, size=(200, 30))
    write(original, tmp_path / "it.tif", encoding=Encoding(compression=compression))
    number = directory(tmp_path / "it.tif")[1][259][2] & 0xFFFF
    assert number == {"none": 1, "lzw": 5, "deflate": 8}[compression]
    np.testing.assert_array_equal(read(tmp_path / "it.tif").pixels, original.pixels)
    if depth == "uint8" or channels == 1:  # Pillow does not support the others
        with Image.open(tmp_path / "it.tif") as image:
            np.testing.assert_array_equal(np.atleast_3d(np.asarray(image)), original.pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 20, 21])
def test_bmp_is_what_pillow_reads(tmp_path, channels, width):
    original = picture(channels, size=(9, width))
    write(original, tmp_path / "it.bmp")
    with Image.open(tmp_path / "it.bmp") as image:
        assert image.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.atleast_3d(np.asarray(image)), original.pixels)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ppm_is_what_other_decoders_read(tmp_path, depth, channels):
    cv2 = pytest.importorskip("cv2")
    original = picture(channels, depth)
    path = tmp_path / ("it.pgm" if channels == 1 else "it.ppm")
    write(original, path)
    back = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))[..., ::-1]
    assert back.dtype == depth
    np.testing.assert_array_equal(back, original.pixels)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_png_is_what_other_decoders_read(tmp_path, piped, depth, channels, alpha):
    cv2 = pytest.importorskip("cv2")
    original = picture(channels, depth, alpha)
    write_by_rows(original, tmp_path / "it.png", [4, 11])
    back = np.atleast_3d(cv2.imread(str(tmp_path / "it.png"), cv2.IMREAD_UNCHANGED))
    assert back.dtype == depth
    if alpha:
        np.testing.assert_array_equal(back[..., 3], original.alpha)
    colours = back[..., 2::-1]  # OpenCV has blue first, and grey with alpha as three
    np.testing.assert_array_equal(colours[..., -original.channels :], original.pixels)


def factors(path):
    """The sampling factors in a JPEG's frame header (ITU-T T.81, B.2.2)."""
    content, at = path.read_bytes(), 2
    while content[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    count = content[at + 9]
    return [content[at + 11 + 3 * i] for i in range(count)]


@pytest.mark.parametrize(
    ("encoding", "luma"),
    [
        (Encoding(), 0x11),
        (Encoding(quality=89), 0x22),
        (Encoding(quality=90), 0x11),
        (Encoding(quality=50, subsampling="444"), 0x11),
        (Encoding(quality=100, subsampling="420"), 0x22),
    ],
)
def test_subsampling_is_as_requested(tmp_path, encoding, luma):
    write(picture(), tmp_path / "it.jpg", encoding=encoding)
    assert factors(tmp_path / "it.jpg") == [luma, 0x11, 0x11]
    write(picture(1), tmp_path / "grey.jpg", encoding=encoding)
    assert factors(tmp_path / "grey.jpg") == [0x11]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality_is_as_requested_and_has_a_default(tmp_path, suffix):
    def bytes_at(quality):
        path = tmp_path / f"{quality}{suffix}"
        write(picture(size=(64, 64)), path, encoding=Encoding(quality=quality), overwrite=True)
        return path.read_bytes()

    default = DEFAULT_QUALITY[FORMATS[next(n for n, s in SUFFIX.items() if s == suffix)].name]
    assert bytes_at(None) == bytes_at(default)
    assert 2 * len(bytes_at(10)) < len(bytes_at(default)) < len(bytes_at(100))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_lossless_is_exact_under_transparency_too(tmp_path, suffix, channels, alpha):
    original = picture(channels, alpha=alpha)
    if alpha:
        original = replace(original, alpha=original.alpha // 128 * 255)
    write(original, tmp_path / f"it{suffix}", lossless=True)
    with Image.open(tmp_path / f"it{suffix}") as image:
        back = np.asarray(image)
    expected = original.pixels if channels == 3 else np.repeat(original.pixels, 3, axis=2)
    np.testing.assert_array_equal(back[..., :3], expected)
    if alpha:
        np.testing.assert_array_equal(back[..., 3], original.alpha)


def test_levels_of_png_are_as_requested(tmp_path):
    smooth = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)[..., None]
    sizes = []
    for level in (0, 1, 9):
        write(Picture(smooth), tmp_path / f"{level}.png", encoding=Encoding(level=level))
        sizes.append((tmp_path / f"{level}.png").stat().st_size)
        np.testing.assert_array_equal(read(tmp_path / f"{level}.png").pixels, smooth)
    assert sizes[0] > 60_000 > sizes[1] > sizes[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 0}, "quality 0 is out of range; it must be 1 to 100"),
        ({"level": 10}, "level 10 is out of range"),
        ({"subsampling": "422"}, "unknown chroma subsampling '422'"),
        ({"compression": "zip"}, "unknown compression of TIFF 'zip'"),
    ],
)
def test_invalid_encoding_options_are_refused(options, words):
    with pytest.raises(OnebranchError, match=words):
        Encoding(**options)


@pytest.mark.parametrize("name", ["JPEG", "WebP", "AVIF", "GIF"])
def test_the_largest_side_of_a_format_is_checked_before_work(tmp_path, name):
    """The largest side is written and read again, one more is refused."""
    side, path = FORMATS[name].max_side, tmp_path / f"it{SUFFIX[name]}"
    write(Picture(np.zeros((1, side, 3), np.uint8)), path)
    assert read(path).width == side
    for size in ((1, side + 1), (side + 1, 1)):
        header = Header(
            replace(Picture(np.zeros((1, 1, 3), np.uint8)).header.layout, height=size[0], width=size[1])
        )
        with pytest.raises(OnebranchError, match=f"{name} is limited to {side} pixels per side"):
            check_target(path, header)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("depth", list(WHITE_LEVELS))
def test_pictures_wider_than_a_million_pass(tmp_path, piped, suffix, depth):
    """libpng refuses more by default."""
    original = Picture(np.random.default_rng(0).random((3, 1_000_001, 1)).astype(np.float32))
    original = Picture(as_depth(original.pixels, depth))
    write_by_rows(original, tmp_path / f"it{suffix}", [1])
    back = read(tmp_path / f"it{suffix}").pixels
    np.testing.assert_array_equal(back, as_depth(original.pixels, back.dtype.name))


def test_the_memory_of_encoders_is_predicted():
    """Encoders of whole pictures take grey as RGB, and need more for lossless; others keep a few rows."""

    def bytes_for(suffix, channels=3, depth="uint8", encoding=DEFAULT_ENCODING, height=50_000):
        header = Header(Layout(height, 2000, channels, False, depth))
        return bytes_for_writing(Path(f"it{suffix}"), header, encoding)

    for suffix in (".webp", ".gif", ".avif"):
        assert bytes_for(suffix) >= 5 * 50_000 * 2000 * 3
        assert bytes_for(suffix, 1) > 0.9 * bytes_for(suffix)
        assert bytes_for(suffix, depth="float32") < 1.1 * bytes_for(suffix)
    assert bytes_for(".webp", encoding=Encoding(lossless=True)) > 1.4 * bytes_for(".webp")
    for suffix in (".png", ".tif", ".jpg", ".bmp", ".ppm"):
        assert bytes_for(suffix) == bytes_for(suffix, height=5_000)
        assert bytes_for(suffix, depth="uint16") == 2 * bytes_for(suffix)
