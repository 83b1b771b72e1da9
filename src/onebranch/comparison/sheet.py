"""Drawing of comparison sheets, whose columns have a heading, a note, the picture and a magnified detail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from onebranch.comparison.levels import PictureSize
from onebranch.comparison.overview import Square, shown_size
from onebranch.metrics import Bytes

BACKGROUND_RGB, TEXT_RGB, MARK_RGB = (250, 250, 248), (34, 40, 49), (214, 64, 42)
"""Colours of the background, the text and the frame that marks the detail."""

GAP_PIXELS = 16
"""Space between and around the columns, in pixels."""

LABEL_PIXELS = 56
"""Height of the heading and the note above a picture, in pixels."""

COLUMN_PIXELS = {1: 640, 2: 640, 3: 480}
"""Width of a column in pixels, by the number of columns."""

MIN_MARK_PIXELS = 6.0
"""Smallest side of the frame that marks the detail in the overview."""


@dataclass(frozen=True)
class View:
    """What is shown of a picture: the overview, and the detail at full resolution."""

    overview: Bytes
    detail: Bytes


@dataclass(frozen=True)
class Column:
    """A view with its heading and the note below the heading."""

    heading: str
    note: str
    view: View


@dataclass(frozen=True)
class Panel:
    """A complete picture (H, W, 3) with its heading and the note below the heading."""

    heading: str
    note: str
    pixels: Bytes


def side_by_side(panels: Sequence[Panel], detail: tuple[int, int, int], width: int = 480) -> Bytes:
    """A sheet (H', W', 3) with the panels in columns of `width` pixels, above their magnified details.

    All panels must have the same size. detail: (top, left, side) of the square in their pixels. It is
    magnified by repeating pixels, without interpolation.
    """
    square = Square(*detail)
    size = panels[0].pixels.shape[0], panels[0].pixels.shape[1]
    columns = [Column(p.heading, p.note, View(p.pixels, _cut(p.pixels, square))) for p in panels]
    return draw_sheet(columns, size, square, width)


def _cut(pixels: Bytes, square: Square) -> Bytes:
    return pixels[square.top : square.top + square.side, square.left : square.left + square.side]


def draw_sheet(
    columns: Sequence[Column], size: PictureSize, square: Square, width: int, footer: Bytes | None = None
) -> Bytes:
    """A sheet (H', W', 3) with the columns side by side. size: of the pictures. square: the detail."""
    height, _ = shown_size(size, width)
    footer_height = 0 if footer is None else footer.shape[0] + GAP_PIXELS
    page_height = 3 * GAP_PIXELS + LABEL_PIXELS + height + width
    page = Image.new(
        "RGB",
        (GAP_PIXELS + len(columns) * (width + GAP_PIXELS), page_height + footer_height),
        BACKGROUND_RGB,
    )
    for index, column in enumerate(columns):
        _draw_column(page, column, GAP_PIXELS + index * (width + GAP_PIXELS), (width, height), size, square)
    if footer is not None:
        page.paste(Image.fromarray(footer), (GAP_PIXELS, page_height))
    return np.asarray(page)


def _draw_column(
    page: Image.Image,
    column: Column,
    left: int,
    available: tuple[int, int],
    size: PictureSize,
    square: Square,
) -> None:
    """Draw one column. available: (width, height) of the area for its picture, in pixels."""
    draw, (width, height) = ImageDraw.Draw(page), available
    write_text(draw, (left, GAP_PIXELS - 4), column.heading, 24, width)
    write_text(draw, (left, GAP_PIXELS + 28), column.note, 16, width)
    top, overview = GAP_PIXELS + LABEL_PIXELS, Image.fromarray(column.view.overview)
    shown = shown_size(size, width)[::-1]
    kernel = Image.Resampling.LANCZOS if shown[0] < overview.width else Image.Resampling.NEAREST
    page.paste(overview.resize(shown, kernel), (left, top))
    ratio = shown[0] / size[1]
    corner = left + square.left * ratio, top + square.top * ratio
    edge = max(MIN_MARK_PIXELS, square.side * ratio)
    draw.rectangle((*corner, corner[0] + edge, corner[1] + edge), outline=MARK_RGB, width=3)
    detail_top = top + height + GAP_PIXELS
    detail = Image.fromarray(column.view.detail).resize((width, width), Image.Resampling.NEAREST)
    page.paste(detail, (left, detail_top))
    frame = left, detail_top, left + width - 1, detail_top + width - 1
    draw.rectangle(frame, outline=MARK_RGB, width=3)


def write_text(
    draw: ImageDraw.ImageDraw, position: tuple[float, float], text: str, points: int, width: float
) -> None:
    """Write a text at (x, y). If it is wider than `width` pixels, its middle is replaced by dots."""
    font = ImageFont.load_default(points)
    draw.text(position, _shortened(text, width, font.getlength), TEXT_RGB, font)


def text_width(text: str, points: int) -> float:
    """Width of a text in pixels."""
    return float(ImageFont.load_default(points).getlength(text))


def _shortened(text: str, width: float, length: Callable[[str], float]) -> str:
    if length(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2].rstrip()}...{text[len(text) - kept // 2 :].lstrip()}"
        if length(short) <= width:
            return short
    return "..."
