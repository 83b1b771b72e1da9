"""Files of each format become rows: libvips decodes what it knows, Pillow the rest."""

import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.animation import Animation
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, pyvips
from onebranch.images.metadata import TURNS, Metadata, upright
from onebranch.images.picture import Picture, Samples
from onebranch.images.png_text import read_texts
from onebranch.images.readers import png_chunks
from onebranch.images.readers.damage import told_of
from onebranch.images.readers.holding import (
    Held,
    check_memory,
    held_as_a_whole,
    held_by_frames,
    held_by_jpeg,
    held_by_rows,
    held_by_tiff,
)
from onebranch.images.readers.interlaced import InterlacedReader
from onebranch.images.readers.netpbm import NetpbmReader, is_netpbm
from onebranch.images.readers.profiles import routed
from onebranch.images.readers.spilling import HELD, size_of
from onebranch.images.readers.turning import turned
from onebranch.images.readers.uncompressed import DecodedReader, RawReader, in_mode, raw_rows
from onebranch.images.route import Route
from onebranch.images.rows import Header, Layout, Reader
from onebranch.images.tiff_exif import read_exif

Image = Any
"""A pyvips or a Pillow image: neither is fully typed."""

LOADERS = {
    "PNG": "pngload",
    "JPEG": "jpegload",
    "WebP": "webpload",
    "TIFF": "tiffload",
    "GIF": "gifload",
    "AVIF": "heifload",
}

DEPTHS = {"uchar": "uint8", "ushort": "uint16", "float": "float32"}
"""Our name of libvips' sample types; pictures of other types are refused."""

TURNED_BY_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*[2-8]")

LONGEST = 100_000_000
"""Most pixels a side that libvips holds."""

CHUNK = 1 << 18
"""Bytes that are taken out of libvips at a time: each step of a pipeline holds as many; more are slower."""


