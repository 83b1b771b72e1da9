"""Segments: the encoded frames of a run, in short Matroska files that survive a killed process.

Every segment has its own encoder and begins with a key frame, so that a run that continues after the
last complete segment writes the same segments as a run without interruption. Matroska rounds timestamps to
milliseconds; the exact ones are in a JSON file beside each segment, whose existence marks it as complete.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from onebranch.enhancer.manifest import lock_file
from onebranch.enhancer.options import Size
from onebranch.errors import OnebranchError
from onebranch.strict_json import dumps
from onebranch.video.encoding import ClipEncoding, Encoder
from onebranch.video.planes import Planes
from onebranch.video.timestamps import FrameTime

SEGMENTS_VERSION = 1
"""Version of the files in a folder of segments."""

SEGMENT_FRAMES = 120
"""Frames of a segment: what a killed process can lose, and the largest distance of key frames."""


@dataclass(frozen=True)
class ClipSegment:
    """A complete segment.

    times: [timestamp, duration] of every packet in decoding order, in ticks of the clip's time base. delay:
    by how many frames decoding must precede display. size: bytes. problems: what was wrong with the clip up
    to here.
    """

    number: int
    times: list[list[int]]
    delay: int
    size: int
    problems: dict[str, int]

    @property
    def last(self) -> int:
        """The timestamp of the frame that is shown last."""
        return max(pts for pts, _ in self.times)


def reordering_delay(timestamps: Sequence[int]) -> int:
    """By how many frames decoding must precede display; timestamps in decoding order.

    Example: I0 P3 B1 B2 is decoded in the order 0, 3, 1, 2; B2, the packet with number 3, is shown as frame
    2, so the delay is 1.

    >>> reordering_delay([0, 3, 1, 2]), reordering_delay([0, 1, 2])
    (1, 0)
    """
    rank = {pts: index for index, pts in enumerate(sorted(timestamps))}
    return max((number - rank[pts] for number, pts in enumerate(timestamps)), default=0)


def decoding_times(segments: Sequence[ClipSegment], tick_duration: int) -> Iterator[int]:
    """The decoding timestamps of all packets: increasing, and never after the packet is shown.

    They are the sorted timestamps of all frames, delayed by the largest delay of a segment. Example: 0, 3, 1,
    2 in ticks of one frame, with a delay of 1, are decoded at -1, 0, 1, 2.

    >>> list(decoding_times([ClipSegment(0, [[0, 1], [3, 1], [1, 1], [2, 1]], 1, 0, {})], 1))
    [-1, 0, 1, 2]
    """
    delay = max((segment.delay for segment in segments), default=0)
    waiting: list[int] = []
    for segment in segments:
        for pts in sorted(pts for pts, _ in segment.times):
            if not waiting:
                waiting = [pts - tick_duration * back for back in range(delay, 0, -1)]
            waiting.append(pts)
            yield waiting.pop(0)


class SegmentFolder:
    """The folder of a run's segments, beside its target. One process at a time uses it; a context manager.

    fingerprint: differs if the run would give other frames. A folder of another fingerprint, or any folder
    without `resume`, raises OnebranchError unless it may be replaced (`overwrite`).
    """

    def __init__(self, target: Path, fingerprint: str, *, resume: bool, overwrite: bool) -> None:
        self.path = target.parent / f".{target.name}.segments"
        self._fingerprint, self._resume, self._overwrite = fingerprint, resume, overwrite
        self._target = target
        self._state: FileIO | None = None

    def __enter__(self) -> "SegmentFolder":
        state = self.path / "state.json"
        existed = state.exists()
        self.path.mkdir(exist_ok=True)
        self._state = FileIO(state, "a+b")
        try:
            self._check(existed)
        except BaseException:
            self._state.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._state is not None
        self._state.close()

    def _check(self, existed: bool) -> None:
        assert self._state is not None
        try:
            lock_file(self._state)
        except BlockingIOError:
            raise OnebranchError(f"another run is writing '{self._target}'; wait for it, or end it") from None
        self._state.seek(0)
        recorded = self._state.read().decode(errors="replace")
        if existed and self._resume and recorded == self._fingerprint:
            self._remove_incomplete()
            return
        if existed and recorded and not self._overwrite:
            raise OnebranchError(self._refusal())
        for file in self.path.iterdir():
            if file.name != "state.json":
                file.unlink()
        self._state.truncate(0)
        self._state.write(self._fingerprint.encode())
        os.fsync(self._state.fileno())

    def _refusal(self) -> str:
        if self._resume:
            return (
                f"the interrupted run of '{self._target}' was of another clip or with other options;"
                " repeat them, or start anew (--overwrite)"
            )
        return (
            f"an interrupted run of '{self._target}' has left segments; continue it (--resume), or start anew"
            " (--overwrite)"
        )

    def _remove_incomplete(self) -> None:
        complete = {path.stem for path in self.path.glob("[0-9]*.json")}
        for file in self.path.iterdir():
            if file.name != "state.json" and (file.suffix == ".part" or file.stem not in complete):
                file.unlink()

    def segments(self) -> list[ClipSegment]:
        """The complete segments, in order."""
        segments: list[ClipSegment] = []
        while (file := self._index(len(segments))).exists():
            with suppress(ValueError, TypeError):
                segments.append(ClipSegment(**json.loads(file.read_bytes())))
                continue
            break
        return segments

    def media(self, number: int) -> Path:
        """The Matroska file of a segment."""
        return self.path / f"{number:06}.mkv"

    def _index(self, number: int) -> Path:
        return self.path / f"{number:06}.json"

    def complete(self, segment: ClipSegment) -> None:
        """Mark a segment as complete. Its media file has been written."""
        _flush(self.media(segment.number))
        index = self._index(segment.number)
        temporary = index.with_suffix(".part")
        temporary.write_text(dumps(asdict(segment)))
        _flush(temporary)
        temporary.replace(index)

    def remove(self) -> None:
        """Remove the folder and all segments."""
        shutil.rmtree(self.path, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class SegmentWriter:
    """Encodes frames into segments. `bytes` and `frames` count what is complete."""

    def __init__(
        self, folder: SegmentFolder, encoding: ClipEncoding, size: Size, done: Sequence[ClipSegment]
    ) -> None:
        self._folder, self._encoding, self._size = folder, encoding, size
        self.segments = list(done)
        self._container: Any = None
        self._encoder: Encoder | None = None
        self._times: list[list[int]] = []
        self._frames = 0
        self.size_in_progress = 0

    @property
    def bytes(self) -> int:
        """Bytes that have been encoded, in all segments."""
        return sum(segment.size for segment in self.segments) + self.size_in_progress

    def write(self, planes: Planes, time: FrameTime, problems: dict[str, int]) -> None:
        """Encode a frame; a segment that is long enough is completed."""
        if self._encoder is None:
            self._begin()
        assert self._encoder is not None
        self._mux(self._encoder.encode(planes, time))
        self._frames += 1
        if self._frames == SEGMENT_FRAMES:
            self.finish(problems)

    def finish(self, problems: dict[str, int]) -> None:
        """Complete the segment in progress, if there is one."""
        if self._encoder is None:
            return
        self._mux(self._encoder.finish())
        self._container.close()
        number = len(self.segments)
        delay = reordering_delay([pts for pts, _ in self._times])
        size = self._folder.media(number).stat().st_size
        segment = ClipSegment(number, self._times, delay, size, problems)
        self._folder.complete(segment)
        self.segments.append(segment)
        self._encoder, self._container = None, None

    def abandon(self) -> None:
        """Drop the segment in progress."""
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
            self._folder.media(len(self.segments)).unlink(missing_ok=True)
            self._encoder, self._container = None, None

    def _begin(self) -> None:
        import av

        media = self._folder.media(len(self.segments))
        self._container = av.open(media, "w", format="matroska", options={"flush_packets": "1"})
        self._container.flags |= av.container.Flags.bitexact.value
        self._encoder = Encoder(self._container, self._encoding, self._size)
        self._encoder.open()
        self._times, self._frames, self.size_in_progress = [], 0, 0

    def _mux(self, packets: Iterator[tuple[Any, FrameTime]]) -> None:
        for packet, time in packets:
            self._times.append([time.pts, time.duration])
            self.size_in_progress += packet.size
            packet.dts = self._times[0][0]  # x265 gives wrong ones for a few frames; Matroska holds none
            self._container.mux(packet)
