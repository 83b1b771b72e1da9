"""The output of `onebranch enhance`: stdout, stderr, and a live display if the work takes longer."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onebranch.cli.progress import DELAY_SECONDS
from onebranch.enhancer.batch import Outcome
from onebranch.enhancer.jobs import Job
from onebranch.errors import printable

if TYPE_CHECKING:
    from onebranch.cli.enhance_live import Live
    from onebranch.video.progress import ClipProgress


class Screen:
    """A context manager. live: whether there may be a live display. rename: replaces file names in lines."""

    def __init__(self, live: bool) -> None:
        self._may_show, self._begin = live, time.monotonic()
        self._pictures, self._done = 0, 0
        self._display: Live | None = None
        self._lock = threading.Lock()
        self.rename: Callable[[str], str] = str

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._may_show = False
            if self._display:
                self._display.__exit__(*problem)
                self._display = None

    def print(self, line: str) -> None:
        """Print a line on stdout."""
        self._print(line, to_stderr=False)

    def print_error(self, line: str) -> None:
        """Print an error on stderr."""
        self._print(f"onebranch: {line}", to_stderr=True)

    def _print(self, line: str, to_stderr: bool) -> None:
        shown = printable(self.rename(line))
        with self._lock:
            if self._display and (to_stderr or sys.stdout.isatty()):
                self._display.print(shown)
            else:
                click.echo(shown, err=to_stderr)

    def started(self, pictures: int) -> None:
        """Set the number of pictures."""
        self._pictures = pictures

    def progress(self, job: Job, share: float) -> None:
        """Update the completed share of a picture; from any thread."""
        with self._lock:
            if self._display is None and self._may_show and time.monotonic() - self._begin > DELAY_SECONDS:
                from onebranch.cli.enhance_live import Live  # imported late: short runs do not need rich

                self._display = Live(self._pictures, self._done).__enter__()
            if self._display:
                self._display.progress(job, share)

    def clip_progress(self, source: Path, progress: "ClipProgress") -> None:
        """Update the details of a clip; from any thread."""
        with self._lock:
            if self._display:
                self._display.detail(source, progress.words())

    def finished(self, outcome: Outcome) -> None:
        """Count a picture as finished."""
        with self._lock:
            self._done += 1
            if self._display:
                self._display.finished(outcome)
