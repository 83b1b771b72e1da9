"""Files of each format become rows: libvips decodes what it knows, Pillow the rest."""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.animation import Animation
from onebranch.images.decoders import png_chunks
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.decoders.interlaced import InterlacedReader
from onebranch.images.decoders.memory import (
    Held,
    Limits,
    check_memory,
    check_size,
    held_as_a_whole,
    held_by_frames,
    held_by_jpeg,
    held_by_rows,
    held_by_tiff,
)
from onebranch.images.decoders.netpbm import NetpbmReader, is_netpbm
from onebranch.images.decoders.pillow import open_by_pillow, open_lab_tiff
from onebranch.images.decoders.pipeline import DEPTHS, Image, PipelineReader, described, field
from onebranch.images.decoders.rotation import turned
from onebranch.images.decoders.temporary_file import HELD, size_of
from onebranch.images.formats import Format
from onebranch.images.libvips import pyvips
from onebranch.images.metadata import TURNS
from onebranch.images.picture import Picture, Samples
from onebranch.images.profiles import routed
from onebranch.images.rows import Header, Layout, Reader

LOADERS = {
    "PNG": "pngload",
    "JPEG": "jpegload",
    "WebP": "webpload",
    "TIFF": "tiffload",
    "GIF": "gifload",
    "AVIF": "heifload",
}

LONGEST = 100_000_000
"""Most pixels a side that libvips holds."""


def open_file(path: Path, form: Format, limits: Limits) -> Reader:
    """The first frame or page of a file of that format; OnebranchError if it is damaged or too large."""
    if form.name == "AVIF" and _is_sequence(path):
        return open_by_pillow(path, form.name, limits)
    if form.name == "AVIF":
        _check_avif(path, limits.pixels)
    if form.name in LOADERS:
        return _open_by_libvips(path, form, limits)
    if form.name == "PPM" and is_netpbm(path):
        return NetpbmReader(path, limits.pixels)
    return open_by_pillow(path, form.name, limits)


def _open_by_libvips(path: Path, form: Format, limits: Limits) -> Reader:
    try:
        with decoder_errors(path, form.name):
            image = _loaded(path, form, limits.pixels)
            held = list(_held(path, form, image))
            for one in held:
                check_memory(path, one, limits.memory)
            return _reader(path, form, image, max(one.size for one in held))
    except OnebranchError as error:
        if form.name == "TIFF" and "labq" in str(error):
            return open_lab_tiff(path, limits)
        raise


def _held(path: Path, form: Format, image: Image) -> Iterator[Held]:
    """What the decoder will hold of the picture."""
    width, height, depth = image.width, image.height, DEPTHS.get(image.format, "float32")
    pixel = image.bands * np.dtype(depth).itemsize
    if form.name not in ("PNG", "JPEG", "TIFF"):
        yield held_as_a_whole(form.name, width, height, depth)
        return
    yield held_by_rows(width, height, pixel)
    if form.name == "JPEG":
        sampling = field(image, "jpeg-chroma-subsample", "")
        progressive = bool(field(image, "jpeg-multiscan", 0))
        yield held_by_jpeg(width, height, image.bands, sampling, progressive=progressive)
    if form.name == "TIFF":
        yield held_by_tiff(path, width, height, pixel)


def _loaded(path: Path, form: Format, max_pixels: int, **options: Any) -> Image:
    """The libvips image, read in order where that can be, its size checked."""
    load = getattr(pyvips.Image, LOADERS[form.name])
    arguments = {"access": "sequential", "fail_on": "error", "revalidate": True, **options}
    name = os.fsencode(path)
    image = load(name, **arguments)
    check_size(path, image.width, image.height, max_pixels)
    first = field(image, "heif-primary", 0)
    if first:
        arguments["page"] = first
    if form.name == "TIFF":
        arguments["unlimited"] = True  # one huge strip is more than libvips allocates unasked
    return load(name, **arguments) if first or form.name == "TIFF" else image


def _reader(path: Path, form: Format, image: Image, held: int) -> Reader:
    frames = field(image, "n-pages", 1)
    what = {"TIFF": "pages", "AVIF": "pictures"}.get(form.name, "frames")
    notes = png_chunks.notes_of(path) if form.name == "PNG" else ()
    if frames > 1:
        notes = (*notes, f"only the first of {frames} {what}")
    shown, header = described(path, image, notes)
    header = replace(header, held=held)
    reader: Reader = PipelineReader(path, form.name, shown, header)
    if form.name == "PNG" and field(image, "interlaced", 0) and size_of(header.layout) > HELD:
        reader = InterlacedReader(path, header, partial(_pass_of, path))
    return turned(reader, field(image, "orientation", 1), path)


def _pass_of(path: Path, file: IO[bytes], layout: Layout) -> Reader:
    """One pass of an interlaced PNG, as `InterlacedReader` set it apart; it takes the picture's own route."""
    with decoder_errors(path, "PNG"), file:  # libvips has a handle of its own
        source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error")
        shown, *_ = routed(image)
        return PipelineReader(path, "PNG", shown, Header(layout))


def count_frames(path: Path, form: Format) -> int:
    """The frames that the header of an animation announces."""
    with decoder_errors(path, form.name):
        image = getattr(pyvips.Image, LOADERS[form.name])(os.fsencode(path), revalidate=True)
        return int(field(image, "n-pages", 1))


def decode_animation(path: Path, form: Format, limits: Limits) -> Animation:
    """All frames of a GIF or WebP as they are shown; the limits are held against all of them together."""
    with decoder_errors(path, form.name):
        load = getattr(pyvips.Image, LOADERS[form.name])
        first = load(os.fsencode(path), access="sequential", revalidate=True)
        count = field(first, "n-pages", 1)
        check_size(path, first.width, first.height * count, limits.pixels)
        check_memory(path, held_by_frames(first.width, first.height, count), limits.memory)
        image = load(os.fsencode(path), n=-1, access="sequential", fail_on="error", revalidate=True)
        height = field(image, "page-height", image.height)
        delays = field(image, "delay", [])
        loop = int(field(image, "loop", 0))
        shown, header = described(path, image, ())
        orientation = field(image, "orientation", 1)
    with PipelineReader(path, form.name, shown, header) as reader:
        frames = (reader.read(height) for _ in range(image.height // height))
        turn = TURNS.get(orientation)
        pictures = tuple(_picture(frame if turn is None else turn(frame), header) for frame in frames)
    delays = tuple(int(delay) for delay in [*delays, *[100] * len(pictures)][: len(pictures)])
    return Animation(pictures, delays, loop)


def _picture(samples: Samples, header: Header) -> Picture:
    channels = header.layout.channels
    pixels = np.ascontiguousarray(samples[..., :channels])
    alpha = np.ascontiguousarray(samples[..., channels]) if header.layout.alpha else None
    return Picture(pixels, alpha, header.metadata, header.notes, header.route)


def _is_sequence(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[8:] == b"avis"


def _check_avif(path: Path, max_pixels: int) -> None:
    """The sizes in an AVIF's `ispe` boxes (ISO 23008-12, 6.5.3): one too large libvips takes as 1."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for width, height in re.findall(rb"\0\0\0\x14ispe....(.{4})(.{4})", head, re.DOTALL):
        across, down = (*struct.unpack(">I", width), *struct.unpack(">I", height))
        if max(across, down) > LONGEST:
            raise OnebranchError(
                f"cannot read '{path}': it says that it has {across}x{down} pixels,"
                f" more than the {LONGEST} a side that a picture can have"
            )
        check_size(path, across, down, max_pixels)
