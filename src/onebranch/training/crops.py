"""The crops of a batch as a function of (seed, step, index): random places, flips, turns and degradations."""

from dataclasses import dataclass

import numpy as np

from onebranch.images.colour import luma
from onebranch.spec.network import NetworkSpec
from onebranch.training.config import Data
from onebranch.training.degradation import degrade
from onebranch.training.picture_cache import Pairs, RgbPicture

JPEG_BLOCK = 8
"""Side in pixels. A degraded region begins one to two blocks before its crop, at a random offset."""


@dataclass(frozen=True)
class Crops:
    """Batches of crops: the network's inputs and the labels."""

    pairs: Pairs
    spec: NetworkSpec
    data: Data
    seed: int

    def batch(self, step: int, indices: range) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels (N, C, h, w) float32 of the crops at `indices` of the global batch of `step`."""
        crops = [self.crop(step, index) for index in indices]
        return np.stack([low for low, _ in crops]), np.stack([high for _, high in crops])

    def crop(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One (input, label) crop, channels first, in [0, 1]; the same for the same arguments."""
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
        """The same region of both halves; the patch size counts pixels of the smaller half."""
        scale, size = self.pairs.scale, self.data.patch_size
        height, width = (side // scale for side in self.pairs.high[picture].shape[:2])
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        high = self.pairs.high[picture][
            top * scale : (top + size) * scale, left * scale : (left + size) * scale
        ]
        if self.data.degradation is not None:
            return high, self._degraded(picture, top, left, rng)
        low = self.pairs.low
        return high, None if low is None else low[picture][top : top + size, left : left + size]

    # A crop is not degraded by itself: JPEG's blocks of 8 pixels would always begin at its corner, and blur
    # would see its edge. Example: crop at (40, 40), offsets (11, 14): the region begins at (29, 26), so that
    # the crop begins 3 and 6 pixels into a JPEG block.
    def _degraded(self, picture: int, top: int, left: int, rng: np.random.Generator) -> RgbPicture:
        """The degraded input at (top, left), cut from a larger degraded region of the picture."""
        assert self.data.degradation is not None
        scale, size = self.pairs.scale, self.data.patch_size
        above, before = (int(m) for m in rng.integers(JPEG_BLOCK, 2 * JPEG_BLOCK, 2))
        first_row, first_column = max(0, top - above), max(0, left - before)
        region = self.pairs.high[picture][
            first_row * scale : (top + size + JPEG_BLOCK) * scale,
            first_column * scale : (left + size + JPEG_BLOCK) * scale,
        ]
        low = degrade(region, scale, self.data.degradation, rng)
        row, column = top - first_row, left - first_column
        return low[row : row + size, column : column + size]


def channels_first(picture: RgbPicture, colour: str) -> np.ndarray:
    """uint8 RGB (H, W, 3) as float32 (1, H, W) studio luma / 255, or (3, H, W) RGB, in [0, 1]."""
    values = picture.astype(np.float32) / np.float32(255)
    planes: np.ndarray = luma(values)[None] if colour == "y" else values.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


def _flipped(picture: RgbPicture, transform: int) -> RgbPicture:
    """One of the eight flips and quarter turns of a square, by number."""
    picture = np.rot90(picture, transform % 4)
    return picture[:, ::-1] if transform >= 4 else picture


def _noisy(label: np.ndarray, sigma: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of one level for the crop, drawn from the range (in 8-bit grey levels), unclipped."""
    level = np.float32(rng.uniform(*sigma) / 255)
    noisy: np.ndarray = label + level * rng.standard_normal(label.shape, np.float32)
    return noisy
