"""Written animations as Pillow reads them: frames, delays, repetitions and transparency."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageSequence

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.errors import OnebranchError
from onebranch.images.animation import Animation
from onebranch.images.colour_conversion import ColourConversion
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.picture import Picture
from onebranch.images.writing import write, write_animation

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
LOSSLESS = Encoding(lossless=True)


def frame(colour, alpha=None, size=(20, 30)):
    pixels = np.full((*size, 3), colour, np.uint8)
    return Picture(pixels, None if alpha is None else np.full(size, alpha, np.uint8))


def seen(path):
    """Frames as Pillow composes them (count, H, W, 4), their milliseconds, and how often all is shown."""
    with Image.open(path) as image:
        frames, delays = [], []
        for each in ImageSequence.Iterator(image):
            frames.append(np.asarray(each.convert("RGBA")))
            delays.append(each.info.get("duration", 0))
        again = image.info.get("loop")  # of a GIF: how often again, none is once; of a WebP: how often
    if path.suffix == ".gif" and again != 0:
        again = (again or 0) + 1
    return np.stack(frames), delays, again


def moving(count, alpha):
    """Frames of a square that moves over a still, partly transparent background."""
    frames = []
    for number in range(count):
        pixels = np.full((24, 32, 3), (40, 90, 140), np.uint8)
        pixels[4:12, 3 * number : 3 * number + 8] = (240, 200, 40)
        hidden = np.zeros((24, 32), np.uint8)
        hidden[2:20, 3 * number : 3 * number + 12] = 255
        frames.append(Picture(pixels, hidden if alpha else None))
    return tuple(frames)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("loop", [0, 1, 3])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_frames_times_loops_and_transparency_are_kept(tmp_path, suffix, loop, alpha):
    path, frames = tmp_path / f"it{suffix}", moving(5, alpha)
    write_animation(Animation(frames, (40, 250, 1000, 20, 70), loop), path, LOSSLESS)
    actual, delays, loops = seen(path)
    assert (delays, loops) == ([40, 250, 1000, 20, 70], loop)
    for got, expected in zip(actual, frames, strict=True):
        shown = np.ones((24, 32), bool) if not alpha else expected.alpha > 0
        np.testing.assert_array_equal(got[..., 3] == 255, shown)
        assert np.abs(got[..., :3].astype(int) - expected.pixels)[shown].max() <= 8 * (suffix == ".gif")


def test_a_gif_keeps_frames_that_are_equal_and_a_webp_their_time(tmp_path):
    still = Animation((frame(RED), frame(RED), frame(BLUE)), (100, 200, 300))
    write_animation(still, tmp_path / "it.gif")
    assert seen(tmp_path / "it.gif")[1] == [100, 200, 300]
    write_animation(still, tmp_path / "it.webp")
    assert seen(tmp_path / "it.webp")[1] == [300, 300]


def test_a_gif_runs_as_long_as_its_frames(tmp_path):
    write_animation(
        Animation((frame(RED), frame(GREEN), frame(BLUE)) * 10, (33, 33, 34) * 10), tmp_path / "it.gif"
    )
    _, delays, _ = seen(tmp_path / "it.gif")
    assert sum(delays) == 1000
    assert set(delays) == {30, 40}


def test_frames_with_and_without_transparency_go_together(tmp_path):
    frames = (frame(RED, 255), frame(GREEN, 0), frame(BLUE, 255))
    for suffix in (".gif", ".webp"):
        write_animation(Animation(frames, (50, 50, 50)), tmp_path / f"in{suffix}", LOSSLESS)
        enhance_file(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", ENHANCER, FileOptions(LOSSLESS))
        actual, _, _ = seen(tmp_path / f"out{suffix}")
        assert actual.shape == (3, 40, 60, 4)
        assert [int(each[20, 30, 3]) for each in actual] == [255, 0, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_converted_colours_find_their_way_back(tmp_path, suffix):
    """Frames on a route are floats until they are written."""
    route = ColourConversion("linear light", "uint8", "linear")
    routed = [
        replace(frame(c), pixels=np.full((9, 9, 3), c, np.float32), conversion=route) for c in (0.5, 1.0)
    ]
    write_animation(Animation(tuple(routed), (50, 50)), tmp_path / f"many{suffix}", LOSSLESS)
    for number, one in enumerate(routed):
        write(one, tmp_path / f"{number}{suffix}", encoding=LOSSLESS)
        expected = seen(tmp_path / f"{number}{suffix}")[0][0]
        np.testing.assert_allclose(seen(tmp_path / f"many{suffix}")[0][number], expected, atol=1)


def test_what_holds_no_animation_is_refused(tmp_path):
    with pytest.raises(OnebranchError, match="PNG cannot hold an animation; choose WebP or GIF"):
        write_animation(Animation((frame(RED),), (0,)), tmp_path / "it.png")
    assert list(tmp_path.iterdir()) == []


ENHANCER = Enhancer(Options(model="photo-x2", threads=1))

ODD = {
    "077_big-height.webp": (99, 19800),
    "079_dispose_prev.gif": (5, 4000),
    "080_dispose_bgnd_transparency.gif": (10, 4400),
    "082_rotating-squares.webp": (9, 900),
}
"""Frames of odd files, and milliseconds of all."""


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("name", list(ODD))
def test_animations_found_in_the_wild_stay_what_they_are(shared_data, tmp_path, name, suffix):
    source, target = shared_data / "odd" / name, tmp_path / f"out{suffix}"
    enhanced = enhance_file(source, target, ENHANCER, FileOptions(LOSSLESS))
    before, delays, loops = seen(source)
    after, delays_after, loops_after = seen(target)
    assert (len(after), enhanced.preview.frames, sum(delays)) == (len(before), len(before), ODD[name][1])
    shown_at_once = [max(each, 100) if each <= 10 and suffix == ".webp" else each for each in delays]
    assert delays_after == shown_at_once
    assert loops_after == loops
    count, height, width, _ = before.shape
    assert after.shape == (count, 2 * height, 2 * width, 4)
    small = after.reshape(count, height, 2, width, 2, 4).mean(axis=(2, 4))
    inside = np.stack([eroded(each[..., 3]) for each in before])
    outside = np.stack([eroded(255 - each[..., 3]) for each in before])
    assert small[inside][:, 3].min(initial=255) == 255
    assert small[outside][:, 3].max(initial=0) == 0
    difference = np.abs(small - before)[inside][:, :3]
    assert difference.mean() < 8


def eroded(alpha):
    """Where a pixel and all around it, 3 pixels far, are opaque."""
    opaque = np.pad(alpha == 255, 3, mode="edge")
    height, width = alpha.shape
    return np.all(
        [opaque[y : y + height, x : x + width] for y in range(7) for x in range(7)],
        axis=0,
    )
