"""Every instruction set that this machine has: the engine held to it, and its peers, in fp32 and int8.

OpenVINO runs in a process of its own for each instruction set, held to it by `ONEDNN_MAX_CPU_ISA`; ONNX
Runtime is not restricted. All candidates of a network are timed in one interleaved run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.configurations import BASELINE, CONFIGURATIONS
from benchmarks.held_peer import HeldPeer
from benchmarks.networks import Network, network
from benchmarks.peaks import Peak
from benchmarks.targets import Target
from onebranch.bench import DEFAULT_PACING, FRAME_SIZE, Pacing, median_ratio, time_interleaved
from onebranch.errors import OnebranchError
from onebranch.runtime.engine import EngineRuntime
from onebranch.runtime.engine_library import instruction_sets
from onebranch.runtime.selection import installed
from onebranch.spec.network import macs

NETWORKS = {"4 x 16": "photo-x2", "10 x 32": "rgb-10x32-x2", "16 x 64": "y-16x64-x2"}
"""The network of each depth and width."""

PRECISIONS = ("fp32", "int8")

ONEDNN_SETS = {
    "avx512-amx": "AVX512_CORE_AMX",
    "avx512-bf16": "AVX512_CORE_BF16",
    "avx512-vnni": "AVX512_CORE_VNNI",
    "avx512": "AVX512_CORE",
    "avx2-vnni": "AVX2_VNNI",
    "avx2": "AVX2",
}
"""oneDNN's name of each of the engine's instruction sets that it has too."""

NO_BYTE_PRODUCT = ("avx512", "avx2", "neon", "portable")
"""The sets without a dot product of bytes."""

INT8_OVER_FP32, PORTABLE_INT8_OVER_FP32 = 1.3, 1.0
"""Goals: int8 over the same set's fp32, without a dot product of bytes."""

INT8_OVER_OPENVINO = {"avx2-vnni": 1.6, "avx2": 1.2}
"""Goals: int8 over OpenVINO held to the same set, at 4 x 16."""

WIDE_INT8_OVER_OPENVINO, FP32_OVER_ONNXRUNTIME = 1.2, 2.0
"""Goals with AVX-512: int8 over OpenVINO at 16 x 64; fp32 over ONNX Runtime at 10 x 32."""

VECTORS_OF_BYTES = ("avx512-vnni", "avx512-bf16")
"""The sets of AVX-512 whose products of bytes are vectors; AMX has eight times their peak."""

PEAK_SHARES = {"4 x 16": 70.0, "10 x 32": 80.0}
"""Goals of these sets: percent of the measured int8 peak."""


@dataclass(frozen=True)
class SetRow:
    """One network in one instruction set.

    engine, openvino: seconds of a run in each round, by precision; openvino is empty where oneDNN lacks the
    set. onnxruntime: seconds without a restriction. peak_shares: of the set's measured peak, by precision.
    """

    shape: str
    instructions: str
    engine: Mapping[str, Sequence[float]]
    openvino: Mapping[str, Sequence[float]]
    onnxruntime: Sequence[float]
    peak_shares: Mapping[str, float]

    def over_openvino(self, precision: str) -> float | None:
        """How many times faster the engine is than OpenVINO; None without a measurement."""
        if precision not in self.openvino or precision not in self.engine:
            return None
        return median_ratio(self.openvino[precision], self.engine[precision])

    def over_onnxruntime(self, precision: str) -> float | None:
        """How many times faster the engine is than ONNX Runtime in fp32; None without a measurement."""
        if not self.onnxruntime or precision not in self.engine:
            return None
        return median_ratio(self.onnxruntime, self.engine[precision])

    def int8_over_fp32(self) -> float | None:
        """How many times faster the engine's int8 is than its fp32."""
        return median_ratio(self.engine["fp32"], self.engine["int8"]) if "int8" in self.engine else None

    def as_json(self) -> dict[str, Any]:
        """Every field, and the ratios, as JSON values."""
        return {
            **asdict(self),
            "int8_over_fp32": self.int8_over_fp32(),
            "over_openvino": {precision: self.over_openvino(precision) for precision in PRECISIONS},
            "over_onnxruntime": {precision: self.over_onnxruntime(precision) for precision in PRECISIONS},
        }


@dataclass(frozen=True)
class SetSettings:
    """size: height and width of the input in pixels. threads: of every candidate."""

    size: tuple[int, int] = FRAME_SIZE
    rounds: int = 5
    threads: int = 1
    pacing: Pacing = DEFAULT_PACING


