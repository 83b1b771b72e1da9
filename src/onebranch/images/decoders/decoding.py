"""Files of each format become readers of rows: libvips decodes what it knows, Pillow the rest."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from onebranch.errors import OnebranchError
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
"""libvips' operation for each format that it decodes."""

FURTHER_PICTURES = {"TIFF": "pages", "AVIF": "pictures", "JPEG": "pictures"}
"""What the pictures in a file of a format are called; frames in all others."""

MAX_VIPS_SIDE = 100_000_000
"""Largest height or width that libvips can process, in pixels."""

DEFAULT_DELAY_MS = 100
"""Milliseconds of a frame without a delay of its own."""


def open_file(probe: Probe, limits: Limits) -> Reader:
    """The first frame or page of a probed file; raises OnebranchError if it is damaged or too large."""
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
    """Check what the header announces, before a decoder opens the file."""
    check_size(probe.path, probe.width, probe.height, limits.pixels)
    check_memory(probe.path, probe.memory, limits.memory)


def _decoder_memory(probe: Probe, image: VipsImage) -> MemoryEstimate:
    """The decoder's memory, by libvips' header: the file may announce something else elsewhere."""
    depth = DEPTHS_BY_VIPS_FORMAT.get(image.format, "float32")
    return estimate_memory(probe.format.name, image.width, image.height, image.bands, depth, probe.structure)


def _load(probe: Probe, max_pixels: int) -> VipsImage:
    """The libvips image, decoded in order where that is possible, its size checked."""
    load = getattr(pyvips.Image, LOADERS[probe.format.name])
    arguments: dict[str, Any] = {"access": "sequential", "fail_on": "error", "revalidate": True}
    name = os.fsencode(probe.path)
    image = load(name, **arguments)
    check_size(probe.path, image.width, image.height, max_pixels)
    if primary := field(image, "heif-primary", 0):
        return load(name, page=primary, **arguments)
    if probe.format.name == "TIFF":  # one huge strip is more than libvips allocates by default
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
    """Notes on what is ignored in a file: colours that a PNG declares, and all pictures but the first."""
    notes, pictures = [], field(image, "n-pages", 1)
    if isinstance(probe.structure, PngStructure) and not probe.structure.problem:
        pictures = probe.structure.frames
        notes += [note] if (note := png.ignored_colour(probe.structure)) else []
    match probe.structure:
        case JpegStructure():
            pictures = probe.structure.pictures - probe.structure.has_gain_map
        case TiffStructure(sub_images=count) if count:
            notes.append(f"its {count} sub-images are left out")
    if pictures > 1:
        notes.append(f"only the first of {pictures} {FURTHER_PICTURES.get(probe.format.name, 'frames')}")
    return (*notes, *_lost_companions(probe))


def _lost_companions(probe: Probe) -> list[str]:
    """Notes on content of the file that is left out and is not another picture, such as a gain map."""
    has = {"gain map": "has_gain_map", "motion video": "has_video"}
    return [f"its {what} is left out" for what, name in has.items() if getattr(probe.structure, name, False)]


def _open_pass(path: Path, file: IO[bytes], layout: Layout) -> Reader:
    """One pass of an interlaced PNG, as `InterlacedReader` has separated it, in the picture's colours."""
    with decoder_errors(path, "PNG"), file:  # libvips has a handle of its own
        source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error")
        return VipsReader(path, "PNG", decode_colours(image).image, Header(layout))


def decode_animation(probe: Probe, limits: Limits) -> Animation:
    """All frames of a GIF or WebP as they are shown; the limits hold for all of them together."""
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
    """The sizes in an AVIF's header: one that is too large libvips takes as 1."""
    for width, height in sizes:
        if max(width, height) > MAX_VIPS_SIDE:
            raise OnebranchError(
                f"cannot read '{path}': it says that it has {width}x{height} pixels,"
                f" more than the {MAX_VIPS_SIDE} a side that a picture can have"
            )
        check_size(path, width, height, max_pixels)
