"""PNG files: chunks, header, text, colour, density and animation (PNG specification, third edition)."""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from onebranch.images.containers.errors import ContainerError
from onebranch.images.containers.location import mentions_location

SIGNATURE = b"\x89PNG\r\n\x1a\n"

IEND = b"\0\0\0\0IEND\xaeB`\x82"
"""The complete IEND chunk, with which every PNG ends."""

TRUNCATED = "it ends too soon"

BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Allowed bit depths of each colour type (11.2.1)."""

SAMPLES_BY_COLOUR_TYPE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel of each colour type; a pixel of type 3 is an index into the palette."""

PALETTE = 3
"""The colour type of pictures with a palette."""

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")

SKIPPED_KEYWORDS = ("xml:com.adobe.xmp", "raw profile type", "exif:", "tiff:", "thumb::")
"""Keywords, in lower case, of texts that are not copied.

They hold metadata that is read elsewhere, or describe the unchanged picture.
"""

MAX_TEXT_BYTES = 1 << 20
"""Limit for the sum of all texts of a file; if it is exceeded, no text is read."""

MAX_CHUNKS = 200_000
"""Number of chunks after which the search for texts ends."""

MAX_LEADING_BYTES = 64 << 20
"""A file with more bytes of chunks before its image data is treated as damaged."""

SRGB_GAMMA = range(45000, 46001)
"""Values of gAMA (gamma times 100,000) that are treated as sRGB, which is stored as 45455."""

SRGB_CODES = (1, 13)
"""Primaries and transfer function of sRGB in a cICP chunk (ITU-T H.273)."""


class Chunk(NamedTuple):
    """A chunk without its length and checksum."""

    name: bytes
    content: bytes


class _Checksummed(Protocol):
    """Writable memory: a bytearray or an mmap."""

    def __getitem__(self, key: slice, /) -> bytes: ...

    def __setitem__(self, key: slice, value: bytes, /) -> None: ...


@dataclass(frozen=True)
class PngHeader:
    """The content of the IHDR chunk."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    compression: int
    filtering: int
    interlace: int

    @property
    def stored_samples(self) -> int:
        """Samples per pixel in the image data; 4 for an unknown colour type."""
        return SAMPLES_BY_COLOUR_TYPE.get(self.colour_type, 4)


@dataclass(frozen=True)
class PngStructure:
    """What a PNG holds besides its image data.

    leading: the chunks before the image data, IHDR included. data_offset: the byte where the first IDAT chunk
    begins. texts: complete text chunks, with length and checksum. problem: the first damage in the leading
    chunks, "" if there is none. After damage, `leading` holds only the chunks before it, and `data_offset`
    is 0.
    """

    leading: tuple[Chunk, ...]
    data_offset: int
    texts: tuple[bytes, ...]
    problem: str

    @property
    def header(self) -> PngHeader | None:
        """The header; None if the first chunk is not a valid IHDR chunk."""
        if not self.leading or self.leading[0].name != b"IHDR" or len(self.leading[0].content) != 13:
            return None
        return PngHeader(*struct.unpack(">IIBBBBB", self.leading[0].content))

    @property
    def frames(self) -> int:
        """Number of frames of an APNG, from its acTL chunk; 1 for a still picture."""
        return max(1, int.from_bytes(self.content(b"acTL")[:4], "big"))

    @property
    def decoded_samples(self) -> int:
        """Samples per decoded pixel; 0 without a header.

        Palettes become RGB and tRNS becomes alpha. Example: a palette with tRNS gives 3 + 1 = 4 samples.
        """
        if self.header is None:
            return 0
        samples = 3 if self.header.colour_type == PALETTE else self.header.stored_samples
        return samples + (bool(self.content(b"tRNS")) and samples in (1, 3))

    @property
    def density(self) -> tuple[int, int, bool] | None:
        """The pHYs chunk: pixels per unit in x and y, and True if the unit is the metre; None without it."""
        content = self.content(b"pHYs")
        if len(content) != 9:
            return None
        x, y, unit = struct.unpack(">IIB", content)
        return (x, y, unit == 1) if x and y else None

    def content(self, name: bytes) -> bytes:
        """The content of the last leading chunk of that name; b"" if there is none."""
        return dict(self.leading).get(name, b"")


def read_structure(file: BinaryIO) -> PngStructure:
    """The structure of a PNG file; damage is reported in `PngStructure.problem`."""
    leading: list[Chunk] = []
    problem, data_offset = "", 0
    try:
        leading.extend(_leading_chunks(file))
        data_offset = file.tell()
    except ContainerError as error:
        problem = str(error)
    file.seek(len(SIGNATURE))
    return PngStructure(tuple(leading), data_offset, read_texts(file), problem)


def _leading_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks before the first IDAT chunk; afterwards the file position is at that IDAT chunk.

    Raises ContainerError if a chunk is damaged.
    """
    file.seek(len(SIGNATURE))
    available = MAX_LEADING_BYTES
    while True:
        name, length = _next_chunk(file)
        if name == b"IDAT":
            file.seek(-8, os.SEEK_CUR)
            return
        content, checksum = file.read(min(length, available)), file.read(4)
        available -= len(content)
        if len(checksum) < 4:
            raise ContainerError(TRUNCATED)
        if int.from_bytes(checksum, "big") != zlib.crc32(name + content):
            raise ContainerError(f"the checksum of its {name.decode('latin-1')} chunk is wrong")
        yield Chunk(name, content)


