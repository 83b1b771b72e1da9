"""`onebranch bench`: how fast models run on this machine, in every installed runtime and precision."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from onebranch import strict_json
from onebranch.cli.option_groups import DEVICE_OPTION
from onebranch.errors import OnebranchError, counted_noun

if TYPE_CHECKING:
    from onebranch.bench import BenchSettings, Measurement

REDIRECTED_COLUMNS = 140
"""Characters per line where the output is a file or a pipe."""


@click.command("bench")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    help="Runtime to time: engine, onnxruntime, openvino or torch; may be repeated.  [default: all]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    help="Precision to time: fp32, bf16 or int8; may be repeated.  [default: all]",
)
@click.option(
    "--size",
    default="540x960",
    show_default=True,
    metavar="HEIGHTxWIDTH",
    help="Height and width of the input in pixels.",
)
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="Number of timed rounds."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of every runtime.  [default: all cores]"
)
@DEVICE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    models: tuple[str, ...],
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    size: str,
    rounds: int,
    threads: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Time models in every installed runtime and precision on a random picture.

    MODEL is the name of a shipped model or a model file; by default the four shipped tasks are timed. The
    candidates take turns; the table shows the median time of a run, the output in megapixels per second, and
    the speedup over ONNX Runtime in fp32.
    """
    from rich.console import Console

    from onebranch import bench
    from onebranch.runtime.cores import cores

    settings = bench.BenchSettings(parse_size(size), rounds, threads or cores(), device=device)
    notes = bench.busy_warning()
    with Console(stderr=True).status("starting") as status:
        rows, skipped = bench.measure(models or bench.MODELS, runtimes, precisions, settings, status.update)
    notes += skipped
    if as_json:
        facts: dict[str, Any] = {"size": settings.size, "rounds": rounds, "threads": settings.threads}
        facts |= {"rows": [row.as_json() for row in rows], "notes": notes}
        click.echo(strict_json.dumps(facts, indent=2))
        return
    _print_rows(rows, settings)
    for note in notes:
        click.echo(note)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of an option such as "540x960". Raises OnebranchError for anything else.

    >>> parse_size("540x960")
    (540, 960)
    """
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise OnebranchError(f"--size must be HEIGHTxWIDTH, such as 224x224, not '{text}'")
    return int(match[1]), int(match[2])


def _print_rows(rows: "Sequence[Measurement]", settings: "BenchSettings") -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = settings.size
    threads, rounds = counted_noun(settings.threads, "thread"), counted_noun(settings.rounds, "round")
    title = f"{width}x{height} input, {threads}, medians of {rounds}"
    table = Table(title=title)
    for heading in ("model", "runtime", "precision"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "Mpixel/s", "speedup"):
        table.add_column(heading, justify="right")
    for index, row in enumerate(rows):
        first = index == 0 or rows[index - 1].model != row.model
        last = index + 1 == len(rows) or rows[index + 1].model != row.model
        speedup = "" if row.speedup is None else f"{row.speedup:.2f} x"
        times = f"{row.milliseconds:,.1f}", f"{row.megapixels:,.1f}", speedup
        table.add_row(row.model if first else "", row.runtime, row.precision, *times, end_section=last)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, REDIRECTED_COLUMNS)
    console.print(table)
