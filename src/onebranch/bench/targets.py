"""What the engine is to reach, and what a run reached: ratios within the run, which other machines share.

The numbers are this project's own goals, for two cores with AVX-512, VNNI and bf16.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onebranch.bench.inference import Row
from onebranch.bench.interleaved import ratio
from onebranch.bench.scaling import Memory, Scale, largest_ratio
from onebranch.bench.ways import BASELINE
from onebranch.bench.whole_path import PathRow

RATIOS: dict[str, dict[str, float]] = {
    "photo-x2": {"fp32": 4, "bf16": 5.5, "int8": 9},
    "leaky-x2": {"fp32": 2.4, "bf16": 3.2, "int8": 5.3},
    "rgb-10x32-x2": {"fp32": 2, "bf16": 3, "int8": 5.5},
    "y-16x64-x2": {"fp32": 1, "bf16": 1, "int8": 1},
}
"""Times faster than ONNX Runtime in fp32, of the engine in each precision."""

SHARES = {"photo-x2": 0.85, "rgb-10x32-x2": 0.85}
"""Of the measured peak, of the engine in int8."""

MERGED = ("patent", "PyTorch, unmerged", "engine int8", 200.0)
"""Network, slow way, fast way, times faster."""

PER_PIXEL, MEGABYTES = 1.1, 100.0
"""Largest ratio of costs per pixel; memory of a picture of 20,000 rows."""


@dataclass(frozen=True)
class Target:
    """what: in words. unit: follows the numbers. at_most: whether less is better."""

    what: str
    wanted: float
    reached: float
    unit: str = " x"
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the number is as good as wanted."""
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


def of_rows(rows: Sequence[Row], path: Sequence[PathRow]) -> list[Target]:
    """The goals about which the run says something."""
    found = {(row.network, row.way): row for row in rows}
    return [*_ratios(found), *_shares(found), *_merged(found), *_path(path)]


def of_scaling(scales: Sequence[Scale], memories: Sequence[Memory]) -> list[Target]:
    """The goals of `bench --scaling`."""
    precisions = dict.fromkeys(scale.precision for scale in scales)
    edges = sorted({scale.edge for scale in scales})
    costs = [
        Target(
            f"cost per pixel, {edges[0]} to {edges[-1]} squared, {precision}: most over least",
            PER_PIXEL,
            largest_ratio(scales, precision),
            at_most=True,
        )
        for precision in precisions
    ]
    return costs + [
        Target(
            f"memory of {memory.width:,} x {memory.rows:,} pixels, {memory.precision}",
            MEGABYTES,
            memory.megabytes,
            " MB",
            at_most=True,
        )
        for memory in memories
        if memory.megabytes is not None
    ]


Found = dict[tuple[str, str], Row]


def _ratios(found: Found) -> Iterator[Target]:
    for network, wanted in RATIOS.items():
        for precision, number in wanted.items():
            row = found.get((network, f"engine {precision}"))
            if row and row.ratio is not None:
                yield Target(f"{network}: engine {precision} over {BASELINE}", number, row.ratio)


def _shares(found: Found) -> Iterator[Target]:
    for network, wanted in SHARES.items():
        row = found.get((network, "engine int8"))
        if row and row.share is not None:
            yield Target(f"{network}: engine int8, of the int8 peak", 100 * wanted, 100 * row.share, " %")


def _merged(found: Found) -> Iterator[Target]:
    network, slow, fast, wanted = MERGED
    rows = found.get((network, slow)), found.get((network, fast))
    if rows[0] and rows[1]:
        reached = ratio(list(rows[0].seconds), list(rows[1].seconds))
        yield Target(f"{network}: {fast} over {slow}", wanted, reached)


def _path(path: Sequence[PathRow]) -> Iterator[Target]:
    """The precision that is to be no slower than OpenCV is int8; the others are printed above."""
    for row in path:
        if row.precision == "int8" and row.ratio is not None:
            yield Target("whole path, engine int8, of OpenCV's time", 1.0, row.ratio, at_most=True)
