"""A live display that begins when the work turns out to last: most is over before anything could be read."""

import threading
import time
from typing import TYPE_CHECKING

from onebranch.enhancer.batch import Outcome
from onebranch.enhancer.jobs import Job

if TYPE_CHECKING:
    from onebranch.cli.enhance_live import Live

WAIT = 0.7
"""Seconds."""


class LiveLater:
    """A context manager. wanted: whether there is to be a display at all."""

    def __init__(self, wanted: bool) -> None:
        self._wanted, self._begin = wanted, time.monotonic()
        self._pictures, self._done = 0, 0
        self._live: Live | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "LiveLater":
        return self

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._wanted = False
            if self._live:
                self._live.__exit__(*problem)

    def begins(self, pictures: int) -> None:
        """So many pictures there are."""
        self._pictures = pictures

    def share(self, job: Job, part: float) -> None:
        """So much of a picture is done; from any thread."""
        with self._lock:
            if self._live is None and self._wanted and time.monotonic() - self._begin > WAIT:
                from onebranch.cli.enhance_live import Live  # rich, which a short command does without

                self._live = Live(self._pictures, self._done).__enter__()
            if self._live:
                self._live.share(job, part)

    def shown(self, outcome: Outcome) -> None:
        """A picture is done, or will not be."""
        with self._lock:
            self._done += 1
            if self._live:
                self._live.shown(outcome)
