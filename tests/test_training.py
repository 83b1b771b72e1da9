"""Training: configs are strict, crops are a function of their arguments, runs resume bit for bit."""

import itertools
import json
import os
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import onebranch
from interrupted_training import assert_resumes_bit_for_bit
from onebranch.errors import OnebranchError
from onebranch.images.degradation import blur
from onebranch.model import file
from onebranch.nn.network import Network, load, weights_of
from onebranch.nn.prelu import PRELU_COMPUTATIONS, TrainablePReLU
from onebranch.quantization.layers import quantize_with_scales
from onebranch.spec.network import convert
from onebranch.spec.renamed_keys import translate_config
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand
from onebranch.training import config as configs
from onebranch.training import picture_cache
from onebranch.training.config import Config, Data, Training
from onebranch.training.crops import Crops
from onebranch.training.degradation import Degradation, degrade
from onebranch.training.ema import estimate_statistics
from onebranch.training.example_config import example
from onebranch.training.initialization import initialize_from
from onebranch.training.log import Log
from onebranch.training.log import read as read_log
from onebranch.training.loop import train
from onebranch.training.objective import Objective
from onebranch.training.originals import (
    add_grain,
    change_original,
    contour_coverage,
    draw_graphic,
    recolour,
    text_coverage,
)
from onebranch.training.picture_cache import PairSource, load_pairs, training_source
from onebranch.training.schedule import Schedule
from onebranch.training.validation import validation_pairs
from quantized_models import crude_record
from smooth_pictures import write_smooth_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder (with a subfolder) of small smooth colour pictures, sizes not multiples of anything."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    more = folder / "more"
    write_smooth_pictures({folder / "p0.png": (37, 45), more / "p1.png": (50, 41), more / "p2.png": (40, 40)})
    return folder


def settings(pictures, tmp_path, network=None, **training) -> Config:
    basic = {"task": "upscale", "width": 4, "depth": 1, "branches": ("3x3*2 1x1", "identity")}
    short = {"steps": 12, "batch_size": 4, "warmup_steps": 2, "validate_every": 6, "checkpoint_every": 4}
    short |= {"threads": 1, "prelu": "native"}
    folders = {"train": str(pictures), "validation": str(pictures), "cache": str(tmp_path / "cache")}
    return Config(
        name="tiny",
        network=NetworkShorthand(**{**basic, **(network or {})}),
        data=Data(**folders, patch_size=8, validation_pictures=2),
        training=Training(**{**short, **training}),
    )


def source(folder, partners=None, *, suffix=None, skips_errors=False) -> PairSource:
    """Pairs of a folder: with its partners, or with generated low-quality halves."""
    return PairSource(str(folder), partners and str(partners), suffix, not partners, skips_errors)


@pytest.mark.parametrize("task", ["upscale", "downscale", "denoise"])
def test_the_example_config_is_valid_and_has_every_key(task):
    text = example(task)
    config = convert(tomllib.loads(text), Config, task)
    assert config.spec.task == task
    for part in (Data, Training):
        for key in part.__struct_fields__:
            tasks = {"sigma": ("denoise",), "restorer": ("downscale",), "degradation": ("upscale", "denoise")}
            special = next((t for k, t in tasks.items() if key.startswith(k)), (task,))
            unusual = key in ("validation_low_quality", "picture_weight") and task != "downscale"
            assert task not in special or unusual or f"{key} =" in text or key == "validation_low_quality", (
                key
            )


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
        (UPSCALE + "[training]\nfinal_learning_rate = nan", "'training.final_learning_rate' must be"),
        (UPSCALE + "[training]\ngrad_clip_norm = nan", "'training.grad_clip_norm' must be"),
        (UPSCALE + "[training]\nclip = 1.0", "'training.clip' is called 'training.grad_clip_norm'"),
        (UPSCALE + "[data]\npatch = 8", "'data.patch' is called 'data.patch_size'"),
        (UPSCALE + "[training]\npixels = '3X'", "'training.pixels' must be a number with K, M or G"),
        (UPSCALE + "[training]\nsteps = 3\npixels = '3M'", "leave one out"),
        (UPSCALE + "[data.degradation]\nquality = [90, 40]", "'data.degradation.quality' must be"),
        (UPSCALE + "[data.degradation]\nblurr = 1", "unknown key 'blurr'"),
        (UPSCALE + "[training]\nthreads = 0", "'training.threads' must be at least 1"),
        (UPSCALE + "[training]\npicture_weight = -1.0", "'training.picture_weight' must be at least 0"),
        (UPSCALE + "[training]\nbatch_size = 1000000000", "'training.batch_size' must be from 1 to 65536"),
        ("[network]\ntask = 'upscale'\n[training]\nsteps = 0", "'training.steps' must be at least 1"),
        (UPSCALE + "[data]\nsigma = [0.0, inf]", "'data.sigma[1]' must be from 0 to 255"),
        (UPSCALE + "depth = 1000000000", "depth must be at most 1000"),
        ("seed = -1\n" + UPSCALE, "'seed' must be at least 0"),
        (
            UPSCALE + "[data.degradation]\nsoft_probability = 1.5",
            "soft_probability' must be from 0 to 1, not 1.5",
        ),
        (UPSCALE + "[data.degradation]\nsoft_sigma = [0.5, nan]", "'data.degradation.soft_sigma[1]' must be"),
        (
            UPSCALE + "[data.degradation]\ngrain_probability = -0.1",
            "grain_probability' must be at least 0, not -0.1",
        ),
        (
            UPSCALE + "[data.degradation]\ngrain_size = [0.0, 1.0]",
            "grain_size[0]' must be at least 0.1, not 0.0",
        ),
        (
            UPSCALE + "[data.degradation]\nsoft_sigma = [2.0, 1.0]",
            "soft_sigma' must be [lowest, highest], not",
        ),
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
        load_pairs(source(pictures), settings(pictures, tmp_path).spec, tmp_path / "taken", 8)


