"""The training queue: it trains recipes in order, survives kills, pauses, and says where it stands."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    spec = importlib.util.spec_from_file_location("ladder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ladder"] = module
    spec.loader.exec_module(module)
    return module


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


def test_the_queue_names_recipes_that_exist_and_have_a_length_in_pixels(ladder):
    from onebranch.training import config as configs

    paths = ladder.recipes(ladder.QUEUE)
    assert paths and len(set(paths)) == len(paths)
    for path in paths:
        assert configs.read(path).training.pixels and ladder._pixels(path) > 0
