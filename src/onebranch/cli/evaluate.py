"""`onebranch evaluate`: scores of a model on a folder of pictures."""

import os
from typing import TYPE_CHECKING, Literal

import click

from onebranch import strict_json
from onebranch.cli.option_groups import JSON_OPTION, RuntimeArguments, runtime_options

if TYPE_CHECKING:
    from rich.table import Table

    from onebranch.evaluation import Evaluation, Row

SCORE_COLUMNS = {
    "psnr_y": ("PSNR Y", 2),
    "ssim_y": ("SSIM Y", 4),
    "psnr_y_rounded": ("PSNR Y rounded", 2),
    "ssim_y_rounded": ("SSIM Y rounded", 4),
    "psnr_rgb": ("PSNR RGB", 2),
}
"""Heading and decimals of every score."""


@click.command("evaluate")
@click.option("-m", "--model", required=True, help="Name of a shipped model, or a model file.")
@click.option("-d", "--data", required=True, help="Folder of pictures, 8-bit and opaque.")
@click.option("--sigma", type=float, help="Noise in grey levels, for a denoising model.")
@click.option(
    "--degraded",
    is_flag=True,
    help="Score on degraded inputs: reduced, compressed, noisy.",
)
@click.option(
    "--channels",
    type=click.Choice(["y", "rgb"]),
    help="With --degraded: PSNR of Y (the default) or of RGB.",
)
@click.option("--then", help="Score a pair: reduced by --model, rounded, enlarged by this model.")
@runtime_options
@JSON_OPTION
def command(
    model: str,
    data: str,
    sigma: float | None,
    degraded: bool,
    channels: Literal["y", "rgb"] | None,
    then: str | None,
    running: RuntimeArguments,
    as_json: bool,
) -> None:
    """Score a model on the pictures in a folder, beside plain bicubic.

    PSNR and SSIM are measured on Y (BT.601 studio range, unrounded as in BasicSR and rounded as in MATLAB),
    and PSNR on RGB, of the 8-bit pictures as they would be written. Greyscale pictures are scored on their
    grey values.

    With --degraded, inputs are left clean, compressed as JPEG, or given noise; for models that enlarge, they
    are reduced by three resamplers before. The table shows the mean gain over Lanczos (for other models, over
    the input), and the smallest gain of a picture.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: more threads would busy-wait
    if degraded:
        from onebranch.cli.evaluate_degraded import evaluate_and_print

        if sigma is not None or then is not None:
            raise click.UsageError("--degraded takes neither --sigma nor --then: it has its own noise levels")
        evaluate_and_print(model, data, channels or "y", running, as_json)
        return
    if channels is not None:
        raise click.UsageError("--channels is for --degraded; without it, PSNR of both Y and RGB is printed")
    from rich.console import Console

    from onebranch.cli.progress import ProgressLine
    from onebranch.evaluation import evaluate
    from onebranch.runtime.selection import engine_missing

    with ProgressLine("scoring") as line:
        evaluation = evaluate(
            model,
            data,
            sigma=sigma,
            then=then,
            runtime=running.runtime,
            precision=running.precision,
            device=running.device,
            threads=running.threads,
            progress=line.update,
        )
    if running.device == "cpu" and (reason := engine_missing(running.runtime)):
        click.echo(f"onebranch: {reason}; this took {evaluation.ran}", err=True)
    if as_json:
        click.echo(strict_json.dumps(evaluation.as_json(), indent=2))
    else:
        Console().print(_table(evaluation))


def _table(evaluation: "Evaluation") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{evaluation.model} on {evaluation.data}: {evaluation.method}; {evaluation.ran}",
        caption=None if evaluation.mean.baseline is None else f"in brackets: {evaluation.baseline}",
    )
    table.add_column("picture")
    for heading, _ in SCORE_COLUMNS.values():
        table.add_column(heading, justify="right")
    for row in evaluation.rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(evaluation.mean), style="bold")
    return table


def _cells(row: "Row") -> list[str]:
    cells = [row.name]
    for name, (_, decimals) in SCORE_COLUMNS.items():
        cell = f"{getattr(row.scores, name):.{decimals}f}"
        if row.baseline is not None:
            cell += f" ({getattr(row.baseline, name):.{decimals}f})"
        cells.append(cell)
    return cells
