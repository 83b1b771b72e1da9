"""Concurrent enhancement of several pictures, so that reading, networks and writing overlap.

Outcomes are reported in the order of the pictures.
"""

import filecmp
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onebranch.atomic_files import check_writable, temporary_path
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.jobs import Job
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.single_file import (
    Enhanced,
    EnhanceFile,
    EnhancementPreview,
    FileOptions,
    PreviewFile,
    enhance_file,
    preview_file,
)
from onebranch.errors import OnebranchError
from onebranch.runtime.cores import cores
from onebranch.runtime.memory import memory_limit

if TYPE_CHECKING:
    from onebranch.enhancer.manifest import FileState, Records

DEFAULT_MAX_JOBS = 8
"""Default limit of the pictures that are enhanced at the same time: each needs memory and disk bandwidth."""

MAX_JOBS = 256
"""Largest number of concurrent pictures that can be requested."""

MAX_RESULTS_AHEAD = 16
"""Number of finished pictures per worker that may wait for an earlier picture."""


@dataclass(frozen=True)
class Done:
    """A picture that was enhanced. seconds: time that it took."""

    job: Job
    preview: EnhancementPreview
    seconds: float


@dataclass(frozen=True)
class Previewed:
    """A picture that would be enhanced. seconds: estimated time of its networks; None if unknown."""

    job: Job
    preview: EnhancementPreview
    seconds: float | None


@dataclass(frozen=True)
class Skipped:
    """A picture whose valid result existed already."""

    job: Job


@dataclass(frozen=True)
class Failed:
    """A picture that was not enhanced, with the reason in one line.

    target_exists: in a dry run, True if a run would refuse the picture because its result exists.
    """

    job: Job
    reason: str
    target_exists: bool = False


Outcome = Done | Previewed | Skipped | Failed

JobProgress = Callable[[Job, float], None]
"""Called with the completed share of a job's picture, 0 to 1, from any thread."""


def number_of_jobs(requested: int | None, pictures: int) -> int:
    """The number of pictures that are enhanced at the same time. Each gets its share of the cores.

    Reading and writing a picture occupies only one core each, so several concurrent pictures keep all cores
    busy. Raises OnebranchError unless 1 to 256 are requested.
    """
    if requested is not None and not 1 <= requested <= MAX_JOBS:
        raise OnebranchError(f"jobs must be 1 to {MAX_JOBS} pictures at a time, not {requested}")
    limit = min(cores(), DEFAULT_MAX_JOBS) if requested is None else requested
    return max(1, min(pictures, limit))


