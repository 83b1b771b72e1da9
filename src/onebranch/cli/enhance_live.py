"""The live display of `onebranch enhance` on a terminal: progress, time left, and the current pictures."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from onebranch.enhancer.batch import Outcome
from onebranch.enhancer.jobs import Job
from onebranch.errors import printable

MAX_NAMES = 3
"""Number of current pictures shown by name; the others are counted."""


class Live:
    """A line at the bottom of the terminal. A context manager; other lines can be printed above it."""

    def __init__(self, pictures: int, done: int = 0) -> None:
        self._pictures, self._done = pictures, done
        self._shares: dict[Job, float] = {}
        self._details: dict[Path, str] = {}
        self._lock = threading.Lock()
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.fields[done]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            _CurrentPictures(""),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=pictures, done="", current="")

    def __enter__(self) -> "Live":
        self._update()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        """A line above the display."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, job: Job, share: float) -> None:
        """Update the completed share of a picture; from any thread."""
        with self._lock:
            self._shares[job] = share
            self._update()

    def detail(self, source: Path, words: str) -> None:
        """Set what is shown of a clip instead of its completed share."""
        with self._lock:
            self._details[source] = words

    def finished(self, outcome: Outcome) -> None:
        """Count a picture as finished."""
        with self._lock:
            self._shares.pop(outcome.job, None)
            self._done += 1
            self._update()

    def _update(self) -> None:
        self._progress.update(
            self._task,
            completed=self._done + 0.95 * sum(self._shares.values()),  # the rest is for writing the file
            done=f"{self._done}/{self._pictures}",
            current=current_pictures(self._shares, self._details),
        )


class _CurrentPictures(TextColumn):
    """Shows names without interpreting them as markup."""

    def render(self, task: object) -> Text:
        return Text(task.fields["current"], style="dim", no_wrap=True, overflow="ellipsis")  # type: ignore[attr-defined]


def current_pictures(shares: dict[Job, float], details: Mapping[Path, str] = MappingProxyType({})) -> str:
    """The pictures that are being enhanced, with their completed share, or with their details.

    >>> from pathlib import Path
    >>> current_pictures({Job(Path("in/a.png"), Path("b.png")): 0.5})
    'a.png 50 %'
    """
    current = [(job.source, share) for job, share in shares.items() if share < 1]
    names = [f"{printable(path.name)}{_state(share, details.get(path))}" for path, share in current]
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f", {more} more" if more > 0 else "")


def _state(share: float, detail: str | None) -> str:
    if detail is not None:
        return f" {detail}"
    return f" {100 * share:.0f} %" if share else ""
