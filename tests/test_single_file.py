"""Enhancing a file by rows or at once, in little memory, gives the same file, or no file and a reason."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onebranch.enhancer import row_pipeline
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file, preview_file
from onebranch.errors import OnebranchError
from onebranch.images import writing as module
from onebranch.images.animation import Animation
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.libvips import pyvips
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.reading import open_picture, read, read_animation
from onebranch.images.samples import WHITE_LEVELS
from onebranch.images.writing import write, write_animation

SAME = Options(model="photo-x2", threads=1)


def picture(depth: str, channels: int, alpha: bool, size: tuple[int, int] = (75, 43)) -> Picture:
    """Soft random colours; some of it transparent."""
    rng = np.random.default_rng(5)
    values = rng.random((*size, channels + 1))
    values[..., -1] = np.clip(values[..., -1] * 3 - 1, 0, 1)
    samples = (
        values.astype(np.float32) if depth == "float32" else (values * WHITE_LEVELS[depth]).astype(depth)
    )
    return Picture(samples[..., :-1].copy(), samples[..., -1].copy() if alpha else None)


@pytest.fixture
def streaming(monkeypatch):
    """Small bands, and no collected rows, so that everything is streamed."""
    monkeypatch.setattr(row_pipeline, "BAND_PIXELS", 16 * 86)
    monkeypatch.setattr(module, "MAX_COLLECTED_BYTES", 0)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", list(WHITE_LEVELS))
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_streamed_file_holds_what_enhancing_gives(tmp_path, streaming, suffix, depth, channels, alpha):
    original = picture(depth, channels, alpha)
    write(original, tmp_path / "in.tif")
    enhancer = Enhancer(SAME)
    with open_picture(tmp_path / "in.tif") as reader:
        assert len(list(enhancer.rows(reader))) > 3
    enhance_file(tmp_path / "in.tif", tmp_path / f"out{suffix}", enhancer, FileOptions())
    write(enhance(original, "photo-x2", threads=1), tmp_path / f"whole{suffix}")
    got, expected = read(tmp_path / f"out{suffix}"), read(tmp_path / f"whole{suffix}")
    np.testing.assert_array_equal(got.samples(), expected.samples())
    assert got.header == replace(expected.header, metadata=got.metadata)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".bmp", ".ppm", ".tif", ".gif"])
def test_streamed_and_whole_files_are_the_same_bytes(tmp_path, monkeypatch, suffix):
    write(picture("uint8", 3, False), tmp_path / "in.png")
    enhancer = Enhancer(SAME)
    enhance_file(tmp_path / "in.png", tmp_path / f"whole{suffix}", enhancer, FileOptions())
    monkeypatch.setattr(row_pipeline, "BAND_PIXELS", 16 * 86)
    monkeypatch.setattr(module, "MAX_COLLECTED_BYTES", 0)
    enhance_file(tmp_path / "in.png", tmp_path / f"rows{suffix}", enhancer, FileOptions())
    assert (tmp_path / f"rows{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_opaque_alpha_is_no_obstacle_and_transparency_is(tmp_path):
    opaque = picture("uint8", 3, True)
    opaque = replace(opaque, alpha=np.full_like(opaque.alpha, 255))
    write(opaque, tmp_path / "opaque.png")
    enhance_file(tmp_path / "opaque.png", tmp_path / "it.jpg", Enhancer(SAME), FileOptions())
    assert read(tmp_path / "it.jpg").alpha is None
    write(picture("uint8", 3, True), tmp_path / "glass.png")
    with pytest.raises(OnebranchError, match="JPEG has no transparency"):
        enhance_file(tmp_path / "glass.png", tmp_path / "glass.jpg", Enhancer(SAME), FileOptions())
    assert not (tmp_path / "glass.jpg").exists()


def test_damage_further_down_leaves_nothing(tmp_path, streaming):
    """The first bands are enhanced and being encoded when the file turns out to end too early."""
    write(picture("uint8", 3, False, (400, 43)), tmp_path / "in.png")
    content = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(OnebranchError, match=r"cannot read '.*in\.png'"):
        enhance_file(tmp_path / "in.png", tmp_path / "out.tif", Enhancer(SAME), FileOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize(
    ("target", "encoding", "words"),
    [
        ("in.png", Encoding(), "is the picture itself"),
        ("taken.png", Encoding(), "it exists"),
        ("it.jpg", Encoding(lossless=True), "JPEG is always lossy"),
        ("it.xyz", Encoding(), "unknown suffix"),
    ],
)
def test_what_cannot_be_written_is_reported_by_the_preview(tmp_path, monkeypatch, target, encoding, words):
    write(picture("uint8", 3, False), tmp_path / "in.png")
    (tmp_path / "taken.png").touch()
    monkeypatch.setattr(Enhancer, "rows", lambda *_: pytest.fail("work was done"))
    for function in (preview_file, enhance_file):
        with pytest.raises(OnebranchError, match=words):
            function(tmp_path / "in.png", tmp_path / target, Enhancer(SAME), FileOptions(encoding))
    assert (tmp_path / "taken.png").stat().st_size == 0


def test_no_pixels_are_no_limit():
    with pytest.raises(OnebranchError, match="max pixels must be at least 1, not 0"):
        FileOptions(max_pixels=0)


def test_too_little_memory_is_reported_by_the_preview(tmp_path):
    write(Picture(np.zeros((2000, 6000, 3), np.uint8)), tmp_path / "in.png")
    enhancer = Enhancer(replace(SAME, memory=200_000_000))
    previewed = preview_file(tmp_path / "in.png", tmp_path / "it.png", enhancer, FileOptions())
    assert 100_000_000 < previewed.memory < 200_000_000
    with pytest.raises(OnebranchError, match=r"6000x2000 pixels to 12000x4000 as AVIF needs about \d\.\d GB"):
        preview_file(tmp_path / "in.png", tmp_path / "it.avif", enhancer, FileOptions())


def test_what_decoders_hold_is_reported_by_the_preview(tmp_path):
    image = pyvips.Image.black(6000, 4000, bands=3).copy(interpretation="srgb")
    image.jpegsave(str(tmp_path / "in.jpg"), interlace=True, subsample_mode="off")
    previewed = preview_file(tmp_path / "in.jpg", tmp_path / "it.png", Enhancer(SAME), FileOptions())
    assert previewed.memory > 2 * 3 * 6000 * 4000
    enhancer = Enhancer(replace(SAME, memory=120_000_000))
    with pytest.raises(OnebranchError, match=r"progressive JPEG of 6000x4000 pixels needs about 0\.1 GB"):
        preview_file(tmp_path / "in.jpg", tmp_path / "it.png", enhancer, FileOptions())


def test_losses_are_reported_by_the_preview(tmp_path):
    original = replace(picture("uint16", 3, False), metadata=Metadata(icc=profile("p3")))
    write(original, tmp_path / "in.tif")
    previewed = preview_file(tmp_path / "in.tif", tmp_path / "none" / "it.bmp", Enhancer(SAME), FileOptions())
    assert previewed.after == (150, 86)
    assert previewed.notes == (
        "16 bits become 8 bits: BMP cannot hold more",
        "colours become sRGB: BMP cannot hold a colour profile",
    )


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_stay_animations(tmp_path, suffix):
    frames = tuple(
        Picture(np.full((20, 30, 3), colour, np.uint8)) for colour in ([250, 0, 0], [0, 250, 0], [0, 0, 250])
    )
    write_animation(Animation(frames, (40, 250, 1000), 3), tmp_path / "in.gif")
    enhanced = enhance_file(tmp_path / "in.gif", tmp_path / f"out{suffix}", Enhancer(SAME), FileOptions())
    assert enhanced.preview.frames == 3
    result = read_animation(tmp_path / f"out{suffix}")
    assert (result.delays, result.loop) == ((40, 250, 1000), 3)
    assert [(frame.height, frame.width) for frame in result.frames] == [(40, 60)] * 3
    for frame, original in zip(result.frames, frames, strict=True):
        np.testing.assert_allclose(frame.pixels[20, 30], original.pixels[0, 0], atol=8)
    still = enhance_file(tmp_path / "in.gif", tmp_path / "out.png", Enhancer(SAME), FileOptions())
    assert still.preview.notes == ("only the first of 3 frames",)


def profile(name: str) -> bytes:
    """One of libvips' own profiles."""
    image = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    return bytes(image.icc_transform(name, input_profile="srgb").get("icc-profile-data"))


