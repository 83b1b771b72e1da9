"""ONNX files before and after merging: their size, and their time in ONNX Runtime.

ONNX Runtime's own optimizer is fully enabled for both, so that what it merges itself is not credited to us.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from onebranch.bench import ONE_RUN_EACH, median_ratio, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.graph.merge.cost import cost_of_step
from onebranch.graph.merge.rewriting import Rules
from onebranch.graph.onnx.file import read
from onebranch.graph.onnx.linear import read_linear
from onebranch.merging.onnx import merge_onnx
from onebranch.runtime.onnxruntime import session_options

MIN_BATCH_SECONDS = 0.02
"""Shortest measurement; shorter ones drown in the noise of the clock."""

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class MergedFileRow:
    """One file; every pair is (before, after) merging. shapes: of its inputs.

    convolutions, parameters: as in the merge report. macs: of the linear operations, on inputs of these
    shapes. milliseconds: medians. speedup: the median ratio within a round.
    """

    model: str
    shapes: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    milliseconds: tuple[float, float]
    speedup: float


def compare(
    files: Sequence[Path], size: tuple[int, int], rounds: int, threads: int | None
) -> list[MergedFileRow]:
    """Time every file before and after merging, interleaved.

    size: height and width if the file leaves them dynamic; other dynamic dimensions become 1. Raises
    OnebranchError for a file that cannot be read, merged or run.
    """
    return [_row(file, size, rounds, threads) for file in files]


def _row(file: Path, size: tuple[int, int], rounds: int, threads: int | None) -> MergedFileRow:
    original = read(file)
    merged, report = merge_onnx(original, Rules())
    pair = with_fixed_shapes(original, size), with_fixed_shapes(merged, size)
    values = _random_inputs(pair[0])
    runs = [_runner(model, values, threads, file) for model in pair]
    repeats = _repeats(runs[0])
    batches = {name: _batch(run, repeats) for name, run in zip(("before", "after"), runs, strict=True)}
    seconds = time_interleaved(batches, rounds, ONE_RUN_EACH)
    before, after = (1e3 * median(seconds[name]) / repeats for name in batches)
    return MergedFileRow(
        file.stem,
        tuple(value.shape for value in values.values()),
        report.convolutions,
        report.parameters,
        (_macs(pair[0]), _macs(pair[1])),
        (before, after),
        median_ratio(seconds["before"], seconds["after"]),
    )


def _macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the linear operations of a model without dynamic dimensions."""
    graph = read_linear(model)
    return sum(cost_of_step(step, graph.planes).macs for step in graph.steps)


def with_fixed_shapes(model: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """A copy whose inputs have no dynamic dimension: height and width as in `size`, every other one 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        sides = value.type.tensor_type.shape.dim
        wanted = [1] * max(0, len(sides) - 2) + list(size)
        for side, number in zip(sides, wanted[-len(sides) :], strict=True):
            if not side.HasField("dim_value"):
                side.dim_value = number
    return copy


def _random_inputs(model: onnx.ModelProto) -> Inputs:
    """Random values in [0, 1) for every input that is not an initializer; zeros for integer inputs."""
    random = np.random.default_rng(0)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = {}
    for value in model.graph.input:
        if value.name not in initializers:
            shape = [side.dim_value for side in value.type.tensor_type.shape.dim]
            kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            numbers = random.random(shape) if kind.kind == "f" else np.zeros(shape)
            inputs[value.name] = np.asarray(numbers, kind)
    return inputs


def _runner(model: onnx.ModelProto, values: Inputs, threads: int | None, file: Path) -> Callable[[], object]:
    """A function that runs the model on these inputs; it is run once to see that it works."""
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
        )
        session.run(None, values)
    except Exception as error:  # ONNX Runtime's own exceptions, of many classes
        shapes = ", ".join("x".join(map(str, value.shape)) for value in values.values())
        reason = str(error).splitlines()[0]
        raise OnebranchError(f"{file}: ONNX Runtime cannot run it on {shapes}: {reason}") from None
    return lambda: session.run(None, values)


def _repeats(run: Callable[[], object]) -> int:
    """The number of runs of a candidate in one measurement."""
    start = time.perf_counter()
    run()
    return max(1, math.ceil(MIN_BATCH_SECONDS / (time.perf_counter() - start)))


def _batch(run: Callable[[], object], repeats: int) -> Callable[[], object]:
    return lambda: [run() for _ in range(repeats)]
