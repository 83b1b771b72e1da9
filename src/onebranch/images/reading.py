"""Reading pictures: told by content, their size checked before anything is decoded, row by row or whole."""

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.decoders.memory import DEFAULT_DECODER_MEMORY, Limits
from onebranch.images.formats import Format, foreign_format, format_names, format_of_content
from onebranch.images.picture import Picture
from onebranch.images.rows import Header, Reader

if TYPE_CHECKING:
    from onebranch.images.animation import Animation

ROWS = 1500
"""Rows that are held on their way through libvips, with all buffers, measured."""

MAX_PIXELS = 1_000_000_000
"""Largest picture that is decoded unasked: 3 GB in 8 bits. Larger ones are said to be so by bombs, mostly."""


def open_picture(
    path: Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY
) -> Reader:
    """The picture in a file as rows from the top, upright; of an animation or a document the first frame.

    The format is told by content, not by name. 8 and 16 bits and float stay what they are, grey stays grey;
    palettes and 1-bit pictures become what they show; CMYK, Lab and linear light take a `Route` and are
    float32. The size in the header is held against `max_pixels` before anything is decoded, and what a
    decoder must hold at one time (`decoders.memory`) against `memory`, in bytes. Large turned or interlaced
    pictures take a temporary file (see `decoders.temporary_file`). OnebranchError, one line naming the file,
    if it cannot be read; what is damaged further down is said by `Reader.read`.
    """
    from onebranch.images.decoders.decoding import open_file

    path = Path(path)
    return open_file(path, _format_of_file(path), Limits(max_pixels, memory))


def bytes_for_reading(header: Header) -> int:
    """Memory that the picture's `Reader` takes, about, beside the rows that it gives."""
    layout = header.layout
    row = layout.width * layout.bands * np.dtype(layout.depth).itemsize
    return max(header.held, row * min(layout.height, ROWS))


def read(path: Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY) -> Picture:
    """The whole picture in a file; see `open_picture`."""
    with open_picture(path, max_pixels=max_pixels, memory=memory) as reader:
        header = reader.header
        samples = reader.read(header.layout.height)
    channels = header.layout.channels
    return Picture(
        np.ascontiguousarray(samples[..., :channels]),
        np.ascontiguousarray(samples[..., channels]) if header.layout.alpha else None,
        header.metadata,
        header.notes,
        header.route,
    )


def read_animation(
    path: Path | str, *, max_pixels: int = MAX_PIXELS, memory: int = DEFAULT_DECODER_MEMORY
) -> "Animation":
    """All frames of a GIF or WebP, as they are shown, with their timing; one frame of anything else.

    `max_pixels` and `memory` are held against all frames together. Errors as in `open_picture`.
    """
    from onebranch.images.animation import Animation
    from onebranch.images.decoders.decoding import decode_animation

    path = Path(path)
    form = _format_of_file(path)
    if form.name not in ("GIF", "WebP") or frames_of(path) == 1:
        return Animation((read(path, max_pixels=max_pixels, memory=memory),), (0,), 0)
    return decode_animation(path, form, Limits(max_pixels, memory))


def frames_of(path: Path | str) -> int:
    """How many frames an animated GIF or WebP has, by its header; 1 for anything else."""
    from onebranch.images.decoders.decoding import count_frames

    path = Path(path)
    form = _format_of_file(path)
    return count_frames(path, form) if form.name in ("GIF", "WebP") else 1


def _format_of_file(path: Path) -> Format:
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise OnebranchError(f"cannot read '{path}': it is not a file")
        with path.open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError) as error:
        raise OnebranchError(f"cannot read '{path}': {_why(error)}") from None
    form = format_of_content(head)
    if form is None:
        raise OnebranchError(f"cannot read '{path}': {_told(head)}")
    return form


def _told(head: bytes) -> str:
    foreign = foreign_format(head)
    if foreign:
        return f"it is {foreign}, which is not read; convert it to PNG or TIFF first"
    return f"{'it is not' if head else 'it is empty, not'} a {format_names()} picture"


def _why(error: Exception) -> str:
    """The reason in the operating system's words, lower case: 'no such file or directory'."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:1].lower() + text[1:]
