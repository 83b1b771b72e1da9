"""The planes of a frame as numpy arrays, and their conversion to other depths and chroma resolutions.

The planes of a frame are a tuple of arrays (H, W): Y, Cb, Cr; or R, G, B; or grey; alpha last, if there is
any. Samples are uint8 for 8 bits and uint16 for more.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onebranch.images.resize import Kernel, Resizing
from onebranch.video.colours import siting_shift
from onebranch.video.pixel_format import PixelFormat

if TYPE_CHECKING:
    from av import VideoFrame

PlaneArray = npt.NDArray[np.generic]
"""One plane (H, W), uint8 or uint16."""

Planes = tuple[PlaneArray, ...]

RGB_FROM_GBR = (2, 0, 1)
"""FFmpeg orders the planes of RGB formats as G, B, R."""


def planes_of(frame: "VideoFrame", pixel_format: PixelFormat) -> Planes:
    """The planes of a decoded frame, which is repacked if its format is packed.

    The arrays share the memory of the frame.
    """
    if frame.format.name != pixel_format.name and not frame.format.name.startswith("yuvj"):
        frame = frame.reformat(format=pixel_format.name)
    planes = [_array(plane, pixel_format.dtype) for plane in frame.planes]
    if pixel_format.model == "rgb":
        planes[:3] = [planes[index] for index in RGB_FROM_GBR]
    return tuple(planes)


def frame_of(planes: Planes, pixel_format: PixelFormat) -> "VideoFrame":
    """A frame with copies of the planes."""
    from av import VideoFrame

    ordered = list(planes)
    if pixel_format.model == "rgb":
        ordered[:3] = [planes[RGB_FROM_GBR.index(index)] for index in range(3)]
    height, width = planes[0].shape
    frame = VideoFrame(width, height, pixel_format.name)
    for plane, samples in zip(frame.planes, ordered, strict=True):
        _array(plane, pixel_format.dtype)[...] = samples
    return frame


def _array(plane: object, dtype: str) -> PlaneArray:
    """The samples of a plane of PyAV, without the padding at the end of its lines."""
    lines = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    stride = plane.line_size // lines.itemsize  # type: ignore[attr-defined]
    samples: PlaneArray = lines.reshape(-1, stride)[: plane.height, : plane.width]  # type: ignore[attr-defined]
    return samples


def resized_chroma(plane: PlaneArray, resizing: Resizing, maximum: int) -> PlaneArray:
    """A plane resized, rounded half up and clipped to [0, maximum], in its own type."""
    values = plane.astype(np.float32)
    result = resizing.rows(values, 0, 0, resizing.after[0])
    result += np.float32(0.5)
    np.clip(result, 0, maximum + 0.5, out=result)
    return result.astype(plane.dtype)


def chroma_resizing(
    before: tuple[int, int],
    after: tuple[int, int],
    factors: tuple[float, float],
    chroma: tuple[int, int],
    siting: str,
    kernel: Kernel = "bicubic",
) -> Resizing:
    """The resizing of chroma planes when luma is resized by `factors`, with samples that stay on their sites.

    before, after: (height, width) of the chroma planes. chroma: luma samples for each chroma sample. Source:
    an output sample J lies on the luma position c J + q, that is (c J + q + 0.5) / s - 0.5 of the input.
    Example: 4:2:0 with left siting doubled: output column J is input column J / 2 - 0.125, not J / 2 - 0.25.
    """
    distances = siting_shift(siting, chroma)
    shifts = [distance * (1 / factor - 1) for distance, factor in zip(distances, factors, strict=True)]
    return Resizing(before, after, factors, "edge", kernel, shifts=(shifts[0], shifts[1]))


def with_chroma(
    planes: Planes, source: tuple[int, int], target: tuple[int, int], siting: str, maximum: int
) -> Planes:
    """The planes of YUV with chroma at another resolution. source, target: see `PixelFormat.chroma`."""
    if source == target:
        return planes
    height, width = planes[0].shape
    after = -(-height // target[0]), -(-width // target[1])
    before = planes[1].shape[0], planes[1].shape[1]
    factors = source[0] / target[0], source[1] / target[1]
    into, from_sites = siting_shift(siting, target), siting_shift(siting, source)
    shifts = [new / factor - old for new, old, factor in zip(into, from_sites, factors, strict=True)]
    resizing = Resizing(before, after, factors, "edge", shifts=(shifts[0], shifts[1]))
    chroma = [resized_chroma(plane, resizing, maximum) for plane in planes[1:3]]
    return (planes[0], *chroma, *planes[3:])


def converted(
    planes: Planes, source: PixelFormat, target: PixelFormat, siting: str = "left", full_range: bool = False
) -> Planes:
    """The planes in a format that holds them without loss (see `nearest_format`).

    Grey gets neutral chroma, chroma is interpolated, and missing alpha is opaque.

    >>> grey = (np.full((4, 4), 16, np.uint8),)
    >>> y, cb, _ = converted(grey, PixelFormat("grey", 8), PixelFormat("yuv", 10, (2, 2)))
    >>> int(y[0, 0]), int(cb[0, 0]), cb.shape
    (64, 512, (2, 2))
    """
    if source == target:
        return planes
    height, width = planes[0].shape
    colours = planes[: 1 if source.model == "grey" else 3]
    result = [_in_depth(plane, source.depth, target, full_range) for plane in colours]
    if source.model == "grey" and target.model == "yuv":
        size = target.plane_size(1, height, width)
        result += [np.full(size, 1 << (target.depth - 1), target.dtype) for _ in range(2)]
    elif source.model == "yuv":
        maximum = (1 << target.depth) - 1
        result[:] = with_chroma(tuple(result), source.chroma, target.chroma, siting, maximum)
    if target.alpha:
        result.append(_alpha(planes, source, target))
    return tuple(result)


def _in_depth(plane: PlaneArray, depth: int, target: PixelFormat, full_range: bool) -> PlaneArray:
    """A plane in another depth: shifted, or for full range scaled so that white stays white."""
    if depth == target.depth:
        return plane
    if depth > target.depth:
        divisor = 1 << (depth - target.depth)
        rounded = (plane.astype(np.uint32) + divisor // 2) // divisor
        return np.minimum(rounded, (1 << target.depth) - 1).astype(target.dtype)
    if full_range or target.model == "rgb":
        scale = ((1 << target.depth) - 1) / ((1 << depth) - 1)
        values = plane.astype(np.float32) * np.float32(scale) + np.float32(0.5)
        return values.astype(target.dtype)
    shifted: PlaneArray = plane.astype(target.dtype) << (target.depth - depth)
    return shifted


def _alpha(planes: Sequence[PlaneArray], source: PixelFormat, target: PixelFormat) -> PlaneArray:
    """Alpha in the depth of the target; it is full range, so that opaque stays opaque."""
    white = (1 << target.depth) - 1
    if not source.alpha:
        return np.full(planes[0].shape, white, target.dtype)
    if source.depth == target.depth:
        return planes[-1]
    scaled = planes[-1].astype(np.float32) * np.float32(white / ((1 << source.depth) - 1))
    return (scaled + np.float32(0.5)).astype(target.dtype)


def padded(planes: Planes, pixel_format: PixelFormat, height: int, width: int) -> Planes:
    """The planes of a frame of (height, width); where they are short, their last row and column repeat."""
    result = []
    for index, plane in enumerate(planes):
        rows, columns = pixel_format.plane_size(index, height, width)
        pad = ((0, max(0, rows - plane.shape[0])), (0, max(0, columns - plane.shape[1])))
        result.append(np.pad(plane, pad, mode="edge") if any(pad[0] + pad[1]) else plane)
    return tuple(result)
