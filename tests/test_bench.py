"""`onebranch bench`: how candidates take turns, its table and its JSON. Times themselves are not tested."""

import json

import pytest

from command_line import CommandLine
from onebranch import bench
from onebranch.bench import ONE_RUN_EACH, Pacing, median_ratio, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available

engine = pytest.mark.skipif(bool(available()), reason=available())


def test_candidates_take_turns_and_the_first_round_does_not_count():
    calls: list[str] = []
    ticks = iter(range(100))
    candidates = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = time_interleaved(candidates, 3, ONE_RUN_EACH, lambda: float(next(ticks)))
    assert calls == ["a", "b"] * 4
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    assert median_ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == 3.0


class Ticks:
    """A clock that advances only by the durations that candidates report."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def candidate(self, *seconds: float):
        """A candidate that takes these durations one after the other, then always the last one."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_quick_candidates_run_several_times_in_a_turn():
    clock = Ticks()
    seconds = time_interleaved(
        {"quick": clock.candidate(5, 0.25), "slow": clock.candidate(2)}, 3, Pacing(1, 100, 0), clock
    )
    assert seconds == {"quick": [0.25] * 3, "slow": [2.0] * 3}
    assert clock.now == (5 + 0.25 + 3 * 4 * 0.25) + (2 + 2 + 3 * 2)


def test_what_is_slow_at_first_is_warmed_up_once():
    clock = Ticks()
    time_interleaved({"slow": clock.candidate(20, 15)}, 1, Pacing(1, 100, 0), clock)
    assert clock.now == 20 + 15


def test_slow_candidates_sit_out_and_ratios_are_of_the_rounds_that_both_took_part_in():
    clock = Ticks()
    seconds = time_interleaved(
        {"slow": clock.candidate(8), "quick": clock.candidate(1, 1, 2, 4, 4)}, 4, Pacing(0, 10, 0), clock
    )
    assert seconds["slow"] == [8.0, 8.0]
    assert seconds["quick"] == [1.0, 2.0, 4.0, 4.0]
    assert median_ratio(seconds["slow"], seconds["quick"]) == 6.0


SMALL = ["--size", "12x16", "--rounds", "1", "--threads", "1"]


@engine
def test_a_model_is_timed_in_every_precision_of_the_engine(monkeypatch, capsys):
    run = CommandLine(monkeypatch, capsys)
    outcome = run("bench", "photo-x2", *SMALL, "--runtime", "engine", "--runtime", "onnxruntime", "--json")
    assert outcome.code == 0, outcome.errors
    values = json.loads(outcome.output)
    assert set(values) == {"size", "rounds", "threads", "rows", "notes"}
    assert (values["size"], values["rounds"], values["threads"]) == ([12, 16], 1, 1)
    pairs = [(row["runtime"], row["precision"]) for row in values["rows"]]
    assert pairs == [("onnxruntime", "fp32"), ("engine", "fp32"), ("engine", "bf16"), ("engine", "int8")]
    for row in values["rows"]:
        (seconds,) = row["seconds"]
        assert row["milliseconds"] == pytest.approx(1e3 * seconds)
        assert row["megapixels"] == pytest.approx(4 * 12 * 16 / seconds / 1e6)
        assert row["speedup"] == pytest.approx(values["rows"][0]["seconds"][0] / seconds)


def test_the_command_prints_a_table(monkeypatch, capsys):
    run = CommandLine(monkeypatch, capsys)
    printed = run("bench", "shrink-x2", *SMALL, "--runtime", "onnxruntime").output
    for text in ("16x12 input, 1 thread", "shrink-x2", "onnxruntime", "1.00 x"):
        assert text in printed


def test_output_megapixels_of_a_downscaling_model_are_of_its_small_output():
    settings = bench.BenchSettings((12, 16), 1, 1, ONE_RUN_EACH)
    (row,), _ = bench.measure(["shrink-x2"], ["onnxruntime"], settings=settings)
    assert row.megapixels == pytest.approx(6 * 8 / row.seconds[0] / 1e6)


def test_what_cannot_run_is_named_and_without_a_baseline_there_is_no_speedup(monkeypatch):
    settings = bench.BenchSettings((12, 16), 1, 1, ONE_RUN_EACH)
    refusal = OnebranchError("no such processor")

    def open_runtime(model, runtime, threads, precision):
        if precision == "fp32":
            raise refusal
        return type("Fake", (), {"run": staticmethod(lambda picture: picture)})

    monkeypatch.setattr(bench, "open_runtime", open_runtime)
    rows, skipped = bench.measure(["photo-x2"], ["engine"], settings=settings)
    assert [(row.precision, row.speedup) for row in rows] == [("bf16", None), ("int8", None)]
    assert skipped == ["skipped photo-x2 in engine fp32: no such processor"]
    with pytest.raises(OnebranchError, match="nothing can be timed: skipped photo-x2 in engine fp32"):
        bench.measure(["photo-x2"], ["engine"], ["fp32"], settings)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["photo-x3"], "'photo-x3' is neither a shipped model nor a file"),
        (["absent.onnx"], "neither a shipped model nor a file"),
        (["--runtime", "onnx"], "unknown runtime 'onnx'"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--runtime", "torch", "--precision", "int8"], "torch cannot compute in int8; leave one out"),
        (["--size", "224"], "--size must be HEIGHTxWIDTH, such as 224x224, not '224'"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, words, error):
    assert error in CommandLine(monkeypatch, capsys).refused("bench", *words)
