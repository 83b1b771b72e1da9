"""`onebranch models`: list the models that ship with the package."""

from typing import TYPE_CHECKING, Any

import click

from onebranch import strict_json

if TYPE_CHECKING:
    from onebranch.model.catalogue import ShippedModel
    from onebranch.model.file import Model

    Models = dict[str, Model]

VARIANT_SUFFIXES = {"int8": "-int8", "branches": "-branches"}
"""Suffixes of the variants of a shipped model: quantized, and with its branches."""


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all scores of every model file.")
def command(as_json: bool) -> None:
    """List the models that ship with the package: purpose, gain over a plain resize, and speed here.

    The gain is the mean PSNR minus that of the resize, in dB, on the set that the purpose is measured on.
    Times are milliseconds of one core per million pixels of the result; a small picture is timed, so they are
    estimates, and `onebranch bench` measures thoroughly. `onebranch info MODEL` prints everything.
    """
    from onebranch.model.catalogue import CATALOGUE
    from onebranch.model.file import read

    models = {name: read(entry.path) for name, entry in CATALOGUE.items() if entry.path.exists()}
    rows = [_facts(entry, models.get(name)) for name, entry in CATALOGUE.items()]
    if as_json:
        click.echo(strict_json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("purpose")
    table.add_column("gain")
    table.add_column("ms per megapixel\nfp32, int8", justify="right")
    for row in rows:
        if not row["name"].endswith(tuple(VARIANT_SUFFIXES.values())):
            table.add_row(row["name"], row["about"], _gain_words(row), _speed_words(row["name"], models))
    console = Console()
    console.print(table)
    _print_variants(console, [row["name"] for row in rows])


def _gain_words(row: dict[str, Any]) -> str:
    """The gain over the baseline on the model's first score that has one, such as "+1.93 dB over bicubic"."""
    from onebranch.model.scores import psnr_key

    for name, score in row["scores"].items():
        if baseline := score.get("baseline"):
            method = baseline["method"].partition(",")[0]
            key = psnr_key(row["task"], score)
            where = name.replace(".0", "").replace("kodak24", "Kodak24")
            return f"{score[key] - baseline[key]:+.2f} dB over {method} ({where})"
    return "not measured" if row["bytes"] else "not installed"


def _speed_words(name: str, models: "Models") -> str:
    """Milliseconds of one core per megapixel of the result, in fp32 and in int8; a dash where unknown."""
    from onebranch.model.catalogue import quantized_name

    quantized = quantized_name(name)
    times = [
        _milliseconds(models.get(name), "fp32"),
        _milliseconds(models.get(quantized) if quantized != name else None, "int8"),
    ]
    return ", ".join("-" if value is None else f"{value:.0f}" for value in times)


def _milliseconds(model: "Model | None", precision: str) -> float | None:
    """Milliseconds of one core per megapixel of the result; None if the engine cannot run the model."""
    from onebranch.errors import OnebranchError
    from onebranch.runtime.speed import milliseconds_per_megapixel

    if model is None:
        return None
    try:
        return milliseconds_per_megapixel(model, precision) / _result_pixels(model)
    except OnebranchError:
        return None


def _result_pixels(model: "Model") -> float:
    """Pixels of the result per pixel of the picture."""
    factor = {"upscale": model.spec.scale, "downscale": 1 / model.spec.scale}.get(model.spec.task, 1)
    return float(factor**2)


def _print_variants(console: Any, names: list[str]) -> None:
    """One line for each kind of variant that ships too."""
    words = {
        "int8": "In 8-bit integers too (--precision int8 or fast)",
        "branches": "With its branches, before merging",
    }
    for variant, suffix in VARIANT_SUFFIXES.items():
        if listed := [name for name in names if name.endswith(suffix)]:
            console.print(f"{words[variant]}: {', '.join(listed)}", soft_wrap=True, highlight=False)


def _facts(entry: "ShippedModel", model: "Model | None") -> dict[str, Any]:
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
    if model is not None:
        facts |= {"parameters": parameters(model.spec), "macs": macs(model.spec)}
        facts |= {"bytes": entry.path.stat().st_size, "scores": model.scores}
    return facts
