"""One picture file enhanced into another: read, checked, enhanced and written, by rows where it is large."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from onebranch.atomic_files import check_writable
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Size
from onebranch.enhancer.steps import opaque
from onebranch.errors import OnebranchError
from onebranch.images.decoders.memory import DEFAULT_DECODER_MEMORY
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.formats import format_of_name
from onebranch.images.reading import (
    MAX_PIXELS,
    bytes_for_reading,
    frames_of,
    open_picture,
    read_animation,
)
from onebranch.images.rows import Header, Reader, WithoutAlpha
from onebranch.images.writing import ANIMATED, Writer, bytes_for_writing, plan, write_animation
from onebranch.model.file import Model

PROCESS = 60_000_000
"""Bytes that a process takes before any picture."""

LEAST = 100_000_000
"""Bytes that a decoder may take however little is allowed: the whole process is held against that later."""

AT_ONCE = 256
"""Rows that are looked at together for transparency."""


@dataclass(frozen=True)
class Writing:
    """How results are written; see `images.writing`. max_pixels: of a picture that is read."""

    encoding: Encoding = field(default_factory=Encoding)
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.max_pixels < 1:
            raise OnebranchError(f"max pixels must be at least 1, not {self.max_pixels}")


@dataclass(frozen=True)
class EnhancementPreview:
    """What an enhancement does: sizes as (height, width), what runs, what is converted or lost.

    frames: of an animation that stays one, else 1. memory: bytes that the process takes, about.
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
    """A picture that was enhanced: what was done, and in how many seconds."""

    preview: EnhancementPreview
    seconds: float


def enhance_file(source: Path, target: Path, enhancer: Enhancer, writing: Writing) -> Enhanced:
    """Enhance the picture in a file into another one, which appears whole or not at all.

    From any thread. An animation stays one where the target's format holds it, else its first frame is taken.
    OnebranchError, one line, for what cannot be read, enhanced or written; said before the work wherever it
    can be known.
    """
    begin = time.perf_counter()
    with _told_of(source, target):
        frames = _frames(source, target)
        limits = _limits(enhancer, writing)
        with _opened(source, target, limits) as reader:
            preview = _preview(reader.header, target, enhancer, writing, frames)
            if frames == 1:
                _enhance_rows(reader, target, enhancer, writing)
        if frames > 1:
            _enhance_frames(source, target, enhancer, writing)
    return Enhanced(preview, time.perf_counter() - begin)


def preview_file(source: Path, target: Path, enhancer: Enhancer, writing: Writing) -> EnhancementPreview:
    """What `enhance_file` would do. OnebranchError where it is known to fail.

    From the header alone; but a picture with alpha whose result has no place for it is looked through.
    """
    with _told_of(source, target):
        frames = _frames(source, target)
        with _opened(source, target, _limits(enhancer, writing)) as reader:
            return _preview(reader.header, target, enhancer, writing, frames)


def _frames(source: Path, target: Path) -> int:
    """Frames that become an animation; 1 for a picture, and where the target holds no animation."""
    return frames_of(source) if format_of_name(target).name in ANIMATED else 1


class _Limits(TypedDict):
    max_pixels: int
    memory: int


def _limits(enhancer: Enhancer, writing: Writing) -> _Limits:
    """What reading may take; see `images.reading`."""
    memory = enhancer.options.memory
    return {
        "max_pixels": writing.max_pixels,
        "memory": DEFAULT_DECODER_MEMORY if memory is None else max(memory, LEAST),
    }


def _opened(source: Path, target: Path, limits: _Limits) -> Reader:
    """The picture; without its alpha where that hides nothing and has no place in the target."""
    if target.exists() and target.samefile(source):
        raise OnebranchError(f"'{target}' is the picture itself; choose another folder or name")
    reader = open_picture(source, **limits)
    if not reader.header.layout.alpha or format_of_name(target).alpha:
        return reader
    with reader:
        hides = not _opaque(reader)
    reader = open_picture(source, **limits)
    return reader if hides else WithoutAlpha(reader)


def _opaque(reader: Reader) -> bool:
    while len(rows := reader.read(AT_ONCE)):
        if not opaque(rows[..., -1]):
            return False
    return True


def _preview(
    header: Header, target: Path, enhancer: Enhancer, writing: Writing, frames: int
) -> EnhancementPreview:
    layout = header.layout
    before = layout.height, layout.width
    after = enhancer.size_of_result(before)
    lost = plan(target, _header_after(header, after), writing.encoding)
    check_writable(target, writing.overwrite, folder_will_exist=True)
    stages = enhancer.stages_for(before)
    own = all(isinstance(stage.model, Model) for stage in stages)
    return EnhancementPreview(
        before=before,
        after=after,
        models=tuple(stage.model.name for stage in stages),
        runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
        precision=enhancer.options.precision if own else "the file's own precision",
        notes=(*(header.notes if frames == 1 else ()), *lost),
        memory=_memory(header, target, after, enhancer, frames, writing.encoding),
        frames=frames,
    )


def _memory(
    header: Header, target: Path, size: Size, enhancer: Enhancer, frames: int, encoding: Encoding
) -> int:
    """Bytes that the process needs, about. OnebranchError if that is more than it may take."""
    layout = header.layout
    needed = PROCESS + enhancer.bytes_for(layout) + bytes_for_reading(header)
    needed += frames * bytes_for_writing(target, _header_after(header, size), encoding)
    limit = enhancer.options.memory
    if limit is not None and needed > limit:
        how = ", as its network takes it whole" if enhancer.pipeline(layout).whole else ""
        raise OnebranchError(
            f"{layout.width}x{layout.height} pixels to {size[1]}x{size[0]} as {format_of_name(target).name}"
            f" needs about {needed / 1e6:.0f} MB{how}, more than the {limit / 1e6:.0f} MB allowed (--memory)"
        )
    return needed


def _header_after(header: Header, size: Size) -> Header:
    return replace(header, layout=replace(header.layout, height=size[0], width=size[1]))


def _enhance_rows(reader: Reader, target: Path, enhancer: Enhancer, writing: Writing) -> None:
    header = reader.header
    size = enhancer.size_of_result((header.layout.height, header.layout.width))
    after = _header_after(header, size)
    with Writer(target, after, writing.encoding, overwrite=writing.overwrite) as writer:
        for rows in enhancer.rows(reader):
            writer.write(rows)


def _enhance_frames(source: Path, target: Path, enhancer: Enhancer, writing: Writing) -> None:
    check_writable(target, writing.overwrite)
    animation = read_animation(source, **_limits(enhancer, writing))
    frames = tuple(enhancer.enhance(frame) for frame in animation.frames)
    result = replace(animation, frames=frames)
    write_animation(result, target, writing.encoding, overwrite=writing.overwrite)


@contextmanager
def _told_of(source: Path, target: Path) -> Iterator[None]:
    """What the system refuses, as one line."""
    try:
        yield
    except OSError as error:
        raise OnebranchError(f"'{source}' to '{target}': {error.strerror or error}") from None
    except MemoryError:
        raise OnebranchError(
            f"'{source}' needs more memory than there is; allow it less (--memory, --tile)"
        ) from None
