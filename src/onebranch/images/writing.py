"""Atomic writing of picture files: a file appears complete or not at all. Large ones are written by rows."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from onebranch.atomic_files import atomic_path, check_writable
from onebranch.errors import OnebranchError
from onebranch.images.attributes import FileAttributes
from onebranch.images.density import DEFAULT_DENSITY, Density
from onebranch.images.encoders.encoding import DEFAULT_ENCODING, Encoding, losses, save, written_metadata
from onebranch.images.encoders.output_colours import OutputColours, encoder_layout, output_colours
from onebranch.images.encoders.pipe import Pipe, of_memory
from onebranch.images.encoders.plain import PLAIN_ENCODERS, PlainEncoder, bmp_row_bytes
from onebranch.images.formats import Format, format_of_name
from onebranch.images.libvips import VipsImage, pyvips, reason
from onebranch.images.picture import Picture
from onebranch.images.rows import Header
from onebranch.images.samples import Samples, as_depth

if TYPE_CHECKING:
    from onebranch.images.animation import Animation

ANIMATION_FORMATS = ("GIF", "WebP")
"""The formats in which animations can be written."""

MAX_COLLECTED_BYTES = 64 << 20
"""Pictures with at most this many bytes are encoded at the end; larger ones are encoded by rows."""

ENCODER_ROWS = 1000
"""Number of rows that libvips holds in its buffers while it encodes (measured)."""

WHOLE_PICTURE_FACTORS = {"WebP": 6, "WebP lossless": 9, "GIF": 5, "AVIF": 13}
"""The formats whose encoders need the whole picture, with their memory per byte of it (measured)."""

ENCODER_BYTES = {"AVIF": 20_000_000}
"""Bytes that an encoder needs even for the smallest picture (measured)."""

MAX_BMP_BYTES = 2**32 - 1
"""Bytes of the largest BMP file: its header stores the file size in 32 bits."""

BMP_PALETTE_BYTES = 2048
"""Upper bound of the bytes of a BMP's headers and palette."""

DISK_PROBE_BYTES = 1 << 16
"""Number of bytes that are written to find out whether the disk is full."""


def check_target(path: Path | str, header: Header, encoding: Encoding = DEFAULT_ENCODING) -> tuple[str, ...]:
    """Notes about what is lost if the picture is written to that file, one line each.

    Raises OnebranchError if the format is unknown, cannot hold pictures of this size, has no transparency (a
    picture with alpha counts as transparent), or does not support the encoding.
    """
    path, layout = Path(path), header.layout
    file_format = format_of_name(path)
    name = file_format.name
    if max(layout.height, layout.width) > file_format.max_side:
        raise OnebranchError(
            f"cannot write '{path}': {name} is limited to {file_format.max_side} pixels per side,"
            f" not {layout.width}x{layout.height}; choose PNG or TIFF"
        )
    if name == "BMP" and bmp_row_bytes(layout) * layout.height + BMP_PALETTE_BYTES > MAX_BMP_BYTES:
        raise OnebranchError(f"cannot write '{path}': BMP is limited to files of 4 GB; choose PNG or TIFF")
    if layout.alpha and not file_format.alpha:
        raise OnebranchError(f"cannot write '{path}': {name} has no transparency; choose PNG, WebP or TIFF")
    if encoding.lossless and name == "JPEG":
        raise OnebranchError(f"cannot write '{path}' losslessly: JPEG is always lossy; choose PNG or WebP")
    return losses(header, file_format, encoding)


def bytes_for_writing(path: Path | str, header: Header, encoding: Encoding = DEFAULT_ENCODING) -> int:
    """The estimated bytes that a `Writer` needs, without the rows that it is given."""
    layout, name = header.layout, format_of_name(Path(path)).name
    row = layout.width * layout.bands * np.dtype(layout.depth).itemsize
    if name not in WHOLE_PICTURE_FACTORS:
        return row * min(layout.height, ENCODER_ROWS)
    factor = WHOLE_PICTURE_FACTORS["WebP lossless" if name == "WebP" and encoding.lossless else name]
    encoded = layout.height * layout.width * (3 + layout.alpha)  # 8 bits; grey becomes three channels
    collected = min(MAX_COLLECTED_BYTES, layout.height * row)
    return factor * encoded + ENCODER_BYTES.get(name, 0) + collected


