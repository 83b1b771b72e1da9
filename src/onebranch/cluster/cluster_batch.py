"""`enhancer.folders.enhance_files` for a cluster, and for URLs: selection, tasks, manifest, outcomes."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onebranch.atomic_files import temporary_path
from onebranch.cluster.listing import UrlInputs, absolute
from onebranch.cluster.manifests import (
    BatchManifest,
    EarlierRecords,
    FolderManifest,
    FolderRecords,
    UrlManifest,
)
from onebranch.cluster.schedule import BatchSchedule, Executor
from onebranch.cluster.shipped_models import shipped
from onebranch.cluster.tasks import PictureReport, PictureRow, WorkerSetup
from onebranch.cluster.urls import check_writable_url, is_url, local_path, with_urls
from onebranch.enhancer.batch import CreatedFolders, Failed, Outcome, number_of_jobs
from onebranch.enhancer.folders import (
    DEFAULT_FILE_OPTIONS,
    BatchObserver,
    BatchOptions,
    PathLike,
    Summary,
    Work,
    prepare,
    remove_leftovers_of,
    summary_of,
)
from onebranch.enhancer.jobs import Job
from onebranch.enhancer.manifest import fingerprint, relative_path
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import (
    EnhanceFile,
    FileOptions,
    PreviewFile,
    enhance_file,
    preview_file,
)
from onebranch.errors import OnebranchError
from onebranch.runtime.cores import cores
from onebranch.video.mixed_files import MixedFiles

ReportShare = Callable[[int, float], None]
"""Called with the index of a picture and its completed share."""

OpenExecutor = Callable[[WorkerSetup, int, ReportShare], Executor]
"""Returns an executor for a setup and that number of pictures at a time."""


@dataclass(frozen=True)
class ClusterBatch:
    """A batch of which tasks run elsewhere; arguments as `enhance_files`.

    address: of a Ray cluster; "local" starts Ray on this machine; None: threads of this process.
    clips: divides clips among tasks; None: a clip is one task. open_executor: replaces what runs the tasks.
    """

    paths: Sequence[str]
    out: str
    options: Options
    file_options: FileOptions
    batch: BatchOptions
    enhance: EnhanceFile
    preview: PreviewFile
    address: str | None = None
    dry_run: bool = False
    clips: MixedFiles | None = None
    open_executor: OpenExecutor | None = None

    def run(self, observer: BatchObserver) -> Summary:
        """Enhance the pictures. Raises OnebranchError before any work as `enhance_files` does."""
        inputs = UrlInputs()
        with urls_in_messages(self.urls):
            work = prepare(self.paths, self.out, self.options, self.file_options, self.batch, inputs.access())
            with ExitStack() as stack, closing(self._outcomes(work, inputs, observer, stack)) as outcomes:
                summary = summary_of(work, outcomes, observer)
        return replace(summary, is_preview=self.dry_run)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs that the user named."""
        return tuple(text for text in (*self.paths, self.out, self._comparisons or "") if is_url(text))

    @property
    def _comparisons(self) -> str | None:
        return None if self.batch.comparisons is None else os.fspath(self.batch.comparisons)

    def _outcomes(
        self, work: Work, inputs: UrlInputs, observer: BatchObserver, stack: ExitStack
    ) -> Generator[Outcome]:
        """The outcome of every picture, in order."""
        jobs = work.jobs
        folder, only = self._folder(work)
        marker = "" if self.dry_run else self._prepare_folders(jobs, folder, stack)
        options = fingerprint(self.options, self.file_options.encoding, self.batch.other.settings)
        manifest = self._manifest(folder, only, options) if work.recorded and not self.dry_run else None
        if manifest is not None:
            stack.callback(manifest.close)
        records = manifest or (self._earlier_records(folder, options) if self.batch.resume else None)
        rows = {
            index: self._row(index, job, inputs, folder, records)
            for index, job in enumerate(jobs)
            if not job.problem
        }
        setup = self._setup(options, marker, manifest is not None)
        yield from in_order(jobs, self._reports(setup, rows, jobs, manifest, observer, stack))

    def _reports(
        self,
        setup: WorkerSetup,
        rows: dict[int, PictureRow],
        jobs: Sequence[Job],
        manifest: BatchManifest | None,
        observer: BatchObserver,
        stack: ExitStack,
    ) -> Iterator[tuple[int, Outcome]]:
        """The index and the outcome of every picture that has a row, as they are completed and recorded."""
        if not rows:
            return

        def report_share(index: int, share: float) -> None:
            observer.progress(jobs[index], share)

        executor = self._executor(setup, len(rows), report_share)
        stack.callback(executor.close)
        max_tasks = None if self.address is None else self.batch.jobs
        schedule = BatchSchedule(list(rows.values()), executor, self.options.threads, max_tasks)
        for reports in schedule.reports():
            records = [report.record for report in reports if report.record is not None]
            if manifest is not None and records:
                manifest.append(records)
            for report in reports:
                report_share(report.index, 1.0)
                yield report.index, outcome_of(report, rows[report.index], jobs[report.index])

    def _setup(self, options: str, marker: str, recorded: bool) -> WorkerSetup:
        return WorkerSetup(
            key=os.urandom(8).hex(),
            options=shipped(self.options),
            file_options=self.file_options,
            enhance=self.enhance,
            preview=self.preview,
            fingerprint=options,
            resume=self.batch.resume,
            recorded=recorded,
            dry_run=self.dry_run,
            marker=marker,
            clips=None if self.address is None or self.clips is None else self.clips.for_tasks(cores()),
        )

    def _executor(self, setup: WorkerSetup, pictures: int, progress: ReportShare) -> Executor:
        if self.open_executor is not None:
            return self.open_executor(setup, pictures, progress)
        if self.address is not None:
            from onebranch.cluster.ray_executor import RayExecutor  # imported late: it needs Ray

            return RayExecutor(self.address, setup)
        from onebranch.cluster.threads import ThreadExecutor

        return ThreadExecutor(setup, number_of_jobs(self.batch.jobs, pictures), progress)

    def _folder(self, work: Work) -> tuple[str, str]:
        """The folder of the manifest, as an absolute path or URL, and the name of the only result or ""."""
        target = work.jobs[0].target if work.into_file else Path(self.out)
        if is_url(self.out):
            check_writable_url(self.out)
            url = self.out.rstrip("/")
            return (url.rpartition("/")[0], target.name) if work.into_file else (url, "")
        path = target.absolute()
        return (str(path.parent), path.name) if work.into_file else (str(path), "")

    def _prepare_folders(self, jobs: Sequence[Job], folder: str, stack: ExitStack) -> str:
        """Create the folders of all results; return a file that shows that nodes share the output folder."""
        created = CreatedFolders()
        stack.callback(created.remove_empty)
        targets = [file for job in jobs for file in (job.target, job.comparison) if file is not None]
        parents = {Path(absolute(file)).parent for file in targets if not is_url(absolute(file))}
        for parent in sorted(parents | (set() if is_url(folder) else {Path(folder)})):
            created.create(parent)
        if is_url(folder):
            return ""
        if self.batch.resume:
            remove_leftovers_of(jobs, Path(folder))
        if self.address is None:
            return ""
        marker = stack.enter_context(temporary_path(Path(folder)))
        marker.touch()
        return str(marker)

    def _manifest(self, folder: str, only: str, options: str) -> BatchManifest:
        if is_url(folder):
            return UrlManifest(folder)
        return FolderManifest(Path(folder), options, self.batch.shard, only)

    def _earlier_records(self, folder: str, options: str) -> EarlierRecords:
        """The records for a dry run, which writes none."""
        if is_url(folder):
            return UrlManifest(folder)
        return FolderRecords(Path(folder), options)

    def _row(
        self, index: int, job: Job, inputs: UrlInputs, folder: str, records: EarlierRecords | None
    ) -> PictureRow:
        """The row of a job, with the earlier records of its result."""
        source, target = inputs.urls.get(job.source) or absolute(job.source), absolute(job.target)
        name = target.removeprefix(f"{folder}/")
        both_local = not is_url(source) and not is_url(folder)
        return PictureRow(
            index,
            source,
            target,
            None if job.comparison is None else absolute(job.comparison),
            relative_path(Path(source), Path(folder)) if both_local else source,
            name,
            () if records is None else tuple(records.records_of(name)),
        )


