"""Measurement of the similarity of two picture files: PSNR, SSIM and the differences of samples.

Both files are read in bands of rows, so that pictures of any size are compared in bounded memory.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onebranch import metrics
from onebranch.comparison.levels import (
    ColourSpace,
    ComparedPicture,
    Levels,
    PictureSize,
    as_srgb,
    colour_space_of,
    level_bands,
)
from onebranch.errors import OnebranchError
from onebranch.images.rows import Header

LevelPair = tuple[Levels, Levels]
"""The same rows of both pictures."""

ROUNDING_LEVELS = 1e-4
"""Largest error, in levels, of an 8- or 16-bit sample that is stored as float32."""

ShareReport = Callable[[float], None]
"""Called with the completed share of the rows, 0 to 1."""


def no_progress(share: float) -> None:
    """Report nothing."""


Observer = Callable[[LevelPair, Levels], None]
"""Called with the next rows of both pictures as sRGB and their difference (N, W, 1)."""


@dataclass(frozen=True)
class Similarity:
    """The similarity of two pictures.

    size: the (height, width) at which they were compared. PSNR is in decibels; it is inf for equal pictures.
    PSNR and SSIM are measured on luma (unrounded BT.601 studio-range luma; grey values for grey pictures) and
    on RGB (SSIM is the mean of the channels; None for grey pictures). SSIM is None for pictures smaller than
    11x11 pixels. psnr_alpha: None if both pictures are opaque. largest: the largest difference of a sample,
    in levels of 255. position: (x, y) of the first pixel with the largest difference. different: share of the
    pixels that differ, 0 to 1. notes: how the pictures were made comparable.
    """

    size: PictureSize
    psnr_y: float
    ssim_y: float | None
    psnr_rgb: float | None
    ssim_rgb: float | None
    psnr_alpha: float | None
    largest: float
    position: tuple[int, int]
    different: float
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """True if all samples are equal, including alpha."""
        return self.different == 0

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values. An infinite PSNR (for equal pictures) becomes null."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "equal": self.equal,
            "psnr_y": _finite(self.psnr_y),
            "ssim_y": self.ssim_y,
            "psnr_rgb": _finite(self.psnr_rgb),
            "ssim_rgb": self.ssim_rgb,
            "psnr_alpha": _finite(self.psnr_alpha),
            "largest_difference": self.largest,
            "largest_difference_at": list(self.position),
            "different_pixels": self.different,
            "notes": list(self.notes),
        }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


@dataclass(frozen=True)
class ComparisonSetup:
    """How two pictures are made comparable.

    size: the size at which both are compared. spaces: their colour spaces. grey: True if both are grey.
    rounded: True if one of them stores floats and the other integers, so that equal samples may differ by
    rounding errors. notes: the same information for people.
    """

    size: PictureSize
    spaces: tuple[ColourSpace, ColourSpace]
    grey: bool
    rounded: bool
    notes: tuple[str, ...]

    @property
    def same_space(self) -> bool:
        """True if both pictures have the same colour space, so that they are measured without conversion."""
        return self.spaces[0] == self.spaces[1]


def set_up(first: ComparedPicture, second: ComparedPicture) -> ComparisonSetup:
    """The setup for the comparison of two pictures.

    Raises OnebranchError unless their sizes are equal, or one size is an integer multiple of the other.
    """
    headers = header_of(first), header_of(second)
    sizes = [(header.layout.height, header.layout.width) for header in headers]
    size = common_size(sizes[0], sizes[1], (first.name, second.name))
    spaces = colour_space_of(headers[0]), colour_space_of(headers[1])
    grey = all(header.layout.channels == 1 for header in headers) and spaces[0] == spaces[1]
    rounded = len({header.layout.depth == "float32" for header in headers}) > 1
    notes = [
        f"'{source.name}' is enlarged bicubically from {source_size[1]}x{source_size[0]}"
        for source, source_size in zip((first, second), sizes, strict=True)
        if source_size != size
    ]
    notes += _colour_notes(headers, spaces)
    return ComparisonSetup(size, spaces, grey, rounded and spaces[0] == spaces[1], tuple(notes))


def _colour_notes(headers: tuple[Header, Header], spaces: tuple[ColourSpace, ColourSpace]) -> Iterator[str]:
    """Notes about profiles, transparency and channels."""
    if spaces[0] != spaces[1]:
        yield "their colour profiles differ: both are measured as sRGB"
    elif spaces[0] != ColourSpace():
        yield "measured on the encoded values: both have the same profile"
    if any(header.layout.alpha for header in headers):
        yield "transparent pixels are measured and shown over mid grey"
    if len({header.layout.channels for header in headers}) > 1:
        yield "one of them is grey: it is measured as RGB of three equal channels"


def common_size(
    first: PictureSize, second: PictureSize, names: tuple[str, str] = ("first", "second")
) -> PictureSize:
    """The size at which two pictures are compared: that of the larger one.

    Raises OnebranchError unless the larger size is an integer multiple of the smaller one.

    >>> common_size((20, 30), (40, 60))
    (40, 60)
    """
    large, small = max(first, second), min(first, second)
    if large[0] % small[0] or large[1] % small[1] or large[0] // small[0] != large[1] // small[1]:
        sizes = " and ".join(
            f"'{name}' ({size[1]}x{size[0]})" for name, size in zip(names, (first, second), strict=True)
        )
        raise OnebranchError(
            f"{sizes} cannot be compared: their sizes must be equal, or one a multiple of the other;"
            " crop or resize one of them"
        )
    return large


def header_of(source: ComparedPicture) -> Header:
    """The header of a source."""
    with source.opened() as reader:
        return reader.header


def measure(
    first: ComparedPicture, second: ComparedPicture, border: int = 0, progress: ShareReport = no_progress
) -> Similarity:
    """The similarity of two pictures, without `border` pixels on every side of the larger one.

    Raises OnebranchError if the sizes do not fit, the border leaves no pixel, or a file cannot be read.
    """
    setup = set_up(first, second)
    return measure_with(first, second, setup, border, observer=None, progress=progress)


def measure_with(
    first: ComparedPicture,
    second: ComparedPicture,
    setup: ComparisonSetup,
    border: int,
    observer: Observer | None,
    progress: ShareReport = no_progress,
) -> Similarity:
    """The same as `measure`; the observer is called with every band of rows, including the border."""
    _check_border(border, setup.size)
    height, width = setup.size
    with ThreadPoolExecutor() as pool:
        totals = _Totals(1 if setup.grey else 3, pool)
        for top, levels, alphas in band_pairs(first, second, setup):
            measured = levels if setup.same_space else both_as_srgb(levels, setup)
            difference = np.abs(measured[0] - measured[1]).max(axis=2, keepdims=True)
            if observer is not None:
                observer(both_as_srgb(levels, setup) if setup.same_space else measured, difference)
            inner = slice(max(border - top, 0), max(height - border - top, 0)), slice(border, width - border)
            if len(difference[inner]):
                inner_alphas = None if alphas is None else (alphas[0][inner], alphas[1][inner])
                position = border, top + inner[0].start
                totals.add(
                    (measured[0][inner], measured[1][inner]), difference[inner], inner_alphas, position
                )
            progress((top + len(difference)) / height)
    note = (f"without {border} pixels at every border",) if border else ()
    return totals.similarity(setup.size, setup.notes + note)


def _check_border(border: int, size: PictureSize) -> None:
    height, width = size
    if border < 0 or 2 * border >= min(height, width):
        raise OnebranchError(
            f"a border of {border} pixels leaves no pixel of {width}x{height}; it must be 0 to"
            f" {(min(height, width) - 1) // 2}"
        )


@dataclass
class _PlaneTotals:
    """The sums of squared errors and of SSIM over all 11x11 windows of one plane, accumulated by rows.

    Windows extend across the rows of two calls, so the last ten rows of each call are kept.
    """

    squared_error: float = 0.0
    samples: int = 0
    ssim_sum: float = 0.0
    windows: int = 0
    held: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], *, ssim: bool = True) -> None:
        """Add the next rows (N, W) of the plane for both pictures."""
        self.squared_error += float(np.square(one - other).sum())
        self.samples += one.size
        if not ssim:
            return
        planes = [one, other]
        if self.held:
            planes = [np.concatenate(pair) for pair in zip(self.held, planes, strict=True)]
        height, width = planes[0].shape
        if height >= metrics.WINDOW and width >= metrics.WINDOW:
            count = (height - metrics.WINDOW + 1) * (width - metrics.WINDOW + 1)
            self.ssim_sum += metrics.ssim(planes[0], planes[1]) * count
            self.windows += count
        self.held = [plane[-(metrics.WINDOW - 1) :].copy() for plane in planes]

    @property
    def psnr(self) -> float:
        error = self.squared_error / self.samples
        return math.inf if error == 0 else 10 * math.log10(metrics.PEAK**2 / error)

    @property
    def ssim(self) -> float | None:
        return self.ssim_sum / self.windows if self.windows else None


class _Totals:
    """Accumulates all measurements of two pictures from bands of rows."""

    def __init__(self, channels: int, pool: ThreadPoolExecutor) -> None:
        self._luma, self._alpha = _PlaneTotals(), _PlaneTotals()
        self._channels = [_PlaneTotals() for _ in range(channels if channels == 3 else 0)]
        self._pool = pool
        self._different_pixels, self._largest, self._position = 0, 0.0, (0, 0)

    def add(
        self, levels: LevelPair, difference: Levels, alphas: LevelPair | None, position: tuple[int, int]
    ) -> None:
        """Add the next rows, their difference (N, W, 1), both alphas, and (x, y) of the first pixel."""
        one, other = (rows.astype(np.float64) for rows in levels)
        tasks = [self._pool.submit(lambda: self._luma.add(_luma(one), _luma(other)))]
        for index, totals in enumerate(self._channels):
            tasks.append(self._pool.submit(totals.add, one[..., index], other[..., index]))
        changed = difference > 0
        if alphas is not None:
            self._alpha.add(alphas[0].astype(np.float64), alphas[1].astype(np.float64), ssim=False)
            changed |= alphas[0] != alphas[1]
        self._different_pixels += int(np.count_nonzero(changed))
        largest = float(difference.max())
        if largest > self._largest:
            row, column = np.unravel_index(int(difference.argmax()), difference.shape[:2])
            self._largest, self._position = largest, (position[0] + int(column), position[1] + int(row))
        for task in tasks:
            task.result()

    def similarity(self, size: PictureSize, notes: tuple[str, ...]) -> Similarity:
        """The similarity, after all rows have been added."""
        channels = self._channels
        rgb = _PlaneTotals(
            sum(totals.squared_error for totals in channels), sum(totals.samples for totals in channels)
        )
        ssims = [totals.ssim for totals in channels if totals.ssim is not None]
        return Similarity(
            size=size,
            psnr_y=self._luma.psnr,
            ssim_y=self._luma.ssim,
            psnr_rgb=rgb.psnr if channels else None,
            ssim_rgb=sum(ssims) / len(ssims) if ssims else None,
            psnr_alpha=self._alpha.psnr if self._alpha.samples else None,
            largest=self._largest,
            position=self._position,
            different=self._different_pixels / self._luma.samples,
            notes=notes,
        )


def _luma(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The plane of levels (N, W, C) that is scored: studio-range luma of RGB, or the grey values."""
    return metrics.grey(levels)  # type: ignore[arg-type]  # declared for bytes; levels may have fractions


