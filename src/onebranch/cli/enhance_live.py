"""The live display of `onebranch enhance` on a terminal: progress, time left, and the current pictures."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from onebranch.enhancer.jobs import Job
from onebranch.errors import printable

MAX_NAMES = 3
"""Number of current pictures shown by name; the others are counted."""


class Live:
    """A line at the bottom of the terminal. A context manager; other lines can be printed above it."""

    def __init__(self) -> None:
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
        self._task = self._progress.add_task("", total=None, done="", current="preparing")

    def __enter__(self) -> "Live":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        """A line above the display."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(
        self, pictures: int, done: int, shares: Mapping[Job, float], details: Mapping[Path, str]
    ) -> None:
        """Show the number of pictures (0: unknown), of finished ones, and the current ones.

        shares: the completed share of each. details: shown of clips instead of their share.
        """
        if pictures:
            self._progress.update(
                self._task,
                total=pictures,
                completed=done + 0.95 * sum(shares.values()),  # the rest is for writing the file
                done=f"{done}/{pictures}",
                current=current_pictures(shares, details),
            )


class _CurrentPictures(TextColumn):
    """Shows names without interpreting them as markup."""

    def render(self, task: object) -> Text:
        return Text(task.fields["current"], style="dim", no_wrap=True, overflow="ellipsis")  # type: ignore[attr-defined]


def current_pictures(shares: Mapping[Job, float], details: Mapping[Path, str] = MappingProxyType({})) -> str:
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
