"""Encoding of PNG, JPEG and PPM while the rows arrive. The bytes of the file are sent in pieces.

The sent bytes are those of the file that a `Writer` writes. After libvips has written that file, a `Writer`
adds some metadata (verbatim EXIF, density, texts, comments), either before the image data or at the very end.
So the bytes before the image data are collected, completed like a file, and sent when the image data begins.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from onebranch.images.containers import jpeg, png
from onebranch.images.density import DEFAULT_DENSITY
from onebranch.images.encoders import verbatim_exif
from onebranch.images.encoders.completion import complete_file
from onebranch.images.encoders.encoding import Encoding, prepared, written_metadata
from onebranch.images.encoders.output_colours import encoder_layout, output_colours
from onebranch.images.encoders.pipe import Pipe
from onebranch.images.encoders.plain import PpmEncoder
from onebranch.images.formats import Format
from onebranch.images.libvips import VipsImage, pyvips
from onebranch.images.metadata import Metadata
from onebranch.images.rows import Header
from onebranch.images.samples import Samples, as_depth

STREAMED_FORMATS = ("PNG", "JPEG", "PPM")
"""The formats that are written sequentially by encoders that need only a few rows at a time."""

EMPTY_IMAGE_DATA = png.chunk_bytes(b"IDAT")
"""An empty chunk that marks the position of the image data in a PNG file without image data."""

Send = Callable[[bytes], None]
"""Called with the next bytes of the file. An exception aborts the encoding."""


class StreamWriter:
    """Encodes the rows (N, W, bands) of a picture, from the top, and passes the bytes to `send`.

    header: the header of the picture. file_format: one of `STREAMED_FORMATS`. send: may be called from
    another thread, but never from two threads at once.
    """

    def __init__(self, header: Header, file_format: Format, encoding: Encoding, send: Send) -> None:
        self._format, self._header, self._encoding = file_format, header, encoding
        self._colours = output_colours(header, file_format)
        self._layout = encoder_layout(self._colours, file_format)
        self._pipe: Pipe | None = None
        if file_format.name == "PPM":
            layout = replace(self._layout, depth=self._colours.depth)
            self._plain = PpmEncoder(_SendingFile(send), layout, DEFAULT_DENSITY)
        else:
            metadata = _given_metadata(header, encoding)
            self._output = _CompletedOutput(send, file_format, *metadata)
            self._pipe = Pipe(self._layout, self._encode)

    def write(self, rows: Samples) -> None:
        """Encode the next rows. The array must not change afterwards."""
        rows = as_depth(rows[..., : self._layout.bands], self._layout.depth)
        if self._pipe is None:
            self._plain.write(self._colours.convert_rows(rows))
        else:
            self._pipe.write(rows)

    def close(self) -> None:
        """Encode the remaining rows and send the last bytes."""
        if self._pipe is not None:
            self._pipe.close()

    def abandon(self) -> None:
        """Abort. The bytes that have been sent are not a complete file."""
        if self._pipe is not None:
            self._pipe.abandon()

    def _encode(self, image: VipsImage) -> None:
        given = self._output.given
        operation, options, image = prepared(image, self._colours, given, self._format, self._encoding)
        target = pyvips.TargetCustom()
        problems: list[BaseException] = []

        def write(content: bytes) -> int:
            try:
                self._output.write(bytes(content))
            except BaseException as problem:  # an exception cannot pass through libvips
                problems.append(problem)
                return -1
            return len(content)

        target.on_write(write)
        try:
            getattr(image, f"{operation}_target")(target, **options)
        except pyvips.Error:
            if not problems:
                raise
        if problems:
            raise problems[0]
        self._output.close()


def _given_metadata(header: Header, encoding: Encoding) -> tuple[Metadata, Metadata, bytes | None]:
    """(the metadata to write, the metadata to give to libvips, the EXIF that replaces its placeholder)."""
    metadata = written_metadata(header, encoding)
    exif = metadata.exif
    if exif is None or not verbatim_exif.can_be_verbatim(exif):
        return metadata, metadata, None
    return metadata, replace(metadata, exif=verbatim_exif.placeholder(exif)), exif


class _CompletedOutput:
    """Passes libvips' bytes to `send` and adds what libvips does not write. given: libvips' metadata."""

    def __init__(
        self, send: Send, file_format: Format, metadata: Metadata, given: Metadata, exif: bytes | None
    ) -> None:
        self.given = given
        self._send, self._format, self._metadata, self._exif = send, file_format, metadata, exif
        self._held, self._image_data_began = bytearray(), False
        self._ending = b""

    def write(self, content: bytes) -> None:
        """Take the next bytes."""
        self._held += content
        if not self._image_data_began:
            length = _BEGIN_OF_IMAGE_DATA[self._format.name](self._held)
            if length is None:
                return
            head, self._ending = self._completed(bytes(self._held[:length]))
            del self._held[:length]
            self._send(head)
            self._image_data_began = True
        kept = len(png.IEND) if self._ending else 0
        if len(self._held) > kept:
            self._send(bytes(self._held[: len(self._held) - kept]))
            del self._held[: len(self._held) - kept]

    def close(self) -> None:
        """Send the end of the file."""
        assert self._image_data_began, "a complete file has image data"
        if self._ending:
            assert self._held == png.IEND, "a PNG ends with IEND"
            self._send(self._ending)

    def _completed(self, head: bytes) -> tuple[bytes, bytes]:
        """(the completed bytes before the image data, the bytes that replace IEND in a PNG).

        head: the bytes that libvips writes before the image data.
        """
        import tempfile  # imported late: most pictures are written to files

        is_png = self._format.name == "PNG"
        with tempfile.TemporaryDirectory(prefix="onebranch-") as folder:
            path = Path(folder, "head")
            path.write_bytes(head + EMPTY_IMAGE_DATA + png.IEND if is_png else head)
            if self._exif is not None:
                verbatim_exif.replace_placeholder(path, self._exif)
            complete_file(path, self._format, self._metadata)
            content = path.read_bytes()
        if not is_png:
            return content, b""
        before, _, behind = content.rpartition(EMPTY_IMAGE_DATA)
        return before, behind


def _png_image_data(content: bytes | bytearray) -> int | None:
    """The offset of the first IDAT chunk; None if `content` ends before it."""
    offset = len(png.SIGNATURE)
    while len(content) >= offset + 8:
        if content[offset + 4 : offset + 8] == b"IDAT":
            return offset
        offset += 12 + int.from_bytes(content[offset : offset + 4], "big")
    return None


def _jpeg_image_data(content: bytes | bytearray) -> int | None:
    """The offset of the first SOS segment; None if `content` ends before it."""
    offset = len(jpeg.SOI)
    while len(content) >= offset + 4:
        if content[offset + 1] == jpeg.SOS:
            return offset
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
    return None


_BEGIN_OF_IMAGE_DATA: dict[str, Callable[[bytes | bytearray], int | None]] = {
    "PNG": _png_image_data,
    "JPEG": _jpeg_image_data,
}
"""The function that finds the offset of the image data, by format."""


class _SendingFile:
    """A file whose content is passed to `send`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def write(self, content: "bytes | memoryview") -> None:
        """Send the bytes."""
        self._send(bytes(content))
