"""The proof of a region with any number of inputs: two affine maps agree on a basis, or on random signs.

A full basis consists of the unit impulses: one channel of one pixel is 1, everything else is 0. Where that
would be too many pictures, all positions of all channels of all inputs are set to random ±1 instead,
independently, `COMBINATIONS` times for each size (Freivalds, MFCS 1979). If the maps differ anywhere by more
than the tolerance, they differ on such a picture with probability at least 1/2, so that all pictures together
miss the difference with probability at most 2^-40.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.errors import OnebranchError
from onebranch.progress import StepProgress, no_progress
from onebranch.proof.basis import BASIS_TOLERANCE, LARGE_RADIUS, sizes
from onebranch.proof.rounding import EXTRA_PIXELS, ROUNDING_TOLERANCE, Rounding, RoundingError, check_weights

COMBINATIONS = 40
"""Pictures of independent random signs for each size."""

LARGE_RADIUS_FOR_SIGNS = 2
"""Radius up to which random signs are tried at every size; larger ones take the listed subset of sizes."""

MAX_BATCH_NUMBERS = 1 << 21
"""Numbers in one batch of pictures (16 MiB in float64)."""

MAX_FULL_BASIS_MACS = 300_000_000
"""Multiply-accumulates up to which a full basis is tested."""

Pictures = Mapping[str, Floats]
"""The inputs (N, C, H, W) by name."""

Original = Callable[[Pictures], tuple[Floats, float]]
"""The original: its output, and the largest absolute value computed on the way to it."""

Replacement = Callable[[Pictures], Floats]

InputShapes = Mapping[str, tuple[int, int, int]]
"""Channels, height and width of every input, by name."""


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pictures that were tested, and the largest difference.

    heights, widths: sizes of the first input; every height is combined with every width for which there is an
    output. complete: True if these are all sizes from 1 to 2r + 1 + s, False for the listed subset (large
    r). combinations: 0 for a full basis, otherwise the number of random pictures for each size. pictures: in
    total. error: the largest difference, relative to `largest`, the largest absolute value in the original.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    complete: bool
    combinations: int
    pictures: int
    largest: float
    error: float


class AffineProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The proof: radius and stride of the region (its structure), agreement, and rounding of the weights."""

    radius: tuple[int, int]
    stride: tuple[int, int]
    agreement: Agreement
    rounding: Rounding


class AffineRegion(msgspec.Struct, frozen=True):
    """A region and its replacement.

    merged, stored: the replacement before rounding, and with its stored weights. shapes: gives the shapes of
    the inputs for a height and width of the first one, or None if there is no output of this size. weights:
    pairs of merged and stored weights, by name. macs: of original and replacement together, for one pixel.
    seed: seed of the random signs.
    """

    original: Original
    merged: Replacement
    stored: Replacement
    shapes: Callable[[int, int], InputShapes | None]
    weights: Mapping[str, tuple[Floats, Floats]]
    radius: tuple[int, int]
    stride: tuple[int, int]
    macs: int
    seed: int = 0


def prove_affine(
    region: AffineRegion, *, full: bool = False, progress: StepProgress = no_progress
) -> AffineProof:
    """The proof that the replacement equals the original. full: test a full basis, however long it takes.

    progress: called after every batch of pictures with the share of the numbers that were tested. Raises
    OnebranchError that names the part that fails.
    """
    agreed = agreement(region, full=full, progress=progress)
    return AffineProof(region.radius, region.stride, agreed, _rounding(region))


def agreement(region: AffineRegion, *, full: bool = False, progress: StepProgress = no_progress) -> Agreement:
    """Both maps, in float64 and before any rounding, compared on zero and on a basis, or on random signs.

    progress: see `prove_affine`. Raises OnebranchError that names the picture size where they differ by more
    than the tolerance.
    """
    shapes = _tested_shapes(region, LARGE_RADIUS)
    is_full = full or _basis_macs(shapes, region.macs) <= MAX_FULL_BASIS_MACS
    if not is_full:
        shapes = _tested_shapes(region, LARGE_RADIUS_FOR_SIGNS)
    worst, largest, pictures, worst_picture = 0.0, 0.0, 0, ""
    total, tested = sum(_tested_numbers(of_inputs, is_full) for of_inputs in shapes.values()), 0
    for (height, width), of_inputs in shapes.items():
        batches = _impulses(of_inputs) if is_full else _signs(of_inputs, [region.seed, height, width])
        for batch in batches:
            error, magnitude, count = _difference(region, batch, f"{height}x{width}")
            pictures, largest = pictures + count, max(largest, magnitude)
            if not error <= worst:  # NaN is never small enough
                worst, worst_picture = error, f"a {height}x{width} picture"
            tested += count * _numbers(of_inputs)
            progress(f"pictures of {height}x{width}", tested / total)
    heights, widths = (tuple(sorted({size[axis] for size in shapes})) for axis in (0, 1))
    return Agreement(
        heights,
        widths,
        complete=max(region.radius) <= (LARGE_RADIUS if is_full else LARGE_RADIUS_FOR_SIGNS),
        combinations=0 if is_full else COMBINATIONS,
        pictures=pictures,
        largest=largest,
        error=_relative_error(worst, largest, worst_picture),
    )


