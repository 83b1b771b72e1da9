"""The tables of `onebranch bench`: what was measured, in words."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onebranch.bench import pictures
    from onebranch.bench.inference import Result, Row
    from onebranch.bench.scaling import Memory, Scale
    from onebranch.bench.targets import Target
    from onebranch.bench.whole_path import PathRow

NAMED = ("network", "way", "runtime", "model", "input", "goal", "picture", "what", "encoder", "step")
"""Columns of text; the others hold numbers."""

WIDE = 140
"""Characters of a line that goes into a file or to another program."""

Cells = tuple[str, ...]


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str | None = None,
    sections: Sequence[int] = (),
) -> None:
    """A table with numbers to the right. sections: indices of rows after which a line is drawn."""
    from rich.console import Console
    from rich.table import Table

    room = min(len(title) + 4, WIDE)  # so that titles are not broken
    table = Table(title=title, caption=caption, caption_justify="left", min_width=room)
    for heading in headings:
        named = heading in NAMED
        table.add_column(heading, justify="left" if named else "right", no_wrap=named)
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index in sections)
    console = Console()
    if not console.is_terminal:  # a file has no edge at which to break
        console.width = max(console.width, WIDE)
    console.print(table)


HEADINGS = (
    "network",
    "way",
    "ms",
    "Mpixel/s",
    "of peak",
    "memory",
    "first call",
    "over ONNX Runtime",
    "loss",
)


def print_result(result: "Result", title: str) -> None:
    """The rows of every network, and the peaks that shares are of."""
    rows = result.rows
    last = [k for k, row in enumerate(rows) if k + 1 == len(rows) or rows[k + 1].network != row.network]
    print_table(title, HEADINGS, list(_cells_of_rows(rows)), peaks_in_words(result), last)


def peaks_in_words(result: "Result") -> str | None:
    """The measured peaks in one line."""
    if not result.peaks:
        return None
    each = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in result.peaks.items())
    return f"measured peak, thousand million multiply-accumulates a second on all threads: {each}"


def _cells_of_rows(rows: "Sequence[Row]") -> Iterator[Cells]:
    before = ""
    for row in rows:
        yield (
            row.network if row.network != before else "",
            row.way,
            milliseconds(row.milliseconds),
            f"{row.megapixels:.1f}",
            _percent(row.share),
            "" if row.megabytes is None else f"{row.megabytes:,.0f} MB",
            "" if row.first_milliseconds is None else f"{milliseconds(row.first_milliseconds)} ms",
            "" if row.ratio is None else f"{row.ratio:.2f} x",
            "" if row.loss_db is None else f"{row.loss_db:.3f} dB",
        )
        before = row.network


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def milliseconds(number: float) -> str:
    """Three digits or so.

    >>> milliseconds(3214.7), milliseconds(15.06)
    ('3,215', '15.1')
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def print_path(rows: "Sequence[PathRow]", title: str) -> None:
    """The whole path."""
    cells = [
        (
            row.way,
            milliseconds(row.milliseconds),
            f"{row.megapixels:.1f}",
            "" if row.ratio is None else f"{row.ratio:.2f} x",
        )
        for row in rows
    ]
    print_table(title, ("way", "ms", "Mpixel/s", "of OpenCV's time"), cells)


def print_targets(targets: "Sequence[Target]") -> None:
    """What was reached beside what is wanted."""
    cells = [
        (
            target.what,
            f"{target.reached:.2f}{target.unit}",
            f"{'at most' if target.at_most else 'at least'} {target.wanted:g}{target.unit}",
            "yes" if target.met else "no",
        )
        for target in targets
    ]
    if cells:
        print_table("Goals, on two cores with AVX-512", ("goal", "reached", "wanted", "met"), cells)


def print_scaling(scales: "Sequence[Scale]", memories: "Sequence[Memory]", title: str) -> None:
    """Cost per pixel by size and precision; memory of tall pictures."""
    precisions = list(dict.fromkeys(scale.precision for scale in scales))
    found = {(scale.edge, scale.precision): scale.nanoseconds for scale in scales}
    edges = list(dict.fromkeys(scale.edge for scale in scales))
    costs = [(f"{e:,} x {e:,}", *(f"{found[e, p]:.1f}" for p in precisions)) for e in edges]
    print_table(title, ("picture", *precisions), costs)
    held = {(m.width, m.rows, m.precision): m.megabytes for m in memories}
    pictures = dict.fromkeys((m.width, m.rows) for m in memories)
    cells = [
        (f"{w:,} x {r:,}", *("" if held[w, r, p] is None else f"{held[w, r, p]:.1f} MB" for p in precisions))
        for w, r in pictures
    ]
    print_table("Memory beyond Python with numpy, streamed", ("picture", *precisions), cells)


def print_pictures(result: "pictures.Result", title: str) -> None:
    """Whole commands beside the network alone; encoders; a cold start."""
    print_table(
        f"onebranch enhance, photo-x2: {title}",
        ("what", "s", "CPU s", "Mpixel/s", "peak memory", "network alone, s", "command over it"),
        list(_cells_of_commands(result.rows)),
        sections=[last - 1 for last in accumulate(len(row.alone) for row in result.rows)],
    )
    height, width = result.encoded
    print_table(
        f"Encoding a result of {width}x{height}: share of the command's CPU time on the folder",
        ("encoder", "CPU ms", "MB", "share"),
        [
            (each.name, milliseconds(each.milliseconds), f"{each.megabytes:.2f}", _percent(each.share))
            for each in result.encoders
        ],
    )
    total = sum(result.steps.values())
    print_table(
        f"Cold start on a 512x512 JPEG: {result.cold:.3f} s the command, {total / 1e3:.3f} s in steps",
        ("step", "ms"),
        [(name, milliseconds(took)) for name, took in result.steps.items()],
    )


def _cells_of_commands(rows: "Sequence[pictures.Row]") -> Iterator[Cells]:
    for row in rows:
        own: Cells = (
            row.name,
            f"{row.seconds:.2f}",
            f"{row.work:.2f}",
            f"{4 * row.megapixels / row.seconds:.1f}",
            "" if row.megabytes is None else f"{row.megabytes:,.0f} MB",
        )
        for label, seconds in row.alone.items():
            yield (*own, f"{label} {seconds:.2f}", f"{row.ratios[label]:.2f} x")
            own = ("",) * len(own)
