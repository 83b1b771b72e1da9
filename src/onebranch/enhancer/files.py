"""Many picture files enhanced, one after the other: where each goes, and what became of it.

The next picture is read, and the last one written, while the networks work on the one between.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.enhancer.options import Options, Size
from onebranch.enhancer.picture import Enhancer
from onebranch.enhancer.stage import Stage
from onebranch.errors import OnebranchError
from onebranch.images.folders import find_pictures
from onebranch.images.formats import BY_SUFFIX
from onebranch.images.picture import Picture
from onebranch.images.reading import MAX_PIXELS, read
from onebranch.images.writing import plan, write
from onebranch.model.file import Model

KEPT = frozenset(BY_SUFFIX) - {".gif"}
"""Suffixes that a result keeps in a folder; others, and GIF with its 256 colours, become PNG."""


@dataclass(frozen=True)
class Job:
    """One picture and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Writing:
    """How results are written; see `images.files.write`. max_pixels: of a picture that is read."""

    quality: int | None = None
    lossless: bool = False
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Done:
    """A picture that was enhanced: sizes as (height, width), what ran, seconds, what reading changed."""

    job: Job
    before: Size
    after: Size
    models: tuple[str, ...]
    runtime: str
    precision: str
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A picture that was not, and the reason in one line."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Summary:
    """What became of every picture, in order."""

    results: tuple[Done | Failed, ...]

    @property
    def done(self) -> list[Done]:
        """The pictures that were enhanced."""
        return [result for result in self.results if isinstance(result, Done)]

    @property
    def failed(self) -> list[Failed]:
        """The pictures that were not."""
        return [result for result in self.results if isinstance(result, Failed)]


def enhance_files(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options,
    writing: Writing = Writing(),
    shown: Callable[[Done | Failed], None] = lambda result: None,
) -> Summary:
    """Enhance picture files, and those in folders, into `out`; a bad one is reported and the rest goes on.

    out: a folder, which is made, unless there is one picture and `out` has a suffix. shown: called with each
    result as it comes. Raises OnebranchError, before any work, where two pictures would have one result, or
    for options, models and folders that cannot be used.
    """
    jobs = jobs_for(paths, out)
    check_quality(writing.quality)
    enhancer = Enhancer(options)
    _make_folder(jobs[0].target.parent)
    results: list[Done | Failed] = []
    with ThreadPoolExecutor(2) as pool:
        for result in _results(jobs, enhancer, writing, pool):
            shown(result)
            results.append(result)
    return Summary(tuple(results))


def jobs_for(paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]) -> list[Job]:
    """Where the result of every picture goes; folders stand for the pictures in them.

    >>> jobs_for(["a/one.png", "b/two.gif"], "big")[1].target.as_posix()
    'big/two.png'
    """
    given, target = [Path(path) for path in paths], Path(out)
    sources = [source for path in given for source in (find_pictures(path) if path.is_dir() else [path])]
    if not sources:
        raise OnebranchError("there is no picture to enhance; name at least one")
    if len(given) == 1 and not given[0].is_dir() and target.suffix and not _means_a_folder(out):
        return [Job(given[0], target)]
    if target.suffix.lower() in BY_SUFFIX and not _means_a_folder(out):
        raise OnebranchError(f"'{target}' is one picture's name; for several pictures name a folder")
    jobs = [Job(source, target / _result_name(source)) for source in sources]
    _refuse_shared_targets(jobs)
    return jobs


def _means_a_folder(out: str | os.PathLike[str]) -> bool:
    """Whether it is a folder, or its name ends as only a folder's does."""
    return os.fspath(out).endswith(("/", os.sep)) or Path(out).is_dir()


def check_quality(quality: int | None) -> None:
    """Raise OnebranchError for a quality that no format has, before any picture is read."""
    from onebranch.images.encoding import Encoding

    Encoding(quality)


def _result_name(source: Path) -> str:
    return source.name if source.suffix.lower() in KEPT else f"{source.stem}.png"


