"""Clips, end to end: what users of other tools complain of, each on a small clip with a tiny network."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import ClipSpec, contents, make_clip, packets
from network_specs import calm_model
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import Enhanced, FileOptions
from onebranch.model.file import Model
from onebranch.video.options import VideoOptions
from onebranch.video.single_clip import enhance_clip

DOUBLE = calm_model(task="upscale", scale=2)
DOUBLE_RGB = calm_model("rgb", task="upscale", scale=2)
KEEP = calm_model("rgb", task="denoise", residual="nearest")


def enhance(source: Path, target: Path, model: Model = DOUBLE, **options: Any) -> Enhanced:
    """Enhance a clip with a tiny network; scale, width and height are options of the network."""
    sizes = {key: options.pop(key) for key in ("scale", "width", "height") if key in options}
    files = FileOptions(overwrite=options.pop("overwrite", False))
    return enhance_clip(source, target, Options(model=model, **sizes), files, VideoOptions(**options))


def enhanced(
    tmp_path: Path, spec: ClipSpec, suffixes: str = ".mp4 .mp4", **options: Any
) -> tuple[Path, Path]:
    """A clip of that kind and its result."""
    before, after = suffixes.split()
    source = make_clip(tmp_path / f"in{before}", spec)
    target = tmp_path / f"out{after}"
    enhance(source, target, **options)
    return source, target


@pytest.mark.parametrize("count", [1, 2, 25, 51])
def test_every_frame_arrives_with_its_timestamp(tmp_path: Path, count: int) -> None:
    spec = ClipSpec(pts=range(count), size=(32, 48), options={"bf": "3"})
    source, target = enhanced(tmp_path, spec)
    assert len(contents(source).times) == count
    assert contents(target).times == contents(source).times


@pytest.mark.parametrize("rate", [Fraction("12.05"), Fraction(120000, 1001), Fraction(30000, 1001)])
def test_frame_rates_are_exact(tmp_path: Path, rate: Fraction) -> None:
    spec = ClipSpec(rate=rate, time_base=1 / rate, pts=range(12), size=(32, 48))
    source, target = enhanced(tmp_path, spec)
    assert contents(target).times == [number / rate for number in range(12)]
    assert contents(target).times == contents(source).times


def test_variable_frame_rates_stay(tmp_path: Path) -> None:
    pts = [0, 1, 2, 50, 51, 200, 203, 204, 205, 999]
    spec = ClipSpec(pts=pts, time_base=Fraction(1, 600), size=(32, 48))
    source, target = enhanced(tmp_path, spec)
    assert contents(target).times == [Fraction(tick, 600) for tick in pts] == contents(source).times


def test_frames_that_an_edit_list_cuts_stay_cut(tmp_path: Path) -> None:
    """Frames before 0 are in an MP4 file, but its edit list says that they are not shown."""
    spec = ClipSpec(pts=range(-3, 9), size=(32, 48), options={"bf": "2"}, audio=["aac"])
    source, target = enhanced(tmp_path, spec)
    with av.open(source) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 12
    assert contents(source).times == [Fraction(number, 25) for number in range(9)]
    assert contents(target).times == contents(source).times
    assert packets(target) == packets(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("picture", "sound"), [(1.4, 1.4), (0.0, 0.5)])
def test_late_starts_keep_their_offset(tmp_path: Path, suffix: str, picture: float, sound: float) -> None:
    begin = round(picture * 90000)
    pts = [begin + 3600 * number for number in range(10)]
    spec = ClipSpec(
        pts=pts,
        time_base=Fraction(1, 90000),
        size=(32, 48),
        audio=["aac"],
        audio_start=sound,
        options={"bf": "2"},
    )
    source, target = enhanced(tmp_path, spec, f"{suffix} {suffix}")
    before = contents(source).times[0] - packets(source)[0][0]
    after = contents(target).times[0] - packets(target)[0][0]
    assert abs(after - before) <= Fraction(1, 1000 if suffix == ".mkv" else 90000)
    assert len(contents(target).times) == 10
    assert [content for _, content in packets(target)] == [content for _, content in packets(source)]


def test_untagged_colours_are_tagged_by_the_size_of_the_input(tmp_path: Path) -> None:
    _, small = enhanced(tmp_path, ClipSpec(pts=range(2)), ".mp4 .mp4")
    frame = contents(small).frames[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (6, 6, 6, 1)
    high = ClipSpec(pts=range(1), size=(720, 64), codec="ffv1")
    _, large = enhanced(tmp_path, high, ".mkv .mkv")
    assert contents(large).frames[0].colorspace == 1


@pytest.mark.parametrize("tags", [(1, 1, 1), (5, 5, 6), (6, 6, 6), (9, 9, 16), (9, 9, 18)])
def test_colour_tags_stay(tmp_path: Path, tags: tuple[int, int, int]) -> None:
    matrix, primaries, transfer = tags
    full = matrix == 5
    properties = {
        "colorspace": matrix,
        "color_primaries": primaries,
        "color_trc": transfer,
        "color_range": 2 if full else 1,
    }
    spec = ClipSpec(pts=range(1), size=(32, 48), properties=properties)
    frame = contents(enhanced(tmp_path, spec)[1]).frames[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == tags
    assert frame.color_range == (2 if full else 1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gray12le", "yuv420p12le"])
def test_luma_goes_through_the_network_unconverted(tmp_path: Path, kind: str, full: bool) -> None:
    """Encoded without loss: luma is what the network gives for the encoded samples."""
    spec = ClipSpec(
        codec="ffv1",
        pixel_format=kind,
        pts=range(2),
        properties={"color_range": 2 if full else 1},
        size=(40, 50),
    )
    source, target = enhanced(tmp_path, spec, ".mkv .mkv", codec="ffv1")
    before, after = contents(source), contents(target)
    assert after.pixel_format == kind
    assert after.size == (80, 100)
    bits = 8 if before.planes[0][0].dtype == np.uint8 else int(kind.removesuffix("le")[-2:])
    for plane, result in zip(before.planes, after.planes, strict=True):
        expected = _luma(plane[0], bits, full)
        assert (
            np.abs(result[0].astype(int) - expected).max() <= 1
            if bits > 8
            else np.array_equal(result[0], expected)
        )


def _luma(plane: np.ndarray, bits: int, full: bool) -> np.ndarray:
    """The definition: studio luma / 255 into the network and back."""
    from onebranch.runtime.engine import EngineRuntime

    unit, white = 1 << (bits - 8), (1 << bits) - 1
    values = plane / white * 219 / 255 + 16 / 255 if full else plane / (255 * unit)
    output = EngineRuntime(DOUBLE).run(values.astype(np.float32)[None, None])[0, 0].astype(np.float64)
    result = (output - 16 / 255) * 255 / 219 * white if full else output * 255 * unit
    return np.floor(np.clip(result, 0, white) + 0.5).astype(int)


@pytest.mark.parametrize(
    ("kind", "codec", "suffix"),
    [
        ("yuv420p10le", "libx265", ".mp4"),
        ("yuv422p", "libx264", ".mkv"),
        ("yuv444p10le", "libx264", ".mp4"),
        ("gbrp", "libx265", ".mkv"),
        ("gbrp12le", "ffv1", ".mkv"),
        ("gray", "libx265", ".mp4"),
        ("yuv420p12le", "libx265", ".mkv"),
    ],
)
def test_depth_and_chroma_stay(tmp_path: Path, kind: str, codec: str, suffix: str) -> None:
    spec = ClipSpec(codec=codec, pixel_format=kind, pts=range(2), size=(64, 64))
    source, target = enhanced(
        tmp_path, spec, f"{suffix} {suffix}", codec=codec.removeprefix("lib").replace("x26", "h26")
    )
    before, after = contents(source), contents(target)
    assert after.pixel_format == kind
    for plane, result in zip(before.planes[0], after.planes[0], strict=True):
        assert abs(float(plane.mean()) - float(result.mean())) < 0.03 * plane.max()
