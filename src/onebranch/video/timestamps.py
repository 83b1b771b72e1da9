"""Timestamps of frames, in the clip's time base: kept as they are, or completed where they are missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil


@dataclass(frozen=True)
class FrameTime:
    """When a frame is shown, and for how long, in ticks of the clip's time base. duration: 0 if unknown."""

    pts: int
    duration: int = 0


class FrameClock:
    """The times of frames in display order; encoders need strictly increasing timestamps.

    A missing timestamp continues the previous frame's. One that is not larger than the previous one becomes
    the next tick. `repaired` counts both.

    >>> clock = FrameClock(tick_duration=40)
    >>> [clock.time(pts, 0).pts for pts in (7, 47, None, 100, 100)]
    [7, 47, 87, 100, 101]
    >>> clock.repaired
    2
    """

    def __init__(self, tick_duration: int) -> None:
        self._tick_duration = max(1, tick_duration)
        self._previous: FrameTime | None = None
        self.repaired = 0

    def time(self, pts: int | None, duration: int) -> FrameTime:
        """The time of the next frame."""
        previous = self._previous
        if pts is None:
            self.repaired += 1
            pts = 0 if previous is None else previous.pts + (previous.duration or self._tick_duration)
        elif previous is not None and pts <= previous.pts:
            self.repaired += 1
            pts = previous.pts + 1
        self._previous = FrameTime(pts, max(0, duration))
        return self._previous


def ticks_per_frame(time_base: Fraction, rate: Fraction) -> int:
    """Ticks between frames at a constant frame rate, rounded.

    >>> ticks_per_frame(Fraction(1, 90000), Fraction(30000, 1001))
    3003
    """
    return max(1, round(1 / (time_base * rate)))


def first_tick(seconds: float, time_base: Fraction) -> int:
    """The first tick at or after a time, with a tolerance of a microsecond for decimals."""
    return ceil(Fraction(seconds - 1e-6) / time_base)


def rescaled(ticks: int, source: Fraction, target: Fraction) -> int:
    """Ticks of one time base in another, rounded to the nearest.

    >>> rescaled(1001, Fraction(1, 30000), Fraction(1, 1000))
    33
    """
    return round(ticks * source / target)


def completed_durations(times: Iterable[FrameTime], fallback: int) -> Iterator[FrameTime]:
    """The times, each unknown duration replaced by the distance to the next frame; the last by `fallback`.

    >>> [time.duration for time in completed_durations([FrameTime(0), FrameTime(30), FrameTime(90)], 40)]
    [30, 60, 40]
    """
    previous: FrameTime | None = None
    for time in times:
        if previous is not None:
            yield FrameTime(previous.pts, previous.duration or time.pts - previous.pts)
        previous = time
    if previous is not None:
        yield FrameTime(previous.pts, previous.duration or fallback)
