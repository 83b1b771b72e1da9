"""Picture files enhanced, one or several: which, into which files, in what way; and what became of them."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from onebranch.atomic_files import remove_leftovers
from onebranch.enhancer.batch import (
    Batch,
    Done,
    Failed,
    Outcome,
    Previewed,
    Share,
    Skipped,
    at_a_time,
    preview_outcomes,
)
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.inputs import Source, sources_of
from onebranch.enhancer.jobs import (
    Job,
    Shard,
    check_folder,
    is_one_file,
    jobs_for,
    means_a_folder,
    refuse_lost,
    refuse_shared,
)
from onebranch.enhancer.names import MEASURED, Naming, Values
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import Writing
from onebranch.errors import OnebranchError
from onebranch.images.formats import BY_SUFFIX, format_of_name
from onebranch.images.reading import open_picture
from onebranch.model.catalogue import is_foreign
from onebranch.model.file import Model

AS_USUAL = Writing()


@dataclass(frozen=True)
class BatchOptions:
    """How a batch of pictures is enhanced.

    recursive: folders with the folders in them, mirrored below the results' folder. naming: what results are
    called. jobs: pictures at a time, None: by the cores. resume: leave out what is done and valid, by the
    manifest that such a run keeps. shard: only this part; all parts together do everything once.
    comparisons: a folder, or for one picture a file, for pictures of input and result side by side.
    """

    recursive: bool = False
    naming: Naming = field(default_factory=Naming)
    jobs: int | None = None
    resume: bool = False
    shard: Shard | None = None
    comparisons: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Summary:
    """What became of every picture, in order. left_out: lines about what was not looked at."""

    results: tuple[Outcome, ...]
    left_out: tuple[str, ...] = ()

    @property
    def done(self) -> list[Done]:
        """The pictures that were enhanced."""
        return [result for result in self.results if isinstance(result, Done)]

    @property
    def previewed(self) -> list[Previewed]:
        """The pictures that would be enhanced."""
        return [result for result in self.results if isinstance(result, Previewed)]

    @property
    def skipped(self) -> list[Skipped]:
        """The pictures whose results were there."""
        return [result for result in self.results if isinstance(result, Skipped)]

    @property
    def failed(self) -> list[Failed]:
        """The pictures that were not enhanced."""
        return [result for result in self.results if isinstance(result, Failed)]


@dataclass(frozen=True)
class Watcher:
    """Whoever wants to know how it goes: of the number of pictures and what was left out, at the beginning;
    of how much of a picture is done, from any thread; and of every result, in order."""

    begins: Callable[[int, Sequence[str]], None] = lambda pictures, left_out: None
    share: Share = lambda job, part: None
    shown: Callable[[Outcome], None] = lambda result: None


def enhance_files(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options,
    writing: Writing = AS_USUAL,
    shown: Callable[[Outcome], None] = lambda result: None,
    *,
    batch: BatchOptions = BatchOptions(),
    watcher: Watcher | None = None,
) -> Summary:
    """Enhance picture files, those in folders and those that patterns fit; a bad one does not stop the rest.

    out: a folder, which is made, unless there is one picture and `out` has a suffix. shown: called with each
    result as it comes, in order; watcher: in its place, to see more. Raises OnebranchError, before any work,
    where two pictures would have one result, or for options, models and folders that cannot be used. A
    picture is written whole or not at all, after an interrupt (KeyboardInterrupt) too.
    """
    watcher = watcher or Watcher(shown=shown)
    jobs, left_out, enhancer = _prepared(paths, out, options, writing, batch)
    watcher.begins(len(jobs), left_out)
    results = []
    with closing(_outcomes(jobs, Path(out), enhancer, writing, batch, watcher.share)) as outcomes:
        for result in outcomes:
            watcher.shown(result)
            results.append(result)
    return Summary(tuple(results), left_out)


def preview_files(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options,
    writing: Writing = AS_USUAL,
    *,
    batch: BatchOptions = BatchOptions(),
    watcher: Watcher | None = None,
) -> Summary:
    """What `enhance_files` would do; nothing is written. Errors as there."""
    watcher = watcher or Watcher()
    jobs, left_out, enhancer = _prepared(paths, out, options, writing, batch)
    watcher.begins(len(jobs), left_out)
    results = []
    records = None
    if batch.resume:
        from onebranch.enhancer.manifest import Records, fingerprint

        records = Records(Path(out), fingerprint(options, writing.encoding))
    for result in preview_outcomes(jobs, enhancer, writing, records):
        watcher.shown(result)
        results.append(result)
    return Summary(tuple(results), left_out)


def _prepared(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options,
    writing: Writing,
    batch: BatchOptions,
) -> tuple[list[Job], tuple[str, ...], Enhancer]:
    """The jobs, lines about what was left out, and the enhancer: all that can be refused before any work."""
    given = [os.fspath(path) for path in paths]
    folders = [Path(place) for place in (out, batch.comparisons) if place is not None]
    for path in (*given, *map(os.fspath, folders)):
        if "\0" in path:
            raise OnebranchError(f"nothing can be called '{path}': a name cannot hold NUL")
    sources = sources_of(given, batch.recursive, folders)
    enhancer = Enhancer(options, at_a_time(_jobs(options, batch), len(sources.pictures)))
    one = len(sources.pictures) == 1 and is_one_file(given, out)
    if one and batch.naming == Naming() and not (batch.resume or batch.shard):
        format_of_name(Path(out))  # a wrong call, not a bad picture
        jobs = [Job(sources.pictures[0].path, Path(out))]
    else:
        jobs = _into_folder(sources.pictures, out, enhancer, writing, batch)
    _check_lossless(jobs, writing)
    jobs = _with_comparisons(jobs, Path(out), batch)
    refuse_lost(jobs, sources.pictures)
    return jobs, sources.left_out, enhancer


def _jobs(options: Options, batch: BatchOptions) -> int | None:
    """Pictures at a time as asked for; else one for an ONNX file, which may need all the memory there is."""
    model = options.model
    foreign = model is not None and not isinstance(model, Model) and is_foreign(model)
    return 1 if batch.jobs is None and foreign else batch.jobs


def _into_folder(
    sources: Sequence[Source],
    out: str | os.PathLike[str],
    enhancer: Enhancer,
    writing: Writing,
    batch: BatchOptions,
) -> list[Job]:
    check_folder(out)

    def measure(path: Path) -> Values:
        return _measured(path, enhancer, writing)

    wanted = measure if MEASURED & batch.naming.fields else None
    jobs = jobs_for(sources, Path(out), batch.naming, wanted)
    shard = batch.shard
    if shard is None:
        return jobs
    return [job for job in jobs if shard.holds(job.target.relative_to(Path(out)).as_posix())]


def _measured(path: Path, enhancer: Enhancer, writing: Writing) -> Values:
    """The fields of a name that need a look at the picture."""
    with open_picture(path, max_pixels=writing.max_pixels) as reader:
        layout = reader.header.layout
    height, width = enhancer.size_of_result((layout.height, layout.width))
    models = [stage.model.name for stage in enhancer.stages_for((layout.height, layout.width))]
    scale = f"{width / layout.width:.4g}"
    return {"width": width, "height": height, "scale": scale, "model": "+".join(models)}


def _check_lossless(jobs: Sequence[Job], writing: Writing) -> None:
    """OnebranchError if results are to be without loss and would be JPEG."""
    jpeg = [job for job in jobs if _format(job.target) == "JPEG"] if writing.encoding.lossless else []
    if jpeg:
        raise OnebranchError(
            f"cannot write '{jpeg[0].target}' without loss: JPEG always has some;"
            " choose another format, such as --format png"
        )


def _format(path: Path) -> str:
    form = BY_SUFFIX.get(path.suffix.lower())
    return form.name if form else ""


def _with_comparisons(jobs: list[Job], out: Path, batch: BatchOptions) -> list[Job]:
    """The jobs, each with the place of its comparison if there are to be any."""
    if batch.comparisons is None:
        return jobs
    folder = Path(batch.comparisons)
    if len(jobs) == 1 and folder.suffix and not means_a_folder(batch.comparisons):
        found = [replace(jobs[0], comparison=folder)]
    else:
        check_folder(batch.comparisons)
        found = [replace(job, comparison=_place(job, out, folder)) for job in jobs]
    for job in found:
        assert job.comparison is not None
        if _format(job.comparison) == "":
            raise OnebranchError(f"'{job.comparison}' ends with no picture's suffix; a comparison needs one")
    refuse_shared([(job.source, job.comparison) for job in found if job.comparison is not None])
    return found


def _place(job: Job, out: Path, folder: Path) -> Path:
    inside = job.target != out and job.target.is_relative_to(out)
    below = job.target.parent.relative_to(out) if inside else Path()
    return folder / below / f"{job.target.stem}_compared.png"


def _outcomes(
    jobs: Sequence[Job], out: Path, enhancer: Enhancer, writing: Writing, batch: BatchOptions, share: Share
) -> Generator[Outcome]:
    if not (batch.resume or batch.shard):
        yield from Batch(enhancer, writing, share).outcomes(jobs)
        return
    from onebranch.enhancer.batch import Folders
    from onebranch.enhancer.manifest import Manifest, fingerprint

    folders = Folders()
    folders.make(out)
    with Manifest(out, fingerprint(enhancer.options, writing.encoding), batch.shard) as manifest:
        if batch.resume:
            places = [place for job in jobs for place in (job.target, job.comparison) if place is not None]
            for folder in {out, *(place.parent for place in places)}:
                remove_leftovers(folder)
        yield from Batch(enhancer, writing, share, manifest, batch.resume).outcomes(jobs)
