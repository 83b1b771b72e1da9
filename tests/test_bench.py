"""Benchmarks: turns are taken, ratios are within rounds. Times themselves are not tested."""

import numpy as np

from onebranch.bench.inference import random_model
from onebranch.bench.interleaved import interleaved, ratio
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
