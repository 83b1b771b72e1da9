"""Addition of the metadata that libvips does not write to the file that it has written."""

from collections.abc import Callable
from pathlib import Path

from onebranch.images.containers import gif, jpeg, png, tiff
from onebranch.images.containers.geotiff import append_geotiff
from onebranch.images.density import DEFAULT_DENSITY, gif_aspect, jfif_density, phys_density
from onebranch.images.formats import Format
from onebranch.images.metadata import Metadata


def complete_file(path: Path, file_format: Format, metadata: Metadata) -> None:
    """Add the parts of the metadata that libvips does not write to a file that it has written."""
    complete = _COMPLETIONS.get(file_format.name)
    if complete is not None:
        complete(path, metadata)


def _complete_jpeg(path: Path, metadata: Metadata) -> None:
    """Add the comments, and a JFIF header if there is a density or EXIF.

    Many programs expect a JFIF header before EXIF.
    """
    segments = []
    if metadata.exif is not None or metadata.density not in (None, DEFAULT_DENSITY):
        segments.append(jpeg.jfif_segment(jfif_density(metadata.density or DEFAULT_DENSITY)))
    segments += [jpeg.segment(jpeg.COMMENT, comment) for comment in metadata.comments]
    if segments:
        jpeg.insert_segments(path, segments)


def _complete_png(path: Path, metadata: Metadata) -> None:
    if metadata.density is not None:
        png.set_density(path, phys_density(metadata.density))
    texts = (*metadata.texts, *(png.comment_chunk(comment) for comment in metadata.comments))
    if texts:
        png.append_texts(path, texts)


def _complete_tiff(path: Path, metadata: Metadata) -> None:
    if metadata.density is not None and not metadata.density.is_absolute:
        tiff.set_relative_density(path, metadata.density.whole_ratio())
    if metadata.exif is not None:
        tiff.append_exif(path, metadata.exif)
    if metadata.geotiff is not None:
        append_geotiff(path, metadata.geotiff)


def _complete_gif(path: Path, metadata: Metadata) -> None:
    density = metadata.density
    if density is not None and not density.is_absolute and density.is_informative:
        gif.set_pixel_aspect(path, gif_aspect(density))


_COMPLETIONS: dict[str, Callable[[Path, Metadata], None]] = {
    "JPEG": _complete_jpeg,
    "PNG": _complete_png,
    "TIFF": _complete_tiff,
    "GIF": _complete_gif,
}
