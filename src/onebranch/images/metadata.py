"""What a picture's file holds beside its samples, and how it stays true when the picture is turned."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

ORIENTATION = 0x0112
"""The EXIF tag."""


@dataclass(frozen=True)
class Metadata:
    """Blocks as they stand in the file, or None; resolution: pixels per millimetre across and down."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None


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
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return exif
    try:
        return _upright_tiff(exif, start, order)
    except struct.error:
        return exif


def _upright_tiff(exif: bytes, start: int, order: str) -> bytes:
    (directory,) = struct.unpack_from(order + "I", exif, start + 4)
    (entries,) = struct.unpack_from(order + "H", exif, start + directory)
    result = bytearray(exif)
    for entry in range(entries):
        place = start + directory + 2 + 12 * entry
        (tag,) = struct.unpack_from(order + "H", exif, place)
        if tag == ORIENTATION:
            struct.pack_into(order + "HIHH", result, place + 2, 3, 1, 1, 0)  # one SHORT, the value 1
    return bytes(result)
