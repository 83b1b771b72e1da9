"""Networks of the literature in the engine, ONNX Runtime and OpenVINO: time in one interleaved run, memory.

The engine opens the ONNX file of open size as `onebranch enhance --model` does. The others get a file of
the picture's size, which suits them best. All compute in float32, except for the networks of `INTEGER`: the
engine runs another file of the same layers, with random weights, in 8-bit integers too.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.isolated import run_in_new_process
from benchmarks.networks import network as integer_network
from benchmarks.published_networks import NETWORKS as SCORED
from benchmarks.published_networks import (
    Abpn,
    Dncnn,
    LocalImdn,
    PublishedNetwork,
    WithResidual,
    exported,
    plain,
)
from benchmarks.published_runtimes import ENGINE, ENGINE_INT8, LABELS, ONNXRUNTIME, OPEN, OPENVINO, Run
from benchmarks.targets import Target
from onebranch.bench import DEFAULT_PACING, Pacing, median_ratio, time_interleaved
from onebranch.errors import OnebranchError, nearest
from onebranch.runtime.engine import EngineRuntime
from onebranch.runtime.selection import installed

MIN_OVER_ONNXRUNTIME, MIN_OVER_OPENVINO, MAX_MEMORY_SHARE = 1.5, 1.1, 0.1
"""The goals: speed over both, and peak memory over that of ONNX Runtime."""

MIN_INT8 = 3.0
"""The goal of Compact 64x16 in 8-bit integers, over ONNX Runtime in float32."""

WITH_GOALS = ("Compact 64x16", "Compact 64x32", "Compact 24x8", "SPAN", "ESPCN", "FSRCNN")


def _compact(width: int, depth: int) -> PublishedNetwork:
    name = f"Compact {width}x{depth}"
    return PublishedNetwork(name, 3, lambda: WithResidual(plain(3, width, depth)), None, "")


INTEGER = {"Compact 64x16": "rgb-16x64-x2", "Compact 64x32": "rgb-32x64-x2", "Compact 24x8": "rgb-8x24-x2"}
"""The same networks in `benchmarks.networks`, with random weights and rough quantization."""

_FROM_SCORED = {network.name: network for network in SCORED}

NETWORKS: dict[str, PublishedNetwork] = {
    network.name: network
    for network in (
        *(_compact(64, 16), _compact(64, 32), _compact(24, 8)),
        *(_FROM_SCORED[name] for name in ("SPAN", "ESPCN", "FSRCNN")),
        PublishedNetwork("DnCNN", 1, Dncnn, None, ""),
        PublishedNetwork("ABPN", 3, Abpn, None, ""),
        _FROM_SCORED["SESR-M5"],
        PublishedNetwork("IMDN, local", 3, LocalImdn, None, ""),
    )
}
"""The networks by name; "IMDN, local" is without its attention, which needs the whole picture."""


@dataclass(frozen=True)
class PublishedRow:
    """One network. seconds: of every run, by runtime. megabytes: peak memory by runtime; None: unknown."""

    network: str
    seconds: dict[str, list[float]]
    megabytes: dict[str, float | None]

    def over(self, runtime: str, engine: str = ENGINE) -> float | None:
        """How many times faster the engine is: the median of the ratios within each round."""
        if runtime not in self.seconds or engine not in self.seconds:
            return None
        return median_ratio(self.seconds[runtime], self.seconds[engine])

    def memory_share(self) -> float | None:
        """The engine's peak memory over that of ONNX Runtime."""
        engine, other = self.megabytes.get(ENGINE), self.megabytes.get(ONNXRUNTIME)
        return engine / other if engine is not None and other else None

    def milliseconds(self, runtime: str) -> float | None:
        """The median time of one run."""
        return 1e3 * median(self.seconds[runtime]) if runtime in self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """Every field, and the ratios, as JSON values."""
        ratios = {runtime: self.over(runtime) for runtime in (ONNXRUNTIME, OPENVINO)}
        ratios_of_int8 = {ONNXRUNTIME: self.over(ONNXRUNTIME, ENGINE_INT8)}
        return {
            **asdict(self),
            "over": ratios,
            "int8_over": ratios_of_int8,
            "memory_share": self.memory_share(),
        }


