"""TIFF directories (TIFF 6.0 and BigTIFF) of files, and of EXIF blocks, which are small TIFFs."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from onebranch.images.containers.errors import ContainerError

IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, TILE_WIDTH, TILE_LENGTH = 277, 278, 279, 322, 323
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SUB_IFDS = 282, 283, 296, 330
PLANAR_CONFIGURATION, SEPARATE_PLANES = 284, 2

EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
"""Tags that link to other directories. The first two are in the first directory, the last in EXIF's."""

LINKS = (EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD)

DESCRIPTIONS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
"""ImageDescription, Make, Model, Software, DateTime, Artist, Copyright."""

GEOTIFF_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""ModelPixelScale, ModelTiepoint, ModelTransformation, and three tags of GeoKeys (OGC GeoTIFF 1.1)."""

PIXEL_DIMENSIONS = (0xA002, 0xA003)
"""EXIF's PixelXDimension and PixelYDimension. They are not copied: a TIFF has its own tags for its size."""

UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""For each field type, the number of bytes that are reversed as a unit when the byte order changes."""

BIG_UNIT_BYTES = {16: 8, 17: 8, 18: 8}
"""`UNIT_BYTES` of the field types that only BigTIFF has."""

RATIONALS = (5, 10)
"""Field types of two units, numerator and denominator."""

UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
"""NumPy types of the unsigned integer field types SHORT, LONG and LONG8."""

SHORT, LONG, IFD8 = 3, 4, 18

NO_UNIT = 1
"""The value of `RESOLUTION_UNIT` for a density without a unit, which states only the pixel aspect ratio."""

PALETTE_COLOUR = 3
"""The value of `PHOTOMETRIC` for samples that are indices into a colour map."""

JPEG_COMPRESSIONS = (6, 7)
"""The values of `COMPRESSION` for JPEG, whose strips are decoded as a whole."""

MAX_DIRECTORY_ENTRIES = 4096
"""A directory with more entries is treated as damaged, as in libtiff."""

MAX_VALUE_BYTES = 4 << 20
"""An EXIF value with more bytes is treated as damaged."""

MAX_LIST_BYTES = 64 << 20
"""Of a longer list of integers, only this many bytes are read."""

MAX_EXIF_BYTES = 65_000
"""Bytes of the largest EXIF block that is made: it must fit into a JPEG segment."""


class TiffEntry(NamedTuple):
    """An entry of a directory.

    kind: field type of the values. number: number of values. inline: the bytes of the values if they fit,
    else their offset. position: offset of the entry itself.
    """

    tag: int
    kind: int
    number: int
    inline: bytes
    position: int

    @property
    def value_bytes(self) -> int:
        """Number of bytes of all values; 0 for type 0, which fills gaps in a directory.

        Raises ContainerError for an unknown type.
        """
        if self.kind == 0:
            return 0
        unit = UNIT_BYTES.get(self.kind) or BIG_UNIT_BYTES.get(self.kind)
        if unit is None:
            raise ContainerError(f"its tag {self.tag} has the unknown type {self.kind}")
        return unit * (2 if self.kind in RATIONALS else 1) * self.number


class TiffDirectory(NamedTuple):
    """The entries of a directory, and the offset of the next directory (0 if there is none)."""

    entries: tuple[TiffEntry, ...]
    next_offset: int

    def entry(self, tag: int) -> TiffEntry | None:
        """The first entry with that tag; None if there is none."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True)
