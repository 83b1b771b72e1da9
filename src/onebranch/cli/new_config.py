"""`onebranch new-config`: write an example training config with every key explained."""

from pathlib import Path

import click

CONFIG_TASKS = ("upscale", "downscale", "denoise")


@click.command("new-config")
@click.argument("task", type=click.Choice(CONFIG_TASKS))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file.  [default: standard output]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(task: str, out: Path | None, overwrite: bool) -> None:
    """Write a training config for TASK that trains a good network in about an hour on one core."""
    from onebranch.atomic_files import already_exists
    from onebranch.errors import OnebranchError
    from onebranch.training.example_config import example

    text = example(task)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OnebranchError(already_exists(out)) from None
    except OSError as error:
        raise OnebranchError(f"{out}: cannot write this file: {error.strerror}") from None