@dataclass(frozen=True)
class PublishedSettings:
    """size: height and width of the input in pixels. threads: of every runtime."""

    size: tuple[int, int] = (360, 640)
    rounds: int = 5
    threads: int = 1
    with_memory: bool = True
    pacing: Pacing = DEFAULT_PACING


def select_published(names: Sequence[str]) -> list[str]:
    """The networks of these names, all if none is given. Raises OnebranchError for an unknown one.

    >>> select_published(["SPAN"])
    ['SPAN']
    """
    for name in names:
        if name not in NETWORKS:
            raise OnebranchError(f"unknown network '{name}'; {nearest(name, NETWORKS)}")
    return list(dict.fromkeys(names)) or list(NETWORKS)


def compare(
    names: Sequence[str], settings: PublishedSettings, report: Callable[[str], None] = lambda line: None
) -> list[PublishedRow]:
    """Time these networks of `NETWORKS`, one interleaved run for each, and measure their memory."""
    with tempfile.TemporaryDirectory() as folder:
        return [_compared(NETWORKS[name], Path(folder), settings, report) for name in names]


def _compared(
    network: PublishedNetwork, folder: Path, settings: PublishedSettings, report: Callable[[str], None]
) -> PublishedRow:
    import onnx

    report(f"{network.name}: exporting")
    paths = {True: folder / "open.onnx", False: folder / "fixed.onnx"}
    for is_open, path in paths.items():
        onnx.save(exported(network, settings.size, is_open), path)
    files = {runtime: paths[runtime == ENGINE] for runtime in OPEN if installed(runtime)}
    picture = np.random.default_rng(0).random((1, network.channels, *settings.size), np.float32)
    report(f"{network.name}: timing")
    opened = {runtime: OPEN[runtime](path, settings.threads) for runtime, path in files.items()}
    candidates = {runtime: _bound(run, picture) for runtime, run in opened.items()}
    if (
        network.name in INTEGER
        and installed(ENGINE)
        and (quantized := integer_network(INTEGER[network.name]).quantized)
    ):
        candidates[ENGINE_INT8] = _bound(EngineRuntime(quantized, settings.threads, "int8").run, picture)
    seconds = time_interleaved(candidates, settings.rounds, settings.pacing)
    megabytes: dict[str, float | None] = {}
    for runtime, path in files.items() if settings.with_memory else ():
        report(f"{network.name}: memory in {runtime}")
        facts = {"runtime": runtime, "path": str(path), "shape": picture.shape, "threads": settings.threads}
        answer = run_in_new_process("published_run", **facts)
        megabytes[runtime] = answer["megabytes"] if answer else None
    return PublishedRow(network.name, seconds, megabytes)


def _bound(run: Run, picture: np.ndarray) -> Callable[[], object]:
    return lambda: run(picture)


def goals(rows: Sequence[PublishedRow]) -> list[Target]:
    """The goals for which there are measurements."""
    return [target for row in rows if row.network in WITH_GOALS for target in _goals_of(row)]


def _goals_of(row: PublishedRow) -> Iterator[Target]:
    for runtime, wanted in ((ONNXRUNTIME, MIN_OVER_ONNXRUNTIME), (OPENVINO, MIN_OVER_OPENVINO)):
        if (reached := row.over(runtime)) is not None:
            yield Target(f"{row.network}: engine over {LABELS[runtime]}", wanted, reached)
    if row.network == "Compact 64x16" and (reached := row.over(ONNXRUNTIME, ENGINE_INT8)) is not None:
        yield Target(f"{row.network}: engine int8 over {LABELS[ONNXRUNTIME]}", MIN_INT8, reached)
    if (share := row.memory_share()) is not None:
        description = f"{row.network}: memory of the engine over {LABELS[ONNXRUNTIME]}"
        yield Target(description, 100 * MAX_MEMORY_SHARE, 100 * share, " %", at_most=True)
