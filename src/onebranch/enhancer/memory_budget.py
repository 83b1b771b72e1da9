"""Memory that several pictures share while they are enhanced at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """A number of bytes of which pictures reserve parts. limit: in bytes; None is no limit."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit, self._reserved = limit, 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes while the context lasts; wait until they are free.

        A picture that needs more than the limit waits until it is the only one.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved or self._fits(size))
            self._reserved += size
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= size
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._limit is None or self._reserved + size <= self._limit
