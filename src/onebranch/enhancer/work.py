"""One picture file enhanced into another: read, checked, enhanced and written, by rows where it is large."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from onebranch.enhancer.options import Size
from onebranch.enhancer.picture import Enhancer
from onebranch.errors import OnebranchError
from onebranch.images.encoding import Encoding
from onebranch.images.files import check_target, write
from onebranch.images.reading import MAX_PIXELS, open_picture, read
from onebranch.images.rows import Header
from onebranch.model.file import Model


@dataclass(frozen=True)
class Writing:
    """How results are written; see `images.writing`. max_pixels: of a picture that is read."""

    encoding: Encoding = field(default_factory=Encoding)
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Foreseen:
    """What an enhancement does: sizes as (height, width), what runs, what is converted, memory in bytes."""

    before: Size
    after: Size
    models: tuple[str, ...]
    runtime: str
    precision: str
    notes: tuple[str, ...]
    memory: int


@dataclass(frozen=True)
class Enhanced:
    """A picture that was enhanced: as foreseen, and in how many seconds."""

    foreseen: Foreseen
    seconds: float


def enhance_file(source: Path, target: Path, enhancer: Enhancer, writing: Writing) -> Enhanced:
    """Enhance the picture in a file into another one, which appears whole or not at all.

    From any thread. OnebranchError, one line, for what cannot be read, enhanced or written; said before the
    work wherever it can be known.
    """
    begin = time.perf_counter()
    foreseen = foresee(source, target, enhancer, writing)
    picture = read(source, max_pixels=writing.max_pixels)
    check_target(target, *foreseen.after, alpha=not picture.opaque, overwrite=writing.overwrite)
    encoding = writing.encoding
    write(
        enhancer.enhance(picture),
        target,
        quality=encoding.quality,
        lossless=encoding.lossless,
        overwrite=writing.overwrite,
    )
    return Enhanced(foreseen, time.perf_counter() - begin)


def foresee(source: Path, target: Path, enhancer: Enhancer, writing: Writing) -> Foreseen:
    """What `enhance_file` would do, from the header alone. OnebranchError where it is known to fail."""
    with open_picture(source, max_pixels=writing.max_pixels) as reader:
        header = reader.header
    if target.exists() and target.samefile(source):
        raise OnebranchError(f"'{target}' is the picture itself; choose another folder or name")
    return _foreseen(header, target, enhancer, writing)


def _foreseen(header: Header, target: Path, enhancer: Enhancer, writing: Writing) -> Foreseen:
    layout = header.layout
    before = layout.height, layout.width
    after = enhancer.size_of_result(before)
    check_target(target, *after, overwrite=writing.overwrite)
    stages = enhancer.stages_for(before)
    own = all(isinstance(stage.model, Model) for stage in stages)
    return Foreseen(
        before=before,
        after=after,
        models=tuple(stage.model.name for stage in stages),
        runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
        precision=enhancer.options.precision if own else "the file's own precision",
        notes=header.notes,
        memory=enhancer.memory(),
    )
