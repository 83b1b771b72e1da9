"""The training queue: it trains recipes in order, survives kills, pauses, and says where it stands."""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebranch.model.file import read

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "ladder.py"

RECIPE = """\
name = "{name}"
[network]
task = "upscale"
width = 4
depth = 1
[data]
train = "{pictures}"
validation = "{pictures}"
patch_size = 8
[training]
pixels = "{pixels}"
batch_size = 4
threads = 1
prelu = "native"
validate_every = 10
checkpoint_every = 5
"""


@pytest.fixture(scope="module")
def ladder():
    """The script as a module."""
    return module("ladder")


def module(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def recipes(tmp_path) -> list[Path]:
    """Two tiny recipes and a faulty one between them."""
    (tmp_path / "pictures").mkdir()
    small = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((44, 40)).save(tmp_path / "pictures" / "p.png")
    paths = []
    for name, pixels in (("first", "5K"), ("faulty", "5X"), ("second", "5K")):
        paths.append(tmp_path / f"{name}.toml")
        text = RECIPE.format(name=name, pictures=tmp_path / "pictures", pixels=pixels)
        paths[-1].write_text(text)
    return paths


def start(tmp_path, recipes, *options) -> subprocess.Popen:
    environment = {**os.environ, "ONEBRANCH_LADDER": str(tmp_path / "ladder")}
    (tmp_path / "ladder").mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), "train", *map(str, recipes), *options]
    return subprocess.Popen(
        command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_recipes_are_trained_in_order_and_a_faulty_one_is_named(tmp_path, recipes, ladder):
    process = start(tmp_path, recipes)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    queue = ladder.Ladder(tmp_path / "ladder")
    assert queue.is_done("first") and queue.is_done("second") and not queue.is_done("faulty")
    assert "faulty: " in errors and "training.pixels" in errors
    lines = ladder.status(queue, [recipes[0], recipes[2]])
    assert lines[0] == "training queue: stopped"
    assert all(line.endswith("done") and "dB" in line for line in lines[1:])


@pytest.mark.slow
def test_a_run_can_be_paused_resumed_limited_and_killed(tmp_path, recipes, ladder):
    recipes[0].write_text(recipes[0].read_text().replace("5K", "5G"))
    queue = ladder.Ladder(tmp_path / "ladder")
    process = start(tmp_path, recipes[:1])
    checkpoint = queue.run_folder("first") / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "is paused" in ladder._signal(queue.running, queue.paused, signal.SIGSTOP, "paused")
    assert "paused" in ladder.status(queue, recipes[:1])[0]
    assert "nothing to do" in ladder._signal(queue.running, queue.paused, signal.SIGSTOP, "paused")
    assert "is resumed" in ladder._signal(queue.paused, queue.running, signal.SIGCONT, "resumed")
    process.kill()
    process.communicate()
    assert ladder.status(queue, recipes[:1])[0] == "training queue: stopped"
    limited = start(tmp_path, recipes[:1], "--limit", "1")
    _, errors = limited.communicate(timeout=120)
    assert limited.returncode == 0, errors
    assert checkpoint.exists() and not queue.is_done("first") and not queue.running.exists()


def test_the_queue_names_recipes_that_exist_and_have_a_length_in_pixels(tmp_path, ladder):
    from onebranch.training import config as configs

    paths = ladder.recipes(ladder.QUEUE, ladder.Ladder(tmp_path))
    assert paths and len(set(paths)) == len(paths)
    for path in paths:
        assert configs.read(path).training.pixels and ladder._pixels(path) > 0


@pytest.mark.slow
def test_a_longer_run_lies_in_a_folder_of_its_own_and_counts_as_done(tmp_path, recipes, ladder):
    process = start(tmp_path, recipes[:1], "--times", "2", "--data", str(packed(tmp_path)))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    queue = ladder.Ladder(tmp_path / "ladder")
    assert queue.trained("first") == tmp_path / "ladder" / "runs" / "first-times-2" / "first.safetensors"
    line = ladder.status(queue, recipes[:1])[1]
    assert "first-times-2" in line and "1e-05 Gpx" in line and line.endswith("done")
    record = read(queue.trained("first")).recipe
    assert record["steps"] == 2 * 20 and record["config"]["training"]["pixels"] == "1e-05G"


def packed(tmp_path) -> Path:
    """The recipes' pictures where the packed ones lie."""
    for half in ("train", "validation"):
        (tmp_path / "packed" / half).mkdir(parents=True)
        shutil.copy(tmp_path / "pictures" / "p.png", tmp_path / "packed" / half)
    shutil.rmtree(tmp_path / "pictures")
    return tmp_path / "packed"


def test_a_run_of_the_study_is_done_once_its_log_is_collected(tmp_path, ladder, monkeypatch):
    monkeypatch.setattr(ladder, "STUDY_LOGS", tmp_path / "logs")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "study-plain-160M-1.jsonl").write_text("")
    queue = ladder.Ladder(tmp_path)
    assert queue.is_done("study-plain-160M-1") and not queue.is_done("study-plain-160M-2")


def test_a_recipe_starts_from_the_longest_run_of_the_one_before(tmp_path, recipes, ladder):
    from onebranch.training import config as configs

    queue = ladder.Ladder(tmp_path / "ladder")
    text = recipes[2].read_text() + f'init_from = "{tmp_path}/runs/first/first.safetensors"\n'
    recipes[2].write_text(text)
    config = configs.read(recipes[2])
    options = ladder.Options("cpu", 1.0, None)
    assert ladder.adapted(config, queue, options).training.init_from == config.training.init_from
    for folder in ("first", "first-times-10", "first-times-3"):
        (queue.folder / "runs" / folder).mkdir(parents=True)
        (queue.folder / "runs" / folder / "first.safetensors").touch()
    expected = queue.folder / "runs" / "first-times-10" / "first.safetensors"
    assert ladder.adapted(config, queue, options).training.init_from == str(expected)


def test_a_gpu_computes_in_bfloat16_and_processes_three_times_the_pixels(tmp_path, recipes, ladder):
    from onebranch.training import config as configs

    arguments = argparse.Namespace(device="cuda", times=None, data=None)
    config = configs.read(recipes[0])
    adapted = ladder.adapted(config, ladder.Ladder(tmp_path), ladder.options_of(arguments))
    assert adapted.training.precision == "bfloat16" and adapted.training.device == "cuda"
    assert adapted.training.steps == 3 * config.training.steps


def test_packed_pictures_fit_and_come_from_the_densest_folder_first(tmp_path):
    pack = module("pack_pictures")
    sources = [
        pack.Source(tuple(files(tmp_path / name, count, size)), count * size, pixels)
        for name, count, size, pixels in (("sparse", 4, 100, 100), ("dense", 4, 100, 400))
    ]
    chosen = [str(path.relative_to(tmp_path)) for path in pack.choose(sources, 650)]
    assert chosen == ["dense/0", "dense/1", "dense/2", "dense/3", "sparse/0", "sparse/2"]


def files(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).write_bytes(bytes(size))
    return [folder / str(number) for number in range(count)]
