"""The benchmark of networks of the literature: its ratios and goals, and a run in miniature."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import published_speed
from benchmarks.command_line import benchmarks
from benchmarks.published_runtimes import ENGINE, ENGINE_INT8, ONNXRUNTIME, OPENVINO
from benchmarks.published_speed import PublishedRow, PublishedSettings, compare, goals, select_published
from onebranch.bench import Pacing
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import programs_available
from onebranch.runtime.selection import installed

QUICK = Pacing(batch_seconds=0, budget_seconds=10, rest_seconds=0)

ROW = PublishedRow(
    "SPAN",
    {ENGINE: [1.0, 1.0, 1.0], ONNXRUNTIME: [2.0, 2.0, 2.0], OPENVINO: [1.0, 1.0, 1.0]},
    {ENGINE: 20.0, ONNXRUNTIME: 400.0, OPENVINO: None},
)


def test_ratios_goals_and_table(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEBRANCH_LADDER", str(tmp_path))  # no training run
    assert (ROW.over(ONNXRUNTIME), ROW.over(OPENVINO), ROW.memory_share()) == (2, 1, 0.05)
    reached = {goal.description: (goal.wanted, goal.reached, goal.met) for goal in goals([ROW])}
    assert reached == {
        "SPAN: engine over ONNX Runtime": (1.5, 2, True),
        "SPAN: engine over OpenVINO": (1.1, 1, False),
        "SPAN: memory of the engine over ONNX Runtime": (10, 5, True),
    }
    monkeypatch.setattr(published_speed, "compare", lambda *arguments: [ROW])
    text = CliRunner().invoke(benchmarks, ["published", "--network", "SPAN"], catch_exceptions=False).stdout
    assert "2,000" in text and "2.00 x" in text and "400.0 MB" in text


def test_the_goal_of_integers_is_that_of_one_network():
    seconds = {ENGINE: [1.0], ENGINE_INT8: [0.5], ONNXRUNTIME: [2.0]}
    rows = [PublishedRow(name, seconds, {}) for name in ("Compact 64x16", "Compact 64x32")]
    (goal,) = (goal for goal in goals(rows) if "int8" in goal.description)
    assert goal.description.startswith("Compact 64x16") and goal.reached == 4 and goal.met
    assert ROW.over(ONNXRUNTIME, ENGINE_INT8) is None


def test_an_unknown_network_is_named():
    with pytest.raises(OnebranchError, match="unknown network 'SPAM'; did you mean 'SPAN'"):
        select_published(["SPAM"])


@pytest.mark.slow
@pytest.mark.skipif(bool(programs_available()), reason=programs_available() or "built")
@pytest.mark.skipif(not installed("onnxruntime"), reason="ONNX Runtime is not installed")
def test_a_network_in_miniature():
    (row,) = compare(["ESPCN"], PublishedSettings((16, 24), rounds=1, pacing=QUICK))
    assert {ENGINE, ONNXRUNTIME} <= set(row.seconds) == set(row.megabytes)
    assert json.dumps(row.as_json())
    assert all(memory is not None for memory in row.megabytes.values())