@pytest.mark.parametrize(
    ("suffix", "content"), [("npy", b"\0" * 100), ("json", b""), ("json", b'[{"name": 1}]')]
)
def test_a_damaged_cache_is_made_again(pictures, tmp_path, suffix, content):
    spec = settings(pictures, tmp_path).spec
    first = load_pairs(source(pictures), spec, tmp_path / "cache", 8)
    expected = [high.copy() for high in first.high]
    (damaged,) = (tmp_path / "cache").glob(f"*.{suffix}")
    damaged.unlink()
    damaged.write_bytes(content)
    again = load_pairs(source(pictures), spec, tmp_path / "cache", 8)
    for mine, theirs in zip(again.high, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_missing_and_empty_folders_are_one_clear_line(tmp_path, pictures):
    for folder, message in ((tmp_path / "nowhere", "nowhere"), (tmp_path, "no picture in")):
        with pytest.raises(OnebranchError, match=message):
            train(settings(folder, tmp_path / "elsewhere"), tmp_path / "run", shown=False)
    with pytest.raises(OnebranchError, match="no picture is large enough"):
        load_pairs(source(pictures), settings(pictures, tmp_path).spec, tmp_path / "cache", 99)


def test_crops_depend_on_seed_step_and_index_alone(pictures, tmp_path):
    config = settings(pictures, tmp_path)
    pairs = load_pairs(source(pictures), config.spec, tmp_path / "cache", 8)
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
    pairs = load_pairs(source(pictures), config.spec, tmp_path / "cache", 8)
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
    pairs = load_pairs(source(pictures, paired), spec, tmp_path / "cache", 8)
    assert all(h.shape[0] == 2 * l.shape[0] for h, l in zip(pairs.high, pairs.low, strict=True))
    Image.new("RGB", (5, 5)).save(paired / "p0.bmp")
    with pytest.raises(OnebranchError, match="does not fit scale 2"):
        load_pairs(source(pictures, paired), spec, tmp_path / "cache", 8)
    (paired / "p0.bmp").unlink()
    with pytest.raises(OnebranchError, match=r"no partner for 'p0\.png'"):
        load_pairs(source(pictures, paired), spec, tmp_path / "cache", 8)


@pytest.mark.parametrize("branches", [("3x3*2 1x1", "identity"), "repsr"], ids=["bn-free", "repsr"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(pictures, tmp_path, branches, monkeypatch):
    config = settings(pictures, tmp_path, {"branches": branches}, bn_freeze_fraction=0.25)
    assert_resumes_bit_for_bit(config, tmp_path, (5, 10), monkeypatch)
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
    rates = {"learning_rate": 1e-2, "ema_decay": 0.9}
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
    model = file.Model(spec=spec, weights=weights_of(donor))
    wider = Network(expand(NetworkShorthand(**short, scale=4)))
    left = initialize_from(wider, model)
    assert left and all(name.startswith("tail.") for name in left)
    assert torch.equal(wider.blocks[1].branches[0][0].weight, donor.blocks[1].branches[0][0].weight)
    other = Network(expand(NetworkShorthand(**{**short, "depth": 3})))
    with pytest.raises(OnebranchError, match=r"blocks\.2"):
        initialize_from(other, model)


BLOCK_WITH_A_PLAIN_BRANCH = ("3x3*2 1x1", "1x1*2 3x3", "3x3", "identity")


@pytest.mark.parametrize("head_and_tail", [("3x3",), ("3x3", "1x1")], ids=["same-ends", "branched-ends"])
def test_branches_start_from_a_merged_model(head_and_tail):
    """The network with branches computes what the merged model does, and trains all its branches."""
    ends = BlockShorthand(branches=head_and_tail)
    short = {"task": "upscale", "width": 4, "depth": 2, "branches": BLOCK_WITH_A_PLAIN_BRANCH}
    spec = expand(NetworkShorthand(**short, head=ends, tail=ends))
    torch.manual_seed(1)
    trained = file.Model(spec=spec, weights=weights_of(Network(spec)))
    merged, _ = onebranch.merge(trained)
    assert all(len(block.branches) == 1 for block in merged.spec.all_blocks)
    network = Network(spec)
    assert initialize_from(network, merged) == ()
    pictures = torch.rand(2, 1, 9, 11)
    expected = load(merged.spec, merged.weights)(pictures)
    torch.testing.assert_close(network(pictures), expected, atol=2e-6, rtol=0)
    network(pictures).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("branches", "reason"),
    [
        (("3x3 1x1", "identity"), "no branch '3x3' to hold the merged kernel"),
        (("3x3 bn", "3x3"), "has batch normalization here"),
        (("1x1", "1x1*2 1x1"), "3x3 of 1 to 4 channels there and 1x1 of 1 to 4 channels here"),
    ],
)
def test_a_merged_model_that_does_not_fit_is_refused(branches, reason):
    short = {"task": "upscale", "width": 4, "depth": 1}
    spec = expand(NetworkShorthand(**short, branches=("3x3",)))
    merged = file.Model(spec=spec, weights=weights_of(Network(spec)))
    network = Network(expand(NetworkShorthand(**short, branches=branches)))
    with pytest.raises(OnebranchError, match=re.escape(reason)):
        initialize_from(network, merged)


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
    options = Training(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    schedule = Schedule(
        Config(name="x", network=NetworkShorthand(task="upscale"), data=Data(train="p"), training=options)
    )
    rates = [schedule.learning_rate(step) for step in range(101)]
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


def test_a_cache_made_for_another_scale_is_not_used(tmp_path):
    for folder, side in (("hr", 96), ("lr", 48)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (side, side), "grey").save(tmp_path / folder / "p.png")
    at_2 = expand(NetworkShorthand(task="upscale", scale=2))
    at_4 = expand(NetworkShorthand(task="upscale", scale=4))
    paired = source(tmp_path / "hr", tmp_path / "lr")
    assert len(load_pairs(paired, at_2, tmp_path / "cache", 8)) == 1
    with pytest.raises(OnebranchError, match="a partner of 48x48 does not fit scale 4; it must be 24x24"):
        load_pairs(paired, at_4, tmp_path / "cache", 8)


def test_few_decoded_pictures_wait_in_memory():
    started = []

    def decoded(number: int) -> picture_cache._Decoded:
        started.append(number)
        return picture_cache._Decoded(str(number))

    with ThreadPoolExecutor(2) as pool:
        pictures = picture_cache._in_order(pool, decoded, 100)
        assert next(pictures).name == "0"
        pool.submit(int).result()
        assert len(started) <= picture_cache.MAX_PICTURES_AHEAD + 1
        assert [picture.name for picture in pictures] == [str(number) for number in range(1, 100)]


def test_a_cache_made_without_partners_is_not_used_with_them(tmp_path):
    """The pictures of a folder and its partners are the pictures of the folder above both."""
    for number, folder in enumerate(("clean", "noisy")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.new("RGB", (48, 48), (number, 0, 0)).save(tmp_path / "data" / folder / "p.png")
    spec = expand(NetworkShorthand(task="denoise", scale=1))
    alone = PairSource(str(tmp_path / "data"), None, None, makes_low=False, skips_errors=False)
    paired = source(tmp_path / "data" / "clean", tmp_path / "data" / "noisy")
    assert load_pairs(alone, spec, tmp_path / "cache", 8).low is None
    pairs = load_pairs(paired, spec, tmp_path / "cache", 8)
    assert pairs.low is not None and len(pairs) == 1 and pairs.low[0].max() == 1


def test_partners_of_a_damaged_cache_are_checked_when_they_are_used(tmp_path):
    for folder, side in (("hr", 96), ("lr", 48)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (side, side), "grey").save(tmp_path / folder / "p.png")
    paired = source(tmp_path / "hr", tmp_path / "lr")
    spec = expand(NetworkShorthand(task="upscale", scale=2))
    load_pairs(paired, spec, tmp_path / "cache", 8)
    (index,) = (tmp_path / "cache").glob("*.json")
    content = json.loads(index.read_text())
    content["pictures"][0]["halves"][1][1:] = [24, 96]
    index.write_text(json.dumps(content))
    with pytest.raises(OnebranchError, match="a partner of 96x24 does not fit scale 2"):
        load_pairs(paired, spec, tmp_path / "cache", 8)


@pytest.mark.parametrize("suffix", ["x2", "_LR", "_lq", "_LRBI_x2"])
def test_partners_are_found_by_the_usual_suffixes(tmp_path, suffix):
    for folder, side, end in (("hr", 32, ""), ("lr", 16, suffix)):
        (tmp_path / folder).mkdir()
        for name in ("0000", "0001"):
            Image.new("RGB", (side, side), "grey").save(tmp_path / folder / f"{name}{end}.png")
    spec = expand(NetworkShorthand(task="upscale", scale=2))
    assert len(load_pairs(source(tmp_path / "hr", tmp_path / "lr"), spec, tmp_path / "cache", 8)) == 2


def test_ambiguous_partners_are_refused(tmp_path):
    (tmp_path / "hr").mkdir()
    (tmp_path / "lr").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "hr" / "a.png")
    for name in ("a.png", "ax2.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / "lr" / name)
    spec = expand(NetworkShorthand(task="upscale", scale=2))
    with pytest.raises(OnebranchError, match="partners fit with the suffixes '' and 'x2'"):
        load_pairs(source(tmp_path / "hr", tmp_path / "lr"), spec, tmp_path / "cache", 8)
    chosen = source(tmp_path / "hr", tmp_path / "lr", suffix="x2")
    assert len(load_pairs(chosen, spec, tmp_path / "cache", 8)) == 1
    Image.new("RGB", (16, 16)).save(tmp_path / "lr" / "ax2.bmp")
    with pytest.raises(OnebranchError, match="is a second partner"):
        load_pairs(chosen, spec, tmp_path / "cache", 8)


def test_faulty_pictures_are_named_all_at_once_or_skipped(pictures, tmp_path):
    folder = tmp_path / "faulty"
    folder.mkdir()
    (folder / "good.png").write_bytes((pictures / "p0.png").read_bytes())
    for name in ("bad1.png", "bad2.jpg"):
        (folder / name).write_bytes(b"nothing")
    Image.new("RGB", (9, 9)).save(folder / "tiny.png")
    spec = settings(pictures, tmp_path).spec
    with pytest.raises(OnebranchError, match="2 pictures cannot be used") as caught:
        load_pairs(source(folder), spec, tmp_path / "cache", 8)
    assert "bad1.png" in str(caught.value) and "bad2.jpg" in str(caught.value)
    pairs = load_pairs(source(folder, skips_errors=True), spec, tmp_path / "cache", 8)
    assert pairs.names == ("good",) and pairs.too_small == 1 and len(pairs.unreadable) == 2


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_degraded_inputs_show_the_same_place_as_their_labels(pictures, tmp_path, scale):
    task = "denoise" if scale == 1 else "upscale"
    network = {"task": task, "scale": scale, "colour": "rgb"}
    config = settings(pictures, tmp_path, network)
    mild = Degradation(noise_sigma=(0, 3), blur_sigma=(0, 0.5), quality=(80, 98))
    data = msgspec.structs.replace(config.data, degradation=mild)
    pairs = load_pairs(training_source(data, config.spec), config.spec, tmp_path / "cache", 8)
    assert pairs.low is None
    crops = Crops(pairs, config.spec, data, 0)
    low, high = crops.batch(0, range(24))
    again = crops.batch(0, range(24))[0]
    np.testing.assert_array_equal(low, again)
    means = high.reshape(24, 3, 8, scale, 8, scale).mean((3, 5))
    assert np.abs(means - low).mean() < 0.35 * np.abs(means[::-1] - low).mean()


def test_a_soft_original_is_blurred_in_the_label_and_before_it_is_reduced(pictures, tmp_path):
    config = settings(pictures, tmp_path, {"task": "upscale", "scale": 2, "colour": "rgb"})
    batches = {}
    for soft in (0.0, 1.0):
        only = Degradation(
            clean_probability=1.0, resamplers=("box",), soft_probability=soft, soft_sigma=(0.75, 0.75)
        )
        data = msgspec.structs.replace(config.data, degradation=only)
        pairs = load_pairs(training_source(data, config.spec), config.spec, tmp_path / "cache", 8)
        batches[soft] = Crops(pairs, config.spec, data, 0).batch(0, range(16))
    steps = {soft: np.abs(np.diff(high)).mean() for soft, (_, high) in batches.items()}
    assert steps[1.0] < 0.9 * steps[0.0]
    low, high = batches[1.0]
    means = high.reshape(16, 3, 8, 2, 8, 2).mean((3, 5))
    assert np.abs(means - low).max() < 1.01 / 255  # box reduction of the label itself


def test_soft_originals_are_blurred_by_scale_times_sigma():
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    always = Degradation(soft_probability=1.0, soft_sigma=(0.75, 0.75))
    np.testing.assert_array_equal(change_original(picture, 2, always, rng), blur(picture, 1.5))
    np.testing.assert_array_equal(change_original(picture, 4, always, rng), blur(picture, 3.0))


def test_changes_that_are_switched_off_leave_all_crops_as_they_were():
    picture = np.zeros((24, 32, 3), np.uint8)
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert change_original(picture, 2, Degradation(), rng) is picture
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("key", "change"), [("graphics_probability", draw_graphic), ("recolour_probability", recolour)]
)
def test_originals_are_changed_with_the_probability_of_the_config(key, change):
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    always, sometimes = Degradation(**{key: 1.0}), Degradation(**{key: 0.25})
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    same.random()
    np.testing.assert_array_equal(change_original(picture, 2, always, rng), change(picture, same))
    unchanged = sum(change_original(picture, 2, sometimes, rng) is picture for _ in range(200))
    assert 130 < unchanged < 170


def test_recolouring_exchanges_and_inverts_channels_in_all_ways():
    rng = np.random.default_rng(0)
    picture = np.full((2, 2, 3), (118, 128, 140), np.uint8)  # weak enough for any saturation without clipping
    orders, factors = set(), []
    for _ in range(600):
        distances = recolour(picture, rng)[0, 0].astype(float) - 127.5
        orders.add(tuple(np.argsort(distances)) + tuple(distances > 0))
        factors.append(np.ptp(distances))
    assert len(orders) > 12
    assert len({order[:3] for order in orders}) == 6


def test_recolouring_multiplies_the_difference_from_grey_by_1_to_3():
    rng = np.random.default_rng(0)
    picture = np.full((2, 2, 3), (127, 127, 148), np.uint8)  # inverted: (128, 128, 107)
    spans = np.array([np.ptp(recolour(picture, rng)[0, 0].astype(int)) for _ in range(400)])
    grey = np.full((2, 2, 3), 127, np.uint8)
    assert spans.min() >= 19 and spans.max() <= 3 * 22 + 1
    assert spans.min() < 25 and spans.max() > 60
    assert max(np.ptp(recolour(grey, rng)[0, 0].astype(int)) for _ in range(50)) <= 3  # 127 and 128


def test_graphics_have_two_plain_colours_and_mixtures_of_them():
    rng = np.random.default_rng(0)
    picture = blur(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), 4)
    for _ in range(40):
        result = draw_graphic(picture, rng)
        assert result.shape == picture.shape and result.dtype == np.uint8
        colours, counts = np.unique(result.reshape(-1, 3), axis=0, return_counts=True)
        background = colours[np.argmax(counts)].astype(float)
        rest = colours - background
        span = rest[np.argmax((rest**2).sum(axis=1))]
        share = rest @ span / (span @ span)
        assert share.min() > -0.03 and share.max() < 1.03
        assert np.abs(rest - share[:, None] * span).max() <= 1  # rounding


def test_contours_are_smooth_over_two_pixels_at_the_edge_and_plain_elsewhere():
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 32:] = 200
    smooth = 0
    for seed in range(10):
        coverage = contour_coverage(picture, np.random.default_rng(seed))
        partial = np.flatnonzero((coverage[16] > 0) & (coverage[16] < 1))
        assert len(partial) <= 2  # none if the edge lies between two pixels
        smooth += len(partial)
        assert coverage[16, 0] == 0 and coverage[16, 63] == 1
    assert smooth > 5
    flat = contour_coverage(np.full((8, 8, 3), 77, np.uint8), np.random.default_rng(0))
    assert len(np.unique(flat)) == 1 and flat[0, 0] in (0.0, 1.0)


def test_text_fills_the_page_with_lines_of_its_size():
    sizes = set()
    for seed in range(20):
        page = text_coverage(200, 300, np.random.default_rng(seed))
        assert page.shape == (200, 300) and page.min() == 0 and page.max() == 1
        inked = page.max(axis=1) > 0
        assert inked[:60].any() and inked[-60:].any()
        gaps = np.flatnonzero(np.diff(inked.astype(int)) == 1)
        sizes.add(len(gaps))
        assert page[:, :100].any() and page[:, -100:].any()
    assert len(sizes) > 3


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_grain_has_the_sigma_and_the_size_of_the_config(scale):
    picture = np.full((256, 320, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    fine = Degradation(grain_probability=1.0, grain_sigma=(6.0, 6.0), grain_size=(1.0, 1.0))
    coarse = msgspec.structs.replace(fine, grain_size=(3.0, 3.0))
    neighbours = []
    for options in (fine, coarse):
        grain = add_grain(picture, scale, options, rng).astype(np.float64) - 128
        assert grain.shape == picture.shape
        assert np.ptp(grain, axis=2).max() == 0  # equal in all channels
        assert grain.std() == pytest.approx(6.0, rel=0.05)
        assert abs(grain.mean()) < 0.6
        plane = grain[..., 0]
        neighbours.append((plane[:, scale:] * plane[:, :-scale]).mean() / plane.var())
    assert neighbours[0] < 0.2 < 0.6 < neighbours[1]  # correlation at a distance of one input pixel


def test_the_label_has_the_grain_of_its_input(pictures, tmp_path):
    config = settings(pictures, tmp_path, {"task": "upscale", "scale": 2, "colour": "rgb"})
    only = Degradation(
        clean_probability=1.0,
        resamplers=("box",),
        grain_probability=1.0,
        grain_sigma=(8.0, 8.0),
        grain_size=(1.0, 1.0),
    )
    data = msgspec.structs.replace(config.data, degradation=only, augment=False)
    without = msgspec.structs.replace(data, degradation=msgspec.structs.replace(only, grain_probability=0.0))
    pairs = load_pairs(training_source(data, config.spec), config.spec, tmp_path / "cache", 8)
    low, high = Crops(pairs, config.spec, data, 0).batch(0, range(16))
    means = high.reshape(16, 3, 8, 2, 8, 2).mean((3, 5))
    assert np.abs(means - low).max() < 1.01 / 255  # box reduction of the label, grain included
    grain = high - Crops(pairs, config.spec, without, 0).batch(0, range(16))[1]
    assert 5 / 255 < grain.std() < 11 / 255


def test_clean_inputs_are_resized_and_nothing_else():
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    only = Degradation(clean_probability=1.0, resamplers=("box",))
    small = degrade(picture, 2, only, np.random.default_rng(0))
    expected = picture.reshape(12, 2, 16, 2, 3).astype(float).mean((1, 3))
    assert np.abs(small - expected).max() <= 1
    never = Degradation(clean_probability=0.0, noise_probability=1.0, noise_sigma=(15.0, 15.0))
    noisy = degrade(np.full((64, 64, 3), 128, np.uint8), 2, never, np.random.default_rng(0))
    assert 5 < noisy.std() < 16


def test_a_diverging_run_stops_at_once_and_keeps_the_last_finite_checkpoint(pictures, tmp_path):
    good = settings(pictures, tmp_path, steps=4, checkpoint_every=4)
    train(good, tmp_path / "run", shown=False)
    wild = settings(pictures, tmp_path, steps=40, learning_rate=1e18, warmup_steps=0, checkpoint_every=1)
    with pytest.raises(OnebranchError, match=r"training diverged at step \d+: the loss is") as caught:
        train(wild, tmp_path / "wild", shown=False)
    assert "lower 'training.learning_rate'" in str(caught.value)
    log = (tmp_path / "wild" / "log.jsonl").read_text()
    assert "NaN" not in log and "Infinity" not in log
    checkpoint = tmp_path / "wild" / "checkpoint.safetensors"
    if checkpoint.exists():
        assert all(np.isfinite(value).all() for value in file.read(checkpoint).weights.values())


@pytest.mark.parametrize("branches", [("3x3*2 1x1", "identity"), "repsr"], ids=["bn-free", "repsr"])
def test_a_checkpoint_is_a_usable_model(pictures, tmp_path, branches):
    config = settings(pictures, tmp_path, {"branches": branches})
    trained = file.read(train(config, tmp_path / "run", shown=False))
    model = file.read(tmp_path / "run" / "checkpoint.safetensors")
    assert model.spec == trained.spec and model.recipe["steps"] == 12
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(model.weights[name], value, err_msg=name)
    initialize_from(Network(config.spec), model)


def test_a_killed_runs_partial_checkpoint_is_removed_by_the_next_run(pictures, tmp_path):
    (tmp_path / "run").mkdir()
    partial = tmp_path / "run" / ".onebranch-other-1-ab.part"
    partial.write_bytes(b"half")
    os.utime(partial, (0, 0))
    train(settings(pictures, tmp_path), tmp_path / "run", shown=False)
    assert not partial.exists()


def test_validation_pictures_too_small_to_score_are_left_out(pictures, tmp_path):
    folder = tmp_path / "validation"
    folder.mkdir()
    (folder / "p0.png").write_bytes((pictures / "p0.png").read_bytes())
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    config = settings(pictures, tmp_path)
    config = msgspec.structs.replace(
        config, data=msgspec.structs.replace(config.data, validation=str(folder))
    )
    pairs = validation_pairs(config.data, config.spec)
    assert pairs.names == ("p0",) and pairs.too_small == 1
    model = file.read(train(config, tmp_path / "run", shown=False))
    assert np.isfinite(model.recipe["validation_psnr"])


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format, "neither"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_all_computations_of_prelu_agree(kind, layout):
    torch.manual_seed(0)
    values, gradient = torch.randn(2, 5, 9, 7).to(kind), torch.randn(2, 5, 9, 7).to(kind)
    if layout != "neither":
        values = values.contiguous(memory_format=layout)
    results = {}
    for computation in PRELU_COMPUTATIONS:
        prelu = TrainablePReLU(5)
        prelu.weight.data = torch.tensor([-0.5, 0.001, 0.01, 0.05, 1.5])
        prelu = prelu if kind == torch.bfloat16 else prelu.to(kind)  # as with autocast
        prelu.computation = computation
        leaf = values.clone().requires_grad_()
        inputs = leaf[:, :, :, ::2] if layout == "neither" else leaf
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            output = prelu(inputs)
        output.backward(gradient[..., : output.shape[3]])
        name = type(output.grad_fn).__name__
        assert ("MaskedPReLU" in name) == (computation == "masked"), name
        results[computation] = (output.detach(), leaf.grad, prelu.weight.grad)
    output, of_values, of_slopes = results["native"]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13, torch.bfloat16: 0.01}[kind]
    for name in ("relu", "masked"):
        assert torch.equal(results[name][0], output)
        assert torch.equal(results[name][1], of_values)
        assert torch.allclose(results[name][2], of_slopes, rtol=tolerance, atol=tolerance)


def test_masked_prelu_takes_one_channel_of_many():
    values = torch.randn(2, 3, 9, 7)[:, 1:2].requires_grad_()
    prelu = TrainablePReLU(1)
    prelu.computation = "masked"
    prelu(values).sum().backward()
    assert prelu.weight.grad == pytest.approx(float(values.detach().clamp_max(0).sum()), rel=1e-5)


def test_the_loss_ignores_the_border_of_the_config(pictures, tmp_path):
    config = settings(pictures, tmp_path, loss_border=2)
    objective = Objective(config.training, None)
    labels = torch.zeros(1, 1, 16, 16)
    outputs = torch.ones(1, 1, 16, 16)
    outputs[..., 4:12, 4:12] = 0
    assert objective(lambda _: outputs, torch.zeros(1, 1, 8, 8), labels) == 0


def test_the_length_of_a_run_may_be_given_in_pixels(pictures, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        "name = 'x'\n[network]\ntask = 'upscale'\n[data]\ntrain = 'p'\npatch_size = 10\n"
        "[training]\nbatch_size = 4\npixels = '1M'\n"
    )
    assert configs.read(path).training.steps == 2500


def test_a_stored_config_of_version_0_1_is_translated():
    old = {"data": {"patch": 8}, "training": {"average": 0.9, "steps": 3}, "name": "x"}
    assert translate_config(old) == {
        "data": {"patch_size": 8},
        "training": {"ema_decay": 0.9, "steps": 3},
        "name": "x",
    }


def test_a_line_of_a_run_names_only_what_is_measured(tmp_path, capsys):
    with Log(tmp_path / "log.jsonl", 100, 0, writes=True, shown=True) as log:
        log.record(0, psnr=30.0, core_seconds=0.0)
        rates = {"steps_per_second": 5.0, "megapixels_per_second": 1.0, "gigapixels": 0.001}
        log.record(10, loss=0.5, psnr=31.0, **rates)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "step 0/100  validation 30.000 dB"
    assert second.startswith("step 10/100  loss 0.50000  validation 31.000 dB  5.0/s")
    assert second.endswith("0 min left")


def quantized_file(folder, spec):
    """A quantized model that is the merged form of a network of this spec with its initial weights."""
    merged, _ = onebranch.merge(file.Model(spec, weights_of(Network(spec)), "tiny"))
    path = folder / "tiny-int8.safetensors"
    file.write(replace(merged, merge=None, quantization=crude_record(merged)), path)
    return str(path)


def test_a_quantization_aware_run_rounds_and_resumes_bit_for_bit(pictures, tmp_path, monkeypatch):
    network = {"branches": ("3x3", "1x1", "identity")}
    start = quantized_file(tmp_path, settings(pictures, tmp_path, network).spec)
    rounding = settings(pictures, tmp_path, network, quantization_aware=True, init_from=start)
    assert_resumes_bit_for_bit(rounding, tmp_path, (5, 10), monkeypatch)
    trained = [
        file.read(train(config, tmp_path / name, shown=False)).weights
        for name, config in {
            "rounds": rounding,
            "does-not": settings(pictures, tmp_path, network, init_from=start),
        }.items()
    ]
    assert any(not np.array_equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_only_the_scales_that_a_network_was_trained_with_can_be_kept(pictures, tmp_path):
    network = {"branches": ("3x3", "1x1", "identity")}
    start = quantized_file(tmp_path, settings(pictures, tmp_path, network).spec)
    config = settings(pictures, tmp_path, network, quantization_aware=True, init_from=start)
    merged, _ = onebranch.merge(file.read(train(config, tmp_path / "run", shown=False)))
    first = file.read(start)
    kept = quantize_with_scales(merged, first)
    assert kept.quantization["layers"] == first.quantization["layers"]
    assert quantize_with_scales(merged, kept).quantization == kept.quantization  # its scales are the same
    other = replace(first, weights={name: value + 1 for name, value in first.weights.items()}, merge=None)
    with pytest.raises(OnebranchError, match="was trained with the scales of another quantized model"):
        quantize_with_scales(merged, replace(other, quantization=crude_record(other)))


def test_a_quantization_aware_run_needs_a_quantized_model(pictures, tmp_path):
    with pytest.raises(OnebranchError, match=r"needs 'training\.init_from', a quantized model"):
        settings(pictures, tmp_path, quantization_aware=True)
    for mistake, message in {
        "forward": "leave out 'training.forward'",
        "precision": "bfloat16 is too coarse",
    }.items():
        value = {"forward": "branches", "precision": "bfloat16"}[mistake]
        with pytest.raises(OnebranchError, match=message):
            settings(pictures, tmp_path, quantization_aware=True, init_from="x", **{mistake: value})
    network = {"width": 16, "depth": 4, "residual": "nearest", "branches": ("3x3",)}
    config = settings(pictures, tmp_path, network, quantization_aware=True, init_from="photo-x2-int8")
    with pytest.raises(OnebranchError, match="needs a network with the task, scale"):
        train(
            msgspec.structs.replace(config, network=msgspec.structs.replace(config.network, scale=4)),
            tmp_path / "other-scale",
            shown=False,
        )
    config = settings(pictures, tmp_path, network, quantization_aware=True, init_from="photo-x2")
    with pytest.raises(OnebranchError, match="photo-x2 is not quantized; quantize it first"):
        train(config, tmp_path / "run", shown=False)
