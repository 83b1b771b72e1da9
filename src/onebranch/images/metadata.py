"""What a picture's file holds beside its samples, and how it stays true when the picture changes.

EXIF is edited in its bytes (TIFF 6.0; CIPA DC-008): nothing moves, so that makers' notes stay readable.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onebranch.images.png_text import tells_place
from onebranch.images.xmp_places import without_places

ORIENTATION, GPS, THUMBNAIL, THUMBNAIL_BYTES = 0x0112, 0x8825, 0x0201, 0x0202
"""EXIF tags."""

SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)
"""Bytes of a value of each type of field."""

WIDTHS, HEIGHTS, DETAILS = (0x0100, 0xA002), (0x0101, 0xA003), 0x8769
"""EXIF tags: what tells the size in pixels, in the first directory and in that of details."""


THUMBNAILS_END = b"</xmp:Thumbnails>"


@dataclass(frozen=True)
class Metadata:
    """Blocks as they stand in the file, or None; resolution: pixels per millimetre across and down.

    texts: chunks of text of a PNG, whole.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None
    texts: tuple[bytes, ...] = ()


Turn = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]

TURNS: dict[int, Turn] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""What makes samples (H, W, C) of an EXIF orientation upright (CIPA DC-008, 4.6.5); 1 is upright."""


def upright(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata of a picture after its turn: EXIF and XMP say that it is upright."""
    if orientation not in TURNS:
        return metadata
    across = metadata.resolution
    return replace(
        metadata,
        exif=None if metadata.exif is None else upright_exif(metadata.exif),
        xmp=None if metadata.xmp is None else upright_xmp(metadata.xmp),
        resolution=across[::-1] if across and orientation >= 5 else across,
    )


def upright_xmp(xmp: bytes) -> bytes:
    """XMP whose tiff:Orientation, if it has one, is 1."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>))[2-8]", rb"\g<1>1", xmp)


def upright_exif(exif: bytes) -> bytes:
    """EXIF whose orientation, if it has one, is 1; broken EXIF stays as it is."""

    def turn(block: "_Exif") -> None:
        for place, tag, _, _ in block.entries(block.first):
            if tag == ORIENTATION:
                block.put("HIHH", place + 2, 3, 1, 1, 0)  # one SHORT, the value 1

    return _edited(exif, turn) or exif


def of_size(metadata: Metadata, height: int, width: int) -> Metadata:
    """The metadata whose EXIF, where it tells the size in pixels, tells this one."""

    def tell(block: "_Exif") -> None:
        block.put_size(block.first, height, width)
        for _, tag, _, value in block.entries(block.first):
            if tag == DETAILS:
                block.put_size(value, height, width)

    if metadata.exif is None:
        return metadata
    return replace(metadata, exif=_edited(metadata.exif, tell) or metadata.exif)


def is_whole(exif: bytes) -> bool:
    """Whether a block of EXIF can be followed: its first directory, that of details, and all their values."""

    def follow(block: "_Exif") -> None:
        for directory in (block.first, *(e[3] for e in block.entries(block.first) if e[1] in (DETAILS, GPS))):
            for _, _, length, value in block.entries(directory):
                if length > 4:
                    block.get(f"{length}s", value)

    return _edited(exif, follow) is not None


def without_location(metadata: Metadata) -> Metadata:
    """The metadata without the place: EXIF's GPS directory, XMP's properties, texts; what is broken goes."""
    return replace(
        metadata,
        exif=None if metadata.exif is None else _edited(metadata.exif, _remove_location),
        xmp=None if metadata.xmp is None else without_places(metadata.xmp),
        texts=tuple(text for text in metadata.texts if not tells_place(text)),
    )


def without_thumbnail(metadata: Metadata) -> Metadata:
    """The metadata of a changed picture: the thumbnail of the old one is gone from EXIF and XMP."""
    return replace(
        metadata,
        exif=None if metadata.exif is None else _edited(metadata.exif, _remove_thumbnail) or metadata.exif,
        xmp=None if metadata.xmp is None else _without_thumbnails(metadata.xmp),
    )


def _without_thumbnails(xmp: bytes) -> bytes:
    """Without these elements; in one pass, as many may begin that never end."""
    kept, at = [], 0
    for begin in re.finditer(rb"<xmp:Thumbnails\b", xmp):
        if begin.start() < at:
            continue
        end = xmp.find(THUMBNAILS_END, begin.end())
        if end < 0:
            break
        kept.append(xmp[at : begin.start()])
        at = end + len(THUMBNAILS_END)
    return b"".join((*kept, xmp[at:]))


def _remove_location(block: "_Exif") -> None:
    for place, tag, _, value in reversed(block.entries(block.first)):
        if tag == GPS:
            block.erase_directory(value)
            block.drop(block.first, place)


def _remove_thumbnail(block: "_Exif") -> None:
    (count,) = block.get("H", block.first)
    link = block.first + 2 + 12 * count
    (second,) = block.get("I", link)
    if second == 0:
        return
    found = {tag: value for _, tag, _, value in block.entries(second)}
    block.erase(found.get(THUMBNAIL, 0), found.get(THUMBNAIL_BYTES, 0))
    block.erase_directory(second)
    block.put("I", link, 0)


def _edited(exif: bytes, edit: Callable[["_Exif"], None]) -> bytes | None:
    """EXIF after the edit, which keeps its length; None if it is broken."""
    try:
        block = _Exif(exif)
        edit(block)
    except (struct.error, IndexError):
        return None
    return block.content


class _Exif:
    """The bytes of an EXIF block; places count from its TIFF header. struct.error where it is broken."""

    def __init__(self, exif: bytes) -> None:
        self._head = 6 if exif.startswith(b"Exif\0\0") else 0
        order = {b"II": "<", b"MM": ">"}.get(exif[self._head : self._head + 2])
        if order is None:
            raise struct.error
        self._order, self._bytes = order, bytearray(exif)
        (self.first,) = self.get("I", 4)

    @property
    def content(self) -> bytes:
        return bytes(self._bytes)

    def get(self, form: str, place: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + form, self._bytes, self._head + place)

    def put(self, form: str, place: int, *values: int) -> None:
        struct.pack_into(self._order + form, self._bytes, self._head + place, *values)

    def entries(self, directory: int) -> list[tuple[int, int, int, int]]:
        """Of every entry: its place, tag, bytes of its values, and its value or where the values are."""
        (count,) = self.get("H", directory)
        found = []
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, number, value = self.get("HHII", place)
            found.append((place, tag, SIZES[kind] * number, value))
        return found

    def put_size(self, directory: int, height: int, width: int) -> None:
        """Write the size where the directory tells one."""
        for place, tag, _, _ in self.entries(directory):
            if tag in WIDTHS or tag in HEIGHTS:
                self.put("HII", place + 2, 4, 1, width if tag in WIDTHS else height)  # one LONG

    def drop(self, directory: int, place: int) -> None:
        """Take the entry at `place` out of its directory."""
        (count,) = self.get("H", directory)
        end = self._head + directory + 2 + 12 * count + 4
        at = self._head + place
        self._bytes[at:end] = self._bytes[at + 12 : end] + bytes(12)
        self.put("H", directory, count - 1)

    def erase_directory(self, directory: int) -> None:
        """Zeros over a directory and all its values."""
        entries = self.entries(directory)
        for _, _, length, value in entries:
            if length > 4:
                self.erase(value, length)
        self.erase(directory, 2 + 12 * len(entries) + 4)

    def erase(self, place: int, length: int) -> None:
        start, end = self._head + place, min(self._head + place + length, len(self._bytes))
        self._bytes[start:end] = bytes(max(0, end - start))
