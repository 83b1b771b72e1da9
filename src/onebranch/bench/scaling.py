"""Whether the engine's cost per pixel and its memory stay what they are as pictures grow.

Large pictures are streamed, and their rows are the same few again and again: none is ever whole in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from onebranch.bench.alone import asked
from onebranch.bench.interleaved import USUAL, Turns, in_turns
from onebranch.bench.streaming import random_rows, streamed
from onebranch.bench.whole_path import MODELS
from onebranch.model.catalogue import find, load

if TYPE_CHECKING:
    from onebranch.enhancer.engine_stage import EngineStage

EDGES = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""Height and width of the square pictures, as they go in."""

ROWS, WIDTHS, CHUNK = 20_000, (2_000, 20_000), 16
"""Of the pictures whose memory is measured, and how many of their rows are given at a time."""

PIXELS = 2**20
"""Given at a time where time is measured, at the most but for rows wider than that."""

LARGEST_WHOLE = 2048
"""Edge of the pictures that are run whole, as `enhance` does; larger ones are streamed."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """nanoseconds: for an input pixel, median."""

    precision: str
    edge: int
    nanoseconds: float


@dataclass(frozen=True)
class Memory:
    """megabytes: of 10^6 bytes, at the most, beyond Python with numpy; None where the system does not say."""

    precision: str
    rows: int
    width: int
    megabytes: float | None


def costs(
    edges: Sequence[int],
    precisions: Sequence[str],
    rounds: int,
    threads: int,
    turns: Turns = USUAL,
) -> list[Scale]:
    """Every size in every precision, interleaved; photo-x2 with bicubic chroma, RGB bytes in and out."""
    from onebranch.enhancer.engine_stage import EngineStage

    stages = {p: EngineStage(load(MODELS[p]), threads=threads, precision=p) for p in precisions}
    sizes = [(precision, edge) for precision in precisions for edge in edges]
    runs = {f"{p} {edge}": _square(stages[p], edge) for p, edge in sizes}
    seconds = in_turns(runs, rounds, turns)
    return [Scale(p, edge, 1e9 * median(seconds[f"{p} {edge}"]) / edge**2) for p, edge in sizes]


def _square(stage: "EngineStage", edge: int) -> Callable[[], object]:
    if edge <= LARGEST_WHOLE:
        picture = random_rows(edge, edge)
        return lambda: stage.pixels(3, "uint8", "uint8")(picture)
    rows = random_rows(max(1, min(edge, PIXELS // edge)), edge)
    return lambda: streamed(stage, edge, rows)


def largest_ratio(scales: Sequence[Scale], precision: str) -> float:
    """The most that a pixel costs over the least.

    >>> largest_ratio([Scale("int8", 256, 30.0), Scale("int8", 512, 33.0)], "int8")
    1.1
    """
    own = [scale.nanoseconds for scale in scales if scale.precision == precision]
    return max(own) / min(own)


def memories(
    precisions: Sequence[str],
    threads: int,
    rows: int = ROWS,
    widths: Sequence[int] = WIDTHS,
    shown: Progress = lambda line: None,
) -> list[Memory]:
    """What tall pictures of several widths take, each in a process of its own."""
    return [
        Memory(precision, rows, width, _megabytes(precision, rows, width, threads, shown))
        for width in widths
        for precision in precisions
    ]


def _megabytes(precision: str, rows: int, width: int, threads: int, shown: Progress) -> float | None:
    shown(f"memory of {width}x{rows} in {precision}")
    facts = {"path": str(find(MODELS[precision])), "precision": precision, "threads": threads}
    answer = asked("rows", **facts, rows=rows, width=width, chunk=min(rows, CHUNK))
    return answer["megabytes"] if answer else None