def in_order(jobs: Sequence[Job], outcomes: Iterable[tuple[int, Outcome]]) -> Iterator[Outcome]:
    """The outcomes of all jobs, in the order of the jobs.

    outcomes: the index and the outcome of every job without a problem, in any order.
    """
    finished: dict[int, Outcome] = {
        index: Failed(job, job.problem) for index, job in enumerate(jobs) if job.problem
    }
    following = 0
    for index, outcome in outcomes:
        finished[index] = outcome
        while following in finished:
            yield finished.pop(following)
            following += 1
    for index in range(following, len(jobs)):
        yield finished.pop(index)


def outcome_of(report: PictureReport, row: PictureRow, job: Job) -> Outcome:
    """The outcome in a worker's report, for `job`; its message has the names that the user wrote."""
    outcome = report.outcome
    assert outcome is not None, "the schedule repeats pictures without an outcome"
    if not isinstance(outcome, Failed):
        return replace(outcome, job=job)
    reason = outcome.reason
    paths = ((row.source, job.source), (row.target, job.target), (row.comparison, job.comparison))
    for text, path in paths:
        if text is not None and not is_url(text):
            reason = reason.replace(f"'{text}'", f"'{path}'")
    return replace(outcome, job=job, reason=reason)


@contextmanager
def urls_in_messages(urls: tuple[str, ...]) -> Iterator[None]:
    """A context whose errors name URLs instead of the paths that stand for them."""
    try:
        yield
    except OnebranchError as error:
        raise OnebranchError(with_urls(str(error), urls)) from None


def enhance_on_cluster(
    paths: Iterable[PathLike],
    out: PathLike,
    options: Options,
    file_options: FileOptions = DEFAULT_FILE_OPTIONS,
    *,
    address: str | None,
    batch: BatchOptions | None = None,
    observer: BatchObserver | None = None,
    enhance: EnhanceFile = enhance_file,
    preview: PreviewFile = preview_file,
    dry_run: bool = False,
    clips: MixedFiles | None = None,
    open_executor: OpenExecutor | None = None,
) -> Summary:
    """`enhance_files` on a Ray cluster, or for URLs on this machine, with the same results and failures.

    paths, out: files, folders, patterns or URLs that fsspec opens. address: of a Ray cluster, such as
    10.0.0.1:6379; "local": Ray on this machine; None: threads of this process. A picture in progress on a
    worker that is lost is enhanced again. clips: divides clips into tasks for their segments; None: a clip is
    one task. open_executor: replaces what runs the tasks.
    """
    return ClusterBatch(
        [local_path(os.fspath(path)) for path in paths],
        local_path(os.fspath(out)),
        options,
        file_options,
        batch or BatchOptions(),
        enhance,
        preview,
        address,
        dry_run,
        clips,
        open_executor,
    ).run(observer or BatchObserver())
