"""Benchmarks: turns are taken, ratios are within rounds. Times themselves are not tested."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onebranch.bench import merging as bench_merging
from onebranch.bench.interleaved import interleaved, ratio
from onebranch.bench.networks import random_model
from onebranch.cli.bench import command, short
from onebranch.errors import OnebranchError
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.floats import lower
from onebranch.merging.dispatch import merge
from onebranch.spec.shorthand import NetworkShorthand, expand


def test_candidates_take_turns_and_the_first_round_does_not_count():
    calls: list[str] = []
    ticks = iter(range(100))
    seconds = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, lambda: float(next(ticks))
    )
    assert calls == ["a", "b"] * 4
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == 3.0


def test_random_benchmark_networks_merge():
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches="patent"))
    merged, report = merge(random_model(spec, np.random.default_rng(0)))
    assert report.changed
    assert all(block.branches == ("3x3",) for block in merged.spec.all_blocks)


def test_both_forward_modes_are_timed():
    from onebranch.bench.steps import compare

    rows = compare(rounds=1, batch=1, patch=8)
    assert [row.network for row in rows] == ["plain 3x3", "sesr", "ecb", "5 branches"]
    assert all(row.merged_ms > 0 and row.branches_ratio > 0 for row in rows)


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    """An ONNX file of one block of many branches, height and width open."""
    spec = expand(NetworkShorthand(task="denoise", width=4, depth=1, branches="patent"))
    model = random_model(spec, np.random.default_rng(0))
    path = tmp_path / "branches.onnx"
    path.write_bytes(to_onnx(lower(model.spec, model.weights)))
    return path


def test_files_are_timed_before_and_after_merging(branches):
    (row,) = bench_merging.compare([branches], (16, 24), rounds=1, threads=1)
    assert (row.model, row.shapes) == ("branches", ((1, 1, 16, 24),))
    assert row.convolutions == (3 * 8, 3)
    assert row.parameters[0] > row.parameters[1]
    assert row.macs[0] > row.macs[1] == 16 * 24 * 9 * (4 + 16 + 4)
    assert min(*row.milliseconds, row.faster) > 0


def test_settled_models_have_no_open_side(branches):
    original = onnx.load(branches)
    sides = bench_merging.settled(original, (16, 24)).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [1, 1, 16, 24]
    assert onnx.load(branches) == original
    again = bench_merging.settled(bench_merging.settled(original, (16, 24)), (1, 1))
    assert [side.dim_value for side in again.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 16, 24]


def test_the_command_prints_a_table_or_json(branches):
    arguments = [str(branches), "--rounds", "1", "--size", "8x8"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False).output
    assert "24 -> 3" in printed and "1x1x8x8" in printed
    told = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).output
    assert json.loads(told)[0]["convolutions"] == [24, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.onnx", "--training"], "give one of them"),
        (["--size", "8x8", "--training"], "--size is for networks and ONNX files"),
        (["--network", "patent", "--scaling"], "give one of them"),
        (["x.onnx", "--plot", "plot.png"], "--plot is for onebranch's own networks"),
        (["--training", "--precision", "int8"], "--precision is for onebranch's own networks"),
        (["--plot", "absent/plot.png"], "there is no folder 'absent'"),
        (["--plot", "plot.txt"], "a plot's name ends in .png, .svg, .pdf"),
        (["--data", "absent"], "absent"),
        (["--network", "photo-x3"], "unknown network 'photo-x3'"),
        (["--runtime", "onnx"], "unknown runtime 'onnx'"),
        (["--runtime", "torch", "--precision", "int8"], "torch is measured in fp32 only"),
        (["--scaling", "--precision", "int4"], "unknown precision 'int4'"),
        (["x.onnx", "--size", "224"], "HEIGHTxWIDTH"),
        (["absent.onnx"], "there is no such file"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(OnebranchError, match=message):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1 K"), (999_499, "999 K"), (999_500, "1 M")]
)
def test_large_numbers_are_short(number, text):
    assert short(number) == text
