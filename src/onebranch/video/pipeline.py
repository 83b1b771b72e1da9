"""Overlaps reading, enhancing and writing: each in its own thread, with bounded queues between them."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

MAX_QUEUED_FRAMES = 4
"""Frames that wait between two stages; more make nothing faster."""

QUEUE_BYTES = 128_000_000
"""Memory that the frames in a queue may take; there is always place for one."""

QUEUE_POLL_SECONDS = 0.2
"""How often a waiting thread checks whether the other side has stopped."""


def queue_length(frame_bytes: int) -> int:
    """How many frames of that size wait between two stages.

    >>> queue_length(3_000_000), queue_length(200_000_000)
    (4, 1)
    """
    return max(1, min(MAX_QUEUED_FRAMES, QUEUE_BYTES // max(1, frame_bytes)))


class ReadAhead(Generic[Item]):
    """The items of an iterable, which a thread reads ahead; a context manager. length: of the queue.

    An exception of the iterable is raised by the iteration.
    """

    def __init__(self, items: Iterable[Item], length: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | None] = queue.Queue(length)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="decoding", daemon=True)

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


class WriteBehind(Generic[Item]):
    """Calls a function for every item, in order, in a thread; a context manager. length: of the queue.

    When the context ends without an exception, all items have been written. An exception of the function is
    raised by the next `put`, or when the context ends.
    """

    def __init__(self, write: Callable[[Item], None], length: int) -> None:
        self._write_item = write
        self._queue: queue.Queue[Item | None] = queue.Queue(length)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="encoding", daemon=True)

    def __enter__(self) -> "WriteBehind[Item]":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._stopped.set()
        self._put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full."""
        self._put(item)
        if self._error is not None:
            raise self._error

    def _put(self, item: Item | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=QUEUE_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _write(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if self._stopped.is_set():
                    return
                self._write_item(item)
        except BaseException as error:
            self._error = error
