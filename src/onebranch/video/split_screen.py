"""Previews: the original, enlarged bicubically, in the left half of the frame, the result in the right."""

import numpy as np

from onebranch.video.pixel_format import PixelFormat
from onebranch.video.planes import PlaneArray, Planes

LINE_PIXELS = 2
"""Width of the line between the halves."""


def split_screen(
    original: Planes, enhanced: Planes, pixel_format: PixelFormat, white: int, middle: int
) -> Planes:
    """The left half of one frame and the right half of another, with a white line between them.

    white, middle: the sample values of white and of neutral chroma.

    >>> left, right = np.zeros((2, 8), np.uint8), np.full((2, 8), 9, np.uint8)
    >>> split_screen((left,), (right,), PixelFormat("grey", 8), 255, 128)[0][0].tolist()
    [0, 0, 0, 255, 255, 9, 9, 9]
    """
    width = enhanced[0].shape[1]
    chroma_columns = pixel_format.chroma[1]
    first = (width - LINE_PIXELS) // 2 // chroma_columns * chroma_columns
    planes = []
    for index, (left, right) in enumerate(zip(original, enhanced, strict=True)):
        is_chroma = pixel_format.model == "yuv" and index in (1, 2)
        columns = chroma_columns if is_chroma else 1
        begin, end = first // columns, -(-(first + LINE_PIXELS) // columns)
        planes.append(_joined(left, right, begin, end, middle if is_chroma else white))
    return tuple(planes)


def _joined(left: PlaneArray, right: PlaneArray, begin: int, end: int, line: int) -> PlaneArray:
    result = right.copy()
    result[:, :begin] = left[:, :begin]
    result[:, begin:end] = np.array(line, right.dtype)
    return result
