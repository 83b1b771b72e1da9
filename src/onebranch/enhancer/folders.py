"""Enhancement of files, folders and patterns: selection of pictures, names of results, and outcomes."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from onebranch.atomic_files import remove_leftovers
from onebranch.enhancer.batch import (
    Batch,
    Done,
    Failed,
    JobProgress,
    Outcome,
    Previewed,
    Skipped,
    number_of_jobs,
    preview_outcomes,
)
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.inputs import (
    LOCAL_FILES,
    InputAccess,
    InputPicture,
    InputPictures,
    sources_of,
)
from onebranch.enhancer.jobs import (
    Job,
    Shard,
    check_comparisons,
    check_folder,
    check_unique_targets,
    is_one_file,
    jobs_for,
    means_a_folder,
)
from onebranch.enhancer.names import MEASURED, Naming, Values
from onebranch.enhancer.options import Options
from onebranch.enhancer.other_files import PICTURES_ONLY, OtherFiles
from onebranch.enhancer.single_file import (
    EnhanceFile,
    FileOptions,
    PreviewFile,
    enhance_file,
    preview_file,
)
from onebranch.errors import OnebranchError
from onebranch.images.formats import FORMAT_BY_SUFFIX, format_of_name
from onebranch.images.reading import open_picture
from onebranch.model.file import Model
from onebranch.model.third_party import is_third_party_file

PathLike = str | os.PathLike[str]

DEFAULT_FILE_OPTIONS = FileOptions()


@dataclass(frozen=True)
class BatchOptions:
    """How several pictures are enhanced.

    recursive: recurse into subfolders, which are mirrored below the output folder. naming: the names of
    results. jobs: number of concurrent pictures; None selects it by the number of cores. resume: skip
    pictures that are recorded as completed in the manifest in the output folder. shard: enhance only this
    part of the pictures; all shards together enhance each picture once. comparisons: a folder (for one
    picture also a file) for comparison sheets of input and result. other: kinds of files besides pictures,
    which the function `enhance` must support.

    >>> BatchOptions(recursive=True, resume=True).jobs is None
    True
    """

    recursive: bool = False
    naming: Naming = field(default_factory=Naming)
    jobs: int | None = None
    resume: bool = False
    shard: Shard | None = None
    comparisons: PathLike | None = None
    other: OtherFiles = PICTURES_ONLY


@dataclass(frozen=True)
class Summary:
    """The outcome of every picture, in order.

    left_out: messages about inputs that were left out. is_preview: True for a dry run.
    """

    results: tuple[Outcome, ...]
    left_out: tuple[str, ...] = ()
    is_preview: bool = False

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
        """The pictures that were skipped because a valid result existed."""
        return [result for result in self.results if isinstance(result, Skipped)]

    @property
    def failed(self) -> list[Failed]:
        """The pictures that could not be enhanced."""
        return [result for result in self.results if isinstance(result, Failed)]


@dataclass(frozen=True)
class BatchObserver:
    """Functions that are called while a batch runs.

    started: called with the number of pictures and messages about inputs that are left out. progress: called
    with the completed share of a picture, from any thread. finished: called with every outcome, in order.
    """

    started: Callable[[int, Sequence[str]], None] = lambda pictures, left_out: None
    progress: JobProgress = lambda job, share: None
    finished: Callable[[Outcome], None] = lambda outcome: None


def enhance_files(
    paths: Iterable[PathLike],
    out: PathLike,
    options: Options,
    file_options: FileOptions = DEFAULT_FILE_OPTIONS,
    *,
    batch: BatchOptions = BatchOptions(),
    observer: BatchObserver = BatchObserver(),
    enhance: EnhanceFile = enhance_file,
) -> Summary:
    """Enhance picture files, the pictures in folders, and those that match patterns.

    A picture that fails does not stop the others. Every result is written completely or not at all, even
    after an interrupt (KeyboardInterrupt).

    out: the output folder, which is created; or, for one picture, a file name with a suffix. enhance: the
    function that enhances one file. Raises OnebranchError before any work if two pictures would have the same
    result, or if options, models or folders cannot be used.

    >>> import tempfile
    >>> import numpy as np
    >>> import onebranch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pixels = np.zeros((8, 12, 3), np.uint8)
    ...     onebranch.write_picture(onebranch.Picture(pixels), Path(folder, "a.png"))
    ...     summary = enhance_files([folder], Path(folder, "x2"), Options(scale=2))
    ...     [(done.preview.before, done.preview.after) for done in summary.done]
    [((8, 12), (16, 24))]
    """
    work = prepare(paths, out, options, file_options, batch)
    with closing(_outcomes(work, Path(out), file_options, batch, observer.progress, enhance)) as outcomes:
        return summary_of(work, outcomes, observer)


def preview_files(
    paths: Iterable[PathLike],
    out: PathLike,
    options: Options,
    file_options: FileOptions = DEFAULT_FILE_OPTIONS,
    *,
    batch: BatchOptions = BatchOptions(),
    observer: BatchObserver = BatchObserver(),
    preview: PreviewFile = preview_file,
) -> Summary:
    """A dry run of `enhance_files`, with the same arguments and errors. Nothing is written."""
    work = prepare(paths, out, options, file_options, batch)
    records = None
    if batch.resume:
        from onebranch.enhancer.manifest import Records, fingerprint

        settings = batch.other.settings
        folder = Path(out).parent if work.into_file else Path(out)
        records = Records(folder, fingerprint(options, file_options.encoding, settings))
    outcomes = preview_outcomes(work.jobs, work.enhancer, file_options, records, preview)
    return replace(summary_of(work, outcomes, observer), is_preview=True)


def summary_of(work: "Work", outcomes: Iterable[Outcome], observer: BatchObserver) -> Summary:
    """The summary of the outcomes, each of which is also reported to the observer."""
    observer.started(len(work.jobs), work.left_out)
    results = []
    for outcome in outcomes:
        observer.finished(outcome)
        results.append(outcome)
    return Summary(tuple(results), work.left_out)


class Work(NamedTuple):
    """The work of a batch: the jobs, messages about inputs that were left out, and the enhancer.

    recorded: True if results are recorded in a manifest. into_file: True if `out` is the file of the only
    result, not a folder for results.
    """

    jobs: list[Job]
    left_out: tuple[str, ...]
    enhancer: Enhancer
    recorded: bool
    into_file: bool


def prepare(
    paths: Iterable[PathLike],
    out: PathLike,
    options: Options,
    file_options: FileOptions,
    batch: BatchOptions,
    access: InputAccess = LOCAL_FILES,
) -> Work:
    """The work of a batch, after everything has been checked that can be checked beforehand."""
    inputs = [os.fspath(path) for path in paths]
    folders = [Path(path) for path in (out, batch.comparisons) if path is not None]
    for path in (*inputs, *map(os.fspath, folders)):
        if "\0" in path:
            raise OnebranchError(f"'{path}' is not a valid name: names cannot contain NUL")
    search = access.search or sources_of
    sources = search(inputs, batch.recursive, folders, batch.other.suffixes)
    enhancer = Enhancer(options, number_of_jobs(_requested_jobs(options, batch), len(sources.pictures)))
    jobs = _jobs(inputs, sources, out, enhancer, file_options, batch, access)
    _check_lossless(jobs, file_options)
    jobs = _with_comparisons(jobs, Path(out), batch)
    check_comparisons(jobs, sources.pictures)
    into_file = len(jobs) == 1 and jobs[0].target == Path(out)
    recorded = batch.resume or batch.shard is not None
    return Work(jobs, sources.left_out, enhancer, recorded, into_file)


def _requested_jobs(options: Options, batch: BatchOptions) -> int | None:
    """The requested number of jobs; by default 1 for a third-party network, which may need all the memory."""
    model = options.model
    third_party = model is not None and not isinstance(model, Model) and is_third_party_file(model)
    return 1 if batch.jobs is None and third_party else batch.jobs


def _jobs(
    inputs: Sequence[str],
    sources: InputPictures,
    out: PathLike,
    enhancer: Enhancer,
    file_options: FileOptions,
    batch: BatchOptions,
    access: InputAccess,
) -> list[Job]:
    """The jobs, for one picture with a named result or for pictures whose results go into a folder."""
    one = len(sources.pictures) == 1 and is_one_file(inputs, out, access.is_folder)
    if one and batch.other.include(sources.pictures[0].path) and batch.naming == Naming() and not batch.shard:
        batch.other.check_target(Path(out))
        return [Job(sources.pictures[0].path, Path(out))]
    if one and batch.naming == Naming() and not (batch.resume or batch.shard):
        format_of_name(Path(out))  # an unknown suffix is an error of the command, not of a picture
        return [Job(sources.pictures[0].path, Path(out))]
    return _jobs_into_folder(sources.pictures, out, enhancer, file_options, batch, access)


def _jobs_into_folder(
    sources: Sequence[InputPicture],
    out: PathLike,
    enhancer: Enhancer,
    file_options: FileOptions,
    batch: BatchOptions,
    access: InputAccess,
) -> list[Job]:
    check_folder(out)

    def measure(path: Path) -> Values:
        with access.local_file(path) as file:
            if batch.other.include(path):
                return batch.other.measure(file, enhancer.options)
            return _measured_fields(file, enhancer, file_options)

    is_measured = bool(MEASURED & batch.naming.fields)
    jobs = jobs_for(
        sources,
        Path(out),
        batch.naming,
        measure if is_measured else None,
        batch.other,
        access.local_file,
    )
    shard = batch.shard
    if shard is None:
        return jobs
    return [job for job in jobs if shard.contains(job.target.relative_to(Path(out)).as_posix())]


def _measured_fields(path: Path, enhancer: Enhancer, file_options: FileOptions) -> Values:
    """The values of the template fields that depend on the picture's size."""
    with open_picture(path, max_pixels=file_options.max_pixels) as reader:
        layout = reader.header.layout
    height, width = enhancer.size_of_result((layout.height, layout.width))
    models = [stage.model.name for stage in enhancer.stages_for((layout.height, layout.width))]
    scale = f"{width / layout.width:.4g}"
    return {"width": width, "height": height, "scale": scale, "model": "+".join(models)}


