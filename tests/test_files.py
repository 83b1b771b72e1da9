"""Reading and writing pictures: what is kept, what is refused, and that nothing is ever half-written."""

import errno
import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError
from onebranch.images.density import Density
from onebranch.images.folders import find_pictures
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import as_depth
from onebranch.images.writing import write

TOP = {"uint8": 255, "uint16": 65535, "float32": 1}


def samples(shape, depth="uint8", seed=0):
    """Noise over the whole range, and beyond it where the type allows."""
    rng = np.random.default_rng(seed)
    if depth == "float32":
        return rng.uniform(-0.5, 1.5, shape).astype(np.float32)
    return rng.integers(0, TOP[depth] + 1, shape).astype(depth)


def picture(channels=3, depth="uint8", alpha=False, size=(13, 17), metadata=None):
    pixels = samples((*size, channels), depth)
    return Picture(pixels, samples(size, depth, 1) if alpha else None, metadata or Metadata())


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Maker"
    return tags.tobytes()


def orientation_of(block):
    tags = Image.Exif()
    tags.load(block)
    return tags.get(0x0112)


KEEPS = [  # lossless formats: suffix, depths, alpha, whether greyscale stays greyscale
    (".png", ("uint8", "uint16"), True, True),
    (".tif", ("uint8", "uint16", "float32"), True, True),
    (".webp", ("uint8",), True, False),
    (".bmp", ("uint8",), False, True),
    (".ppm", ("uint8",), False, True),
]

MATRIX = [
    (suffix, depth, channels, alpha)
    for suffix, depths, has_alpha, has_grey in KEEPS
    for depth in depths
    for channels in ((1, 3) if has_grey else (3,))
    for alpha in ((False, True) if has_alpha else (False,))
]


@pytest.mark.fast
@pytest.mark.parametrize(("suffix", "depth", "channels", "alpha"), MATRIX)
def test_what_a_lossless_format_can_hold_comes_back(tmp_path, suffix, depth, channels, alpha):
    original = picture(channels, depth, alpha)
    write(original, tmp_path / f"it{suffix}", lossless=True)
    back = read(tmp_path / f"it{suffix}")
    assert back.pixels.dtype == original.pixels.dtype
    if alpha:
        np.testing.assert_array_equal(back.alpha, original.alpha)
        shown = original.alpha > 0  # WebP may change the colour of fully transparent pixels
        np.testing.assert_array_equal(back.pixels[shown], original.pixels[shown])
    else:
        assert back.alpha is None
        np.testing.assert_array_equal(back.pixels, original.pixels)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("suffix", "limit"), [(".jpg", 3), (".jpeg", 3), (".webp", 6), (".avif", 8), (".gif", 40)]
)
def test_lossy_formats_come_back_near(tmp_path, suffix, limit):
    ramp = np.linspace(0, 255, 48)
    pixels = np.stack(
        [np.add.outer(ramp, 255 - ramp) / 2, np.tile(ramp, (48, 1)), np.tile(ramp, (48, 1)).T], 2
    )
    write(Picture(pixels.astype(np.uint8)), tmp_path / f"it{suffix}", quality=95)
    back = read(tmp_path / f"it{suffix}").pixels.astype(float)
    assert back.shape == (48, 48, 3)
    assert np.abs(back - pixels).mean() < limit


@pytest.mark.fast
def test_greyscale_jpeg_stays_greyscale(tmp_path):
    write(picture(1), tmp_path / "it.jpg")
    assert read(tmp_path / "it.jpg").channels == 1


@pytest.mark.fast
def test_quality_is_heeded(tmp_path):
    for quality in (10, 90):
        write(picture(size=(64, 64)), tmp_path / f"{quality}.jpg", quality=quality)
    assert (tmp_path / "10.jpg").stat().st_size * 2 < (tmp_path / "90.jpg").stat().st_size
    with pytest.raises(OnebranchError, match="quality 101 is out of range"):
        write(picture(), tmp_path / "it.jpg", quality=101)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "depth", "expected"),
    [
        (np.array([0, 128, 129, 385, 386, 65535], np.uint16), "uint8", [0, 0, 1, 1, 2, 255]),
        (np.array([0, 1, 255], np.uint8), "uint16", [0, 257, 65535]),
        (np.array([-1, 0.5, 2], np.float32), "uint16", [0, 32768, 65535]),
        (np.array([0, 51, 255], np.uint8), "float32", [0, np.float32(0.2), 1]),
    ],
)
def test_depths_convert_by_rounding(values, depth, expected):
    result = as_depth(values, depth)
    assert result.dtype == depth
    assert result.tolist() == expected


