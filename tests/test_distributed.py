"""Two CPU processes under torchrun train the same weights as one process with the same global batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

CONFIG = """\
name = "tiny"
[network]
task = "upscale"
width = 4
depth = 2
branches = {branches}
[data]
train = "pictures"
patch_size = 8
cache = "{cache}"
[training]
steps = 20
batch_size = 4
optimizer = "sgd"
learning_rate = 0.05
warmup_steps = 2
precision = "float64"
device = "cpu"
threads = 1
bn_freeze_fraction = {frozen}
"""


def run(folder: Path, branches: str, processes: int, frozen: float = 0.2) -> subprocess.CompletedProcess:
    (folder / "pictures").mkdir(exist_ok=True)
    small = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((44, 40), Image.Resampling.BICUBIC).save(folder / "pictures" / "p.png")
    (folder / "config.toml").write_text(
        CONFIG.format(branches=branches, cache=folder / "cache", frozen=frozen)
    )
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(start if processes > 1 else []), "-m", "onebranch", "train"]
    out = folder / f"run-{processes}"
    arguments = [str(folder / "config.toml"), "--out", str(out), "--quiet"]
    return subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, timeout=300)


def averages(folder: Path, processes: int) -> dict[str, np.ndarray]:
    """The trained (not averaged) weights in float64, from the checkpoint."""
    tensors = load_file(folder / f"run-{processes}" / "checkpoint.safetensors")
    return {name: value for name, value in tensors.items() if name.startswith("network.")}


def test_two_processes_equal_one(tmp_path):
    for processes in (1, 2):
        done = run(tmp_path, '["3x3*2 1x1", "identity"]', processes)
        assert done.returncode == 0, done.stderr
    one, two = averages(tmp_path, 1), averages(tmp_path, 2)
    assert one.keys() == two.keys() and len(one) > 10
    for name, value in one.items():
        assert value.dtype == np.float64
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_batch_norm_over_cpu_processes_is_refused_unless_frozen(tmp_path):
    done = run(tmp_path, '"repsr"', 2)
    assert done.returncode != 0
    assert "synchronizes on GPUs only" in done.stderr
    done = run(tmp_path, '"repsr"', 2, frozen=1.0)
    assert done.returncode == 0, done.stderr
