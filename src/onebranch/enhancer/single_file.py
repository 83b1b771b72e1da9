"""One picture file enhanced into another: read, checked, enhanced and written, by rows where it is large."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypedDict

from onebranch.atomic_files import check_writable
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.options import Size
from onebranch.enhancer.steps import fully_opaque
from onebranch.errors import OnebranchError
from onebranch.images.attributes import attributes_of
from onebranch.images.decoders.memory import DEFAULT_DECODER_MEMORY
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.formats import format_of_name
from onebranch.images.probe import probe
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
from onebranch.model.file import Model

PROCESS_BYTES = 60_000_000
"""Memory of the process before it opens a picture."""

MIN_DECODER_BYTES = 100_000_000
"""What a decoder may take, however low the memory limit; the estimate for the process is checked later."""

OPACITY_ROWS = 256
"""Rows that are checked for transparency at a time."""

Progress = Callable[[float], None]
"""Called with the completed share of a picture, 0 to 1, from any thread. An exception stops the picture."""


def no_progress(share: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class FileOptions:
    """How picture files are read and written.

    encoding: quality, compression and metadata of results. overwrite: replace results that exist.
    max_pixels: largest picture that is read. OnebranchError at construction if it is less than 1. keep_times:
    results get the modification time of their source; they always get its permissions.

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
    """What enhancing a file does, known without doing it.

    before, after: sizes as (height, width). models: names, in the order in which they run. notes: what is
    converted or lost, one line each. memory: estimated bytes of the process. frames: of an animation that
    stays one, else 1.
    """

    before: Size
    after: Size
    models: tuple[str, ...]
    runtime: str
    precision: str
    notes: tuple[str, ...]
    memory: int
    frames: int = 1


@dataclass(frozen=True)
class Enhanced:
    """An enhanced file: what was done, and the time it took."""

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
    """Enhance a picture file into another one, which appears complete or not at all. Thread-safe.

    An animation stays one where the target's format holds animations; else its first frame is enhanced.
    budget: memory that this picture shares with others; it waits until enough is free. OnebranchError, in one
    line, for what cannot be read, enhanced or written; before any work wherever that can be known.
    """
    begin = time.perf_counter()
    budget = budget or MemoryBudget()
    progress(0.0)
    with _one_line_errors(source, target):
        frames = _frames(source, target)
        with _open(source, target, _limits(enhancer, file_options)) as reader:
            preview = _preview(reader.header, target, enhancer, file_options, frames)
            if frames == 1:
                with budget.reserve(preview.memory - PROCESS_BYTES):
                    _enhance_rows(reader, source, target, enhancer, file_options, progress)
        if frames > 1:
            with budget.reserve(preview.memory - PROCESS_BYTES):
                _enhance_frames(source, target, enhancer, file_options, progress)
    return Enhanced(preview, time.perf_counter() - begin)


def preview_file(
    source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions
) -> EnhancementPreview:
    """What `enhance_file` would do. OnebranchError where it is known to fail.

    Only the header is read, except for a picture with alpha whose target format has none: all its rows are
    checked for transparency.
    """
    with _one_line_errors(source, target):
        frames = _frames(source, target)
        with _open(source, target, _limits(enhancer, file_options)) as reader:
            return _preview(reader.header, target, enhancer, file_options, frames)


def _frames(source: Path, target: Path) -> int:
    """Frames of the resulting animation; 1 for a still picture."""
    return probe(source).frames if format_of_name(target).name in ANIMATION_FORMATS else 1


class _ReadingLimits(TypedDict):
    max_pixels: int
    memory: int


def _limits(enhancer: Enhancer, file_options: FileOptions) -> _ReadingLimits:
    """Limits for `images.reading`."""
    memory = enhancer.options.memory
    decoder_bytes = DEFAULT_DECODER_MEMORY if memory is None else max(memory, MIN_DECODER_BYTES)
    return {"max_pixels": file_options.max_pixels, "memory": decoder_bytes}


