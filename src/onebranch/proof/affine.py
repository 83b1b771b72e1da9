"""The proof of a region with any number of inputs: two affine maps agree on a basis, or on random signs.

A full basis lights one channel of one pixel at a time. Where that would be too many pictures, every position
of every channel of every input is lit at once with independent random signs, `COMBINATIONS` times for each
size (Freivalds, MFCS 1979): a map that differs by more than the tolerance anywhere differs visibly on such a
picture with a chance of at least one half, so that all miss it with one of at most 2^-40.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.errors import OnebranchError
from onebranch.proof.basis import LARGE_RADIUS, TOLERANCE, sizes
from onebranch.proof.rounding import BEYOND, Rounding, RoundingError, check_weights
from onebranch.proof.rounding import TOLERANCE as ROUNDING_TOLERANCE

COMBINATIONS = 40
"""Independent random signs for every size."""

LARGE_FOR_SIGNS = 2
"""Up to this radius every size is tried with random signs; kernels of 7x7 and more take the listed subset."""

NUMBERS = 1 << 21
"""Numbers that are put in at once."""

FULL = 300_000_000
"""Multiply-accumulates up to which a full basis is taken."""

Pictures = Mapping[str, Floats]
"""Every input by name, (N, C, H, W)."""

Original = Callable[[Pictures], tuple[Floats, float]]
"""The original: its output, and the largest absolute value met on the way to it."""

Replacement = Callable[[Pictures], Floats]

Shapes = Mapping[str, tuple[int, int, int]]
"""Channels, height and width of every input."""


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was tried and how well it agreed.

    heights, widths: of the first input; every height with every width that the region has an output for.
    complete: whether these are all sizes from 1 to 2r + 1 + s, or (large r) the listed subset. combinations:
    0 for a full basis, else the number of random signs for each size. pictures: in all. error: the largest
    difference, as a part of `largest`, the largest absolute value met in the original.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    complete: bool
    combinations: int
    pictures: int
    largest: float
    error: float


class AffineProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Radius and stride of the region (its structure), agreement, and rounding of what is stored."""

    radius: tuple[int, int]
    stride: tuple[int, int]
    agreement: Agreement
    rounding: Rounding


class Region(msgspec.Struct, frozen=True):
    """What is to be proven. shapes: of the inputs for a size of the first one, None where there is no output.

    merged, stored: the replacement before rounding, and with its stored weights. weights: both, by name.
    macs: of original and replacement together, for one pixel. seed: of the random signs.
    """

    original: Original
    merged: Replacement
    stored: Replacement
    shapes: Callable[[int, int], Shapes | None]
    weights: Mapping[str, tuple[Floats, Floats]]
    radius: tuple[int, int]
    stride: tuple[int, int]
    macs: int
    seed: int = 0


def prove_affine(region: Region, *, full: bool = False) -> AffineProof:
    """Evidence that the replacement equals the original. full: a full basis, however long it takes.

    Raises OnebranchError that names the part that fails.
    """
    return AffineProof(region.radius, region.stride, agreement(region, full=full), _rounding(region))


def agreement(region: Region, *, full: bool = False) -> Agreement:
    """Both maps, in float64 and before any rounding, on zero and on a basis, or on random signs."""
    tried = _tried(region, LARGE_RADIUS)
    whole = full or sum(_numbers(shapes) * h * w for (h, w), shapes in tried.items()) * region.macs <= FULL
    if not whole:
        tried = _tried(region, LARGE_FOR_SIGNS)
    worst, largest, pictures, place = 0.0, 0.0, 0, ""
    for (height, width), shapes in tried.items():
        batches = _impulses(shapes) if whole else _signs(shapes, [region.seed, height, width])
        for batch in batches:
            error, met, count = _difference(region, batch, f"{height}x{width}")
            pictures, largest = pictures + count, max(largest, met)
            if not error <= worst:  # NaN is never small enough
                worst, place = error, f"a {height}x{width} picture"
    error = worst / largest if largest > 0 else worst
    if not error <= TOLERANCE:
        raise OnebranchError(
            f"basis: the replacement differs by {error:.1e} of the largest value ({TOLERANCE:.0e} is allowed)"
            f" on {place}"
        )
    heights, widths = (tuple(sorted({size[axis] for size in tried})) for axis in (0, 1))
    complete = max(region.radius) <= (LARGE_RADIUS if whole else LARGE_FOR_SIGNS)
    return Agreement(heights, widths, complete, 0 if whole else COMBINATIONS, pictures, largest, error)


