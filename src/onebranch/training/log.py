"""The log of a training run: a file with one JSON object per line, a live display, and a plot."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onebranch.errors import OnebranchError

WORD_ORDER = ("loss", "psnr", "rate", "pixels")
"""The order of the values in a line; those that are not measured yet are left out."""


class Log:
    """Appends records to `log.jsonl` and shows them: a live display on a terminal, else occasional lines.

    first: the step at which the run starts or resumes; later records of the file are removed. writes: whether
    this process writes the file. shown: whether it also prints.
    """

    def __init__(self, path: Path, steps: int, first: int, writes: bool, shown: bool) -> None:
        shown = shown and writes
        self.path, self.shown, self.steps = path, shown, steps
        if writes:
            _keep_until(path, first)
        self.file = path.open("a", encoding="utf-8")
        self.console = Console(file=sys.stderr)
        self.words: dict[str, str] = {}
        self.steps_per_second: float | None = None
        self.last_line = 0.0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.bar = self.progress.add_task("training", total=steps, completed=first, words="")

    def __enter__(self) -> "Log":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.file.close()

    def record(self, step: int, **values: Any) -> None:
        """Write a record and show it."""
        try:
            self.file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
            self.file.flush()
        except OSError as error:
            raise OnebranchError(f"{self.path}: cannot write the log: {error.strerror}") from None
        if "loss" in values:
            self.steps_per_second = values["steps_per_second"]
            self.words |= {
                "loss": f"loss {values['loss']:.5f}",
                "rate": f"{values['steps_per_second']:.1f}/s",
                "pixels": f"{values['megapixels_per_second']:.2f} Mpx/s  {values['gigapixels']:.3f} Gpx",
            }
        if "psnr" in values:
            self.words["psnr"] = f"validation {values['psnr']:.3f} dB"
        words = "  ".join(self.words[key] for key in WORD_ORDER if key in self.words)
        self.progress.update(self.bar, completed=step, words=words)
        self._line(step, words, values)

    def _line(self, step: int, words: str, values: dict[str, Any]) -> None:
        """Without a terminal, print a line after each validation, and if the last line is over 30 s old."""
        due = "psnr" in values or time.monotonic() - self.last_line > 30
        if self.shown and not self.console.is_terminal and due:
            self.last_line = time.monotonic()
            left = ""
            if self.steps_per_second is not None:
                seconds = (self.steps - step) / max(self.steps_per_second, 1e-9)
                left = f"  {seconds / 60:.0f} min left"
            self.console.print(f"step {step}/{self.steps}  {words}{left}", soft_wrap=True)

    def print(self, text: str) -> None:
        """Print one line for the user."""
        if self.shown:
            self.console.print(text, soft_wrap=True, highlight=False)


def _keep_until(path: Path, step: int) -> None:
    """Remove the records after `step`: a resumed run writes them again."""
    if path.exists():
        kept = [r for r in read(path) if r["step"] <= step]
        path.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log. Lines that are not valid JSON, such as a truncated last line, are skipped."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def plot(records: list[dict[str, Any]], title: str, path: Path) -> None:
    """Plot loss and validation PSNR over the steps, and save the plot as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses = [(r["step"], r["loss"]) for r in records if "loss" in r]
    scores = [(r["step"], r["psnr"]) for r in records if "psnr" in r]
    figure, left = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    left.semilogy(*zip(*losses, strict=True), color="#9aa7b8", linewidth=0.8) if losses else None
    left.set(xlabel="step", ylabel="loss", title=title)
    right = left.twinx()
    right.plot(*zip(*scores, strict=True), color="#c0392b", linewidth=1.6) if scores else None
    right.set_ylabel("validation PSNR in dB", color="#c0392b")
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