def _open(source: Path, target: Path, limits: _ReadingLimits) -> Reader:
    """The picture; an alpha channel that the target cannot hold is left out if it is fully opaque."""
    if target.exists() and target.samefile(source):
        raise OnebranchError(f"'{target}' is the picture itself; choose another folder or name")
    reader = open_picture(source, **limits)
    if not reader.header.layout.alpha or format_of_name(target).alpha:
        return reader
    with reader:
        opaque = _alpha_is_opaque(reader)
    reader = open_picture(source, **limits)
    return WithoutAlpha(reader) if opaque else reader


def _alpha_is_opaque(reader: Reader) -> bool:
    while len(rows := reader.read(OPACITY_ROWS)):
        if not fully_opaque(rows[..., -1]):
            return False
    return True


def _preview(
    header: Header, target: Path, enhancer: Enhancer, file_options: FileOptions, frames: int
) -> EnhancementPreview:
    layout = header.layout
    before = layout.height, layout.width
    after = enhancer.size_of_result(before)
    losses = check_target(target, _resized(header, after), file_options.encoding)
    check_writable(target, file_options.overwrite, folder_will_exist=True)
    stages = enhancer.stages_for(before)
    our_models = all(isinstance(stage.model, Model) for stage in stages)
    return EnhancementPreview(
        before=before,
        after=after,
        models=tuple(stage.model.name for stage in stages),
        runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
        precision=enhancer.options.precision if our_models else "the file's own precision",
        notes=(*(header.notes if frames == 1 else ()), *losses),
        memory=_estimate_memory(header, target, after, enhancer, frames, file_options.encoding),
        frames=frames,
    )


def _estimate_memory(
    header: Header, target: Path, size: Size, enhancer: Enhancer, frames: int, encoding: Encoding
) -> int:
    """Estimated bytes of the process. OnebranchError if that is more than the memory limit."""
    layout = header.layout
    estimate = PROCESS_BYTES + enhancer.bytes_for(layout) + bytes_for_reading(header)
    estimate += frames * bytes_for_writing(target, _resized(header, size), encoding)
    limit = enhancer.options.memory
    if limit is not None and estimate > limit:
        reason = ", because its network needs the whole picture" if enhancer.needs_whole(layout) else ""
        raise OnebranchError(
            f"{layout.width}x{layout.height} pixels to {size[1]}x{size[0]} as {format_of_name(target).name}"
            f" needs about {estimate / 1e6:.0f} MB{reason}, more than the {limit / 1e6:.0f} MB allowed"
            " (--memory)"
        )
    return estimate


def _resized(header: Header, size: Size) -> Header:
    return replace(header, layout=replace(header.layout, height=size[0], width=size[1]))


def _enhance_rows(
    reader: Reader,
    source: Path,
    target: Path,
    enhancer: Enhancer,
    file_options: FileOptions,
    progress: Progress,
) -> None:
    layout = reader.header.layout
    size = enhancer.size_of_result((layout.height, layout.width))
    header = _resized(reader.header, size)
    written = 0
    attributes = attributes_of(source, file_options.keep_times)
    overwrite = file_options.overwrite
    with Writer(target, header, file_options.encoding, overwrite=overwrite, attributes=attributes) as writer:
        for rows in enhancer.rows(reader):
            writer.write(rows)
            written += len(rows)
            progress(written / size[0])


def _enhance_frames(
    source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions, progress: Progress
) -> None:
    check_writable(target, file_options.overwrite)
    animation = read_animation(source, **_limits(enhancer, file_options))
    frames = []
    for frame in animation.frames:
        frames.append(enhancer.enhance(frame))
        progress(len(frames) / len(animation.frames))
    result = replace(animation, frames=tuple(frames))
    attributes = attributes_of(source, file_options.keep_times)
    overwrite = file_options.overwrite
    write_animation(result, target, file_options.encoding, overwrite=overwrite, attributes=attributes)


@contextmanager
def _one_line_errors(source: Path, target: Path) -> Iterator[None]:
    """Raise errors of the operating system as OnebranchError in one line."""
    try:
        yield
    except OSError as error:
        raise OnebranchError(f"'{source}' to '{target}': {error.strerror or error}") from None
    except MemoryError:
        raise OnebranchError(
            f"'{source}' needs more memory than there is; set a lower limit (--memory, --tile)"
        ) from None
