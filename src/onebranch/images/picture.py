"""A picture as a value: its pixels, its alpha, and what its file holds beside them."""

from dataclasses import dataclass, field, replace

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.colour_conversion import ColourConversion
from onebranch.images.metadata import Metadata
from onebranch.images.rows import Header, Layout
from onebranch.images.samples import WHITE_LEVELS, Samples


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright, greyscale or RGB.

    pixels: (H, W, C) uint8, uint16 or float32, C 1 (grey) or 3 (RGB), encoded as the profile in `metadata`
    says, sRGB where there is none. alpha: (H, W) of the same type, not premultiplied, or None. conversion:
    how the file's colours were converted, and the way back. notes: what reading changed, one line each.
    Raises OnebranchError if shapes or types do not fit.

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
        """Convert samples to the machine's byte order, and check them."""
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
                f"pixels of shape {shape} are no picture; they must be (H, W, 1) or (H, W, 3)"
            )
        if name not in WHITE_LEVELS:
            raise OnebranchError(
                f"pixels of type {name} are no picture; they must be {', '.join(WHITE_LEVELS)}"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); alpha is not counted."""
        return int(self.pixels.shape[2])

    @property
    def header(self) -> Header:
        """The header that a reader of this picture has."""
        alpha, depth = self.alpha is not None, self.pixels.dtype.name
        layout = Layout(self.height, self.width, self.channels, alpha, depth)
        return Header(layout, self.metadata, self.conversion, self.notes)

    def samples(self) -> Samples:
        """Pixels and alpha in one array (H, W, bands), as `Layout` says."""
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
        """True if fully opaque: there is no alpha, or it is white everywhere."""
        return self.alpha is None or bool(np.all(self.alpha == WHITE_LEVELS[self.alpha.dtype.name]))


def picture_of(header: Header, samples: Samples) -> Picture:
    """The picture whose reader has this header and these rows (H, W, bands)."""
    channels = header.layout.channels
    pixels = np.ascontiguousarray(samples[..., :channels])
    alpha = np.ascontiguousarray(samples[..., channels]) if header.layout.alpha else None
    return Picture(pixels, alpha, header.metadata, header.notes, header.conversion)
