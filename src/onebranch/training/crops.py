"""The crops of a batch as a function of (seed, step, index): random positions, flips, turns, degradations."""

from dataclasses import dataclass

import numpy as np

from onebranch.images.colour import luma
from onebranch.spec.network import NetworkSpec
from onebranch.training.config import Data
from onebranch.training.degradation import degrade
from onebranch.training.originals import change_original
from onebranch.training.picture_cache import Pairs, RgbPicture

JPEG_BLOCK = 8
"""Side of a JPEG block, in pixels of the network's input.

A degraded region begins 8 to 15 such pixels above and left of its crop, and ends 8 below and right of it.
"""


@dataclass(frozen=True)
class Crops:
    """Batches of crops: the network's inputs and the labels."""

    pairs: Pairs
    spec: NetworkSpec
    data: Data
    seed: int

    def batch(self, step: int, indices: range) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels, each (N, C, h, w) float32, for the crops `indices` of the batch of a step.

        The batch is that of all processes. Inputs and labels differ in size by the scale.
        """
        crops = [self.crop(step, index) for index in indices]
        return np.stack([low for low, _ in crops]), np.stack([high for _, high in crops])

    def crop(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One (input, label) pair, float32, channels first; a pure function of its arguments.

        Values are in [0, 1], except noisy inputs, which are not clipped.
        """
        rng = np.random.default_rng((self.seed, step, index))
        picture = int(rng.integers(len(self.pairs)))
        high, low = self._halves(picture, rng)
        transform = int(rng.integers(8)) if self.data.augment else 0
        large = channels_first(_flipped(high, transform), self.spec.colour)
        if low is None:
            return _noisy(large, self.data.sigma, rng), large
        small = channels_first(_flipped(low, transform), self.spec.colour)
        return (large, small) if self.spec.task == "downscale" else (small, large)

    def _halves(self, picture: int, rng: np.random.Generator) -> tuple[RgbPicture, RgbPicture | None]:
        """The same region of the high-resolution picture and, if stored, of the low-quality one.

        The patch size counts pixels of the smaller one.
        """
        scale, size = self.pairs.scale, self.data.patch_size
        height, width = (side // scale for side in self.pairs.high[picture].shape[:2])
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        if self.data.degradation is not None:
            return self._degraded(picture, top, left, rng)
        high = _square(self.pairs.high[picture], top * scale, left * scale, size * scale)
        low = self.pairs.low
        return high, None if low is None else _square(low[picture], top, left, size)

    # Not only the crop is degraded, but a larger region around it: otherwise JPEG's blocks of 8 pixels would
    # always begin at the crop's corner, and blur would depend on its edge. Example: for a crop at (40, 40)
    # and margins (11, 14), the region begins at (29, 26): the crop begins 3 and 6 pixels into a JPEG block.
    def _degraded(
        self, picture: int, top: int, left: int, rng: np.random.Generator
    ) -> tuple[RgbPicture, RgbPicture]:
        """The label and the input at (top, left), cut from a larger degraded region of the picture."""
        assert self.data.degradation is not None
        scale, size = self.pairs.scale, self.data.patch_size
        above, left_of = (int(m) for m in rng.integers(JPEG_BLOCK, 2 * JPEG_BLOCK, 2))
        first_row, first_column = max(0, top - above), max(0, left - left_of)
        region = self.pairs.high[picture][
            first_row * scale : (top + size + JPEG_BLOCK) * scale,
            first_column * scale : (left + size + JPEG_BLOCK) * scale,
        ]
        high = change_original(region, scale, self.data.degradation, rng)
        low = degrade(high, scale, self.data.degradation, rng)
        row, column = top - first_row, left - first_column
        return _square(high, row * scale, column * scale, size * scale), _square(low, row, column, size)


def _square(picture: RgbPicture, top: int, left: int, side: int) -> RgbPicture:
    """The square of the picture whose first pixel is (top, left)."""
    return picture[top : top + side, left : left + side]


def channels_first(picture: RgbPicture, colour: str) -> np.ndarray:
    """uint8 RGB (H, W, 3) as float32: studio-range luma / 255 (1, H, W), or RGB (3, H, W) in [0, 1]."""
    values = picture.astype(np.float32) / np.float32(255)
    planes: np.ndarray = luma(values)[None] if colour == "y" else values.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _flipped(picture: RgbPicture, transform: int) -> RgbPicture:
    """The picture after transform 0 to 7: quarter turns, and from 4 on also mirrored."""
    picture = np.rot90(picture, transform % 4)
    return picture[:, ::-1] if transform >= 4 else picture


def _noisy(label: np.ndarray, sigma: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """The label plus Gaussian noise, not clipped.

    sigma: the range, in 8-bit levels, from which the standard deviation of the crop's noise is drawn.
    """
    level = np.float32(rng.uniform(*sigma) / 255)
    noisy: np.ndarray = label + level * rng.standard_normal(label.shape, np.float32)
    return noisy
