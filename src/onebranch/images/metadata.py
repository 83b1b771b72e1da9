"""The metadata of a picture file: which parts are kept, and how they are adapted when the picture changes.

The blocks are parsed and edited in `images.containers`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from onebranch.images.containers import exif, png, xmp
from onebranch.images.containers.geotiff import GeoTiff
from onebranch.images.containers.location import mentions_location
from onebranch.images.density import Density
from onebranch.images.samples import Samples


@dataclass(frozen=True)
class Metadata:
    """Metadata blocks as stored in the file; None for each block that the file does not have.

    texts: complete text chunks of a PNG. comments: contents of the comment segments of a JPEG.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: Density | None = None
    texts: tuple[bytes, ...] = ()
    comments: tuple[bytes, ...] = ()
    geotiff: GeoTiff | None = None


TO_UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""Functions that make samples (H, W, C) upright, by EXIF orientation (CIPA DC-008, 4.6.5); 1 is upright."""

TRANSPOSED = 5
"""From this EXIF orientation on (5 to 8), stored rows are columns of the upright picture."""


def upright(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata after the picture was rotated from that EXIF orientation: the orientation becomes 1.

    GeoTIFF tags are left out, because they describe the pixels as stored.
    """
    if orientation not in TO_UPRIGHT:
        return metadata
    density = metadata.density
    return replace(
        metadata,
        exif=None if metadata.exif is None else exif.set_upright(metadata.exif),
        xmp=None if metadata.xmp is None else xmp.set_upright(metadata.xmp),
        density=density.transposed() if density and orientation >= TRANSPOSED else density,
        geotiff=None,
    )


def of_size(metadata: Metadata, height: int, width: int) -> Metadata:
    """The metadata with the size tags of EXIF, if present, and the GeoTIFF tags adapted to this size."""
    geotiff = metadata.geotiff
    return replace(
        metadata,
        exif=None if metadata.exif is None else exif.set_size(metadata.exif, height, width),
        geotiff=None if geotiff is None else geotiff.resized(height, width),
    )


def without_location(metadata: Metadata) -> Metadata:
    """The metadata without geographic locations. Damaged EXIF and XMP are dropped: they may hold one."""
    return replace(
        metadata,
        exif=None if metadata.exif is None else exif.remove_location(metadata.exif),
        xmp=None if metadata.xmp is None else xmp.remove_location(metadata.xmp),
        texts=tuple(text for text in metadata.texts if not png.is_location_text(text)),
        comments=tuple(each for each in metadata.comments if not mentions_location(each.decode("latin-1"))),
        geotiff=None,
    )


def without_companions(metadata: Metadata) -> Metadata:
    """The metadata of a file with one picture only: XMP no longer announces a gain map or a video."""
    return replace(metadata, xmp=None if metadata.xmp is None else xmp.remove_companions(metadata.xmp))


def without_thumbnail(metadata: Metadata) -> Metadata:
    """The metadata without the thumbnails in EXIF and XMP, which show the unchanged picture."""
    return replace(
        metadata,
        exif=None if metadata.exif is None else exif.remove_thumbnail(metadata.exif),
        xmp=None if metadata.xmp is None else xmp.remove_thumbnails(metadata.xmp),
    )
