"""Many pictures enhanced, several at a time: reading, the networks and writing overlap. Results in order."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onebranch.atomic_files import check_writable, temporary_path
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.jobs import Job
from onebranch.enhancer.options import Size
from onebranch.enhancer.single_file import Enhanced, EnhancementPreview, Writing, enhance_file, preview_file
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture, Samples
from onebranch.images.reading import bytes_for_reading
from onebranch.images.rows import Header, Reader
from onebranch.images.writing import bytes_for_writing
from onebranch.runtime.cores import cores
from onebranch.runtime.memory import memory_limit

if TYPE_CHECKING:
    from onebranch.enhancer.manifest import Manifest, Records

MOST = 8
"""Pictures at a time, unless more are asked for: more take more memory, and the disk is shared."""

AHEAD = 16
"""Pictures that may be done, for each that is worked on, while an earlier one is not."""


@dataclass(frozen=True)
class Done:
    """A picture that was enhanced, and in how many seconds."""

    job: Job
    preview: EnhancementPreview
    seconds: float


@dataclass(frozen=True)
class Previewed:
    """A picture that would be enhanced. seconds: that the networks would take, about; None if unknown."""

    job: Job
    preview: EnhancementPreview
    seconds: float | None


@dataclass(frozen=True)
class Skipped:
    """A picture whose result was there already, and valid."""

    job: Job


@dataclass(frozen=True)
class Failed:
    """A picture that was not enhanced, and the reason in one line."""

    job: Job
    reason: str


Outcome = Done | Previewed | Skipped | Failed
Share = Callable[[Job, float], None]
"""Called with how much of a picture is done, from 0 to 1, from any thread."""


def at_a_time(asked: int | None, pictures: int) -> int:
    """How many pictures are worked on at the same time. OnebranchError for less than one.

    Each then has its share of the cores: reading and writing use one core each, and so keep all of them busy.
    """
    if asked is not None and not 1 <= asked <= 256:
        raise OnebranchError(f"jobs must be 1 to 256 pictures at a time, not {asked}")
    return max(1, min(pictures, min(cores(), MOST) if asked is None else asked))


class Folders:
    """Makes the folders of results, and removes those of them in which nothing came to lie."""

    def __init__(self) -> None:
        self._made: list[Path] = []
        self._lock = threading.Lock()

    def make(self, folder: Path) -> None:
        """Make it, and those above it. OnebranchError if that cannot be."""
        missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OnebranchError(f"cannot make the folder '{folder}': {error.strerror}") from None
        with self._lock:
            self._made += reversed(missing)

    def remove_empty(self) -> None:
        """Remove what was made for nothing."""
        for folder in sorted(set(self._made), key=lambda place: len(place.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()


class MemoryBudget:
    """Memory that pictures share: one waits until there is enough for it, or it is alone. size: bytes."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, needed: int) -> Iterator[None]:
        """So many bytes, while the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + needed <= self._size)
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()


class Batch:
    """What is done with every picture. An interrupt ends those being worked on; nothing is left of them."""

    def __init__(
        self,
        enhancer: Enhancer,
        writing: Writing,
        share: Share = lambda job, part: None,
        manifest: "Manifest | None" = None,
        resume: bool = False,
    ) -> None:
        self._enhancer, self._writing, self._share = enhancer, writing, share
        self._manifest, self._resume = manifest, resume
        self._folders = Folders()
        self._budget = MemoryBudget(memory_limit(enhancer.options.memory))
        self._stopped = threading.Event()

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """What became of every picture, in order."""
        try:
            if self._enhancer.concurrency == 1:
                yield from map(self._outcome, jobs)
            else:
                yield from self._concurrently(jobs)
        finally:
            self._folders.remove_empty()

    def _concurrently(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        from concurrent.futures import ThreadPoolExecutor  # imported late: one picture needs no pool

        pool = ThreadPoolExecutor(self._enhancer.concurrency, "picture")
        waiting: deque[Future[Outcome]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(self._outcome, job))
                if len(waiting) > AHEAD * self._enhancer.concurrency or waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _outcome(self, job: Job) -> Outcome:
        """One picture; whatever goes wrong with it is its own failure."""
        if job.problem:
            return Failed(job, job.problem)
        try:
            return self._enhanced(job)
        except OnebranchError as error:
            return _failed(job, error)
        except OSError as error:
            return Failed(job, f"'{job.source}' to '{job.target}': {error.strerror or error}")
        except Exception as error:
            text = f"'{job.source}': a fault in onebranch, {type(error).__name__}: {error}; please report it"
            return Failed(job, str(OnebranchError(text)))

    def _enhanced(self, job: Job) -> Done | Skipped:
        begin = time.perf_counter()
        if self._manifest is None:
            done = self._made(job)
        elif self._resume and self._manifest.has(job, self._writing.overwrite):
            return Skipped(job)
        else:
            from onebranch.enhancer.manifest import state_of

            before = state_of(job.source)
            exists = job.target.exists() and not self._writing.overwrite
            done = self._made_again(job) if self._resume and exists else self._made(job)
            self._manifest.add(job, before)
        return Done(job, done.preview, time.perf_counter() - begin)

    def _made(self, job: Job) -> Enhanced:
        if job.comparison is not None:
            check_writable(job.comparison, self._writing.overwrite, folder_will_exist=True)
        self._folders.make(job.target.parent)
        done = self._written(job, job.target)
        if job.comparison is not None:
            self._compare(job, done)
        return done

    def _compare(self, job: Job, done: Enhanced) -> None:
        from onebranch.comparison.before_after import compare_files
        from onebranch.images.writing import write

        assert job.comparison is not None
        self._folders.make(job.comparison.parent)
        heading = " then ".join(done.preview.models)
        sheet = compare_files(job.source, job.target, heading, "input", self._writing.max_pixels)
        write(sheet, job.comparison, overwrite=self._writing.overwrite)

    def _made_again(self, job: Job) -> Enhanced:
        """A result that is there without a record: from a run that was killed if the same comes out again."""
        from onebranch.enhancer.manifest import other_result

        with temporary_path(job.target.parent, job.target.suffix) as temporary:
            done = self._written(job, temporary)
            same = temporary.read_bytes() == job.target.read_bytes()
        if not same:
            why = f"it is not what comes of '{job.source}' now: another program wrote it, or it is damaged"
            raise OnebranchError(other_result(job, why))
        return done

    def _written(self, job: Job, target: Path) -> Enhanced:
        """The picture enhanced into that file, in memory that it has to itself."""

        def tell(part: float) -> None:
            if self._stopped.is_set():
                raise KeyboardInterrupt
            self._share(job, part)

        def take(header: Header, size: Size) -> None:
            after = replace(header, layout=replace(header.layout, height=size[0], width=size[1]))
            needed = self._enhancer.bytes_for(header.layout) + bytes_for_reading(header)
            taken.enter_context(
                self._budget.reserve(needed + bytes_for_writing(target, after, self._writing.encoding))
            )

        tell(0.0)
        with ExitStack() as taken:
            return enhance_file(job.source, target, _Watched(self._enhancer, tell, take), self._writing)


class _Watched(Enhancer):
    """The same enhancer, which takes memory first, tells how much is done, and ends where telling raises."""

    def __init__(
        self, enhancer: Enhancer, tell: Callable[[float], None], take: Callable[[Header, Size], None]
    ) -> None:
        vars(self).update(vars(enhancer))
        self._tell, self._take = tell, take

    def enhance(self, picture: Picture) -> Picture:
        self._tell(0.0)
        return super().enhance(picture)

    def rows(self, reader: Reader) -> Iterator[Samples]:
        layout, given = reader.header.layout, 0
        size = self.size_of_result((layout.height, layout.width))
        self._take(reader.header, size)
        for rows in super().rows(reader):
            yield rows
            given += len(rows)
            self._tell(given / size[0])


def preview_outcomes(
    jobs: Sequence[Job], enhancer: Enhancer, writing: Writing, records: "Records | None" = None
) -> Iterator[Outcome]:
    """What would become of every picture; nothing is made. records: by which results may be there already."""
    from onebranch.enhancer.estimate import Estimate

    estimate = Estimate(enhancer)
    for job in jobs:
        try:
            if job.problem:
                raise OnebranchError(job.problem)
            if records is not None and records.has(job, writing.overwrite):
                yield Skipped(job)
                continue
            if job.comparison is not None:
                check_writable(job.comparison, writing.overwrite, folder_will_exist=True)
            preview = preview_file(job.source, job.target, enhancer, writing)
            yield Previewed(job, preview, estimate.seconds(preview))
        except OnebranchError as error:
            yield _failed(job, error)


def _failed(job: Job, error: OnebranchError) -> Failed:
    """The failure, which names its picture whatever was raised."""
    reason = str(error)
    named = any(str(OnebranchError(str(path))) in reason for path in (job.source, job.target, job.comparison))
    return Failed(job, reason if named else str(OnebranchError(f"'{job.source}': {reason}")))