MEASURED = """
    import re, sys
    from pathlib import Path
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.enhancer import Enhancer
    from onebranch.enhancer.single_file import FileOptions, enhance_file
    source, target, memory = sys.argv[1:]
    options = Options(model="photo-x2", memory=int(memory) or None)
    enhance_file(Path(source), Path(target), Enhancer(options), FileOptions())
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(source: Path, target: Path, memory: int) -> int:
    """Peak of resident memory of a process that enhances the file, in bytes."""
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(source), str(target), str(memory)]
    return 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("memory", [0, 500_000_000])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pictures_as_wide_as_any_take_little_memory(tmp_path, suffix, memory):
    """30,000 columns; what is held does not depend on the rows, which are 1,500 here."""
    wave = pyvips.Image.sines(30_000, 1_500, hfreq=999, vfreq=77)
    noise = pyvips.Image.gaussnoise(30_000, 1_500, sigma=9, seed=1)
    grey = (wave * 100 + 128 + noise).cast("uchar")
    grey.bandjoin([grey.invert(), noise.cast("uchar")]).copy(interpretation="srgb").write_to_file(
        str(tmp_path / f"in{suffix}")
    )
    held = peak(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", memory)
    assert held < (memory or 1_000_000_000)
    assert (read_size(tmp_path / f"out{suffix}")) == (3_000, 60_000)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) by the header."""
    with open_picture(path) as reader:
        return reader.header.layout.height, reader.header.layout.width
