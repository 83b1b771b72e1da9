"""PSNR and SSIM against their slow definitions, and the field's bicubic rows."""

import math

import numpy as np
import pytest
import pyvips

from benchmarks.evaluation import shifted_ssim
from onebranch.errors import OnebranchError
from onebranch.images.resize import imresize
from onebranch.metrics import Scores, grey, psnr, score, ssim

pytestmark = pytest.mark.fast


def eight_bits(values):
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)


def noisy_pair(height, width, channels, seed=0):
    rng = np.random.default_rng((height, width, channels, seed))
    reference = rng.integers(0, 256, (height, width, channels), np.uint8)
    return eight_bits(reference + rng.normal(0, 20, reference.shape)), reference


def slow_ssim(x, y):
    """The definition, window by window (Wang et al. 2004, equations 13 to 17)."""
    line = [math.exp(-((k - 5) ** 2) / 4.5) for k in range(11)]
    window = np.outer(line, line) / sum(line) ** 2
    similarities = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            light = (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
            similarities.append(light * (2 * covariance + 7.65**2) / (variance_a + variance_b + 7.65**2))
    return np.mean(similarities)


@pytest.mark.fast
@pytest.mark.parametrize("size", [(11, 11), (11, 30), (23, 12), (31, 17)])
def test_ssim_is_the_slow_definition(size):
    picture, reference = (a[..., 0] for a in noisy_pair(*size, 1))
    expected = slow_ssim(picture.astype(float), reference.astype(float))
    assert ssim(picture, reference) == pytest.approx(expected, abs=1e-12)
    assert ssim(reference, picture) == pytest.approx(expected, abs=1e-12)


@pytest.mark.fast
def test_ssim_by_matrix_products_is_the_same():
    """`python -m benchmarks evaluation` compares their times."""
    picture, reference = (a[..., 0].astype(float) for a in noisy_pair(400, 600, 1))
    assert ssim(picture, reference) == pytest.approx(shifted_ssim(picture, reference), abs=1e-9)


@pytest.mark.fast
def test_psnr_is_the_definition():
    picture, reference = noisy_pair(13, 9, 3)
    errors = [(int(a) - int(b)) ** 2 for a, b in zip(picture.ravel(), reference.ravel(), strict=True)]
    assert psnr(picture, reference) == pytest.approx(10 * math.log10(255**2 / (sum(errors) / len(errors))))


@pytest.mark.fast
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pictures_are_perfect(channels):
    _, picture = noisy_pair(20, 16, channels)
    assert score(picture, picture.copy(), 2) == Scores(math.inf, 1, math.inf, 1, math.inf)


@pytest.mark.fast
def test_colour_is_scored_on_unrounded_and_on_rounded_luma():
    picture, reference = noisy_pair(40, 33, 3)
    scores = score(picture, reference, 4)
    inside = np.s_[4:-4, 4:-4]
    weights = np.array([65.481, 128.553, 24.966]) / 255
    y, reference_y = (16 + a[inside].astype(float) @ weights for a in (picture, reference))
    assert scores.psnr_y == pytest.approx(psnr(y, reference_y), abs=1e-9)
    assert scores.ssim_y == pytest.approx(ssim(y, reference_y), abs=1e-12)
    assert scores.psnr_y_rounded == pytest.approx(psnr(y.round(), reference_y.round()), abs=1e-9)
    assert scores.ssim_y_rounded == pytest.approx(ssim(y.round(), reference_y.round()), abs=1e-12)
    assert scores.psnr_rgb == psnr(picture[inside], reference[inside])
    assert scores.psnr_y != scores.psnr_y_rounded


@pytest.mark.fast
def test_grey_is_scored_on_its_own_values():
    picture, reference = noisy_pair(30, 21, 1)
    scores = score(picture, reference, 3)
    psnr_grey = psnr(picture[3:-3, 3:-3], reference[3:-3, 3:-3])
    assert (scores.psnr_y, scores.psnr_y_rounded, scores.psnr_rgb) == (psnr_grey, psnr_grey, psnr_grey)
    as_colour = score(picture.repeat(3, 2), reference.repeat(3, 2), 3)
    assert as_colour.psnr_y - psnr_grey == pytest.approx(20 * math.log10(255 / 219), abs=1e-6)


@pytest.mark.fast
def test_luma_of_black_and_white():
    extremes = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(grey(extremes), [[16, 235]], rtol=0, atol=1e-9)


@pytest.mark.fast
def test_different_shapes_are_refused():
    with pytest.raises(OnebranchError, match="16x20x3 and 16x20x1"):
        score(noisy_pair(16, 20, 3)[0], noisy_pair(16, 20, 1)[0])


@pytest.mark.fast
@pytest.mark.parametrize("border", [3, 10, 100])
def test_less_than_a_window_is_refused(border):
    with pytest.raises(OnebranchError, match="at least 11x11"):
        score(*noisy_pair(16, 20, 3), border)


BICUBIC = {  # PSNR on Y of the bicubic row in the tables of the field (from SRCNN on): Set5, Set14
    ("set5", 2): 33.66,
    ("set5", 3): 30.39,
    ("set5", 4): 28.42,
    ("set14", 2): 30.24,
    ("set14", 3): 27.55,
    ("set14", 4): 26.00,
}


def bicubic_scores(folder, scale):
    """Every picture cut to a multiple of the scale, reduced, rounded, enlarged, rounded; all in RGB."""
    for path in sorted(folder.glob("*.png")):
        picture = np.atleast_3d(pyvips.Image.new_from_file(str(path)).numpy())
        height, width = (side // scale * scale for side in picture.shape[:2])
        high = picture[:height, :width]
        low = eight_bits(imresize(high.astype(float), 1 / scale))
        yield score(eight_bits(imresize(low.astype(float), scale)), high, scale)


@pytest.mark.parametrize(("which", "scale"), BICUBIC)
def test_bicubic_rows_come_out_right(shared_data, which, scale):
    scores = list(bicubic_scores(shared_data / "val" / which, scale))
    assert len(scores) == {"set5": 5, "set14": 14}[which]
    for kind in ("psnr_y", "psnr_y_rounded"):
        mean = np.mean([getattr(entry, kind) for entry in scores])
        assert mean == pytest.approx(BICUBIC[which, scale], abs=0.03), kind


def test_bicubic_ssim_comes_out_right(shared_data):
    """0.9299 in the field's tables: unrounded Y gives 0.9305, rounded 0.9295."""
    scores = list(bicubic_scores(shared_data / "val" / "set5", 2))
    assert np.mean([entry.ssim_y for entry in scores]) == pytest.approx(0.9299, abs=0.0007)
    assert np.mean([entry.ssim_y_rounded for entry in scores]) == pytest.approx(0.9299, abs=0.0005)