def _check_lossless(jobs: Sequence[Job], file_options: FileOptions) -> None:
    """Raise OnebranchError if lossless results are requested but some would be JPEG."""
    if not file_options.encoding.lossless:
        return
    jpeg = [job for job in jobs if _format_name(job.target) == "JPEG"]
    if jpeg:
        raise OnebranchError(
            f"cannot write '{jpeg[0].target}' losslessly: JPEG is always lossy;"
            " choose another format, such as --format png"
        )


def _format_name(path: Path) -> str:
    file_format = FORMAT_BY_SUFFIX.get(path.suffix.lower())
    return file_format.name if file_format else ""


def _with_comparisons(jobs: list[Job], out: Path, batch: BatchOptions) -> list[Job]:
    """The jobs, with the file of each comparison sheet if these are requested."""
    if batch.comparisons is None:
        return jobs
    for job in jobs:
        if batch.other.include(job.source):
            raise OnebranchError(
                f"'{job.source}' is a clip, and comparisons are pictures (--compare); --preview writes a clip"
                " with the original beside the result"
            )
    folder = Path(batch.comparisons)
    if len(jobs) == 1 and folder.suffix and not means_a_folder(batch.comparisons):
        files = [folder]
    else:
        check_folder(batch.comparisons)
        files = [_comparison_file(job, out, folder) for job in jobs]
    for file in files:
        if _format_name(file) == "":
            raise OnebranchError(
                f"'{file}' has no suffix of a picture format; a comparison needs one, such as .png"
            )
    check_unique_targets(zip([job.source for job in jobs], files, strict=True))
    return [replace(job, comparison=file) for job, file in zip(jobs, files, strict=True)]


