"""The service: the path of a picture from a request through its process to a response or a job."""

import asyncio
import contextlib
import ipaddress
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from onebranch.enhancer.device import CPU_TEXT
from onebranch.runtime.cores import cores
from onebranch.runtime.gpu import CPU
from onebranch.serve.admission import Admission, Ticket
from onebranch.serve.jobs import RUNNING, Jobs, PictureJob
from onebranch.serve.limits import ServiceLimits
from onebranch.serve.metrics import Metrics
from onebranch.serve.negotiation import MEDIA_TYPES
from onebranch.serve.process import Facts, started
from onebranch.serve.response import ResultResponse
from onebranch.serve.uploads import check_announced, store_body, unless_disconnected
from onebranch.serve.worker import INPUT_NAME, PictureTask

COLLECT_SECONDS = 30.0
"""Time in which clients can fetch the results of finished jobs during a graceful shutdown."""

DRAIN_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Settings:
    """The settings of a service.

    workers: pictures at a time. token: "" for none. hosts: see `ServiceMiddleware`. device: "cpu" or a GPU,
    and its name.
    """

    limits: ServiceLimits = field(default_factory=ServiceLimits)
    workers: int = 2
    token: str = ""
    hosts: tuple[str, ...] | None = None
    version: str = "0"
    device: str = CPU
    device_name: str = CPU_TEXT


class Service:
    """The state of a running service."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        self.admission = Admission(settings.limits, settings.workers)
        self.jobs = Jobs(settings.limits)
        self.metrics = Metrics()
        self.metrics.watch(self.admission)
        self.scratch = Path(tempfile.mkdtemp(prefix="onebranch-serve-"))
        self.threads = max(1, cores() // settings.workers)
        self.is_ready = False

    async def enhance(self, request: Request, task_for: Callable[[str], PictureTask]) -> ResultResponse:
        """The response that streams the result. task_for: makes the task for a folder."""
        async with contextlib.AsyncExitStack() as resources:
            ticket = resources.enter_context(self._accept(request))
            folder = self._new_folder()
            resources.callback(shutil.rmtree, folder, ignore_errors=True)
            await store_body(request, folder / INPUT_NAME, self.limits)
            facts, pieces = await unless_disconnected(
                request, self._begin(task_for(str(folder)), ticket, resources)
            )
            return ResultResponse(
                pieces,
                MEDIA_TYPES[facts.format],
                self._headers(facts),
                resources.pop_all(),
                lambda reason: None if reason else self.metrics.pixels.inc(facts.pixels),
            )

    async def _begin(
        self, task: PictureTask, ticket: Ticket, resources: contextlib.AsyncExitStack
    ) -> tuple[Facts, AsyncIterator[bytes]]:
        """Wait for a free process slot, start the process, and wait for its first bytes.

        So a picture whose damage is found before them gets a response with an error status.
        """
        await ticket.begin()
        worker = await resources.enter_async_context(started(task))
        facts, pieces = await worker.header(), worker.data()
        async for first in pieces:
            if first:
                return facts, _chained(first, pieces)
        return facts, _chained(b"", pieces)

    async def start_job(self, request: Request, task_for: Callable[[str], PictureTask]) -> PictureJob:
        """The job, once the picture has arrived."""
        self.jobs.check_capacity()
        async with contextlib.AsyncExitStack() as resources:
            ticket = resources.enter_context(self._accept(request))
            folder = self._new_folder()
            with _removed_after_failure(folder):
                await store_body(request, folder / INPUT_NAME, self.limits)
                task, held = task_for(str(folder)), resources.pop_all()
            return self.jobs.add(folder, lambda job: self._run_job(job, task, ticket, held))

    async def _run_job(
        self, job: PictureJob, task: PictureTask, ticket: Ticket, resources: contextlib.AsyncExitStack
    ) -> None:
        """Run a job, which writes `job.result`."""
        async with resources:
            await ticket.begin()
            job.update(RUNNING)
            async with started(task) as worker:
                job.facts = await worker.header()
                with job.result.open("xb") as file:
                    async for piece in worker.data():
                        file.write(piece)
                        self.jobs.note_stored(job, len(piece))
                        if not piece:
                            job.update(progress=worker.progress)
        for path in job.folder.iterdir():
            if path != job.result:
                path.unlink()
        self.metrics.pixels.inc(job.facts.pixels)

    def _accept(self, request: Request) -> Ticket:
        ticket = self.admission.enter(client_of(request))
        try:
            check_announced(request, self.limits)
        except BaseException:
            ticket.__exit__()
            raise
        return ticket

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def _headers(self, facts: Facts) -> dict[str, str]:
        return {
            "Onebranch-Size": f"{facts.width}x{facts.height}",
            "Content-Disposition": "inline",
        }

    async def drain(self) -> None:
        """Refuse new pictures, and wait until all accepted ones are finished and their results fetched."""
        self.admission.is_closing = True
        while self.admission.accepted or self.jobs.unfinished:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_SECONDS):
                while self.jobs.uncollected:
                    await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def close(self) -> None:
        """Cancel the remaining jobs."""
        for job in self.jobs.unfinished:
            await self.jobs.delete(job.name)

    def remove_files(self) -> None:
        """Remove all pictures and results, after the service has ended."""
        shutil.rmtree(self.scratch, ignore_errors=True)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


@contextlib.contextmanager
def _removed_after_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def client_of(request: Request) -> str:
    """The client whose requests are counted together; see `client_of_address`."""
    return client_of_address(request.client.host if request.client else "unknown")


def client_of_address(host: str) -> str:
    """The client of an address: the IPv4 address, or the /64 network of an IPv6 one.

    >>> client_of_address("192.0.2.7"), client_of_address("2001:db8::7")
    ('192.0.2.7', '2001:db8::/64')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
