"""How alike two pictures are, from their files: PSNR, SSIM, differences, and a sheet that shows them.

Both are read by rows, so that pictures of any size are compared in little memory.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from onebranch import metrics
from onebranch.errors import OnebranchError
from onebranch.images import comparison
from onebranch.images.comparison import Busy, Column, Largest, Reduced, Square, View, as_bytes
from onebranch.images.picture import Picture
from onebranch.images.rows import Header
from onebranch.images.showing import Levels, Size, Source, Space, as_srgb, bands, space_of

Bytes = npt.NDArray[np.uint8]
Pair = tuple[Levels, Levels]

SCALES = (1, 2, 4, 8, 16, 32, 64, 128, 255)
"""Levels of difference that may be the brightest colour of a map."""

FEW = 0.01
"""Share of the pixels that differ up to which the place of the largest difference is magnified."""

BRIGHTEST = 99.5
"""Percent of a map that its scale is to hold."""

COLOURS = (
    (0.0, (14, 14, 24)),
    (0.25, (66, 38, 128)),
    (0.5, (196, 56, 98)),
    (0.75, (248, 152, 62)),
    (1.0, (255, 250, 214)),
)
"""Of a map: the share of its scale, and the colour; brighter is more, for the colour-blind too."""

ROUNDING = 1e-4
"""Levels by which 8 or 16 bits differ from themselves as 32-bit floats, at most."""

WIDTH = comparison.WIDTHS[3]


@dataclass(frozen=True)
class Similarity:
    """Two pictures in numbers.

    size: (height, width) that was compared. psnr in decibels, inf where equal; ssim; both on luma (studio
    BT.601, unrounded; of grey pictures the grey values) and on RGB (SSIM: the mean of the channels), None
    for grey ones; SSIM is None below 11x11. psnr_alpha: None where both are opaque. largest: difference of a
    sample in levels of 255, found first at `place` (x, y). different: share of the pixels that differ.
    notes: how it was measured.
    """

    size: Size
    psnr_y: float
    ssim_y: float | None
    psnr_rgb: float | None
    ssim_rgb: float | None
    psnr_alpha: float | None
    largest: float
    place: tuple[int, int]
    different: float
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every sample is the same, transparency too."""
        return self.different == 0

    def as_json(self) -> dict[str, Any]:
        """JSON values; PSNR of what is equal is null."""

        def finite(number: float | None) -> float | None:
            return number if number is not None and math.isfinite(number) else None

        return {
            "height": self.size[0],
            "width": self.size[1],
            "equal": self.equal,
            "psnr_y": finite(self.psnr_y),
            "ssim_y": self.ssim_y,
            "psnr_rgb": finite(self.psnr_rgb),
            "ssim_rgb": self.ssim_rgb,
            "psnr_alpha": finite(self.psnr_alpha),
            "largest_difference": self.largest,
            "largest_difference_at": list(self.place),
            "different_pixels": self.different,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Plan:
    """How two pictures meet: their size, the spaces of their levels, whether both are grey, and words.

    rounded: whether one holds floats and the other does not, so that equal samples differ by rounding.
    """

    size: Size
    spaces: tuple[Space, Space]
    grey: bool
    rounded: bool
    notes: tuple[str, ...]

    @property
    def as_they_are(self) -> bool:
        """Whether both mean the same by their levels, which then are what is measured."""
        return self.spaces[0] == self.spaces[1]


def plan(first: Source, second: Source) -> Plan:
    """OnebranchError where they have neither one size nor a size that is a multiple of the other's."""
    headers = _header(first), _header(second)
    sizes = [(header.layout.height, header.layout.width) for header in headers]
    size = common_size(sizes[0], sizes[1], (first.name, second.name))
    spaces = space_of(headers[0]), space_of(headers[1])
    grey = all(header.layout.channels == 1 for header in headers) and spaces[0] == spaces[1]
    notes = [
        f"'{source.name}' is enlarged bicubically from {own[1]}x{own[0]}"
        for source, own in zip((first, second), sizes, strict=True)
        if own != size
    ]
    if spaces[0] != spaces[1]:
        notes.append("their colour profiles differ: both are measured as sRGB")
    elif spaces[0] != Space():
        notes.append("measured on the values as they are encoded: both have the same profile")
    if any(header.layout.alpha for header in headers):
        notes.append("what is transparent is measured and shown over mid grey")
    if len({header.layout.channels for header in headers}) > 1:
        notes.append("one of them is grey: it is measured as RGB of three equal channels")
    rounded = len({header.layout.depth == "float32" for header in headers}) > 1
    return Plan(size, spaces, grey, rounded and spaces[0] == spaces[1], tuple(notes))


def common_size(first: Size, second: Size, names: tuple[str, str] = ("first", "second")) -> Size:
    """The size at which two pictures are compared: the larger one's.

    >>> common_size((20, 30), (40, 60))
    (40, 60)
    """
    large, small = max(first, second), min(first, second)
    if large[0] % small[0] or large[1] % small[1] or large[0] // small[0] != large[1] // small[1]:
        sizes = " and ".join(
            f"'{name}' ({size[1]}x{size[0]})" for name, size in zip(names, (first, second), strict=True)
        )
        raise OnebranchError(
            f"{sizes} cannot be compared: they must have one size, or one a multiple of the other's;"
            " crop or resize one of them"
        )
    return large


def measure(first: Source, second: Source, border: int = 0) -> Similarity:
    """How alike they are, without `border` pixels on every side of the larger size.

    OnebranchError where the sizes do not fit, the border leaves nothing, or a file cannot be read.
    """
    return _measured(first, second, plan(first, second), border, None)


def measure_and_show(
    first: Source, second: Source, border: int = 0, at: tuple[int, int] | None = None
) -> tuple[Similarity, Picture]:
    """The same, and both beside a map of their differences.

    at: (x, y) of what is magnified, its middle; by default where they differ most, if they differ in few
    places, else what is busiest in both together.
    """
    found = plan(first, second)
    if at is not None and not (0 <= at[0] < found.size[1] and 0 <= at[1] < found.size[0]):
        raise OnebranchError(
            f"({at[0]}, {at[1]}) is outside the pictures of {found.size[1]}x{found.size[0]} pixels"
        )
    glance = _Glance(found.size)
    similarity = _measured(first, second, found, border, glance)
    if at is None and 0 < similarity.different < FEW:
        at = similarity.place
    square = comparison.busiest_square(glance.busy, found.size, WIDTH) if at is None else _around(at, found)
    return similarity, Picture(_sheet((first, second), found, similarity, glance, square))


def _header(source: Source) -> Header:
    with source.opened() as reader:
        return reader.header


def _around(at: tuple[int, int], found: Plan) -> Square:
    """The square whose middle that is, moved inside."""
    side = comparison.square_side(found.size, WIDTH)
    top, left = (
        min(max(place - side // 2, 0), length - side)
        for place, length in zip(at[::-1], found.size, strict=True)
    )
    return Square(top, left, side)


class _Glance:
    """What is kept of two pictures, to be shown: both and their difference reduced, and how busy they are."""

    def __init__(self, size: Size) -> None:
        self.pictures = Reduced(size, WIDTH), Reduced(size, WIDTH)
        self.difference = Largest(size, WIDTH)
        self.busy = Busy(size, WIDTH)

    def add(self, shown: tuple[Levels, Levels], difference: Levels) -> None:
        """The next rows: both as sRGB, and how much they differ (N, W, 1)."""
        for reduced, rows in zip(self.pictures, shown, strict=True):
            reduced.add(rows)
        self.difference.add(difference)
        self.busy.add((shown[0] + shown[1]) / np.float32(2))


@dataclass
class _Sums:
    """Errors of planes that come by rows: their sum, and SSIM with ten rows held back for its windows."""

    squares: float = 0.0
    samples: int = 0
    similarity: float = 0.0
    windows: int = 0
    held: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], *, ssim: bool = True) -> None:
        """The next rows of a plane (N, W)."""
        self.squares += float(np.square(one - other).sum())
        self.samples += one.size
        if not ssim:
            return
        both = [one, other]
        if self.held:
            both = [np.concatenate(pair) for pair in zip(self.held, both, strict=True)]
        height, width = both[0].shape
        if height >= metrics.WINDOW and width >= metrics.WINDOW:
            count = (height - metrics.WINDOW + 1) * (width - metrics.WINDOW + 1)
            self.similarity += metrics.ssim(both[0], both[1]) * count
            self.windows += count
        self.held = [plane[-(metrics.WINDOW - 1) :].copy() for plane in both]

    @property
    def psnr(self) -> float:
        error = self.squares / self.samples
        return math.inf if error == 0 else 10 * math.log10(metrics.PEAK**2 / error)

    @property
    def ssim(self) -> float | None:
        return self.similarity / self.windows if self.windows else None


def _measured(first: Source, second: Source, found: Plan, border: int, glance: _Glance | None) -> Similarity:
    height, width = found.size
    if border < 0 or 2 * border >= min(height, width):
        raise OnebranchError(
            f"a border of {border} pixels leaves nothing of {width}x{height}; it must be 0 to"
            f" {(min(height, width) - 1) // 2}"
        )
    with ThreadPoolExecutor() as pool:
        measures = _Measures(1 if found.grey else 3, pool)
        for top, pair, opacities in _pairs(first, second, found):
            levels = pair if found.as_they_are else _shown(pair, found)
            apart = np.abs(levels[0] - levels[1]).max(axis=2, keepdims=True)
            if glance is not None:
                glance.add(_shown(pair, found) if found.as_they_are else levels, apart)
            inner = slice(max(border - top, 0), max(height - border - top, 0)), slice(border, width - border)
            if len(apart[inner]):
                veils = None if opacities is None else (opacities[0][inner], opacities[1][inner])
                place = border, top + inner[0].start
                measures.add((levels[0][inner], levels[1][inner]), apart[inner], veils, place)
    words = (f"without {border} pixels at every border",) if border else ()
    return measures.similarity(found.size, found.notes + words)


class _Measures:
    """Everything that is measured of two pictures, which come by rows."""

    def __init__(self, channels: int, pool: ThreadPoolExecutor) -> None:
        self._luma, self._alpha = _Sums(), _Sums()
        self._channels = [_Sums() for _ in range(channels if channels == 3 else 0)]
        self._pool = pool
        self._different, self._largest, self._place = 0, 0.0, (0, 0)

    def add(self, pair: Pair, apart: Levels, veils: Pair | None, place: tuple[int, int]) -> None:
        """The next rows, how much they differ (N, W, 1), both alphas, and (x, y) of the first pixel."""
        one, other = (rows.astype(np.float64) for rows in pair)
        work = [self._pool.submit(lambda: self._luma.add(_grey(one), _grey(other)))]
        for index, sums in enumerate(self._channels):
            work.append(self._pool.submit(sums.add, one[..., index], other[..., index]))
        changed = apart > 0
        if veils is not None:
            self._alpha.add(veils[0].astype(np.float64), veils[1].astype(np.float64), ssim=False)
            changed |= veils[0] != veils[1]
        self._different += int(np.count_nonzero(changed))
        most = float(apart.max())
        if most > self._largest:
            row, column = np.unravel_index(int(apart.argmax()), apart.shape[:2])
            self._largest, self._place = most, (place[0] + int(column), place[1] + int(row))
        for done in work:
            done.result()

    def similarity(self, size: Size, notes: tuple[str, ...]) -> Similarity:
        """What it comes to."""
        channels = self._channels
        rgb = _Sums(sum(sums.squares for sums in channels), sum(sums.samples for sums in channels))
        each = [sums.ssim for sums in channels if sums.ssim is not None]
        return Similarity(
            size=size,
            psnr_y=self._luma.psnr,
            ssim_y=self._luma.ssim,
            psnr_rgb=rgb.psnr if channels else None,
            ssim_rgb=sum(each) / len(each) if each else None,
            psnr_alpha=self._alpha.psnr if self._alpha.samples else None,
            largest=self._largest,
            place=self._place,
            different=self._different / self._luma.samples,
            notes=notes,
        )


def _grey(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is scored of levels (N, W, C): studio luma of RGB, grey as it is."""
    return metrics.grey(levels)  # type: ignore[arg-type]  # bytes there; levels are bytes with fractions


def _pairs(first: Source, second: Source, found: Plan) -> Iterator[tuple[int, Pair, Pair | None]]:
    """Rows of both, at one size and with the same channels: the first one's number, levels, alpha."""
    with first.opened() as one, second.opened() as other:
        top = 0
        for (a, a_alpha), (b, b_alpha) in zip(bands(one, found.size), bands(other, found.size), strict=True):
            if a.shape[2] != b.shape[2] and found.as_they_are:
                a, b = (np.broadcast_to(rows, (*rows.shape[:2], 3)) for rows in (a, b))
            if found.rounded:
                b = np.where(np.abs(a - b) < ROUNDING, a, b)
            yield top, (a, b), _opacities(a_alpha, b_alpha)
            top += len(a)


def _opacities(one: Levels | None, other: Levels | None) -> Pair | None:
    """Both alphas, opaque where there is none; None where neither has one."""
    if one is None and other is None:
        return None
    shape = (one if one is not None else other).shape  # type: ignore[union-attr]  # one of them is there
    opaque = np.full(shape, 255, np.float32)
    return opaque if one is None else one, opaque if other is None else other


def _shown(levels: Pair, found: Plan) -> Pair:
    return as_srgb(levels[0], found.spaces[0]), as_srgb(levels[1], found.spaces[1])


def _sheet(
    sources: tuple[Source, Source], found: Plan, similarity: Similarity, glance: _Glance, square: Square
) -> Bytes:
    details = [comparison.detail_of(source, found.size, square) for source in sources]
    apart = _detail_of_difference(sources, found, square)
    scale = scale_for(glance.difference.values)
    columns = []
    for source, reduced, detail in zip(sources, glance.pictures, details, strict=True):
        layout = _header(source).layout
        note = comparison.resized_in_words((layout.height, layout.width), found.size)
        columns.append(Column(source.name, note, View(reduced.pixels(), as_bytes(detail))))
    maps = coloured(glance.difference.values, scale), coloured(apart, scale)
    columns.append(Column("difference", _difference_in_words(similarity), View(*maps)))
    return comparison.sheet(columns, found.size, square, WIDTH, _footer(similarity, scale))


def _detail_of_difference(sources: tuple[Source, Source], found: Plan, square: Square) -> Levels:
    """(side, side, 1): how much they differ in the square."""
    parts = []
    for top, pair, _ in _pairs(*sources, found):
        first, last = max(square.top - top, 0), square.top + square.side - top
        if last <= 0:
            break
        rows = [levels[first:last, square.left : square.left + square.side] for levels in pair]
        if len(rows[0]):
            one, other = rows if found.as_they_are else _shown((rows[0], rows[1]), found)
            parts.append(np.abs(one - other).max(axis=2, keepdims=True))
    return np.concatenate(parts)


def scale_for(differences: Levels) -> int:
    """The levels that the brightest colour stands for: as few as hold nearly all of a map.

    >>> scale_for(np.full((4, 4, 1), 5.0, np.float32)), scale_for(np.zeros((4, 4, 1), np.float32))
    (8, 1)
    """
    most = float(np.percentile(differences, BRIGHTEST))
    return next((scale for scale in SCALES if scale >= most), SCALES[-1])


def coloured(differences: Levels, scale: float) -> Bytes:
    """Differences (H, W, 1) in levels as colours (H, W, 3), `scale` and more being the brightest."""
    share = np.minimum(differences[..., 0] / np.float32(scale), 1)
    stops = [stop for stop, _ in COLOURS]
    planes = [np.interp(share, stops, [colour[channel] for _, colour in COLOURS]) for channel in range(3)]
    return as_bytes(np.stack(planes, axis=-1).astype(np.float32))


def _difference_in_words(found: Similarity) -> str:
    if found.equal:
        return "none: every sample is the same"
    return f"{share_in_words(found.different)} of the pixels, by up to {levels_in_words(found.largest)}"


def share_in_words(share: float) -> str:
    """A share in percent; what is not all is never called 100 %, what is something never 0.

    >>> share_in_words(0.99999), share_in_words(0.00001), share_in_words(1.0), share_in_words(0.5)
    ('over 99.9 %', 'under 0.1 %', '100 %', '50.0 %')
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return "under 0.1 %" if share < 0.001 else "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def levels_in_words(levels: float) -> str:
    """Levels as a number with its unit.

    >>> levels_in_words(1.0), levels_in_words(87.0), levels_in_words(0.25)
    ('1 of 255 levels', '87 of 255 levels', '0.25 of 255 levels')
    """
    return f"{levels:.3g} of 255 levels"


def lines(found: Similarity) -> tuple[str, ...]:
    """PSNR and SSIM in words, a line for each of luma (or grey), RGB and alpha."""
    kind = "grey" if found.psnr_rgb is None else "luma"
    rows = [(kind, found.psnr_y, found.ssim_y)]
    if found.psnr_rgb is not None:
        rows.append(("RGB", found.psnr_rgb, found.ssim_rgb))
    if found.psnr_alpha is not None:
        rows.append(("alpha", found.psnr_alpha, None))
    return tuple(
        f"{name}: PSNR {'infinite' if math.isinf(psnr) else f'{psnr:.2f} dB'}"
        + ("" if ssim is None else f", SSIM {ssim:.4f}")
        for name, psnr, ssim in rows
    )


BAR = 20
"""Pixels of the scale's height."""


def _footer(found: Similarity, scale: int) -> Bytes:
    """The scores at the left, the scale of the map below the map."""
    width = 3 * WIDTH + 2 * comparison.GAP
    page = Image.new("RGB", (width, 92), comparison.PAPER)
    draw = ImageDraw.Draw(page)
    room = 2 * WIDTH
    for index, line in enumerate(("      ".join(lines(found)), *_protocol(found))[:3]):
        comparison.write_text(draw, (0, index * 30), line, 22 if index == 0 else 16, room)
    left = width - WIDTH
    ramp = np.broadcast_to(np.linspace(0, scale, WIDTH, dtype=np.float32)[None, :, None], (BAR, WIDTH, 1))
    page.paste(Image.fromarray(coloured(ramp, scale)), (left, 4))
    for share in (0.0, 0.5, 1.0):
        text = f"{scale * share:g}{' or more' if share == 1 and scale < SCALES[-1] else ''}"
        place = left + share * (WIDTH - comparison.text_width(text, 16))
        comparison.write_text(draw, (place, BAR + 8), text, 16, WIDTH)
    words = "largest difference of a channel, in levels of 255"
    comparison.write_text(draw, (left, BAR + 32), words, 16, WIDTH)
    return np.asarray(page)


def _protocol(found: Similarity) -> tuple[str, ...]:
    how = "peak 255; luma: BT.601, 16 to 235, unrounded; SSIM: 11x11 Gaussian, sigma 1.5"
    if found.psnr_rgb is None:
        how = "peak 255; grey values as they are; SSIM: 11x11 Gaussian, sigma 1.5"
    return how, "; ".join(found.notes)
