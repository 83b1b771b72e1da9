"""Sample types: the value of white in each, and conversion between them."""

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.generic]
"""An array of uint8, uint16, or float32 with 0 as black and 1 as white."""

WHITE_LEVELS = {"uint8": 255, "uint16": 65535, "float32": 1}
"""The value of white for each sample type (called depth)."""

DEPTH_IN_WORDS = {"uint8": "8 bits", "uint16": "16 bits", "float32": "32-bit floats"}

VIPS_FORMATS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}
"""The libvips format for each depth."""

DEPTHS_BY_VIPS_FORMAT = {name: depth for depth, name in VIPS_FORMATS.items()}


def as_depth(samples: Samples, depth: str) -> Samples:
    """Samples converted to a depth ("uint8", "uint16", "float32"), clipped and rounded half up.

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
    values /= np.float32(WHITE_LEVELS[source])
    if depth == "float32":
        return values
    np.clip(values, 0, 1, out=values)
    values *= np.float32(WHITE_LEVELS[depth])
    values += np.float32(0.5)
    return values.astype(depth)
