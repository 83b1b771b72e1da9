"""Comparison sheets of a picture and its enhanced version, without any measurement."""

from pathlib import Path

import numpy as np

from onebranch.comparison.levels import (
    ComparedPicture,
    Levels,
    PictureSize,
    as_srgb,
    colour_space_of,
    level_bands,
    of_file,
    of_picture,
)
from onebranch.comparison.overview import (
    DetailMap,
    DownscaledPicture,
    Square,
    as_bytes,
    most_detailed_square,
)
from onebranch.comparison.sheet import COLUMN_PIXELS, Column, View, draw_sheet
from onebranch.images.picture import Picture
from onebranch.images.reading import MAX_PIXELS


def compare(
    before: Picture, after: Picture, heading: str = "result", before_heading: str = "input"
) -> Picture:
    """A comparison sheet with the input, resized bicubically to the result's size, beside the result.

    Below both, the square with the most fine detail in the result is magnified. Pictures may have any size,
    depth and profile. The sheet is 8-bit sRGB.

    >>> picture = Picture(np.zeros((20, 30, 3), np.uint8))
    >>> compare(picture, picture).width
    1328
    """
    return compare_sources(of_picture(before, before_heading), of_picture(after, heading))


def compare_files(
    before: Path | str,
    after: Path | str,
    heading: str = "result",
    before_heading: str = "input",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """`compare` for two files of any size, in bounded memory. Raises the errors of `open_picture`."""
    sources = [of_file(path, max_pixels).opened for path in (before, after)]
    return compare_sources(ComparedPicture(before_heading, sources[0]), ComparedPicture(heading, sources[1]))


def compare_sources(before: ComparedPicture, after: ComparedPicture) -> Picture:
    """`compare` for two pictures that can be opened several times."""
    with before.opened() as reader:
        first = reader.header.layout
    with after.opened() as reader:
        last = reader.header.layout
    size = last.height, last.width
    width = COLUMN_PIXELS[2]
    overviews = [_overview(source, size, width) for source in (before, after)]
    square = most_detailed_square(overviews[1][1], size, width)
    notes = size_note((first.height, first.width), size), f"{size[1]}x{size[0]}"
    columns = [
        Column(source.name, note, View(reduced.pixels(), as_bytes(detail_of(source, size, square))))
        for source, note, (reduced, _) in zip((before, after), notes, overviews, strict=True)
    ]
    return Picture(draw_sheet(columns, size, square, width))


def size_note(before: PictureSize, after: PictureSize) -> str:
    """The note for a picture of size `before` that is shown at size `after`.

    >>> size_note((20, 10), (40, 20)), size_note((20, 10), (20, 10))
    ('10x20, enlarged bicubically', '10x20')
    """
    how = {-1: ", reduced bicubically", 0: "", 1: ", enlarged bicubically"}
    return f"{before[1]}x{before[0]}{how[(after > before) - (after < before)]}"


def _overview(source: ComparedPicture, size: PictureSize, width: int) -> tuple[DownscaledPicture, DetailMap]:
    """The picture, resized to `size` and downscaled for a column of `width` pixels, and its detail map."""
    reduced, detail = DownscaledPicture(size, width), DetailMap(size, width)
    with source.opened() as reader:
        space = colour_space_of(reader.header)
        for levels, _ in level_bands(reader, size):
            shown = as_srgb(levels, space)
            reduced.add(shown)
            detail.add(shown)
    return reduced, detail


def detail_of(source: ComparedPicture, size: PictureSize, square: Square) -> Levels:
    """The square of the picture, resized to `size`, as sRGB levels (side, side, 3)."""
    parts, row = [], 0
    with source.opened() as reader:
        space = colour_space_of(reader.header)
        for levels, _ in level_bands(reader, size):
            first, last = max(square.top - row, 0), square.top + square.side - row
            if last <= 0:
                break
            rows = levels[first:last, square.left : square.left + square.side]
            if len(rows):
                parts.append(as_srgb(rows, space))
            row += len(levels)
    return np.concatenate(parts)