def _comparison_file(job: Job, out: Path, folder: Path) -> Path:
    inside = job.target != out and job.target.is_relative_to(out)
    below = job.target.parent.relative_to(out) if inside else Path()
    return folder / below / f"{job.target.stem}_compared.png"


def _outcomes(
    work: Work,
    out: Path,
    file_options: FileOptions,
    batch: BatchOptions,
    progress: JobProgress,
    enhance: EnhanceFile,
) -> Generator[Outcome]:
    if not work.recorded:
        yield from Batch(work.enhancer, file_options, enhance=enhance, progress=progress).outcomes(work.jobs)
        return
    from onebranch.enhancer.batch import CreatedFolders
    from onebranch.enhancer.manifest import Manifest, fingerprint

    folder, only = (out.parent, out.name) if work.into_file else (out, "")
    CreatedFolders().create(folder)
    options = fingerprint(work.enhancer.options, file_options.encoding, batch.other.settings)
    with Manifest(folder, options, batch.shard, only) as manifest:
        if batch.resume:
            remove_leftovers_of(work.jobs, folder)
        yield from Batch(
            work.enhancer,
            file_options,
            enhance=enhance,
            progress=progress,
            manifest=manifest,
            resume=batch.resume,
        ).outcomes(work.jobs)


def remove_leftovers_of(jobs: Sequence[Job], out: Path) -> None:
    """Remove temporary files of ended processes from the output folder and the folders of all results."""
    files = [file for job in jobs for file in (job.target, job.comparison) if file is not None]
    for folder in {out, *(file.parent for file in files)}:
        remove_leftovers(folder)
