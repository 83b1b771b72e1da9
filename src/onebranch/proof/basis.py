"""The proof's second part: two affine maps agree on zero and on every unit impulse of every small picture.

An affine map is determined by its value at zero and on a basis. For a local, shift-equivariant map of radius
r and stride s, pictures of up to 2r + 1 + s pixels suffice: the receptive field of every output pixel of a
larger picture meets the borders in the same way as that of some output pixel of these.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.errors import OnebranchError
from onebranch.progress import StepProgress, no_progress
from onebranch.proof.structure import Structure

Map = Callable[[Floats], Floats]
"""Pictures (N, I, H, W) to features (N, O, H', W'), in the precision of the pictures."""

BASIS_TOLERANCE = 1e-12
"""Largest accepted difference of original and replacement in float64, relative to the largest value."""

LARGE_RADIUS = 3
"""Radius up to which every size is tested; all sizes of a 9x9 kernel would be 150,000 pixels per channel."""

BATCH_PIXELS = 1 << 12
"""Pixels in one batch: 16 MiB in a chain that is 512 channels wide."""


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pictures that were tested, and the largest difference.

    heights, widths: sizes of the pictures; every height is combined with every width. complete: True if
    these are all sizes from 1 to 2r + 1 + s, False for the listed subset (large r). pictures: in total.
    error: the largest difference, relative to `largest`, the largest absolute output of any branch.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    complete: bool
    pictures: int
    largest: float
    error: float


# Why 2 r + 1 + s: a picture of 2 r + 1 pixels has an output pixel whose receptive field fits inside, and s
# more pixels give such output pixels at every phase of the stride. The subset for a large radius keeps the
# smallest pictures, in which both borders cut every kernel, and the largest.
def sizes(radius: int, stride: int, large: int = LARGE_RADIUS) -> tuple[int, ...]:
    """Lengths of the pictures to test along one axis; large: the radius up to which all are tested.

    >>> sizes(1, 1), sizes(5, 1)
    ((1, 2, 3, 4), (1, 2, 10, 11, 12))
    """
    end = 2 * radius + 1 + stride
    if radius <= large:
        return tuple(range(1, end + 1))
    return (1, 2, *range(2 * radius, end + 1))


def basis(
    branches: Sequence[Map],
    replacement: Map,
    channels: int,
    structure: Structure,
    progress: StepProgress = no_progress,
) -> Basis:
    """The test that the sum of `branches` equals `replacement`, both in float64 and before any rounding.

    progress: called after every batch of pictures with the share of the pixels that were tested. Raises
    OnebranchError that names the size, the channel and the position where they differ by more than 1e-12 of
    the largest output of any branch.
    """
    heights, widths = (sizes(radius, structure.stride) for radius in structure.radius)
    worst, largest, pictures = 0.0, 0.0, 0
    worst_picture = ""
    total, tested = sum(_basis_pixels(channels, h, w) for h, w in itertools.product(heights, widths)), 0
    for height, width in itertools.product(heights, widths):
        for first, chunk in _impulses(channels, height, width):
            outputs = [branch(chunk) for branch in branches]
            errors = _errors(sum(outputs[1:], outputs[0]), replacement(chunk), height, width)
            pictures += len(chunk)
            largest = max(largest, *(float(np.abs(output).max()) for output in outputs))
            if not errors.max() <= worst:  # NaN is never small enough
                worst = float(errors.max())
                worst_picture = _picture_name(first + int(errors.argmax()), height, width)
            tested += len(chunk) * height * width
            progress(f"pictures of {height}x{width}", tested / total)
    error = worst / largest if largest > 0 else worst
    if not error <= BASIS_TOLERANCE:
        raise OnebranchError(
            f"basis: the replacement differs by {error:.1e} of the largest value ({BASIS_TOLERANCE:.0e} is"
            f" allowed) on {worst_picture}"
        )
    complete = max(structure.radius) <= LARGE_RADIUS
    return Basis(heights, widths, complete, pictures, largest, error)


def _basis_pixels(channels: int, height: int, width: int) -> int:
    """The pixels of all pictures of one size: zero, and an impulse in every channel of every pixel."""
    return (channels * height * width + 1) * height * width


# Example: 2 channels of 2x2 pixels: 9 pictures. Number 0 is zero, number 6 has its 1 at 6 - 1 = 5, that is in
# channel 5 // 4 = 1, row 0, column 1.
def _impulses(channels: int, height: int, width: int) -> Iterator[tuple[int, Floats]]:
    """Batches of zero and all unit impulses (channel, row, column), each with the number of its first."""
    count = channels * height * width + 1
    step = max(1, BATCH_PIXELS // (height * width))
    for first in range(0, count, step):
        numbers = np.arange(first, min(first + step, count))
        chunk = np.zeros((len(numbers), channels * height * width))
        is_impulse = numbers > 0
        chunk[np.flatnonzero(is_impulse), numbers[is_impulse] - 1] = 1
        yield first, chunk.reshape(len(numbers), channels, height, width)


def _errors(original: Floats, replacement: Floats, height: int, width: int) -> Floats:
    """The largest absolute difference, for every picture."""
    if original.shape != replacement.shape:
        raise OnebranchError(
            f"basis: on a {height}x{width} picture the original gives {original.shape[1:]} values,"
            f" the replacement {replacement.shape[1:]}"
        )
    errors: Floats = np.abs(original - replacement).max((1, 2, 3))
    return errors


def _picture_name(number: int, height: int, width: int) -> str:
    if number == 0:
        return f"a {height}x{width} picture of zeros"
    channel, rest = divmod(number - 1, height * width)
    row, column = divmod(rest, width)
    return f"the impulse in channel {channel}, row {row}, column {column} of a {height}x{width} picture"
