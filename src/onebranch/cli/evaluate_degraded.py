"""`onebranch evaluate --degraded`: the scores of a model on degraded pictures, as a table or JSON."""

from typing import TYPE_CHECKING

import click

from onebranch import strict_json
from onebranch.cli.option_groups import RuntimeArguments

if TYPE_CHECKING:
    from rich.table import Table

    from onebranch.degraded_evaluation import Channels, DegradedClass, DegradedEvaluation


def evaluate_and_print(
    model: str, data: str, channels: "Channels", running: RuntimeArguments, as_json: bool
) -> None:
    """Score the model on degraded pictures and print the table, or JSON."""
    from rich.console import Console

    from onebranch.cli.progress import ProgressLine
    from onebranch.degraded_evaluation import evaluate_degraded

    with ProgressLine("reading") as line:
        evaluation = evaluate_degraded(model, data, channels=channels, **vars(running), progress=line.update)
    if as_json:
        click.echo(strict_json.dumps(evaluation.as_json(), indent=2))
    else:
        Console().print(_table(evaluation))


def _table(evaluation: "DegradedEvaluation") -> "Table":
    """A row for every resampler and a column for every treatment: the mean gain and the smallest one."""
    from rich.table import Table

    from onebranch.enhancer.device import CPU_TEXT

    by_resampler: dict[str, list[DegradedClass]] = {}
    for one in evaluation.classes:
        by_resampler.setdefault(one.resampler, []).append(one)
    baseline = "the degraded input" if "none" in by_resampler else "Lanczos"
    on = "" if evaluation.device == CPU_TEXT else f", on {evaluation.device}"
    table = Table(
        title=f"{evaluation.model} on {evaluation.data}{on}:"
        f" gain in PSNR of {evaluation.channels.upper()} over {baseline}, in dB",
        caption="in brackets: the smallest gain of a picture; over all columns and rows: mean"
        f" {evaluation.gain:+.2f}, smallest {evaluation.worst_gain:+.2f}",
    )
    table.add_column("downscaled with" if baseline == "Lanczos" else "")
    for one in next(iter(by_resampler.values())):
        table.add_column(one.treatment, justify="right")
    for resampler, classes in by_resampler.items():
        table.add_row(
            resampler if baseline == "Lanczos" else "",
            *(f"{one.gain:+.2f} ({one.worst.gain:+.2f})" for one in classes),
        )
    return table
