"""The decision about the colours and the depth of an output file, which is made once per file."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onebranch.images.colour_conversion import colour_bands, encode_srgb
from onebranch.images.encoders.pipe import of_memory
from onebranch.images.formats import Format
from onebranch.images.libvips import BLOCKS, VipsImage, pyvips
from onebranch.images.profiles import classify_profile
from onebranch.images.rows import Header, Layout
from onebranch.images.samples import DEPTH_IN_WORDS, Samples

PROFILE_FORMATS = ("PNG", "JPEG", "WebP", "TIFF", "AVIF")
"""The formats that can hold an ICC profile."""

RESTORING_FORMATS = {
    "Lab": ("TIFF",),
    "CMYK": ("TIFF", "JPEG"),
    "linear": PROFILE_FORMATS,
    "profile": PROFILE_FORMATS,
}
"""The formats that can hold the colours of each kind of `ColourConversion`; all others get sRGB."""

WITHOUT_GREY = ("WebP", "AVIF")
"""Formats that store grey as three equal channels, so that a grey profile does not fit."""

COLOURS_IN_WORDS = {"linear": "linear light", "profile": "the profile"}
"""Kinds of `ColourConversion` in words for notes; other kinds are named as they are."""

Action = Literal["keep", "restore", "encode sRGB", "profile to sRGB"]


@dataclass(frozen=True)
class OutputColours:
    """How the samples of a picture are converted to those of a file.

    action: "keep" does not change the colours; "restore" converts back to the colours of the input file;
    "encode sRGB" writes sRGB because the format cannot hold those; "profile to sRGB" converts from the ICC
    profile because the format cannot hold one. depth: type of the samples in the file. row_depth: type of the
    samples that the encoder is given. keeps_profile: True if the profile in the picture's metadata is
    written. losses: notes about what is lost, one line each.
    """

    header: Header
    action: Action
    depth: str
    row_depth: str
    keeps_profile: bool
    losses: tuple[str, ...] = ()

    def convert(self, image: VipsImage) -> VipsImage:
        """The libvips image of the encoder's rows, converted to the colours and the depth of the file."""
        if self.action == "restore":
            return self.header.conversion.restore(image, self.depth)
        if self.action == "encode sRGB":
            return encode_srgb(image, self.depth)
        if self.action == "profile to sRGB":
            return _profile_to_srgb(image, self.header.metadata.icc, self.depth)
        return image

    def convert_rows(self, rows: Samples) -> Samples:
        """The encoder's rows, converted to the colours and the depth of the file."""
        if self.action == "keep" and rows.dtype == self.depth:
            return rows
        converted = self.convert(of_memory(np.ascontiguousarray(rows))).numpy()
        return np.asarray(converted.reshape(rows.shape))


def output_colours(header: Header, file_format: Format) -> OutputColours:
    """The output colours for a picture with that header and a file of that format."""
    conversion, icc = header.conversion, header.metadata.icc
    own_depth = conversion.depth if conversion else header.layout.depth
    depth = own_depth if own_depth in file_format.depths else file_format.depths[-1]
    holds_profile = _holds_profile(header, file_format)
    action: Action = "keep"
    if conversion:
        restores = holds_profile and file_format.name in RESTORING_FORMATS[conversion.kind]
        action = "restore" if restores else "encode sRGB"
    elif icc is not None and not holds_profile:
        usable = classify_profile(icc, header.layout.channels) != "damaged"
        action = "profile to sRGB" if usable else "keep"
    row_depth = header.layout.depth if conversion else depth
    losses = []
    if depth != own_depth:
        now, then = DEPTH_IN_WORDS[own_depth], DEPTH_IN_WORDS[depth]
        losses.append(f"{now} become {then}: {file_format.name} cannot hold more")
    losses += _limited_colours(header.layout, file_format)
    losses += _lost_colours(header, file_format, action)
    return OutputColours(header, action, depth, row_depth, holds_profile, tuple(losses))


def encoder_layout(colours: OutputColours, file_format: Format) -> Layout:
    """The layout of the rows that the encoder is given."""
    layout = colours.header.layout
    alpha = layout.alpha and file_format.alpha
    return Layout(layout.height, layout.width, layout.channels, alpha, colours.row_depth)


def _holds_profile(header: Header, file_format: Format) -> bool:
    """True if the format can hold the picture's profile."""
    is_colour = header.layout.channels == 3
    return file_format.name in PROFILE_FORMATS and (is_colour or file_format.name not in WITHOUT_GREY)


def _limited_colours(layout: Layout, file_format: Format) -> list[str]:
    if file_format.name != "GIF":
        return []
    notes = ["colours are reduced to 256: GIF cannot hold more"] if layout.channels == 3 else []
    return notes + (
        ["partly transparent pixels become opaque or hidden: GIF cannot hold more"] if layout.alpha else []
    )


def _lost_colours(header: Header, file_format: Format, action: Action) -> list[str]:
    kind, name = header.conversion.kind, file_format.name
    if kind and name not in RESTORING_FORMATS[kind]:
        return [f"colours become sRGB: {name} cannot hold {COLOURS_IN_WORDS.get(kind, kind)}"]
    if header.metadata.icc is None or _holds_profile(header, file_format):
        return []
    if name in WITHOUT_GREY:
        return [f"grey becomes sRGB: {name} cannot hold a grey profile"]
    if action == "keep":
        return [f"its damaged colour profile is left out: {name} cannot hold a profile"]
    return [f"colours become sRGB: {name} cannot hold a colour profile"]


def _profile_to_srgb(image: VipsImage, profile: bytes | None, depth: str) -> VipsImage:
    """The image converted from an ICC profile to sRGB in that depth; alpha is unchanged."""
    channels = colour_bands(image)
    colours = image[:channels] if image.bands > channels else image
    colours = colours.copy(interpretation=image.interpretation)
    colours.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], profile)
    converted = colours.icc_transform("srgb", embedded=True, depth=16 if depth == "uint16" else 8)
    if channels == 1:
        converted = converted.colourspace("grey16" if depth == "uint16" else "b-w")
    converted = converted.copy()
    converted.remove(BLOCKS["icc"])  # samples without a profile are sRGB
    if image.bands == channels:
        return converted
    return converted.bandjoin(image[channels]).copy(interpretation=converted.interpretation)