@pytest.mark.fast
@pytest.mark.parametrize("depth", ["uint16", "float32"])
def test_every_8_bit_value_survives_a_deeper_type(depth):
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(as_depth(as_depth(values, depth), "uint8"), values)


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_profile_and_resolution_are_kept(tmp_path, suffix, channels):
    profile = srgb_profile() if channels == 3 else None
    write(
        picture(channels, metadata=Metadata(icc=profile, density=Density(4.0, 4.0))), tmp_path / f"it{suffix}"
    )
    back = read(tmp_path / f"it{suffix}").metadata
    assert back.icc == profile
    if suffix in (".png", ".jpg", ".tif"):
        assert (back.density.x, back.density.y) == pytest.approx((4, 4), rel=0.02)


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_exif_and_xmp_are_kept(tmp_path, suffix):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>'
    write(picture(metadata=Metadata(exif=exif(1), xmp=xmp)), tmp_path / f"it{suffix}")
    back = read(tmp_path / f"it{suffix}").metadata
    assert b"Maker" in back.exif
    assert xmp in back.xmp


def as_stored(pixels, orientation):
    """How a camera of that orientation stores the upright pixels, by Pillow's words for it."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown turned clockwise, so stored turned counter-clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(pixels)
    return image.transpose(turn[orientation]) if orientation in turn else image


@pytest.mark.fast
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_orientation_is_applied_once_and_reset(tmp_path, orientation, alpha, suffix):
    upright = samples((9, 14, 4 if alpha else 3))
    xmp = b'<x:xmpmeta><r tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    options = {"xmp": xmp, "lossless": True, "exact": True} if suffix == ".webp" else {}
    source = tmp_path / f"in{suffix}"
    as_stored(upright, orientation).save(source, exif=exif(orientation), **options)
    first = read(source)
    np.testing.assert_array_equal(first.pixels, upright[..., :3])
    assert (first.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(first.alpha, upright[..., 3])
    assert orientation_of(first.metadata.exif) == 1
    assert suffix == ".png" or b'tiff:Orientation="1"' in first.metadata.xmp
    write(first, tmp_path / "out.png")
    again = read(tmp_path / "out.png")
    np.testing.assert_array_equal(again.pixels, first.pixels)
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "Maker"


@pytest.mark.fast
@pytest.mark.parametrize("mode", ["P", "1", "RGBA-palette"])
def test_palette_and_one_bit_become_what_they_show(tmp_path, mode):
    image = Image.fromarray(samples((12, 10, 4 if mode == "RGBA-palette" else 3)))
    image = image.quantize(16) if mode == "RGBA-palette" else image.convert(mode)
    image.save(tmp_path / "it.png")
    shown = np.asarray(image.convert({"P": "RGB", "1": "L", "RGBA-palette": "RGBA"}[mode]))
    back = read(tmp_path / "it.png")
    planes = [back.pixels] if back.alpha is None else [back.pixels, back.alpha[..., None]]
    np.testing.assert_array_equal(np.concatenate(planes, 2), np.atleast_3d(shown))


@pytest.mark.fast
def test_first_frame_of_an_animation_with_a_note(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "it.gif", save_all=True, append_images=frames[1:])
    decoded = read(tmp_path / "it.gif")
    assert decoded.pixels.shape == (10, 20, 3)
    assert np.all(decoded.pixels == (255, 0, 0))
    assert decoded.notes == ("only the first of 3 frames",)


@pytest.mark.fast
def test_cmyk_becomes_srgb_with_a_note(tmp_path):
    Image.new("CMYK", (8, 6), (0, 0, 0, 0)).save(tmp_path / "it.jpg")
    decoded = read(tmp_path / "it.jpg")
    assert decoded.pixels.shape == (6, 8, 3)
    assert as_depth(decoded.pixels, "uint8").min() >= 250
    assert decoded.notes == ("CMYK converted to sRGB by a common press profile",)


@pytest.mark.fast
def test_content_counts_not_the_name(tmp_path):
    write(picture(), tmp_path / "it.png")
    (tmp_path / "it.png").rename(tmp_path / "it.jpg")
    np.testing.assert_array_equal(read(tmp_path / "it.jpg").pixels, picture().pixels)


@pytest.mark.fast
@pytest.mark.parametrize("name", ["größe 写真.png", "a[page=1].png", "x" * 240 + ".png", "-n.png", "50%.png"])
def test_any_name_will_do(tmp_path, name):
    write(picture(), tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).pixels, picture().pixels)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".gif"])
def test_a_file_that_changed_is_read_anew(tmp_path, suffix):
    path = tmp_path / f"it{suffix}"
    for grey in (30, 200):
        write(Picture(np.full((8, 8, 3), grey, np.uint8)), path, overwrite=True)
        assert abs(int(read(path).pixels[0, 0, 0]) - grey) <= 1


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".ppm", ".avif"])
def test_a_file_cut_short_is_refused_in_one_line(tmp_path, suffix):
    write(picture(size=(60, 50)), tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for part in range(8):
        cut.write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(OnebranchError) as caught:
            read(cut)
        assert str(cut) in str(caught.value)
        assert "\n" not in str(caught.value)


def bomb(width, height):
    """A PNG that says it is that large, in a few bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(99))),
    ]
    packed = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.fast
