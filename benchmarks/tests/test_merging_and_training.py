"""Benchmarks of merged files and training steps, and their command line. Times themselves are not tested."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from benchmarks import merging
from benchmarks.command_line import benchmarks, short
from benchmarks.networks import random_model
from benchmarks.training_queue import refuse_while_training
from onebranch.errors import OnebranchError
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.floats import lower
from onebranch.merging.dispatch import merge
from onebranch.spec.shorthand import NetworkShorthand, expand


def test_random_benchmark_networks_merge():
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches="patent"))
    merged, report = merge(random_model(spec, np.random.default_rng(0)))
    assert report.changed
    assert all(block.branches == ("3x3",) for block in merged.spec.all_blocks)


def test_training_steps_are_timed_in_all_ways(monkeypatch):
    """PyTorch's tracing backend replaces the compiler, which takes minutes."""
    import torch

    from benchmarks import training_steps

    monkeypatch.setattr(training_steps, "compiled", lambda net: torch.compile(net, backend="aot_eager"))
    (row,) = training_steps.compare(rounds=1, batch=1, patches=(8, 12), names=["ecb"])
    assert row.network == "ecb"
    assert min(asdict(row)[key] for key in asdict(row) if key != "network") > 0


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    """An ONNX file of one block of many branches, height and width open."""
    spec = expand(NetworkShorthand(task="denoise", width=4, depth=1, branches="patent"))
    model = random_model(spec, np.random.default_rng(0))
    path = tmp_path / "branches.onnx"
    path.write_bytes(to_onnx(lower(model.spec, model.weights)))
    return path


def test_files_are_timed_before_and_after_merging(branches):
    (row,) = merging.compare([branches], (16, 24), rounds=1, threads=1)
    assert (row.model, row.shapes) == ("branches", ((1, 1, 16, 24),))
    assert row.convolutions == (3 * 8, 3)
    assert row.parameters[0] > row.parameters[1]
    assert row.macs[0] > row.macs[1] == 16 * 24 * 9 * (4 + 16 + 4)
    assert min(*row.milliseconds, row.speedup) > 0


def test_settled_models_have_no_open_side(branches):
    original = onnx.load(branches)
    sides = merging.with_fixed_shapes(original, (16, 24)).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [1, 1, 16, 24]
    assert onnx.load(branches) == original
    again = merging.with_fixed_shapes(merging.with_fixed_shapes(original, (16, 24)), (1, 1))
    assert [side.dim_value for side in again.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 16, 24]


def test_the_command_prints_a_table_or_json(branches):
    arguments = ["merging", str(branches), "--rounds", "1", "--size", "8x8"]
    printed = CliRunner().invoke(benchmarks, arguments, catch_exceptions=False).output
    assert "24 -> 3" in printed and "1x1x8x8" in printed
    output = CliRunner().invoke(benchmarks, [*arguments, "--json"], catch_exceptions=False).output
    assert json.loads(output)[0]["convolutions"] == [24, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inference", "--plot", "absent/plot.png"], "there is no folder 'absent'"),
        (["inference", "--plot", "plot.txt"], "the name of a plot must end in .png, .svg, .pdf"),
        (["inference", "--data", "absent"], "absent"),
        (["inference", "--network", "photo-x3"], "unknown network 'photo-x3'"),
        (["inference", "--runtime", "onnx"], "unknown runtime 'onnx'"),
        (["inference", "--runtime", "torch", "--precision", "int8"], "torch is measured in fp32 only"),
        (["scaling", "--precision", "int4"], "unknown precision 'int4'"),
        (["merging", "x.onnx", "--size", "224"], "HEIGHTxWIDTH"),
        (["merging", "absent.onnx"], "there is no such file"),
        (["commands", "absent"], "does not exist"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(OnebranchError, match=message):
        CliRunner().invoke(benchmarks, arguments, catch_exceptions=False)


def test_no_benchmark_starts_while_a_training_run_is_active(tmp_path, monkeypatch):
    state = tmp_path / "running"
    monkeypatch.setenv("ONEBRANCH_LADDER", str(tmp_path))
    refuse_while_training()
    state.write_text(f"{os.getpid()}\n")
    with pytest.raises(OnebranchError, match="a training run is active"):
        CliRunner().invoke(benchmarks, ["scaling"], catch_exceptions=False)
    state.write_text("")
    with pytest.raises(OnebranchError, match="a training run is active"):
        refuse_while_training()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state.write_text(str(gone.pid))
    refuse_while_training()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1 K"), (999_499, "999 K"), (999_500, "1 M")]
)
def test_large_numbers_are_short(number, text):
    assert short(number) == text
