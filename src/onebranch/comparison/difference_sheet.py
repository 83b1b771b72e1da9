"""Sheets with two pictures, a colour map of their differences, and their PSNR and SSIM."""

import numpy as np
from PIL import Image, ImageDraw

from onebranch.comparison.before_after import detail_of, size_note
from onebranch.comparison.levels import ComparedPicture, Levels, PictureSize
from onebranch.comparison.overview import (
    DetailMap,
    DownscaledPicture,
    MaximumMap,
    Square,
    as_bytes,
    most_detailed_square,
    square_side,
)
from onebranch.comparison.sheet import (
    BACKGROUND_RGB,
    COLUMN_PIXELS,
    GAP_PIXELS,
    Column,
    View,
    draw_sheet,
    text_width,
    write_text,
)
from onebranch.comparison.similarity import (
    ComparisonSetup,
    LevelPair,
    ShareReport,
    Similarity,
    band_pairs,
    both_as_srgb,
    format_levels,
    format_share,
    header_of,
    measure_with,
    no_progress,
    score_lines,
    set_up,
)
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.metrics import Bytes

MAP_SCALES = (1, 2, 4, 8, 16, 32, 64, 128, 255)
"""Possible scales of a difference map: the difference, in levels, of the brightest colour."""

MAP_PERCENTILE = 99.5
"""The scale of a map covers this percentage of its values."""

SMALL_SHARE = 0.01
"""If at most this share of the pixels differs, the area around the largest difference is magnified."""

MAP_COLOURS = (
    (0.0, (14, 14, 24)),
    (0.25, (66, 38, 128)),
    (0.5, (196, 56, 98)),
    (0.75, (248, 152, 62)),
    (1.0, (255, 250, 214)),
)
"""The colour map as (share of the scale, RGB). Brightness increases with it, for colour-blind readers."""

MAP_LEGEND_PIXELS = 20
"""Height of the bar that shows the scale of a map."""

COMPARISON_COLUMN_PIXELS = COLUMN_PIXELS[3]
"""Width of a column, in pixels."""


def measure_and_draw(
    first: ComparedPicture,
    second: ComparedPicture,
    border: int = 0,
    at: tuple[int, int] | None = None,
    progress: ShareReport = no_progress,
) -> tuple[Similarity, Picture]:
    """The similarity of two pictures, and a sheet with both and a map of their differences.

    border: number of pixels on every side that are not measured. at: (x, y) of the centre of the magnified
    square; by default that of the largest difference if few pixels differ, else of the part with the most
    detail in both pictures. Raises the errors of `measure`, and OnebranchError if `at` is outside the
    pictures.
    """
    setup = set_up(first, second)
    if at is not None and not (0 <= at[0] < setup.size[1] and 0 <= at[1] < setup.size[0]):
        raise OnebranchError(
            f"({at[0]}, {at[1]}) is outside the pictures of {setup.size[1]}x{setup.size[0]} pixels"
        )
    overview = _Overview(setup.size)
    similarity = measure_with(first, second, setup, border, overview.add, progress)
    if at is None and 0 < similarity.different < SMALL_SHARE:
        at = similarity.position
    if at is None:
        square = most_detailed_square(overview.detail, setup.size, COMPARISON_COLUMN_PIXELS)
    else:
        square = _square_around(at, setup.size)
    return similarity, Picture(_draw((first, second), setup, similarity, overview, square))


