"""YUV4MPEG2: uncompressed clips on standard input and output, in order to connect any two programs.

A stream is a header line, and for every frame a line that begins with FRAME and its planes. Example of a
header: YUV4MPEG2 W960 H540 F24000:1001 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED. Source: the manual page
yuv4mpeg(5) of mjpegtools; depths above 8 bits and XCOLORRANGE are FFmpeg's additions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.video.colours import UNSPECIFIED, ColourTags, complete_tags
from onebranch.video.pixel_format import CHROMA_FACTORS, PixelFormat
from onebranch.video.plane_enhancer import FrameLayout
from onebranch.video.planes import Planes

Y4M_SIGNATURE = b"YUV4MPEG2"

MAX_LINE_BYTES = 1024
"""Longest line of a header or of a frame."""

MAX_FRAME_SIDE = 65_536
"""Largest height and width that are read, in pixels."""

SITINGS = {"420jpeg": "center", "420mpeg2": "left", "420paldv": "topleft", "420": "center"}
"""Chroma siting by the name of the colour space."""

NAMES_BY_SITING = {"center": "420jpeg", "left": "420mpeg2", "topleft": "420paldv", "top": "420jpeg"}


@dataclass(frozen=True)
class Y4mHeader:
    """What the header of a stream states. rate: frames/s. aspect: sample aspect ratio; None if unknown."""

    layout: FrameLayout
    rate: Fraction
    aspect: Fraction | None = None
    interlacing: str = "p"

    @property
    def frame_bytes(self) -> int:
        """Bytes of the planes of a frame."""
        kind = self.layout.pixel_format
        sizes = [kind.plane_size(index, *self.layout.size) for index in range(kind.plane_count)]
        return sum(height * width for height, width in sizes) * np.dtype(kind.dtype).itemsize


def parse_header(line: bytes) -> Y4mHeader:
    """The header of a stream. Raises OnebranchError if the line is not a header of a supported format.

    >>> header = parse_header(b"YUV4MPEG2 W16 H8 F30000:1001 C420p10")
    >>> header.layout.pixel_format.name, header.rate
    ('yuv420p10le', Fraction(30000, 1001))
    """
    signature, *words = line.rstrip(b"\n").decode("latin-1").split(" ")
    if signature != Y4M_SIGNATURE.decode():
        raise OnebranchError("the input is no Y4M stream; make one with: ffmpeg -i CLIP -f yuv4mpegpipe -")
    fields = {word[:1]: word[1:] for word in words if word[:1] != "X"}
    full_range = "XCOLORRANGE=FULL" in words
    colour_space = fields.get("C", "420jpeg")
    try:
        size = int(fields["H"]), int(fields["W"])
        rate = _ratio(fields.get("F", "25:1")) or Fraction(25)
        aspect = _ratio(fields.get("A", "0:0"))
        pixel_format = parse_colour_space(colour_space)
    except (KeyError, ValueError, ZeroDivisionError):
        raise OnebranchError(
            f"the header of the Y4M stream cannot be read: '{line.decode('latin-1')}'"
        ) from None
    if rate < 0 or (aspect or 0) < 0:
        raise OnebranchError(f"the Y4M stream has the frame rate {rate} and the sample aspect ratio {aspect}")
    if not all(1 <= side <= MAX_FRAME_SIDE for side in size):
        raise OnebranchError(
            f"the Y4M stream has frames of {size[1]}x{size[0]} pixels; sides must be 1 to {MAX_FRAME_SIDE}"
        )
    tags = ColourTags(full_range, UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, SITINGS.get(colour_space, "left"))
    layout = FrameLayout(size, pixel_format, complete_tags(tags, *size))
    return Y4mHeader(layout, rate, aspect, fields.get("I", "p"))


def _ratio(text: str) -> Fraction | None:
    """The fraction in a text such as "30000:1001"; None for 0."""
    numerator, _, denominator = text.partition(":")
    return Fraction(int(numerator), int(denominator)) if int(numerator) else None


def parse_colour_space(name: str) -> PixelFormat:
    """The pixel format of a colour space such as "420jpeg", "422p10", "444alpha" or "mono12".

    Raises ValueError if it is unknown.
    """
    if name in SITINGS:
        return PixelFormat("yuv", 8, CHROMA_FACTORS["420"])
    if name == "444alpha":
        return PixelFormat("yuv", 8, CHROMA_FACTORS["444"], alpha=True)
    match = re.fullmatch(r"mono(\d{1,2})?|(\d{3})(?:p(\d{1,2}))?", name)
    if match is None:
        raise ValueError(name)
    grey_depth, number, colour_depth = match.groups()
    depth = int(grey_depth or colour_depth or 8)
    if not 8 <= depth <= 16 or (number and number not in CHROMA_FACTORS):
        raise ValueError(name)
    return PixelFormat("yuv", depth, CHROMA_FACTORS[number]) if number else PixelFormat("grey", depth)


def colour_space(pixel_format: PixelFormat, siting: str) -> str:
    """The name of a colour space. Raises OnebranchError if Y4M has none for that pixel format.

    >>> colour_space(PixelFormat("yuv", 8, (2, 2)), "left"), colour_space(PixelFormat("grey", 10), "left")
    ('420mpeg2', 'mono10')
    """
    with_alpha = PixelFormat("yuv", 8, alpha=True)
    if pixel_format.model == "rgb" or (pixel_format.alpha and pixel_format != with_alpha):
        raise OnebranchError(f"Y4M cannot hold {pixel_format.words}; write a file such as .mkv")
    bits = "" if pixel_format.depth == 8 else f"{pixel_format.depth}"
    if pixel_format.model == "grey":
        return f"mono{bits}"
    number = next(number for number, factors in CHROMA_FACTORS.items() if factors == pixel_format.chroma)
    if pixel_format.alpha:
        return "444alpha"
    if number == "420" and not bits:
        return NAMES_BY_SITING[siting]
    return f"{number}p{bits}" if bits else number


def header_line(header: Y4mHeader) -> bytes:
    """The header of a stream as bytes. Raises the errors of `colour_space`.

    >>> header_line(parse_header(b"YUV4MPEG2 W16 H8 F25:1 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED"))
    b'YUV4MPEG2 W16 H8 F25:1 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED\\n'
    """
    layout, rate = header.layout, header.rate
    aspect = header.aspect or Fraction(0)
    ratio = f"{aspect.numerator}:{aspect.denominator if aspect else 0}"
    colours = colour_space(layout.pixel_format, layout.tags.siting)
    colour_range = "FULL" if layout.tags.full_range else "LIMITED"
    height, width = layout.size
    return (
        f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} I{header.interlacing}"
        f" A{ratio} C{colours} XCOLORRANGE={colour_range}\n"
    ).encode()


class Y4mReader:
    """Reads the frames of a stream. Raises OnebranchError at construction if it has no valid header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        line = file.readline(MAX_LINE_BYTES)
        if line.startswith(Y4M_SIGNATURE) and not line.endswith(b"\n"):
            raise OnebranchError(f"the header of the Y4M stream does not end within {MAX_LINE_BYTES} bytes")
        self.header = parse_header(line)

    def frames(self) -> Iterator[Planes]:
        """The planes of every frame. Raises OnebranchError if the stream is damaged or cut off."""
        number = 0
        while line := self._file.readline(MAX_LINE_BYTES):
            if not line.startswith(b"FRAME") or not line.endswith(b"\n"):
                raise OnebranchError(f"the Y4M stream is damaged at frame {number}")
            content = self._file.read(self.header.frame_bytes)
            if len(content) < self.header.frame_bytes:
                raise OnebranchError(f"the Y4M stream ends inside frame {number}")
            yield split_planes(content, self.header.layout)
            number += 1


def split_planes(content: bytes, layout: FrameLayout) -> Planes:
    """The planes in the content of a frame."""
    kind, at = layout.pixel_format, 0
    samples = np.frombuffer(content, np.dtype(kind.dtype).newbyteorder("<"))
    planes = []
    for index in range(kind.plane_count):
        height, width = kind.plane_size(index, *layout.size)
        planes.append(samples[at : at + height * width].reshape(height, width).astype(kind.dtype, copy=False))
        at += height * width
    return tuple(planes)


class Y4mWriter:
    """Writes a stream."""

    def __init__(self, file: BinaryIO, header: Y4mHeader) -> None:
        self._file = file
        file.write(header_line(header))

    def write(self, planes: Planes) -> None:
        """Write one frame and flush the stream, so that its reader gets the frame at once."""
        self._file.write(b"FRAME\n")
        for plane in planes:
            little_endian = plane.dtype.newbyteorder("<")
            self._file.write(np.ascontiguousarray(plane, little_endian).tobytes())
        self._file.flush()