class TiffFormat:
    """Byte order ("<" or ">") and widths of the numbers of a TIFF file. big: True for BigTIFF."""

    order: str
    big: bool = False

    @property
    def offset(self) -> str:
        """The `struct` code of an offset, and of the number of values of an entry."""
        return "Q" if self.big else "I"

    @property
    def entry_count(self) -> str:
        """The `struct` code of the number of entries of a directory."""
        return "Q" if self.big else "H"

    @property
    def offset_bytes(self) -> int:
        """Bytes of an offset. Values that fit into them are stored in place of the offset."""
        return 8 if self.big else 4

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry."""
        return 20 if self.big else 12

    def pack(self, codes: str, *values: int) -> bytes:
        """The bytes of numbers in this byte order. codes: `struct` codes."""
        return struct.pack(self.order + codes, *values)

    def unpack(self, codes: str, content: bytes) -> tuple[int, ...]:
        """The inverse of `pack`."""
        return struct.unpack(self.order + codes, content)

    def pack_entry(self, tag: int, kind: int, number: int, inline: bytes) -> bytes:
        """The bytes of an entry. inline: its values or their offset, which are padded with zeros."""
        return self.pack("HH" + self.offset, tag, kind, number) + inline.ljust(self.offset_bytes, b"\0")


class TiffReader:
    """Reads directories from a file. Offsets count from `start`.

    Methods raise ContainerError if the file is damaged.
    """

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self._file, self._start = file, start
        file.seek(start)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise ContainerError("it has no TIFF header")
        (version,) = struct.unpack_from(order + "H", head, 2)
        if version not in (42, 43):
            raise ContainerError(f"it has the unknown TIFF version {version}")
        self.format = TiffFormat(order, version == 43)
        offset = head[8:16] if self.format.big else head[4:8]
        if len(offset) < self.format.offset_bytes:
            raise ContainerError("it has no TIFF header")
        (self.first_offset,) = self.format.unpack(self.format.offset, offset)

    def directory(self, offset: int) -> TiffDirectory:
        """The directory at an offset. If the file ends before the offset of the next directory, that is 0."""
        layout = self.format
        (count,) = layout.unpack(layout.entry_count, self.bytes_at(offset, 8 if layout.big else 2))
        if count > MAX_DIRECTORY_ENTRIES:
            raise ContainerError(f"a directory of {count} entries is damaged")
        begin = offset + (8 if layout.big else 2)
        content = self.bytes_at(begin, count * layout.entry_bytes)
        entries = tuple(self._entry(content, begin, index) for index in range(count))
        following = self._file.read(layout.offset_bytes)
        next_offset = (
            layout.unpack(layout.offset, following)[0] if len(following) == layout.offset_bytes else 0
        )
        return TiffDirectory(entries, next_offset)

    def _entry(self, content: bytes, begin: int, index: int) -> TiffEntry:
        layout, at = self.format, index * self.format.entry_bytes
        inline = at + 4 + layout.offset_bytes
        tag, kind, number = layout.unpack("HH" + layout.offset, content[at:inline])
        return TiffEntry(tag, kind, number, content[inline : at + layout.entry_bytes], begin + at)

    def offset_of(self, entry: TiffEntry) -> int:
        """The offset that an entry holds: of its values if they do not fit into it, or of a directory."""
        return self.format.unpack(self.format.offset, entry.inline)[0]

    def content(self, entry: TiffEntry, max_bytes: int = MAX_VALUE_BYTES) -> bytes:
        """The bytes of the entry's values.

        Raises ContainerError if they are missing or more than `max_bytes`.
        """
        length = entry.value_bytes
        if length > max_bytes:
            raise ContainerError(f"its tag {entry.tag} has {length} bytes")
        if length <= len(entry.inline):
            return entry.inline[:length]
        return self.bytes_at(self.offset_of(entry), length)

    def integers(self, entry: TiffEntry) -> npt.NDArray[np.unsignedinteger]:
        """The entry's unsigned integers: those that the file holds, from at most 64 MiB."""
        if entry.kind not in UNSIGNED:
            return np.zeros(0, np.uint32)
        dtype = np.dtype(self.format.order + UNSIGNED[entry.kind])
        length = min(entry.number * dtype.itemsize, MAX_LIST_BYTES)
        content = entry.inline[:length]
        if length > len(entry.inline):
            self._file.seek(self._start + self.offset_of(entry))
            content = self._file.read(length)
        return np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)

    def bytes_at(self, offset: int, length: int) -> bytes:
        """`length` bytes at an offset; afterwards the file position is behind them.

        Raises ContainerError if the file ends too soon.
        """
        try:
            self._file.seek(self._start + offset)
            content = self._file.read(length)
        except (OSError, OverflowError, ValueError) as error:
            raise ContainerError(f"it has the offset {offset}") from error
        if len(content) < length:
            raise ContainerError("it ends too soon")
        return content


@dataclass(frozen=True)
class TiffStructure:
    """What a TIFF's first directory states about the picture.

    integers: the largest value of each tag that holds integers. pages: number of consecutive directories.
    density: (x, y, unit) as stored: pixels per inch (unit 2) or centimetre (3); without a unit (1), only the
    ratio of x and y has a meaning. exif: an EXIF block made of the file's descriptions and linked
    directories. sub_images: number of pictures that the first directory links to (SubIFDs). geotiff_values:
    GeoTIFF tags and their values. order: byte order, "<" or ">".
    """

    integers: Mapping[int, int]
    pages: int = 1
    density: tuple[float, float, int] | None = None
    exif: bytes | None = None
    sub_images: int = 0
    geotiff_values: "tuple[tuple[int, TiffValue], ...]" = ()
    order: str = "<"


_STRUCTURE_TAGS = (
    *(IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, SAMPLES_PER_PIXEL),
    *(ROWS_PER_STRIP, STRIP_BYTE_COUNTS, TILE_WIDTH, TILE_LENGTH, RESOLUTION_UNIT, PLANAR_CONFIGURATION),
)

