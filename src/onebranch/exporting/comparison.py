"""What an exported file gives in another program, beside what it should give."""

from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError

TOLERANCE = 1e-5
"""Largest difference between float32 results and the definition in float64, of the largest value."""

HALF = 2.0**-11
"""Half the distance between two neighbouring float16 numbers, of the number: what rounding to one changes."""

ALLOWED_SHARE = 0.001
"""Of the pixels of an 8-bit network's picture, how many may be off by more than a grey level."""


@dataclass(frozen=True)
class Comparison:
    """One run of an exported file. measured: what `error` counts. bound: the largest error allowed."""

    runtime: str
    measured: str
    error: float
    bound: float
    hint: str = ""

    def checked(self, form: str) -> "Comparison":
        """Itself. Raises OnebranchError where the error is above its bound."""
        if not self.error <= self.bound:
            raise OnebranchError(
                f"the {form} file is {self.words()}; nothing is written{self.hint and f'; {self.hint}'}"
            )
        return self

    def words(self) -> str:
        """The comparison in a line.

        >>> Comparison("onnxruntime", "off by", 2e-7, 1e-5).words()
        'off by 2.0e-07 in onnxruntime (at most 1.0e-05 is allowed)'
        """
        return f"{self.measured} {self.error:.1e} in {self.runtime} (at most {self.bound:.1e} is allowed)"


@dataclass(frozen=True)
class Exported:
    """A file's content, and the runs that it stood."""

    data: bytes
    comparisons: tuple[Comparison, ...]


def random_picture(channels: int) -> np.ndarray:
    """A picture of awkward size, (1, C, 13, 10) float32 in [0, 1]."""
    return np.random.default_rng(0).random((1, channels, 13, 10), np.float32)


def float_comparison(runtime: str, actual: np.ndarray, expected: np.ndarray) -> Comparison:
    """Results in float32 beside the definition's in float64."""
    return Comparison(runtime, "off by", largest(actual, expected), TOLERANCE * _magnitude(expected))


def half_comparison(runtime: str, actual: np.ndarray, expected: np.ndarray, coarse: np.ndarray) -> Comparison:
    """Results of a float16 file beside the definition's in float64, of the same rounded weights and picture.

    coarse: the definition's with every operation rounded to float16. What a runtime rounds differs (between
    operations, in folded constants, or the output alone): twice that error is allowed, and the output's own.
    """
    size = float(np.abs(expected).max())
    return Comparison(
        runtime, "off by", largest(actual, expected), 2 * largest(coarse, expected) + HALF * size + TOLERANCE
    )


def integer_comparison(runtime: str, actual: np.ndarray, expected: np.ndarray, hint: str = "") -> Comparison:
    """Results (1, C, H, W) of an 8-bit file beside the integer reference's, as pictures of 8 bits.

    A pixel is off as its worst channel is. Where float rounding lifts a value over the edge between two
    levels, what follows differs a little. NaN counts as off.
    """
    pictures = (np.floor(np.clip(values, 0, 1) * 255 + 0.5) for values in (actual, expected))
    off = np.abs(np.subtract(*pictures)).max(1)
    words = f"off by up to {off.max():.0f} grey levels; the share of pixels off by more than one is"
    return Comparison(runtime, words, float((~(off <= 1)).mean()), ALLOWED_SHARE, hint)


def largest(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference; NaN is no number below any bound."""
    return float(np.abs(actual - expected).max())


def _magnitude(expected: np.ndarray) -> float:
    return max(1.0, float(np.abs(expected).max()))
