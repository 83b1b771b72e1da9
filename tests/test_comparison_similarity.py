"""Comparison of two pictures: the scores are those of `metrics` for every depth, size and height of bands."""

import math
from dataclasses import replace

import numpy as np
import pytest

from colour_profiles import profile
from onebranch import metrics
from onebranch.comparison import levels
from onebranch.comparison.difference_sheet import MAP_SCALES, map_colours, map_scale, measure_and_draw
from onebranch.comparison.levels import of_picture
from onebranch.comparison.similarity import Similarity, common_size, measure
from onebranch.errors import OnebranchError
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.resize import resize


def pair(height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two similar pictures."""
    random = np.random.default_rng(height)
    one = random.integers(20, 230, (height, width, channels), np.uint8)
    return one, (one + random.integers(-15, 16, one.shape)).astype(np.uint8)


def compared(one: Picture, other: Picture, border: int = 0) -> Similarity:
    return measure(of_picture(one, "one"), of_picture(other, "other"), border)


@pytest.mark.fast
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "border"), [(11, 0), (32, 0), (45, 3), (75, 0), (100, 4), (107, 39)])
def test_numbers_are_those_of_whole_pictures(monkeypatch, channels, height, border):
    monkeypatch.setattr(
        levels, "COMPARISON_BAND_PIXELS", 1
    )  # bands of 32 rows: windows reach over their borders
    one, other = pair(height, 90, channels)
    comparison = compared(Picture(one), Picture(other), border)
    expected = metrics.score(other, one, border)
    assert comparison.psnr_y == pytest.approx(expected.psnr_y, rel=1e-12)
    assert comparison.ssim_y == pytest.approx(expected.ssim_y, rel=1e-12)
    assert (comparison.psnr_rgb is None) == (channels == 1)
    if channels == 3:
        assert comparison.psnr_rgb == pytest.approx(expected.psnr_rgb, rel=1e-12)
        planes = [[metrics.cropped(a, border)[..., c] for a in (one, other)] for c in range(3)]
        assert comparison.ssim_rgb == pytest.approx(
            np.mean([metrics.ssim(*both) for both in planes]), rel=1e-12
        )
    difference = np.abs(one.astype(int) - other).max(2)
    inner = metrics.cropped(difference, border)
    assert comparison.largest == inner.max()
    assert difference[comparison.position[1], comparison.position[0]] == inner.max()
    assert comparison.different == np.mean(inner > 0)


def test_depth_changes_nothing():
    one, other = pair(40, 50)
    eight = compared(Picture(one), Picture(other))
    wide = compared(Picture(one.astype(np.uint16) * 257), Picture(other))
    floats = compared(Picture(one.astype(np.float32) / 255), Picture(other))
    assert wide == eight
    assert floats.psnr_y == pytest.approx(eight.psnr_y, rel=1e-6)
    assert floats.different == eight.different


def test_what_16_bits_alone_show_is_measured():
    samples = np.full((16, 16, 3), 30000, np.uint16)
    comparison = compared(Picture(samples), Picture(samples + np.uint16(1)))
    assert comparison.different == 1
    assert comparison.largest == pytest.approx(1 / 257, rel=1e-2)
    assert comparison.psnr_rgb == pytest.approx(20 * math.log10(65535), rel=1e-3)


def test_equal_pictures_are_equal_in_any_depth():
    one, _ = pair(20, 30)
    for other in (one, one.astype(np.uint16) * np.uint16(257), one.astype(np.float32) / 255):
        comparison = compared(Picture(one), Picture(other))
        assert comparison.equal
        assert math.isinf(comparison.psnr_y)
        assert comparison.as_json()["psnr_y"] is None


def test_equal_profiles_are_no_matter_and_different_ones_mean_srgb():
    one, other = pair(30, 40)
    plain = compared(Picture(one), Picture(other))
    wide = Metadata(icc=profile("p3"))
    both = compared(Picture(one, metadata=wide), Picture(other, metadata=wide))
    assert replace(both, notes=()) == plain
    assert "same profile" in both.notes[0]
    mixed = compared(Picture(one, metadata=wide), Picture(one))
    assert not mixed.equal
    assert "measured as sRGB" in mixed.notes[0]
    tagged = compared(Picture(one, metadata=Metadata(icc=profile("srgb"))), Picture(one))
    assert tagged.equal


def test_hidden_colours_do_not_count_and_transparency_does():
    one, other = pair(20, 20)
    hidden, solid = np.zeros((20, 20), np.uint8), np.full((20, 20), 255, np.uint8)
    assert compared(Picture(one, hidden), Picture(other, hidden)).equal
    opaque = compared(Picture(one, solid), Picture(one))
    assert opaque.equal
    assert opaque.psnr_alpha == math.inf
    grey = np.full((20, 20, 3), 128, np.uint8)
    comparison = compared(Picture(grey, hidden), Picture(grey))
    assert comparison.largest == 0
    assert comparison.different == 1  # invisible over grey, but not equal
    assert comparison.psnr_alpha == 0


def test_the_smaller_one_is_enlarged_and_rounded_as_a_file_would_be():
    small, _ = pair(20, 30)
    large, _ = pair(60, 90)
    bicubic = np.floor(np.clip(resize(small.astype(np.float32), 60, 90), 0, 255) + 0.5).astype(np.uint8)
    comparison = compared(Picture(small), Picture(large))
    assert comparison.psnr_y == pytest.approx(metrics.score(large, bicubic).psnr_y, rel=1e-12)
    assert comparison.notes == ("'one' is enlarged bicubically from 30x20",)


@pytest.mark.parametrize("sizes", [((20, 30), (40, 61)), ((20, 30), (40, 90)), ((30, 20), (20, 30))])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(OnebranchError, match="sizes must be equal, or one a multiple"):
        common_size(*sizes)


def test_grey_beside_colour_is_measured_as_rgb():
    grey, _ = pair(20, 20, 1)
    comparison = compared(Picture(grey), Picture(np.repeat(grey, 3, axis=2)))
    assert comparison.equal
    assert comparison.psnr_rgb == math.inf


def test_small_pictures_have_no_ssim():
    one, other = pair(10, 40)
    comparison = compared(Picture(one), Picture(other))
    assert comparison.ssim_y is None
    assert comparison.ssim_rgb is None
    assert comparison.psnr_y > 10


@pytest.mark.parametrize("border", [-1, 10, 99])
def test_a_border_that_leaves_nothing_is_refused(border):
    one, other = pair(20, 30)
    with pytest.raises(OnebranchError, match="border"):
        compared(Picture(one), Picture(other), border)


def test_the_map_shows_a_single_pixel_and_magnifies_it():
    one, _ = pair(300, 1200)
    other = one.copy()
    other[200, 900] ^= 128
    sources = of_picture(Picture(one), "one"), of_picture(Picture(other), "other")
    comparison, sheet = measure_and_draw(*sources)
    assert comparison.position == (900, 200)
    whole = sheet.pixels[72 : 72 + 120, -16 - 480 : -16].reshape(-1, 3).astype(int)
    detail = sheet.pixels[-200 - 480 : -124, -16 - 476 : -20].reshape(-1, 3).astype(int)
    assert comparison.different == 1 / (300 * 1200)
    assert whole.sum(1).max() > 600, "a bright dot on the map"
    dark = np.abs(detail - map_colours(np.zeros((1, 1, 1), np.float32), 1)[0, 0]).sum(1) == 0
    assert dark.mean() > 0.9
    assert detail.sum(1).max() > 600
    numbers, elsewhere = measure_and_draw(*sources, at=(5, 5))
    assert numbers == comparison
    assert not np.array_equal(sheet.pixels, elsewhere.pixels)
    with pytest.raises(OnebranchError, match="outside"):
        measure_and_draw(*sources, at=(1200, 5))


def test_a_map_is_brighter_where_there_is_more():
    differences = np.linspace(0, 40, 200, dtype=np.float32)[None, :, None]
    brightness = map_colours(differences, 32)[0].astype(int).sum(1)
    assert np.all(np.diff(brightness) >= 0)
    assert brightness[0] < 100 < 600 < brightness[-1]
    assert map_scale(differences) == 64
    assert map_scale(np.full((2, 2, 1), 1e9, np.float32)) == MAP_SCALES[-1]
