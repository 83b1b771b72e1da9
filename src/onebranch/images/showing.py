"""Pictures as they are looked at and measured: rows of levels, 0 black and 255 white, from any file.

Transparency lies over mid grey. Rows come in bands, so that a picture of any size takes little memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onebranch.images.picture import Picture, Samples
from onebranch.images.reading import MAX_PIXELS, open_picture
from onebranch.images.resize import BLOCK, Resizing
from onebranch.images.rows import ArrayReader, Header, Layout, Reader

Levels = npt.NDArray[np.float32]
"""float32 (N, W, C), C 1 or 3; exactly the samples where the file has 8 bits."""

Size = tuple[int, int]
"""Height and width."""

LEVELS = {"uint8": 1.0, "uint16": 1 / 257, "float32": 255.0}
"""Levels of a sample of 1."""

BEHIND = 128.0
"""The level that transparency shows."""

PIXELS = 1 << 18
"""Of a band, about."""

ALIKE = 1
"""Levels by which a profile's colours may differ from sRGB's and still be called sRGB."""


@dataclass(frozen=True)
class Source:
    """A picture that can be read several times. name: what it is called."""

    name: str
    opened: Callable[[], Reader]


def of_file(path: Path | str, max_pixels: int = MAX_PIXELS) -> Source:
    """A file; errors as in `open_picture` when it is opened."""
    return Source(Path(path).name, lambda: open_picture(path, max_pixels=max_pixels))


def of_picture(picture: Picture, name: str) -> Source:
    """A picture in memory."""
    return Source(name, lambda: ArrayReader(picture.samples(), picture.header))


@dataclass(frozen=True)
class Space:
    """What levels mean: an ICC profile, None for sRGB, whose light was linear where `linear`."""

    profile: bytes | None = None
    linear: bool = False


def space_of(header: Header) -> Space:
    """The space of a picture's samples; profiles that do what sRGB does are called sRGB."""
    profile, linear = header.metadata.icc, header.route.kind == "linear"
    if profile is None or (header.layout.channels == 3 and not linear and _is_srgb(profile)):
        return Space()
    return Space(profile, linear)


def bands(reader: Reader, size: Size) -> Iterator[tuple[Levels, Levels | None]]:
    """Levels and alpha's levels (N, W, 1), or None, of all rows, from the top, in bands of `rows_of_band`.

    A picture of another size is resized bicubically, as `resize` does it, clipped, and rounded where it has
    8 bits: as a file would hold it.
    """
    layout = reader.header.layout
    for samples in _bands(reader, size):
        yield samples[..., : layout.channels], samples[..., layout.channels :] if layout.alpha else None


def rows_of_band(width: int) -> int:
    """Rows of a band: whole blocks of resizing."""
    return max(1, PIXELS // width // BLOCK) * BLOCK


def _bands(reader: Reader, size: Size) -> Iterator[Levels]:
    layout, count = reader.header.layout, rows_of_band(size[1])
    own = layout.height, layout.width
    if size == own:
        for first in range(0, own[0], count):
            yield _levels(_rows(reader, min(count, own[0] - first)), layout)
        return
    resizing = Resizing(own, size, (size[0] / own[0], size[1] / own[1]))
    held, begin = np.empty((0, layout.width, layout.bands), np.float32), 0
    for first in range(0, size[0], count):
        last = min(first + count, size[0])
        low, high = resizing.needs(first, last)
        coming = _levels(_rows(reader, high - begin - len(held)), layout)
        held, begin = np.concatenate([held[low - begin :], coming]), low
        made = np.clip(resizing.rows(held, begin, first, last), 0, 255)
        yield np.floor(made + np.float32(0.5)) if layout.depth == "uint8" else made


def _rows(reader: Reader, count: int) -> Samples:
    """Exactly so many more rows."""
    layout = reader.header.layout
    parts = [np.empty((0, layout.width, layout.bands), layout.depth)]
    while count > 0:
        parts.append(reader.read(count))
        assert len(parts[-1]), "a reader gives as many rows as its header says, or an error"
        count -= len(parts[-1])
    return np.concatenate(parts)


def _levels(samples: Samples, layout: Layout) -> Levels:
    """Samples as levels, the colours over what is behind; alpha last. What is no number is black."""
    values = samples.astype(np.float32)
    if layout.depth == "float32":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    values *= np.float32(LEVELS[layout.depth])
    if layout.alpha:
        colours, opacity = values[..., :-1], values[..., -1:] / np.float32(255)
        colours[...] = colours * opacity + np.float32(BEHIND) * (1 - opacity)
    return values


def as_srgb(levels: Levels, space: Space) -> Levels:
    """Levels in that space as sRGB (N, W, 3), clipped to what a screen shows."""
    clipped = np.clip(levels, 0, 255)
    if space.profile is not None:
        clipped = _through_profile(clipped, space.profile, space.linear)
    return clipped if clipped.shape[2] == 3 else np.repeat(clipped, 3, axis=2)


def _through_profile(levels: Levels, profile: bytes, linear: bool) -> Levels:
    """The levels in sRGB; as they are where the profile cannot be used."""
    from onebranch.images.libvips import pyvips
    from onebranch.images.route import at_depth, from_depth, srgb_to_linear

    samples = np.ascontiguousarray(np.rint(levels * np.float32(257)).astype(np.uint16))
    height, width, channels = samples.shape
    image = pyvips.Image.new_from_memory(samples.data, width, height, channels, "ushort")
    if linear:
        image = at_depth(srgb_to_linear(from_depth(image)), "uint16")
    image = image.copy(interpretation="rgb16" if channels == 3 else "grey16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        shown = image.icc_transform("srgb", embedded=True, intent="relative", depth=16).numpy()
    except pyvips.Error:
        return levels
    return np.asarray(shown[..., : 3 if shown.shape[2] >= 3 else 1] / np.float32(257))


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Whether RGB through the profile looks as sRGB does: seven steps of each channel, all together."""
    steps = np.linspace(0, 255, 7, dtype=np.float32)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    return bool(np.abs(_through_profile(colours, profile, False) - colours).max() <= ALIKE)
