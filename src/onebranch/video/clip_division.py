"""Divides a clip into segments that several processes write, with the bytes that one process would write.

The packets of a clip tell where its segments begin, without decoding. Every process starts decoding at a key
frame before its segment. If the frames are damaged or not the predicted ones, it writes nothing;
`enhance_clip` writes the segments from the first missing one on, and joins all of them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import PROCESS_BYTES, FileOptions, Progress
from onebranch.video.decoding import ClipPart, ClipReader, DecodedFrame
from onebranch.video.options import VideoOptions
from onebranch.video.probe import ClipProbe, opened
from onebranch.video.segments import SegmentEncoder, SegmentFolder, SegmentRange, segment_ranges
from onebranch.video.single_clip import ClipTask, clip_errors, clip_task

MIN_SEGMENTS = 2
"""Fewer segments are not divided among processes."""


@dataclass(frozen=True)
class ClipDivision:
    """The missing segments of a clip. memory: bytes that each process needs."""

    segments: tuple[SegmentRange, ...]
    memory: int


def divide_clip(
    source: Path,
    target: Path,
    options: Options,
    file_options: FileOptions,
    video: VideoOptions,
) -> ClipDivision | None:
    """Create the folder of a clip's segments, and return those that it lacks.

    Arguments and errors as `enhance_clip`.

    None: one process must write the clip, because it is short or because its segments cannot be predicted.
    """
    if video.deinterlace or video.on_interrupt != "keep":
        return None
    with clip_errors(target):
        task = clip_task(source, target, options, file_options, video)
        memory = task.preview().memory
        segments = segment_ranges(frame_timestamps(task.probe, task.part))
        if len(segments) < MIN_SEGMENTS:
            return None
        with task.segment_folder() as folder:
            missing = _missing(folder, segments)
        return None if missing is None else ClipDivision(missing, memory)


def _missing(folder: SegmentFolder, segments: list[SegmentRange]) -> tuple[SegmentRange, ...] | None:
    """The segments that a folder lacks; None if it holds a segment with other than the predicted frames."""
    missing = []
    for segment in segments:
        complete = folder.segment(segment.number)
        if complete is None:
            missing.append(segment)
        elif not segment.holds(complete):
            return None
    return tuple(missing)


def frame_timestamps(probe: ClipProbe, part: ClipPart) -> list[int]:
    """The timestamps of the frames of a part, increasing, from the packets; empty if they are uncertain."""
    import av

    try:
        timestamps = sorted(_packet_timestamps(probe))
    except (av.error.FFmpegError, ValueError):
        return []
    if len(set(timestamps)) < len(timestamps):
        return []
    begin = 0 if part.first is None else bisect_left(timestamps, part.first)
    end = None if part.last is None else bisect_left(timestamps, part.last)
    return timestamps[begin:end][: part.frames]


def _packet_timestamps(probe: ClipProbe) -> Iterator[int]:
    """The timestamps of all packets of the picture. Raises ValueError if a packet may not give a frame."""
    with opened(probe.path) as container:
        for packet in container.demux(container.streams[probe.index]):
            if packet.pts is None and not packet.size:  # the end of the stream
                continue
            if packet.pts is None or not packet.size or packet.is_corrupt or packet.is_discard:
                raise ValueError("the frames of a clip cannot be predicted")
            yield packet.pts


def enhance_segment(
    source: Path,
    target: Path,
    options: Options,
    file_options: FileOptions,
    video: VideoOptions,
    segment: SegmentRange,
    *,
    progress: Progress,
    budget: MemoryBudget,
) -> bool:
    """Write one segment of a divided clip, complete or not at all. Several processes may write the same one.

    False: the frames are not the predicted ones or the clip is damaged, and nothing was written. Errors as
    `enhance_clip`.
    """
    with clip_errors(target):
        task = clip_task(source, target, options, file_options, video)
        folder = task.segment_folder()
        complete = folder.segment(segment.number)
        if complete is not None and folder.is_current():
            return segment.holds(complete)
        with budget.reserve(task.preview().memory - PROCESS_BYTES):
            return _write(task, folder, segment, progress)


def _write(task: ClipTask, folder: SegmentFolder, segment: SegmentRange, progress: Progress) -> bool:
    reader = ClipReader(
        task.probe, replace(task.part, last=segment.last + 1, frames=None), after=segment.after
    )
    encoder = SegmentEncoder(folder.temporary(), task.encoding, task.muxing.size)
    frames: list[DecodedFrame] = []  # the last one only

    def enhanced(frame: DecodedFrame) -> None:
        frames[:] = [frame]
        progress(min(1.0, encoder.frames / segment.frames))

    try:
        task.enhance_frames(reader, lambda frame: encoder.write(*frame), enhanced)
        if reader.problems or reader.repaired or encoder.frames != segment.frames:
            return False
        written = replace(
            encoder.finish(segment.number, {}),
            digest_before="" if reader.frame_before is None else reader.frame_before.digest(),
            digest_end=frames[0].digest(),
        )
        if not segment.holds(written) or not folder.is_current():
            return False
        folder.complete(written, encoder.path)
        return True
    finally:
        encoder.abandon()