def write(
    picture: Picture,
    path: Path | str,
    *,
    encoding: Encoding | None = None,
    quality: int | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a picture atomically, in the format of the path's suffix.

    encoding: how it is encoded; quality and lossless are a short form of it. Samples that are deeper than the
    format can hold are rounded; fully opaque alpha is left out in formats without alpha. An existing file is
    an error unless `overwrite` is set. Raises OnebranchError before any work is done if the picture cannot be
    written (`check_target`), and later if the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Picture(np.zeros((8, 8, 3), np.uint8)), Path(folder) / "black.png")
    ...     (Path(folder) / "black.png").stat().st_size > 0
    True
    """
    encoding = encoding or Encoding(quality, lossless)
    path = Path(path)
    if not format_of_name(path).alpha and picture.opaque:
        picture = replace(picture, alpha=None)
    with Writer(path, picture.header, encoding, overwrite=overwrite) as writer:
        writer.write(picture.samples())


class _RowEncoder(Protocol):
    """Encodes the rows of a `Writer`."""

    def write(self, rows: Samples) -> None:
        """Take the next rows, in `encoder_layout`. The array must not change afterwards."""

    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Abort; no file is written."""


class Writer:
    """Writes a picture file by rows, in bounded memory. The file appears when the writer is closed.

    It is a context manager; after an exception, nothing is left behind. WebP, AVIF and GIF are encoded in
    memory as a whole. attributes: those of the finished file; by default those of a new file. Raises the
    errors of `check_target`, and OnebranchError if the file exists and `overwrite` is not set, the folder
    does not exist, or the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        header: Header,
        encoding: Encoding = DEFAULT_ENCODING,
        *,
        overwrite: bool = False,
        attributes: FileAttributes | None = None,
    ) -> None:
        self._path, self._header, self._encoding = Path(path), header, encoding
        self._attributes = attributes
        check_target(self._path, header, encoding)
        check_writable(self._path, overwrite)
        self._format = format_of_name(self._path)
        self._colours = output_colours(header, self._format)
        self._layout = encoder_layout(self._colours, self._format)
        self._missing_rows = header.layout.height
        self._cleanup = ExitStack()
        self._temporary = self._cleanup.enter_context(atomic_path(self._path, overwrite))
        self._encoder: _RowEncoder | None = None

    def write(self, rows: Samples) -> None:
        """Write the next rows (N, W, bands) in the header's layout. The array must not change afterwards."""
        layout = self._layout
        assert rows.shape[1:] == (layout.width, self._header.layout.bands), "rows must fit the header"
        self._missing_rows -= len(rows)
        assert self._missing_rows >= 0, "there are at most as many rows as the header states"
        if self._encoder is None:
            self._encoder = self._open_encoder(len(rows))
        self._encoder.write(np.ascontiguousarray(as_depth(rows[..., : layout.bands], layout.depth)))

    def close(self) -> None:
        """Finish the file and rename it to its path. Raises OnebranchError if rows are missing."""
        try:
            if self._missing_rows:
                raise OnebranchError(f"cannot write '{self._path}': rows are missing: {self._missing_rows}")
            assert self._encoder is not None, "a picture has rows"
            self._encoder.close()
            if self._attributes is not None:
                self._attributes.apply(self._temporary)
        except BaseException as problem:
            self._abandon(problem)
            raise
        self._cleanup.close()

    def _abandon(self, problem: BaseException) -> None:
        if self._encoder is not None:
            self._encoder.abandon()
        self._cleanup.__exit__(type(problem), problem, problem.__traceback__)

    def _save(self, image: VipsImage) -> None:
        _save_temporary(image, self._header, self._format, self._encoding, self._path, self._temporary)

    def _open_encoder(self, first_rows: int) -> _RowEncoder:
        """The encoder for the picture. first_rows: number of rows of the first call of `write`."""
        layout = self._layout
        if self._format.name in PLAIN_ENCODERS:
            density = written_metadata(self._header, self._encoding).density
            return _PlainFile(self._temporary, self._format, self._colours, density)
        size = layout.height * layout.width * layout.bands * np.dtype(layout.depth).itemsize
        if first_rows == layout.height or size <= MAX_COLLECTED_BYTES:
            return _CollectedRows(self._save)
        return Pipe(layout, self._save)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if problem is None:
            self.close()
        else:
            self._abandon(problem)