MAX_PAGES = 10_000
"""Largest number of directories that are counted."""


def read_structure(file: BinaryIO) -> TiffStructure:
    """The structure of a TIFF file; damaged parts are ignored."""
    try:
        tiff = TiffReader(file)
        first = tiff.directory(tiff.first_offset)
    except ContainerError:
        return TiffStructure({})
    integers = {
        entry.tag: int(tiff.integers(entry).max(initial=0))
        for entry in first.entries
        if entry.tag in _STRUCTURE_TAGS
    }
    sub_images = first.entry(SUB_IFDS)
    return TiffStructure(
        integers,
        _count_pages(tiff, first),
        _density(tiff, first),
        _exif_block(tiff),
        0 if sub_images is None else sub_images.number,
        _geotiff_values(tiff, first),
        tiff.format.order,
    )


def _geotiff_values(tiff: TiffReader, first: TiffDirectory) -> "tuple[tuple[int, TiffValue], ...]":
    try:
        return tuple(
            (entry.tag, TiffValue(entry.kind, entry.number, tiff.content(entry)))
            for entry in first.entries
            if entry.tag in GEOTIFF_TAGS and entry.kind in UNIT_BYTES
        )
    except ContainerError:
        return ()


def _count_pages(tiff: TiffReader, directory: TiffDirectory) -> int:
    """Number of consecutive directories, including the first; a cycle or damage ends the count."""
    offsets = {tiff.first_offset}
    while directory.next_offset and directory.next_offset not in offsets and len(offsets) < MAX_PAGES:
        offsets.add(directory.next_offset)
        try:
            directory = tiff.directory(directory.next_offset)
        except ContainerError:
            break
    return len(offsets)


def _density(tiff: TiffReader, first: TiffDirectory) -> tuple[float, float, int] | None:
    values = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        entry = first.entry(tag)
        try:
            content = b"" if entry is None else tiff.content(entry)
        except ContainerError:
            return None
        if entry is None or entry.kind != RATIONALS[0] or len(content) < 8:
            return None
        numerator, denominator = tiff.format.unpack("II", content[:8])
        values.append(numerator / denominator if denominator else 0.0)
    if not min(values) > 0:
        return None
    entry = first.entry(RESOLUTION_UNIT)
    unit = 2 if entry is None else int(tiff.integers(entry).max(initial=0))
    return values[0], values[1], unit


class TiffValue(NamedTuple):
    """The values of a tag: their field type, their number, and their bytes in the directory's byte order."""

    kind: int
    number: int
    content: bytes


@dataclass(frozen=True)
class DirectoryTree:
    """The values of a directory by tag, and the directories that it links to."""

    values: Mapping[int, TiffValue]
    linked: Mapping[int, "DirectoryTree"]


def _exif_block(tiff: TiffReader) -> bytes | None:
    """An EXIF block, with its prefix, of the first picture of a TIFF; None if there is none or it is damaged.

    It is read here because libvips neither reads nor writes EXIF in TIFF.
    """
    try:
        tree = _read_tree(tiff, tiff.first_offset, DESCRIPTIONS)
    except ContainerError:
        return None
    if not tree.values and not tree.linked:
        return None
    layout = TiffFormat(tiff.format.order)
    mark = b"II*\0" if layout.order == "<" else b"MM\0*"
    block = b"Exif\0\0" + mark + layout.pack("I", 8) + _serialized(tree, 8, layout)
    return block if len(block) <= MAX_EXIF_BYTES else None


def set_relative_density(path: Path, density: tuple[int, int]) -> None:
    """Replace the density of a TIFF file, which must have one, by the numbers (x, y) without a unit."""
    with path.open("r+b") as file:
        tiff = TiffReader(file)
        first = tiff.directory(tiff.first_offset)
        for tag, number in zip((X_RESOLUTION, Y_RESOLUTION), density, strict=True):
            entry = first.entry(tag)
            assert entry is not None, "libvips writes the density"
            inline_offset = entry.position + 4 + tiff.format.offset_bytes
            file.seek(inline_offset if tiff.format.big else tiff.offset_of(entry))
            file.write(tiff.format.pack("II", number, 1))
        unit = first.entry(RESOLUTION_UNIT)
        assert unit is not None, "libvips writes the unit of density"
        file.seek(unit.position + 4 + tiff.format.offset_bytes)
        file.write(tiff.format.pack("H", NO_UNIT))