def _square_around(centre: tuple[int, int], size: PictureSize) -> Square:
    """The square around (x, y) that is magnified, shifted so that it is inside the picture."""
    side = square_side(size, COMPARISON_COLUMN_PIXELS)
    top, left = (
        min(max(coordinate - side // 2, 0), length - side)
        for coordinate, length in zip(centre[::-1], size, strict=True)
    )
    return Square(top, left, side)


class _Overview:
    """The data for the drawing of two pictures: both downscaled, their differences, and a detail map."""

    def __init__(self, size: PictureSize) -> None:
        self.pictures = (
            DownscaledPicture(size, COMPARISON_COLUMN_PIXELS),
            DownscaledPicture(size, COMPARISON_COLUMN_PIXELS),
        )
        self.difference = MaximumMap(size, COMPARISON_COLUMN_PIXELS)
        self.detail = DetailMap(size, COMPARISON_COLUMN_PIXELS)

    def add(self, srgb: LevelPair, difference: Levels) -> None:
        """Add the next rows: both pictures as sRGB, and their difference (N, W, 1)."""
        for reduced, rows in zip(self.pictures, srgb, strict=True):
            reduced.add(rows)
        self.difference.add(difference)
        self.detail.add((srgb[0] + srgb[1]) / np.float32(2))


def _draw(
    sources: tuple[ComparedPicture, ComparedPicture],
    setup: ComparisonSetup,
    similarity: Similarity,
    overview: _Overview,
    square: Square,
) -> Bytes:
    details = [detail_of(source, setup.size, square) for source in sources]
    difference = _difference_in_square(sources, setup, square)
    scale = map_scale(overview.difference.values)
    columns = []
    for source, reduced, detail in zip(sources, overview.pictures, details, strict=True):
        layout = header_of(source).layout
        note = size_note((layout.height, layout.width), setup.size)
        columns.append(Column(source.name, note, View(reduced.pixels(), as_bytes(detail))))
    maps = map_colours(overview.difference.values, scale), map_colours(difference, scale)
    columns.append(Column("difference", _difference_note(similarity), View(*maps)))
    return draw_sheet(columns, setup.size, square, COMPARISON_COLUMN_PIXELS, _footer(similarity, scale))


def _difference_in_square(
    sources: tuple[ComparedPicture, ComparedPicture], setup: ComparisonSetup, square: Square
) -> Levels:
    """The difference of both pictures in the square, (side, side, 1)."""
    parts = []
    for top, levels, _ in band_pairs(*sources, setup):
        first, last = max(square.top - top, 0), square.top + square.side - top
        if last <= 0:
            break
        rows = [plane[first:last, square.left : square.left + square.side] for plane in levels]
        if len(rows[0]):
            one, other = rows if setup.same_space else both_as_srgb((rows[0], rows[1]), setup)
            parts.append(np.abs(one - other).max(axis=2, keepdims=True))
    return np.concatenate(parts)


def map_scale(differences: Levels) -> int:
    """The scale of a difference map: the smallest of `MAP_SCALES` that covers nearly all values.

    >>> map_scale(np.full((4, 4, 1), 5.0, np.float32)), map_scale(np.zeros((4, 4, 1), np.float32))
    (8, 1)
    """
    required = float(np.percentile(differences, MAP_PERCENTILE))
    return next((scale for scale in MAP_SCALES if scale >= required), MAP_SCALES[-1])


def map_colours(differences: Levels, scale: float) -> Bytes:
    """Colours (H, W, 3) of differences (H, W, 1) in levels; `scale` and above have the brightest colour."""
    share = np.minimum(differences[..., 0] / np.float32(scale), 1)
    stops = [stop for stop, _ in MAP_COLOURS]
    planes = [np.interp(share, stops, [colour[channel] for _, colour in MAP_COLOURS]) for channel in range(3)]
    return as_bytes(np.stack(planes, axis=-1).astype(np.float32))


def _difference_note(similarity: Similarity) -> str:
    if similarity.equal:
        return "none: every sample is the same"
    return f"{format_share(similarity.different)} of the pixels, by up to {format_levels(similarity.largest)}"


def _footer(similarity: Similarity, scale: int) -> Bytes:
    """The scores below the pictures, and the scale of the map below the map."""
    width = 3 * COMPARISON_COLUMN_PIXELS + 2 * GAP_PIXELS
    page = Image.new("RGB", (width, 92), BACKGROUND_RGB)
    draw = ImageDraw.Draw(page)
    text_lines = ("      ".join(score_lines(similarity)), *_method_lines(similarity))[:3]
    for index, line in enumerate(text_lines):
        write_text(draw, (0, index * 30), line, 22 if index == 0 else 16, 2 * COMPARISON_COLUMN_PIXELS)
    left = width - COMPARISON_COLUMN_PIXELS
    ramp = np.linspace(0, scale, COMPARISON_COLUMN_PIXELS, dtype=np.float32)[None, :, None]
    legend = map_colours(np.broadcast_to(ramp, (MAP_LEGEND_PIXELS, COMPARISON_COLUMN_PIXELS, 1)), scale)
    page.paste(Image.fromarray(legend), (left, 4))
    for share in (0.0, 0.5, 1.0):
        text = f"{scale * share:g}{' or more' if share == 1 and scale < MAP_SCALES[-1] else ''}"
        position = left + share * (COMPARISON_COLUMN_PIXELS - text_width(text, 16))
        write_text(draw, (position, MAP_LEGEND_PIXELS + 8), text, 16, COMPARISON_COLUMN_PIXELS)
    caption = "largest difference of a channel, in levels of 255"
    write_text(draw, (left, MAP_LEGEND_PIXELS + 32), caption, 16, COMPARISON_COLUMN_PIXELS)
    return np.asarray(page)


def _method_lines(similarity: Similarity) -> tuple[str, ...]:
    """Lines about how the scores are defined and how the pictures were made comparable."""
    definition = "peak 255; luma: BT.601, 16 to 235, unrounded; SSIM: 11x11 Gaussian, sigma 1.5"
    if similarity.psnr_rgb is None:
        definition = "peak 255; grey values unchanged; SSIM: 11x11 Gaussian, sigma 1.5"
    return definition, "; ".join(similarity.notes)
