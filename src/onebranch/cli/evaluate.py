"""`onebranch evaluate`: scores of a model on a folder of pictures."""

import json
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from onebranch.evaluation import Evaluation, Row

COLUMNS = {
    "psnr_y": ("PSNR Y", 2),
    "ssim_y": ("SSIM Y", 4),
    "psnr_y_rounded": ("PSNR Y rounded", 2),
    "ssim_y_rounded": ("SSIM Y rounded", 4),
    "psnr_rgb": ("PSNR RGB", 2),
}
"""Heading and decimals of every score."""


@click.command("evaluate")
@click.option("-m", "--model", required=True, help="A shipped model's name or a file.")
@click.option("-d", "--data", required=True, help="The folder of pictures, 8-bit and opaque.")
@click.option("--sigma", type=float, help="Noise in grey levels, for a denoising model.")
@click.option(
    "--degraded",
    is_flag=True,
    help="Score on reduced, compressed and noisy inputs, beside Lanczos and bicubic.",
)
@click.option("--then", help="Score a pair: reduced by --model, rounded, enlarged by this model.")
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="What runs it: auto, engine, onnxruntime, openvino or torch.",
)
@click.option("--precision", default="fp32", show_default=True, help="What it computes in: fp32, bf16, int8.")
@click.option("--threads", type=int, help="Threads that work on a picture [all cores].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: str,
    data: str,
    sigma: float | None,
    degraded: bool,
    then: str | None,
    runtime: str,
    precision: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score a model on the pictures in a folder, beside plain bicubic.

    PSNR and SSIM on Y (BT.601 studio range, unrounded as BasicSR does and rounded as MATLAB does) and PSNR on
    RGB, of the 8-bit pictures as they would be written. Greyscale pictures are scored on their grey values.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its small products spin on more
    if degraded:
        from onebranch.cli.evaluate_degraded import evaluate_and_print

        if sigma is not None or then is not None:
            raise click.UsageError("--degraded takes neither --sigma nor --then: it has its own noise levels")
        evaluate_and_print(model, data, runtime, precision, threads, as_json)
        return
    from rich.console import Console

    from onebranch.evaluation import evaluate
    from onebranch.runtime.selection import engine_missing

    messages = Console(stderr=True)
    with messages.status("reading") as status:
        found = evaluate(
            model,
            data,
            sigma=sigma,
            then=then,
            runtime=runtime,
            precision=precision,
            threads=threads,
            shown=status.update,
        )
    if why := engine_missing(runtime):
        click.echo(f"onebranch: {why}; this took {found.ran}", err=True)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        Console().print(_table(found))


def _table(found: "Evaluation") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{found.model} on {found.data}: {found.method}; {found.ran}",
        caption=None if found.mean.baseline is None else f"in brackets: {found.baseline}",
    )
    table.add_column("picture")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for row in found.rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(found.mean), style="bold")
    return table


def _cells(row: "Row") -> list[str]:
    cells = [row.name]
    for name, (_, decimals) in COLUMNS.items():
        cell = f"{getattr(row.scores, name):.{decimals}f}"
        if row.baseline is not None:
            cell += f" ({getattr(row.baseline, name):.{decimals}f})"
        cells.append(cell)
    return cells
