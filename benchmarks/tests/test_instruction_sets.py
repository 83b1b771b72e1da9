"""The benchmark of instruction sets: its goals, and a run in miniature with OpenVINO in its own process."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import instruction_sets as sets
from benchmarks.command_line import benchmarks
from benchmarks.held_peer import HeldPeer
from benchmarks.instruction_sets import NETWORKS, SetRow, SetSettings, compare, goals
from benchmarks.networks import network
from onebranch.bench import Pacing
from onebranch.errors import OnebranchError
from onebranch.runtime import engine_library
from onebranch.runtime.selection import installed

QUICK = Pacing(batch_seconds=0, budget_seconds=10, rest_seconds=0)

engine = pytest.mark.skipif(bool(engine_library.available()), reason=engine_library.available() or "built")
openvino = pytest.mark.skipif(not installed("openvino"), reason="OpenVINO is not installed")


def row(shape: str, instructions: str, int8_share: float = 0.5) -> SetRow:
    """The engine needs 4 s in fp32 and 2 s in int8, OpenVINO 6 s and 3 s, ONNX Runtime 12 s."""
    return SetRow(
        shape,
        instructions,
        {"fp32": (4.0, 4.0, 4.0), "int8": (2.0, 2.0, 2.0)},
        {"fp32": (6.0, 6.0, 6.0), "int8": (3.0, 3.0, 3.0)},
        (12.0, 12.0, 12.0),
        {"fp32": 0.4, "int8": int8_share},
    )


def test_ratios_say_how_many_times_faster_the_engine_is():
    measured = row("4 x 16", "avx2")
    assert (measured.over_openvino("fp32"), measured.over_openvino("int8")) == (1.5, 1.5)
    assert (measured.over_onnxruntime("fp32"), measured.over_onnxruntime("int8")) == (3, 6)
    assert measured.int8_over_fp32() == 2
    alone = SetRow("4 x 16", "portable", {"fp32": (4.0,)}, {}, (), {})
    assert (alone.over_openvino("fp32"), alone.over_onnxruntime("fp32"), alone.int8_over_fp32()) == (
        None,
    ) * 3


@pytest.mark.parametrize(
    ("shape", "instructions", "expected"),
    [
        ("4 x 16", "avx2", {"int8 over fp32": (1.3, 2, True), "int8 over OpenVINO int8": (1.2, 1.5, True)}),
        ("16 x 64", "avx2", {"int8 over fp32": (1.3, 2, True)}),
        ("4 x 16", "portable", {"int8 over fp32": (1, 2, True)}),
        ("4 x 16", "avx2-vnni", {"int8 over OpenVINO int8": (1.6, 1.5, False)}),
        ("4 x 16", "avx512-vnni", {"int8, of the int8 peak": (70, 50, False)}),
        (
            *("10 x 32", "avx512-bf16"),
            {"fp32 over ONNX Runtime": (2, 3, True), "int8, of the int8 peak": (80, 50, False)},
        ),
        ("16 x 64", "avx512-vnni", {"int8 over OpenVINO int8": (1.2, 1.5, True)}),
        ("16 x 64", "avx512-amx", {"int8 over OpenVINO int8": (1.2, 1.5, True)}),
        ("4 x 16", "avx512-amx", {}),
    ],
)
def test_each_set_has_its_goals(shape, instructions, expected):
    reached = {
        goal.description.removeprefix(f"{shape}, {instructions}: "): (goal.wanted, goal.reached, goal.met)
        for goal in goals([row(shape, instructions)])
    }
    assert reached == expected


@engine
@openvino
@pytest.mark.slow
def test_every_set_of_the_machine_runs_in_miniature(monkeypatch):
    monkeypatch.setattr(sets, "instruction_sets", lambda: engine_library.instruction_sets()[-2:])
    rows = compare(["4 x 16"], (), SetSettings((16, 24), rounds=1, pacing=QUICK))
    assert [each.instructions for each in rows] == engine_library.instruction_sets()[-2:]
    for each in rows:
        assert set(each.engine) == set(each.peak_shares) == {"fp32", "int8"}
        assert set(each.openvino) == ({"fp32", "int8"} if each.instructions in sets.ONEDNN_SETS else set())
        assert len(each.onnxruntime) == 1
        assert all(
            seconds > 0 for times in (*each.engine.values(), *each.openvino.values()) for seconds in times
        )


@openvino
@pytest.mark.slow
def test_a_peer_that_does_not_know_the_precision_is_an_error_and_ends():
    with HeldPeer("AVX2", network("photo-x2"), (8, 8), 1) as peer:
        assert peer.precisions == ("fp32", "int8")
        peer.run("fp32")
        with pytest.raises(OnebranchError, match="OpenVINO failed in its own process"):
            peer.run("fp64")
    assert peer._process.returncode is not None


@engine
def test_an_instruction_set_that_the_machine_lacks_is_named():
    with pytest.raises(OnebranchError, match="this machine has no 'mmx'; it has "):
        compare(["4 x 16"], ["mmx"], SetSettings((8, 8)))


def test_the_command_prints_rows_ratios_and_goals(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEBRANCH_LADDER", str(tmp_path))  # no training run
    measured = [
        row("4 x 16", "avx2"),
        SetRow("4 x 16", "portable", {"fp32": (8.0,)}, {}, (12.0,), {"fp32": 0.3}),
    ]
    monkeypatch.setattr(sets, "compare", lambda *arguments: measured)
    printed = CliRunner().invoke(benchmarks, ["sets", "--shape", "4 x 16", "--json"], catch_exceptions=False)
    content = json.loads(printed.stdout)
    assert [each["int8_over_fp32"] for each in content["rows"]] == [2, None]
    assert content["goals"][0] == {
        "description": "4 x 16, avx2: int8 over fp32",
        "wanted": 1.3,
        "reached": 2,
        "unit": "x",
        "met": True,
        "at_most": False,
    }
    text = CliRunner().invoke(benchmarks, ["sets"], catch_exceptions=False).stdout
    assert "12,000" in text
    assert "1.50 x" in text
    assert [*NETWORKS] == ["4 x 16", "10 x 32", "16 x 64"]
