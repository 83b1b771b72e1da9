"""Luma and chroma against the published numbers, and the way back."""

import numpy as np
import pytest

from onebranch.images.colour import luma, to_rgb, to_ycbcr

pytestmark = pytest.mark.fast

PUBLISHED = {  # BT.601 studio range in 8 bits: black, white, red, green, blue (ITU-R BT.601-7, 2.5.3)
    (0, 0, 0): (16, 128, 128),
    (1, 1, 1): (235, 128, 128),
    (1, 0, 0): (81.481, 90.203, 240),
    (0, 1, 0): (144.553, 53.797, 34.214),
    (0, 0, 1): (40.966, 240, 109.786),
}


@pytest.mark.fast
@pytest.mark.parametrize(("rgb", "ycbcr"), PUBLISHED.items())
def test_primaries_are_the_published_ones(rgb, ycbcr):
    assert to_ycbcr(np.array(rgb, np.float64)) * 255 == pytest.approx(ycbcr, abs=1e-9)


@pytest.mark.fast
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("shape", [(3,), (7, 3), (5, 4, 3), (2, 5, 4, 3)])
def test_the_way_back_is_exact_outside_the_range_too(shape, dtype, tolerance):
    rgb = np.random.default_rng(1).uniform(-0.5, 1.5, shape).astype(dtype)
    there = to_ycbcr(rgb)
    back = to_rgb(there)
    assert there.dtype == back.dtype == dtype
    np.testing.assert_allclose(back, rgb, rtol=0, atol=tolerance)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_luma_is_the_first_of_ycbcr_and_leaves_its_input_alone(dtype):
    rgb = np.random.default_rng(2).uniform(-0.5, 1.5, (6, 5, 3)).astype(dtype)
    before = rgb.copy()
    result = luma(rgb)
    assert result.shape == (6, 5)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, to_ycbcr(rgb)[..., 0], rtol=0, atol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.fast
def test_views_that_are_not_contiguous():
    rgb = np.random.default_rng(3).uniform(0, 1, (3, 6, 5)).transpose(1, 2, 0)[::2, ::-1]
    np.testing.assert_allclose(to_ycbcr(rgb), to_ycbcr(np.ascontiguousarray(rgb)), rtol=0, atol=1e-15)
