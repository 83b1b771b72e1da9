"""Where lines go: to stdout and stderr, and above a live display if the work turns out to last."""

import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from onebranch.enhancer.batch import Outcome
from onebranch.enhancer.jobs import Job
from onebranch.errors import printable

if TYPE_CHECKING:
    from onebranch.cli.enhance_live import Live

WAIT = 0.7
"""Seconds before the display begins: most is over before anything could be read."""


class Screen:
    """A context manager. wanted: whether there may be a display at all."""

    def __init__(self, wanted: bool) -> None:
        self._wanted, self._begin = wanted, time.monotonic()
        self._pictures, self._done = 0, 0
        self._live: Live | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._wanted = False
            if self._live:
                self._live.__exit__(*problem)
                self._live = None

    def say(self, line: str) -> None:
        """A line on stdout."""
        self._print(line, to_errors=False)

    def complain(self, line: str) -> None:
        """A line on stderr."""
        self._print(f"onebranch: {line}", to_errors=True)

    def _print(self, line: str, to_errors: bool) -> None:
        shown = printable(line)
        with self._lock:
            if self._live and (to_errors or sys.stdout.isatty()):
                self._live.print(shown)
            else:
                click.echo(shown, err=to_errors)

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