def compare(
    shapes: Sequence[str],
    sets: Sequence[str],
    settings: SetSettings,
    report: Callable[[str], None] = lambda line: None,
) -> list[SetRow]:
    """Time the networks of these shapes (keys of `NETWORKS`) in these instruction sets of the machine.

    Raises OnebranchError for an instruction set that this machine lacks.
    """
    available = instruction_sets()
    for name in sets:
        if name not in available:
            raise OnebranchError(f"this machine has no '{name}'; it has {', '.join(available)}")
    rows = []
    for shape in shapes:
        report(f"{shape}: opening")
        rows += _measured(shape, network(NETWORKS[shape]), sets or available, settings, report)
    return rows


def _measured(
    shape: str,
    net: Network,
    sets: Sequence[str],
    settings: SetSettings,
    report: Callable[[str], None],
) -> list[SetRow]:
    picture = np.random.default_rng(0).random((1, net.merged.spec.channels, *settings.size), np.float32)
    candidates: dict[str, Callable[[], object]] = {}
    peaks: dict[tuple[str, str], Peak] = {}
    with ExitStack() as stack:
        for name in sets:
            for precision, model in {"fp32": net.merged, "int8": net.quantized}.items():
                if model is None:
                    continue
                runtime = EngineRuntime(model, settings.threads, precision, instructions=name)
                candidates[f"engine {precision} {name}"] = partial(runtime.run, picture)
                peaks[name, precision] = Peak(runtime.engine, precision)
            if name in ONEDNN_SETS and installed("openvino"):
                peer = stack.enter_context(HeldPeer(ONEDNN_SETS[name], net, settings.size, settings.threads))
                for precision in peer.precisions:
                    candidates[f"OpenVINO {precision} {name}"] = partial(peer.run, precision)
        if installed("onnxruntime"):
            run = CONFIGURATIONS[BASELINE].open(net.merged, settings.threads)
            candidates[BASELINE] = partial(run, picture)
        meters = {f"peak {precision} {name}": peak for (name, precision), peak in peaks.items()}
        report(f"{shape}: timing")
        seconds = time_interleaved({**candidates, **meters}, settings.rounds, settings.pacing)
    work = macs(net.merged.spec) * settings.size[0] * settings.size[1]
    return [_row(shape, name, seconds, peaks, work) for name in sets]


def _row(
    shape: str,
    name: str,
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[tuple[str, str], Peak],
    work: int,
) -> SetRow:
    def of(runtime: str) -> dict[str, Sequence[float]]:
        labels = {precision: f"{runtime} {precision} {name}" for precision in PRECISIONS}
        return {precision: seconds[label] for precision, label in labels.items() if label in seconds}

    engine = of("engine")
    shares = {
        precision: work / median(times) / peaks[name, precision].rate for precision, times in engine.items()
    }
    return SetRow(shape, name, engine, of("OpenVINO"), seconds.get(BASELINE, ()), shares)


def goals(rows: Sequence[SetRow]) -> list[Target]:
    """The goals for which there are measurements."""
    return [target for row in rows for target in _goals_of(row) if target is not None]


def _goals_of(row: SetRow) -> Iterator[Target | None]:
    name = f"{row.shape}, {row.instructions}"
    if row.instructions in NO_BYTE_PRODUCT:
        wanted = PORTABLE_INT8_OVER_FP32 if row.instructions == "portable" else INT8_OVER_FP32
        yield _goal(f"{name}: int8 over fp32", wanted, row.int8_over_fp32())
    if row.shape == "4 x 16" and row.instructions in INT8_OVER_OPENVINO:
        wanted = INT8_OVER_OPENVINO[row.instructions]
        yield _goal(f"{name}: int8 over OpenVINO int8", wanted, row.over_openvino("int8"))
    if row.instructions not in (*VECTORS_OF_BYTES, "avx512-amx"):
        return
    if row.shape == "16 x 64":
        over = row.over_openvino("int8")
        yield _goal(f"{name}: int8 over OpenVINO int8", WIDE_INT8_OVER_OPENVINO, over)
    if row.shape == "10 x 32":
        yield _goal(f"{name}: fp32 over {BASELINE}", FP32_OVER_ONNXRUNTIME, row.over_onnxruntime("fp32"))
    if row.shape in PEAK_SHARES and "int8" in row.peak_shares and row.instructions in VECTORS_OF_BYTES:
        share = 100 * row.peak_shares["int8"]
        yield Target(f"{name}: int8, of the int8 peak", PEAK_SHARES[row.shape], share, " %")


def _goal(description: str, wanted: float, reached: float | None) -> Target | None:
    return None if reached is None else Target(description, wanted, reached)
