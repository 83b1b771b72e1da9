"""Probing of a picture file: its format, size, frame count and structure, without decoding anything.

A file is probed once; the `Probe` is passed to everything that reads the file afterwards.
"""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from onebranch.errors import OnebranchError
from onebranch.images.containers import avif, gif, headers, jpeg, jpeg_2000, netpbm, png, tiff, webp
from onebranch.images.containers.avif import AvifStructure
from onebranch.images.containers.gif import GifStructure
from onebranch.images.containers.headers import HeaderStructure
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.jpeg_2000 import Jpeg2000Structure
from onebranch.images.containers.netpbm import NetpbmStructure
from onebranch.images.containers.png import PngStructure
from onebranch.images.containers.tiff import TiffStructure
from onebranch.images.containers.webp import WebpStructure
from onebranch.images.decoders.memory import MemoryEstimate, estimate_memory
from onebranch.images.formats import (
    READ_ONLY_FORMATS,
    Format,
    foreign_format,
    format_names,
    format_of_content,
)

FileStructure = (
    PngStructure
    | JpegStructure
    | Jpeg2000Structure
    | TiffStructure
    | WebpStructure
    | GifStructure
    | AvifStructure
    | NetpbmStructure
    | HeaderStructure
)

STRUCTURES: dict[str, Callable[[BinaryIO], FileStructure | None]] = {
    "PNG": png.read_structure,
    "JPEG": jpeg.read_structure,
    "TIFF": tiff.read_structure,
    "WebP": webp.read_structure,
    "GIF": gif.read_structure,
    "AVIF": avif.read_structure,
    "PPM": netpbm.read_structure,
    "BMP": headers.read_bmp,
    "ICO": headers.read_ico,
    "JPEG 2000": jpeg_2000.read_structure,
    "TGA": headers.read_tga,
}

HEAD_BYTES = 64
"""Number of bytes at the start of a file that are read to recognize its format."""


@dataclass(frozen=True)
class Probe:
    """What the headers of a picture file state.

    width, height: size in pixels as stored, before any rotation; 0 if the header is damaged (the decoder then
    reports the damage). samples: number per pixel, including alpha. depth: type of the samples, "uint8",
    "uint16" or "float32". structure: what the format's container module has read. frames: number of frames of
    an animation (GIF, WebP), else 1.
    """

    path: Path
    format: Format
    structure: FileStructure | None
    width: int = 0
    height: int = 0
    samples: int = 0
    depth: str = "uint8"
    frames: int = 1

    @property
    def memory(self) -> MemoryEstimate:
        """The memory that the decoder will hold, without the rows that it returns."""
        size = self.width, self.height
        return estimate_memory(self.format.name, *size, self.samples, self.depth, self.structure)


def probe(path: Path | str) -> Probe:
    """The probe of a picture file. Its format is recognized by its content, not by its name.

    The exception is TGA, which has no signature and is recognized by its suffix and header. Raises
    OnebranchError, in one line, if the file cannot be opened or is not a picture that can be read.
    """
    path = Path(path)
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise OnebranchError(f"cannot read '{path}': it is not a file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file_format = format_of_content(head)
            if file_format is None and path.suffix.lower() == ".tga" and headers.is_tga(head):
                file_format = READ_ONLY_FORMATS["TGA"]
            if file_format is None:
                raise OnebranchError(f"cannot read '{path}': {_refusal(head)}")
            structure = STRUCTURES[file_format.name](file)
    except (OSError, ValueError) as error:
        raise OnebranchError(f"cannot read '{path}': {_reason(error)}") from None
    return _described(path, file_format, structure)


def _described(path: Path, file_format: Format, structure: FileStructure | None) -> Probe:
    match structure:
        case PngStructure(header=header) if header is not None:
            depth = "uint16" if header.bit_depth == 16 else "uint8"
            size = header.width, header.height
            return Probe(path, file_format, structure, *size, structure.decoded_samples, depth)
        case TiffStructure():
            return _described_tiff(path, file_format, structure)
        case JpegStructure(width=width, height=height, components=components):
            return Probe(path, file_format, structure, width, height, components)
        case AvifStructure(width=width, height=height, high_bit_depth=high):
            return Probe(path, file_format, structure, width, height, 4, "uint16" if high else "uint8")
        case GifStructure(width=width, height=height) | WebpStructure(width=width, height=height):
            return Probe(path, file_format, structure, width, height, 4, frames=structure.frames)
        case NetpbmStructure(width=width, height=height):
            return Probe(path, file_format, structure, width, height, structure.samples, structure.depth)
        case HeaderStructure(width=width, height=height) | Jpeg2000Structure(width=width, height=height):
            return Probe(path, file_format, structure, width, height, 4)
        case _:
            return Probe(path, file_format, structure)


def _described_tiff(path: Path, file_format: Format, structure: TiffStructure) -> Probe:
    tags = structure.integers
    samples = tags.get(tiff.SAMPLES_PER_PIXEL, 1)
    if tags.get(tiff.PHOTOMETRIC) == tiff.PALETTE_COLOUR:
        samples += 2
    bits = tags.get(tiff.BITS_PER_SAMPLE, 1)
    depth = "uint8" if bits <= 8 else "uint16" if bits <= 16 else "float32"
    size = tags.get(tiff.IMAGE_WIDTH, 0), tags.get(tiff.IMAGE_LENGTH, 0)
    return Probe(path, file_format, structure, *size, samples, depth)


def _refusal(head: bytes) -> str:
    foreign = foreign_format(head)
    if foreign:
        return f"it is {foreign}, a format that cannot be read; convert it to PNG or TIFF first"
    return f"{'it is not' if head else 'it is empty, not'} a {format_names()} picture"


def _reason(error: Exception) -> str:
    """The message of an error with its first letter in lower case: 'no such file or directory'."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:1].lower() + text[1:]
