"""What one task of a cluster does: it enhances a few pictures with the functions that one machine uses.

A task holds paths and URLs, never pictures. Its reports hold outcomes and the records for the manifest.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onebranch.cluster.shipped_models import ShippedOptions
from onebranch.cluster.staging import StagedFiles, staged
from onebranch.cluster.urls import is_unchanged_url, is_url, with_urls
from onebranch.enhancer.batch import (
    Batch,
    Done,
    Failed,
    Outcome,
    Skipped,
    failed,
    preview_outcomes,
    system_error,
)
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.jobs import Job
from onebranch.enhancer.manifest import FileState, ManifestRecord, is_recorded
from onebranch.enhancer.manifest import is_unchanged as is_unchanged_file
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.single_file import (
    PROCESS_BYTES,
    Enhanced,
    EnhanceFile,
    FileOptions,
    PreviewFile,
    Progress,
)
from onebranch.errors import OnebranchError
from onebranch.video.clip_division import ClipDivision
from onebranch.video.containers import is_clip
from onebranch.video.mixed_files import MixedFiles
from onebranch.video.segments import SegmentRange

VERSION = str(getattr(sys.modules["onebranch"], "__version__", ""))
"""The version of this package. An import would lead to the top of the layers."""


@dataclass(frozen=True)
class PictureRow:
    """A picture of a batch, at a position in its order.

    source, target, comparison: absolute paths or URLs. picture_name, name: of picture and result in the
    manifest. records: earlier records of the result. attempts: workers that were lost while they enhanced it.
    is_divided: a clip whose segments are tasks. segment: the one that the task writes; None: the task joins
    them.
    """

    index: int
    source: str
    target: str
    comparison: str | None
    picture_name: str
    name: str
    records: tuple[ManifestRecord, ...] = ()
    attempts: int = 0
    is_divided: bool = False
    segment: SegmentRange | None = None

    @property
    def job(self) -> Job:
        """The job, in which URLs have become paths."""
        comparison = None if self.comparison is None else Path(self.comparison)
        return Job(Path(self.source), Path(self.target), comparison)


@dataclass(frozen=True)
class ClusterTask:
    """Pictures that one worker enhances one after the other, with the cores and the bytes that it may use.

    unlimited: the task may use more, because no node has as much memory as its picture needs.
    """

    rows: tuple[PictureRow, ...]
    cores: int
    memory: int
    unlimited: bool = False


@dataclass(frozen=True)
class PictureReport:
    """The outcome of a picture.

    record: for the manifest. There is no outcome yet if `memory` is not 0: the bytes that the picture needs,
    of which the task has too few; or if there is a `division`: the segments of a clip, which are the next
    tasks. written: for a row with a segment, which has no outcome: True if the segment is complete.
    """

    index: int
    outcome: Outcome | None
    record: ManifestRecord | None = None
    memory: int = 0
    division: ClipDivision | None = None
    written: bool = False


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs for all pictures; it receives this once.

    key: unique for every run. marker: a file in the output folder, which all nodes must share; "": none.
    fingerprint: of the options. resume, recorded: as in a batch. dry_run: preview only. clips: divides clips
    among tasks; None: a clip is one task.
    """

    key: str
    options: ShippedOptions
    file_options: FileOptions
    enhance: EnhanceFile
    preview: PreviewFile
    fingerprint: str
    resume: bool = False
    recorded: bool = False
    dry_run: bool = False
    marker: str = ""
    clips: MixedFiles | None = None
    version: str = VERSION


class MemoryGrant(MemoryBudget):
    """The memory of a task; None: no limit. `needed`: the bytes of a picture that it has refused; else 0."""

    def __init__(self, granted: int | None) -> None:
        super().__init__()
        self._granted, self.needed = granted, 0

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """A context for a picture; raises OnebranchError if it needs more bytes than the task has."""
        if self._granted is not None and size + PROCESS_BYTES > self._granted:
            self.needed = size + PROCESS_BYTES
            raise OnebranchError("the picture needs more memory than its task has")
        yield