class _CollectedRows:
    """An encoder that collects all rows and encodes them at the end."""

    def __init__(self, save_image: Callable[[VipsImage], None]) -> None:
        self._save_image = save_image
        self._rows: list[Samples] = []

    def write(self, rows: Samples) -> None:
        self._rows.append(rows)

    def close(self) -> None:
        samples = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
        self._rows = [samples]  # the image does not keep them alive
        self._save_image(of_memory(samples))

    def abandon(self) -> None:
        self._rows = []


class _PlainFile:
    """The encoder for a format that libvips does not write."""

    def __init__(
        self, path: Path, file_format: Format, colours: OutputColours, density: Density | None
    ) -> None:
        self._file, self._colours = path.open("xb"), colours
        density = density if density is not None and density.is_absolute else DEFAULT_DENSITY
        try:
            layout = replace(encoder_layout(colours, file_format), depth=colours.depth)
            self._encoder: PlainEncoder = PLAIN_ENCODERS[file_format.name](self._file, layout, density)
        except BaseException:
            self._file.close()
            raise

    def write(self, rows: Samples) -> None:
        self._encoder.write(self._colours.convert_rows(rows))

    def close(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


def write_animation(
    animation: "Animation",
    path: Path | str,
    encoding: Encoding = DEFAULT_ENCODING,
    *,
    overwrite: bool = False,
    attributes: FileAttributes | None = None,
) -> None:
    """Write an animated GIF or WebP. Raises the errors of `write`.

    GIF stores delays in hundredths of a second, so they are rounded such that errors do not accumulate. In
    WebP, equal consecutive frames become one frame with the sum of their delays, and delays of up to 10 ms
    become 100 ms, which is how long browsers show such frames.
    """
    path = Path(path)
    file_format, first = format_of_name(path), animation.frames[0]
    if file_format.name not in ANIMATION_FORMATS:
        raise OnebranchError(
            f"cannot write '{path}': {file_format.name} cannot hold an animation; choose WebP or GIF"
        )
    check_target(path, first.header, encoding)
    check_writable(path, overwrite)
    depth = output_colours(first.header, file_format).row_depth
    samples = np.concatenate([as_depth(frame.samples(), depth) for frame in animation.frames])
    image = of_memory(np.ascontiguousarray(samples)).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", first.height)
    delays = _rounded_delays(animation.delays) if file_format.name == "GIF" else animation.delays
    image.set_type(pyvips.GValue.array_int_type, "delay", list(delays))
    image.set_type(pyvips.GValue.gint_type, "loop", animation.loop)
    with atomic_path(path, overwrite) as temporary:
        _save_temporary(image, first.header, file_format, encoding, path, temporary)
        if attributes is not None:
            attributes.apply(temporary)


def _rounded_delays(delays: tuple[int, ...]) -> tuple[int, ...]:
    """The delays rounded to multiples of 10 ms so that no frame begins more than 5 ms early or late.

    >>> _rounded_delays((33, 33, 33, 100))
    (30, 40, 30, 100)
    """
    begins = [10 * round(begin / 10) for begin in itertools.accumulate(delays, initial=0)]
    return tuple(end - begin for begin, end in itertools.pairwise(begins))


def _save_temporary(
    image: VipsImage, header: Header, file_format: Format, encoding: Encoding, path: Path, temporary: Path
) -> None:
    """Save the image to the temporary file. Error messages name the final path."""
    try:
        save(image, header, file_format, encoding, temporary)
    except pyvips.Error as error:
        _raise_if_disk_full(temporary)
        raise OnebranchError(f"cannot write '{path}' as {file_format.name}: {reason(error)}") from None


def _raise_if_disk_full(path: Path) -> None:
    """Write some more bytes, which raises OSError if the disk is full. (libvips does not report it.)"""
    with path.open("ab") as file:
        file.write(bytes(DISK_PROBE_BYTES))
