"""JPEG files: segments, frame header, density and comments (ITU-T T.81; JFIF is ITU-T T.871)."""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from onebranch.images.containers.errors import ContainerError
from onebranch.images.containers.tiff import TiffReader

SOI = b"\xff\xd8"
SOS, EOI, APP0, APP1, APP2, COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xFE

JFIF = b"JFIF\0"
"""The first bytes of the APP0 segment of JFIF."""

MULTI_PICTURE = b"MPF\0"
"""The first bytes of the APP2 segment of a multi-picture file (CIPA DC-007); a TIFF structure follows."""

MULTI_PICTURE_ENTRIES = 0xB002
"""The TIFF tag (MP Entry) that holds the index of the pictures."""

PREVIEW_KINDS = (0x010001, 0x010002)
"""Kinds of pictures in a multi-picture file that are smaller copies of the first one."""

ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
"""The first bytes of the APP2 segment of a picture with a gain map (ISO 21496-1)."""

XMP = b"http://ns.adobe.com/xap/1.0/\0"
"""The first bytes of the APP1 segment of XMP."""

PICTURE_START, VIDEO_START = b"\xff\xd8\xff", b"ftyp"

MAX_PADDING_BYTES = 1 << 16
"""Largest gap, in bytes, between two consecutive pictures in a file."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker in image data, other than restart markers and escaped bytes."""

FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers, SOF0 to SOF15 (T.81, table B.1)."""

PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)

WITHOUT_CONTENT = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers that are not followed by a length: TEM, RST0 to RST7, SOI."""

MAX_SEGMENTS = 10_000
"""Largest number of segments that are read."""

MAX_SEGMENT_BYTES = 65_533
"""Largest content of a segment: the 16-bit length includes its own two bytes."""

MOVED_BYTES = 1 << 20
"""Number of bytes of a file that are moved at a time."""

ASPECT_RATIO_ONLY, PER_INCH, PER_CENTIMETRE = 0, 1, 2
"""Units of density in JFIF. Without a unit, the two numbers state only the pixel aspect ratio."""


class Segment(NamedTuple):
    """A segment: the last byte of its marker, and its content without the length field."""

    marker: int
    content: bytes


@dataclass(frozen=True)
class JpegStructure:
    """What the segments before the image data of a JPEG file state.

    components: samples per pixel. sampling: horizontal and vertical sampling factors of each component.
    multiple_scans: True if the image data is split into several scans, for which the decoder must hold all
    coefficients. density: (x, y, unit) from JFIF; None without JFIF. comments: contents of the COM segments.
    pictures: number of pictures in the file, not counting previews. has_preview, has_gain_map, has_video:
    True if the file also holds such content.
    """

    width: int = 0
    height: int = 0
    components: int = 0
    sampling: tuple[tuple[int, int], ...] = ()
    multiple_scans: bool = False
    density: tuple[int, int, int] | None = None
    comments: tuple[bytes, ...] = ()
    pictures: int = 1
    has_preview: bool = False
    has_gain_map: bool = False
    has_video: bool = False

    @property
    def is_420(self) -> bool:
        """True if both chroma components have half the resolution in both directions."""
        return self.sampling == ((2, 2), (1, 1), (1, 1))


def read_structure(file: BinaryIO) -> JpegStructure:
    """The structure of a JPEG file; damaged parts are ignored."""
    structure = JpegStructure()
    try:
        for marker, content in segments(file):
            structure = _with_segment(structure, marker, content)
    except ContainerError:
        return structure
    return _with_trailer(structure, file)


def _with_trailer(structure: JpegStructure, file: BinaryIO) -> JpegStructure:
    """The structure with what follows the first picture. The file position must be after the first SOS."""
    position = file.tell()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = _end_of_picture(content, position)
        if end >= len(content):
            return structure
        video = content.find(VIDEO_START, end)
        last = end + MAX_PADDING_BYTES if video < 0 else min(video, end + MAX_PADDING_BYTES)
        is_followed = content.find(PICTURE_START, end, last) >= 0
    pictures = structure.pictures
    if pictures == 1 and is_followed and not structure.has_preview:
        pictures = 2
    has_gain_map = structure.has_gain_map and is_followed
    return replace(structure, has_video=video >= 0, pictures=pictures, has_gain_map=has_gain_map)


def _end_of_picture(content: mmap.mmap, position: int) -> int:
    """The offset after the first EOI marker at or after `position`; the end of the file if there is none.

    position: an offset in image data. Segments between scans are skipped by their length, because their
    content may look like an EOI marker.
    """
    while match := _MARKER.search(content, position):
        marker = content[match.end() - 1]
        if marker == EOI:
            return match.end()
        position = match.end() + int.from_bytes(content[match.end() : match.end() + 2], "big")
    return len(content)


