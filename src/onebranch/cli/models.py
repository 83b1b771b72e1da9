"""`onebranch models`: list the models that ship with the package."""

from typing import TYPE_CHECKING, Any

import click

from onebranch import strict_json

if TYPE_CHECKING:
    from onebranch.model.catalogue import ShippedModel


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the models that ship with the package: purpose, cost, and PSNR compared with bicubic.

    Fewer multiply-accumulates (MACs) per input pixel mean faster; `onebranch bench` times the models.
    """
    from onebranch.model.catalogue import CATALOGUE

    rows = [_facts(entry) for entry in CATALOGUE.values()]
    if as_json:
        click.echo(strict_json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from onebranch.cli.words import score_words

    table = Table(show_lines=True)
    for heading in ("model", "purpose and mean PSNR"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        scores = score_words(row["scores"], row["colour"])
        table.add_row(_model_words(row), f"{row['about']}\n{scores}".strip())
    Console().print(table)


def _model_words(row: dict[str, Any]) -> str:
    """Name, task, number of parameters, MACs and file size, on separate lines."""
    scale = {"upscale": f" x{row['scale']}", "downscale": f" 1/{row['scale']}"}.get(row["task"], "")
    size = "not installed"
    if row["bytes"]:
        size = (
            f"{row['parameters']:,} parameters\n{row['macs']:,} MACs per pixel\n{row['bytes'] / 1024:.0f} KiB"
        )
    return f"{row['name']}\n{row['task']}{scale}, {row['colour']}\n{size}"


def _facts(entry: "ShippedModel") -> dict[str, Any]:
    from onebranch.model.file import read
    from onebranch.spec.network import macs, parameters

    facts: dict[str, Any] = {
        "name": entry.name,
        "task": entry.task,
        "scale": entry.scale,
        "colour": entry.colour,
        "about": entry.about,
        "parameters": None,
        "macs": None,
        "bytes": None,
        "scores": {},
    }
    if entry.path.exists():
        model = read(entry.path)
        facts |= {"parameters": parameters(model.spec), "macs": macs(model.spec)}
        facts |= {"bytes": entry.path.stat().st_size, "scores": model.scores}
    return facts
