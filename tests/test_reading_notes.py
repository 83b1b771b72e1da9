"""Messages of reading: why a picture is refused, and notes on content that is ignored or reinterpreted."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from colour_profiles import profile
from onebranch.errors import OnebranchError
from onebranch.images.libvips import pyvips
from onebranch.images.reading import read

pytestmark = pytest.mark.fast

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(path, *chunks: tuple[bytes, bytes], icc: bytes | None = None):
    """A PNG with more chunks behind its header."""
    Image.fromarray(PIXELS).save(path, icc_profile=icc)
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"".join(chunk(*more) for more in chunks) + content[33:])
    return path


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


@pytest.mark.parametrize(
    ("chunks", "notes"),
    [
        ([], ()),
        ([gamma(45455)], ()),
        ([gamma(0)], ()),
        ([gamma(55556)], ("its gamma of 0.5556 differs from sRGB's 0.4545 and is left out",)),
        ([gamma(100000), (b"sRGB", b"\0")], ()),
        ([(b"cICP", b"\1\r\0\1")], ()),
        ([(b"cICP", b"\1\r\0\1"), gamma(100000)], ()),
        (
            [(b"cICP", b"\t\x10\0\1")],
            (
                (
                    "its cICP colour codes (primaries 9, transfer 16) are left out:"
                    " its colours are processed as sRGB"
                ),
            ),
        ),
        ([(b"acTL", struct.pack(">II", 4, 0))], ("only the first of 4 frames",)),
    ],
)
def test_colours_that_a_png_says_without_a_profile(tmp_path, chunks, notes):
    decoded = read(png_with(tmp_path / "it.png", *chunks))
    assert decoded.notes == notes
    np.testing.assert_array_equal(decoded.pixels, PIXELS)


def test_a_profile_goes_before_gamma(tmp_path):
    assert read(png_with(tmp_path / "it.png", gamma(100000), icc=profile("p3"))).notes == ()


@pytest.mark.parametrize(("orientation", "said"), [(1, False), (6, True)])
def test_xmp_alone_rotates_nothing(tmp_path, orientation, said):
    """The orientation in XMP is not changed either, so viewers that use it show input and result alike."""
    words = PngImagePlugin.PngInfo()
    words.add_itxt("XML:com.adobe.xmp", f'<x:xmpmeta tiff:Orientation="{orientation}"/>')
    Image.fromarray(PIXELS).save(tmp_path / "it.png", pnginfo=words)
    decoded = read(tmp_path / "it.png")
    np.testing.assert_array_equal(decoded.pixels, PIXELS)
    assert f'tiff:Orientation="{orientation}"'.encode() in decoded.metadata.xmp
    assert (decoded.notes == ("its XMP declares a rotation, which is kept but not applied",)) == said


def test_float_samples_without_a_profile_are_reported(tmp_path):
    samples = np.linspace(-0.5, 1.5, 99, dtype=np.float32).reshape(9, 11, 1)
    pyvips.Image.new_from_array(samples).tiffsave(str(tmp_path / "it.tif"))
    decoded = read(tmp_path / "it.tif")
    np.testing.assert_array_equal(decoded.pixels, samples)
    assert decoded.notes == ("float samples without a profile are taken as sRGB",)


def header(*fields: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", *fields)


DATA = b"IDAT", zlib.compress(bytes(1000))


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([header(3, 3, 8, 1, 0, 0, 0), DATA], "PNG has no colour type 1 with 8 bits"),
        ([header(3, 3, 4, 2, 0, 0, 0), DATA], "PNG has no colour type 2 with 4 bits"),
        ([header(0, 3, 8, 2, 0, 0, 0), DATA], "its header states 0x3 pixels"),
        ([header(3, 3, 8, 2, 0, 0, 7), DATA], "an unknown compression, filter or interlacing method"),
        ([header(3, 3, 8, 3, 0, 0, 0), DATA], "its palette is missing"),
        ([(b"tEXt", b"a"), DATA], "its first chunk is not a valid header"),
        ([header(3, 3, 8, 2, 0, 0, 0)], "it ends too soon"),
    ],
)
def test_why_a_png_is_refused_is_reported(tmp_path, chunks, words):
    path = tmp_path / "it.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*it) for it in chunks))
    with pytest.raises(OnebranchError, match=rf"damaged or unsupported PNG file: .*{words}"):
        read(path)


def test_twelve_bits_in_a_tiff_are_reported(tmp_path):
    """One row of two pixels of 12 bits; entries: tag, type, count, value."""
    entries = [
        *((256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1)),
        *((273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 3)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path = tmp_path / "it.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 12) + b"abc\0" + directory + bytes(4))
    with pytest.raises(OnebranchError, match="it has samples of other than 1, 8, 16 or 32 bits"):
        read(path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_associated_alpha_of_a_tiff_is_divided_out(tmp_path, depth):
    white = np.iinfo(depth).max
    alpha = np.linspace(white // 4, white, 99).astype(depth).reshape(9, 11, 1)
    colours = np.random.default_rng(0).integers(0, white + 1, (9, 11, 3)).astype(depth)
    stored = np.concatenate([np.rint(colours * (alpha / white)).astype(depth), alpha], axis=2)
    spaces = {np.uint8: "srgb", np.uint16: "rgb16"}
    image = pyvips.Image.new_from_array(stored, interpretation=spaces[depth])
    image.tiffsave(str(tmp_path / "it.tif"), premultiply=False)
    content = bytearray((tmp_path / "it.tif").read_bytes())
    offset = content.index(struct.pack("<HHIHH", 338, 3, 1, 2, 0))  # ExtraSamples: 2, not associated
    content[offset + 8] = 1
    (tmp_path / "it.tif").write_bytes(content)
    decoded = read(tmp_path / "it.tif")
    np.testing.assert_array_equal(decoded.alpha, alpha[..., 0])
    np.testing.assert_allclose(decoded.pixels.astype(float), colours, atol=3)
