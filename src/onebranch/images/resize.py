"""Bicubic and bilinear resizing as in MATLAB's imresize, and the same as fixed convolutions.

The weights are those of imresize's `contributions`: for downscaling, the kernel is stretched (antialiasing),
and the weights sum to one. A picture is resized along one axis and then the other. The sparse weight matrix
of an axis is applied in small dense blocks, because BLAS multiplies dense matrices fast.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.images.colour import FloatArray

Border = Literal["symmetric", "edge", "wrap"]
Kernel = Literal["bicubic", "bilinear"]
PhaseKind = Literal["bicubic", "bilinear", "nearest"]

BLOCK_OUTPUTS = 32
"""Output rows or columns per dense block: the fastest of 16 to 128, measured for scales from 1/4 to 4."""

CACHED_RESIZINGS = 32
"""Number of resizings whose weights are cached, for the frames of a clip and the bands of a picture."""


def cubic(x: FloatArray) -> FloatArray:
    """Keys' cubic convolution kernel with a = -0.5, which is zero for |x| >= 2.

    Source: R. Keys, Cubic Convolution Interpolation for Digital Image Processing (1981).

    >>> cubic(np.array([0.0, 0.5, 1.0, 1.5, 2.0]))
    array([ 1.    ,  0.5625,  0.    , -0.0625,  0.    ])
    """
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    result: FloatArray = np.where(x <= 1, near, np.where(x < 2, far, 0))
    return result


def linear(x: FloatArray) -> FloatArray:
    """The triangle kernel of bilinear interpolation, which is zero for |x| >= 1."""
    result: FloatArray = np.maximum(1 - np.abs(x), 0)
    return result


_KERNELS: dict[str, tuple[Callable[[FloatArray], FloatArray], int]] = {
    "bicubic": (cubic, 4),
    "bilinear": (linear, 2),
}
"""Each kernel and the width of its support, in pixels."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """The filter taps of every output position: their input positions and weights.

    Positions may lie outside the input. Objects are compared and hashed by identity, so that results that are
    computed from them can be cached.
    """

    positions: npt.NDArray[np.int64]  # (output length, taps)
    weights: npt.NDArray[np.float64]  # (output length, taps)


@lru_cache(maxsize=CACHED_RESIZINGS)
def contributions(
    length: int,
    output: int,
    scale: float,
    kernel: Kernel = "bicubic",
    *,
    antialias: bool = True,
    shift: float = 0.0,
) -> Contributions:
    """The taps for resizing an axis from `length` to `output` pixels with the factor `scale`.

    shift: offset, in input pixels, that is added to the input position of every output position. Positions
    count from 0 and may lie outside [0, length). The arrays are cached: do not modify them. Source:
    imresize.m (R2020a), `contributions`.
    """
    shape, width = _KERNELS[kernel]
    stretch = min(scale, 1.0) if antialias else 1.0
    centre = (np.arange(output) + 0.5) / scale - 0.5 + shift
    first = np.floor(centre - width / stretch / 2).astype(np.int64)
    positions = first[:, None] + np.arange(math.ceil(width / stretch) + 2)
    weights = np.asarray(shape((centre[:, None] - positions) * stretch), np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    return Contributions(positions[:, used], weights[:, used])


def inside(positions: npt.NDArray[np.int64], length: int, border: Border) -> npt.NDArray[np.int64]:
    """Positions mapped into [0, length).

    "symmetric" mirrors and repeats the border pixel, "edge" clamps, "wrap" repeats the whole axis.

    >>> inside(np.array([-2, -1, 0, 3, 4]), 4, "symmetric").tolist()
    [1, 0, 0, 3, 3]
    >>> inside(np.array([-2, -1, 0, 3, 4]), 4, "wrap").tolist()
    [2, 3, 0, 3, 0]
    """
    if border == "wrap":
        return positions % length
    if border == "edge":
        return np.clip(positions, 0, length - 1)
    mirrored = positions % (2 * length)
    return np.minimum(mirrored, 2 * length - 1 - mirrored)


def resize(
    picture: FloatArray,
    height: int,
    width: int,
    *,
    border: Border = "symmetric",
    kernel: Kernel = "bicubic",
    antialias: bool = True,
    scale: float | None = None,
) -> FloatArray:
    """The picture (H, W[, C]) resized to (height, width[, C]), not clipped, in its float type.

    scale: the factor by which the kernel is positioned and stretched; by default output / input of each axis.
    The axis with the smaller factor is resized first, as in imresize. Raises OnebranchError if a side is less
    than 1.
    """
    if min(height, width, *picture.shape[:2]) < 1:
        raise OnebranchError(
            f"cannot resize {picture.shape[1]}x{picture.shape[0]} to {width}x{height}:"
            " every side must be at least 1 pixel"
        )
    before = picture.shape[0], picture.shape[1]
    factors = scale or height / before[0], scale or width / before[1]
    resizing = Resizing(before, (height, width), factors, border, kernel, antialias)
    return resizing.rows(picture, 0, 0, height)


@dataclass(frozen=True)
class Resizing:
    """A resizing that can be computed in bands of rows. The bands do not affect the samples, to the last bit.

    before, after: (height, width). factors: (vertical, horizontal) factors by which the kernel is positioned
    and stretched. shifts: (vertical, horizontal) offsets, in input pixels, that are added to the input
    position of every output position.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    factors: tuple[float, float]
    border: Border = "symmetric"
    kernel: Kernel = "bicubic"
    antialias: bool = True
    shifts: tuple[float, float] = (0.0, 0.0)

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The range [begin, end) of input rows that the output rows [first, last) depend on."""
        first, last = _in_blocks(first, last, self.after[0])
        taken = inside(self._taps(0).positions[first:last], self.before[0], self.border)
        begin, end = int(taken.min()), int(taken.max()) + 1
        return (begin, end) if self._height_first else _in_blocks(begin, end, self.before[0])

    def rows(self, samples: FloatArray, begin: int, first: int, last: int) -> FloatArray:
        """Output rows [first, last), from input rows (N, W[, C]) that start at row `begin`.

        The input rows must include all rows that `needs` returns.
        """
        low, high = _in_blocks(first, last, self.after[0])
        start, stop = self.needs(first, last)
        planes = _planes(samples[start - begin : stop - begin])
        if not self._height_first:
            planes = _along_width(planes, self._taps(1), self.border)
        planes = _along_height(planes, self._taps(0), self.before[0], self.border, start, (low, high))
        if self._height_first:
            planes = _along_width(planes, self._taps(1), self.border)
        return _picture(planes[:, first - low : last - low], samples.ndim)

    @property
    def _height_first(self) -> bool:
        return self.factors[0] <= self.factors[1]

    def _taps(self, axis: int) -> Contributions:
        length, output = self.before[axis], self.after[axis]
        return contributions(
            length,
            output,
            self.factors[axis],
            self.kernel,
            antialias=self.antialias,
            shift=self.shifts[axis],
        )


def _in_blocks(first: int, last: int, length: int) -> tuple[int, int]:
    """[first, last) extended to multiples of the block size, within [0, length)."""
    return first // BLOCK_OUTPUTS * BLOCK_OUTPUTS, min(length, -(-last // BLOCK_OUTPUTS) * BLOCK_OUTPUTS)


def imresize(
    picture: FloatArray,
    scale: float,
    *,
    border: Border = "symmetric",
    kernel: Kernel = "bicubic",
    antialias: bool = True,
) -> FloatArray:
    """The picture (H, W[, C]) resized by a factor to (ceil(H scale), ceil(W scale)[, C]), not clipped.

    It equals imresize(picture, scale, kernel) of current MATLAB versions for floating-point input.

    >>> imresize(np.ones((5, 6)), 1 / 2).shape
    (3, 3)
    """
    height, width = (_ceil(side * scale) for side in picture.shape[:2])
    return resize(picture, height, width, border=border, kernel=kernel, antialias=antialias, scale=scale)


def upscale_phases(scale: int, kind: PhaseKind = "bicubic") -> npt.NDArray[np.float64]:
    """Kernels (S², K, K), K odd, by which upscaling by S is a convolution and a pixel shuffle.

    The picture is edge-replicated by K // 2 on every side. Its correlation with kernel S y + x gives pixel
    (y, x) of every S×S cell of the output. The output equals that of `resize` with border "edge"; for
    "nearest", every pixel is repeated.

    >>> upscale_phases(2).shape, upscale_phases(3, "nearest").shape
    ((4, 5, 5), (9, 1, 1))
    """
    if kind == "nearest":
        return np.ones((scale * scale, 1, 1))
    taps = contributions(1, scale, scale, kind)
    radius = int(np.abs(taps.positions[taps.weights != 0]).max())
    lines = _spread(taps, -radius, radius)
    kernels = lines[:, None, :, None] * lines[None, :, None, :]
    return kernels.reshape(scale * scale, 2 * radius + 1, 2 * radius + 1)


def downscale_phases(scale: int, kind: PhaseKind = "bicubic") -> npt.NDArray[np.float64]:
    """The kernel (1, K, K) by which downscaling by S is a convolution of stride S.

    The sides of the picture must be multiples of S. It is edge-replicated by (K - S) // 2 on the left and
    top, and by the rest of K - S on the right and bottom. The output equals that of antialiased `resize` with
    border "edge"; for "nearest", it is every S-th pixel, starting at S // 2.

    >>> downscale_phases(2).shape, downscale_phases(3).shape, downscale_phases(3, "nearest").shape
    ((1, 8, 8), (1, 11, 11), (1, 3, 3))
    """
    if kind == "nearest":
        line = np.eye(scale)[scale // 2]
    else:
        taps = contributions(scale, 1, 1 / scale, kind)
        held = taps.positions[taps.weights != 0]
        line = _spread(taps, int(held.min()), int(held.max()))[0]
    return np.outer(line, line)[None]


def _spread(taps: Contributions, first: int, last: int) -> npt.NDArray[np.float64]:
    """The weights as a dense matrix (output length, last - first + 1), for positions `first` to `last`."""
    lines = np.zeros((len(taps.weights), last - first + 1))
    rows, columns = np.nonzero(taps.weights)
    lines[rows, taps.positions[rows, columns] - first] = taps.weights[rows, columns]
    return lines


def _ceil(length: float) -> int:
    """The value rounded up, with a tolerance for rounding errors: 3 x (1/3) gives 1."""
    return max(1, math.ceil(length - 1e-9))


def _planes(picture: FloatArray) -> FloatArray:
    """A picture (H, W[, C]) of any type as float planes (C, H, W)."""
    values = picture.astype(np.result_type(picture.dtype, np.float32), copy=False)
    return values[None] if picture.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _picture(planes: FloatArray, dimensions: int) -> FloatArray:
    """Planes (C, H, W) as a picture with 2 dimensions, (H, W), or 3, (H, W, C)."""
    return planes[0] if dimensions == 2 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _along_height(
    planes: FloatArray,
    taps: Contributions,
    length: int,
    border: Border,
    begin: int = 0,
    wanted: tuple[int, int] | None = None,
) -> FloatArray:
    """Planes (C, H, W) resized vertically to (C, wanted rows, W).

    begin: number of the planes' first row in the picture, which has `length` rows.
    """
    first, last = wanted or (0, len(taps.weights))
    result = np.empty((planes.shape[0], last - first, planes.shape[2]), planes.dtype)
    for out, into, matrix in _blocks(taps, length, border, planes.dtype, (first, last)):
        rows = planes[:, into.start - begin : into.stop - begin]
        np.matmul(matrix, rows, out=result[:, out.start - first : out.stop - first])
    return result


def _along_width(planes: FloatArray, taps: Contributions, border: Border) -> FloatArray:
    """Planes (C, H, W) resized horizontally to (C, H, output).

    Rows are processed in blocks of fixed size, too, so that the sums do not depend on the number of rows.
    """
    count, height, width = planes.shape
    result = np.empty((count, height, len(taps.weights)), planes.dtype)
    full_blocks = height // BLOCK_OUTPUTS * BLOCK_OUTPUTS
    parts = [(planes[:, :full_blocks], result[:, :full_blocks])] if full_blocks else []
    if full_blocks < height:
        parts.append((planes[:, full_blocks:], result[:, full_blocks:]))
    blocks = _blocks(taps, width, border, planes.dtype)
    for source, target in parts:
        shape = (count, -1, min(BLOCK_OUTPUTS, source.shape[1]))
        rows, made = source.reshape(*shape, width), target.reshape(*shape, target.shape[2])
        for out, into, matrix in blocks:
            made[..., out] = rows[..., into] @ matrix.T
        target[...] = made.reshape(target.shape)
    return result


@lru_cache(maxsize=CACHED_RESIZINGS)
def _blocks(
    taps: Contributions,
    length: int,
    border: Border,
    dtype: npt.DTypeLike,
    wanted: tuple[int, int] | None = None,
) -> list[tuple[slice, slice, FloatArray]]:
    """The weight matrix (output, length) in dense blocks: (slice of outputs, slice of inputs, weights).

    wanted: the range of outputs, which begins at a multiple of `BLOCK_OUTPUTS`; by default, all outputs.
    Example: resizing 64 rows to 32 gives one block: outputs 0 to 31, inputs 0 to 63, and a 32x64 matrix with
    eight non-zero weights in each row.
    """
    first, last = wanted or (0, len(taps.weights))
    positions = inside(taps.positions[first:last], length, border)
    weights = taps.weights[first:last]
    return [
        _block(positions[at : at + BLOCK_OUTPUTS], weights[at : at + BLOCK_OUTPUTS], first + at, dtype)
        for at in range(0, len(positions), BLOCK_OUTPUTS)
    ]


def _block(
    positions: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], at: int, dtype: npt.DTypeLike
) -> tuple[slice, slice, FloatArray]:
    first, end = int(positions.min()), int(positions.max()) + 1
    matrix = np.zeros((len(positions), end - first))
    np.add.at(matrix, (np.arange(len(positions))[:, None], positions - first), weights)
    return slice(at, at + len(positions)), slice(first, end), matrix.astype(dtype)
