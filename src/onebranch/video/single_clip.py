"""Enhances one clip into another file: checks everything, enhances segment by segment, and joins them."""

import errno
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from onebranch import strict_json
from onebranch.atomic_files import atomic_path, check_writable
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.manifest import fingerprint
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.options import Options, Size
from onebranch.enhancer.single_file import (
    PROCESS_BYTES,
    Enhanced,
    EnhancementPreview,
    FileOptions,
    Progress,
    no_progress,
)
from onebranch.errors import OnebranchError, counted_noun
from onebranch.extras import require
from onebranch.images.attributes import attributes_of
from onebranch.read_ahead import ReadAhead
from onebranch.runtime.cores import cores
from onebranch.video.clip_metadata import MetadataFilter
from onebranch.video.containers import container_of_name
from onebranch.video.decoding import ClipPart, ClipReader, DecodedFrame, part_of, problem_notes
from onebranch.video.encoding import ClipEncoding, choose_encoding
from onebranch.video.frame_enhancer import FrameEnhancer, clip_options
from onebranch.video.muxing import Muxing
from onebranch.video.options import VideoOptions
from onebranch.video.pipeline import MAX_QUEUED_FRAMES, WriteBehind, queue_length
from onebranch.video.plane_enhancer import FrameLayout
from onebranch.video.planes import Planes
from onebranch.video.probe import ClipProbe, opened, probe_clip
from onebranch.video.progress import ProgressMeter, ReportProgress, report_nothing
from onebranch.video.segments import SEGMENTS_VERSION, SegmentFolder, SegmentWriter, problems_of
from onebranch.video.streams import Cut, StreamMapping, map_streams, stream_notes
from onebranch.video.timestamps import FrameTime

MAX_ENCODER_THREADS = 16
"""Threads of an encoder; more cost compression."""

DIGESTED_BYTES = 1 << 20
"""Bytes at the beginning and the end of a clip that identify it."""


def enhance_clip(
    source: Path,
    target: Path,
    options: Options,
    file_options: FileOptions,
    video: VideoOptions,
    *,
    progress: Progress = no_progress,
    budget: MemoryBudget | None = None,
    report: ReportProgress = report_nothing,
) -> Enhanced:
    """Enhance a clip into another file, which appears complete or not at all.

    Frames are encoded into segments beside the target, which a later run continues (`video.resume`).
    Raises OnebranchError, in one line, if the clip cannot be read, enhanced or written; if possible before
    any work is done.
    """
    begin = time.perf_counter()
    budget = budget or MemoryBudget()
    progress(0.0)
    with clip_errors(target):
        task = clip_task(source, target, options, file_options, video)
        preview = task.preview()
        with budget.reserve(preview.memory - PROCESS_BYTES):
            frames, problems = task.run(progress, report)
    notes = (*preview.notes, *problem_notes(problems))
    return Enhanced(replace(preview, frames=frames, notes=notes), time.perf_counter() - begin)


def preview_clip(
    source: Path, target: Path, options: Options, file_options: FileOptions, video: VideoOptions
) -> EnhancementPreview:
    """What `enhance_clip` would do. Raises OnebranchError if it is certain to fail."""
    with clip_errors(target):
        return clip_task(source, target, options, file_options, video).preview()


