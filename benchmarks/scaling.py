"""Cost per pixel and memory of the engine as pictures grow.

Large pictures are streamed and repeat the same few rows, so that none is ever in memory as a whole.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.end_to_end import MODELS
from benchmarks.isolated import run_in_new_process
from benchmarks.streaming import random_rows, stream_picture
from onebranch.bench import DEFAULT_PACING, Pacing, time_interleaved
from onebranch.model.catalogue import find, load

if TYPE_CHECKING:
    from onebranch.enhancer.engine_stage import EngineStage
    from onebranch.enhancer.stage import Function
    from onebranch.images.samples import Samples

EDGES = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""Height and width of the square inputs in pixels."""

TALL_ROWS, TALL_WIDTHS, CHUNK_ROWS = 20_000, (2_000, 20_000), 16
"""Height and widths of the inputs whose memory is measured, and how many rows are pushed at a time."""

MAX_CHUNK_PIXELS = 2**20
"""Pixels that are pushed at a time where time is measured; at least one row."""

MAX_UNSTREAMED_EDGE = 2048
"""Largest edge of the inputs that run as a whole, as in `enhance`; larger ones are streamed."""

SMALL_EDGE, SMALL_COUNT = 128, 100
"""Height and width of small pictures in pixels, and how many there are; the large one has as many pixels."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PixelCost:
    """nanoseconds: median for one input pixel."""

    precision: str
    edge: int
    nanoseconds: float


@dataclass(frozen=True)
class SmallPictures:
    """Many small pictures and one large one of as many pixels; all fields: median seconds.

    batch: several at a time, one thread each, as in a folder, without its decoding and files. in_turn: one
    after the other, on all threads. large: the large picture, on all threads. The small pictures are one and
    the same.
    """

    precision: str
    batch: float
    in_turn: float
    large: float


@dataclass(frozen=True)
class StreamMemory:
    """megabytes: peak beyond Python with numpy, in units of 10^6 bytes; None if it is unknown."""

    precision: str
    rows: int
    width: int
    megabytes: float | None


def costs(
    edges: Sequence[int],
    precisions: Sequence[str],
    rounds: int,
    threads: int,
    pacing: Pacing = DEFAULT_PACING,
) -> list[PixelCost]:
    """Every size in every precision, interleaved: photo-x2 with bicubic chroma, RGB bytes in and out."""
    from onebranch.enhancer.engine_stage import EngineStage

    stages = {p: EngineStage(load(MODELS[p]), threads=threads, precision=p) for p in precisions}
    sizes = [(precision, edge) for precision in precisions for edge in edges]
    runs = {f"{p} {edge}": _square(stages[p], edge) for p, edge in sizes}
    seconds = time_interleaved(runs, rounds, pacing)
    return [PixelCost(p, edge, 1e9 * median(seconds[f"{p} {edge}"]) / edge**2) for p, edge in sizes]


def _square(stage: "EngineStage", edge: int) -> Callable[[], object]:
    if edge <= MAX_UNSTREAMED_EDGE:
        picture = random_rows(edge, edge)
        return lambda: stage.pixels(3, "uint8", "uint8")(picture)
    rows = random_rows(max(1, min(edge, MAX_CHUNK_PIXELS // edge)), edge)
    return lambda: stream_picture(stage, edge, rows)


def largest_ratio(scales: Sequence[PixelCost], precision: str) -> float:
    """The highest cost per pixel divided by the lowest.

    >>> largest_ratio([PixelCost("int8", 256, 30.0), PixelCost("int8", 512, 33.0)], "int8")
    1.1
    """
    costs = [scale.nanoseconds for scale in scales if scale.precision == precision]
    return max(costs) / min(costs)


def small_pictures(
    precisions: Sequence[str], rounds: int, threads: int, pacing: Pacing = DEFAULT_PACING
) -> list[SmallPictures]:
    """Time many small pictures beside one large one, in photo-x2, RGB bytes in and out, interleaved."""
    from onebranch.enhancer.engine_stage import EngineStage

    small = random_rows(SMALL_EDGE, SMALL_EDGE)
    large_edge = round(SMALL_EDGE * SMALL_COUNT**0.5)
    large = random_rows(large_edge, large_edge)
    results = []
    with ThreadPoolExecutor(threads) as pool:
        for precision in precisions:
            model = load(MODELS[precision])
            alone = EngineStage(model, threads=1, precision=precision).pixels(3, "uint8", "uint8")
            shared = EngineStage(model, threads=threads, precision=precision).pixels(3, "uint8", "uint8")
            candidates: dict[str, Callable[[], object]] = {
                "batch": partial(_all_of, pool.map, alone, small),
                "in_turn": partial(_all_of, map, shared, small),
                "large": partial(shared, large),
            }
            seconds = time_interleaved(candidates, rounds, pacing)
            results.append(SmallPictures(precision, **{name: median(seconds[name]) for name in candidates}))
    return results


def _all_of(run_each: Callable[..., Iterable[object]], function: "Function", picture: "Samples") -> None:
    for _ in run_each(function, [picture] * SMALL_COUNT):
        pass


def memories(
    precisions: Sequence[str],
    threads: int,
    rows: int = TALL_ROWS,
    widths: Sequence[int] = TALL_WIDTHS,
    report: Progress = lambda line: None,
) -> list[StreamMemory]:
    """Peak memory of tall inputs of several widths, each in a separate process."""
    return [
        StreamMemory(precision, rows, width, _megabytes(precision, rows, width, threads, report))
        for width in widths
        for precision in precisions
    ]


def _megabytes(precision: str, rows: int, width: int, threads: int, report: Progress) -> float | None:
    report(f"memory of {width}x{rows} in {precision}")
    facts = {"path": str(find(MODELS[precision])), "precision": precision, "threads": threads}
    answer = run_in_new_process(
        "streamed_picture", **facts, rows=rows, width=width, chunk=min(rows, CHUNK_ROWS)
    )
    return answer["megabytes"] if answer else None
