"""Pictures become files, whole or not at all: at once, or row by row for those larger than memory."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from onebranch.atomic_files import atomic_path, check_writable
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import (
    USUAL,
    Encoding,
    depth_in,
    losses,
    plain_rows,
    save,
    saved_layout,
)
from onebranch.images.encoders.pipe import Image, Pipe, of_memory
from onebranch.images.encoders.plain import PLAIN, Plain, bmp_stride
from onebranch.images.formats import Format, format_of_name
from onebranch.images.libvips import pyvips, reason
from onebranch.images.picture import Picture, Samples, as_depth
from onebranch.images.rows import Header

if TYPE_CHECKING:
    from onebranch.images.animation import Animation

ANIMATED = ("GIF", "WebP")
"""The formats in which animations are written."""

HELD = 64 << 20
"""Bytes of rows that are collected and encoded at the end; those of larger pictures go as they come."""

ROWS = 1000
"""Rows that are held on their way through libvips, with all buffers, measured."""

WHOLE = {"WebP": 6, "WebP lossless": 9, "GIF": 5, "AVIF": 13}
"""Formats whose encoders take the picture as a whole, and how many times its size they need, measured."""

BESIDE = {"AVIF": 20_000_000}
"""Bytes that an encoder takes for the smallest picture, measured."""

LARGEST_BMP = 2**32 - 1
"""Bytes: its header counts them in 32 bits."""


def plan(path: Path | str, header: Header, encoding: Encoding = USUAL) -> tuple[str, ...]:
    """What the file will not hold of a picture, one line each, before any work is done.

    OnebranchError if there can be no such file: its format is unknown, too small for the sides, has no
    transparency (a picture with alpha counts as transparent), or cannot do what is asked of the encoding.
    """
    path, layout = Path(path), header.layout
    form = format_of_name(path)
    if max(layout.height, layout.width) > form.side:
        raise OnebranchError(
            f"cannot write '{path}': {form.name} holds at most {form.side} pixels a side,"
            f" not {layout.width}x{layout.height}; choose PNG or TIFF"
        )
    if form.name == "BMP" and bmp_stride(layout) * layout.height + 2048 > LARGEST_BMP:
        raise OnebranchError(f"cannot write '{path}': a BMP file ends at 4 GB; choose PNG or TIFF")
    if layout.alpha and not form.alpha:
        raise OnebranchError(
            f"cannot write '{path}': {form.name} has no transparency; choose PNG, WebP or TIFF"
        )
    if encoding.lossless and form.name == "JPEG":
        raise OnebranchError(f"cannot write '{path}' without loss: JPEG always has some; choose PNG or WebP")
    return losses(header, form, encoding)


def bytes_for_writing(path: Path | str, header: Header, encoding: Encoding = USUAL) -> int:
    """Memory that a `Writer` takes, about, beside the rows that it is given."""
    layout, form = header.layout, format_of_name(Path(path))
    row = layout.width * layout.bands * np.dtype(layout.depth).itemsize
    if form.name not in WHOLE:
        return row * min(layout.height, ROWS)
    way = "WebP lossless" if form.name == "WebP" and encoding.lossless else form.name
    encoded = layout.height * layout.width * (3 + layout.alpha)  # in 8 bits, grey too
    return WHOLE[way] * encoded + BESIDE.get(form.name, 0) + min(HELD, layout.height * row)


def write(
    picture: Picture,
    path: Path | str,
    *,
    encoding: Encoding | None = None,
    quality: int | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a picture in the format of the path's suffix, atomically: the whole file appears, or nothing.

    encoding: or its quality and lossless alone. Samples deeper than the format holds are rounded; an alpha
    that hides nothing is left out where there is no place for it. An existing file is an error unless
    `overwrite`. OnebranchError says what is wrong before any work is done (`plan`), or that the disk is full.
    """
    encoding = encoding or Encoding(quality, lossless)
    path = Path(path)
    if not format_of_name(path).alpha and picture.opaque:
        picture = replace(picture, alpha=None)
    with Writer(path, picture.header, encoding, overwrite=overwrite) as writer:
        writer.write(picture.samples())


