"""The progress of a command on a terminal: the current step, the completed share, and the time left."""

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

DELAY_SECONDS = 0.7
"""The line appears after this many seconds; shorter commands show none."""


class ProgressLine:
    """A context manager with a line at the bottom of the terminal (stderr); nothing without a terminal.

    It shows the current step and, once a share is known, a bar and the time left; else the time so far.
    Thread-safe.
    """

    def __init__(self, step: str) -> None:
        self._step, self._share = step, 0.0
        self._known = False
        self._display: Progress | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(DELAY_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> "ProgressLine":
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            display, self._display = self._display, None
            self._timer.finished.set()
        if display is not None:
            display.stop()

    def update(self, step: str, share: float | None = None) -> None:
        """Show a step, and the completed share of all steps, 0 to 1, where it is known."""
        with self._lock:
            self._step = step
            if share is not None:
                self._share, self._known = share, True
            self._refresh()

    def _show(self) -> None:
        """Start the display, unless the command has ended."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        with self._lock:
            self._display = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._display.add_task(self._step, total=None)
            self._refresh()
            self._display.start()

    def _refresh(self) -> None:
        if self._display is not None:
            total = 1.0 if self._known else None
            self._display.update(
                self._display.task_ids[0], description=self._step, total=total, completed=self._share
            )