class CreatedFolders:
    """Creates folders for results, and at the end removes those that stayed empty. Thread-safe."""

    def __init__(self) -> None:
        self._created: list[Path] = []
        self._lock = threading.Lock()

    def create(self, folder: Path) -> None:
        """Create a folder with its parents. Raises OnebranchError if that is impossible."""
        missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OnebranchError(f"cannot create the folder '{folder}': {error.strerror}") from None
        with self._lock:
            self._created += reversed(missing)

    def remove_empty(self) -> None:
        """Remove the created folders that are empty."""
        for folder in sorted(set(self._created), key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()


class JobRecords(Protocol):
    """What a batch needs of a `Manifest`."""

    def has(self, job: Job, overwrite: bool) -> bool: ...

    def add(self, job: Job, picture: "FileState") -> None: ...


class Batch:
    """Enhances the pictures of jobs. An interrupt aborts the pictures in progress and leaves no partial file.

    enhance: the function that enhances one file. progress: called for every picture. manifest: records the
    results. resume: skip pictures that the manifest records as completed.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        file_options: FileOptions,
        *,
        enhance: EnhanceFile = enhance_file,
        progress: JobProgress = lambda job, share: None,
        manifest: "JobRecords | None" = None,
        resume: bool = False,
    ) -> None:
        self._enhancer, self._file_options, self._enhance = enhancer, file_options, enhance
        self._progress, self._manifest, self._resume = progress, manifest, resume
        self._folders = CreatedFolders()
        self._budget = MemoryBudget(memory_limit(enhancer.options.memory))
        self._stopped = threading.Event()

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of every picture, in order."""
        try:
            if self._enhancer.concurrency == 1:
                yield from map(self._outcome, jobs)
            else:
                yield from self._concurrently(jobs)
        finally:
            self._folders.remove_empty()

    def _concurrently(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        from concurrent.futures import ThreadPoolExecutor  # imported late: one picture needs no pool

        workers = self._enhancer.concurrency
        pool = ThreadPoolExecutor(workers, "picture")
        waiting: deque[Future[Outcome]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(self._outcome, job))
                if len(waiting) > MAX_RESULTS_AHEAD * workers or waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _outcome(self, job: Job) -> Outcome:
        """The outcome of one picture. An error is the failure of this picture only and is not raised."""
        if job.problem:
            return Failed(job, job.problem)
        try:
            return self._completed(job)
        except OnebranchError as error:
            return failed(job, error)
        except OSError as error:
            return Failed(job, system_error(job, error))
        except Exception as error:
            text = f"'{job.source}': a fault in onebranch, {type(error).__name__}: {error}; please report it"
            return Failed(job, str(OnebranchError(text)))

    def _completed(self, job: Job) -> Done | Skipped:
        begin = time.perf_counter()
        if self._manifest is None:
            enhanced = self._create(job)
        elif self._resume and self._manifest.has(job, self._file_options.overwrite):
            return Skipped(job)
        else:
            from onebranch.enhancer.manifest import state_of

            before = state_of(job.source)
            exists = job.target.exists() and not self._file_options.overwrite
            enhanced = self._confirm_existing(job) if self._resume and exists else self._create(job)
            self._manifest.add(job, before)
        return Done(job, enhanced.preview, time.perf_counter() - begin)

    def _create(self, job: Job) -> Enhanced:
        """Write the result and, if requested, the comparison."""
        if job.comparison is not None:
            check_writable(job.comparison, self._file_options.overwrite, folder_will_exist=True)
        self._folders.create(job.target.parent)
        enhanced = self._enhance_into(job, job.target)
        if job.comparison is not None:
            self._compare(job, enhanced)
        return enhanced

    def _compare(self, job: Job, enhanced: Enhanced) -> None:
        from onebranch.comparison.before_after import compare_files
        from onebranch.images.writing import write

        assert job.comparison is not None
        self._folders.create(job.comparison.parent)
        heading = " then ".join(enhanced.preview.models)
        sheet = compare_files(job.source, job.target, heading, "input", self._file_options.max_pixels)
        write(sheet, job.comparison, overwrite=self._file_options.overwrite)

    def _confirm_existing(self, job: Job) -> Enhanced:
        """Check a result that exists without a record. It is kept if enhancing gives the same bytes again.

        A run that is killed after it has written a result and before it has recorded it leaves such a file.
        """
        from onebranch.enhancer.manifest import other_result

        with temporary_path(job.target.parent, job.target.suffix) as temporary:
            enhanced = self._enhance_into(job, temporary)
            same = filecmp.cmp(temporary, job.target, shallow=False)
        if not same:
            reason = (
                f"it differs from the result of enhancing '{job.source}' now: another program wrote it,"
                " or it is damaged"
            )
            raise OnebranchError(other_result(job, reason))
        if job.comparison is not None and not job.comparison.exists():
            self._compare(job, enhanced)
        return enhanced

    def _enhance_into(self, job: Job, target: Path) -> Enhanced:
        def progress(share: float) -> None:
            if self._stopped.is_set():
                raise KeyboardInterrupt
            self._progress(job, share)

        return self._enhance(
            job.source, target, self._enhancer, self._file_options, progress=progress, budget=self._budget
        )


def preview_outcomes(
    jobs: Sequence[Job],
    enhancer: Enhancer,
    file_options: FileOptions,
    records: "Records | None" = None,
    preview: PreviewFile = preview_file,
) -> Iterator[Outcome]:
    """The expected outcome of every picture; nothing is written. records: records of existing results."""
    from onebranch.enhancer.duration import DurationEstimator

    estimator = DurationEstimator(enhancer)
    for job in jobs:
        try:
            if job.problem:
                raise OnebranchError(job.problem)
            if records is not None and records.has(job, file_options.overwrite):
                yield Skipped(job)
                continue
            if job.comparison is not None:
                check_writable(job.comparison, file_options.overwrite, folder_will_exist=True)
            previewed = preview(job.source, job.target, enhancer, file_options)
            yield Previewed(job, previewed, None if previewed.is_clip else estimator.seconds(previewed))
        except OnebranchError as error:
            exists = not file_options.overwrite and job.target.exists()
            yield replace(failed(job, error), target_exists=exists)
        except OSError as error:
            yield Failed(job, system_error(job, error))


def system_error(job: Job, error: OSError) -> str:
    """The message about an error of the operating system."""
    return f"'{job.source}' to '{job.target}': {error.strerror or error}"


def failed(job: Job, error: OnebranchError) -> Failed:
    """The failed outcome of a job, with a reason that names the picture."""
    reason = str(error)
    paths = [path for path in (job.source, job.target, job.comparison) if path is not None]
    named = any(str(OnebranchError(str(path))) in reason for path in paths)
    return Failed(job, reason if named else str(OnebranchError(f"'{job.source}': {reason}")))
