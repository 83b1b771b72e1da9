"""The comparison sheet: its content for pictures of any size, and the square that it magnifies."""

import numpy as np
import pytest

from colour_profiles import profile
from onebranch.comparison import levels
from onebranch.comparison.before_after import compare, compare_files
from onebranch.comparison.levels import (
    ColourSpace,
    ComparedPicture,
    as_srgb,
    colour_space_of,
    level_bands,
    of_picture,
)
from onebranch.comparison.overview import (
    DetailMap,
    DownscaledPicture,
    MaximumMap,
    most_detailed_part,
    shown_size,
)
from onebranch.comparison.sheet import Panel, side_by_side
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.resize import resize
from onebranch.images.writing import write


def test_the_most_detailed_square_is_where_the_detail_is():
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[30:40, 50:60] = np.indices((10, 10)).sum(0)[..., None] % 2 * 255
    top, left, side = most_detailed_part(pixels, 16)
    assert 24 <= top <= 30 and 44 <= left <= 50 and side == 16
    assert most_detailed_part(pixels, 999)[2] == 60


def test_details_are_repeated_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    sheet = side_by_side([Panel("a", "one", pixels), Panel("b", "two", pixels)], (5, 7, 10), width=200)
    detail = sheet[-16 - 200 : -16, -16 - 200 : -16]
    np.testing.assert_array_equal(detail[10:190:20, 10:190:20], pixels[5:15, 7:17][:9, :9])
    assert sheet.shape[1] == 16 + 2 * 216


def sources(*pictures: Picture) -> list[ComparedPicture]:
    return [of_picture(picture, name) for picture, name in zip(pictures, "abc", strict=False)]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def levels_of(source: ComparedPicture, size: tuple[int, int]) -> np.ndarray:
    with source.opened() as reader:
        return np.concatenate([rows for rows, _ in level_bands(reader, size)])


@pytest.mark.parametrize("size", [(70, 50), (140, 100), (35, 25), (53, 91)])
def test_bands_are_the_picture_resized_whole(monkeypatch, size):
    monkeypatch.setattr(levels, "COMPARISON_BAND_PIXELS", 1)  # the shortest bands there are
    pixels = noise(70, 50)
    (source,) = sources(Picture(pixels))
    whole = np.floor(np.clip(resize(pixels.astype(np.float32), *size), 0, 255) + np.float32(0.5))
    np.testing.assert_array_equal(levels_of(source, size), whole)


def test_levels_are_the_samples_of_every_depth_with_white_as_255():
    for white in (np.uint8(255), np.uint16(65535), np.float32(1)):
        pixels = np.full((2, 3, 1), white)
        assert np.all(levels_of(*sources(Picture(pixels)), (2, 3)) == 255)
    assert np.all(levels_of(*sources(Picture(np.full((2, 3, 1), 257, np.uint16))), (2, 3)) == 1)


def test_floats_that_are_no_numbers_are_black_and_infinity_is_white():
    pixels = np.array([np.nan, np.inf, -np.inf, 2.0], np.float32).reshape(1, 4, 1)
    assert levels_of(*sources(Picture(pixels)), (1, 4)).ravel().tolist() == [0, 255, 0, 510]


def test_transparency_shows_mid_grey():
    picture = Picture(np.full((1, 2, 3), 200, np.uint8), np.array([[0, 255]], np.uint8))
    assert levels_of(*sources(picture), (1, 2))[0, :, 0].tolist() == [128, 200]


def test_colours_are_shown_through_their_profile():
    p3 = profile("p3")
    green = np.array([[[0, 255, 0]]], np.uint8)
    plain, wide = (as_srgb(green.astype(np.float32), ColourSpace(p)) for p in (None, p3))
    assert plain.tolist() == [[[0, 255, 0]]]
    assert np.abs(as_srgb(np.full((1, 1, 3), 128, np.float32), ColourSpace(p3)) - 128).max() < 1
    reddish = np.array([[[180.0, 60.0, 60.0]]], np.float32)
    assert as_srgb(reddish, ColourSpace(p3))[0, 0, 0] > 185  # P3's red is redder than sRGB's
    assert wide[0, 0, 1] == 255