@dataclass(frozen=True)
class ClipTask:
    """One clip that is enhanced. size: (height, width) of the result."""

    probe: ClipProbe
    target: Path
    enhancer: Enhancer
    file_options: FileOptions
    video: VideoOptions
    part: ClipPart
    muxing: Muxing
    notes: tuple[str, ...]

    @property
    def encoding(self) -> ClipEncoding:
        """How the frames of the result are encoded."""
        return self.muxing.encoding

    @property
    def frames(self) -> int:
        """The number of frames of the part; 0 if unknown."""
        probe, part = self.probe, self.part
        count = probe.frames
        if part.first is not None or part.last is not None:
            first = max(part.first or 0, round(probe.start / probe.time_base))
            end = round((probe.start + probe.duration) / probe.time_base)
            last = end if part.last is None else min(part.last, end)
            count = round(max(0, last - first) * probe.time_base * probe.rate)
        return count if part.frames is None else min(count or part.frames, part.frames)

    def preview(self) -> EnhancementPreview:
        """What will be done."""
        stages = self.enhancer.stages_for(self.probe.size)
        precisions = self.enhancer.precisions_for(self.probe.size)
        return EnhancementPreview(
            before=self.probe.size,
            after=self.muxing.size,
            models=tuple(stage.model.name for stage in stages),
            runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
            precision=" then ".join(precisions) or "the file's own precision",
            notes=self.notes,
            memory=self._estimate_memory(),
            frames=self.frames,
            is_clip=True,
            device=" then ".join(self.enhancer.devices_for(self.probe.size)),
        )

    def _estimate_memory(self) -> int:
        """Estimated bytes of the process: frames in queues and codecs, and the rows in the networks."""
        layout = self.probe.layout
        before = _frame_bytes(layout, layout.size)
        after = _frame_bytes(layout, self.muxing.size)
        codecs = 24 * before + 40 * after  # reference frames and lookahead
        return PROCESS_BYTES + codecs + MAX_QUEUED_FRAMES * (before + after) + 8 * after

    def run(self, progress: Progress, report: ReportProgress) -> tuple[int, Counter[str]]:
        """Enhance and write; returns the number of frames and the problems of the clip."""
        with self.segment_folder() as folder:
            writer = SegmentWriter(folder, self.encoding, self.muxing.size, folder.segments())
            problems = problems_of(writer.segments)
            try:
                self._encode(writer, problems, progress, report)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._interrupted(folder, writer, problems)) from None
            except BaseException:
                writer.abandon()
                if not writer.segments:
                    folder.remove()
                raise
            self._join(folder, writer)
        return sum(len(segment.times) for segment in writer.segments), problems

    def segment_folder(self) -> SegmentFolder:
        """The folder of the segments."""
        return SegmentFolder(
            self.target,
            self._fingerprint(),
            resume=self.video.resume,
            overwrite=self.file_options.overwrite,
            lock_seconds=self.video.lock_seconds,
        )

    def enhance_frames(
        self,
        reader: ClipReader,
        write: Callable[[tuple[Planes, FrameTime]], None],
        enhanced: Callable[[DecodedFrame], None],
    ) -> None:
        """Enhance all frames of a reader. write: called with the results, in another thread.

        enhanced: called with every frame once it is enhanced.
        """
        frames = FrameEnhancer(
            self.enhancer, self.probe.layout, self.muxing.size, self.video.preview is not None
        )
        length = queue_length(_frame_bytes(self.probe.layout, self.muxing.size))
        try:
            with ReadAhead(reader.frames(), length) as decoded, WriteBehind(write, length) as encoded:
                for frame in decoded:
                    encoded.put((frames(frame), frame.time))
                    enhanced(frame)
        finally:
            frames.close()

    def _encode(
        self, writer: SegmentWriter, problems: Counter[str], progress: Progress, report: ReportProgress
    ) -> None:
        """Enhance the frames that no segment holds yet."""
        done = sum(len(segment.times) for segment in writer.segments)
        after = writer.segments[-1].last if writer.segments else None
        reader = ClipReader(self.probe, self.part, self.video.deinterlace, after, done)
        meter = ProgressMeter(self.frames, done)

        def write(frame: tuple[Planes, FrameTime]) -> None:
            writer.write(*frame, dict(problems + reader.problems))

        def enhanced(_: DecodedFrame) -> None:
            state = meter.next(writer.bytes)
            progress(state.share)
            report(self.probe.path, state)

        self.enhance_frames(reader, write, enhanced)
        problems.update(reader.problems)
        writer.finish(dict(problems))
        if not writer.segments:
            raise OnebranchError(f"there is no frame of '{self.probe.path}' in that part (--from, --to)")

    def _interrupted(self, folder: SegmentFolder, writer: SegmentWriter, problems: Counter[str]) -> str:
        """A message about what an interrupt leaves."""
        action = self.video.on_interrupt
        if action == "join":
            writer.finish(dict(problems))
        else:
            writer.abandon()
        frames = sum(len(segment.times) for segment in writer.segments)
        if action == "discard" or not writer.segments:
            folder.remove()
            return "nothing is left"
        if action == "join":
            self._join(folder, writer)
            return f"'{self.target}' holds the first {counted_noun(frames, 'frame')}"
        return f"{counted_noun(frames, 'frame')} kept in '{folder.path}'; continue with --resume"

    def _join(self, folder: SegmentFolder, writer: SegmentWriter) -> None:
        with atomic_path(self.target, self.file_options.overwrite) as temporary:
            self.muxing.write(temporary, folder, writer.segments)
            attributes_of(self.probe.path, self.file_options.keep_times).apply(temporary)
        folder.remove()

    def _fingerprint(self) -> str:
        """Text that differs if the clip or the options would give other frames."""
        probe, options = self.probe, self.enhancer.options
        encoding = {**asdict(self.encoding), "hdr": repr(self.encoding.hdr)}
        facts = {
            "version": SEGMENTS_VERSION,
            "clip": _clip_digest(probe.path),
            "part": asdict(self.part),
            "deinterlace": self.video.deinterlace,
            "preview": self.video.preview,
            "encoding": {key: str(value) for key, value in encoding.items()},
            "options": fingerprint(options, self.file_options.encoding),
            "size": list(self.muxing.size),
        }
        return strict_json.dumps(facts, sort_keys=True)


