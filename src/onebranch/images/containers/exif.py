"""EXIF blocks (CIPA DC-008), edited in place so that the offsets inside maker notes stay valid.

A block is a small TIFF (TIFF 6.0), which may have the prefix "Exif\\0\\0". Edits keep the length of a block.
"""

from collections.abc import Callable
from io import BytesIO

from onebranch.images.containers.errors import ContainerError
from onebranch.images.containers.tiff import (
    EXIF_IFD,
    GPS_IFD,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    LONG,
    PIXEL_DIMENSIONS,
    SHORT,
    TiffEntry,
    TiffReader,
)

PREFIX = b"Exif\0\0"

ORIENTATION, THUMBNAIL_OFFSET, THUMBNAIL_BYTES = 0x0112, 0x0201, 0x0202

WIDTH_TAGS, HEIGHT_TAGS = (IMAGE_WIDTH, PIXEL_DIMENSIONS[0]), (IMAGE_LENGTH, PIXEL_DIMENSIONS[1])
"""Tags of the picture's width and height: one in the first directory, one in the EXIF directory."""

ENTRY_BYTES = 12
"""Bytes of a directory entry. A 2-byte count precedes the first entry; a 4-byte link follows the last."""


def set_upright(exif: bytes) -> bytes:
    """The block with its orientation tag, if present, set to 1 (upright). A damaged block is unchanged."""

    def edit(block: _EditableExif) -> None:
        for entry in block.entries(block.first_offset):
            if entry.tag == ORIENTATION:
                block.pack(entry.position + 2, "HIHH", SHORT, 1, 1, 0)

    return _edited(exif, edit) or exif


def set_size(exif: bytes, height: int, width: int) -> bytes:
    """The block with its size tags, if present, set to this size in pixels. A damaged block is unchanged."""

    def edit(block: _EditableExif) -> None:
        for directory in (block.first_offset, *block.linked(EXIF_IFD)):
            for entry in block.entries(directory):
                if entry.tag in WIDTH_TAGS or entry.tag in HEIGHT_TAGS:
                    block.pack(
                        entry.position + 2, "HII", LONG, 1, width if entry.tag in WIDTH_TAGS else height
                    )

    return _edited(exif, edit) or exif


def is_complete(exif: bytes) -> bool:
    """True if the block holds the first, the EXIF and the GPS directory with all their values."""

    def edit(block: _EditableExif) -> None:
        for directory in (block.first_offset, *block.linked(EXIF_IFD, GPS_IFD)):
            for entry in block.entries(directory):
                block.content(entry)

    return _edited(exif, edit) is not None


def remove_location(exif: bytes) -> bytes | None:
    """The block with its GPS directory overwritten with zeros; None if the block is damaged."""

    def edit(block: _EditableExif) -> None:
        for entry in reversed(block.entries(block.first_offset)):
            if entry.tag == GPS_IFD:
                block.erase_directory(block.offset_of(entry))
                block.remove_entry(block.first_offset, entry)

    return _edited(exif, edit)


def remove_thumbnail(exif: bytes) -> bytes:
    """The block with its thumbnail (the second directory) zeroed. A damaged block is unchanged."""

    def edit(block: _EditableExif) -> None:
        first = block.directory(block.first_offset)
        second = first.next_offset
        if second == 0:
            return
        values = {entry.tag: block.offset_of(entry) for entry in block.entries(second)}
        block.erase(values.get(THUMBNAIL_OFFSET, 0), values.get(THUMBNAIL_BYTES, 0))
        block.erase_directory(second)
        block.pack(block.first_offset + 2 + ENTRY_BYTES * len(first.entries), "I", 0)

    return _edited(exif, edit) or exif


def _edited(exif: bytes, edit: "Callable[[_EditableExif], None]") -> bytes | None:
    """The block after `edit`; None if the block is damaged."""
    try:
        block = _EditableExif(exif)
        edit(block)
    except ContainerError:
        return None
    return block.getvalue()


class _EditableExif(TiffReader):
    """The bytes of an EXIF block, which can be overwritten. Offsets count from its TIFF header.

    Methods raise ContainerError if the block is damaged.
    """

    def __init__(self, exif: bytes) -> None:
        self._buffer, self._length = BytesIO(exif), len(exif)
        super().__init__(self._buffer, len(PREFIX) if exif.startswith(PREFIX) else 0)
        if self.format.big:
            raise ContainerError("EXIF is never BigTIFF")

    def getvalue(self) -> bytes:
        """The edited block."""
        return self._buffer.getvalue()

    def entries(self, offset: int) -> tuple[TiffEntry, ...]:
        """The entries of the directory at an offset."""
        return self.directory(offset).entries

    def linked(self, *tags: int) -> list[int]:
        """The offsets of the directories to which these tags of the first directory link."""
        return [self.offset_of(entry) for entry in self.entries(self.first_offset) if entry.tag in tags]

    def pack(self, offset: int, codes: str, *values: int) -> None:
        """Overwrite the bytes at an offset with numbers, packed by `struct` codes."""
        self._overwrite(offset, self.format.pack(codes, *values))

    def remove_entry(self, directory: int, entry: TiffEntry) -> None:
        """Remove an entry from its directory; the entries behind it move up by one entry."""
        count = len(self.entries(directory))
        end = directory + 2 + ENTRY_BYTES * count + 4
        begin = entry.position + ENTRY_BYTES
        rest = self.bytes_at(begin, min(end, self._length - self._start) - begin)
        self._overwrite(entry.position, rest + bytes(ENTRY_BYTES))
        self.pack(directory, "H", count - 1)

    def erase_directory(self, directory: int) -> None:
        """Overwrite a directory and all its values with zeros."""
        entries = self.entries(directory)
        for entry in entries:
            if entry.value_bytes > len(entry.inline):
                self.erase(self.offset_of(entry), entry.value_bytes)
        self.erase(directory, 2 + ENTRY_BYTES * len(entries) + 4)

    def erase(self, offset: int, length: int) -> None:
        """Overwrite `length` bytes with zeros, or fewer if the block ends before that."""
        available = self._length - self._start - offset
        if available > 0:
            self._overwrite(offset, bytes(min(length, available)))

    def _overwrite(self, offset: int, content: bytes) -> None:
        if self._start + offset + len(content) > self._length:
            raise ContainerError("it ends too soon")
        self._buffer.seek(self._start + offset)
        self._buffer.write(content)
