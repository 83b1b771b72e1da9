"""Reading ahead: a thread prepares the next items while the current one is used."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

QUEUE_POLL_SECONDS = 0.2
"""How often a waiting thread checks whether the other side has stopped."""


class ReadAhead(Generic[Item]):
    """The items of an iterable, which a thread reads ahead; a context manager. length: that of the queue.

    An exception of the iterable is raised by the iteration.
    """

    def __init__(self, items: Iterable[Item], length: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | None] = queue.Queue(length)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="reading ahead", daemon=True)

    def __enter__(self) -> "ReadAhead[Item]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while (item := self._queue.get()) is not None:
            yield item
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        self._put(None)

    def _put(self, item: Item | None) -> bool:
        """Queue an item; False if nobody reads any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=QUEUE_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
