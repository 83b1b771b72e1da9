"""Random networks: merged equals original, merging twice equals merging once, or a refusal in one line."""

import time
from typing import Any

import onnx
import pytest
import torch
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

import onebranch
from mutations import Expectation, Variant, judge
from onnx_editing import OnnxVariant
from random_graphs import PROGRAMS, Module, graph
from torch_mutations import TorchVariant

OPTIONS: list[dict[str, Any]] = [
    {},
    {"force": True},
    {"border_maps": True},
    {"force": True, "border_maps": True},
]

QUIET = list(HealthCheck)

SEEDS = st.integers(0, 2**31)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning",
    # PyTorch warns that "same" padding of even kernels copies the input; the networks use it on purpose.
    "ignore:Using padding='same' with even kernel lengths:UserWarning",
)


def hold(variant: Variant, options: dict[str, Any]) -> str:
    """Judge a merge and a merge of its result; returns the outcome. A fault fails the test."""
    verdict = judge(variant, **options)
    if verdict.outcome == "broken":
        return "broken"
    assert not verdict.faults, f"{verdict}"
    if verdict.outcome == "merged":
        once, _ = variant.merge(onebranch.merge, **options)
        assert not _again(once, variant, options), "merging twice is not merging once"
    return verdict.outcome


def _again(merged: Any, variant: Variant, options: dict[str, Any]) -> bool:
    """True if a second merge changes anything."""
    if isinstance(merged, onnx.ModelProto):
        return bool(onebranch.merge(merged, **options)[1].changed)
    example = torch.from_numpy(variant.inputs()[0][0])
    return bool(onebranch.merge(merged, example, **options)[1].changed)


@given(PROGRAMS, SEEDS, st.integers(0, 2**15), st.sampled_from(OPTIONS))
@settings(max_examples=60, suppress_health_check=QUIET)
def test_random_graphs(program, number, also, options):
    hold(onnx_variant(program, number, also), options)


@given(PROGRAMS, SEEDS, st.sampled_from(OPTIONS))
@settings(max_examples=5, suppress_health_check=QUIET)
def test_random_modules(program, number, options):
    hold(torch_variant(program, number), options)


def onnx_variant(program: Any, number: int, also: int) -> OnnxVariant:
    """The program as a graph.

    ONNX Runtime runs a pool with a stride even on a picture that is smaller than its window. A merged model,
    in which the pool is a convolution, may fail there; where it runs, it must be right.
    """
    model = graph(program, number, also)
    strides = [
        a.ints for n in model.graph.node for a in n.attribute if "Pool" in n.op_type and a.name == "strides"
    ]
    pools = any(max(ints) > 1 for ints in strides)
    return OnnxVariant("random", model, Expectation(one_size=pools))


def torch_variant(program: Any, number: int) -> TorchVariant:
    """The program as a module."""
    return TorchVariant("random", lambda: Module(program, number), Expectation(), channels=3)


@pytest.mark.slow
def test_many_random_graphs(fuzz_seconds):
    outcomes: dict[str, int] = {}

    @given(PROGRAMS, SEEDS, st.integers(0, 2**15), st.sampled_from(OPTIONS))
    @settings(max_examples=50, derandomize=False, database=None, suppress_health_check=QUIET)
    def try_some(program, number, also, options):
        outcome = hold(onnx_variant(program, number, also), options)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    until(fuzz_seconds, try_some)
    assert outcomes["merged"] > outcomes.get("refused", 0) + outcomes.get("broken", 0), outcomes


@pytest.mark.slow
def test_many_random_modules(fuzz_seconds):
    @given(PROGRAMS, SEEDS, st.sampled_from(OPTIONS))
    @settings(max_examples=10, derandomize=False, database=None, suppress_health_check=QUIET)
    def try_some(program, number, options):
        hold(torch_variant(program, number), options)

    until(fuzz_seconds, try_some)


def until(seconds: float, test: Any) -> None:
    """Repeat a test with new seeds until the time is up, once at least."""
    end, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < end:
        number += 1
        seed(number)(test)()


@given(PROGRAMS, SEEDS)
@settings(max_examples=100, suppress_health_check=QUIET)
def test_every_program_is_a_network_that_runs(program, number):
    variant = onnx_variant(program, number, 0)
    assume(not variant.expectation.one_size)  # ONNX Runtime may fail there, see onnx_variant
    outputs = variant.runner(None)(variant.inputs()[0])
    assert outputs and all(output.size for output in outputs)
