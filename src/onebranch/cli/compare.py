"""`onebranch compare`: two pictures in numbers, and side by side with a map of their differences."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.similarity import Similarity


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("-o", "--out", help="Write a picture: A, B and their difference, with a magnified detail.")
@click.option(
    "--at", help="What is magnified: X,Y of its middle, in the larger [what is busiest, or differs]."
)
@click.option(
    "--border",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Pixels at every border that are not measured; benchmarks leave out as many as the scale.",
)
@click.option("--max-pixels", type=int, help="Largest picture that is read, in pixels [1000000000].")
@click.option("--overwrite", is_flag=True, help="Replace the picture of --out if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    first: str,
    second: str,
    out: str | None,
    at: str | None,
    border: int,
    max_pixels: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare two pictures of one size, or of which one is an enlargement of the other by a whole number.

    The smaller one is enlarged bicubically. PSNR and SSIM are on luma (BT.601 studio range, unrounded, as
    BasicSR does) and on RGB, in the files' own depth with white as 255; of grey pictures on the grey values.
    Pictures with the same colour profile are measured as they are encoded, others as sRGB; transparency is
    laid over mid grey. The map shows the largest difference of a channel.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its small products spin on more
    from rich.console import Console

    from onebranch import similarity
    from onebranch.atomic_files import check_writable
    from onebranch.images.formats import format_of_name
    from onebranch.images.reading import MAX_PIXELS
    from onebranch.images.showing import of_file
    from onebranch.images.writing import write

    place = None if at is None else _place(at)
    if place is not None and out is None:
        raise OnebranchError("--at is for the picture of --out; name one, or leave --at out")
    if out is not None:
        format_of_name(Path(out))
        check_writable(Path(out), overwrite)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    one, other = of_file(first, limit), of_file(second, limit)
    with Console(stderr=True).status("comparing"):
        if out is None:
            found = similarity.measure(one, other, border)
        else:
            found, picture = similarity.measure_and_show(one, other, border, place)
            write(picture, Path(out), overwrite=overwrite)
    if as_json:
        click.echo(
            json.dumps({"first": first, "second": second, "picture": out, **found.as_json()}, indent=2)
        )
        return
    height, width = found.size
    click.echo(f"{first}, {second}: {width}x{height}")
    for line in similarity.lines(found):
        click.echo(f"  {line}")
    click.echo(f"  {_difference(found)}")
    for note in found.notes:
        click.echo(f"  {note}")
    if out is not None:
        click.echo(out)


def _difference(found: "Similarity") -> str:
    from onebranch.similarity import levels_in_words, share_in_words

    if found.equal:
        return "equal: every sample is the same"
    x, y = found.place
    where = f", most at {x},{y}" if found.largest else " (in transparency alone)"
    share, levels = share_in_words(found.different), levels_in_words(found.largest)
    return f"{share} of the pixels differ, by up to {levels}{where}"


def _place(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text)
    if not match:
        raise OnebranchError(f"--at is X,Y in pixels, such as 640,480, not '{text}'")
    return int(match[1]), int(match[2])
