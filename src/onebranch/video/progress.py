"""The progress of a clip: frames, their rate, the time left and the size so far."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import counted_noun


@dataclass(frozen=True)
class ClipProgress:
    """How far a run is.

    frames: done, earlier runs included. total: 0 if unknown. rate: frames/s of this run. size: bytes so far.
    """

    frames: int
    total: int
    rate: float
    size: int

    @property
    def share(self) -> float:
        """The completed share, 0 to 1; estimated totals may be too small."""
        return min(0.999, self.frames / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left; None if unknown."""
        return max(0, self.total - self.frames) / self.rate if self.total and self.rate else None

    def words(self) -> str:
        """The progress in words.

        >>> ClipProgress(120, 1500, 24.0, 3_400_000).words()
        '120/1500 frames, 24.0 frames/s, 0:58 left, 3.4 MB'
        """
        count = f"{self.frames}/{self.total} frames" if self.total else counted_noun(self.frames, "frame")
        left = ""
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            hours, minutes = divmod(minutes, 60)
            left = f", {f'{hours}:{minutes:02}' if hours else minutes}:{seconds:02} left"
        return f"{count}, {self.rate:.1f} frames/s{left}, {self.size / 1e6:.1f} MB"


ReportProgress = Callable[[Path, ClipProgress], None]
"""Called with a clip and its progress, from any thread."""


def report_nothing(source: Path, progress: ClipProgress) -> None:
    """Report no progress."""


class ProgressMeter:
    """Measures the progress of a run. done: frames that an earlier run has enhanced."""

    def __init__(self, total: int, done: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._total, self._done, self._clock = total, done, clock
        self._begin = clock()
        self.frames = 0

    def next(self, size: int) -> ClipProgress:
        """Count a frame. size: bytes of the result so far."""
        self.frames += 1
        elapsed = self._clock() - self._begin
        rate = self.frames / elapsed if elapsed > 0 else 0.0
        return ClipProgress(self._done + self.frames, self._total, rate, size)