def test_a_profile_that_does_what_srgb_does_is_srgb():
    pixels = noise(4, 4)
    for name, expected in (("srgb", ColourSpace()), ("p3", ColourSpace(profile("p3")))):
        picture = Picture(pixels, metadata=Metadata(icc=profile(name)))
        assert colour_space_of(picture.header) == expected


@pytest.mark.parametrize("size", [(2000, 3000), (701, 997), (90, 60), (1, 3000), (1500, 2)])
def test_a_picture_is_reduced_by_means_and_a_map_by_its_largest(size):
    values = np.random.default_rng(1).random((*size, 3)).astype(np.float32) * 255
    reduced, largest = DownscaledPicture(size, 100), MaximumMap(size, 100)
    for first in range(0, size[0], 37):
        reduced.add(values[first : first + 37])
        largest.add(values[first : first + 37, :, :1])
    shown = shown_size(size, 100)
    assert largest.values.shape[:2] == tuple(min(pair) for pair in zip(shown, size, strict=True))
    assert largest.values.max() == values[..., 0].max()
    row, column = np.unravel_index(int(values[..., 0].argmax()), size)
    height, width = largest.values.shape[:2]
    assert largest.values[row * height // size[0], column * width // size[1], 0] == values[..., 0].max()
    pixels = reduced.pixels()
    box = -(-size[0] // pixels.shape[0]), -(-size[1] // pixels.shape[1])
    np.testing.assert_allclose(
        pixels[0, 0].astype(float), values[: box[0], : box[1]].mean((0, 1)), rtol=0, atol=0.51
    )
    assert np.prod(pixels.shape[:2]) <= 16 * np.prod(shown) or pixels.shape[:2] == size


def test_cells_find_the_detail_without_the_whole_picture():
    pixels = np.zeros((600, 900, 3), np.float32)
    pixels[310:420, 640:760] = np.indices((110, 120)).sum(0)[..., None] % 2 * 255
    detail_map = DetailMap((600, 900), 480)
    for first in range(0, 600, 50):
        detail_map.add(pixels[first : first + 50])
    square = detail_map.most_detailed(120)
    assert abs(square.top - 305) <= 15
    assert abs(square.left - 640) <= 15


def test_the_input_is_shown_at_the_size_of_the_result():
    small, large = noise(40, 64), noise(80, 128, seed=1)
    comparison = compare(Picture(small), Picture(large), "result")
    bicubic = np.floor(np.clip(resize(small.astype(np.float32), 80, 128), 0, 255) + 0.5)
    size, width = (80, 128), 640
    detail_map = DetailMap(size, width)
    detail_map.add(large.astype(np.float32))
    square = detail_map.most_detailed(80)
    left, right = (
        comparison.pixels[-16 - width : -16, at : at + width][4::8, 4::8] for at in (16, 32 + width)
    )  # a detail of 80 pixels, each repeated 8 times
    inside = slice(1, -1)  # the frame covers the border
    for seen, whole in ((left, bicubic), (right, large)):
        cut = whole[square.top : square.top + 80, square.left : square.left + 80]
        np.testing.assert_array_equal(seen[inside, inside], cut[inside, inside])


def test_files_and_pictures_give_the_same_sheet(tmp_path):
    pictures = Picture(noise(40, 64)), Picture(noise(20, 32, seed=1))
    paths = tmp_path / "before.png", tmp_path / "after.png"
    for picture, path in zip(pictures, paths, strict=True):
        write(picture, path)
    sheets = compare(*pictures, "result").pixels, compare_files(*paths, "result").pixels
    np.testing.assert_array_equal(*sheets)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (7, 13)])
def test_pictures_of_any_shape_are_shown(size):
    picture = Picture(noise(*size))
    assert compare(picture, picture).width == 16 + 2 * 656


def test_a_long_name_loses_its_middle():
    picture = Picture(noise(20, 20))
    plain, long = (compare(picture, picture, name).pixels for name in ("x", "photograph " * 40))
    assert plain.shape == long.shape
    margin = long[:60, -16:]
    assert np.all(margin == margin[0, 0])
    assert not np.array_equal(plain, long)
