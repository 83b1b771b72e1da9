"""Anybody's ONNX files before and after merging: their size, and their time in ONNX Runtime.

ONNX Runtime's own optimizer runs in full on both: what it merges by itself is not counted as ours.
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

from onebranch.bench.interleaved import interleaved, ratio
from onebranch.errors import OnebranchError
from onebranch.graph.merge.cost import cost_of_step
from onebranch.graph.merge.rewriting import Rules
from onebranch.graph.onnx.file import read
from onebranch.graph.onnx.linear import read_linear
from onebranch.merging.onnx import merge_onnx
from onebranch.runtime.onnxruntime import session_options

TURN = 0.02
"""Seconds for which a candidate runs at least when it is its turn: less is lost in the clock's noise."""

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One file. Pairs are (before, after). shapes: of its inputs.

    convolutions, parameters: as in the merge's report. macs: of the linear operations, on inputs of these
    shapes. milliseconds: medians; faster: the median ratio of a round.
    """

    model: str
    shapes: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    milliseconds: tuple[float, float]
    faster: float


def compare(files: Sequence[Path], size: tuple[int, int], rounds: int, threads: int | None) -> list[Row]:
    """Every file, before and after merging, in turns.

    size: height and width where a file leaves them open; other open sides are 1. Raises OnebranchError for
    files that cannot be read, merged or run.
    """
    return [_row(file, size, rounds, threads) for file in files]


def _row(file: Path, size: tuple[int, int], rounds: int, threads: int | None) -> Row:
    original = read(file)
    merged, report = merge_onnx(original, Rules())
    pair = settled(original, size), settled(merged, size)
    values = _random_inputs(pair[0])
    runs = [_runner(model, values, threads, file) for model in pair]
    repeats = _repeats(runs[0])
    turns = {name: _turn(run, repeats) for name, run in zip(("before", "after"), runs, strict=True)}
    seconds = interleaved(turns, rounds)
    before, after = (1e3 * median(seconds[name]) / repeats for name in turns)
    return Row(
        file.stem,
        tuple(value.shape for value in values.values()),
        report.convolutions,
        report.parameters,
        (_macs(pair[0]), _macs(pair[1])),
        (before, after),
        ratio(seconds["before"], seconds["after"]),
    )


def _macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the linear operations of a model without open sides."""
    graph = read_linear(model)
    return sum(cost_of_step(step, graph.planes).macs for step in graph.steps)


def settled(model: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """A copy whose inputs have no open side: height and width as in `size`, every other one 1."""
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
    """Numbers in [0, 1) for every input that is not stored in the model; zeros where they are whole."""
    random = np.random.default_rng(0)
    stored = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name not in stored:
            shape = [side.dim_value for side in value.type.tensor_type.shape.dim]
            kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            numbers = random.random(shape) if kind.kind == "f" else np.zeros(shape)
            found[value.name] = np.asarray(numbers, kind)
    return found


def _runner(model: onnx.ModelProto, values: Inputs, threads: int | None, file: Path) -> Callable[[], object]:
    """The model on those inputs, run once to see that it runs."""
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
        )
        session.run(None, values)
    except Exception as error:  # ONNX Runtime's own exceptions, of many classes
        shapes = ", ".join("x".join(map(str, value.shape)) for value in values.values())
        reason = str(error).splitlines()[0]
        raise OnebranchError(f"{file}: ONNX Runtime does not run it on {shapes}: {reason}") from None
    return lambda: session.run(None, values)


def _repeats(run: Callable[[], object]) -> int:
    """How often a candidate runs in one turn."""
    start = time.perf_counter()
    run()
    return max(1, math.ceil(TURN / (time.perf_counter() - start)))


def _turn(run: Callable[[], object], repeats: int) -> Callable[[], object]:
    return lambda: [run() for _ in range(repeats)]
