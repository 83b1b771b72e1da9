"""GeoTIFF tags (OGC GeoTIFF 1.1), which give pixels geographic coordinates, adapted to a new picture size."""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onebranch.images.containers.tiff import (
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    DirectoryTree,
    TiffReader,
    TiffStructure,
    TiffValue,
    append_tree,
    byte_swapped,
)

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
"""ModelPixelScale (3 numbers), ModelTiepoint (6 for each point), ModelTransformation (4x4)."""

KEY_DIRECTORY = 34735
"""GeoKeyDirectory: rows of four SHORT (key, location, count, value), of which the first is a header."""

RASTER_TYPE_KEY, PIXEL_IS_POINT = 1025, 2
"""GTRasterType: if it is 2, raster coordinates count from the centre of the first pixel, else its corner."""

DOUBLE = 12
"""The TIFF field type of 64-bit floating-point numbers."""


@dataclass(frozen=True)
class GeoTiff:
    """The GeoTIFF tags of a picture. order: byte order of the values, "<" or ">". Sizes are in pixels."""

    values: tuple[tuple[int, TiffValue], ...]
    order: str
    height: int
    width: int

    def resized(self, height: int, width: int) -> "GeoTiff":
        """The tags for the same geographic area after the picture was resized to height x width pixels.

        Example: if both sides are doubled, a pixel covers half the length, so ModelPixelScale (10, 10, 0)
        becomes (5, 5, 0), and a tie point at pixel corner (30, 20) moves to (60, 40).
        """
        scale = np.array([width / self.width, height / self.height])
        values = dict(self.values)
        shift = np.zeros(2) if not self._pixel_is_point(values) else (scale - 1) / 2
        for tag, numbers in ((tag, self._doubles(values, tag)) for tag in (PIXEL_SCALE, TIE_POINTS)):
            if numbers is None:
                continue
            if tag == PIXEL_SCALE:
                numbers[:2] /= scale
            else:
                points = numbers.reshape(-1, 6)
                points[:, :2] = points[:, :2] * scale + shift
            values[tag] = self._packed(numbers)
        matrix = self._doubles(values, TRANSFORMATION)
        if matrix is not None:
            matrix = matrix.reshape(4, 4)
            matrix[:, :2] /= scale
            matrix[:, 3] -= matrix[:, :2] @ shift
            values[TRANSFORMATION] = self._packed(matrix.reshape(-1))
        return replace(self, values=tuple(values.items()), height=height, width=width)

    def _doubles(self, values: dict[int, TiffValue], tag: int) -> "np.ndarray | None":
        """The numbers of a tag in a writable array; None if the tag is missing or has a wrong length."""
        value = values.get(tag)
        length = {PIXEL_SCALE: 3, TIE_POINTS: 6, TRANSFORMATION: 16}[tag]
        if value is None or value.kind != DOUBLE or value.number % length or not value.number:
            return None
        return np.frombuffer(value.content, self.order + "f8").astype(float)

    def _packed(self, numbers: np.ndarray) -> TiffValue:
        return TiffValue(DOUBLE, len(numbers), numbers.astype(self.order + "f8").tobytes())

    def _pixel_is_point(self, values: dict[int, TiffValue]) -> bool:
        value = values.get(KEY_DIRECTORY)
        content = b"" if value is None else value.content
        rows = struct.iter_unpack(self.order + "4H", content[: len(content) // 8 * 8])
        return any(row[0] == RASTER_TYPE_KEY and row[3] == PIXEL_IS_POINT for row in rows)


def geotiff_of(structure: TiffStructure) -> GeoTiff | None:
    """The GeoTIFF tags of the first picture of a TIFF file; None if there are none."""
    width, height = (structure.integers.get(tag, 0) for tag in (IMAGE_WIDTH, IMAGE_LENGTH))
    if not structure.geotiff_values or not (width and height):
        return None
    return GeoTiff(structure.geotiff_values, structure.order, height, width)


def append_geotiff(path: Path, geotiff: GeoTiff) -> None:
    """Add the tags to a TIFF file that has none."""
    tree = DirectoryTree(dict(geotiff.values), {})
    with path.open("r+b") as file:
        target = TiffReader(file)
        append_tree(file, target, tree if geotiff.order == target.format.order else byte_swapped(tree))