def _tried(region: Region, large: int) -> dict[tuple[int, int], Shapes]:
    """Sizes of pictures, and the inputs' shapes for each. Raises OnebranchError where there are none."""
    heights, widths = (sizes(r, s, large) for r, s in zip(region.radius, region.stride, strict=True))
    found = {size: region.shapes(*size) for size in itertools.product(heights, widths)}
    tried = {size: shapes for size, shapes in found.items() if shapes is not None}
    if not tried:
        raise OnebranchError("basis: there is no size of picture that the region has an output for")
    return tried


def _difference(region: Region, batch: Pictures, size: str) -> tuple[float, float, int]:
    """The largest difference, the largest value met, and the number of pictures."""
    expected, met = region.original(batch)
    given = region.merged(batch)
    if expected.shape != given.shape:
        raise OnebranchError(
            f"basis: on a {size} picture the original gives {expected.shape[1:]} values, the replacement"
            f" {given.shape[1:]}"
        )
    return float(np.abs(expected - given).max(initial=0)), met, len(expected)


def _numbers(shapes: Shapes) -> int:
    return sum(channels * height * width for channels, height, width in shapes.values())


def _impulses(shapes: Shapes) -> Iterator[dict[str, Floats]]:
    """Zero, and every unit impulse in one of the inputs, the others zero, in batches."""
    total = _numbers(shapes)
    step = max(1, NUMBERS // total)
    for first in range(0, total + 1, step):
        numbers = np.arange(first, min(first + step, total + 1))
        lit = np.zeros((len(numbers), total))
        chosen = numbers > 0
        lit[np.flatnonzero(chosen), numbers[chosen] - 1] = 1
        yield _cut(lit, shapes)


def _signs(shapes: Shapes, seed: list[int]) -> Iterator[dict[str, Floats]]:
    """Zero, and pictures of independent random signs."""
    total = _numbers(shapes)
    random = np.random.default_rng(seed)
    signs = random.integers(0, 2, (COMBINATIONS, total), np.int8) * np.int8(2) - np.int8(1)
    signs = np.concatenate([np.zeros((1, total), np.int8), signs])
    step = max(1, NUMBERS // total)
    for first in range(0, len(signs), step):
        yield _cut(signs[first : first + step].astype(np.float64), shapes)


def _cut(rows: Floats, shapes: Shapes) -> dict[str, Floats]:
    """Rows of numbers as the inputs' pictures."""
    result, offset = {}, 0
    for name, (channels, height, width) in shapes.items():
        count = channels * height * width
        result[name] = rows[:, offset : offset + count].reshape(-1, channels, height, width)
        offset += count
    return result


def _rounding(region: Region) -> Rounding:
    """What is stored is the rounding of the merge, and computes as well: noise in [-1, 1] in float32."""
    for name, (merged, kept) in region.weights.items():
        check_weights(name, merged, kept)
    height, width = (2 * r + s + BEYOND for r, s in zip(region.radius, region.stride, strict=True))
    shapes = region.shapes(height, width + 2) or list(_tried(region, LARGE_RADIUS).values())[-1]
    noise = 2 * np.random.default_rng(0).random((1, _numbers(shapes)), np.float32) - 1
    batch = _cut(noise, shapes)
    expected, largest = region.original({name: array.astype(np.float64) for name, array in batch.items()})
    difference = float(np.abs(expected - region.stored(batch)).max(initial=0))
    error = difference / largest if largest > 0 else difference
    if not error <= ROUNDING_TOLERANCE:
        raise RoundingError(
            f"rounding: float32 outputs are off by {error:.1e} of the largest value met"
            f" ({ROUNDING_TOLERANCE:.0e} is allowed)"
        )
    return Rounding(sum(kept.size for _, kept in region.weights.values()), error)