def _next_chunk(file: BinaryIO) -> tuple[bytes, int]:
    """Name and content length of the chunk at the file position."""
    start = file.read(8)
    if len(start) < 8:
        raise ContainerError(TRUNCATED)
    return start[4:], int.from_bytes(start[:4], "big")


def image_data(file: BinaryIO) -> Iterator[bytes]:
    """The content of the consecutive IDAT chunks at the file position, in pieces of at most 1 MiB.

    Raises ContainerError if a checksum is wrong or a chunk is incomplete. A missing IEND chunk is accepted.
    """
    name, length = _next_chunk(file)
    while name == b"IDAT":
        checksum = zlib.crc32(name)
        while length > 0:
            piece = file.read(min(length, 1 << 20))
            if not piece:
                raise ContainerError(TRUNCATED)
            length -= len(piece)
            checksum = zlib.crc32(piece, checksum)
            yield piece
        if file.read(4) != checksum.to_bytes(4, "big"):
            raise ContainerError("the checksum of its IDAT chunk is wrong")
        start = file.read(8)
        name, length = start[4:], int.from_bytes(start[:4], "big")


def read_texts(file: BinaryIO) -> tuple[bytes, ...]:
    """All text chunks from the file position to the end, each complete; none if the file is damaged.

    They are copied as bytes, because libvips damages texts that are not ASCII. Chunks with a wrong checksum
    and chunks with `SKIPPED_KEYWORDS` are left out.
    """
    try:
        texts = tuple(_texts(file))
    except (OSError, ContainerError):
        return ()
    return texts if sum(map(len, texts)) <= MAX_TEXT_BYTES else ()


def _texts(file: BinaryIO) -> Iterator[bytes]:
    for _ in range(MAX_CHUNKS):
        name, length = _next_chunk(file)
        if name == b"IEND":
            return
        if name not in TEXT_CHUNKS or length > MAX_TEXT_BYTES:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content, checksum = file.read(length), file.read(4)
        if len(checksum) < 4:
            raise ContainerError(TRUNCATED)
        keyword = content[:32].decode("latin-1").lower()
        if checksum == zlib.crc32(name + content).to_bytes(4, "big") and not keyword.startswith(
            SKIPPED_KEYWORDS
        ):
            yield chunk_bytes(name, content)


def chunk_bytes(name: bytes, *content: bytes | memoryview) -> bytes:
    """A complete chunk: length, name, the concatenated content, checksum.

    >>> chunk_bytes(b"IEND") == IEND
    True
    """
    checksum = zlib.crc32(name)
    for part in content:
        checksum = zlib.crc32(part, checksum)
    length = sum(map(len, content))
    return b"".join((struct.pack(">I", length), name, *content, struct.pack(">I", checksum)))


def comment_chunk(comment: bytes) -> bytes:
    """A complete text chunk with the keyword Comment: iTXt for non-ASCII UTF-8, otherwise tEXt.

    >>> comment_chunk(b"hello")[4:-4]
    b'tEXtComment\\x00hello'
    """
    text = comment.replace(b"\0", b"")
    try:
        is_utf8 = not text.isascii() and bool(text.decode())
    except UnicodeDecodeError:
        is_utf8 = False
    if is_utf8:
        return chunk_bytes(b"iTXt", b"Comment\0\0\0\0\0" + text)
    return chunk_bytes(b"tEXt", b"Comment\0" + text)