def _with_segment(structure: JpegStructure, marker: int, content: bytes) -> JpegStructure:
    """The structure with the information from one more segment."""
    if marker in FRAME_HEADERS and not structure.components:
        return _with_frame(structure, marker, content)
    if marker in (APP0, APP1, APP2):
        return _with_application_segment(structure, content)
    if marker == COMMENT:
        return replace(structure, comments=(*structure.comments, content))
    if marker == SOS and content and content[0] < structure.components:
        return replace(structure, multiple_scans=True)
    return structure


def _with_application_segment(structure: JpegStructure, content: bytes) -> JpegStructure:
    """The structure with an APPn segment's information about density and further pictures in the file."""
    if content.startswith(JFIF) and len(content) >= 12:
        unit, x, y = struct.unpack_from(">BHH", content, 7)
        return replace(structure, density=(x, y, unit) if x and y else None)
    if content.startswith(MULTI_PICTURE):
        pictures, has_preview = _multi_picture_index(content[len(MULTI_PICTURE) :])
        return replace(structure, pictures=pictures, has_preview=has_preview)
    if content.startswith(ISO_GAIN_MAP) or (content.startswith(XMP) and b"hdrgm:" in content):
        return replace(structure, has_gain_map=True)
    return structure


def _multi_picture_index(content: bytes) -> tuple[int, bool]:
    """(number of pictures that are not previews, True if there are previews) by a multi-picture index.

    The index has an entry of 16 bytes for each picture (CIPA DC-007, 5.2.3). The lowest 24 bits of its first
    four bytes are the kind of the picture; kinds 0x010001 and 0x010002 are previews.
    """
    try:
        tiff = TiffReader(BytesIO(content))
        entry = tiff.directory(tiff.first_offset).entry(MULTI_PICTURE_ENTRIES)
        entries = b"" if entry is None else tiff.content(entry)
    except ContainerError:
        return 1, False
    rows = range(0, len(entries) // 16 * 16, 16)
    kinds = [tiff.format.unpack("I", entries[row : row + 4])[0] & 0xFFFFFF for row in rows]
    previews = sum(kind in PREVIEW_KINDS for kind in kinds)
    return max(1, len(kinds) - previews), previews > 0


def segments(file: BinaryIO) -> Iterator[Segment]:
    """The segments of a JPEG up to and including the first SOS. Raises ContainerError if it is damaged."""
    file.seek(len(SOI))
    for _ in range(MAX_SEGMENTS):
        marker = _next_marker(file)
        if marker == EOI:
            return
        if marker in WITHOUT_CONTENT:
            continue
        length = int.from_bytes(file.read(2), "big")
        content = file.read(max(0, length - 2))
        if length < 2 or len(content) < length - 2:
            raise ContainerError("it ends too soon")
        yield Segment(marker, content)
        if marker == SOS:
            return


def _next_marker(file: BinaryIO) -> int:
    """The last byte of the next marker; fill bytes before it are skipped (T.81, B.1.1.2)."""
    byte = file.read(1)
    while byte and byte != b"\xff":  # stray bytes, which decoders skip
        byte = file.read(1)
    while byte == b"\xff":
        byte = file.read(1)
    if not byte:
        raise ContainerError("it ends too soon")
    return byte[0]


def _with_frame(structure: JpegStructure, marker: int, content: bytes) -> JpegStructure:
    """The structure with the information from a frame header (T.81, B.2.2)."""
    if len(content) < 6 or len(content) < 6 + 3 * content[5]:
        raise ContainerError("its frame header is too short")
    height, width, components = struct.unpack_from(">HHB", content, 1)
    factors = content[7 : 6 + 3 * components : 3]
    return replace(
        structure,
        width=width,
        height=height,
        components=components,
        sampling=tuple((factor >> 4, factor & 15) for factor in factors),
        multiple_scans=marker in PROGRESSIVE,
    )


def jfif_segment(density: tuple[int, int, int]) -> bytes:
    """A complete JFIF segment (T.871, 10.1) of version 1.02 without a thumbnail. density: (x, y, unit)."""
    x, y, unit = density
    return struct.pack(">HH5sHBHHBB", 0xFF00 | APP0, 16, JFIF, 0x0102, unit, x, y, 0, 0)


def segment(marker: int, content: bytes) -> bytes:
    """A complete segment with marker and length. content: at most `MAX_SEGMENT_BYTES` bytes."""
    return struct.pack(">HH", 0xFF00 | marker, len(content) + 2) + content


def insert_segments(path: Path, segments: list[bytes]) -> None:
    """Insert complete segments before all others of a JPEG file.

    The rest of the file is moved in blocks, the last block first, so that no byte is overwritten too early.
    """
    content = b"".join(segments)
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > len(SOI):
            begin = max(len(SOI), end - MOVED_BYTES)
            file.seek(begin)
            moved = file.read(end - begin)
            file.seek(begin + len(content))
            file.write(moved)
            end = begin
        file.seek(len(SOI))
        file.write(content)
