"""`onebranch draw`: draw one network, or two side by side, as SVG."""

from pathlib import Path

import click


@click.command("draw")
@click.argument("model")
@click.argument("second", metavar="[MODEL2]", required=False)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output SVG file.")
@click.option("--title", help="Title above the drawing.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(model: str, second: str | None, out: Path, title: str | None, overwrite: bool) -> None:
    """Draw MODEL, or MODEL and MODEL2 side by side: all branches of all blocks, skips and the residual.

    MODEL is the name of a shipped model or a file.
    """
    from onebranch.atomic_files import write_atomically
    from onebranch.errors import OnebranchError
    from onebranch.model.catalogue import load
    from onebranch.model.drawing import draw

    if out.suffix.lower() != ".svg":
        raise OnebranchError(f"cannot write '{out}': drawings are SVG files; choose a name that ends in .svg")
    models = [load(name) for name in (model, second) if name is not None]
    write_atomically(out, draw(*models, title=title).encode(), overwrite=overwrite)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")
