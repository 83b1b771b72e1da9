"""Segments: the encoded frames of a run, in short Matroska files that survive a killed process.

Every segment has its own encoder and begins with a key frame, so that a run that continues after the
last complete segment writes the same segments as a run without interruption. Matroska rounds timestamps to
milliseconds; the exact ones are in a JSON file beside each segment, whose existence marks it as complete.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from onebranch.atomic_files import temporary_name
from onebranch.enhancer.manifest import lock_file
from onebranch.enhancer.options import Size
from onebranch.errors import OnebranchError
from onebranch.strict_json import dumps
from onebranch.video.encoding import ClipEncoding, Encoder
from onebranch.video.planes import Planes
from onebranch.video.timestamps import FrameTime

SEGMENTS_VERSION = 1
"""Version of the files in a folder of segments."""

LOCK_INTERVAL = 0.2
"""Seconds between two attempts to lock a folder of segments."""

SEGMENT_FRAMES = 120
"""Frames of a segment: what a killed process can lose, and the largest distance of key frames."""


@dataclass(frozen=True)
class ClipSegment:
    """A complete segment.

    times: [timestamp, duration] of every packet in decoding order, in ticks of the clip's time base. delay:
    by how many frames decoding must precede display. size: bytes. problems: what was wrong with the clip up
    to here. digest_before, digest_end: digests of the decoded frame before the segment, and of its last
    decoded frame; "": not known.
    """

    number: int
    times: list[list[int]]
    delay: int
    size: int
    problems: dict[str, int]
    digest_before: str = ""
    digest_end: str = ""

    @property
    def last(self) -> int:
        """The timestamp of the frame that is shown last."""
        return max(pts for pts, _ in self.times)

    def agrees_with(self, following: "ClipSegment") -> bool:
        """False if two processes have decoded the last frame of this segment differently."""
        digests = {self.digest_end, following.digest_before} - {""}
        return len(digests) < 2


@dataclass(frozen=True)
class SegmentRange:
    """The frames of one segment: `frames` of them, behind the timestamp `after`, up to `last`.

    number: of the segment. after: None for the first segment. Timestamps in ticks of the clip's time base.
    """

    number: int
    after: int | None
    last: int
    frames: int

    def holds(self, segment: ClipSegment) -> bool:
        """True if a segment has these frames."""
        times = [pts for pts, _ in segment.times]
        starts_behind = self.after is None or min(times) > self.after
        return (segment.number, len(times), max(times)) == (self.number, self.frames, self.last) and (
            starts_behind
        )


def segment_ranges(timestamps: Sequence[int]) -> list[SegmentRange]:
    """The segments of frames with these timestamps, which increase.

    >>> frames = range(0, 2 * 250, 2)
    >>> [(segment.after, segment.last, segment.frames) for segment in segment_ranges(frames)]
    [(None, 238, 120), (238, 478, 120), (478, 498, 10)]
    """
    ranges: list[SegmentRange] = []
    for start in range(0, len(timestamps), SEGMENT_FRAMES):
        times = timestamps[start : start + SEGMENT_FRAMES]
        ranges.append(SegmentRange(len(ranges), ranges[-1].last if ranges else None, times[-1], len(times)))
    return ranges


def problems_of(segments: Sequence[ClipSegment]) -> Counter[str]:
    """What was wrong with a clip up to the end of `segments`, its first ones: the largest count of each kind.

    A run counts on from segment to segment. Segments that tasks write independently have no counts.

    >>> problems_of([ClipSegment(0, [], 0, 0, {"packets": 2}), ClipSegment(1, [], 0, 0, {})])
    Counter({'packets': 2})
    """
    problems = Counter[str]()
    for segment in segments:
        problems |= Counter(segment.problems)
    return problems


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
    without `resume`, raises OnebranchError unless it may be replaced (`overwrite`), and so does one that
    another process still uses after `lock_seconds`.
    """

    def __init__(
        self, target: Path, fingerprint: str, *, resume: bool, overwrite: bool, lock_seconds: float = 0.0
    ) -> None:
        self.path = target.parent / f".{target.name}.segments"
        self._fingerprint, self._resume, self._overwrite = fingerprint, resume, overwrite
        self._target, self._lock_seconds = target, lock_seconds
        self._state: FileIO | None = None

    def __enter__(self) -> "SegmentFolder":
        deadline = monotonic() + self._lock_seconds
        while (locked := self._locked()) is None:
            if monotonic() >= deadline:
                raise OnebranchError(f"another run is writing '{self._target}'; wait for it, or end it")
            sleep(LOCK_INTERVAL)
        self._state, existed = locked
        try:
            self._check(existed)
        except BaseException:
            self._state.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._state is not None
        self._state.close()

    def _locked(self) -> tuple[FileIO, bool] | None:
        """The state's file, locked, and whether it existed; None if another process has locked it."""
        path = self.path / "state.json"
        existed = path.exists()
        self.path.mkdir(exist_ok=True)
        state = FileIO(path, "a+b")
        try:
            lock_file(state)
        except BlockingIOError:
            state.close()
            return None
        return state, existed

    def _check(self, existed: bool) -> None:
        assert self._state is not None
        self._state.seek(0)
        recorded = self._state.read().decode(errors="replace")
        if existed and self._resume and recorded == self._fingerprint:
            self._remove_incomplete()
            return
        if existed and recorded and not self._overwrite:
            raise OnebranchError(self._refusal())
        for file in self.path.iterdir():
            if file.name != "state.json":
                file.unlink(missing_ok=True)  # a process that counts as lost may rename or remove it
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
                file.unlink(missing_ok=True)

    def is_current(self) -> bool:
        """True if the folder is that of this run. For processes that write segments without its lock."""
        with suppress(OSError):
            return (self.path / "state.json").read_text(errors="replace") == self._fingerprint
        return False

    def segments(self) -> list[ClipSegment]:
        """The complete segments from the first one on, in order; those behind a missing one are removed.

        No segment is kept if two neighbours were decoded differently: in such a clip, decoding from the
        middle does not give the frames that decoding from the start gives.
        """
        segments: list[ClipSegment] = []
        while (segment := self.segment(len(segments))) is not None:
            segments.append(segment)
        if not all(before.agrees_with(behind) for before, behind in pairwise(segments)):
            segments = []
        for index in self.path.glob("[0-9]*.json"):
            if int(index.stem) >= len(segments):
                index.unlink()
        return segments

    def segment(self, number: int) -> ClipSegment | None:
        """A segment; None if it is not complete."""
        with suppress(OSError, ValueError, TypeError):
            segment = ClipSegment(**json.loads(self._index(number).read_bytes()))
            return segment if self.media(number).stat().st_size == segment.size else None
        return None

    def media(self, number: int) -> Path:
        """The Matroska file of a complete segment."""
        return self.path / f"{number:06}.mkv"

    def temporary(self) -> Path:
        """A new path for the Matroska file of a segment that is being written."""
        return self.path / temporary_name()

    def _index(self, number: int) -> Path:
        return self.path / f"{number:06}.json"

    def complete(self, segment: ClipSegment, media: Path) -> None:
        """Make a segment complete. media: its Matroska file, which is renamed."""
        _flush(media)
        media.replace(self.media(segment.number))
        temporary = self.temporary()
        temporary.write_text(dumps(asdict(segment)))
        _flush(temporary)
        temporary.replace(self._index(segment.number))

    def remove(self) -> None:
        """Remove the folder and all segments."""
        shutil.rmtree(self.path, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class SegmentWriter:
    """Encodes frames into segments, which are completed one after the other. done: the first ones.

    `segments` are the complete ones, `bytes` counts what has been encoded in all.
    """

    def __init__(
        self, folder: SegmentFolder, encoding: ClipEncoding, size: Size, done: Sequence[ClipSegment]
    ) -> None:
        self._folder, self._encoding, self._size = folder, encoding, size
        self.segments = list(done)
        self._current: SegmentEncoder | None = None

    @property
    def bytes(self) -> int:
        """Bytes that have been encoded, in all segments."""
        current = 0 if self._current is None else self._current.bytes
        return sum(segment.size for segment in self.segments) + current

    def write(self, planes: Planes, time: FrameTime, problems: dict[str, int]) -> None:
        """Encode a frame; a segment that is long enough is completed."""
        if self._current is None:
            self._current = SegmentEncoder(self._folder.temporary(), self._encoding, self._size)
        self._current.write(planes, time)
        if self._current.frames == SEGMENT_FRAMES:
            self.finish(problems)

    def finish(self, problems: dict[str, int]) -> None:
        """Complete the segment in progress, if there is one."""
        if self._current is None:
            return
        segment = self._current.finish(len(self.segments), problems)
        self._folder.complete(segment, self._current.path)
        self.segments.append(segment)
        self._current = None

    def abandon(self) -> None:
        """Drop the segment in progress."""
        if self._current is not None:
            self._current.abandon()
            self._current = None


class SegmentEncoder:
    """Encodes the frames of one segment into a Matroska file. frames, bytes: what has been encoded."""

    def __init__(self, path: Path, encoding: ClipEncoding, size: Size) -> None:
        import av

        self.path = path
        container: Any = av.open(path, "w", format="matroska", options={"flush_packets": "1"})
        container.flags |= av.container.Flags.bitexact.value
        self._container = container
        self._encoder = Encoder(container, encoding, size)
        self._encoder.open()
        self._times: list[list[int]] = []
        self.frames = self.bytes = 0

    def write(self, planes: Planes, time: FrameTime) -> None:
        """Encode a frame."""
        self._mux(self._encoder.encode(planes, time))
        self.frames += 1

    def finish(self, number: int, problems: dict[str, int]) -> ClipSegment:
        """Encode the frames that the encoder still holds, and close the file."""
        self._mux(self._encoder.finish())
        self._container.close()
        delay = reordering_delay([pts for pts, _ in self._times])
        return ClipSegment(number, self._times, delay, self.path.stat().st_size, problems)

    def abandon(self) -> None:
        """Close the file and remove it."""
        with suppress(Exception):
            self._container.close()
        self.path.unlink(missing_ok=True)

    def _mux(self, packets: Iterator[tuple[Any, FrameTime]]) -> None:
        for packet, time in packets:
            self._times.append([time.pts, time.duration])
            self.bytes += packet.size
            packet.dts = self._times[0][0]  # x265 gives wrong ones for a few frames; Matroska holds none
            self._container.mux(packet)