def clip_task(
    source: Path,
    target: Path,
    options: Options,
    file_options: FileOptions,
    video: VideoOptions,
) -> ClipTask:
    """The task, after everything was checked; arguments and errors as `enhance_clip`."""
    container = container_of_name(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise OnebranchError(f"'{target}' is the clip itself; choose another folder or name")
    check_writable(target, file_options.overwrite, folder_will_exist=True)
    probe = probe_clip(source)
    enhancer = Enhancer(clip_options(options, probe.size))
    requested = enhancer.size_of_result(probe.size)
    if probe.display_matrix and not container.rotation:
        raise OnebranchError(
            f"{container.name} ({target.suffix}) cannot hold the rotation; write .mp4 or .mkv"
        )
    encoding = choose_encoding(
        container,
        probe.layout.pixel_format,
        probe.layout.tags,
        probe.hdr,
        video,
        time_base=probe.time_base,
        rate=probe.rate,
        aspect=result_aspect(probe, requested),
        threads=min(video.encoder_threads or cores(), MAX_ENCODER_THREADS),
    )
    size = encoding.size_for(requested)
    part = part_of(probe, video)
    with opened(source) as opened_source:
        mappings = map_streams(opened_source, probe.index, container, video.drop)
    muxing = Muxing(
        probe,
        container,
        encoding,
        size,
        mappings,
        _cut(probe, part),
        "chapters" not in video.drop,
        MetadataFilter(file_options.encoding.strip, file_options.encoding.strip_location),
    )
    muxing.check()
    notes = tuple(_notes(probe, video, encoding, requested, size, mappings))
    return ClipTask(probe, target, enhancer, file_options, video, part, muxing, notes)


def result_aspect(probe: ClipProbe, size: Size) -> Fraction | None:
    """The sample aspect ratio of the result: the clip's, unless width and height are scaled differently.

    Then it keeps the proportions in which the clip is shown.
    """
    aspect = probe.aspect
    if aspect is None:
        return None
    vertical, horizontal = (after / before for after, before in zip(size, probe.size, strict=True))
    if abs(vertical / horizontal - 1) < 1 / min(probe.size):
        return aspect
    scaled = aspect * Fraction(size[0] * probe.size[1], probe.size[0] * size[1])
    return scaled.limit_denominator(255)


def _cut(probe: ClipProbe, part: ClipPart) -> Cut:
    """The part in seconds; it begins at the first timestamp that a frame of it may have."""
    start = Fraction(0) if part.first is None else part.first * probe.time_base
    return Cut(start, None if part.last is None else part.last * probe.time_base)


def _notes(
    probe: ClipProbe,
    video: VideoOptions,
    encoding: ClipEncoding,
    requested: Size,
    size: Size,
    mappings: list[StreamMapping],
) -> Iterator[str]:
    if probe.interlaced and not video.deinterlace:
        yield "the clip is interlaced and is enhanced as it is; --deinterlace makes it progressive first"
    if size != requested:
        yield (
            f"{requested[1]}x{requested[0]} becomes {size[1]}x{size[0]}: {encoding.codec} in"
            f" {encoding.target.words} needs even sizes"
        )
    if encoding.target != encoding.source:
        yield f"{encoding.source.words} is written as {encoding.target.words}, which {encoding.codec} needs"
    if probe.hdr and not encoding.hdr:
        yield f"HDR10 metadata left out: the {encoding.codec} encoder writes none (h265 and av1 do)"
    yield from stream_notes(mappings)


def _frame_bytes(layout: FrameLayout, size: Size) -> int:
    pixel_format = layout.pixel_format
    planes = [pixel_format.plane_size(index, *size) for index in range(pixel_format.plane_count)]
    return sum(height * width for height, width in planes) * (1 if pixel_format.depth == 8 else 2)


def _clip_digest(path: Path) -> str:
    """A digest of the clip's size, beginning and end."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(DIGESTED_BYTES))
        file.seek(max(0, size - DIGESTED_BYTES))
        digest.update(file.read(DIGESTED_BYTES))
    return digest.hexdigest()


@contextmanager
def clip_errors(target: Path) -> Iterator[None]:
    """A context that raises errors of FFmpeg and of the operating system as OnebranchError in one line."""
    require("video", "enhancing clips")
    from av.error import FFmpegError

    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            reason = f"{reason[:1].lower()}{reason[1:]}; free some and continue with --resume"
        raise OnebranchError(f"cannot write '{target}': {reason}") from None
    except FFmpegError as error:
        raise OnebranchError(f"cannot write '{target}': FFmpeg says {error.strerror}") from None
    except MemoryError:
        raise OnebranchError(f"'{target}' needs more memory than there is; choose a smaller scale") from None
