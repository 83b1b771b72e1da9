"""Colour tags of clips: range, matrix, primaries, transfer and chroma siting; how players guess missing ones.

The numbers are those of ITU-T H.273, which FFmpeg uses too.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

UNSPECIFIED = 2
"""The value of an unspecified matrix, primaries or transfer."""

LIMITED_RANGE, FULL_RANGE = 1, 2
"""FFmpeg's numbers of the ranges: black and white at 16 and 235 of 8 bits, or at 0 and 255."""

MATRIX_RGB, MATRIX_BT709, MATRIX_BT470BG, MATRIX_SMPTE170M = 0, 1, 5, 6

LUMA_COEFFICIENTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Contributions of red and of blue to luma, by the number of the matrix."""

HIGH_DEFINITION_WIDTH, STANDARD_DEFINITION_HEIGHT, PAL_HEIGHT = 1280, 576, 576
"""Untagged clips are taken for BT.709 from this width on, or above this height, as mpv does."""

SITING_OFFSETS = {"left": (0.5, 0.0), "center": (0.5, 0.5), "topleft": (0.0, 0.0), "top": (0.0, 0.5)}
"""Where a chroma sample lies in the cell of its luma samples, along (height, width).

0 is on the first luma sample, 0.5 in the middle of the cell. It applies to axes that are subsampled.
"""


@dataclass(frozen=True)
class ColourTags:
    """The colour tags of a clip. siting: a key of `SITING_OFFSETS`. guessed: which tags were guessed."""

    full_range: bool
    matrix: int
    primaries: int
    transfer: int
    siting: str = "left"
    guessed: tuple[str, ...] = ()


def complete_tags(tags: ColourTags, height: int, width: int) -> ColourTags:
    """The tags, with unspecified ones guessed from the size of the input, as players guess them.

    Enlarging a clip would change a player's guess, so results are tagged with the guess for the input.

    >>> complete_tags(ColourTags(False, 2, 2, 2), 576, 720).matrix
    5
    >>> complete_tags(ColourTags(False, 2, 9, 16), 2160, 3840).matrix
    9
    """
    matrix = tags.matrix
    guessed = list(tags.guessed)
    high_definition = width >= HIGH_DEFINITION_WIDTH or height > STANDARD_DEFINITION_HEIGHT
    if matrix == UNSPECIFIED:
        if tags.primaries == 9:
            matrix = 9
        elif high_definition:
            matrix = MATRIX_BT709
        else:
            matrix = MATRIX_BT470BG if height == PAL_HEIGHT else MATRIX_SMPTE170M
        guessed.append("matrix")
    primaries = tags.primaries
    if primaries == UNSPECIFIED:
        primaries = matrix if matrix in (1, 5, 6, 7, 9) else MATRIX_BT709
        guessed.append("primaries")
    transfer = tags.transfer
    if transfer == UNSPECIFIED:
        transfer = {5: 6, 6: 6, 7: 7, 9: 14}.get(primaries, 1)
        guessed.append("transfer")
    return replace(tags, matrix=matrix, primaries=primaries, transfer=transfer, guessed=tuple(guessed))


def ycbcr_matrix(matrix: int) -> npt.NDArray[np.float64]:
    """RGB -> Y, Cb, Cr (3, 3) for Y in [0, 1] and Cb, Cr in [-0.5, 0.5]; unknown matrices are BT.709's.

    >>> (ycbcr_matrix(6) @ np.array([1.0, 1.0, 1.0])).round(12) + 0.0
    array([1., 0., 0.])
    """
    red, blue = LUMA_COEFFICIENTS.get(matrix, LUMA_COEFFICIENTS[MATRIX_BT709])
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr])


@dataclass(frozen=True)
class SampleRange:
    """The sample values of black and white, and of the middle and the extent of chroma."""

    black: int
    white: int
    middle: int
    chroma_extent: int
    maximum: int


def sample_range(depth: int, full_range: bool) -> SampleRange:
    """The range of samples of that depth.

    >>> sample_range(10, False)
    SampleRange(black=64, white=940, middle=512, chroma_extent=896, maximum=1023)
    """
    maximum, middle = (1 << depth) - 1, 1 << (depth - 1)
    if full_range:
        return SampleRange(0, maximum, middle, maximum, maximum)
    unit = 1 << (depth - 8)
    return SampleRange(16 * unit, 235 * unit, middle, 224 * unit, maximum)


def siting_shift(siting: str, factors: tuple[int, int]) -> tuple[float, float]:
    """How far chroma samples lie from the middle of their cells, along (height, width), in chroma samples.

    >>> siting_shift("left", (2, 2)), siting_shift("center", (2, 2)), siting_shift("left", (1, 1))
    ((0.0, -0.25), (0.0, 0.0), (0.0, 0.0))
    """
    offsets = SITING_OFFSETS[siting]
    shifts = [(offset - 0.5) * (factor - 1) / factor for offset, factor in zip(offsets, factors, strict=True)]
    return shifts[0] + 0.0, shifts[1] + 0.0
