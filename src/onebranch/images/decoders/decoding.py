"""The choice of the decoder for a file: libvips for the formats that it reads, Pillow for the others."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from onebranch.errors import OnebranchError, counted_noun
from onebranch.images.animation import Animation
from onebranch.images.containers import png
from onebranch.images.containers.avif import AvifStructure
from onebranch.images.containers.jpeg import JpegStructure
from onebranch.images.containers.netpbm import BITMAPS, NetpbmStructure
from onebranch.images.containers.png import PngStructure
from onebranch.images.containers.tiff import TiffStructure
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.decoders.interlaced import InterlacedReader
from onebranch.images.decoders.memory import (
    Limits,
    MemoryEstimate,
    animation_memory,
    check_memory,
    check_size,
    estimate_memory,
)
from onebranch.images.decoders.netpbm import NetpbmReader
from onebranch.images.decoders.pillow import open_by_pillow, open_lab_tiff
from onebranch.images.decoders.rotation import upright_reader
from onebranch.images.decoders.temporary_file import MAX_IN_MEMORY_BYTES, sample_bytes
from onebranch.images.decoders.vips_reader import VipsReader, describe
from onebranch.images.libvips import VipsImage, field, pyvips
from onebranch.images.metadata import TO_UPRIGHT
from onebranch.images.picture import picture_of
from onebranch.images.probe import Probe
from onebranch.images.profiles import decode_colours
from onebranch.images.rows import Header, Layout, Reader
from onebranch.images.samples import DEPTHS_BY_VIPS_FORMAT

LOADERS = {
    "PNG": "pngload",
    "JPEG": "jpegload",
    "WebP": "webpload",
    "TIFF": "tiffload",
    "GIF": "gifload",
    "AVIF": "heifload",
}
"""The libvips operation that loads each format."""

FURTHER_PICTURES = {"TIFF": "pages", "AVIF": "pictures", "JPEG": "pictures"}
"""The plural noun for the pictures in a file of each format; "frames" for all other formats."""

MAX_VIPS_SIDE = 100_000_000
"""Largest height or width that libvips can process, in pixels."""

DEFAULT_DELAY_MS = 100
"""The delay in milliseconds of a frame for which the file states none."""


def open_file(probe: Probe, limits: Limits) -> Reader:
    """A reader of the first frame or page of a probed file.

    Raises OnebranchError if the file is damaged or exceeds the limits.
    """
    match probe.structure:
        case AvifStructure(is_sequence=True):
            return open_by_pillow(probe, limits)
        case AvifStructure(sizes=sizes):
            _check_avif_sizes(probe.path, sizes, limits.pixels)
        case NetpbmStructure(kind=kind) if kind in BITMAPS:
            return open_by_pillow(probe, limits)
    if probe.format.name == "PPM":
        return NetpbmReader(probe.path, _netpbm(probe), limits.pixels)
    return _open_by_libvips(probe, limits) if probe.format.name in LOADERS else open_by_pillow(probe, limits)


def _netpbm(probe: Probe) -> NetpbmStructure | None:
    return probe.structure if isinstance(probe.structure, NetpbmStructure) else None


def _open_by_libvips(probe: Probe, limits: Limits) -> Reader:
    try:
        with decoder_errors(probe.path, probe.format.name):
            _check_header(probe, limits)
            image = _load(probe, limits.pixels)
            estimate = _decoder_memory(probe, image)
            check_memory(probe.path, estimate, limits.memory)
            return _reader(probe, image, estimate.bytes)
    except OnebranchError as error:
        if probe.format.name == "TIFF" and "labq" in str(error):
            return open_lab_tiff(probe.path, limits)
        raise


def _check_header(probe: Probe, limits: Limits) -> None:
    """Check the size and memory that the header announces, before a decoder opens the file."""
    check_size(probe.path, probe.width, probe.height, limits.pixels)
    check_memory(probe.path, probe.memory, limits.memory)


def _decoder_memory(probe: Probe, image: VipsImage) -> MemoryEstimate:
    """The decoder's memory for the size that libvips has read, which may differ from that of the probe."""
    depth = DEPTHS_BY_VIPS_FORMAT.get(image.format, "float32")
    return estimate_memory(probe.format.name, image.width, image.height, image.bands, depth, probe.structure)