def band_pairs(
    first: ComparedPicture, second: ComparedPicture, setup: ComparisonSetup
) -> Iterator[tuple[int, LevelPair, LevelPair | None]]:
    """The bands of both pictures: (number of the first row, levels, alpha levels or None).

    Both pictures are resized to the common size and have the same channels. Alpha is None if neither has it.
    """
    with first.opened() as one, second.opened() as other:
        top = 0
        bands = level_bands(one, setup.size), level_bands(other, setup.size)
        for (a, a_alpha), (b, b_alpha) in zip(*bands, strict=True):
            if a.shape[2] != b.shape[2] and setup.same_space:
                a, b = (np.broadcast_to(rows, (*rows.shape[:2], 3)) for rows in (a, b))
            if setup.rounded:
                b = np.where(np.abs(a - b) < ROUNDING_LEVELS, a, b)
            yield top, (a, b), _alpha_pair(a_alpha, b_alpha)
            top += len(a)


def _alpha_pair(one: Levels | None, other: Levels | None) -> LevelPair | None:
    """The alpha of both pictures, opaque for a picture without alpha; None if neither has alpha."""
    if one is None and other is None:
        return None
    shape = (one if one is not None else other).shape  # type: ignore[union-attr]  # one of them is there
    opaque = np.full(shape, 255, np.float32)
    return opaque if one is None else one, opaque if other is None else other


