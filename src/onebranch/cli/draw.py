"""`onebranch draw`: one network, or two side by side, as SVG."""

from pathlib import Path

import click


@click.command("draw")
@click.argument("model")
@click.argument("second", metavar="[MODEL2]", required=False)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The SVG file to write.")
@click.option("--title", help="A line above the drawing.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def command(model: str, second: str | None, out: Path, title: str | None, overwrite: bool) -> None:
    """Draw MODEL, or MODEL and MODEL2 side by side: every branch of every block, skips and residual.

    MODEL is a shipped model's name or a file.
    """
    from onebranch.atomic_files import write_atomically
    from onebranch.errors import OnebranchError
    from onebranch.model.catalogue import load
    from onebranch.model.drawing import draw

    if out.suffix.lower() != ".svg":
        raise OnebranchError(f"cannot write '{out}': drawings are SVG; choose a name that ends with .svg")
    models = [load(name) for name in (model, second) if name is not None]
    write_atomically(out, draw(*models, title=title).encode(), overwrite=overwrite)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")
