"""Small smooth colour pictures to train tiny networks on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_smooth_pictures(sizes: Mapping[Path, tuple[int, int]]) -> None:
    """Write a picture of each (height, width) to its path: 6x7 random pixels, enlarged bicubically."""
    rng = np.random.default_rng(0)
    for path, (height, width) in sizes.items():
        small = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