class Writer:
    """A picture file that is written row by row, in bounded memory, and appears when it is closed.

    A context manager: after an exception nothing is left behind. OnebranchError where `plan` raises it, if
    the name is taken and not `overwrite`, there is no such folder, or the disk is full. WebP, AVIF and GIF
    are encoded in memory as a whole.
    """

    def __init__(
        self, path: Path | str, header: Header, encoding: Encoding = USUAL, *, overwrite: bool = False
    ) -> None:
        self._path, self._header, self._encoding = Path(path), header, encoding
        plan(self._path, header, encoding)
        check_writable(self._path, overwrite)
        self._form = format_of_name(self._path)
        self._layout = saved_layout(self._form, header)
        self._missing = header.layout.height
        self._left = ExitStack()
        self._temporary = self._left.enter_context(atomic_path(self._path, overwrite))
        self._way: _Held | Pipe | _PlainFile | None = None

    def write(self, rows: Samples) -> None:
        """The next rows (N, W, bands) of the header's layout, which must not change afterwards."""
        layout = self._layout
        assert rows.shape[1:] == (layout.width, self._header.layout.bands), "rows must fit the header"
        self._missing -= len(rows)
        assert self._missing >= 0, "there are no more rows than the header says"
        if self._way is None:
            self._way = self._way_for(len(rows))
        self._way.write(np.ascontiguousarray(as_depth(rows[..., : layout.bands], layout.depth)))

    def close(self) -> None:
        """Finish the file and give it its name. OnebranchError if rows are missing."""
        try:
            if self._missing:
                raise OnebranchError(f"cannot write '{self._path}': {self._missing} rows are missing")
            assert self._way is not None, "a picture has rows"
            self._way.close()
        except BaseException as problem:
            self._drop(problem)
            raise
        self._left.close()

    def _drop(self, problem: BaseException) -> None:
        if self._way is not None:
            self._way.abandon()
        self._left.__exit__(type(problem), problem, problem.__traceback__)

    def _save(self, image: Image) -> None:
        _saved(image, self._header, self._form, self._encoding, self._path, self._temporary)

    def _way_for(self, rows: int) -> "_Held | Pipe | _PlainFile":
        """The way of a picture of which so many rows came at first."""
        layout = self._layout
        if self._form.name in PLAIN:
            return _PlainFile(self._temporary, self._form, self._header)
        size = layout.height * layout.width * layout.bands * np.dtype(layout.depth).itemsize
        if rows == layout.height or size <= HELD:
            return _Held(self._save)
        return Pipe(layout, self._save)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if problem is None:
            self.close()
        else:
            self._drop(problem)


class _Held:
    """Rows collected, and encoded from memory at the end."""

    def __init__(self, save: Callable[[Image], None]) -> None:
        self._save = save
        self._rows: list[Samples] = []

    def write(self, rows: Samples) -> None:
        self._rows.append(rows)

    def close(self) -> None:
        samples = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
        self._rows = [samples]  # libvips does not keep them alive
        self._save(of_memory(samples))

    def abandon(self) -> None:
        self._rows = []


class _PlainFile:
    """Rows written by ourselves."""

    def __init__(self, path: Path, form: Format, header: Header) -> None:
        self._file, self._form, self._header = path.open("xb"), form, header
        try:
            layout = replace(saved_layout(form, header), depth=depth_in(form, header))
            self._plain: Plain = PLAIN[form.name](self._file, layout)
        except BaseException:
            self._file.close()
            raise

    def write(self, rows: Samples) -> None:
        self._plain.write(plain_rows(rows, self._header, self._form))

    def close(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


def write_animation(
    animation: "Animation", path: Path | str, encoding: Encoding = USUAL, *, overwrite: bool = False
) -> None:
    """Write the frames as an animated GIF or WebP, with their timing; errors as in `write`.

    GIF counts hundredths of a second, so delays are rounded there, their sum once. In WebP frames that are
    equal and follow each other become one of their time together, and up to 10 ms become 100, for which
    browsers show such frames in any case.
    """
    path = Path(path)
    form = format_of_name(path)
    first = animation.frames[0]
    if form.name not in ANIMATED:
        raise OnebranchError(f"cannot write '{path}': {form.name} holds no animation; choose WebP or GIF")
    plan(path, first.header, encoding)
    check_writable(path, overwrite)
    depth = saved_layout(form, first.header).depth
    samples = np.concatenate([as_depth(frame.samples(), depth) for frame in animation.frames])
    image = of_memory(np.ascontiguousarray(samples)).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", first.height)
    delays = _hundredths(animation.delays) if form.name == "GIF" else animation.delays
    image.set_type(pyvips.GValue.array_int_type, "delay", list(delays))
    image.set_type(pyvips.GValue.gint_type, "loop", animation.loop)
    with atomic_path(path, overwrite) as temporary:
        _saved(image, first.header, form, encoding, path, temporary)


def _hundredths(delays: tuple[int, ...]) -> tuple[int, ...]:
    """Delays of 10 ms each, such that no frame begins more than 5 ms too early or late.

    >>> _hundredths((33, 33, 33, 100))
    (30, 40, 30, 100)
    """
    begins = [10 * round(begin / 10) for begin in itertools.accumulate(delays, initial=0)]
    return tuple(end - begin for begin, end in itertools.pairwise(begins))


def _saved(
    image: Image, header: Header, form: Format, encoding: Encoding, path: Path, temporary: Path
) -> None:
    """Save under the temporary name; what fails is told of the path."""
    try:
        save(image, header, form, encoding, temporary)
    except pyvips.Error as error:
        _raise_if_disk_full(temporary)
        raise OnebranchError(f"cannot write '{path}' as {form.name}: {reason(error)}") from None


def _raise_if_disk_full(path: Path) -> None:
    """The OSError of a full disk, of which savers of libvips do not tell: a little more is written."""
    with path.open("ab") as file:
        file.write(bytes(1 << 16))