def append_texts(path: Path, texts: tuple[bytes, ...]) -> None:
    """Insert complete text chunks before the last chunk of a PNG file."""
    with path.open("r+b") as file:
        file.seek(-len(IEND), os.SEEK_END)
        assert file.read() == IEND, "a PNG ends with IEND"
        file.seek(-len(IEND), os.SEEK_END)
        file.write(b"".join(texts) + IEND)


def set_density(path: Path, density: tuple[int, int, bool]) -> None:
    """Overwrite the pHYs chunk of a PNG file that has one. density: (x, y, is_metre)."""
    with path.open("r+b") as file:
        file.seek(len(SIGNATURE))
        name, length = _next_chunk(file)
        while name != b"pHYs":
            file.seek(length + 4, os.SEEK_CUR)
            name, length = _next_chunk(file)
        file.seek(-8, os.SEEK_CUR)
        file.write(chunk_bytes(b"pHYs", struct.pack(">IIB", *density)))


def update_checksum(content: _Checksummed, offset: int) -> None:
    """Recompute the checksum of the chunk at that offset and store it."""
    (length,) = struct.unpack(">I", content[offset : offset + 4])
    end = offset + 8 + length
    content[end : end + 4] = struct.pack(">I", zlib.crc32(content[offset + 4 : end]))


def is_location_text(chunk: bytes) -> bool:
    """True if a complete text chunk mentions a geographic location, or cannot be read.

    >>> is_location_text(chunk_bytes(b"tEXt", b"Comment\\0GPS 51.5"))
    True
    """
    name, content = chunk[4:8], chunk[8:-4]
    keyword, _, rest = content.partition(b"\0")
    try:
        text = keyword + b"\0" + (rest if name == b"tEXt" else _decompressed_text(name, rest))
    except (zlib.error, IndexError):
        return True
    return mentions_location(text.decode("latin-1"))


def _decompressed_text(name: bytes, rest: bytes) -> bytes:
    """The text of a zTXt or iTXt chunk. rest: the bytes after the keyword and its NUL (11.3.3)."""
    if name == b"zTXt":
        return zlib.decompressobj().decompress(rest[1:], MAX_TEXT_BYTES)
    compressed, text = rest[0], rest[2:].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, MAX_TEXT_BYTES) if compressed else text


def diagnose(path: Path) -> str:
    """The damage of a PNG file that a decoder refused without giving a reason; "" if none is found."""
    try:
        with path.open("rb") as file:
            structure = read_structure(file)
            if problem := structure.problem or _header_problem(structure):
                return problem
            file.seek(structure.data_offset)
            for _ in image_data(file):
                pass
    except ContainerError as error:
        return str(error)
    except OSError:
        pass
    return ""


def _header_problem(structure: PngStructure) -> str:
    header = structure.header
    if header is None:
        return "its first chunk is not a valid header"
    if header.bit_depth not in BIT_DEPTHS.get(header.colour_type, ()):
        return f"PNG has no colour type {header.colour_type} with {header.bit_depth} bits"
    if not 0 < header.width < 2**31 or not 0 < header.height < 2**31:
        return f"its header states {header.width}x{header.height} pixels"
    if header.compression or header.filtering or header.interlace > 1:
        return "its header names an unknown compression, filter or interlacing method"
    if header.colour_type == PALETTE and not structure.content(b"PLTE"):
        return "its palette is missing"
    return ""


def ignored_colour(structure: PngStructure) -> str:
    """A note if a PNG declares, without an ICC profile, colours other than sRGB; otherwise ""."""
    codes = tuple(structure.content(b"cICP")[:2])
    if codes and codes != SRGB_CODES:
        primaries, transfer = codes if len(codes) == 2 else (codes[0], 0)
        return (
            f"its cICP colour codes (primaries {primaries}, transfer {transfer}) are left out:"
            " its colours are processed as sRGB"
        )
    names = {chunk.name for chunk in structure.leading}
    if codes or names & {b"iCCP", b"sRGB"}:
        return ""
    gamma = int.from_bytes(structure.content(b"gAMA")[:4], "big")
    if gamma and gamma not in SRGB_GAMMA:
        return f"its gamma of {gamma / 100000:.4g} differs from sRGB's {1 / 2.2:.4g} and is left out"
    return ""
