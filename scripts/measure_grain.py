"""Measure how much fine grain of flat areas a model keeps: python scripts/measure_grain.py MODEL FOLDER

Grain (grey Gaussian noise, slightly blurred as that of film) is added to the pictures of a folder, which the
model then enlarges or cleans. In the flattest areas of each picture, the energy above the band of a Gaussian
of sigma 2 is compared with that of Lanczos enlargement (for models that keep the size, of the input), which
keeps grain unchanged. 1 means that all grain is kept, 0 that none is.
"""

import sys

import numpy as np
import numpy.typing as npt

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.images.degradation import blur, resize
from onebranch.images.folders import find_pictures
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import as_depth
from onebranch.metrics import grey
from onebranch.model.catalogue import load

GRAIN_SIGMAS = (2.0, 4.0, 8.0)
"""Standard deviation of the grain in 8-bit grey levels, before it is blurred."""

GRAIN_BLUR = 0.5
"""Sigma of the blur of the grain, in pixels of the input."""

BAND_SIGMA = 2.0
"""Sigma in pixels of the result; what this Gaussian removes is the fine structure that is measured."""

BLOCK, FLAT_SHARE = 32, 0.1
"""Side of a block in pixels of the result, and the share of blocks that count as flat."""

STRENGTHS = (1.0, 0.5)

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Print the share of the energy that is kept, for every grain and strength."""
    name, folder = sys.argv[1:]
    scale = load(name).spec.scale
    pictures = [as_depth(read(path).pixels, "uint8") for path in find_pictures(folder)]
    for strength in STRENGTHS:
        enhancer = Enhancer(Options(model=name, strength=strength))
        for sigma in GRAIN_SIGMAS:
            shares = [kept_share(picture, sigma, scale, enhancer) for picture in pictures]
            kept = f"{np.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}, {len(shares)} pictures)"
            print(f"{name}, strength {strength:g}, grain of sigma {sigma:g}: kept {kept}", flush=True)


def kept_share(picture: npt.NDArray[np.generic], sigma: float, scale: int, enhancer: Enhancer) -> float:
    """Fine energy of the model's result in flat blocks, divided by that of Lanczos enlargement."""
    noise = np.random.default_rng(0).normal(128, sigma, picture.shape[:2])
    grain = blur(np.repeat(np.rint(noise)[..., None], 3, 2).astype(np.uint8), GRAIN_BLUR)
    grainy = np.clip(picture.astype(np.int16) + grain.astype(np.int16) - 128, 0, 255).astype(np.uint8)
    height, width = (side * scale for side in picture.shape[:2])
    plain = grainy if scale == 1 else resize(grainy, height, width, "lanczos")
    clean = picture if scale == 1 else resize(picture, height, width, "lanczos")
    enhanced = as_depth(enhancer.enhance(Picture(grainy)).pixels, "uint8")
    activity, before, after = (_block_means(_fine_energy(pixels)) for pixels in (clean, plain, enhanced))
    flat = activity <= np.quantile(activity, FLAT_SHARE)
    return float(after[flat].sum() / before[flat].sum())


def _fine_energy(picture: npt.NDArray[np.generic]) -> FloatArray:
    """The square of what a Gaussian of `BAND_SIGMA` removes from Y, for every pixel."""
    y = grey(np.asarray(picture, np.uint8))
    positions = np.arange(-6, 7)
    weights = np.exp(-np.square(positions) / (2 * BAND_SIGMA**2))
    weights /= weights.sum()

    def smooth(line: FloatArray) -> FloatArray:
        return np.convolve(np.pad(line, len(weights) // 2, "edge"), weights, "valid")

    low = np.apply_along_axis(smooth, 1, np.apply_along_axis(smooth, 0, y))
    return np.asarray(np.square(y - low))


def _block_means(values: FloatArray) -> FloatArray:
    height, width = (side // BLOCK * BLOCK for side in values.shape)
    blocks = values[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.asarray(blocks.mean((1, 3)))


if __name__ == "__main__":
    main()