def _tested_numbers(shapes: InputShapes, is_full: bool) -> int:
    """The numbers in all pictures of one size: zero, and a full basis or random signs."""
    numbers = _numbers(shapes)
    return (1 + (numbers if is_full else COMBINATIONS)) * numbers


def _relative_error(error: float, largest: float, worst_picture: str) -> float:
    """The error relative to the largest value. Raises OnebranchError if it is too large."""
    relative = error / largest if largest > 0 else error
    if not relative <= BASIS_TOLERANCE:
        raise OnebranchError(
            f"basis: the replacement differs by {relative:.1e} of the largest value ({BASIS_TOLERANCE:.0e} is"
            f" allowed) on {worst_picture}"
        )
    return relative


def _basis_macs(shapes: Mapping[tuple[int, int], InputShapes], macs_per_pixel: int) -> int:
    """Multiply-accumulates that it takes to test a full basis."""
    return sum(_numbers(of_inputs) * h * w for (h, w), of_inputs in shapes.items()) * macs_per_pixel


def _tested_shapes(region: AffineRegion, large_radius: int) -> dict[tuple[int, int], InputShapes]:
    """The shapes of the inputs for every picture size. Raises OnebranchError if there is no size."""
    heights, widths = (sizes(r, s, large_radius) for r, s in zip(region.radius, region.stride, strict=True))
    shapes = {size: region.shapes(*size) for size in itertools.product(heights, widths)}
    tested = {size: of_inputs for size, of_inputs in shapes.items() if of_inputs is not None}
    if not tested:
        raise OnebranchError("basis: there is no size of picture that the region has an output for")
    return tested


def _difference(region: AffineRegion, batch: Pictures, size: str) -> tuple[float, float, int]:
    """The largest difference, the largest absolute value in the original, and the number of pictures."""
    expected, met = region.original(batch)
    given = region.merged(batch)
    if expected.shape != given.shape:
        raise OnebranchError(
            f"basis: on a {size} picture the original gives {expected.shape[1:]} values, the replacement"
            f" {given.shape[1:]}"
        )
    return float(np.abs(expected - given).max(initial=0)), met, len(expected)


def _numbers(shapes: InputShapes) -> int:
    return sum(channels * height * width for channels, height, width in shapes.values())


def _impulses(shapes: InputShapes) -> Iterator[dict[str, Floats]]:
    """Batches of pictures: zero, and every unit impulse in one of the inputs, where the others are zero."""
    total = _numbers(shapes)
    step = max(1, MAX_BATCH_NUMBERS // total)
    for first in range(0, total + 1, step):
        numbers = np.arange(first, min(first + step, total + 1))
        pictures = np.zeros((len(numbers), total))
        is_impulse = numbers > 0
        pictures[np.flatnonzero(is_impulse), numbers[is_impulse] - 1] = 1
        yield _cut(pictures, shapes)


def _signs(shapes: InputShapes, seed: list[int]) -> Iterator[dict[str, Floats]]:
    """Batches of pictures: zero, and independent random signs."""
    total = _numbers(shapes)
    random = np.random.default_rng(seed)
    signs = random.integers(0, 2, (COMBINATIONS, total), np.int8) * np.int8(2) - np.int8(1)
    signs = np.concatenate([np.zeros((1, total), np.int8), signs])
    step = max(1, MAX_BATCH_NUMBERS // total)
    for first in range(0, len(signs), step):
        yield _cut(signs[first : first + step].astype(np.float64), shapes)


def _cut(rows: Floats, shapes: InputShapes) -> dict[str, Floats]:
    """Rows of numbers, split into the pictures of every input."""
    result, offset = {}, 0
    for name, (channels, height, width) in shapes.items():
        count = channels * height * width
        result[name] = rows[:, offset : offset + count].reshape(-1, channels, height, width)
        offset += count
    return result


def _rounding(region: AffineRegion) -> Rounding:
    """Check that the stored weights are the rounding of the merge, and measure their error on noise."""
    for name, (merged, kept) in region.weights.items():
        check_weights(name, merged, kept)
    height, width = (2 * r + s + EXTRA_PIXELS for r, s in zip(region.radius, region.stride, strict=True))
    shapes = region.shapes(height, width + 2) or list(_tested_shapes(region, LARGE_RADIUS).values())[-1]
    noise = 2 * np.random.default_rng(0).random((1, _numbers(shapes)), np.float32) - 1
    batch = _cut(noise, shapes)
    expected, largest = region.original({name: array.astype(np.float64) for name, array in batch.items()})
    difference = float(np.abs(expected - region.stored(batch)).max(initial=0))
    error = difference / largest if largest > 0 else difference
    if not error <= ROUNDING_TOLERANCE:
        raise RoundingError(
            f"rounding: float32 outputs are off by {error:.1e} of the largest value"
            f" ({ROUNDING_TOLERANCE:.0e} is allowed)"
        )
    return Rounding(sum(kept.size for _, kept in region.weights.values()), error)