def _refuse_shared_targets(jobs: Sequence[Job]) -> None:
    sources: dict[str, Path] = {}
    for job in jobs:
        name = job.target.name.casefold()  # many file systems hold one of two names that differ in case
        if name in sources:
            raise OnebranchError(
                f"'{sources[name]}' and '{job.source}' would both become '{job.target}';"
                " enhance them into different folders"
            )
        sources[name] = job.source


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(f"cannot make the folder '{folder}': {error.strerror}") from None


def _results(
    jobs: Sequence[Job], enhancer: Enhancer, writing: Writing, pool: ThreadPoolExecutor
) -> Iterator[Done | Failed]:
    """Results in order; while one picture is enhanced, the next is being read and the last written."""
    pending: Future[Done | Failed] | None = None
    for job, picture in _read_ahead(jobs, writing, pool):
        current = _started(job, picture, enhancer, writing, pool)
        if pending is not None:
            yield pending.result()
        pending = current
    if pending is not None:
        yield pending.result()


def _read_ahead(
    jobs: Sequence[Job], writing: Writing, pool: ThreadPoolExecutor
) -> Iterator[tuple[Job, Future[Picture]]]:
    """Every job with its picture, one being read ahead of the one that is handed out."""

    def start(job: Job) -> Future[Picture]:
        return pool.submit(read, job.source, max_pixels=writing.max_pixels)

    following = start(jobs[0])
    for index, job in enumerate(jobs):
        current = following
        if index + 1 < len(jobs):
            following = start(jobs[index + 1])
        yield job, current


def _started(
    job: Job, picture: Future[Picture], enhancer: Enhancer, writing: Writing, pool: ThreadPoolExecutor
) -> "Future[Done | Failed]":
    """The picture enhanced, and its writing begun."""
    begin = time.perf_counter()
    try:
        found = picture.result()
        _check(job, found, enhancer, writing)
        result = enhancer.enhance(found)
    except OnebranchError as error:
        return _settled(Failed(job, str(error)))
    except OSError as error:
        return _settled(Failed(job, f"'{job.source}' to '{job.target}': {error.strerror or error}"))
    except MemoryError:
        return _settled(Failed(job, f"'{job.source}' needs more memory than there is; try a smaller --tile"))
    stages = enhancer.stages_for((found.height, found.width))
    done = Done(
        job=job,
        before=(found.height, found.width),
        after=(result.height, result.width),
        models=tuple(stage.model.name for stage in stages),
        runtime=" then ".join(dict.fromkeys(stage.runtime for stage in stages)),
        precision=_precision(stages, enhancer.options),
        seconds=time.perf_counter() - begin,
        notes=found.notes,
    )
    return pool.submit(_written, done, result, writing)


def _precision(stages: Sequence[Stage], options: Options) -> str:
    """What was computed in; an ONNX file knows its own."""
    own = all(isinstance(stage.model, Model) for stage in stages)
    return options.precision if own else "the file's own precision"


def _check(job: Job, picture: Picture, enhancer: Enhancer, writing: Writing) -> None:
    """Raise OnebranchError before the work where its result could not be written."""
    if job.target.exists() and job.target.samefile(job.source):
        raise OnebranchError(f"'{job.target}' is the picture itself; choose another folder or name")
    height, width = enhancer.size_of_result((picture.height, picture.width))
    header = picture.header
    layout = replace(header.layout, height=height, width=width, alpha=not picture.opaque)
    plan(job.target, replace(header, layout=layout))


def _written(done: Done, result: Picture, writing: Writing) -> Done | Failed:
    try:
        write(
            result,
            done.job.target,
            quality=writing.quality,
            lossless=writing.lossless,
            overwrite=writing.overwrite,
        )
    except OnebranchError as error:
        return Failed(done.job, str(error))
    return done


def _settled(result: Done | Failed) -> "Future[Done | Failed]":
    future: Future[Done | Failed] = Future()
    future.set_result(result)
    return future
