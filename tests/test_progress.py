"""Long work reports its completed share: it never falls and ends at 1; terminals show the time left."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import onebranch
from command_line import ENVIRONMENT, terminal_output
from network_specs import calm_model, random_model
from onebranch.cli.export import SUFFIXES
from onebranch.images.picture import Picture
from onebranch.images.writing import write
from onebranch.merging import torch as merging_torch
from onebranch.spec.shorthand import NetworkShorthand, expand
from onnx_networks import NETWORKS

BRANCHED = expand(NetworkShorthand(width=4, depth=2, task="upscale", branches=("3x3 bn", "1x1", "identity")))

Shares = list[float]


def shares_of(work: Callable[[Callable[[str, float], None]], object]) -> Shares:
    """The shares that the work reports."""
    shares: Shares = []

    def progress(step: str, share: float) -> None:
        assert step and "\n" not in step
        shares.append(share)

    work(progress)
    return shares


def check(shares: Shares, steps: int) -> None:
    """Fail unless the shares never fall, end at 1, and take enough values for an estimate."""
    assert shares == sorted(shares)
    assert (shares[0] >= 0, shares[-1]) == (True, 1.0)
    assert len(set(shares)) >= steps, shares


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small pictures."""
    random = np.random.default_rng(0)
    for number in range(4):
        write(Picture(random.integers(0, 256, (24, 20, 3), np.uint8)), tmp_path / f"{number}.png")
    return tmp_path


def test_merging_and_verifying_own_models():
    model = random_model(BRANCHED)
    merged, _ = onebranch.merge(model)
    check(shares_of(lambda progress: onebranch.merge(model, progress=progress)), 40)
    check(shares_of(lambda progress: onebranch.verify(model, merged, progress=progress)), 40)
    check(shares_of(lambda progress: onebranch.verify(model, model, progress=progress)), 10)


@pytest.mark.parametrize("network", ["repvgg", "conv_bn"])
def test_merging_and_verifying_onnx(network):
    model = NETWORKS[network](0)
    merged, report = onebranch.merge(model)
    assert report.changed
    check(shares_of(lambda progress: onebranch.merge(model, progress=progress)), 8)
    check(shares_of(lambda progress: onebranch.verify(model, merged, progress=progress)), 8)
    check(shares_of(lambda progress: onebranch.verify(model, model, progress=progress)), 1)


def test_the_share_is_that_of_the_proofs():
    """A region that takes most of the work takes most of the share."""
    layers = [torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3), torch.nn.ReLU()]
    layers += [torch.nn.Conv2d(3, 24, 3), torch.nn.BatchNorm2d(24), torch.nn.ReLU()]
    steps: dict[str, float] = {}

    def progress(step: str, share: float) -> None:
        steps[step] = share

    onebranch.merge(torch.nn.Sequential(*layers).eval(), torch.zeros(1, 3, 8, 8), progress=progress)
    first, second = steps["proved region 1 of 2"], steps["proved region 2 of 2"]
    assert first < 0.65 and second > 0.85


@pytest.mark.parametrize("format", ["onnx", "compact"])
def test_exporting(tmp_path, format):
    model = calm_model(task="upscale", residual="nearest")
    path = tmp_path / f"model{SUFFIXES[format]}"
    check(shares_of(lambda progress: onebranch.export(model, path, format, report=progress)), 4)


def test_quantizing(folder):
    check(shares_of(lambda progress: onebranch.quantize("photo-x4", folder, report=progress)), 20)


CODE = """
import sys
from onebranch import cli
from onebranch.cli import progress
progress.DELAY_SECONDS = 0
sys.argv = ["onebranch", *sys.argv[1:]]
cli.main()
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Commands that take a second or more, by name."""
    original = folder / "original.safetensors"
    onebranch.save(random_model(BRANCHED, name="wide"), original)
    return {
        "merge": ["merge", str(original), "-o", str(folder / "merged.safetensors")],
        "quantize": ["quantize", "photo-x4", "--calibrate", str(folder), "-o", str(folder / "q.safetensors")],
    }


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
@pytest.mark.parametrize("name", ["merge", "quantize"])
def test_commands_show_the_time_left_on_a_terminal_only(folder, name):
    words = commands(folder)[name]
    shown = terminal_output(CODE, *words, columns=120)
    assert re.search(rb"left:\x1b?[^-]*\d+:\d\d", shown), shown
    piped = subprocess.run(
        [sys.executable, "-c", CODE, *words, "--overwrite"], capture_output=True, env=ENVIRONMENT, check=True
    )
    assert b"left:" not in piped.stdout + piped.stderr


def test_long_tracing_is_announced_once_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(merging_torch, "TRACING_SECONDS", 0.0)
    layer, picture = torch.nn.Conv2d(3, 3, 1).eval(), torch.zeros(1, 3, 8, 8)
    onebranch.merge(layer, picture)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    onebranch.merge(layer, picture)
    assert capsys.readouterr().err.count("torch.export is tracing Conv2d") == 1
    onebranch.merge(layer, picture, progress=lambda step, share: None)
    assert capsys.readouterr().err == ""  # the caller shows it
