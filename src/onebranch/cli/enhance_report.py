"""What `onebranch enhance` prints: text or JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from onebranch import strict_json
from onebranch.cli.enhance_screen import Screen
from onebranch.enhancer.batch import Done, Failed, Outcome, Previewed, Skipped
from onebranch.enhancer.device import CPU_TEXT
from onebranch.enhancer.folders import Summary
from onebranch.errors import counted_noun

MIN_SHOWN_SECONDS = 0.001
"""Shorter times are shown as "under 1 ms"."""


class TextReport:
    """Lines for every picture and a summary on stdout, failures on stderr. quiet: print failures only."""

    def __init__(self, screen: Screen, quiet: bool) -> None:
        self._screen, self._quiet = screen, quiet

    def started(self, pictures: int, left_out: Sequence[str]) -> None:
        """Print nothing: the summary names what was left out."""

    def finished(self, outcome: Outcome) -> None:
        """Print the outcome of a picture."""
        if isinstance(outcome, Failed):
            self._screen.print_error(outcome.reason)
        elif not self._quiet:
            for line in lines_of(outcome):
                self._screen.print(line)

    def summary(self, summary: Summary, seconds: float) -> None:
        """Print the summary, and what was left out."""
        for line in summary.left_out:
            self._screen.print_error(line)
        if not self._quiet and not (len(summary.results) == 1 and summary.failed):
            for line in summary_lines(summary, seconds):
                self._screen.print(line)


class JsonReport:
    """One JSON object per line on stdout for every picture, and a summary; failures on stderr too."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def started(self, pictures: int, left_out: Sequence[str]) -> None:
        """Print nothing: the summary names what was left out."""

    def finished(self, outcome: Outcome) -> None:
        """Print the outcome of a picture."""
        if isinstance(outcome, Failed):
            self._screen.print_error(outcome.reason)
        self._screen.print(strict_json.dumps(as_json(outcome)))

    def summary(self, summary: Summary, seconds: float) -> None:
        """Print the summary."""
        counts = {kind: len(getattr(summary, kind)) for kind in ("done", "previewed", "skipped", "failed")}
        values = {**counts, "seconds": round(seconds, 3), "left_out": list(summary.left_out)}
        self._screen.print(strict_json.dumps({"summary": values}))


def lines_of(outcome: Done | Previewed | Skipped) -> Iterator[str]:
    """The lines about a picture."""
    job = outcome.job
    if isinstance(outcome, Skipped):
        yield f"{job.source}: done before, {job.target}"
        return
    preview = outcome.preview
    sizes = " -> ".join(f"{width}x{height}" for height, width in (preview.before, preview.after))
    if preview.frames > 1:
        sizes += f", {preview.frames} frames"
    if isinstance(outcome, Done):
        rate = f" ({preview.frames / outcome.seconds:.1f} frames/s)" if preview.is_clip else ""
        yield f"{job.source}: {sizes}, {format_duration(outcome.seconds)}{rate}, {job.target}"
    else:
        time = "" if outcome.seconds is None else f"; {format_estimate(outcome.seconds)} in the network"
        yield f"{job.source}: {sizes}, would become {job.target}"
        yield f"  {_networks([outcome])}{time}; about {preview.memory / 1e6:.0f} MB"
    if job.comparison is not None:
        yield f"  comparison: {job.comparison}"
    for note in preview.notes:
        yield f"  {note}"


def summary_lines(summary: Summary, seconds: float) -> Iterator[str]:
    """The lines about all pictures; a note about several of them is counted."""
    results: list[Done] | list[Previewed] = summary.previewed if summary.is_preview else summary.done
    if summary.is_preview:
        parts = [f"{count_files(results)} would be enhanced", *_times(summary.previewed)]
    else:
        parts = [f"{count_files(results)} enhanced in {format_duration(seconds)}"]
    if results:
        parts.append(_networks(results))
    yield "; ".join((*parts, *(_preview_rest(summary) if summary.is_preview else _rest(summary))))
    if len(summary.results) > 1:
        notes = Counter(note for result in results for note in result.preview.notes)
        for note, count in notes.items():
            noun = count_pictures(count) if not any(r.preview.is_clip for r in results) else f"{count} files"
            yield f"  {noun}: {note}"


