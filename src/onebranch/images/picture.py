"""A picture as a value: its pixels, its alpha channel, and the metadata of its file."""

from dataclasses import dataclass, field, replace

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.colour_conversion import ColourConversion
from onebranch.images.metadata import Metadata
from onebranch.images.rows import Header, Layout
from onebranch.images.samples import WHITE_LEVELS, Samples


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright still picture, greyscale or RGB.

    pixels: (H, W, C) of uint8, uint16 or float32, where C is 1 (grey) or 3 (RGB). Their colour space is that
    of the ICC profile in `metadata`, or sRGB if there is none. alpha: (H, W) of the same type, not
    premultiplied, or None. conversion: the colour conversion that was made while reading, for the inverse
    while writing. notes: what reading changed, one line each. Raises OnebranchError if shapes or types do not
    fit.

    >>> picture = Picture(np.zeros((48, 64, 3), np.uint8))
    >>> picture.height, picture.width, picture.channels
    (48, 64, 3)
    """

    pixels: Samples
    alpha: Samples | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    conversion: ColourConversion = field(default_factory=ColourConversion)

    def __post_init__(self) -> None:
        """Convert samples to native byte order and check shapes and types."""
        for part in ("pixels", "alpha"):
            samples = getattr(self, part)
            if samples is not None and not samples.dtype.isnative:
                object.__setattr__(self, part, samples.astype(samples.dtype.newbyteorder("=")))
        self._check_pixels()
        shape, name = self.pixels.shape[:2], self.pixels.dtype.name
        if self.alpha is not None and (self.alpha.shape != shape or self.alpha.dtype != self.pixels.dtype):
            raise OnebranchError(
                f"alpha of shape {self.alpha.shape} and type {self.alpha.dtype.name} does not fit the pixels;"
                f" it must be {shape} and {name}"
            )

    def _check_pixels(self) -> None:
        shape, name = self.pixels.shape, self.pixels.dtype.name
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise OnebranchError(
                f"pixels of shape {shape} are not a picture; they must be (H, W, 1) or (H, W, 3)"
            )
        if name not in WHITE_LEVELS:
            raise OnebranchError(
                f"pixels of type {name} are not a picture; they must be {', '.join(WHITE_LEVELS)}"
            )

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); alpha is not counted."""
        return int(self.pixels.shape[2])

    @property
    def header(self) -> Header:
        """The header of a reader of this picture."""
        alpha, depth = self.alpha is not None, self.pixels.dtype.name
        layout = Layout(self.height, self.width, self.channels, alpha, depth)
        return Header(layout, self.metadata, self.conversion, self.notes)

    def samples(self) -> Samples:
        """Pixels and alpha in one array (H, W, bands), as `Layout` defines it."""
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[..., None]], axis=2)

    def with_samples(self, samples: Samples) -> "Picture":
        """The same picture with other samples (H', W', bands) of the same channels."""
        alpha = None if self.alpha is None else np.ascontiguousarray(samples[..., -1])
        pixels = np.ascontiguousarray(samples[..., : self.channels])
        return replace(self, pixels=pixels, alpha=alpha)

    @property
    def opaque(self) -> bool:
        """True if there is no alpha, or if it is fully opaque everywhere."""
        return self.alpha is None or bool(np.all(self.alpha == WHITE_LEVELS[self.alpha.dtype.name]))


def picture_of(header: Header, samples: Samples) -> Picture:
    """The picture of a reader with this header and these rows (H, W, bands)."""
    channels = header.layout.channels
    pixels = np.ascontiguousarray(samples[..., :channels])
    alpha = np.ascontiguousarray(samples[..., channels]) if header.layout.alpha else None
    return Picture(pixels, alpha, header.metadata, header.notes, header.conversion)
