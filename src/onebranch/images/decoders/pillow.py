"""Decoding by Pillow, for the formats that libvips' wheel does not read."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.containers.headers import HeaderStructure
from onebranch.images.decoders.errors import decoder_errors
from onebranch.images.decoders.memory import (
    Limits,
    MemoryEstimate,
    check_memory,
    check_size,
    estimate_memory,
)
from onebranch.images.decoders.uncompressed import (
    DecodedReader,
    PillowImage,
    RawReader,
    raw_rows,
    samples_in_mode,
)
from onebranch.images.decoders.vips_reader import VipsReader, describe
from onebranch.images.density import INCH_IN_MILLIMETRES, Density, read_density
from onebranch.images.libvips import BLOCKS, pyvips
from onebranch.images.metadata import Metadata
from onebranch.images.probe import Probe
from onebranch.images.rows import Header, Layout, Reader
from onebranch.images.samples import VIPS_FORMATS, Samples

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
"""The mode to which an image of each Pillow mode is converted."""

UNCOMPRESSED = ("BMP", "PPM")
"""The formats that can store their samples uncompressed, which are then read from the file by rows."""

DEEP_MODES = {"I": "uint16", "I;16": "uint16"}
"""The depth of the Pillow modes with more than 8 bits."""

LAB_BYTES = 24
"""Bytes per pixel that the decoding of a TIFF of 8-bit Lab takes."""


def open_by_pillow(probe: Probe, limits: Limits) -> Reader:
    """A reader of the first picture of a file, decoded by Pillow."""
    path, name = probe.path, probe.format.name
    check_size(path, probe.width, probe.height, limits.pixels)
    if name not in UNCOMPRESSED:  # an ICO is decoded as it is opened
        check_memory(path, probe.memory, limits.memory)
    with decoder_errors(path, name), _pillow_class(name)(str(path)) as image:
        check_size(path, image.width, image.height, limits.pixels)
        if image.mode not in MODES:
            raise OnebranchError(f"cannot read '{path}': pictures of mode {image.mode} are not supported")
        mode = MODES[image.mode]
        frames = getattr(image, "n_frames", 1)
        notes = (f"only the first of {frames} frames",) if frames > 1 else ()
        if isinstance(probe.structure, HeaderStructure) and probe.structure.pictures > 1:
            notes = (f"only the largest of {probe.structure.pictures} pictures",)
        metadata = Metadata(icc=image.info.get("icc_profile") or None, density=_density(probe, image))
        raw = raw_rows(image) if name in UNCOMPRESSED else None
        if raw is not None and metadata.icc is None:
            header = Header(_layout(image, mode), metadata, notes=notes)
            return RawReader(path, name, image, raw, mode, header)
        estimate = estimate_memory(name, image.width, image.height, 4, "uint8", probe.structure)
        check_memory(path, estimate, limits.memory)
        if metadata.icc is not None:
            return _profiled_reader(path, samples_in_mode(image, mode), metadata, notes)
        image.load()
        header = Header(_layout(image, mode), metadata, notes=notes, decoder_bytes=estimate.bytes)
        return DecodedReader(path, name, image, mode, header)


def open_lab_tiff(path: Path, limits: Limits) -> Reader:
    """A reader of a TIFF of 8-bit Lab, which libvips does not read."""
    with decoder_errors(path, "TIFF"), _pillow_class("TIFF")(str(path)) as image:
        check_size(path, image.width, image.height, limits.pixels)
        estimate = MemoryEstimate(image.width * image.height * LAB_BYTES, "a TIFF of 8-bit Lab")
        check_memory(path, estimate, limits.memory)
        if image.mode != "LAB":
            raise OnebranchError(f"cannot read '{path}': this kind of Lab TIFF is not supported")
        coded = np.asarray(image)  # L in 255 steps; a and b as signed bytes
        values = coded.view(np.int8).astype(np.float32)
        values[..., 0] = coded[..., 0] * np.float32(100 / 255)
        height, width, _ = values.shape
        lab = pyvips.Image.new_from_memory(values.data, width, height, 3, "float")
        lab = lab.copy(interpretation="lab")
        lab.set_type(pyvips.GValue.gint_type, "bits-per-sample", 8)
        return VipsReader(path, "TIFF", *describe(path, lab))


def _pillow_class(name: str) -> Callable[..., PillowImage]:
    """Pillow's image class of a format.

    If it is called directly, Pillow does not warn about large pictures, whose size is checked here.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about unusual files
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        IcoImagePlugin,
        Jpeg2KImagePlugin,
        PpmImagePlugin,
        TgaImagePlugin,
        TiffImagePlugin,
    )

    readers: dict[str, Callable[..., PillowImage]] = {
        "AVIF": AvifImagePlugin.AvifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "ICO": IcoImagePlugin.IcoImageFile,
        "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "TGA": TgaImagePlugin.TgaImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return readers[name]


def _layout(image: PillowImage, mode: str) -> Layout:
    """The layout of a Pillow image after its conversion to that mode."""
    bands = len(mode) if mode.isalpha() and mode != "I" else 1
    channels = 1 if bands < 3 else 3
    return Layout(image.height, image.width, channels, bands > channels, DEEP_MODES.get(mode, "uint8"))


def _density(probe: Probe, image: PillowImage) -> Density | None:
    """The density from the probed structure; for JPEG 2000, the density that Pillow has read."""
    dpi = image.info.get("dpi") if probe.format.name == "JPEG 2000" else None
    if not dpi:
        return read_density(probe.structure, None)
    x, y = (float(each) / INCH_IN_MILLIMETRES for each in dpi)
    return Density(x, y)


def _profiled_reader(path: Path, samples: Samples, metadata: Metadata, notes: tuple[str, ...]) -> Reader:
    """A reader of decoded samples with an ICC profile, whose colours are converted if necessary."""
    height, width, bands = samples.shape
    image = pyvips.Image.new_from_memory(
        np.ascontiguousarray(samples).data, width, height, bands, VIPS_FORMATS[samples.dtype.name]
    )
    image = image.copy(interpretation="srgb" if bands > 2 else "b-w")
    image.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], metadata.icc)
    shown, header = describe(path, image, notes)
    metadata = replace(header.metadata, density=metadata.density)
    return VipsReader(path, "file", shown, replace(header, metadata=metadata))
