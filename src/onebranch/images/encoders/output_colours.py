"""The colours and depth of the file that a picture is written to, decided once per file."""

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
"""The formats that hold an ICC profile."""

RESTORING_FORMATS = {
    "Lab": ("TIFF",),
    "CMYK": ("TIFF", "JPEG"),
    "linear": PROFILE_FORMATS,
    "profile": PROFILE_FORMATS,
}
"""The formats that hold the colours of each kind of `ColourConversion`; any other gets sRGB."""

WITHOUT_GREY = ("WebP", "AVIF")
"""Formats with profiles whose grey is three equal channels, for which a profile of grey is wrong."""

COLOURS_IN_WORDS = {"linear": "linear light", "profile": "the profile"}
"""Kinds of `ColourConversion` in words; the other kinds are called by their names."""

Action = Literal["keep", "restore", "encode sRGB", "profile to sRGB"]


@dataclass(frozen=True)
class OutputColours:
    """How samples of a picture become those of a file.

    action: "keep" them; "restore" the file's own colours that reading has converted; "encode sRGB", where the
    format does not hold those; or convert from the "profile to sRGB", where the format holds no profile.
    depth: of the file's samples. row_depth: of the rows that the encoder is given. keeps_profile: the profile
    in the picture's metadata is written. losses: what is lost, one line each.
    """

    header: Header
    action: Action
    depth: str
    row_depth: str
    keeps_profile: bool
    losses: tuple[str, ...] = ()

    def convert(self, image: VipsImage) -> VipsImage:
        """A libvips image of the encoder's rows in the colours and the depth of the file."""
        if self.action == "restore":
            return self.header.conversion.restore(image, self.depth)
        if self.action == "encode sRGB":
            return encode_srgb(image, self.depth)
        if self.action == "profile to sRGB":
            return _profile_to_srgb(image, self.header.metadata.icc, self.depth)
        return image

    def convert_rows(self, rows: Samples) -> Samples:
        """Rows of the encoder in the colours and the depth of the file."""
        if self.action == "keep" and rows.dtype == self.depth:
            return rows
        converted = self.convert(of_memory(np.ascontiguousarray(rows))).numpy()
        return np.asarray(converted.reshape(rows.shape))


def output_colours(header: Header, file_format: Format) -> OutputColours:
    """The decision for a picture with that header and a file of that format."""
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
        losses.append(f"{now} become {then}: {file_format.name} holds no more")
    losses += _limited_colours(header.layout, file_format)
    losses += _lost_colours(header, file_format, action)
    return OutputColours(header, action, depth, row_depth, holds_profile, tuple(losses))


def encoder_layout(colours: OutputColours, file_format: Format) -> Layout:
    """The layout of the rows that the encoder is given."""
    layout = colours.header.layout
    alpha = layout.alpha and file_format.alpha
    return Layout(layout.height, layout.width, layout.channels, alpha, colours.row_depth)


def _holds_profile(header: Header, file_format: Format) -> bool:
    """True if the format holds the picture's profile."""
    is_colour = header.layout.channels == 3
    return file_format.name in PROFILE_FORMATS and (is_colour or file_format.name not in WITHOUT_GREY)


def _limited_colours(layout: Layout, file_format: Format) -> list[str]:
    if file_format.name != "GIF":
        return []
    notes = ["colours become at most 256: GIF holds no more"] if layout.channels == 3 else []
    return notes + (
        ["what is half transparent becomes opaque or hidden: GIF holds no more"] if layout.alpha else []
    )


def _lost_colours(header: Header, file_format: Format, action: Action) -> list[str]:
    kind, name = header.conversion.kind, file_format.name
    if kind and name not in RESTORING_FORMATS[kind]:
        return [f"colours become sRGB: {name} does not hold {COLOURS_IN_WORDS.get(kind, kind)}"]
    if header.metadata.icc is None or _holds_profile(header, file_format):
        return []
    if name in WITHOUT_GREY:
        return [f"grey becomes sRGB: {name} holds no profile of grey"]
    if action == "keep":
        return [f"its damaged colour profile is left out: {name} holds none"]
    return [f"colours become sRGB: {name} holds no colour profile"]


def _profile_to_srgb(image: VipsImage, profile: bytes | None, depth: str) -> VipsImage:
    """Samples of a profile as sRGB; black and white as the profile says."""
    channels = colour_bands(image)
    colours = image[:channels] if image.bands > channels else image
    colours = colours.copy(interpretation=image.interpretation)
    colours.set_type(pyvips.GValue.blob_type, BLOCKS["icc"], profile)
    converted = colours.icc_transform("srgb", embedded=True, depth=16 if depth == "uint16" else 8)
    if channels == 1:
        converted = converted.colourspace("grey16" if depth == "uint16" else "b-w")
    converted = converted.copy()
    converted.remove(BLOCKS["icc"])  # sRGB, which is what no profile means
    if image.bands == channels:
        return converted
    return converted.bandjoin(image[channels]).copy(interpretation=converted.interpretation)
