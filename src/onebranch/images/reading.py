"""Reading of pictures, by rows or as a whole. Size and memory are checked before anything is decoded."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.decoders.memory import DEFAULT_DECODER_MEMORY, Limits
from onebranch.images.picture import Picture, picture_of
from onebranch.images.probe import Probe, probe
from onebranch.images.rows import Header, Reader

if TYPE_CHECKING:
    from onebranch.images.animation import Animation

LIBVIPS_ROWS = 1500
"""Number of rows that libvips holds in its buffers while it decodes (measured)."""

MAX_PIXELS = 1_000_000_000
"""Default limit of height x width: 3 GB of 8-bit RGB. Files that announce more are mostly malicious."""


def open_picture(
    source: Probe | Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY
) -> Reader:
    """A reader of the upright rows of the first picture (frame or page) in a file.

    source: a file, or the `Probe` of one. 8-bit, 16-bit and float samples keep their type, and grey stays
    grey. Palettes become RGB. CMYK, Lab and linear light are converted to float32 (`ColourConversion`).
    max_pixels: limit of height x width. memory: limit, in bytes, of what the decoder holds at one time
    (`decoders.memory`). Large rotated or interlaced pictures need a temporary file
    (`decoders.temporary_file`). Raises OnebranchError, in one line that names the file, if it cannot be read;
    damage that is found later is raised by `Reader.read`.
    """
    from onebranch.images.decoders.decoding import open_file

    return open_file(_probed(source), Limits(max_pixels, memory))


def bytes_for_reading(header: Header) -> int:
    """The estimated bytes that the `Reader` of a picture needs, without the rows that it returns."""
    layout = header.layout
    row = layout.width * layout.bands * np.dtype(layout.depth).itemsize
    return max(header.decoder_bytes, row * min(layout.height, LIBVIPS_ROWS))


def read(
    source: Probe | Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY
) -> Picture:
    """The picture in a file, upright, as greyscale or RGB.

    max_pixels: limit of height x width. memory: limit of the decoder's memory in bytes. Raises
    OnebranchError, which names the file, if it cannot be read, is damaged, or exceeds a limit.

    >>> from onebranch.model.catalogue import MODELS_FOLDER
    >>> read(MODELS_FOLDER.parent / "photograph.png").pixels.shape
    (512, 512, 3)
    """
    probed = _probed(source)
    with open_picture(probed, max_pixels=max_pixels, memory=memory) as reader:
        layout = reader.header.layout
        try:
            return picture_of(reader.header, reader.read(layout.height))
        except MemoryError:
            raise OnebranchError(
                f"cannot read '{probed.path}': there is not enough memory for {layout.width}x{layout.height}"
                " pixels as a whole; read it by rows (open_picture)"
            ) from None


def read_animation(
    source: Probe | Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY
) -> "Animation":
    """All frames of a GIF or WebP, composited, with their timing; one frame for any other format.

    `max_pixels` and `memory` limit the sum of all frames. Raises the errors of `open_picture`.
    """
    from onebranch.images.animation import Animation
    from onebranch.images.decoders.decoding import decode_animation

    probed = _probed(source)
    if probed.frames == 1:
        return Animation((read(probed, max_pixels=max_pixels, memory=memory),), (0,), 0)
    return decode_animation(probed, Limits(max_pixels, memory))


def _probed(source: Probe | Path | str) -> Probe:
    return source if isinstance(source, Probe) else probe(source)
