"""EXIF of TIFF files, which libvips neither reads nor writes: an EXIF block is itself a small TIFF (6.0).

Its first directory's descriptions stand in the file's own, with links to the EXIF and GPS directories.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

DESCRIPTIONS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
"""ImageDescription, Make, Model, Software, DateTime, Artist, Copyright."""

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
"""Links to directories: in the first, in the first, in EXIF's."""

LINKS = (EXIF, GPS, INTEROPERABILITY)

SIZE = (0xA002, 0xA003)
"""PixelXDimension and PixelYDimension, which a TIFF says itself and an enhanced picture changes."""

UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes that turn together when the order of bytes changes, by type of value."""

PARTS = {5: 2, 10: 2}
"""Units of one value, where it is more than one."""

MOST_ENTRIES, MOST_BYTES = 1000, 4 << 20
"""Of a directory and of one value; more is damage."""

LARGEST_BLOCK = 65_000
"""Bytes of an EXIF block: a JPEG's segment holds no more."""


class Value(NamedTuple):
    """A value of a tag: its type, how many, and their bytes in the order of the directory."""

    kind: int
    number: int
    content: bytes


@dataclass(frozen=True)
class Directory:
    """Values by tag, and the directories that are linked from there."""

    values: Mapping[int, Value]
    linked: Mapping[int, "Directory"]


