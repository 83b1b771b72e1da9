"""Admission control: limits on running pictures, on the queue, and on the pictures of each client."""

import asyncio
from collections import Counter

from onebranch.serve.limits import ServiceLimits
from onebranch.serve.problems import Problem


class Admission:
    """Counts requests that are accepted and not finished. workers: number of concurrent pictures."""

    def __init__(self, limits: ServiceLimits, workers: int) -> None:
        self._limits, self.workers = limits, workers
        self._clients: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(workers)
        self.accepted, self.running = 0, 0
        self.is_closing = False

    def enter(self, client: str) -> "Ticket":
        """Accept a picture of the client. Raises `Problem` if the queue or the client's share is full."""
        self.check(client)
        self._clients[client] += 1
        self.accepted += 1
        return Ticket(self, client)

    def check(self, client: str) -> None:
        """Raise `Problem` if a picture of the client would not be accepted now."""
        if self.is_closing:
            raise Problem(503, "closing", "the service is shutting down")
        if self._clients[client] >= self._limits.client_requests:
            raise Problem(
                429,
                "client_requests",
                f"the limit of pictures per client ({self._limits.client_requests}) is reached; wait for one",
            )
        if self.accepted >= self.workers + self._limits.queue:
            raise Problem(503, "queue", f"the queue is full (pictures in it: {self.accepted}); try again")

    @property
    def waiting(self) -> int:
        """The number of accepted pictures whose process has not started."""
        return self.accepted - self.running

    def leave(self, client: str) -> None:
        """Stop counting an accepted picture."""
        self.accepted -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    async def begin(self) -> None:
        """Wait until a process may be started."""
        await self._slots.acquire()
        self.running += 1

    def end(self) -> None:
        """Note that a process has ended, so that the next one may start."""
        self.running -= 1
        self._slots.release()


class Ticket:
    """An accepted picture, which is counted until the context ends."""

    def __init__(self, admission: Admission, client: str) -> None:
        self._admission, self._client, self._has_slot = admission, client, False

    async def begin(self) -> None:
        """Wait until the picture's process may be started."""
        await self._admission.begin()
        self._has_slot = True

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *problem: object) -> None:
        if self._has_slot:
            self._admission.end()
        self._admission.leave(self._client)
