"""Jobs: pictures that are enhanced in the background, while no client waits on a connection."""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onebranch.serve.limits import ServiceLimits
from onebranch.serve.logs import LOGGER
from onebranch.serve.problems import Problem
from onebranch.serve.process import Facts

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"

FINAL = (DONE, FAILED, CANCELLED)
"""States of finished jobs."""

RESULT_NAME = "stored"
"""The result's name in the folder of its job."""

ID_BYTES = 16
"""Random bytes of a job's name: anyone who knows the name can see and cancel the job."""


@dataclass
class PictureJob:
    """One job.

    facts: what the process reports of the result. finished: time of the end, in seconds of the monotonic
    clock. collected: True if the result has been sent.
    """

    name: str
    folder: Path
    state: str = WAITING
    progress: float = 0.0
    facts: Facts | None = None
    problem: Problem | None = None
    size: int = 0
    finished: float | None = None
    collected: bool = False
    task: "asyncio.Task[None] | None" = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def result(self) -> Path:
        """The file of the result, which exists once the job is done."""
        return self.folder / RESULT_NAME

    def update(self, state: str | None = None, progress: float | None = None) -> None:
        """Record a change, unless the job is finished, and wake everything that waits for changes."""
        if self.state in FINAL:
            return
        if state is not None:
            self.state = state
            self.finished = time.monotonic() if state in FINAL else None
        if progress is not None:
            self.progress = progress
        self.changed.set()
        self.changed = asyncio.Event()

    def description(self) -> dict[str, Any]:
        """The job as JSON."""
        return {
            "id": self.name,
            "state": self.state,
            "progress": round(self.progress, 4),
            "result": f"/v1/jobs/{self.name}/result" if self.state == DONE else None,
            "width": None if self.facts is None else self.facts.width,
            "height": None if self.facts is None else self.facts.height,
            "notes": [] if self.facts is None else self.facts.notes,
            "problem": None if self.problem is None else self.problem.body(),
        }

    async def changes(self, heartbeat_seconds: float) -> AsyncIterator[dict[str, Any] | None]:
        """The description now and after each change, until the job is finished; None as a heartbeat."""
        while True:
            changed = self.changed
            yield self.description()
            if self.state in FINAL:
                return
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), heartbeat_seconds)
                except TimeoutError:
                    yield None


class Jobs:
    """The jobs that are kept. All methods run in the event loop, so none interrupts another."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits, self._jobs = limits, dict[str, PictureJob]()

    def check_capacity(self) -> None:
        """Raise `Problem` if no further job can be kept."""
        self.remove_expired()
        if len(self._jobs) >= self._limits.jobs:
            raise Problem(
                503,
                "jobs",
                f"the limit of kept jobs ({len(self._jobs)}) is reached; delete some, or try again later",
            )
        if self._stored >= self._limits.stored_bytes:
            raise self._storage_full()

    @property
    def _stored(self) -> int:
        """Bytes of all results, unfinished ones included."""
        return sum(job.size for job in self._jobs.values())

    def _storage_full(self) -> Problem:
        return Problem(503, "stored_bytes", "the results that are kept fill the storage; delete some")

    def note_stored(self, job: PictureJob, count: int) -> None:
        """Count bytes that were written of a result. Raises `Problem` if the storage is full."""
        job.size += count
        if self._stored > self._limits.stored_bytes:
            self.remove_expired()
            if self._stored > self._limits.stored_bytes:
                raise self._storage_full()

    def add(self, folder: Path, run: Callable[[PictureJob], Any]) -> PictureJob:
        """Start a job. run: a coroutine function that does the work and leaves the file `job.result`."""
        job = PictureJob(secrets.token_urlsafe(ID_BYTES), folder)
        self._jobs[job.name] = job
        job.task = asyncio.create_task(self._run(job, run))
        return job

    async def _run(self, job: PictureJob, run: Callable[[PictureJob], Any]) -> None:
        try:
            await run(job)
            job.size = job.result.stat().st_size
            job.update(DONE, 1.0)
        except asyncio.CancelledError:
            job.update(CANCELLED)
        except Problem as problem:
            job.problem = problem
            job.update(FAILED)
        except Exception:
            LOGGER.exception("job failed")
            job.problem = Problem(500, "internal", "the job failed with an internal error")
            job.update(FAILED)
        finally:
            if job.state != DONE:
                job.size = 0
                shutil.rmtree(job.folder, ignore_errors=True)

    def find(self, name: str) -> PictureJob:
        """The job of that name. Raises `Problem` (404) if there is none, or if it has expired."""
        self.remove_expired()
        if name not in self._jobs:
            raise Problem(404, "no_job", "there is no job of this name; it may have expired")
        return self._jobs[name]

    async def delete(self, name: str) -> None:
        """Cancel the job if it is not finished, and remove it with its result."""
        job = self.find(name)
        job.update(CANCELLED)
        del self._jobs[name]
        if job.task is not None:
            job.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(job.task)
        shutil.rmtree(job.folder, ignore_errors=True)

    def remove_expired(self) -> None:
        """Remove the jobs whose results have expired."""
        oldest = time.monotonic() - self._limits.result_seconds
        for name, job in list(self._jobs.items()):
            if job.finished is not None and job.finished < oldest:
                del self._jobs[name]
                shutil.rmtree(job.folder, ignore_errors=True)

    @property
    def unfinished(self) -> list[PictureJob]:
        """The jobs that are not finished."""
        return [job for job in self._jobs.values() if job.state not in FINAL]

    @property
    def uncollected(self) -> list[PictureJob]:
        """The finished jobs whose results have not been fetched."""
        return [job for job in self._jobs.values() if job.state == DONE and not job.collected]
