"""Scores on degraded inputs: the classes, the baselines, and the degradations themselves."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from onebranch.cli import onebranch
from onebranch.degraded_evaluation import MAX_PSNR, RESAMPLERS, TREATMENTS, evaluate_degraded
from onebranch.errors import OnebranchError
from onebranch.images.degradation import add_noise, blur, compress, reduce, resize


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small detailed pictures, one of odd size."""
    path = tmp_path_factory.mktemp("degraded")
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(64, 48), (51, 63)]):
        small = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path / f"p{index}.png")
    return path


def test_every_class_has_every_picture_and_its_baselines(folder):
    evaluation = evaluate_degraded("photo-x2", folder)
    assert {(c.resampler, c.treatment) for c in evaluation.classes} == {
        (resampler, treatment) for resampler in RESAMPLERS for treatment in TREATMENTS
    }
    for one in evaluation.classes:
        assert [picture.name for picture in one.pictures] == ["p0", "p1"]
        assert one.worst.gain <= one.gain
    assert evaluation.worst_gain == min(one.worst.gain for one in evaluation.classes)
    values = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert (values["model"], values["channels"]) == ("photo-x2", "y")


def test_the_baseline_is_pillows_lanczos_of_the_degraded_picture(folder):
    evaluation = evaluate_degraded("photo-x2", folder)
    reference = np.asarray(Image.open(folder / "p0.png"))
    small = Image.fromarray(reference).resize((24, 32), Image.Resampling.BOX)
    enlarged = np.asarray(small.resize((48, 64), Image.Resampling.LANCZOS))
    weights = np.array([65.481, 128.553, 24.966]) / 255
    difference = ((enlarged.astype(float) - reference) @ weights)[2:-2, 2:-2]
    expected = 10 * np.log10(255**2 / np.mean(difference**2))
    (clean_box,) = (c for c in evaluation.classes if (c.resampler, c.treatment) == ("box", "clean"))
    assert clean_box.pictures[0].lanczos == pytest.approx(expected, abs=1e-9)


def test_psnr_of_rgb_is_that_of_all_channels(folder):
    evaluation = evaluate_degraded("photo-x2", folder, channels="rgb")
    reference = np.asarray(Image.open(folder / "p0.png"))
    small = Image.fromarray(reference).resize((24, 32), Image.Resampling.BOX)
    enlarged = np.asarray(small.resize((48, 64), Image.Resampling.LANCZOS))
    difference = (enlarged.astype(float) - reference)[2:-2, 2:-2]
    (clean_box,) = (c for c in evaluation.classes if (c.resampler, c.treatment) == ("box", "clean"))
    expected = 10 * np.log10(255**2 / np.mean(difference**2))
    assert clean_box.pictures[0].lanczos == pytest.approx(expected, abs=1e-9)
    assert "psnr_rgb" in evaluation.as_json()["classes"][0]
    on_luma = evaluate_degraded("photo-x2", folder)
    assert on_luma.classes[0].pictures[0].model != evaluation.classes[0].pictures[0].model


def test_a_model_that_makes_pictures_smaller_is_refused(folder):
    with pytest.raises(OnebranchError, match="this one's task is 'downscale'"):
        evaluate_degraded("shrink-x2", folder)


def test_equal_pictures_and_too_small_ones(tmp_path):
    Image.new("RGB", (24, 18)).save(tmp_path / "black.png")
    evaluation = evaluate_degraded("photo-x2", tmp_path)
    assert evaluation.classes[0].pictures[0].lanczos == MAX_PSNR
    assert np.isfinite(evaluation.gain) and "NaN" not in json.dumps(evaluation.as_json(), allow_nan=False)
    Image.new("RGB", (24, 5)).save(tmp_path / "flat.png")
    with pytest.raises(OnebranchError, match=r"flat.png' has 24x5 pixels; .* at least 5x5 are needed"):
        evaluate_degraded("photo-x2", tmp_path)


def test_a_model_that_keeps_the_size_is_compared_with_its_input(folder):
    evaluation = evaluate_degraded("denoise", folder)
    assert {one.resampler for one in evaluation.classes} == {"none"}
    assert [one.treatment for one in evaluation.classes] == list(TREATMENTS)[1:]
    assert all(picture.lanczos == picture.bicubic for one in evaluation.classes for picture in one.pictures)
    assert np.isfinite(evaluation.gain)


def test_the_command_prints_a_table_or_json(folder):
    arguments = ["evaluate", "-m", "photo-x2", "-d", str(folder), "--degraded"]
    table = CliRunner().invoke(onebranch, arguments, env={"COLUMNS": "160"})
    assert table.exit_code == 0 and "JPEG 40" in table.output and "lanczos" in table.output
    content = json.loads(CliRunner().invoke(onebranch, [*arguments, "--json"]).stdout)
    assert len(content["classes"]) == len(RESAMPLERS) * len(TREATMENTS)
    in_colour = CliRunner().invoke(onebranch, [*arguments, "--channels", "rgb"], env={"COLUMNS": "160"})
    assert "gain in PSNR of RGB over Lanczos" in in_colour.output
    misplaced = CliRunner().invoke(onebranch, [*arguments[:-1], "--channels", "rgb"])
    assert misplaced.exit_code == 2 and "--channels is for --degraded" in misplaced.output
    refused = CliRunner().invoke(onebranch, [*arguments, "--sigma", "5"])
    assert refused.exit_code == 2 and "takes neither --sigma nor --then" in refused.output


def test_degradations_do_what_their_names_say():
    rng = np.random.default_rng(0)
    flat = np.full((32, 48, 3), 100, np.uint8)
    assert add_noise(flat, 10, rng).std() == pytest.approx(10, rel=0.1)
    grey = add_noise(flat, 10, rng, grey=True)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    picture = rng.integers(0, 256, (33, 49, 3), dtype=np.uint8)
    assert reduce(picture, 4, "lanczos").shape == (8, 12, 3)
    assert resize(picture, 7, 5, "bicubic").shape == (7, 5, 3)
    assert blur(picture, 1.0).std() < picture.std()
    errors = [
        np.abs(compress(picture, q, c).astype(int) - picture).mean()
        for q in (95, 40)
        for c in ("jpeg", "webp")
    ]
    assert errors[0] < errors[2] and errors[1] < errors[3]
    assert np.abs(compress(picture, 95, "jpeg", "4:4:4").astype(int) - picture).mean() < errors[0]
