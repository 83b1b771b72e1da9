"""Scores: the protocol step by step, the field's bicubic rows, and what is refused."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from network_specs import calm_model
from onebranch import evaluation
from onebranch.enhancer.enhancer import enhance
from onebranch.errors import OnebranchError
from onebranch.evaluation import evaluate
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.resize import imresize
from onebranch.images.writing import write
from onebranch.metrics import Scores, score
from onebranch.model.file import Model

UPSCALE = calm_model(task="upscale", scale=2)
DOWNSCALE = calm_model(task="downscale", scale=2)
DENOISE = calm_model("rgb", task="denoise")


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1], rounded to 8 bits."""
    return np.floor(np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def bicubic(pixels: np.ndarray, scale: float) -> np.ndarray:
    """The picture resized and rounded to 8 bits."""
    return eight_bits(imresize(pixels / 255, scale))


def enhanced(pixels: np.ndarray, model: Model) -> np.ndarray:
    """The picture enhanced and rounded to 8 bits."""
    return enhance(Picture(pixels), model, threads=1).pixels


@pytest.fixture
def folder(tmp_path: Path, crops: Path) -> Path:
    """Two crops, one of odd size, and a greyscale picture."""
    for name in ("houses", "sand"):
        write(read(crops / f"{name}.png"), tmp_path / f"{name}.png")
    write(Picture(read(crops / "fence.png").pixels[:, :, :1]), tmp_path / "grey.png")
    return tmp_path


def assert_close(actual: Scores, expected: Scores) -> None:
    """Assert equality, except for ties in the last bit of a few pixels."""
    for name in vars(expected):
        assert getattr(actual, name) == pytest.approx(getattr(expected, name), abs=2e-3), name


def test_upscaling_is_scored_on_bicubic_inputs(folder: Path) -> None:
    evaluation = evaluate(UPSCALE, folder, threads=1)
    assert [row.name for row in evaluation.rows] == ["grey", "houses", "sand"]
    for row in evaluation.rows:
        picture = read(folder / f"{row.name}.png").pixels
        high = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        low = bicubic(high, 1 / 2)
        assert_close(row.scores, score(enhanced(low, UPSCALE), high, 2))
        assert_close(row.baseline, score(bicubic(low, 2), high, 2))
    assert evaluation.mean.scores.psnr_y == pytest.approx(
        np.mean([row.scores.psnr_y for row in evaluation.rows])
    )


def test_denoising_is_scored_on_seeded_float_noise(folder: Path) -> None:
    evaluation = evaluate(DENOISE, folder, sigma=40, threads=1)
    for index, row in enumerate(evaluation.rows):
        picture = read(folder / f"{row.name}.png").pixels
        noisy = picture / 255 + np.random.default_rng(index).normal(0, 40 / 255, picture.shape)
        assert (noisy < 0).any() or (noisy > 1).any()  # or clipping would not be seen
        result = eight_bits(enhanced(noisy.astype(np.float32), DENOISE))
        assert_close(row.scores, score(result, picture, 0))
        assert_close(row.baseline, score(eight_bits(noisy), picture, 0))
    assert evaluate(DENOISE, folder, sigma=40, threads=1) == evaluation


def test_shrinking_is_scored_against_bicubic(folder: Path) -> None:
    for row in evaluate(DOWNSCALE, folder, threads=1).rows:
        picture = read(folder / f"{row.name}.png").pixels
        high = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        assert_close(row.scores, score(enhanced(high, DOWNSCALE), bicubic(high, 1 / 2), 0))
        assert row.baseline is None


def test_pairs_are_scored_with_eight_bits_between_them(folder: Path) -> None:
    evaluation = evaluate(
        replace(DOWNSCALE, name="down"), folder, then=replace(UPSCALE, name="up"), threads=1
    )
    assert evaluation.model == "down then up"
    for row in evaluation.rows:
        picture = read(folder / f"{row.name}.png").pixels
        high = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        assert_close(row.scores, score(enhanced(enhanced(high, DOWNSCALE), UPSCALE), high, 2))
        assert_close(row.baseline, score(enhanced(bicubic(high, 1 / 2), UPSCALE), high, 2))


def test_pictures_are_scored_at_the_same_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(UPSCALE, folder, threads=1)
    both, shares = threading.Barrier(2, timeout=20), []

    def scored(*arguments: object) -> Scores:
        both.wait()  # would break if the second picture waited for the first
        return score(*arguments)

    monkeypatch.setattr(evaluation, "score", scored)
    (folder / "sand.png").unlink()  # two pictures for two threads
    result = evaluate(UPSCALE, folder, threads=2, progress=lambda name, share: shares.append((name, share)))
    assert result.rows == expected.rows[:2]
    assert shares == [("grey", 0.5), ("houses", 1.0)]


def test_json_holds_every_score_and_no_infinity(folder: Path) -> None:
    still = calm_model("rgb", task="denoise", residual="nearest")
    silent = Model(still.spec, {name: np.zeros_like(value) for name, value in still.weights.items()})
    values = json.loads(json.dumps(evaluate(silent, folder, sigma=0, threads=1).as_json(), allow_nan=False))
    assert values["mean"]["psnr_rgb"] is None
    assert values["mean"]["ssim_y"] == 1
    assert [picture["name"] for picture in values["pictures"]] == ["grey", "houses", "sand"]
    assert values["pictures"][0]["baseline"]["psnr_rgb"] is None


def test_options_that_do_not_fit_the_model_are_refused(folder: Path) -> None:
    cases = [
        (DENOISE, {}, "sigma is missing"),
        (DENOISE, {"sigma": -1}, "sigma is -1"),
        (UPSCALE, {"sigma": 25}, "sigma is for denoising models; this one's task is 'upscale'"),
        (UPSCALE, {"then": UPSCALE}, "'then' follows a model that reduces"),
        (DOWNSCALE, {"then": DENOISE}, "'then' must enlarge by 2"),
        (DOWNSCALE, {"then": calm_model(task="upscale", scale=3)}, "its scale 3"),
    ]
    for model, options, message in cases:
        with pytest.raises(OnebranchError, match=message):
            evaluate(model, folder, threads=1, **options)


def test_pictures_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    def check(message: str) -> None:
        with pytest.raises(OnebranchError, match=message):
            evaluate(UPSCALE, tmp_path, threads=1)

    check("no picture in")
    noise = np.random.default_rng(0)
    write(Picture(noise.integers(0, 65536, (40, 40, 3), np.uint16)), tmp_path / "deep.png")
    check(r"deep\.png' is of type uint16")
    pixels = noise.integers(0, 256, (40, 40, 3), np.uint8)
    write(Picture(pixels, pixels[..., 0]), tmp_path / "deep.png", overwrite=True)
    check(r"deep\.png' is transparent")
    write(Picture(pixels[:12]), tmp_path / "deep.png", overwrite=True)
    check(r"deep\.png': SSIM needs at least 11x11")
    (tmp_path / "deep.png").write_bytes(b"junk")
    check("deep.png")


@pytest.mark.parametrize(("name", "scale", "psnr"), [("set5", 2, 33.66), ("set14", 3, 27.55)])
def test_the_bicubic_rows_of_the_field(shared_data: Path, name: str, scale: int, psnr: float) -> None:
    """Two rows of the tests of the metrics, reproduced by a complete evaluation."""
    model = calm_model(task="upscale", scale=scale, width=1, depth=0)
    mean = evaluate(model, shared_data / "val" / name, threads=1).mean.baseline
    assert mean.psnr_y == pytest.approx(psnr, abs=0.03)