def append_exif(path: Path, exif: bytes) -> None:
    """Add the descriptions and directories of an EXIF block to a TIFF file that has none.

    Nothing in the file moves: the first directory is written again, extended, at the end of the file. Of a
    damaged block, nothing is added.
    """
    block = exif.removeprefix(b"Exif\0\0")
    try:
        source = TiffReader(BytesIO(block))
        tree = _read_tree(source, source.first_offset, DESCRIPTIONS)
    except ContainerError:
        return
    with path.open("r+b") as file:
        target = TiffReader(file)
        append_tree(file, target, byte_swapped(tree) if source.format.order != target.format.order else tree)


def append_tree(file: BinaryIO, tiff: TiffReader, tree: DirectoryTree) -> None:
    """Add the tags of a tree that the first directory of a TIFF file does not have; see `append_exif`."""
    layout = tiff.format
    first = tiff.directory(tiff.first_offset)
    entries = {
        entry.tag: layout.pack_entry(entry.tag, entry.kind, entry.number, entry.inline)
        for entry in first.entries
    }
    end = file.seek(0, os.SEEK_END)
    start = end + end % 2
    missing = {tag: value for tag, value in tree.values.items() if tag not in entries}
    added, values = _entries_and_values(DirectoryTree(missing, tree.linked), start, layout)
    entries.update(added)
    directory = [content for _, content in sorted(entries.items())]
    head = layout.pack(layout.entry_count, len(directory))
    file.write(bytes(end % 2) + values + head + b"".join(directory))
    file.write(layout.pack(layout.offset, first.next_offset))
    file.seek(8 if layout.big else 4)
    file.write(layout.pack(layout.offset, start + len(values)))


def _read_tree(
    tiff: TiffReader, offset: int, tags: tuple[int, ...] = (), links: tuple[int, ...] = (EXIF_IFD, GPS_IFD)
) -> DirectoryTree:
    """The directory at an offset as a tree.

    tags: the tags whose values are read; all if empty. links: the tags whose directories are read.
    """
    values: dict[int, TiffValue] = {}
    linked: dict[int, DirectoryTree] = {}
    for entry in tiff.directory(offset).entries:
        if entry.tag in LINKS:
            if entry.tag in links:
                further = (INTEROPERABILITY_IFD,) if entry.tag == EXIF_IFD else ()
                linked[entry.tag] = _read_tree(tiff, tiff.offset_of(entry), (), further)
        elif _is_copied(entry, tags):
            values[entry.tag] = TiffValue(entry.kind, entry.number, tiff.content(entry))
    return DirectoryTree(values, linked)


def _is_copied(entry: TiffEntry, tags: tuple[int, ...]) -> bool:
    wanted = not tags or entry.tag in tags
    return wanted and entry.kind in UNIT_BYTES and entry.tag not in PIXEL_DIMENSIONS


def _serialized(tree: DirectoryTree, offset: int, layout: TiffFormat) -> bytes:
    """The bytes of a directory to be stored at `offset`: its entries, followed by their values."""
    count = len(tree.values) + len(tree.linked)
    head = layout.pack(layout.entry_count, count)
    behind = offset + len(head) + count * layout.entry_bytes + layout.offset_bytes
    entries, values = _entries_and_values(tree, behind, layout)
    directory = b"".join(content for _, content in sorted(entries.items()))
    return head + directory + bytes(layout.offset_bytes) + values


def _entries_and_values(
    tree: DirectoryTree, offset: int, layout: TiffFormat
) -> tuple[dict[int, bytes], bytes]:
    """The entries of a tree by tag, and the bytes they point to, which are to be stored at `offset`.

    Every value begins at an even offset. Example (classic TIFF): the tag 0x010F with the 6 bytes b"Maker\\0"
    at offset 26 gives the entry (0x010F, 2, 6, 26) and the bytes b"Maker\\0". A value of at most 4 bytes is
    stored in its entry and adds no bytes.
    """
    entries, values = {}, b""
    for tag in sorted([*tree.values, *tree.linked]):
        here = offset + len(values)
        if tag in tree.linked:
            kind, number, content = (IFD8 if layout.big else LONG), 1, layout.pack(layout.offset, here)
            values += _serialized(tree.linked[tag], here, layout)
        else:
            kind, number, content = tree.values[tag]
            if len(content) > layout.offset_bytes:
                values += content
                content = layout.pack(layout.offset, here)
        values += bytes(len(values) % 2)
        entries[tag] = layout.pack_entry(tag, kind, number, content)
    return entries, values


def byte_swapped(tree: DirectoryTree) -> DirectoryTree:
    """The tree in the other byte order."""
    values = {
        tag: value._replace(
            content=np.frombuffer(value.content, np.dtype(f"u{UNIT_BYTES[value.kind]}")).byteswap().tobytes()
        )
        for tag, value in tree.values.items()
    }
    return DirectoryTree(values, {tag: byte_swapped(linked) for tag, linked in tree.linked.items()})
