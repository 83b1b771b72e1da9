"""The comparison picture: its size, and the square it magnifies."""

import numpy as np

from onebranch.images.comparison import Panel, busiest, side_by_side


def test_the_busiest_square_is_where_the_detail_is():
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[30:40, 50:60] = np.indices((10, 10)).sum(0)[..., None] % 2 * 255
    top, left, side = busiest(pixels, 16)
    assert 24 <= top <= 30 and 44 <= left <= 50 and side == 16
    assert busiest(pixels, 999)[2] == 60


def test_details_are_repeated_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    sheet = side_by_side([Panel("a", "one", pixels), Panel("b", "two", pixels)], (5, 7, 10), width=200)
    detail = sheet[-16 - 200 : -16, -16 - 200 : -16]
    np.testing.assert_array_equal(detail[10:190:20, 10:190:20], pixels[5:15, 7:17][:9, :9])
    assert sheet.shape[1] == 16 + 2 * 216
