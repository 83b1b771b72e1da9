"""Files of each format become pictures: libvips decodes what it knows, Pillow the rest."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, pyvips, reason
from onebranch.images.metadata import TURNS, Metadata, upright
from onebranch.images.picture import Picture, Samples

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

SAMPLES = {"uchar": "uint8", "ushort": "uint16", "float": "float32"}
"""Our name of libvips' sample types; pictures of other types are refused."""

CONVERTED = {"cmyk": "CMYK", "lab": "Lab", "labs": "Lab", "labq": "Lab"}
"""The colour spaces that become sRGB on reading, and their names."""


def decode(path: Path, form: Format, max_pixels: int) -> Picture:
    """The first frame or page of a file of that format; OnebranchError if it is damaged or too large."""
    if form.name in LOADERS:
        return _decode_by_libvips(path, form, max_pixels)
    return _decode_by_pillow(path, form.name, max_pixels)


def _decode_by_libvips(path: Path, form: Format, max_pixels: int) -> Picture:
    load = getattr(pyvips.Image, LOADERS[form.name])
    try:
        image = load(os.fsencode(path), access="sequential", fail_on="error", revalidate=True)
        _check_size(path, image.width, image.height, max_pixels)
        return _from_libvips(path, form, image)
    except pyvips.Error as error:
        if form.name == "TIFF" and "labq" in str(error):
            return _decode_lab_tiff(path, max_pixels)
        raise _damaged(path, form.name, reason(error)) from None


def _from_libvips(path: Path, form: Format, image: Image) -> Picture:
    shown, notes = _in_rgb(image)
    if _field(image, "n-pages", 1) > 1:
        frames = "page" if form.name == "TIFF" else "frame"
        notes += (f"only the first of {_field(image, 'n-pages', 1)} {frames}s",)
    if shown.format not in SAMPLES or shown.bands > 4:
        raise OnebranchError(
            f"cannot read '{path}': {shown.bands} channels of {shown.format} samples;"
            " a picture has 1 to 4 of 8 or 16 bits or 32-bit float"
        )
    samples = np.frombuffer(shown.write_to_memory(), SAMPLES[shown.format])
    samples = samples.reshape(shown.height, shown.width, shown.bands)
    orientation = _field(image, "orientation", 1)
    return _picture(_turned(samples, orientation), upright(_metadata(shown), orientation), notes)


def _in_rgb(image: Image) -> tuple[Image, tuple[str, ...]]:
    """The image in grey or RGB, and a word about it if its colours were converted."""
    kind = image.interpretation
    if kind not in CONVERTED:
        return image, ()
    if kind == "cmyk":
        profile = "its profile" if image.get_typeof("icc-profile-data") else "a common press profile"
        shown = image.icc_transform("srgb", embedded=True, input_profile="cmyk", intent="relative")
    else:
        profile = "the CIE formulas"
        shown = image.colourspace("srgb")
    return shown, (f"{CONVERTED[kind]} converted to sRGB by {profile}",)


def _metadata(image: Image) -> Metadata:
    blocks = {ours: _field(image, theirs, None) for ours, theirs in BLOCKS.items()}
    known = (image.xres, image.yres) != (1.0, 1.0)  # libvips' value for a file that does not say
    return Metadata(**blocks, resolution=(image.xres, image.yres) if known else None)


def _field(image: Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _turned(samples: Samples, orientation: int) -> Samples:
    turn = TURNS.get(orientation)
    return turn(samples) if turn else samples


def _picture(samples: Samples, metadata: Metadata, notes: tuple[str, ...]) -> Picture:
    """Samples (H, W, 1 to 4), the last of 2 or 4 being alpha."""
    channels = 1 if samples.shape[2] < 3 else 3
    alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
    return Picture(
        np.ascontiguousarray(samples[..., :channels]),
        None if alpha is None else np.ascontiguousarray(alpha),
        metadata,
        notes,
    )


def _pillow_class(name: str) -> Callable[..., Image]:
    """Pillow's reader of a format; taken itself, it does not warn of large pictures, which we check."""
    from PIL import BmpImagePlugin, PpmImagePlugin, TiffImagePlugin

    readers: dict[str, Callable[..., Image]] = {
        "BMP": BmpImagePlugin.BmpImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return readers[name]


MODES = {
    "1": "L",
    "L": "L",
    "P": "RGB",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBX": "RGB",
    "I": "I",
    "I;16": "I;16",
}
"""What Pillow's modes become: what they show."""


def _decode_by_pillow(path: Path, name: str, max_pixels: int) -> Picture:
    try:
        with _pillow_class(name)(str(path)) as image:
            _check_size(path, image.width, image.height, max_pixels)
            if image.mode not in MODES:
                raise OnebranchError(f"cannot read '{path}': pictures of mode {image.mode} are not known")
            samples = np.asarray(image.convert(MODES[image.mode]))
    except OnebranchError:
        raise
    except Exception as error:  # Pillow raises what its parsers happen to meet
        raise _damaged(path, name, str(error)) from None
    if samples.dtype == np.int32:
        samples = samples.astype(np.uint16)
    return _picture(np.atleast_3d(samples), Metadata(), ())


def _decode_lab_tiff(path: Path, max_pixels: int) -> Picture:
    """A TIFF of 8-bit Lab, which libvips does not read, as sRGB."""
    from PIL import ImageCms

    try:
        with _pillow_class("TIFF")(str(path)) as image:
            _check_size(path, image.width, image.height, max_pixels)
            profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            shown = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
            return Picture(np.array(shown), notes=("Lab converted to sRGB by the CIE formulas",))
    except OnebranchError:
        raise
    except Exception as error:
        raise _damaged(path, "TIFF", str(error)) from None


def _damaged(path: Path, name: str, why: str) -> OnebranchError:
    told = f": {' '.join(why.split())[:200]}" if why.strip() else ""
    return OnebranchError(f"cannot read '{path}': damaged or unsupported {name} file{told}")


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise OnebranchError(
            f"cannot read '{path}': it says that it has {width}x{height} pixels,"
            f" more than the limit of {max_pixels}; raise the limit if you trust the file"
        )
