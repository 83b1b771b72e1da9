"""The live display of `onebranch enhance` on a terminal: how much is done, time left, what is in flight."""

import threading

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from onebranch.enhancer.batch import Outcome
from onebranch.enhancer.jobs import Job
from onebranch.errors import printable

NAMED = 3
"""Pictures in flight that are named; more are counted."""


class Live:
    """One line at the terminal's foot. A context manager; other lines may be printed meanwhile."""

    def __init__(self, pictures: int, done: int = 0) -> None:
        self._pictures, self._done = pictures, done
        self._parts: dict[Job, float] = {}
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.fields[done]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            _InFlight(""),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=pictures, done="", flying="")

    def __enter__(self) -> "Live":
        self._update()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        """A line above the display."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def share(self, job: Job, part: float) -> None:
        """So much of a picture is done; from any thread."""
        with self._lock:
            self._parts[job] = part
            self._update()

    def shown(self, outcome: Outcome) -> None:
        """A picture is done, or will not be."""
        with self._lock:
            self._parts.pop(outcome.job, None)
            self._done += 1
            self._update()

    def _update(self) -> None:
        self._progress.update(
            self._task,
            completed=self._done + 0.95 * sum(self._parts.values()),  # it is still to be written
            done=f"{self._done}/{self._pictures}",
            flying=in_flight(self._parts),
        )


class _InFlight(TextColumn):
    """Names as they are, whatever is in them."""

    def render(self, task: object) -> Text:
        return Text(task.fields["flying"], style="dim", no_wrap=True, overflow="ellipsis")  # type: ignore[attr-defined]


def in_flight(parts: dict[Job, float]) -> str:
    """The pictures that are worked on.

    >>> from pathlib import Path
    >>> in_flight({Job(Path("in/a.png"), Path("b.png")): 0.5})
    'a.png 50 %'
    """
    flying = [(job.source.name, part) for job, part in parts.items() if part < 1]
    names = [f"{printable(name)} {100 * part:.0f} %" if part else printable(name) for name, part in flying]
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f", {more} more" if more > 0 else "")
