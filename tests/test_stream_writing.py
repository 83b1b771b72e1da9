"""Streamed results are, byte for byte, the files that `enhance_file` writes."""

from pathlib import Path

import numpy as np
import pytest

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file, enhance_stream
from onebranch.errors import OnebranchError
from onebranch.images.density import Density
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.writing import write


def picture(channels: int = 3, depth: str = "uint8", **blocks: object) -> Picture:
    """A small picture with metadata."""
    rng = np.random.default_rng(0)
    top = 255 if depth == "uint8" else 65535
    pixels = rng.integers(0, top, (23, 31, channels)).astype(depth)
    return Picture(pixels, metadata=Metadata(**blocks))


def both(source: Path, target: Path, encoding: Encoding | None = None) -> tuple[bytes, bytes]:
    """The file that is written, and the streamed bytes."""
    options = FileOptions(encoding or Encoding())
    enhancer = Enhancer(Options(model="photo-x2"))
    enhance_file(source, target, enhancer, options)
    pieces: list[bytes] = []
    enhance_stream(source, target.with_stem("other"), enhancer, options, pieces.append)
    return target.read_bytes(), b"".join(pieces)


EXIF = b"Exif\0\0" + bytes.fromhex("49492a000800000001000f010200080000001a0000000000000063616d6572617300")
"""A block with the maker's name."""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".ppm"])
@pytest.mark.parametrize("blocks", [{}, {"exif": EXIF}, {"density": Density(3.0, 3.0)}])
def test_streamed_bytes_equal_the_file(tmp_path, suffix: str, blocks: dict) -> None:
    write(picture(**blocks), tmp_path / "in.png")
    written, streamed = both(tmp_path / "in.png", tmp_path / f"out{suffix}")
    assert streamed == written


def test_texts_and_comments_keep_their_order(tmp_path, crops) -> None:
    from onebranch.images.containers.png import chunk_bytes

    texts = tuple(chunk_bytes(b"tEXt", b"Comment\0line %d" % index) for index in range(3))
    write(picture(texts=texts, exif=EXIF, density=Density(2.0, 4.0)), tmp_path / "in.png")
    written, streamed = both(tmp_path / "in.png", tmp_path / "out.png")
    assert streamed == written
    assert streamed.count(b"tEXt") == 3
    write(picture(comments=(b"first", b"second"), exif=EXIF), tmp_path / "in.jpg")
    written, streamed = both(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert streamed == written
    assert b"second" in streamed


def test_deep_and_grey_pictures(tmp_path) -> None:
    write(picture(1, "uint16"), tmp_path / "in.png")
    for suffix in (".png", ".jpg", ".pgm"):
        written, streamed = both(tmp_path / "in.png", tmp_path / f"out{suffix}")
        assert streamed == written


def test_a_receiver_that_fails_ends_the_encoding(tmp_path) -> None:
    write(picture(), tmp_path / "in.png")

    def refuse(content: bytes) -> None:
        raise OnebranchError("the receiver is gone")

    enhancer = Enhancer(Options(model="photo-x2"))
    with pytest.raises(OnebranchError, match="the receiver is gone"):
        enhance_stream(tmp_path / "in.png", tmp_path / "out.png", enhancer, FileOptions(), refuse)


def test_a_large_picture_is_sent_before_it_is_complete(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2400, 900, 3)).astype(np.uint8)
    write(Picture(noise), tmp_path / "in.png")
    enhancer = Enhancer(Options(model="photo-x2", memory=100_000_000))
    steps: list[str] = []

    def progress(share: float) -> None:
        steps.append("rows")

    def send(content: bytes) -> None:
        steps.append("bytes")

    enhance_stream(tmp_path / "in.png", tmp_path / "x.png", enhancer, FileOptions(), send, progress=progress)
    assert "rows" in steps[steps.index("bytes") :]
