"""Comparisons of the output of an exported file in another program with the expected output."""

from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError

FLOAT32_TOLERANCE = 1e-5
"""Largest difference between float32 output and the definition, relative to the largest value."""

FLOAT16_ROUNDING = 2.0**-11
"""Largest relative error of rounding to float16."""

MAX_SHARE_OFF = 0.001
"""Share of the pixels of an 8-bit network that may differ by more than one grey level."""


@dataclass(frozen=True)
class Comparison:
    """One run of an exported file. measured: what `error` measures. bound: the largest allowed error."""

    runtime: str
    measured: str
    error: float
    bound: float
    hint: str = ""

    def checked(self, file_kind: str) -> "Comparison":
        """This comparison, unchanged. Raises OnebranchError if the error is above its bound."""
        if not self.error <= self.bound:
            raise OnebranchError(
                f"the {file_kind} file is {self.summary()}; nothing is written"
                f"{self.hint and f'; {self.hint}'}"
            )
        return self

    def summary(self) -> str:
        """The comparison in one line.

        >>> Comparison("onnxruntime", "off by", 2e-7, 1e-5).summary()
        'off by 2.0e-07 in onnxruntime (at most 1.0e-05 is allowed)'
        """
        return f"{self.measured} {self.error:.1e} in {self.runtime} (at most {self.bound:.1e} is allowed)"


@dataclass(frozen=True)
class NotRun:
    """A program that could not run the exported file, and the reason."""

    runtime: str
    reason: str

    def summary(self) -> str:
        """The reason in one line.

        >>> NotRun("ffmpeg's libplacebo", "ffmpeg is not installed").summary()
        "not run in ffmpeg's libplacebo, so not compared: ffmpeg is not installed"
        """
        return f"not run in {self.runtime}, so not compared: {self.reason}"


@dataclass(frozen=True)
class Exported:
    """The content of an exported file, and its comparisons with the network."""

    data: bytes
    comparisons: tuple[Comparison | NotRun, ...]


def random_picture(channels: int) -> np.ndarray:
    """A random picture of odd proportions, (1, C, 13, 10) float32 in [0, 1]."""
    return np.random.default_rng(0).random((1, channels, 13, 10), np.float32)


def float_comparison(runtime: str, actual: np.ndarray, expected: np.ndarray) -> Comparison:
    """Output in float32 compared with the definition in float64."""
    return Comparison(
        runtime, "off by", largest_difference(actual, expected), FLOAT32_TOLERANCE * _magnitude(expected)
    )


def half_comparison(
    runtime: str, actual: np.ndarray, expected: np.ndarray, half_output: np.ndarray
) -> Comparison:
    """Output of a float16 file compared with the definition in float64 for the same rounded inputs.

    half_output: the output of the definition with every operation rounded to float16. Runtimes round at
    different points (between operations, in folded constants, or only the output). Therefore twice the error
    of `half_output` is allowed, plus the rounding error of the output.
    """
    size = float(np.abs(expected).max())
    return Comparison(
        runtime,
        "off by",
        largest_difference(actual, expected),
        2 * largest_difference(half_output, expected) + FLOAT16_ROUNDING * size + FLOAT32_TOLERANCE,
    )


def integer_comparison(runtime: str, actual: np.ndarray, expected: np.ndarray, hint: str = "") -> Comparison:
    """Output (1, C, H, W) of an 8-bit file compared with the integer reference, both as 8-bit pictures.

    The difference of a pixel is that of its worst channel. Float rounding may move a value across the border
    between two levels, which changes the following layers a little. NaN counts as a difference.
    """
    pictures = (np.floor(np.clip(values, 0, 1) * 255 + 0.5) for values in (actual, expected))
    difference = np.abs(np.subtract(*pictures)).max(1)
    measured = f"off by up to {difference.max():.0f} grey levels; the share of pixels off by more than one is"
    return Comparison(runtime, measured, float((~(difference <= 1)).mean()), MAX_SHARE_OFF, hint)


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference; NaN, which no bound accepts, if either array contains NaN."""
    return float(np.abs(actual - expected).max())


def _magnitude(expected: np.ndarray) -> float:
    return max(1.0, float(np.abs(expected).max()))
