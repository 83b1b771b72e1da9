"""PPM and PGM: every bit, every way of writing the header, and nothing but a reason for what is damaged."""

import io

import numpy as np
import pytest
from PIL import Image

from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import open_picture, read
from onebranch.images.writing import write


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_all_bits_come_back(tmp_path, depth, channels):
    samples = np.random.default_rng(1).integers(0, 65536, (13, 7, channels)).astype(depth)
    write(Picture(samples), tmp_path / "it.ppm")
    np.testing.assert_array_equal(read(tmp_path / "it.ppm").pixels, samples)
    with open_picture(tmp_path / "it.ppm") as reader:
        np.testing.assert_array_equal(np.concatenate([reader.read(5) for _ in range(4)]), samples)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 2 1 255 ab", [[[97], [98]]]),
        (b"P5\n#one\n2#two\n1\n# three\n255\nab", [[[97], [98]]]),
        (b"P2 2 1 255 7 9", [[[7], [9]]]),
        (b"P2\n2 1\n255\n7 # seven\n9\n", [[[7], [9]]]),
        (b"P3 1 1 65535 1 256 65535", [[[1, 256, 65535]]]),
        (b"P2 2 1 100 50 100", [[[128], [255]]]),
        (b"P2 2 1 1000 500 2000", [[[32768], [65535]]]),
        (b"P6 1 1 65535 \0\1\1\0\xff\xff", [[[1, 256, 65535]]]),
    ],
)
def test_what_headers_say(tmp_path, content, expected):
    (tmp_path / "it.ppm").write_bytes(content)
    assert read(tmp_path / "it.ppm").pixels.tolist() == expected


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pillow_reads_the_same(tmp_path, mode):
    image = Image.effect_noise((19, 11), 90).convert(mode)
    image.save(file := io.BytesIO(), "PPM")
    (tmp_path / "it.ppm").write_bytes(file.getvalue())
    np.testing.assert_array_equal(read(tmp_path / "it.ppm").pixels.squeeze(), np.asarray(image))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5 2 2 255 abc", "shorter than its header states"),
        (b"P6 1 1 65536 abcdef", "white 65536"),
        (b"P5 0 1 255 ", "0x1 pixels"),
        (b"P5 2 -1 255 ab", "its header is invalid"),
        (b"P5 2 1 255", "its header is invalid"),
        (b"P2 2 1 255 7 x", "a word that is not a number"),
        (b"P2 2 2 255 7 77777777", "shorter"),
        (b"P5 99999 99999 255 ab", "more than the limit"),
    ],
)
def test_damage_is_reported(tmp_path, content, words):
    (tmp_path / "it.ppm").write_bytes(content)
    with pytest.raises(OnebranchError, match=words):
        read(tmp_path / "it.ppm")


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_numbers_written_as_text_are_read_in_pieces(tmp_path, monkeypatch, piece):
    """Comments and numbers may go on in the next piece."""
    monkeypatch.setattr("onebranch.images.decoders.netpbm.TEXT_BYTES", piece)
    path = tmp_path / "it.ppm"
    path.write_bytes(
        b"P3 2 2 255\n1 22#a # 9 comment\n 33 4\t55\r\n#\n66 # 7\n77 88\n99 #8\n10 111 255 999 #"
    )
    assert read(path).pixels.ravel().tolist() == [1, 22, 33, 4, 55, 66, 77, 88, 99, 10, 111, 255]
    path.write_bytes(b"P2 1 2 255\n12 #34\n" + b"5" * 2000)
    with pytest.raises(OnebranchError, match="a word that is not a number"):
        read(path)
