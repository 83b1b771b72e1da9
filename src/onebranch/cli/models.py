"""`onebranch models`: what ships with the package."""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from onebranch.model.catalogue import Entry


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the models that ship with the package: name, task, scale, size, scores."""
    from onebranch.model.catalogue import CATALOGUE

    rows = [_facts(entry) for entry in CATALOGUE.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from onebranch.cli.words import score_words

    table = Table()
    for heading in ("name", "task", "scale", "colour", "parameters", "size", "scores", "what it does"):
        table.add_column(heading, justify="right" if heading in ("scale", "parameters", "size") else "left")
    for row in rows:
        table.add_row(
            row["name"],
            row["task"],
            str(row["scale"]),
            row["colour"],
            f"{row['parameters']:,}" if row["parameters"] else "-",
            f"{row['bytes'] / 1024:.0f} KiB" if row["bytes"] else "not installed",
            score_words(row["scores"]),
            row["about"],
        )
    Console().print(table)


def _facts(entry: "Entry") -> dict[str, Any]:
    from onebranch.model.file import read
    from onebranch.spec.network import parameters

    facts: dict[str, Any] = {
        "name": entry.name,
        "task": entry.task,
        "scale": entry.scale,
        "colour": entry.colour,
        "about": entry.about,
        "parameters": None,
        "bytes": None,
        "scores": {},
    }
    if entry.path.exists():
        model = read(entry.path)
        found = {"parameters": parameters(model.spec), "bytes": entry.path.stat().st_size}
        facts |= {**found, "scores": model.scores}
    return facts
