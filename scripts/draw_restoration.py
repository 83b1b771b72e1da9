"""Draw docs/pictures/restoration.jpg: a web picture enlarged by Lanczos, photo-x2 and restore-x2.

    python scripts/draw_restoration.py KODAK_FOLDER

Crops of Kodak pictures are halved by averaging areas, stored as JPEG of quality 60, and enlarged.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from onebranch import Picture, enhance
from onebranch.images.degradation import compress, reduce, resize

TARGET = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "restoration.jpg"

CROPS = (("05", 230, 250), ("19", 120, 200), ("08", 160, 300))
"""File name, first row and first column of each crop."""

SIDE = 160
"""Side of a crop in pixels of the original."""

ZOOM = 2
"""Factor by which pixels are repeated in the drawing."""

QUALITY = 60
GAP, HEADING = 8, 26
COLUMNS = ("Lanczos", "photo-x2", "restore-x2", "original")


def main() -> None:
    """Draw the crops as rows and the methods as columns."""
    folder = Path(sys.argv[1])
    side = SIDE * ZOOM
    size = (len(COLUMNS) * (side + GAP) + GAP, len(CROPS) * (side + GAP) + HEADING)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(COLUMNS):
        draw.text((GAP + column * (side + GAP), 5), heading, "black", ImageFont.load_default(15))
    for row, (name, top, left) in enumerate(CROPS):
        original = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))
        for column, pixels in enumerate(versions(original)):
            crop = Image.fromarray(pixels[top : top + SIDE, left : left + SIDE])
            zoomed = crop.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(zoomed, (GAP + column * (side + GAP), HEADING + row * (side + GAP)))
    sheet.save(TARGET, quality=90, subsampling=0, optimize=True)


def versions(original: np.ndarray) -> list[np.ndarray]:
    """The degraded picture enlarged in each way, and the original, all of equal size."""
    small = compress(reduce(original, 2, "box"), QUALITY)
    height, width = original.shape[:2]
    networks = [enhance(Picture(small), name).pixels for name in COLUMNS[1:3]]
    return [resize(small, height, width, "lanczos"), *map(np.asarray, networks), original]


if __name__ == "__main__":
    main()
