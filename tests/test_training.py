"""Training: configs are strict, crops are a function of their arguments, runs resume bit for bit."""

import itertools
import json
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onebranch.errors import OnebranchError
from onebranch.model import file
from onebranch.nn.network import Network, load
from onebranch.spec.network import convert
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand
from onebranch.training import config as configs
from onebranch.training.average import estimate_statistics
from onebranch.training.config import Config, Data, Training
from onebranch.training.crops import Crops, load_pairs
from onebranch.training.example import example
from onebranch.training.log import read as read_log
from onebranch.training.loop import learning_rate, train
from onebranch.training.state import initialize_from


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder (with a subfolder) of small smooth colour pictures, sizes not multiples of anything."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(37, 45), (50, 41), (40, 40)]):
        small = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        name = folder / ("more" if index else ".") / f"p{index}.png"
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(name)
    return folder


def settings(pictures, tmp_path, network=None, **training) -> Config:
    basic = {"task": "upscale", "width": 4, "depth": 1, "branches": ("3x3*2 1x1", "identity")}
    short = {"steps": 12, "batch": 4, "warm_up": 2, "validate_every": 6, "checkpoint_every": 4, "threads": 1}
    folders = {"train": str(pictures), "validation": str(pictures), "cache": str(tmp_path / "cache")}
    return Config(
        name="tiny",
        network=NetworkShorthand(**{**basic, **(network or {})}),
        data=Data(**folders, patch=8, validation_pictures=2),
        training=Training(**{**short, **training}),
    )


@pytest.mark.parametrize("task", ["upscale", "downscale", "denoise"])
def test_the_example_config_is_valid_and_has_every_key(task):
    text = example(task)
    config = convert(tomllib.loads(text), Config, task)
    assert config.spec.task == task
    for part in (Data, Training):
        for key in part.__struct_fields__:
            needs = {"sigma": "denoise", "restorer": "downscale"}
            special = next((t for k, t in needs.items() if key.startswith(k)), task)
            unusual = key in ("validation_low_quality", "picture_weight") and task != "downscale"
            assert special != task or unusual or f"{key} =" in text or key == "validation_low_quality", key


UPSCALE = "[network]\ntask = 'upscale'\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[network]\ntask = 'upscale'\nwidht = 3", "unknown key 'widht' in 'network'; did you mean 'width'"),
        ("[network]\ntask = 'upscale'\nbranches = ['3x3 bm']", "unknown word 'bm'"),
        ("[network]\ntask = 'upscale'\nbranches = 'repvg'", "did you mean 'repvgg'"),
        ("[network]\ntask = 'upscal'", "did you mean 'upscale'"),
        ("[network]\ntask = 'upscale'\nbranches = ['2x2']", "both sides must be odd"),
        ("[network]\ntask = 'upscale'\nskips = [{source = 3, target = 1}]", "source < target"),
        (UPSCALE + "[training]\nlearning_rate = nan", "'training.learning_rate' must be from 0"),
        (UPSCALE + "[training]\nlearning_rate = -1.0", "must be at least 0"),
        (UPSCALE + "[training]\nfinal_rate = nan", "'training.final_rate' must be"),
        (UPSCALE + "[training]\nclip = nan", "'training.clip' must be"),
        (UPSCALE + "[training]\nthreads = 0", "'training.threads' must be at least 1"),
        (UPSCALE + "[training]\npicture_weight = -1.0", "'training.picture_weight' must be at least 0"),
        (UPSCALE + "[training]\nbatch = 1000000000", "'training.batch' must be from 1 to 65536"),
        ("[network]\ntask = 'upscale'\n[training]\nsteps = 0", "'training.steps' must be at least 1"),
        (UPSCALE + "[data]\nsigma = [0.0, inf]", "'data.sigma[1]' must be from 0 to 255"),
        (UPSCALE + "depth = 1000000000", "depth must be at most 1000"),
        ("seed = -1\n" + UPSCALE, "'seed' must be at least 0"),
        ("[network", "not valid TOML"),
    ],
)
def test_a_wrong_config_is_one_clear_line(tmp_path, change, message):
    path = tmp_path / "config.toml"
    data = "\ntrain = 'nowhere'\n"
    path.write_text("name = 'x'\n" + change + (data if "[data]" in change else "\n[data]" + data))
    with pytest.raises(OnebranchError) as caught:
        configs.read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value) or "TOML" in message


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "..", "a\nb", "x" * 300])
def test_a_name_that_is_no_file_name_is_refused(pictures, tmp_path, name):
    basic = settings(pictures, tmp_path)
    with pytest.raises(OnebranchError, match="'name' must be a file's name"):
        Config(name=name, network=basic.network, data=basic.data)


def test_a_cache_that_cannot_be_written_is_one_clear_line(pictures, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OnebranchError, match="taken: cannot write the picture cache"):
        load_pairs(str(pictures), None, settings(pictures, tmp_path).spec, tmp_path / "taken", 8)


