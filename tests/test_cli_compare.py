"""`onebranch compare`: what it prints, what it writes, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from onebranch import metrics


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """a.png, b.png of one size, and c.png of half that size, in the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    one = random.integers(20, 230, (60, 80, 3), np.uint8)
    other = (one + random.integers(-9, 10, one.shape)).astype(np.uint8)
    for name, pixels in (("a", one), ("b", other), ("c", one[::2, ::2])):
        Image.fromarray(pixels).save(f"{name}.png")
    return one, other


def test_scores_are_printed(run, pictures):
    scores = metrics.score(pictures[1], pictures[0])
    outcome = run("compare", "a.png", "b.png")
    assert outcome.code == 0
    assert outcome.output.startswith("a.png, b.png: 80x60\n")
    assert f"luma: PSNR {scores.psnr_y:.2f} dB, SSIM {scores.ssim_y:.4f}\n" in outcome.output
    assert f"RGB: PSNR {scores.psnr_rgb:.2f} dB" in outcome.output
    assert "of the pixels differ, by up to 9 of 255 levels, most at" in outcome.output


def test_json_says_the_same(run, pictures):
    values = json.loads(run("compare", "a.png", "b.png", "--json", "--border", "2").output)
    assert values["psnr_y"] == pytest.approx(metrics.score(pictures[1], pictures[0], 2).psnr_y)
    assert (values["width"], values["height"], values["equal"], values["picture"]) == (80, 60, False, None)
    equal = json.loads(run("compare", "a.png", "a.png", "--json").output)
    assert (equal["equal"], equal["psnr_y"], equal["ssim_y"]) == (True, None, 1.0)


def test_a_picture_is_written_and_not_over_another(run, pictures):
    outcome = run("compare", "c.png", "b.png", "-o", "sheet.png")
    assert outcome.code == 0, outcome.errors
    assert "'c.png' is enlarged bicubically from 40x30" in outcome.output
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 3 * 480 + 4 * 16
    assert "--overwrite" in run.refused("compare", "a.png", "b.png", "-o", "sheet.png")
    assert run("compare", "a.png", "b.png", "-o", "sheet.png", "--at", "79,0", "--overwrite").code == 0


def test_mistakes_are_one_line(run, pictures):
    Image.new("RGB", (33, 33)).save("d.png")
    assert "'a.png' (80x60) and 'd.png' (33x33)" in run.refused("compare", "a.png", "d.png")
    assert "no such file" in run.refused("compare", "a.png", "none.png")
    assert "X,Y" in run.refused("compare", "a.png", "b.png", "-o", "s.png", "--at", "3")
    assert "outside" in run.refused("compare", "a.png", "b.png", "-o", "s.png", "--at", "80,0")
    assert "--out" in run.refused("compare", "a.png", "b.png", "--at", "3,3")
    assert "unknown suffix" in run.refused("compare", "a.png", "b.png", "-o", "s.xyz")
    assert "limit" in run.refused("compare", "a.png", "b.png", "--max-pixels", "99")
    assert run.refused("compare", "a.png", "b.png", "--border", "30")
