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
        self._shares: dict[Job, float] = {}
        self._details: dict[Path, str] = {}
        self._display: Live | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(DELAY_SECONDS, self._show)
        self._timer.daemon = True
        self.rename: Callable[[str], str] = str

    def __enter__(self) -> "Screen":
        if self._may_show:
            self._timer.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._timer.cancel()
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
        """Set the number of pictures, once it is known."""
        with self._lock:
            self._pictures = pictures
            self._update()

    def progress(self, job: Job, share: float) -> None:
        """Update the completed share of a picture; from any thread."""
        with self._lock:
            self._shares[job] = share
            if time.monotonic() - self._begin > DELAY_SECONDS:
                self._open_display()
            self._update()

    def clip_progress(self, source: Path, progress: "ClipProgress") -> None:
        """Update the details of a clip; from any thread."""
        with self._lock:
            self._details[source] = progress.words()

    def finished(self, outcome: Outcome) -> None:
        """Count a picture as finished."""
        with self._lock:
            self._shares.pop(outcome.job, None)
            self._done += 1
            self._update()

    def _show(self) -> None:
        """Start the display, although no picture has made progress yet."""
        with self._lock:
            self._open_display()
            self._update()

    def _open_display(self) -> None:
        """Start the display, unless there is one or the work has ended."""
        if self._display is None and self._may_show:
            from onebranch.cli.enhance_live import Live  # imported late: short runs do not need rich

            self._display = Live().__enter__()

    def _update(self) -> None:
        if self._display:
            self._display.update(self._pictures, self._done, self._shares, self._details)
