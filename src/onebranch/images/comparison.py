"""One picture that shows several of the same thing side by side, labelled, each with a magnified detail."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from onebranch.images.picture import Picture
from onebranch.images.reading import MAX_PIXELS
from onebranch.images.showing import Levels, Size, Source, as_srgb, bands, of_file, of_picture, space_of

Bytes = npt.NDArray[np.uint8]
"""uint8 RGB (H, W, 3)."""

PAPER, INK, MARK = (250, 250, 248), (34, 40, 49), (214, 64, 42)
"""Colours of the background, the labels and the frame that marks the detail."""

GAP = 16
"""Pixels between and around the pictures."""

LABELS = 56
"""Pixels above the pictures, for a heading and a note."""

WIDTHS = {1: 640, 2: 640, 3: 480}
"""Of a column, by the number of columns."""

TALLEST = 1.25
"""Height of a shown picture over the width of its column; taller ones are shown narrower."""

DETAIL = 128
"""Largest side of a magnified square, in the picture's pixels."""

CELLS = 1 << 22
"""Most cells in which detail is looked for."""


@dataclass(frozen=True)
class Square:
    """A square of a picture, in its pixels."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class View:
    """What is shown of a picture: the whole, reduced perhaps, and the square, pixel for pixel."""

    whole: Bytes
    detail: Bytes


@dataclass(frozen=True)
class Column:
    """A view with its heading and a line below that."""

    heading: str
    note: str
    view: View


@dataclass(frozen=True)
class Panel:
    """A whole picture with its heading and a line below that."""

    heading: str
    note: str
    pixels: Bytes


def side_by_side(panels: Sequence[Panel], detail: tuple[int, int, int], width: int = 480) -> Bytes:
    """The panels in columns of `width` pixels: the picture, and below it the detail, magnified.

    All panels have one size. detail: (top, left, side) of the square, in their pixels. Details are repeated
    pixel by pixel, so that what is seen is what is there.
    """
    square = Square(*detail)
    size = panels[0].pixels.shape[0], panels[0].pixels.shape[1]
    return sheet(
        [Column(p.heading, p.note, View(p.pixels, _cut(p.pixels, square))) for p in panels],
        size,
        square,
        width,
    )


def compare(
    before: Picture, after: Picture, heading: str = "result", before_heading: str = "input"
) -> Picture:
    """The picture that was enhanced, brought to the result's size bicubically, beside the result."""
    return compare_sources(of_picture(before, before_heading), of_picture(after, heading))