def both_as_srgb(levels: LevelPair, setup: ComparisonSetup) -> LevelPair:
    """The levels of both pictures, converted to sRGB."""
    return as_srgb(levels[0], setup.spaces[0]), as_srgb(levels[1], setup.spaces[1])


def format_share(share: float) -> str:
    """A share in percent. 100 % and 0 % are written only if they are exact.

    >>> format_share(0.99999), format_share(0.00001), format_share(1.0), format_share(0.5)
    ('over 99.9 %', 'under 0.1 %', '100 %', '50.0 %')
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return "under 0.1 %" if share < 0.001 else "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def format_levels(levels: float) -> str:
    """Levels as a number with its unit.

    >>> format_levels(1.0), format_levels(87.0), format_levels(0.25)
    ('1 of 255 levels', '87 of 255 levels', '0.25 of 255 levels')
    """
    return f"{levels:.3g} of 255 levels"


def score_lines(similarity: Similarity) -> tuple[str, ...]:
    """Lines with PSNR and SSIM for luma (or grey), RGB and alpha."""
    kind = "grey" if similarity.psnr_rgb is None else "luma"
    rows = [(kind, similarity.psnr_y, similarity.ssim_y)]
    if similarity.psnr_rgb is not None:
        rows.append(("RGB", similarity.psnr_rgb, similarity.ssim_rgb))
    if similarity.psnr_alpha is not None:
        rows.append(("alpha", similarity.psnr_alpha, None))
    return tuple(
        f"{name}: PSNR {'infinite' if math.isinf(psnr) else f'{psnr:.2f} dB'}"
        + ("" if ssim is None else f", SSIM {ssim:.4f}")
        for name, psnr, ssim in rows
    )