def _rest(summary: Summary) -> Iterator[str]:
    """The numbers of pictures that were not enhanced."""
    if summary.skipped:
        yield f"{len(summary.skipped)} done before"
    if summary.failed:
        yield f"{len(summary.failed)} failed"


def _preview_rest(summary: Summary) -> Iterator[str]:
    """The numbers of pictures that a run would not enhance, and why."""
    if summary.skipped:
        yield f"{len(summary.skipped)} would be skipped: done before"
    existing = sum(failure.target_exists for failure in summary.failed)
    if existing:
        yield f"{existing} would be refused: results exist (--overwrite replaces them)"
    if len(summary.failed) > existing:
        yield f"{len(summary.failed) - existing} would fail"


def _times(previewed: Sequence[Previewed]) -> Iterator[str]:
    known = [result.seconds for result in previewed if result.seconds is not None]
    if known:
        yield f"{format_estimate(sum(known))} in the network"


def _networks(done: Sequence[Done | Previewed]) -> str:
    """The networks, runtimes, precisions and, unless it is the CPU by default, devices."""
    chains = sorted({" then ".join(result.preview.models) for result in done})
    runtimes = sorted({result.preview.runtime for result in done})
    precisions = sorted({result.preview.precision for result in done})
    devices = sorted({result.preview.device for result in done} - {CPU_TEXT})
    on = f", on {', '.join(devices)}" if devices else ""
    return f"{', '.join(chains)} in {', '.join(runtimes)}, {', '.join(precisions)}{on}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The JSON object of a picture; sizes are [width, height]."""
    job = outcome.job
    paths = {"picture": str(job.source), "result": str(job.target)}
    if isinstance(outcome, Failed):
        return {**paths, "status": "failed", "reason": outcome.reason}
    if isinstance(outcome, Skipped):
        return {**paths, "status": "skipped"}
    preview = outcome.preview
    values: dict[str, Any] = {
        **paths,
        "status": "done" if isinstance(outcome, Done) else "previewed",
        "before": [preview.before[1], preview.before[0]],
        "after": [preview.after[1], preview.after[0]],
        "frames": preview.frames,
        "models": list(preview.models),
        "runtime": preview.runtime,
        "precision": preview.precision,
        "device": preview.device,
        "notes": list(preview.notes),
    }
    if job.comparison is not None:
        values["comparison"] = str(job.comparison)
    if isinstance(outcome, Done):
        return values | {"seconds": round(outcome.seconds, 4)}
    seconds = None if outcome.seconds is None else round(outcome.seconds, 4)
    return values | {"memory_bytes": preview.memory, "network_seconds": seconds}


def count_files(results: Sequence[Done | Previewed]) -> str:
    """The number of pictures and of clips in words, such as '2 pictures and 1 clip'."""
    clips = sum(result.preview.is_clip for result in results)
    words = counted_noun(clips, "clip")
    if clips == len(results) and clips:
        return words
    pictures = count_pictures(len(results) - clips)
    return f"{pictures} and {words}" if clips else pictures


def count_pictures(count: int) -> str:
    """A number of pictures in words.

    >>> count_pictures(1), count_pictures(2)
    ('1 picture', '2 pictures')
    """
    return counted_noun(count, "picture")


def format_estimate(seconds: float) -> str:
    """An estimated time in words."""
    return format_duration(seconds) if seconds < MIN_SHOWN_SECONDS else f"about {format_duration(seconds)}"


def format_duration(seconds: float) -> str:
    """A time in words.

    >>> [format_duration(seconds) for seconds in (0.0004, 0.0123, 1.234, 75, 7384)]
    ['under 1 ms', '12 ms', '1.23 s', '1 min 15 s', '2 h 3 min']
    """
    if seconds < MIN_SHOWN_SECONDS:
        return "under 1 ms"
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
