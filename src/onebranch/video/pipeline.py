"""Overlaps reading, enhancing and writing: each in its own thread, with bounded queues between them."""

import queue
import threading
from collections.abc import Callable
from typing import Generic

from onebranch.read_ahead import QUEUE_POLL_SECONDS, Item

MAX_QUEUED_FRAMES = 4
"""Frames that wait between two stages; more make nothing faster."""

QUEUE_BYTES = 128_000_000
"""Memory that the frames in a queue may take; there is always place for one."""


def queue_length(frame_bytes: int) -> int:
    """How many frames of that size wait between two stages.

    >>> queue_length(3_000_000), queue_length(200_000_000)
    (4, 1)
    """
    return max(1, min(MAX_QUEUED_FRAMES, QUEUE_BYTES // max(1, frame_bytes)))


class WriteBehind(Generic[Item]):
    """Calls a function for every item, in order, in a thread; a context manager. length: that of the queue.

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