class _Tiff:
    """A TIFF's order of bytes and widths of numbers, classic or BigTIFF. ValueError if it is none."""

    def __init__(self, head: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise ValueError
        self.order = order
        (version,) = struct.unpack_from(order + "H", head, 2)
        if version not in (42, 43):
            raise ValueError
        self.big = version == 43
        self.place = "Q" if self.big else "I"
        self.count = "Q" if self.big else "H"
        self.room = 8 if self.big else 4
        (self.first,) = struct.unpack_from(order + self.place, head, 8 if self.big else 4)

    def numbers(self, form: str, content: bytes) -> tuple[int, ...]:
        return struct.unpack(self.order + form, content)


def read_exif(path: Path) -> bytes | None:
    """The EXIF block of a TIFF's first picture ("Exif" and all), None where it has none or is damaged."""
    try:
        with path.open("rb") as file:
            tiff = _Tiff(file.read(16))
            found = _read(file, tiff, tiff.first, DESCRIPTIONS)
    except (ValueError, struct.error):
        return None
    if not found.values and not found.linked:
        return None
    mark = b"II*\0" if tiff.order == "<" else b"MM\0*"
    block = b"Exif\0\0" + mark + struct.pack(tiff.order + "I", 8) + _written(found, 8, tiff.order)
    return block if len(block) <= LARGEST_BLOCK else None


def add_exif(path: Path, exif: bytes) -> None:
    """Put an EXIF block's descriptions and directories into a TIFF that has none; a broken block is left out.

    What stands in the file stays where it is; its first directory is written again at the end.
    """
    try:
        block = exif.removeprefix(b"Exif\0\0")
        source = _Tiff(block + bytes(16))
        with BytesIO(block) as content:
            found = _read(content, source, source.first, DESCRIPTIONS)
    except (ValueError, struct.error):
        return
    with path.open("r+b") as file:
        tiff = _Tiff(file.read(16))
        _append(file, tiff, _turned(found) if source.order != tiff.order else found)


def _append(file: BinaryIO, tiff: _Tiff, found: Directory) -> None:
    entries, following = _raw_entries(file, tiff, tiff.first)
    end = file.seek(0, os.SEEK_END)
    parts, new = [bytes(end % 2)], {}
    at = end + end % 2
    for tag, value in found.values.items():
        if tag in entries:
            continue
        if len(value.content) <= tiff.room:
            new[tag] = _entry(tiff, tag, value, value.content.ljust(tiff.room, b"\0"))
        else:
            new[tag] = _entry(tiff, tag, value, struct.pack(tiff.order + tiff.place, at))
            parts.append(value.content + bytes(len(value.content) % 2))
            at += len(parts[-1])
    for tag, directory in found.linked.items():
        content = _written(directory, at, tiff.order, tiff.big)
        kind = 18 if tiff.big else 4  # IFD8, LONG
        new[tag] = _entry(tiff, tag, Value(kind, 1, b""), struct.pack(tiff.order + tiff.place, at))
        parts.append(content + bytes(len(content) % 2))
        at += len(parts[-1])
    together = dict(sorted({**entries, **new}.items()))
    head = struct.pack(tiff.order + tiff.count, len(together))
    file.write(b"".join([*parts, head, *together.values(), following]))
    file.seek(8 if tiff.big else 4)
    file.write(struct.pack(tiff.order + tiff.place, at))


def _entry(tiff: _Tiff, tag: int, value: Value, content: bytes) -> bytes:
    return struct.pack(tiff.order + "HH" + tiff.place, tag, value.kind, value.number) + content


def _raw_entries(file: BinaryIO, tiff: _Tiff, place: int) -> tuple[dict[int, bytes], bytes]:
    """A directory's entries as they stand, by tag, and the place of the following directory."""
    file.seek(place)
    (count,) = tiff.numbers(tiff.count, _take(file, struct.calcsize("<" + tiff.count)))
    if count > MOST_ENTRIES:
        raise ValueError
    size = 4 + 2 * tiff.room
    entries = [_take(file, size) for _ in range(count)]
    return {tiff.numbers("H", entry[:2])[0]: entry for entry in entries}, _take(file, tiff.room)


def _read(
    file: BinaryIO, tiff: _Tiff, place: int, tags: tuple[int, ...] = (), links: tuple[int, ...] = (EXIF, GPS)
) -> Directory:
    """A directory's values, of those tags alone if there are any named, and what is linked from it."""
    entries, _ = _raw_entries(file, tiff, place)
    values: dict[int, Value] = {}
    linked: dict[int, Directory] = {}
    for tag, entry in entries.items():
        kind, count = tiff.numbers("H" + tiff.place, entry[2 : 4 + tiff.room])
        inside = entry[4 + tiff.room :]
        if tag in LINKS:
            if tag in links:
                (there,) = tiff.numbers(tiff.place, inside)
                linked[tag] = _read(file, tiff, there, (), (INTEROPERABILITY,) if tag == EXIF else ())
            continue
        if kind not in UNITS or (tags and tag not in tags) or tag in SIZE:
            continue
        length = UNITS[kind] * PARTS.get(kind, 1) * count
        if length > MOST_BYTES:
            raise ValueError
        if length > tiff.room:
            file.seek(tiff.numbers(tiff.place, inside)[0])
            inside = _take(file, length)
        values[tag] = Value(kind, count, inside[:length])
    return Directory(values, linked)


def _take(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError
    return content


def _written(directory: Directory, place: int, order: str, big: bool = False) -> bytes:
    """The bytes of a directory, and of all that belongs to it behind, that will stand at `place`."""
    pointer, room, counter = ("Q", 8, "Q") if big else ("I", 4, "H")
    tags = sorted([*directory.values, *directory.linked])
    start = place + struct.calcsize("<" + counter) + len(tags) * (4 + 2 * room) + room
    entries, behind = [], b""
    for tag in tags:
        at = start + len(behind)
        if tag in directory.linked:
            kind, count, content = (18 if big else 4), 1, struct.pack(order + pointer, at)
            behind += _written(directory.linked[tag], at, order, big)
        else:
            kind, count, content = directory.values[tag]
            if len(content) > room:
                behind += content
                content = struct.pack(order + pointer, at)
        behind += bytes(len(behind) % 2)
        entries.append(struct.pack(order + "HH" + pointer, tag, kind, count) + content.ljust(room, b"\0"))
    return struct.pack(order + counter, len(tags)) + b"".join(entries) + bytes(room) + behind


def _turned(directory: Directory) -> Directory:
    """With the other order of bytes."""
    values = {
        tag: value._replace(
            content=np.frombuffer(value.content, np.dtype(f"u{UNITS[value.kind]}")).byteswap().tobytes()
        )
        for tag, value in directory.values.items()
    }
    return Directory(values, {tag: _turned(linked) for tag, linked in directory.linked.items()})