def compare_files(
    before: Path | str,
    after: Path | str,
    heading: str = "result",
    before_heading: str = "input",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """As `compare`, from two files, in little memory whatever their size; errors as in `open_picture`."""
    sources = [of_file(path, max_pixels).opened for path in (before, after)]
    return compare_sources(Source(before_heading, sources[0]), Source(heading, sources[1]))


def compare_sources(before: Source, after: Source) -> Picture:
    """As `compare`; what is busiest in the result is magnified."""
    with before.opened() as reader:
        first = reader.header.layout
    with after.opened() as reader:
        last = reader.header.layout
    size = last.height, last.width
    width = WIDTHS[2]
    glances = [_glance(source, size, width) for source in (before, after)]
    square = busiest_square(glances[1][1], size, width)
    notes = resized_in_words((first.height, first.width), size), f"{size[1]}x{size[0]}"
    columns = [
        Column(source.name, note, View(glance[0].pixels(), as_bytes(detail_of(source, size, square))))
        for source, note, glance in zip((before, after), notes, glances, strict=True)
    ]
    return Picture(sheet(columns, size, square, width))


def resized_in_words(before: Size, after: Size) -> str:
    """What a note says of a picture that is shown at another size.

    >>> resized_in_words((20, 10), (40, 20)), resized_in_words((20, 10), (20, 10))
    ('10x20, enlarged bicubically', '10x20')
    """
    how = {-1: ", reduced bicubically", 0: "", 1: ", enlarged bicubically"}
    return f"{before[1]}x{before[0]}{how[(after > before) - (after < before)]}"


def _glance(source: Source, size: Size, width: int) -> tuple["Reduced", "Busy"]:
    """The picture at that size, reduced, and where it is busy."""
    reduced, busy = Reduced(size, width), Busy(size, width)
    with source.opened() as reader:
        space = space_of(reader.header)
        for levels, _ in bands(reader, size):
            shown = as_srgb(levels, space)
            reduced.add(shown)
            busy.add(shown)
    return reduced, busy


def detail_of(source: Source, size: Size, square: Square) -> Levels:
    """The square of the picture, at that size, as it looks: (side, side, 3)."""
    parts, at = [], 0
    with source.opened() as reader:
        space = space_of(reader.header)
        for levels, _ in bands(reader, size):
            first, last = max(square.top - at, 0), square.top + square.side - at
            if last <= 0:
                break
            rows = levels[first:last, square.left : square.left + square.side]
            if len(rows):
                parts.append(as_srgb(rows, space))
            at += len(levels)
    return np.concatenate(parts)


def as_bytes(levels: Levels) -> Bytes:
    """Levels as 8 bits, clipped, rounded half up."""
    return (np.clip(levels, 0, 255) + 0.5).astype(np.uint8)


class Reduced:
    """A picture of any size, taken in by rows, reduced to about twice what is shown of it."""

    def __init__(self, size: Size, width: int) -> None:
        shown = shown_size(size, width)
        self._size = size
        self._box = max(1, size[0] // (2 * shown[0])), max(1, size[1] // (2 * shown[1]))
        self._row = 0
        self._held: Levels = np.empty((0, size[1], 3), np.float32)
        self._done: list[Levels] = []

    def add(self, rows: Levels) -> None:
        """The next rows (N, W, C)."""
        self._row += len(rows)
        rows = np.concatenate([self._held, rows]) if len(self._held) else rows
        whole = len(rows) if self._row == self._size[0] else len(rows) // self._box[0] * self._box[0]
        if whole:
            self._done.append(_means(rows[:whole], self._box))
        self._held = rows[whole:]

    def pixels(self) -> Bytes:
        """All of it, (H', W', 3), as 8 bits."""
        return as_bytes(np.concatenate(self._done))


def _means(rows: Levels, box: tuple[int, int]) -> Levels:
    """The mean of every box; those at the end may be smaller."""
    if box == (1, 1):
        return rows.copy()
    starts = [np.arange(0, length, side) for length, side in zip(rows.shape[:2], box, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(rows, starts[0], axis=0), starts[1], axis=1)
    counts = [np.diff([*first, length]) for first, length in zip(starts, rows.shape[:2], strict=True)]
    return np.asarray(sums / (counts[0][:, None] * counts[1])[..., None].astype(np.float32))


class Largest:
    """Values of any size, taken in by rows: for every pixel that is shown, the largest that it stands for."""

    def __init__(self, size: Size, width: int) -> None:
        shown = shown_size(size, width)
        self._size = size
        self.values: Levels = np.zeros((min(shown[0], size[0]), min(shown[1], size[1]), 1), np.float32)
        self._row = 0

    def add(self, rows: Levels) -> None:
        """The next rows (N, W, 1), none below 0."""
        height, width = self.values.shape[:2]
        columns = -(np.arange(width) * -self._size[1] // width)
        places = (self._row + np.arange(len(rows))) * height // self._size[0]
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        found = np.maximum.reduceat(np.maximum.reduceat(rows, columns, axis=1), starts, axis=0)
        into = places[starts]
        self.values[into] = np.maximum(self.values[into], found)
        self._row += len(rows)


class Busy:
    """How much fine detail there is in the cells of a picture, taken in by rows: sums of gradients."""

    def __init__(self, size: Size, width: int) -> None:
        self._size = size
        side = square_side(size, width)
        self.cell = max(1, side // 8, math.isqrt(size[0] * size[1] // CELLS) + 1)
        self._above: Levels | None = None
        self._sums = np.zeros((-(-size[0] // self.cell), -(-size[1] // self.cell)))
        self._row = 0

    def add(self, rows: Levels) -> None:
        """The next rows (N, W, C)."""
        grey = rows.mean(axis=2)
        energy = np.zeros_like(grey)
        energy[:, 1:] += np.abs(np.diff(grey, axis=1))
        above = grey[:1] if self._above is None else self._above
        energy += np.abs(np.diff(np.concatenate([above, grey]), axis=0))
        self._above = grey[-1:].copy()
        columns = np.add.reduceat(energy, np.arange(0, energy.shape[1], self.cell), axis=1)
        np.add.at(self._sums, (self._row + np.arange(len(rows))) // self.cell, columns)
        self._row += len(rows)

    def best(self, side: int) -> Square:
        """The square of that side with the most."""
        count = max(1, side // self.cell)
        sums = _window_sums(self._sums, (min(count, self._sums.shape[0]), min(count, self._sums.shape[1])))
        row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
        middle = max(0, self.cell - side) // 2  # where a cell is larger than the square
        top, left = (int(place) * self.cell + middle for place in (row, column))
        height, width = self._size
        return Square(min(top, height - side), min(left, width - side), side)


def busiest_square(busy: Busy, size: Size, width: int) -> Square:
    """The square that is magnified to a column of `width` pixels."""
    return busy.best(square_side(size, width))


def square_side(size: Size, width: int) -> int:
    """The largest side that fits into the picture and is magnified by a whole number to `width` pixels.

    >>> square_side((500, 700), 640), square_side((500, 700), 480), square_side((30, 700), 480)
    (128, 120, 30)
    """
    most = min(DETAIL, *size)
    return next(side for side in range(most, 0, -1) if width % side == 0)


def shown_size(size: Size, width: int) -> Size:
    """The size at which a picture is shown in a column: as large as there is room for.

    >>> shown_size((300, 600), 480), shown_size((6000, 600), 480), shown_size((1, 9000), 480)
    ((240, 480), (600, 60), (1, 480))
    """
    factor = min(width / size[1], TALLEST * width / size[0])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def sheet(
    columns: Sequence[Column], size: Size, square: Square, width: int, footer: Bytes | None = None
) -> Bytes:
    """The columns side by side. size: of what they show, in whose pixels the square is marked."""
    height, _ = shown_size(size, width)
    below = 0 if footer is None else footer.shape[0] + GAP
    page = Image.new(
        "RGB",
        (GAP + len(columns) * (width + GAP), 3 * GAP + LABELS + height + width + below),
        PAPER,
    )
    for index, column in enumerate(columns):
        _draw(page, column, GAP + index * (width + GAP), (width, height), size, square)
    if footer is not None:
        page.paste(Image.fromarray(footer), (GAP, 3 * GAP + LABELS + height + width))
    return np.asarray(page)


def _draw(
    page: Image.Image, column: Column, left: int, room: tuple[int, int], size: Size, square: Square
) -> None:
    draw, (width, height) = ImageDraw.Draw(page), room
    write_text(draw, (left, GAP - 4), column.heading, 24, width)
    write_text(draw, (left, GAP + 28), column.note, 16, width)
    top, whole = GAP + LABELS, Image.fromarray(column.view.whole)
    shown = shown_size(size, width)[::-1]
    kind = Image.Resampling.LANCZOS if shown[0] < whole.width else Image.Resampling.NEAREST
    page.paste(whole.resize(shown, kind), (left, top))
    ratio = shown[0] / size[1]
    corner = left + square.left * ratio, top + square.top * ratio
    edge = max(6.0, square.side * ratio)  # a mark that can be seen
    draw.rectangle((*corner, corner[0] + edge, corner[1] + edge), outline=MARK, width=3)
    below = top + height + GAP
    detail = Image.fromarray(column.view.detail).resize((width, width), Image.Resampling.NEAREST)
    page.paste(detail, (left, below))
    draw.rectangle((left, below, left + width - 1, below + width - 1), outline=MARK, width=3)


def write_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, points: int, width: float
) -> None:
    """Text in ink; what is too long for `width` pixels loses its middle."""
    font = ImageFont.load_default(points)
    draw.text(place, _shortened(text, width, font.getlength), INK, font)


def text_width(text: str, points: int) -> float:
    """Pixels that a text takes."""
    return float(ImageFont.load_default(points).getlength(text))


def _shortened(text: str, width: float, length: Callable[[str], float]) -> str:
    if length(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2].rstrip()}...{text[len(text) - kept // 2 :].lstrip()}"
        if length(short) <= width:
            return short
    return "..."


def _cut(pixels: Bytes, square: Square) -> Bytes:
    return pixels[square.top : square.top + square.side, square.left : square.left + square.side]


def busiest(pixels: Bytes, side: int) -> tuple[int, int, int]:
    """(top, left, side) of the square with the most fine detail: the largest sum of absolute gradients."""
    grey = pixels.astype(np.float64).mean(2)
    energy = np.zeros_like(grey)
    energy[:, 1:] += np.abs(np.diff(grey, axis=1))
    energy[1:] += np.abs(np.diff(grey, axis=0))
    side = min(side, *grey.shape)
    sums = _window_sums(energy, (side, side))
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left), side


def _window_sums(values: npt.NDArray[np.float64], window: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The sum of every window that is inside."""
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    down, across = window
    return np.asarray(
        table[down:, across:] - table[:-down, across:] - table[down:, :-across] + table[:-down, :-across]
    )