class PipelineReader:
    """The rows of a libvips image, computed as they are asked for."""

    def __init__(self, path: Path, name: str, image: Image, header: Header) -> None:
        self.header = header
        self._path, self._name, self._row = path, name, 0
        self._image = image  # libvips' region does not keep the memory alive that the image stands on
        self._region: Image = pyvips.Region.new(image)

    def read(self, count: int) -> Samples:
        layout = self.header.layout
        count = max(0, min(count, layout.height - self._row))
        rows = np.empty((count, layout.width, layout.bands), layout.depth)
        step = max(1, CHUNK // max(1, rows.itemsize * layout.width * layout.bands))
        for at in range(0, count, step):
            part = rows[at : at + step]
            with told_of(self._path, self._name):
                content = self._region.fetch(0, self._row, layout.width, len(part))
            part[:] = np.frombuffer(content, layout.depth).reshape(part.shape)
            self._row += len(part)
        return rows

    def close(self) -> None:
        self._region = self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class ArrayReader:
    """The rows of samples (H, W, bands) that are in memory."""

    def __init__(self, samples: Samples, header: Header) -> None:
        self.header = header
        self._rest = samples

    def read(self, count: int) -> Samples:
        rows, self._rest = self._rest[:count], self._rest[count:]
        return rows

    def close(self) -> None:
        self._rest = self._rest[:0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


@dataclass(frozen=True)
class Limits:
    """Most pixels that a header may announce, and most bytes that a decoder may hold of them at one time."""

    pixels: int
    memory: int


def open_file(path: Path, form: Format, limits: Limits) -> Reader:
    """The first frame or page of a file of that format; OnebranchError if it is damaged or too large."""
    if form.name == "AVIF" and _is_sequence(path):
        return _open_by_pillow(path, form.name, limits)
    if form.name == "AVIF":
        _check_avif(path, limits.pixels)
    if form.name in LOADERS:
        return _open_by_libvips(path, form, limits)
    if form.name == "PPM" and is_netpbm(path):
        return NetpbmReader(path, limits.pixels)
    return _open_by_pillow(path, form.name, limits)


def _open_by_libvips(path: Path, form: Format, limits: Limits) -> Reader:
    try:
        with told_of(path, form.name):
            image = _loaded(path, form, limits.pixels)
            held = list(_held(path, form, image))
            for one in held:
                check_memory(path, one, limits.memory)
            return _reader(path, form, image, max(one.size for one in held))
    except OnebranchError as error:
        if form.name == "TIFF" and "labq" in str(error):
            return _open_lab_tiff(path, limits)
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
        sampling = _field(image, "jpeg-chroma-subsample", "")
        progressive = bool(_field(image, "jpeg-multiscan", 0))
        yield held_by_jpeg(width, height, image.bands, sampling, progressive=progressive)
    if form.name == "TIFF":
        yield held_by_tiff(path, width, height, pixel)


def _loaded(path: Path, form: Format, max_pixels: int, **options: Any) -> Image:
    """The libvips image, read in order where that can be, its size checked."""
    load = getattr(pyvips.Image, LOADERS[form.name])
    arguments = {"access": "sequential", "fail_on": "error", "revalidate": True, **options}
    name = os.fsencode(path)
    image = load(name, **arguments)
    _check_size(path, image.width, image.height, max_pixels)
    first = _field(image, "heif-primary", 0)
    if first:
        arguments["page"] = first
    if form.name == "TIFF":
        arguments["unlimited"] = True  # one huge strip is more than libvips allocates unasked
    return load(name, **arguments) if first or form.name == "TIFF" else image


def _reader(path: Path, form: Format, image: Image, held: int) -> Reader:
    frames = _field(image, "n-pages", 1)
    what = {"TIFF": "pages", "AVIF": "pictures"}.get(form.name, "frames")
    notes = png_chunks.notes_of(path) if form.name == "PNG" else ()
    if frames > 1:
        notes = (*notes, f"only the first of {frames} {what}")
    shown, header = _described(path, image, notes)
    header = replace(header, held=held)
    reader: Reader = PipelineReader(path, form.name, shown, header)
    if form.name == "PNG" and _field(image, "interlaced", 0) and size_of(header.layout) > HELD:
        reader = InterlacedReader(path, header, partial(_pass_of, path))
    return turned(reader, _field(image, "orientation", 1), path)


def _pass_of(path: Path, file: IO[bytes], layout: Layout) -> Reader:
    """One pass of an interlaced PNG, as `InterlacedReader` set it apart; it takes the picture's own route."""
    with told_of(path, "PNG"), file:  # libvips has a handle of its own
        source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.pngload_source(source, access="sequential", fail_on="error")
        shown, *_ = routed(image)
        return PipelineReader(path, "PNG", shown, Header(layout))


def _described(path: Path, image: Image, notes: tuple[str, ...]) -> tuple[Image, Header]:
    """The image whose samples are to be shown, as it lies, and its header, whose metadata says upright."""
    image = _full_range(image)
    shown, route, profile, words = routed(image)
    orientation = _field(image, "orientation", 1)
    if shown.format not in DEPTHS or shown.bands > 4:
        raise OnebranchError(
            f"cannot read '{path}': {shown.bands} channels of {shown.format} samples;"
            " a picture has 1 to 4 of 8 or 16 bits or 32-bit float"
        )
    channels = 1 if shown.bands < 3 else 3
    layout = Layout(shown.height, shown.width, channels, shown.bands > channels, DEPTHS[shown.format])
    metadata = upright(replace(_metadata(path, image), icc=profile), orientation)
    return shown, Header(layout, metadata, route, (*words, *_unfollowed(layout, metadata, route), *notes))


def _unfollowed(layout: Layout, metadata: Metadata, route: Route) -> tuple[str, ...]:
    """What is taken otherwise than it may have been meant, in words.

    Browsers and most viewers turn by EXIF alone. As XMP is kept, those that follow it turn the result too.
    """
    words = []
    if layout.depth == "float32" and not route and metadata.icc is None:
        words.append("float samples without a profile are taken as sRGB")
    if metadata.xmp is not None and TURNED_BY_XMP.search(metadata.xmp):
        words.append("its XMP says that it is turned, which is kept and not followed")
    return tuple(words)


def _full_range(image: Image) -> Image:
    """Pictures of 10 or 12 bits, which libvips shifts into 16: white is made white."""
    bits = _field(image, "bits-per-sample", 8)
    if image.format != "ushort" or not 8 < bits < 16 or not image.get_typeof("heif-compression"):
        return image
    white = (2**bits - 1) << (16 - bits)
    return (image * (65535 / white)).rint().cast("ushort").copy(interpretation=image.interpretation)


def _metadata(path: Path, image: Image) -> Metadata:
    blocks = {ours: _field(image, theirs, None) for ours, theirs in BLOCKS.items()}
    if _field(image, "vips-loader", "") == "tiffload":
        blocks["exif"] = read_exif(path)
    texts = read_texts(path) if _field(image, "vips-loader", "") == "pngload" else ()
    known = (image.xres, image.yres) != (1.0, 1.0)  # libvips' value for a file that does not say
    return Metadata(**blocks, resolution=(image.xres, image.yres) if known else None, texts=texts)


def _field(image: Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def count_frames(path: Path, form: Format) -> int:
    """The frames that the header of an animation announces."""
    with told_of(path, form.name):
        image = getattr(pyvips.Image, LOADERS[form.name])(os.fsencode(path), revalidate=True)
        return int(_field(image, "n-pages", 1))


def decode_animation(path: Path, form: Format, limits: Limits) -> Animation:
    """All frames of a GIF or WebP as they are shown; the limits are held against all of them together."""
    with told_of(path, form.name):
        load = getattr(pyvips.Image, LOADERS[form.name])
        first = load(os.fsencode(path), access="sequential", revalidate=True)
        count = _field(first, "n-pages", 1)
        _check_size(path, first.width, first.height * count, limits.pixels)
        check_memory(path, held_by_frames(first.width, first.height, count), limits.memory)
        image = load(os.fsencode(path), n=-1, access="sequential", fail_on="error", revalidate=True)
        height = _field(image, "page-height", image.height)
        delays = _field(image, "delay", [])
        loop = int(_field(image, "loop", 0))
        shown, header = _described(path, image, ())
        orientation = _field(image, "orientation", 1)
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
        _check_size(path, across, down, max_pixels)


def _pillow_class(name: str) -> Callable[..., Image]:
    """Pillow's reader of a format; taken itself, it does not warn of large pictures, which we check."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of files that are odd: we read or refuse them
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        IcoImagePlugin,
        Jpeg2KImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
    )

    readers: dict[str, Callable[..., Image]] = {
        "AVIF": AvifImagePlugin.AvifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "ICO": IcoImagePlugin.IcoImageFile,
        "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return readers[name]


MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBX": "RGB",
    "I": "I",
    "I;16": "I;16",
}
"""What Pillow's modes become: what they show."""


STORED = ("BMP", "PPM")
"""The formats whose samples may stand in the file as they are."""

DEEP = {"I": "uint16", "I;16": "uint16"}
"""The depth of Pillow's modes of more than 8 bits."""


def _open_by_pillow(path: Path, name: str, limits: Limits) -> Reader:
    with told_of(path, name), _pillow_class(name)(str(path)) as image:
        _check_size(path, image.width, image.height, limits.pixels)
        if image.mode not in MODES:
            raise OnebranchError(f"cannot read '{path}': pictures of mode {image.mode} are not known")
        mode = MODES[image.mode]
        frames = getattr(image, "n_frames", 1)
        notes = (f"only the first of {frames} frames",) if frames > 1 else ()
        metadata = Metadata(icc=image.info.get("icc_profile") or None)
        raw = raw_rows(image) if name in STORED else None
        if raw is not None and metadata.icc is None:
            return RawReader(
                path, name, image, raw, mode, Header(_layout_of(image, mode), metadata, notes=notes)
            )
        held = held_as_a_whole(name, image.width, image.height)
        check_memory(path, held, limits.memory)
        if metadata.icc is not None:
            return _array_reader(path, in_mode(image, mode), metadata, notes)
        image.load()
        header = Header(_layout_of(image, mode), metadata, notes=notes, held=held.size)
        return DecodedReader(path, name, image, mode, header)


def _layout_of(image: Image, mode: str) -> Layout:
    """The layout of a Pillow image in one of the modes above."""
    bands = len(mode) if mode.isalpha() and mode != "I" else 1
    channels = 1 if bands < 3 else 3
    return Layout(image.height, image.width, channels, bands > channels, DEEP.get(mode, "uint8"))


def _array_reader(path: Path, samples: Samples, metadata: Metadata, notes: tuple[str, ...]) -> Reader:
    """Samples that have a profile: it may take a route."""
    height, width, bands = samples.shape
    kind = {"uint8": "uchar", "uint16": "ushort"}[samples.dtype.name]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(samples).data, width, height, bands, kind)
    image = image.copy(interpretation="srgb" if bands > 2 else "b-w")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", metadata.icc)
    return PipelineReader(path, "file", *_described(path, image, notes))


def _open_lab_tiff(path: Path, limits: Limits) -> Reader:
    """A TIFF of 8-bit Lab, which libvips does not read."""
    with told_of(path, "TIFF"), _pillow_class("TIFF")(str(path)) as image:
        _check_size(path, image.width, image.height, limits.pixels)
        check_memory(path, Held(image.width * image.height * 24, "a TIFF of 8-bit Lab"), limits.memory)
        if image.mode != "LAB":
            raise OnebranchError(f"cannot read '{path}': this kind of Lab TIFF is not known")
        coded = np.asarray(image)  # L of 255 steps; a and b as signed bytes
        values = coded.view(np.int8).astype(np.float32)
        values[..., 0] = coded[..., 0] * np.float32(100 / 255)
        height, width, _ = values.shape
        lab = pyvips.Image.new_from_memory(values.data, width, height, 3, "float")
        lab = lab.copy(interpretation="lab")
        lab.set_type(pyvips.GValue.gint_type, "bits-per-sample", 8)
        return PipelineReader(path, "TIFF", *_described(path, lab, ()))


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise OnebranchError(
            f"cannot read '{path}': it says that it has {width}x{height} pixels,"
            f" more than the limit of {max_pixels}; raise the limit if you trust the file"
        )