def test_declared_size_is_checked_before_decoding(tmp_path):
    path = tmp_path / "it.png"
    path.write_bytes(bomb(100_000, 100_000))
    with pytest.raises(OnebranchError, match="100000x100000 pixels, more than the limit of 1000000000"):
        read(path)
    write(picture(size=(10, 11)), tmp_path / "small.png")
    assert read(tmp_path / "small.png", max_pixels=110).width == 11
    with pytest.raises(OnebranchError, match="11x10 pixels, more than the limit of 109"):
        read(tmp_path / "small.png", max_pixels=109)


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".gif", ".tif", ".webp"])
def test_every_format_heeds_the_limit(tmp_path, suffix):
    write(picture(size=(20, 20)), tmp_path / f"it{suffix}")
    with pytest.raises(OnebranchError, match="20x20 pixels, more than the limit of 399"):
        read(tmp_path / f"it{suffix}", max_pixels=399)


@pytest.mark.fast
def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "empty.png": "it is empty",
        "text.png": "it is not a PNG, JPEG, WebP",
        "pipe.png": "it is not a file",
        "missing.png": "no such file",
        ".": "is a directory",
        "nul\0.png": "null",
    }.items():
        with pytest.raises(OnebranchError, match=words):
            read(tmp_path / name)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("it.jpg", (65536, 1), "JPEG is limited to 65500 pixels per side, not 1x65536; choose PNG or TIFF"),
        ("it.webp", (1, 16384), "WebP is limited to 16383"),
        ("it.pgn", (1, 1), "unknown suffix '.pgn'; did you mean '.p"),
        ("it", (1, 1), "no suffix that states its format"),
        ("i\0t.png", (1, 1), "cannot contain NUL"),
        ("none/it.png", (1, 1), "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_reported_before_any_work(tmp_path, monkeypatch, name, size, words):
    monkeypatch.setattr("onebranch.images.writing.save", lambda *_: pytest.fail("work was done"))
    with pytest.raises(OnebranchError, match=words):
        write(picture(size=size), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
def test_jpeg_takes_opaque_alpha_only(tmp_path):
    opaque = Picture(samples((8, 8, 3)), np.full((8, 8), 255, np.uint8))
    write(opaque, tmp_path / "it.jpg")
    assert read(tmp_path / "it.jpg").alpha is None
    with pytest.raises(OnebranchError, match="JPEG has no transparency; choose PNG, WebP or TIFF"):
        write(picture(alpha=True), tmp_path / "other.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["it.jpg"]


@pytest.mark.fast
def test_an_existing_file_is_kept_without_overwrite(tmp_path):
    path = tmp_path / "it.png"
    path.write_bytes(b"mine")
    with pytest.raises(OnebranchError, match="it exists"):
        write(picture(), path)
    assert path.read_bytes() == b"mine"
    write(picture(), path, overwrite=True)
    assert read(path).width == 17
    assert [p.name for p in tmp_path.iterdir()] == ["it.png"]


@pytest.mark.fast
def test_a_dangling_link_and_a_folder_count_as_existing(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OnebranchError, match="it exists"):
        write(picture(), tmp_path / "link.png")
    for overwrite in (False, True):
        with pytest.raises(OnebranchError, match="it is a folder"):
            write(picture(), tmp_path / "folder.png", overwrite=overwrite)
    assert not (tmp_path / "elsewhere.png").exists()


@pytest.mark.fast
@pytest.mark.parametrize("links", [True, False])
def test_of_two_writers_one_succeeds(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    outcomes, refusals, start = [], [], threading.Barrier(8)

    def writer(n):
        start.wait()
        try:
            write_atomically(tmp_path / "it.png", bytes([n]) * 1000)
            outcomes.append(n)
        except OnebranchError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(outcomes) == 1
    assert len(refusals) == 7
    assert all("it exists" in line for line in refusals)
    assert (tmp_path / "it.png").read_bytes() == bytes(outcomes) * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["it.png"]


def no_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.fast
@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_one_line_and_leaves_what_was(tmp_path, monkeypatch, step, existing):
    path = tmp_path / "it.png"
    if existing:
        path.write_bytes(b"mine")
    monkeypatch.setattr(os, step, full_disk)
    if step == "link":
        monkeypatch.setattr(os, "replace", full_disk)
    overwrite = existing or step == "replace"
    with pytest.raises(OnebranchError, match=r"cannot write .*it\.png': no space left on device"):
        write(picture(), path, overwrite=overwrite)
    assert list(tmp_path.iterdir()) == ([path] if existing else [])
    assert not existing or path.read_bytes() == b"mine"


@pytest.mark.fast
def test_a_real_full_device(tmp_path):
    """A file-size limit of the process stands for the full disk: the write itself fails, half-way."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OnebranchError, match="file too large"):
            write(picture(size=(200, 200)), tmp_path / "it.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
def test_written_files_have_the_usual_permissions(tmp_path):
    write(picture(), tmp_path / "it.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "it.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.fast
@pytest.mark.parametrize(
    ("pixels", "alpha", "words"),
    [
        (np.zeros((4, 4), np.uint8), None, "shape"),
        (np.zeros((4, 4, 2), np.uint8), None, "shape"),
        (np.zeros((0, 4, 3), np.uint8), None, "shape"),
        (np.zeros((4, 4, 3)), None, "type float64"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), "does not fit"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16), "does not fit"),
    ],
)
def test_a_picture_must_hold_together(pixels, alpha, words):
    with pytest.raises(OnebranchError, match=words):
        Picture(pixels, alpha)


@pytest.mark.fast
def test_pictures_are_found_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "note.txt", ".hidden.png", "in/c.webp", "in/deep/d.tif", ".git/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("e.JP2", "f.ico"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "in", target_is_directory=True)
    flat = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    deep = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path, recursive=True)]
    assert flat == ["a.jpg", "b.PNG", "e.JP2", "f.ico"]
    assert deep == ["a.jpg", "b.PNG", "e.JP2", "f.ico", "in/c.webp", "in/deep/d.tif"]


@pytest.mark.fast
def test_a_missing_or_empty_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "sub").mkdir()
    for name, words in {"none": "does not exist", "file": "is not a folder", "sub": "no picture in"}.items():
        with pytest.raises(OnebranchError, match=words):
            find_pictures(tmp_path / name)
    with pytest.raises(OnebranchError, match="its subfolders were not searched"):
        find_pictures(tmp_path)


SHAPES = {  # height, width, channels, depth, alpha: of what its name says
    "001": (600, 900, 3, "uint16", False),
    "002": (96, 109, 1, "uint16", True),
    "007": (64, 64, 3, "uint8", True),
    "043": (1200, 1800, 3, "uint8", False),
    "101": (128, 128, 3, "float32", False),
    "107": (4, 256, 1, "uint8", False),
    "109": (88, 590, 1, "uint8", False),
    "139": (32, 32, 3, "uint16", True),
}


@pytest.mark.parametrize("number", SHAPES)
def test_odd_files_are_read_as_what_they_are(shared_data, number):
    (path,) = (shared_data / "odd").glob(f"{number}_*")
    decoded = read(path)
    height, width, channels, depth, alpha = SHAPES[number]
    assert decoded.pixels.shape == (height, width, channels)
    assert decoded.pixels.dtype == depth
    assert (decoded.alpha is not None) == alpha


def test_lab_shows_what_the_same_photograph_in_rgb_shows(shared_data):
    """The conversion is right: the two differ by rounding and by a little gamut clipping."""
    lab = as_depth(read(next((shared_data / "odd").glob("101_*"))).pixels, "uint8").astype(int)
    plain = read(next((shared_data / "odd").glob("143_*"))).pixels.astype(int)
    assert np.abs(lab - plain).mean() < 4


def test_what_pillow_reads_is_the_same(shared_data):
    """Two decoders agree on the lossless pictures of the test sets, and on JPEG within rounding."""
    for path in [
        *find_pictures(shared_data / "val" / "set14"),
        *find_pictures(shared_data / "train" / "gb82")[:3],
    ]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read(path).pixels, np.atleast_3d(np.asarray(image)))
    for path in find_pictures(shared_data / "train" / "clic2025")[:2]:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert np.abs(read(path).pixels.astype(int) - np.asarray(image)).max() <= 2


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_samples_of_the_other_order_of_bytes_are_the_same_picture(tmp_path, suffix):
    pixels = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 999
    swapped = pixels.astype(pixels.dtype.newbyteorder())
    write(Picture(swapped, swapped[..., 0]), tmp_path / f"it{suffix}")
    decoded = read(tmp_path / f"it{suffix}")
    np.testing.assert_array_equal(decoded.pixels, pixels)
    np.testing.assert_array_equal(decoded.alpha, pixels[..., 0])
