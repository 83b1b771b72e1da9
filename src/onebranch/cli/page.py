"""`onebranch page`: write a static page that enhances pictures in the browser."""

from pathlib import Path

import click


@click.command("page")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Output folder; files of an earlier page are replaced.",
)
def command(out: Path) -> None:
    """Write a static page that enhances pictures on the visitor's own device, in WebAssembly.

    Pictures never leave the browser. The folder works on any static host, in a subfolder, in an iframe, and
    offline after the first visit. To try it: python -m http.server -d FOLDER
    """
    from onebranch.page import write_page

    files = write_page(out)
    total = sum(path.stat().st_size for path in files)
    click.echo(f"{out}: {len(files)} files, {total / 1e6:.1f} MB, of which a visitor loads one model")
    click.echo(f"  to try it: python -m http.server -d {out} 8000, then open http://127.0.0.1:8000/")