@dataclass(frozen=True)
class _GrantedEnhance:
    """The function `enhance`, within the memory that a task has."""

    enhance: EnhanceFile
    grant: MemoryGrant

    def __call__(
        self,
        source: Path,
        target: Path,
        enhancer: Enhancer,
        file_options: FileOptions,
        *,
        progress: Progress,
        budget: MemoryBudget,
    ) -> Enhanced:
        return self.enhance(source, target, enhancer, file_options, progress=progress, budget=self.grant)


@dataclass
class _RowRecords:
    """The records of one row, as a `Batch` uses a manifest. before: the state of the picture, once known."""

    before: FileState | None = None

    def has(self, job: Job, overwrite: bool) -> bool:
        """False: the worker has compared the records before."""
        return False

    def add(self, job: Job, picture: FileState) -> None:
        """Keep the state of the picture before it was enhanced."""
        self.before = picture


@dataclass
class PictureWorker:
    """Enhances the pictures of tasks. The models are opened once for every number of cores.

    Raises OnebranchError at construction if this node has another version or does not share the folder.
    """

    setup: WorkerSetup
    progress: Callable[[int, float], None] = lambda index, share: None
    _enhancers: dict[int, Enhancer] = field(default_factory=dict)
    _folder: TemporaryDirectory[str] | None = None

    def __post_init__(self) -> None:
        """Check version and folder, and write the model file."""
        if self.setup.version != VERSION:
            raise OnebranchError(
                f"the node '{node_name()}' has onebranch {VERSION}, this machine {self.setup.version};"
                " install one version on all nodes"
            )
        if self.setup.marker and not Path(self.setup.marker).exists():
            folder = str(Path(self.setup.marker).parent)
            raise OnebranchError(
                f"the node '{node_name()}' does not share the folder '{folder}'; use a folder that all nodes"
                " share, or a URL such as s3://bucket/folder"
            )
        if self.setup.options.file_name:
            self._folder = TemporaryDirectory(prefix="onebranch-")  # removed when the worker ends
        self._options = self.setup.options.opened(Path(self._folder.name if self._folder else ""))

    def reports(self, task: ClusterTask) -> list[PictureReport]:
        """The reports on the pictures of a task, in order."""
        return [self._report(row, task) for row in task.rows]

    def _report(self, row: PictureRow, task: ClusterTask) -> PictureReport:
        """The report on one picture. An error is the failure of this picture only and is not raised."""
        urls = tuple(text for text in (row.source, row.target, row.comparison or "") if is_url(text))
        try:
            report = self._completed(row, task)
        except OnebranchError as error:
            report = PictureReport(row.index, failed(row.job, error))
        except OSError as error:
            report = PictureReport(row.index, Failed(row.job, system_error(row.job, error)))
        if isinstance(report.outcome, Failed):
            reason = with_urls(report.outcome.reason, urls)
            return replace(report, outcome=replace(report.outcome, reason=reason))
        return report

    def _completed(self, row: PictureRow, task: ClusterTask) -> PictureReport:
        setup, overwrite = self.setup, self.setup.file_options.overwrite
        if row.segment is not None:
            return self._segment(row, row.segment, task)
        if setup.resume and is_recorded(
            row.records, row.job, setup.fingerprint, overwrite, _unchanged_in(row)
        ):
            return PictureReport(row.index, Skipped(row.job))
        if (division := self._division(row, task)) is not None:
            return PictureReport(row.index, None, division=division)
        enhancer = self._enhancer(task.cores)
        with staged(row.job, row.source, row.target, row.comparison, overwrite, self._compares(row)) as files:
            if setup.dry_run:
                outcomes = preview_outcomes([files.job], enhancer, setup.file_options, preview=setup.preview)
                return PictureReport(row.index, files.with_urls(next(iter(outcomes)), row.job))
            return self._enhanced(row, task, enhancer, files)

    def _division(self, row: PictureRow, task: ClusterTask) -> ClipDivision | None:
        """The segments of a clip, for other tasks; None: this task enhances the whole file.

        The segments are beside the result, in a folder that all nodes share.
        """
        clips, setup, job = self._clips(row), self.setup, row.job
        if clips is None or not is_clip(job.source) or row.is_divided or setup.dry_run:
            return None
        if is_url(row.source) or is_url(row.target) or row.comparison is not None:
            return None
        if job.target.exists() and not setup.file_options.overwrite:
            return None
        with suppress(Exception):  # enhancing the whole clip reports the same error
            return clips.divide(job.source, job.target, self._enhancer(task.cores), setup.file_options)
        return None

    def _clips(self, row: PictureRow) -> MixedFiles | None:
        """What enhances clips. It continues with the segments of other tasks and of lost workers."""
        clips = self.setup.clips
        if clips is None or not (row.is_divided or row.attempts):
            return clips
        return clips.resuming()

    def _segment(self, row: PictureRow, segment: SegmentRange, task: ClusterTask) -> PictureReport:
        """Write a segment. The task that joins the segments repeats what fails, and reports the error."""
        clips, job = self._clips(row), row.job
        assert clips is not None
        grant, written = MemoryGrant(None if task.unlimited else task.memory), False
        with suppress(Exception):
            written = clips.enhance_segment(
                job.source,
                job.target,
                self._enhancer(task.cores),
                self.setup.file_options,
                segment,
                progress=lambda share: None,
                budget=grant,
            )
        return PictureReport(row.index, None, memory=grant.needed, written=written)

    def _compares(self, row: PictureRow) -> bool:
        """True if an existing result without a record is compared with a new one, not refused.

        A worker that is lost after it has written a result and before its report leaves such a result.
        """
        return self.setup.resume or row.attempts > 0

    def _enhanced(
        self, row: PictureRow, task: ClusterTask, enhancer: Enhancer, files: StagedFiles
    ) -> PictureReport:
        setup, records = self.setup, _RowRecords()
        grant = MemoryGrant(None if task.unlimited else task.memory)
        compares, clips = self._compares(row), self._clips(row)
        batch = Batch(
            enhancer,
            setup.file_options,
            enhance=_GrantedEnhance(setup.enhance if clips is None else clips.enhance, grant),
            progress=lambda job, share: self.progress(row.index, share),
            manifest=records if setup.recorded or compares else None,
            resume=compares,
        )
        outcome = next(iter(batch.outcomes([files.job])))
        if grant.needed:
            return PictureReport(row.index, None, memory=grant.needed)
        record = None
        if isinstance(outcome, Done):
            files.publish(setup.file_options.overwrite)
            if setup.recorded and records.before is not None:
                record = self._record(row, files, records.before)
        return PictureReport(row.index, files.with_urls(outcome, row.job), record)

    def _record(self, row: PictureRow, files: StagedFiles, before: FileState) -> ManifestRecord:
        picture, result = files.states(before)
        return {
            "picture": {"path": row.picture_name, **picture},
            "target": row.name,
            "result": result,
            "options": self.setup.fingerprint,
        }

    def _enhancer(self, cores: int) -> Enhancer:
        """The enhancer for tasks with that number of cores."""
        if cores not in self._enhancers:
            options = self._options
            if options.threads is None:
                options = replace(options, threads=cores)
            self._enhancers[cores] = Enhancer(options)
        return self._enhancers[cores]


def _unchanged_in(row: PictureRow) -> Callable[[Path, dict[str, Any]], bool]:
    """The function that compares the files of a row with their records."""
    texts = {Path(text): text for text in (row.source, row.target)}

    def is_unchanged(path: Path, recorded: dict[str, Any]) -> bool:
        text = texts[path]
        return is_unchanged_url(text, recorded) if is_url(text) else is_unchanged_file(path, recorded)

    return is_unchanged


def node_name() -> str:
    """The name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
