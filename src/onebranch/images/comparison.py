"""One picture that shows several of the same thing side by side, labelled, each with a magnified detail."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Bytes = npt.NDArray[np.uint8]
"""uint8 RGB (H, W, 3)."""

PAPER, INK, MARK = (250, 250, 248), (34, 40, 49), (214, 64, 42)
"""Colours of the background, the labels and the frame that marks the detail."""

GAP = 16
"""Pixels between and around the pictures."""


@dataclass(frozen=True)
class Panel:
    """One of the pictures, with its heading and a line below it."""

    heading: str
    note: str
    pixels: Bytes


def side_by_side(panels: Sequence[Panel], detail: tuple[int, int, int], width: int = 460) -> Bytes:
    """The panels in columns of `width` pixels: the picture, and below it the detail, magnified.

    All panels have one size. detail: (top, left, side) of the square, in their pixels. Details are repeated
    pixel by pixel, so that what is seen is what is there.
    """
    height = round(panels[0].pixels.shape[0] * width / panels[0].pixels.shape[1])
    sheet = Image.new(
        "RGB",
        (GAP + len(panels) * (width + GAP), 3 * GAP + 56 + height + width),
        PAPER,
    )
    for index, panel in enumerate(panels):
        _draw(sheet, panel, GAP + index * (width + GAP), (width, height), detail)
    return np.asarray(sheet)


def _draw(
    sheet: Image.Image, panel: Panel, left: int, size: tuple[int, int], detail: tuple[int, int, int]
) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left, GAP - 4), panel.heading, INK, ImageFont.load_default(24))
    draw.text((left, GAP + 28), panel.note, INK, ImageFont.load_default(16))
    top, (width, height) = GAP + 56, size
    picture = Image.fromarray(panel.pixels)
    sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
    y, x, side = detail
    ratio = width / picture.width
    corner = left + x * ratio, top + y * ratio
    draw.rectangle((*corner, corner[0] + side * ratio, corner[1] + side * ratio), outline=MARK, width=3)
    magnified = picture.crop((x, y, x + side, y + side)).resize((width, width), Image.Resampling.NEAREST)
    sheet.paste(magnified, (left, top + height + GAP))
    below = top + height + GAP
    draw.rectangle((left, below, left + width - 1, below + width - 1), outline=MARK, width=3)


def busiest(pixels: Bytes, side: int) -> tuple[int, int, int]:
    """(top, left, side) of the square with the most fine detail: the largest sum of absolute gradients."""
    grey = pixels.astype(np.float64).mean(2)
    energy = np.zeros_like(grey)
    energy[:, 1:] += np.abs(np.diff(grey, axis=1))
    energy[1:] += np.abs(np.diff(grey, axis=0))
    side = min(side, *grey.shape)
    table = np.pad(energy, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left), side