def _load(probe: Probe, max_pixels: int) -> VipsImage:
    """The libvips image with sequential access, after a check of its size."""
    load = getattr(pyvips.Image, LOADERS[probe.format.name])
    arguments: dict[str, Any] = {"access": "sequential", "fail_on": "error", "revalidate": True}
    name = os.fsencode(probe.path)
    image = load(name, **arguments)
    check_size(probe.path, image.width, image.height, max_pixels)
    if primary := field(image, "heif-primary", 0):
        return load(name, page=primary, **arguments)
    if probe.format.name == "TIFF":  # by default, libvips refuses strips above 50 MB
        return load(name, unlimited=True, **arguments)
    return image


def _reader(probe: Probe, image: VipsImage, decoder_bytes: int) -> Reader:
    path, name = probe.path, probe.format.name
    shown, header = describe(path, image, _notes(probe, image), probe.structure)
    header = replace(header, decoder_bytes=decoder_bytes)
    reader: Reader = VipsReader(path, name, shown, header)
    is_large = sample_bytes(header.layout) > MAX_IN_MEMORY_BYTES
    if isinstance(probe.structure, PngStructure) and field(image, "interlaced", 0) and is_large:
        reader = InterlacedReader(path, probe.structure, header, partial(_open_pass, path))
    return upright_reader(reader, field(image, "orientation", 1), path)


def _notes(probe: Probe, image: VipsImage) -> tuple[str, ...]:
    """Notes about ignored content: further pictures, and colours that a PNG declares without a profile."""
    notes, pictures = [], field(image, "n-pages", 1)
    if isinstance(probe.structure, PngStructure) and not probe.structure.problem:
        pictures = probe.structure.frames
        notes += [note] if (note := png.ignored_colour(probe.structure)) else []
    match probe.structure:
        case JpegStructure():
            pictures = probe.structure.pictures - probe.structure.has_gain_map
        case TiffStructure(sub_images=count) if count:
            notes.append(f"{counted_noun(count, 'sub-image')} left out")
    if pictures > 1:
        notes.append(f"only the first of {pictures} {FURTHER_PICTURES.get(probe.format.name, 'frames')}")
    return (*notes, *_lost_companions(probe))


def _lost_companions(probe: Probe) -> list[str]:
    """Notes about a gain map and a motion video, which are left out."""
    has = {"gain map": "has_gain_map", "motion video": "has_video"}
    return [f"its {what} is left out" for what, name in has.items() if getattr(probe.structure, name, False)]


def _open_pass(path: Path, file: IO[bytes], layout: Layout) -> Reader:
    """The reader of one pass of an interlaced PNG, which `InterlacedReader` has stored as a plain PNG."""
    with decoder_errors(path, "PNG"), file:  # libvips duplicates the file descriptor
        source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error")
        return VipsReader(path, "PNG", decode_colours(image).image, Header(layout))


def decode_animation(probe: Probe, limits: Limits) -> Animation:
    """All frames of a GIF or WebP file, composited. The limits apply to the sum of all frames."""
    path, name = probe.path, probe.format.name
    _check_header(probe, limits)
    with decoder_errors(path, name):
        load = getattr(pyvips.Image, LOADERS[name])
        first = load(os.fsencode(path), access="sequential", revalidate=True)
        count = field(first, "n-pages", 1)
        check_size(path, first.width, first.height * count, limits.pixels)
        check_memory(path, animation_memory(first.width, first.height, count), limits.memory)
        image = load(os.fsencode(path), n=-1, access="sequential", fail_on="error", revalidate=True)
        height = field(image, "page-height", image.height)
        shown, header = describe(path, image, structure=probe.structure)
    with VipsReader(path, name, shown, header) as reader:
        to_upright = TO_UPRIGHT.get(field(image, "orientation", 1), np.asarray)
        frames = (to_upright(reader.read(height)) for _ in range(image.height // height))
        pictures = tuple(picture_of(header, frame) for frame in frames)
    delays = [*field(image, "delay", []), *[DEFAULT_DELAY_MS] * len(pictures)][: len(pictures)]
    return Animation(pictures, tuple(int(delay) for delay in delays), int(field(image, "loop", 0)))


def _check_avif_sizes(path: Path, sizes: tuple[tuple[int, int], ...], max_pixels: int) -> None:
    """Check the sizes in an AVIF header, because libvips reads a size above its limit as 1."""
    for width, height in sizes:
        if max(width, height) > MAX_VIPS_SIDE:
            raise OnebranchError(
                f"cannot read '{path}': its header states {width}x{height} pixels;"
                f" a picture has at most {MAX_VIPS_SIDE} on a side"
            )
        check_size(path, width, height, max_pixels)
