"""A memory limit that is shared by pictures which are enhanced at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """A memory limit of which pictures reserve parts. limit: in bytes; None means no limit."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit, self._reserved = limit, 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """A context that reserves `size` bytes, after waiting until they are free.

        A picture that needs more than the limit waits until no other picture has reserved memory.
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
