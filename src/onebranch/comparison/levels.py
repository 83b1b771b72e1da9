"""Pictures as display levels, where 0 is black and 255 is white for every depth of the file.

Transparent pixels are blended over mid grey. Pictures are read in bands of rows, so that pictures of any size
need little memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onebranch.images.picture import Picture
from onebranch.images.reading import MAX_PIXELS, open_picture
from onebranch.images.resize import BLOCK_OUTPUTS, Resizing
from onebranch.images.rows import ArrayReader, Header, Layout, Reader, read_exactly
from onebranch.images.samples import Samples

Levels = npt.NDArray[np.float32]
"""A float32 array (N, W, C), C is 1 or 3. For 8-bit files, levels equal the samples."""

PictureSize = tuple[int, int]
"""(height, width) in pixels."""

LEVELS_PER_SAMPLE = {"uint8": 1.0, "uint16": 1 / 257, "float32": 255.0}
"""The factor from samples to levels, by depth."""

BACKGROUND_LEVEL = 128.0
"""The mid grey over which transparent pixels are blended."""

COMPARISON_BAND_PIXELS = 1 << 18
"""Approximate number of pixels in a band."""

SRGB_TOLERANCE_LEVELS = 1
"""A profile whose colours differ from sRGB by at most this is treated as sRGB."""


@dataclass(frozen=True)
class ComparedPicture:
    """A picture that can be opened several times. name: its name in messages and headings."""

    name: str
    opened: Callable[[], Reader]


def of_file(path: Path | str, max_pixels: int = MAX_PIXELS) -> ComparedPicture:
    """The `ComparedPicture` of a file. Opening it raises the errors of `open_picture`."""
    return ComparedPicture(Path(path).name, lambda: open_picture(path, max_pixels=max_pixels))


def of_picture(picture: Picture, name: str) -> ComparedPicture:
    """The `ComparedPicture` of a picture in memory."""
    return ComparedPicture(name, lambda: ArrayReader(picture.samples(), picture.header))


@dataclass(frozen=True)
class ColourSpace:
    """The colour space of levels. profile: None for sRGB. linear: True if the file stores linear light."""

    profile: bytes | None = None
    linear: bool = False


def colour_space_of(header: Header) -> ColourSpace:
    """The colour space of a picture's samples; a profile that is equivalent to sRGB becomes sRGB."""
    profile, linear = header.metadata.icc, header.conversion.kind == "linear"
    if profile is None or (header.layout.channels == 3 and not linear and _is_srgb(profile)):
        return ColourSpace()
    return ColourSpace(profile, linear)


def level_bands(reader: Reader, size: PictureSize) -> Iterator[tuple[Levels, Levels | None]]:
    """The bands of a picture, from the top: colour levels, and alpha levels (N, W, 1) or None.

    A picture of another size is resized bicubically to `size` and clipped. If it has 8 bits, the levels are
    then rounded to those of an 8-bit file.
    """
    layout = reader.header.layout
    for samples in _bands(reader, size):
        yield samples[..., : layout.channels], samples[..., layout.channels :] if layout.alpha else None


def band_rows(width: int) -> int:
    """Number of rows of a band of that width: a multiple of the blocks in which rows are resized."""
    return max(1, COMPARISON_BAND_PIXELS // width // BLOCK_OUTPUTS) * BLOCK_OUTPUTS


def _bands(reader: Reader, size: PictureSize) -> Iterator[Levels]:
    layout, count = reader.header.layout, band_rows(size[1])
    source_size = layout.height, layout.width
    if size == source_size:
        for first in range(0, size[0], count):
            yield _levels(read_exactly(reader, min(count, size[0] - first)), layout)
        return
    factors = size[0] / source_size[0], size[1] / source_size[1]
    resizing = Resizing(source_size, size, factors)
    held, begin = np.empty((0, layout.width, layout.bands), np.float32), 0
    for first in range(0, size[0], count):
        last = min(first + count, size[0])
        low, high = resizing.needs(first, last)
        new_rows = _levels(read_exactly(reader, high - begin - len(held)), layout)
        held, begin = np.concatenate([held[low - begin :], new_rows]), low
        resized = np.clip(resizing.rows(held, begin, first, last), 0, 255)
        yield np.floor(resized + np.float32(0.5)) if layout.depth == "uint8" else resized


def _levels(samples: Samples, layout: Layout) -> Levels:
    """The levels of samples, alpha last. Colours are blended over the background; NaN becomes black."""
    values = samples.astype(np.float32)
    if layout.depth == "float32":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    values *= np.float32(LEVELS_PER_SAMPLE[layout.depth])
    if layout.alpha:
        colours, opacity = values[..., :-1], values[..., -1:] / np.float32(255)
        colours[...] = colours * opacity + np.float32(BACKGROUND_LEVEL) * (1 - opacity)
    return values


def as_srgb(levels: Levels, space: ColourSpace) -> Levels:
    """Levels of a colour space converted to sRGB (N, W, 3), clipped to [0, 255]."""
    clipped = np.clip(levels, 0, 255)
    if space.profile is not None:
        clipped = _through_profile(clipped, space.profile, space.linear)
    return clipped if clipped.shape[2] == 3 else np.repeat(clipped, 3, axis=2)


def _through_profile(levels: Levels, profile: bytes, linear: bool) -> Levels:
    """The levels converted to sRGB; unchanged if the profile cannot be used."""
    from onebranch.images.colour_conversion import float_to_depth, srgb_to_linear, to_float
    from onebranch.images.libvips import pyvips

    samples = np.ascontiguousarray(np.rint(levels * np.float32(257)).astype(np.uint16))
    height, width, channels = samples.shape
    image = pyvips.Image.new_from_memory(samples.data, width, height, channels, "ushort")
    if linear:
        image = float_to_depth(srgb_to_linear(to_float(image)), "uint16")
    image = image.copy(interpretation="rgb16" if channels == 3 else "grey16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        converted = image.icc_transform("srgb", embedded=True, intent="relative", depth=16).numpy()
    except pyvips.Error:
        return levels
    return np.asarray(converted[..., : 3 if converted.shape[2] >= 3 else 1] / np.float32(257))


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """True if the profile is equivalent to sRGB for all combinations of seven values per channel."""
    steps = np.linspace(0, 255, 7, dtype=np.float32)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    differences = np.abs(_through_profile(colours, profile, False) - colours)
    return bool(differences.max() <= SRGB_TOLERANCE_LEVELS)
