"""The project's goals and what a run reached: ratios within one run, which carry over to other machines.

The goals are for two cores with AVX-512, VNNI and bf16.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.configurations import BASELINE
from benchmarks.end_to_end import EndToEndRow
from benchmarks.inference import InferenceRow
from benchmarks.scaling import SMALL_COUNT, SMALL_EDGE, PixelCost, SmallPictures, StreamMemory, largest_ratio
from onebranch.bench import median_ratio

SPEEDUPS: dict[str, dict[str, float]] = {
    "photo-x2": {"fp32": 4, "bf16": 5.5, "int8": 9},
    "leaky-x2": {"fp32": 2.4, "bf16": 3.2, "int8": 5.3},
    "rgb-10x32-x2": {"fp32": 2, "bf16": 3, "int8": 5.5},
    "y-16x64-x2": {"fp32": 1, "bf16": 1, "int8": 1},
}
"""Goals: the engine's speedup over ONNX Runtime in fp32, by network and precision."""

PEAK_SHARES = {"photo-x2": 0.85, "rgb-10x32-x2": 0.85}
"""The share of the measured peak that the engine should reach in int8."""

MERGED_AND_QUANTIZED = ("patent", "PyTorch, unmerged", "engine int8", 200.0)
"""Network, slow configuration, fast configuration, how many times faster it should be."""

MAX_COST_RATIO, MAX_SMALL_PICTURES_RATIO, MAX_MEGABYTES = 1.1, 1.3, 100.0
"""Highest cost per pixel over the lowest; many small pictures over one large one; memory of a picture of
20,000 rows in units of 10^6 bytes."""


@dataclass(frozen=True)
class Target:
    """unit: follows the numbers. at_most: True if less is better."""

    description: str
    wanted: float
    reached: float
    unit: str = " x"
    at_most: bool = False

    @property
    def met(self) -> bool:
        """True if the goal is reached."""
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


def inference_targets(rows: Sequence[InferenceRow], end_to_end: Sequence[EndToEndRow]) -> list[Target]:
    """The goals for which the run has results."""
    by_key = {(row.network, row.label): row for row in rows}
    return [
        *_speedups(by_key),
        *_peak_shares(by_key),
        *_merged_and_quantized(by_key),
        *_end_to_end(end_to_end),
    ]


def scaling_targets(
    scales: Sequence[PixelCost], small: Sequence[SmallPictures], memories: Sequence[StreamMemory]
) -> list[Target]:
    """The goals of the command `scaling`."""
    precisions = dict.fromkeys(scale.precision for scale in scales)
    edges = sorted({scale.edge for scale in scales})
    costs = [
        Target(
            f"cost per pixel, {edges[0]} to {edges[-1]} squared, {precision}: highest over lowest",
            MAX_COST_RATIO,
            largest_ratio(scales, precision),
            at_most=True,
        )
        for precision in precisions
    ]
    batches = [
        Target(
            f"{SMALL_COUNT} pictures of {SMALL_EDGE} squared over a large one, {each.precision}",
            MAX_SMALL_PICTURES_RATIO,
            each.batch / each.large,
            at_most=True,
        )
        for each in small
    ]
    return [*costs, *batches] + [
        Target(
            f"memory of {memory.width:,} x {memory.rows:,} pixels, {memory.precision}",
            MAX_MEGABYTES,
            memory.megabytes,
            " MB",
            at_most=True,
        )
        for memory in memories
        if memory.megabytes is not None
    ]


RowsByKey = dict[tuple[str, str], InferenceRow]
"""Rows by network and label."""


def _speedups(rows: RowsByKey) -> Iterator[Target]:
    for network, wanted in SPEEDUPS.items():
        for precision, number in wanted.items():
            row = rows.get((network, f"engine {precision}"))
            if row and row.ratio is not None:
                yield Target(f"{network}: engine {precision} over {BASELINE}", number, row.ratio)


def _peak_shares(rows: RowsByKey) -> Iterator[Target]:
    for network, wanted in PEAK_SHARES.items():
        row = rows.get((network, "engine int8"))
        if row and row.share is not None:
            yield Target(f"{network}: engine int8, of the int8 peak", 100 * wanted, 100 * row.share, " %")


def _merged_and_quantized(rows: RowsByKey) -> Iterator[Target]:
    network, slow, fast, wanted = MERGED_AND_QUANTIZED
    slow_row, fast_row = rows.get((network, slow)), rows.get((network, fast))
    if slow_row and fast_row:
        reached = median_ratio(list(slow_row.seconds), list(fast_row.seconds))
        yield Target(f"{network}: {fast} over {slow}", wanted, reached)


def _end_to_end(rows: Sequence[EndToEndRow]) -> Iterator[Target]:
    """Only int8 has to be as fast as OpenCV."""
    for row in rows:
        if row.precision == "int8" and row.ratio is not None:
            yield Target("end to end, engine int8, relative to OpenCV", 1.0, row.ratio, at_most=True)
