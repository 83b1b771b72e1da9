"""Decodes the frames of a clip in display order, with damaged packets, trimming and deinterlacing."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.video.options import VideoOptions
from onebranch.video.planes import Planes, planes_of
from onebranch.video.probe import ClipProbe, decoded, decoder_of, opened
from onebranch.video.timestamps import FrameClock, FrameTime, first_tick, ticks_per_frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

MAX_FAILED_READS = 100
"""Largest number of consecutive failed reads; after that, the rest of the file is skipped."""

SEEK_MARGIN_SECONDS = 2.0
"""How long before the wanted frame decoding starts, so that filters have its predecessors."""


@dataclass(frozen=True)
class DecodedFrame:
    """A frame: its planes, in the pixel format of the clip but perhaps of another size, and its time."""

    planes: Planes
    time: FrameTime

    def digest(self) -> str:
        """A digest of the planes."""
        digest = hashlib.blake2b(digest_size=16)
        for plane in self.planes:
            digest.update(np.ascontiguousarray(plane).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class ClipPart:
    """The frames to enhance; None: no limit.

    first, last: timestamps in ticks, from `first` to before `last`. frames: their largest number.
    """

    first: int | None = None
    last: int | None = None
    frames: int | None = None


def part_of(probe: ClipProbe, options: VideoOptions) -> ClipPart:
    """The part of the clip that the options select. A preview without a start is taken from the middle."""
    start, end = options.start, options.end
    if options.preview is not None:
        if start is None:
            start = max(0.0, (probe.duration - options.preview) / 2)
        end = min(start + options.preview, end or start + options.preview)
    first = None if not start else first_tick(probe.start + start, probe.time_base)
    last = None if end is None else first_tick(probe.start + end, probe.time_base)
    return ClipPart(first, last, options.frames)


class ClipReader:
    """Reads the frames of a part of a clip once, in display order.

    after: skip all frames up to the one with this timestamp, which an earlier run has done; `done` is the
    number of these frames. `problems` counts what was wrong with the file. `frame_before`: the frame with the
    timestamp `after`, once it was skipped.
    """

    def __init__(
        self,
        probe: ClipProbe,
        part: ClipPart,
        deinterlace: bool = False,
        after: int | None = None,
        done: int = 0,
    ) -> None:
        self.probe, self.part = probe, part
        self._deinterlace, self._after, self._done = deinterlace, after, done
        self.problems: Counter[str] = Counter()
        self.frame_before: DecodedFrame | None = None
        self._clock = FrameClock(1)

    @property
    def repaired(self) -> int:
        """Timestamps that were missing or not increasing, in the frames that were decoded so far."""
        return self._clock.repaired

    def frames(self) -> Iterator[DecodedFrame]:
        """The frames. Raises OnebranchError if the frame to continue after no longer exists."""
        if self._after is None:
            yield from self._limited(self._timed(None))
            return
        for start in (self._after, None):  # where seeking does not lead to that frame, decode from the start
            frames = self._timed(start)
            if self._skip_done(frames):
                yield from self._limited(frames)
                return
            self.problems.clear()
        raise OnebranchError(
            f"'{self.probe.path}' is not the clip of the interrupted run; start anew (--overwrite)"
        )

    def _skip_done(self, frames: Iterator[DecodedFrame]) -> bool:
        assert self._after is not None
        for frame in frames:
            if frame.time.pts >= self._after:
                self.frame_before = frame
                return frame.time.pts == self._after
        return False

    def _limited(self, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
        """The frames of the part, of which `done` are already enhanced."""
        part, count = self.part, self._done
        for frame in frames:
            if part.first is not None and frame.time.pts < part.first:
                continue
            if part.last is not None and frame.time.pts >= part.last:
                return
            if part.frames is not None and count >= part.frames:
                return
            count += 1
            yield frame

    def _timed(self, after: int | None) -> Iterator[DecodedFrame]:
        """All frames, from some frame before `after` or the part on, with valid times."""
        probe = self.probe
        clock = self._clock = FrameClock(ticks_per_frame(probe.time_base, probe.rate))
        wanted = after if after is not None else self.part.first
        with opened(probe.path) as container:
            if wanted is not None:
                self._seek(container, wanted)
            frames = self._decoded(container)
            if self._deinterlace:
                frames = deinterlaced(frames, probe.time_base)
            for frame in frames:
                time = clock.time(frame.pts, frame.duration or 0)
                yield DecodedFrame(planes_of(frame, probe.layout.pixel_format), time)
        if clock.repaired:
            self.problems["timestamps"] += clock.repaired

    def _seek(self, container: "InputContainer", wanted: int) -> None:
        import av

        probe = self.probe
        margin = int(SEEK_MARGIN_SECONDS / probe.time_base)
        try:
            container.seek(wanted - margin, stream=container.streams[probe.index])
        except (av.error.FFmpegError, OSError):  # pipes and raw streams cannot seek
            container.seek(0)

    def _decoded(self, container: "InputContainer") -> Iterator["VideoFrame"]:
        """The frames that can be decoded; damaged packets are counted."""
        import av

        stream: Any = container.streams[self.probe.index]
        decoder = decoder_of(stream)
        size = self.probe.size
        for packet in _packets(container, stream, self.problems):
            try:
                frames = list(decoded(decoder, packet))
            except av.error.FFmpegError:
                self.problems["packets"] += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.problems["frames"] += 1
                if (frame.height, frame.width) != size:
                    self.problems["sizes"] += 1
                yield frame


def _packets(container: "InputContainer", stream: Any, problems: Counter[str]) -> Iterator[Any]:
    """The packets of a stream, the last one without content; reading goes on behind damaged parts."""
    import av

    failures = 0
    while failures < MAX_FAILED_READS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except av.error.FFmpegError:
            failures += 1
            problems["reads"] += 1
    raise OnebranchError(f"'{container.name}' cannot be read any further; it is damaged")


def deinterlaced(frames: Iterator["VideoFrame"], time_base: Fraction) -> Iterator["VideoFrame"]:
    """Progressive frames, one for each frame, made by FFmpeg's filter bwdif.

    Frames that are marked as progressive stay, if the first frame is marked as interlaced.
    """
    graph: Any = None
    for frame in frames:
        if graph is None:
            graph = _deinterlacing_graph(frame, time_base)
        graph.push(frame)
        yield from _pulled(graph, time_base)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, time_base)


def _deinterlacing_graph(frame: "VideoFrame", time_base: Fraction) -> Any:
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=time_base
    )
    which = "interlaced" if frame.interlaced_frame else "all"
    bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}")
    graph.link_nodes(source, bwdif, graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: Any, time_base: Fraction) -> Iterator["VideoFrame"]:
    """The frames that are ready, with timestamps in the clip's time base."""
    import av

    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if frame.pts is not None and frame.time_base:
            frame.pts = round(frame.pts * frame.time_base / time_base)
            frame.duration = round(frame.duration * frame.time_base / time_base)
            frame.time_base = time_base
        yield frame


def problem_notes(problems: Counter[str]) -> Iterator[str]:
    """What was wrong with a clip, one line each.

    >>> list(problem_notes(Counter(packets=1)))
    ['1 damaged packet could not be decoded: its frames are missing or repeated from others']
    """
    sentences = {
        "packets": ("damaged packet", "could not be decoded: its frames are missing or repeated from others"),
        "reads": ("damaged part", "of the file could not be read"),
        "frames": ("frame", "decoded with errors"),
        "sizes": ("frame", "of another resolution, resized to that of the first"),
        "timestamps": ("timestamp", "missing or not increasing, replaced"),
    }
    for kind, (noun, text) in sentences.items():
        if count := problems[kind]:
            yield f"{count} {noun}{'' if count == 1 else 's'} {text}"
