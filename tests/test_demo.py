"""The demo and the shipped models: what `make demo` shows holds."""

import numpy as np
import pytest

import onebranch
from onebranch.demo import run
from onebranch.images.reading import read
from onebranch.model.catalogue import CATALOGUE
from onebranch.spec.network import parameters


def test_the_demo_beats_bicubic_and_writes_both_pictures(tmp_path):
    steps = []
    outcome = run(tmp_path / "out", lambda step, share: steps.append((step, share)))
    assert [step for step, _ in steps] == ["merging and proving", "doubling", "comparing"]
    assert [share for _, share in steps] == sorted(share for _, share in steps)
    assert outcome.merged_equals_shipped
    assert outcome.network_psnr > outcome.bicubic_psnr + 1
    assert read(outcome.result).pixels.shape == (512, 512, 3)
    assert read(outcome.comparison).width > 3 * 400


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_shipped_model_is_there_and_as_small_as_promised(name):
    model = onebranch.load(name)
    entry = CATALOGUE[name]
    assert (model.spec.task, model.spec.scale, model.spec.colour) == (entry.task, entry.scale, entry.colour)
    most = {"photo-x2": 11_000, "photo-x4": 13_000, "denoise": 50_000, "shrink-x2": 20_000}
    if name in most:
        assert parameters(model.spec) <= most[name]
        assert all(len(block.branches) == 1 for block in model.spec.all_blocks)
        assert model.merge is not None and model.scores and model.recipe


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name.endswith("-int8")])
def test_an_8_bit_model_is_of_the_training_run_of_its_model(name):
    """Or of a further one that is aware of quantization, named so."""
    base = name.removesuffix("-int8")
    run, quantized_run = (onebranch.load(each).recipe["config"]["name"] for each in (base, name))
    assert quantized_run in (run, f"{base}-8-bits")


def test_the_shipped_photo_x2_is_its_trained_form_merged():
    onebranch.verify("photo-x2-branches", "photo-x2")


def test_a_shipped_model_doubles_any_picture(crops):
    picture = read(sorted(crops.glob("*.png"))[0])
    doubled = onebranch.enhance(picture, "photo-x2")
    assert doubled.pixels.shape == (2 * picture.height, 2 * picture.width, picture.channels)
    bicubic = onebranch.enhance(picture, "photo-x2", scale=1)
    assert np.abs(bicubic.pixels.astype(int) - picture.pixels).mean() < 3


RECORDED = [
    (name, measured)
    for name in ("photo-x2", "photo-x4", "denoise", "shrink-x2")
    for measured in sorted(onebranch.load(name).scores)
]


@pytest.mark.parametrize(("name", "measured"), RECORDED)
@pytest.mark.slow
def test_the_scores_in_the_files_are_what_evaluate_measures(shared_data, name, measured):
    """`measured` is a folder and its options, such as "kodak24 sigma 25.0" or "set14 then photo-x2"."""
    data, *words = measured.split()
    options = {"sigma": float(words[1])} if words[:1] == ["sigma"] else dict([words] if words else [])
    mean = onebranch.evaluate(name, shared_data / "val" / data, **options).mean
    stored = onebranch.load(name).scores[measured]
    for key in ("psnr_y", "psnr_rgb"):
        assert getattr(mean.scores, key) == pytest.approx(stored[key], abs=2e-3)


@pytest.mark.slow
def test_shrinking_helps_doubling_and_looks_like_bicubic(shared_data):
    pair = onebranch.evaluate("shrink-x2", shared_data / "val" / "set14", then="photo-x2").mean
    assert pair.scores.psnr_y > pair.baseline.psnr_y
    alone = onebranch.evaluate("shrink-x2", shared_data / "val" / "set14").mean
    assert alone.scores.psnr_y >= 32
