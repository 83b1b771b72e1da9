"""What `onebranch enhance` prints: lines for people, JSON for programs."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from onebranch.cli.enhance_screen import Screen
from onebranch.enhancer.batch import Done, Failed, Outcome, Previewed, Skipped
from onebranch.enhancer.folders import Summary

SHORT = 0.001
"""Seconds below which nobody cares."""


class Lines:
    """A line for every picture and a summary on stdout, failures on stderr. quiet: failures only."""

    def __init__(self, screen: Screen, quiet: bool) -> None:
        self._screen, self._quiet = screen, quiet

    def begins(self, pictures: int, left_out: Sequence[str]) -> None:
        """Say what was left out."""
        for line in left_out:
            self._screen.complain(line)

    def shown(self, outcome: Outcome) -> None:
        """One picture."""
        if isinstance(outcome, Failed):
            self._screen.complain(outcome.reason)
        elif not self._quiet:
            for line in lines_of(outcome):
                self._screen.say(line)

    def ends(self, summary: Summary, seconds: float) -> None:
        """All pictures."""
        if not self._quiet and not (len(summary.results) == 1 and summary.failed):
            for line in last_lines(summary, seconds):
                self._screen.say(line)


class Json:
    """A JSON object for every picture and one for all, a line each, on stdout; failures on stderr too."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def begins(self, pictures: int, left_out: Sequence[str]) -> None:
        """Nothing yet: what was left out is in the summary."""

    def shown(self, outcome: Outcome) -> None:
        """One picture."""
        if isinstance(outcome, Failed):
            self._screen.complain(outcome.reason)
        self._screen.say(json.dumps(as_json(outcome)))

    def ends(self, summary: Summary, seconds: float) -> None:
        """All pictures."""
        counts = {kind: len(getattr(summary, kind)) for kind in ("done", "previewed", "skipped", "failed")}
        found = {**counts, "seconds": round(seconds, 3), "left_out": list(summary.left_out)}
        self._screen.say(json.dumps({"summary": found}))


def lines_of(outcome: Done | Previewed | Skipped) -> Iterator[str]:
    """What is said of a picture."""
    job = outcome.job
    if isinstance(outcome, Skipped):
        yield f"{job.source}: done before, {job.target}"
        return
    found = outcome.preview
    sizes = " -> ".join(f"{width}x{height}" for height, width in (found.before, found.after))
    if found.frames > 1:
        sizes += f", {found.frames} frames"
    if isinstance(outcome, Done):
        yield f"{job.source}: {sizes}, {duration(outcome.seconds)}, {job.target}"
    else:
        time = "" if outcome.seconds is None else f"; {about(outcome.seconds)} in the network"
        yield f"{job.source}: {sizes}, would become {job.target}"
        yield f"  {_ways([outcome])}{time}; about {found.memory / 1e6:.0f} MB"
    if job.comparison is not None:
        yield f"  comparison: {job.comparison}"
    for note in found.notes:
        yield f"  {note}"


def last_lines(summary: Summary, seconds: float) -> Iterator[str]:
    """What is said of all pictures; a note that came up in several is counted."""
    made: list[Done] | list[Previewed] = summary.previewed or summary.done
    if summary.previewed:
        parts = [f"{pictures(len(made))} would be enhanced", *_times(summary.previewed)]
    else:
        parts = [f"{pictures(len(made))} enhanced in {duration(seconds)}"]
    if made:
        parts.append(_ways(made))
    if summary.skipped:
        parts.append(f"{len(summary.skipped)} done before")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed")
    yield "; ".join(parts)
    if len(summary.results) > 1:
        notes = Counter(note for result in made for note in result.preview.notes)
        for note, count in notes.items():
            yield f"  {pictures(count)}: {note}"


def _times(previewed: Sequence[Previewed]) -> Iterator[str]:
    known = [result.seconds for result in previewed if result.seconds is not None]
    if known:
        yield f"{about(sum(known))} in the network"


def _ways(done: Sequence[Done | Previewed]) -> str:
    """The networks, and what ran them in what."""
    chains = sorted({" then ".join(result.preview.models) for result in done})
    runtimes = sorted({result.preview.runtime for result in done})
    precisions = sorted({result.preview.precision for result in done})
    return f"{', '.join(chains)} in {', '.join(runtimes)}, {', '.join(precisions)}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """What a program is told of a picture; sizes as [width, height]."""
    job = outcome.job
    places = {"picture": str(job.source), "result": str(job.target)}
    if isinstance(outcome, Failed):
        return {**places, "status": "failed", "reason": outcome.reason}
    if isinstance(outcome, Skipped):
        return {**places, "status": "skipped"}
    found = outcome.preview
    values: dict[str, Any] = {
        **places,
        "status": "done" if isinstance(outcome, Done) else "previewed",
        "before": [found.before[1], found.before[0]],
        "after": [found.after[1], found.after[0]],
        "frames": found.frames,
        "models": list(found.models),
        "runtime": found.runtime,
        "precision": found.precision,
        "notes": list(found.notes),
    }
    if job.comparison is not None:
        values["comparison"] = str(job.comparison)
    if isinstance(outcome, Done):
        return values | {"seconds": round(outcome.seconds, 4)}
    seconds = None if outcome.seconds is None else round(outcome.seconds, 4)
    return values | {"memory_bytes": found.memory, "network_seconds": seconds}


def pictures(count: int) -> str:
    """A number of them.

    >>> pictures(1), pictures(2)
    ('1 picture', '2 pictures')
    """
    return f"{count} picture{'' if count == 1 else 's'}"


def about(seconds: float) -> str:
    """A time that is not known well."""
    return duration(seconds) if seconds < SHORT else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(0.0004), duration(0.0123), duration(1.234), duration(75), duration(7384)
    ('under 1 ms', '12 ms', '1.23 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < SHORT:
        return "under 1 ms"
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
