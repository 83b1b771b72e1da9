"""Files that Pillow decodes, because libvips' wheel does not."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.decoders.memory import Held, Limits, check_memory, check_size, held_as_a_whole
from onebranch.images.decoders.pipeline import PipelineReader, described
from onebranch.images.decoders.uncompressed import DecodedReader, RawReader, in_mode, raw_rows
from onebranch.images.libvips import pyvips
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Samples
from onebranch.images.rows import Header, Layout, Reader

Image = Any
"""A Pillow image, whose types differ by format."""

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


def open_by_pillow(path: Path, name: str, limits: Limits) -> Reader:
    with decoder_errors(path, name), _pillow_class(name)(str(path)) as image:
        check_size(path, image.width, image.height, limits.pixels)
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


def open_lab_tiff(path: Path, limits: Limits) -> Reader:
    """A TIFF of 8-bit Lab, which libvips does not read."""
    with decoder_errors(path, "TIFF"), _pillow_class("TIFF")(str(path)) as image:
        check_size(path, image.width, image.height, limits.pixels)
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
        return PipelineReader(path, "TIFF", *described(path, lab, ()))


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
    return PipelineReader(path, "file", *described(path, image, notes))
