"""Enhancement of one picture file: checks come first; then it is read, enhanced and written by rows."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypedDict

from onebranch.atomic_files import check_writable
from onebranch.enhancer.device import CPU_TEXT
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.options import Size
from onebranch.enhancer.steps import fully_opaque
from onebranch.errors import OnebranchError
from onebranch.images.attributes import FileAttributes, attributes_of
from onebranch.images.decoders.memory import DEFAULT_DECODER_MEMORY
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.encoders.stream import StreamWriter
from onebranch.images.formats import Format, format_of_name
from onebranch.images.probe import Probe, probe
from onebranch.images.reading import (
    MAX_PIXELS,
    bytes_for_reading,
    open_picture,
    read_animation,
)
from onebranch.images.rows import Header, Reader, WithoutAlpha
from onebranch.images.writing import (
    ANIMATION_FORMATS,
    Writer,
    bytes_for_writing,
    check_target,
    write_animation,
)
from onebranch.runtime.memory import format_bytes

PROCESS_BYTES = 60_000_000
"""Memory, in bytes, of the process before it opens a picture."""

MIN_DECODER_BYTES = 100_000_000
"""Bytes that a decoder may need even if the limit is lower. The whole process is checked later."""

OPACITY_ROWS = 256
"""Number of rows that are checked for transparency at a time."""

Progress = Callable[[float], None]
"""Called with the completed share of a picture, 0 to 1, from any thread. An exception aborts the picture."""


def no_progress(share: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class FileOptions:
    """How picture files are read and written.

    encoding: quality, compression and metadata of results. overwrite: replace existing results. max_pixels:
    limit of the height x width of a picture. keep_times: copy the modification times of pictures to their
    results (permissions are always copied). Raises OnebranchError if max_pixels is less than 1.

    >>> FileOptions(Encoding(quality=90), overwrite=True).max_pixels
    1000000000
    """

    encoding: Encoding = field(default_factory=Encoding)
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    keep_times: bool = False

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.max_pixels < 1:
            raise OnebranchError(f"max pixels must be at least 1, not {self.max_pixels}")


@dataclass(frozen=True)
class EnhancementPreview:
    """What the enhancement of a file will do, determined beforehand.

    before, after: sizes as (height, width). models: their names, in the order in which they run. notes: what
    is converted or lost, one line each. memory: estimated bytes of the process. frames: number of frames if
    the result is an animation or a clip, else 1. is_clip: True if it is a clip. device: what computes the
    networks, and why, if "auto" chose it.
    """

    before: Size
    after: Size
    models: tuple[str, ...]
    runtime: str
    precision: str
    notes: tuple[str, ...]
    memory: int
    frames: int = 1
    is_clip: bool = False
    device: str = CPU_TEXT


@dataclass(frozen=True)
class Enhanced:
    """The result of enhancing a file: what was done, and the time that it took."""

    preview: EnhancementPreview
    seconds: float


class EnhanceFile(Protocol):
    """A function that enhances one file, such as `enhance_file`."""

    def __call__(
        self,
        source: Path,
        target: Path,
        enhancer: Enhancer,
        file_options: FileOptions,
        *,
        progress: Progress,
        budget: MemoryBudget,
    ) -> Enhanced: ...


class PreviewFile(Protocol):
    """A function that previews the enhancement of one file, such as `preview_file`."""

    def __call__(
        self, source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions
    ) -> EnhancementPreview: ...


def enhance_file(
    source: Path,
    target: Path,
    enhancer: Enhancer,
    file_options: FileOptions,
    *,
    progress: Progress = no_progress,
    budget: MemoryBudget | None = None,
) -> Enhanced:
    """Enhance a picture file and write the result to another file, atomically. Thread-safe.

    All frames of an animation are enhanced if the target's format can hold animations, otherwise only the
    first one. budget: a memory limit that is shared with other pictures; this one waits until enough is free.
    Raises OnebranchError, in one line, if the file cannot be read, enhanced or written, if possible before
    any work is done.
    """
    begin = time.perf_counter()
    budget = budget or MemoryBudget()
    progress(0.0)
    with _one_line_errors(source, target):
        task = _task(source, target, enhancer, file_options)
        with task.open() as reader:
            preview = task.preview(reader.header)
            if task.frames == 1:
                with budget.reserve(preview.memory - PROCESS_BYTES):
                    task.enhance_rows(reader, progress)
        if task.frames > 1:
            with budget.reserve(preview.memory - PROCESS_BYTES):
                task.enhance_frames(progress)
    return Enhanced(preview, time.perf_counter() - begin)


def enhance_stream(
    source: Path,
    target: Path,
    enhancer: Enhancer,
    file_options: FileOptions,
    send: Callable[[bytes], None],
    *,
    progress: Progress = no_progress,
) -> Enhanced:
    """Enhance a picture, and pass the bytes of the file that `enhance_file` would write to `send`.

    The bytes are passed while the picture is encoded. target: a file name, which only selects one of
    `STREAMED_FORMATS` by its suffix. Only the first frame of an animation is enhanced. Raises the errors of
    `enhance_file`.
    """
    begin = time.perf_counter()
    progress(0.0)
    with _one_line_errors(source, target):
        task = _task(source, target, enhancer, file_options)
        with task.open() as reader:
            preview = task.preview(reader.header)
            task.stream_rows(reader, send, progress)
    return Enhanced(preview, time.perf_counter() - begin)


def preview_file(
    source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions
) -> EnhancementPreview:
    """What `enhance_file` would do. Raises OnebranchError if it would certainly fail.

    Only the header is read, with one exception: if the picture has alpha and the target format does not
    support it, all rows are read to check whether the picture is fully opaque.
    """
    with _one_line_errors(source, target):
        task = _task(source, target, enhancer, file_options)
        with task.open() as reader:
            return task.preview(reader.header)


def _task(source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions) -> "_Task":
    """The task for the probed source. Raises OnebranchError if source and target do not fit."""
    target_format = format_of_name(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise OnebranchError(f"'{target}' is the picture itself; choose another folder or name")
    return _Task(probe(source), target, target_format, enhancer, file_options)


class _ReadingLimits(TypedDict):
    max_pixels: int
    memory: int


@dataclass(frozen=True)
class _Task:
    """The enhancement of one file. source: the probed file."""

    source: Probe
    target: Path
    target_format: Format
    enhancer: Enhancer
    file_options: FileOptions

    @property
    def frames(self) -> int:
        """Number of frames of the result; 1 for a still picture."""
        return self.source.frames if self.target_format.name in ANIMATION_FORMATS else 1

    @property
    def limits(self) -> _ReadingLimits:
        """Limits for `images.reading`."""
        memory = self.enhancer.options.memory
        decoder_bytes = DEFAULT_DECODER_MEMORY if memory is None else max(memory, MIN_DECODER_BYTES)
        return {"max_pixels": self.file_options.max_pixels, "memory": decoder_bytes}

    def open(self) -> Reader:
        """A reader of the picture, without alpha if it is opaque and the target's format has no alpha."""
        reader = open_picture(self.source, **self.limits)
        if not reader.header.layout.alpha or self.target_format.alpha:
            return reader
        with reader:
            opaque = _alpha_is_opaque(reader)
        reader = open_picture(self.source, **self.limits)
        return WithoutAlpha(reader) if opaque else reader

    def preview(self, header: Header) -> EnhancementPreview:
        """What will be done. Raises OnebranchError if the result cannot be written."""
        before = header.layout.height, header.layout.width
        after = self.enhancer.size_of_result(before)
        losses = check_target(self.target, _resized(header, after), self.file_options.encoding)
        check_writable(self.target, self.file_options.overwrite, folder_will_exist=True)
        stages = self.enhancer.stages_for(before)
        precisions = self.enhancer.precisions_for(before)
        return EnhancementPreview(
            before=before,
            after=after,
            models=tuple(stage.model.name for stage in stages),
            runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
            precision=" then ".join(precisions) or "the file's own precision",
            notes=(*(header.notes if self.frames == 1 else ()), *losses),
            memory=self._estimate_memory(header, after),
            frames=self.frames,
            device=" then ".join(self.enhancer.devices_for(before)),
        )

    def _estimate_memory(self, header: Header, size: Size) -> int:
        """The estimated bytes of the process. Raises OnebranchError if they exceed the memory limit."""
        layout, enhancer, encoding = header.layout, self.enhancer, self.file_options.encoding
        estimate = PROCESS_BYTES + enhancer.bytes_for(layout) + bytes_for_reading(header)
        estimate += self.frames * bytes_for_writing(self.target, _resized(header, size), encoding)
        limit = enhancer.options.memory
        if limit is not None and estimate > limit:
            reason = ", because its network needs the whole picture" if enhancer.needs_whole(layout) else ""
            raise OnebranchError(
                f"{layout.width}x{layout.height} pixels to {size[1]}x{size[0]} as {self.target_format.name}"
                f" needs about {format_bytes(estimate)}{reason}, more than the {format_bytes(limit)} allowed"
                " (--memory)"
            )
        return estimate

    def enhance_rows(self, reader: Reader, progress: Progress) -> None:
        """Write the result by rows."""
        layout, files = reader.header.layout, self.file_options
        size = self.enhancer.size_of_result((layout.height, layout.width))
        header = _resized(reader.header, size)
        written = 0
        with Writer(
            self.target, header, files.encoding, overwrite=files.overwrite, attributes=self._attributes
        ) as writer:
            for rows in self.enhancer.rows(reader):
                writer.write(rows)
                written += len(rows)
                progress(written / size[0])

    def stream_rows(self, reader: Reader, send: Callable[[bytes], None], progress: Progress) -> None:
        """Encode the result by rows and pass the bytes to `send`."""
        layout = reader.header.layout
        size = self.enhancer.size_of_result((layout.height, layout.width))
        header = _resized(reader.header, size)
        writer = StreamWriter(header, self.target_format, self.file_options.encoding, send)
        written = 0
        try:
            for rows in self.enhancer.rows(reader):
                writer.write(rows)
                written += len(rows)
                progress(written / size[0])
        except BaseException:
            writer.abandon()
            raise
        writer.close()

    def enhance_frames(self, progress: Progress) -> None:
        """Write the result as an animation."""
        files = self.file_options
        check_writable(self.target, files.overwrite)
        animation = read_animation(self.source, **self.limits)
        frames = []
        for frame in animation.frames:
            frames.append(self.enhancer.enhance(frame))
            progress(len(frames) / len(animation.frames))
        result = replace(animation, frames=tuple(frames))
        write_animation(
            result, self.target, files.encoding, overwrite=files.overwrite, attributes=self._attributes
        )

    @property
    def _attributes(self) -> FileAttributes | None:
        """The permissions of the source and, if the options request them, its times."""
        return attributes_of(self.source.path, self.file_options.keep_times)


def _alpha_is_opaque(reader: Reader) -> bool:
    while len(rows := reader.read(OPACITY_ROWS)):
        if not fully_opaque(rows[..., -1]):
            return False
    return True


def _resized(header: Header, size: Size) -> Header:
    return replace(header, layout=replace(header.layout, height=size[0], width=size[1]))


@contextmanager
def _one_line_errors(source: Path, target: Path) -> Iterator[None]:
    """A context that converts OSError and MemoryError to OnebranchError in one line."""
    try:
        yield
    except OSError as error:
        raise OnebranchError(f"'{source}' to '{target}': {error.strerror or error}") from None
    except MemoryError:
        raise OnebranchError(
            f"'{source}' needs more memory than there is; set a lower limit (--memory, --tile)"
        ) from None
