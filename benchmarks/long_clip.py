"""A long clip whose run is killed several times and resumed, compared with a run that is not.

The clip shows photographs that are panned and zoomed. The process is ended by SIGKILL whenever a given number
of segments is complete. Then all frames and timestamps of both results are compared.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.moving_photographs import make_moving_photographs
from onebranch.errors import OnebranchError

SIZE = (48, 64)
"""(height, width) of the clip: small, since its length matters."""

POLL_SECONDS = 0.05

SECONDS_IN_SEGMENT = 0.2
"""Time for which a run goes on after a segment is complete, so that it is killed within the next one."""


@dataclass(frozen=True)
class LongClip:
    """The comparison. kills: complete segments at each kill. seconds: of the clip.

    other_frames, other_times: frames whose pixels, and whose timestamps, differ, missing ones included.
    other_sound: packets of sound whose bytes or timestamps differ. same_bytes: whether the files are equal.
    """

    frames: int
    seconds: float
    kills: tuple[int, ...]
    other_frames: int
    other_times: int
    other_sound: int
    same_bytes: bool

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.other_frames or self.other_times or self.other_sound)

    def lines(self) -> list[str]:
        """The lines that the command prints."""
        return [
            (
                f"{self.frames:,} frames, {self.seconds / 60:.1f} minutes; killed after"
                f" {', '.join(map(str, self.kills))} complete segments"
            ),
            (
                f"frames that differ: {self.other_frames}; timestamps that differ: {self.other_times};"
                f" packets of sound that differ: {self.other_sound}"
            ),
            f"the files have {'the same' if self.same_bytes else 'other'} bytes",
        ]


def compare_resumed(folder: Path, pictures: Path, frames: int, kills: int) -> LongClip:
    """Enhance a clip once without interruption, and once with so many kills, and compare the results."""
    clip = make_moving_photographs(folder / "clip.mp4", pictures, frames, SIZE)
    whole, resumed = folder / "whole.mkv", folder / "resumed.mkv"
    command = [sys.executable, "-m", "onebranch", "enhance", "--quiet", str(clip)]
    subprocess.run([*command, "-o", str(whole)], check=True)
    segments = frames // 120
    killed = tuple(
        _killed([*command, "-o", str(resumed), "--resume"], resumed, (number + 1) * segments // (kills + 1))
        for number in range(kills)
    )
    subprocess.run([*command, "-o", str(resumed), "--resume"], check=True)
    return compare_files(whole, resumed, killed)


def _killed(command: list[str], target: Path, wanted: int) -> int:
    """Start a run and kill it once so many segments are complete; how many there are then."""
    folder = target.parent / f".{target.name}.segments"
    process = subprocess.Popen(command)
    while process.poll() is None and _complete(folder) < wanted:
        time.sleep(POLL_SECONDS)
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_IN_SEGMENT)
    process.kill()
    process.wait()
    if target.exists():
        raise OnebranchError("the run ended before it was killed; use more frames (--frames)")
    return _complete(folder)


def _complete(folder: Path) -> int:
    return len(list(folder.glob("[0-9]*.json")))


def compare_files(whole: Path, resumed: Path, kills: tuple[int, ...]) -> LongClip:
    """The comparison of two clips, frame by frame."""
    frames = other_frames = other_times = 0
    last = Fraction(0)
    for one, other in zip_longest(_frames(whole), _frames(resumed)):
        frames += 1
        other_times += one is None or other is None or one[0] != other[0]
        other_frames += one is None or other is None or not np.array_equal(one[1], other[1])
        last = one[0] if one else last
    sounds = zip_longest(_sound(whole), _sound(resumed))
    other_sound = sum(one != other for one, other in sounds)
    same_bytes = whole.read_bytes() == resumed.read_bytes()
    return LongClip(frames, float(last), kills, other_frames, other_times, other_sound, same_bytes)


def _frames(path: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """(time in seconds, samples) of every frame."""
    import av

    with av.open(path) as container:
        for frame in container.decode(video=0):
            shown: Any = frame
            yield shown.pts * shown.time_base, shown.to_ndarray()


def _sound(path: Path) -> Iterator[tuple[Fraction, bytes]]:
    import av

    with av.open(path) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                untyped: Any = packet
                yield untyped.pts * untyped.time_base, bytes(untyped)
