"""A picture as a value: its pixels, its alpha, and what came along with them in its file."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.images.metadata import Metadata
from onebranch.images.route import Route
from onebranch.images.rows import Header, Layout

Samples = npt.NDArray[np.generic]
"""uint8, uint16, or float32 with 0 as black and 1 as white."""

DEPTHS = {"uint8": 255, "uint16": 65535, "float32": 1}
"""The types of samples and the value of white."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright, greyscale or RGB.

    pixels: (H, W, C) uint8, uint16 or float32, C 1 (grey) or 3 (RGB), encoded as the profile in `metadata`
    says, sRGB where there is none. alpha: (H, W) of the same type, not multiplied in, or None. route: how
    pixels came from the file's, and the way back. notes: what reading changed, one line each.
    OnebranchError if shapes or types do not fit.
    """

    pixels: Samples
    alpha: Samples | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    route: Route = field(default_factory=Route)

    def __post_init__(self) -> None:
        for part in ("pixels", "alpha"):
            samples = getattr(self, part)
            if samples is not None and not samples.dtype.isnative:
                object.__setattr__(self, part, samples.astype(samples.dtype.newbyteorder("=")))
        shape, name = self.pixels.shape, self.pixels.dtype.name
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise OnebranchError(
                f"pixels of shape {shape} are no picture; they must be (H, W, 1) or (H, W, 3)"
            )
        if name not in DEPTHS:
            raise OnebranchError(f"pixels of type {name} are no picture; they must be {', '.join(DEPTHS)}")
        if self.alpha is not None and (
            self.alpha.shape != shape[:2] or self.alpha.dtype != self.pixels.dtype
        ):
            raise OnebranchError(
                f"alpha of shape {self.alpha.shape} and type {self.alpha.dtype.name} does not fit the pixels;"
                f" it must be {shape[:2]} and {name}"
            )

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def header(self) -> Header:
        """What is said of it before its rows."""
        alpha, depth = self.alpha is not None, self.pixels.dtype.name
        layout = Layout(self.height, self.width, self.channels, alpha, depth)
        return Header(layout, self.metadata, self.route, self.notes)

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
        """Whether nothing shines through: no alpha, or white everywhere."""
        return self.alpha is None or bool(np.all(self.alpha == DEPTHS[self.alpha.dtype.name]))


def as_depth(samples: Samples, depth: str) -> Samples:
    """Samples of any depth as another one ("uint8", "uint16", "float32"), clipped and rounded half up.

    >>> as_depth(np.array([0, 128, 65535], np.uint16), "uint8").tolist()
    [0, 0, 255]
    >>> as_depth(np.array([-0.1, 0.5, 1.0], np.float32), "uint8").tolist()
    [0, 128, 255]
    """
    source = samples.dtype.name
    if source == depth:
        return samples
    if source == "uint8" and depth == "uint16":
        return samples.astype(np.uint16) * np.uint16(257)
    values = samples.astype(np.float32)
    values /= np.float32(DEPTHS[source])
    if depth == "float32":
        return values
    np.clip(values, 0, 1, out=values)
    values *= np.float32(DEPTHS[depth])
    values += np.float32(0.5)
    return values.astype(depth)