@pytest.mark.parametrize(
    ("suffix", "content"), [("npy", b"\0" * 100), ("json", b""), ("json", b'[{"name": 1}]')]
)
def test_a_damaged_cache_is_made_again(pictures, tmp_path, suffix, content):
    spec = settings(pictures, tmp_path).spec
    first = load_pairs(str(pictures), None, spec, tmp_path / "cache", 8)
    expected = [high.copy() for high in first.high]
    (damaged,) = (tmp_path / "cache").glob(f"*.{suffix}")
    damaged.unlink()
    damaged.write_bytes(content)
    again = load_pairs(str(pictures), None, spec, tmp_path / "cache", 8)
    for mine, theirs in zip(again.high, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_missing_and_empty_folders_are_one_clear_line(tmp_path, pictures):
    for folder, message in ((tmp_path / "nowhere", "nowhere"), (tmp_path, "no picture in")):
        with pytest.raises(OnebranchError, match=message):
            train(settings(folder, tmp_path / "elsewhere"), tmp_path / "run", shown=False)
    with pytest.raises(OnebranchError, match="no picture is large enough"):
        load_pairs(str(pictures), None, settings(pictures, tmp_path).spec, tmp_path / "cache", 99)


def test_crops_depend_on_seed_step_and_index_alone(pictures, tmp_path):
    config = settings(pictures, tmp_path)
    pairs = load_pairs(str(pictures), None, config.spec, tmp_path / "cache", 8)
    crops = Crops(pairs, config.spec, config.data, 0)
    whole = crops.batch(3, range(8))
    part = crops.batch(3, range(4, 8))
    for mine, theirs in zip(whole, part, strict=True):
        np.testing.assert_array_equal(mine[4:], theirs)
    assert whole[0].shape == (8, 1, 8, 8) and whole[1].shape == (8, 1, 16, 16)
    assert not np.array_equal(whole[0], crops.batch(4, range(8))[0])
    assert not np.array_equal(whole[0], Crops(pairs, config.spec, config.data, 1).batch(3, range(8))[0])


def test_both_halves_of_a_crop_show_the_same_place(pictures, tmp_path):
    config = settings(pictures, tmp_path)
    pairs = load_pairs(str(pictures), None, config.spec, tmp_path / "cache", 8)
    low, high = Crops(pairs, config.spec, config.data, 0).batch(0, range(16))
    means = high.reshape(16, 1, 8, 2, 8, 2).mean((3, 5))
    assert np.abs(means - low).mean() < 0.01
    assert np.abs(means[::-1] - low).mean() > 0.05


def test_paired_folders_are_read_and_checked(tmp_path, pictures):
    spec = settings(pictures, tmp_path).spec
    paired = tmp_path / "low"
    (paired / "more").mkdir(parents=True)
    for path in pictures.rglob("*.png"):
        picture = Image.open(path)
        half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
        half.save((paired / path.relative_to(pictures)).with_suffix(".bmp"))
    pairs = load_pairs(str(pictures), str(paired), spec, tmp_path / "cache", 8)
    assert all(h.shape[0] == 2 * l.shape[0] for h, l in zip(pairs.high, pairs.low, strict=True))
    Image.new("RGB", (5, 5)).save(paired / "p0.bmp")
    with pytest.raises(OnebranchError, match="does not fit scale 2"):
        load_pairs(str(pictures), str(paired), spec, tmp_path / "cache", 8)
    (paired / "p0.bmp").unlink()
    with pytest.raises(OnebranchError, match=r"no partner for 'p0\.png'"):
        load_pairs(str(pictures), str(paired), spec, tmp_path / "cache", 8)


@pytest.mark.parametrize("branches", [("3x3*2 1x1", "identity"), "repsr"], ids=["bn-free", "repsr"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(pictures, tmp_path, branches, monkeypatch):
    config = settings(pictures, tmp_path, {"branches": branches}, freeze_batch_norm=0.25)
    whole = file.read(train(config, tmp_path / "whole", shown=False))

    class Stop(Exception):
        pass

    from onebranch.training import loop

    rate = loop.learning_rate
    for stop in (5, 10):

        def stopping(options, step, stop=stop):
            if step == stop:
                raise Stop
            return rate(options, step)

        monkeypatch.setattr(loop, "learning_rate", stopping)
        with pytest.raises(Stop):
            train(config, tmp_path / "parts", shown=False)
    monkeypatch.setattr(loop, "learning_rate", rate)
    parts = file.read(train(config, tmp_path / "parts", shown=False))
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(parts.weights[name], value, err_msg=name)
    steps = [r["step"] for r in read_log(tmp_path / "parts" / "log.jsonl") if "psnr" in r]
    assert steps == [6, 12]


def test_another_config_does_not_resume(pictures, tmp_path):
    train(settings(pictures, tmp_path), tmp_path / "run", shown=False)
    with pytest.raises(OnebranchError, match="learning_rate"):
        train(settings(pictures, tmp_path, learning_rate=1e-3), tmp_path / "run", shown=False)


def test_a_damaged_checkpoint_is_one_clear_line(pictures, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(OnebranchError, match="not a readable checkpoint"):
        train(settings(pictures, tmp_path), tmp_path / "run", shown=False)


@pytest.mark.parametrize("task", ["upscale", "downscale", "denoise"])
@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_every_task_learns(pictures, tmp_path, task, colour):
    network = {"task": task, "colour": colour, "residual": "none", "width": 8}
    rates = {"learning_rate": 1e-2, "average": 0.9}
    config = settings(pictures, tmp_path, network, steps=200, validate_every=20, **rates)
    model = file.read(train(config, tmp_path / "run", shown=False))
    scores = [r["psnr"] for r in read_log(tmp_path / "run" / "log.jsonl") if "psnr" in r]
    assert scores[-1] > scores[0] + 3
    assert (tmp_path / "run" / "log.png").stat().st_size > 1000
    assert model.recipe["batch_norm_frozen"] is True
    assert str(tmp_path) not in json.dumps(model.recipe)


def test_merged_mode_trains_to_the_same_weights_as_branches(pictures, tmp_path):
    results = []
    for forward in ("branches", "merged"):
        config = settings(pictures, tmp_path, forward=forward, precision="float64", optimizer="sgd")
        results.append(file.read(train(config, tmp_path / forward, shown=False)).weights)
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=0, atol=1e-6, err_msg=name)


def test_merged_mode_with_batch_norm_is_refused_before_any_step(pictures, tmp_path):
    config = settings(pictures, tmp_path, {"branches": "repsr"}, forward="merged")
    with pytest.raises(OnebranchError, match="frozen statistics"):
        train(config, tmp_path / "run", shown=False)


def test_x2_becomes_x4_by_a_fresh_tail():
    short = {"task": "upscale", "width": 4, "depth": 2, "branches": "repsr"}
    spec = expand(NetworkShorthand(**short))
    torch.manual_seed(0)
    donor = Network(spec)
    from onebranch.nn.network import weights_of

    model = file.Model(spec=spec, weights=weights_of(donor))
    wider = Network(expand(NetworkShorthand(**short, scale=4)))
    left = initialize_from(wider, model)
    assert left and all(name.startswith("tail.") for name in left)
    assert torch.equal(wider.blocks[1].branches[0][0].weight, donor.blocks[1].branches[0][0].weight)
    other = Network(expand(NetworkShorthand(**{**short, "depth": 3})))
    with pytest.raises(OnebranchError, match=r"blocks\.2"):
        initialize_from(other, model)


def test_population_statistics_are_those_of_the_batches():
    torch.manual_seed(0)
    spec = expand(NetworkShorthand(task="denoise", width=4, depth=0, head=BlockShorthand(("3x3 bn",))))
    built = Network(spec).double()
    batches = [torch.randn(3, 1, 8, 8, dtype=torch.float64) for _ in range(4)]
    estimate_statistics(built, batches)
    chain = built.head.branches[0]
    outputs = [chain[0](torch.nn.functional.pad(b, (1, 1, 1, 1))) for b in batches]
    expected = torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0)
    torch.testing.assert_close(chain[1].running_mean, expected.detach())


def test_the_learning_rate_warms_up_and_falls_to_the_final_one():
    options = Training(steps=100, warm_up=10, learning_rate=1.0, final_rate=0.1)
    rates = [learning_rate(options, step) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and abs(rates[100] - 0.1) < 1e-12
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_an_untouched_network_loads_as_it_was_saved(pictures, tmp_path):
    model = file.read(train(settings(pictures, tmp_path), tmp_path / "run", shown=False))
    network = load(model.spec, model.weights)
    assert network(torch.rand(1, 1, 6, 6)).shape == (1, 1, 12, 12)


def test_the_documentation_names_every_key_of_the_config():
    text = (Path(__file__).parent.parent / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    for part in (Config, NetworkShorthand, Data, Training):
        for key in part.__struct_fields__:
            assert f"`{key}`" in text or f"`[{key}]`" in text, key


def test_a_full_disk_is_one_clear_line(pictures, tmp_path, monkeypatch):
    config = settings(pictures, tmp_path)
    train(config, tmp_path / "run", shown=False)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    longer = settings(pictures, tmp_path, steps=16)
    with pytest.raises(OnebranchError, match=r"cannot write '.*': no space left"):
        train(longer, tmp_path / "new", shown=False)
    assert not list((tmp_path / "new").glob("*.part"))
    with pytest.raises(OnebranchError, match="cannot make this folder"):
        train(longer, tmp_path / "run" / "log.jsonl" / "below", shown=False)
