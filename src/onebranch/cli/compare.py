"""`onebranch compare`: the similarity of two pictures in numbers, and a picture of their differences."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onebranch import strict_json
from onebranch.cli.option_groups import JSON_OPTION, MAX_PIXELS_OPTION
from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.comparison.similarity import Similarity


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("-o", "--out", help="Write a picture: A, B and their difference, with a magnified detail.")
@click.option(
    "--at",
    help="Centre X,Y of the magnified detail, in pixels of the larger picture [default: the largest"
    " difference if few pixels differ, else the part with the most detail].",
)
@click.option(
    "--border",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Pixels at every border that are not measured; benchmarks leave out as many as the scale factor.",
)
@MAX_PIXELS_OPTION
@click.option("--overwrite", is_flag=True, help="Replace the picture of --out if it exists.")
@JSON_OPTION
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
    """Compare two pictures of the same size, or one whose size is a whole multiple of the other's.

    The smaller one is enlarged bicubically. PSNR and SSIM are measured on luma (BT.601 studio range,
    unrounded as in BasicSR) and on RGB, in the files' own depth with white as 255; of grey pictures on the
    grey values. Pictures with the same colour profile are measured on their encoded values, others as sRGB;
    transparent pixels are blended over mid grey. The map shows the largest difference of a channel.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: more threads would busy-wait
    centre = None if at is None else _coordinates(at)
    if centre is not None and out is None:
        raise OnebranchError("--at is for the picture of --out; name one, or leave --at out")
    similarity = _compared(first, second, out, centre, border, max_pixels, overwrite)
    if as_json:
        paths = {"first": first, "second": second, "picture": out}
        click.echo(strict_json.dumps({**paths, **similarity.as_json()}, indent=2))
        return
    for line in _lines(first, second, similarity):
        click.echo(line)
    if out is not None:
        click.echo(out)


def _compared(
    first: str,
    second: str,
    out: str | None,
    centre: tuple[int, int] | None,
    border: int,
    max_pixels: int | None,
    overwrite: bool,
) -> "Similarity":
    """The similarity; the comparison picture is written where `out` names one."""
    from onebranch.atomic_files import check_writable
    from onebranch.cli.progress import ProgressLine
    from onebranch.comparison.difference_sheet import measure_and_draw
    from onebranch.comparison.levels import of_file
    from onebranch.comparison.similarity import measure
    from onebranch.images.formats import format_of_name
    from onebranch.images.reading import MAX_PIXELS
    from onebranch.images.writing import write

    if out is not None:
        format_of_name(Path(out))
        check_writable(Path(out), overwrite)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    sources = of_file(first, limit), of_file(second, limit)
    with ProgressLine("comparing") as line:

        def progress(share: float) -> None:
            line.update("comparing", share)

        if out is None:
            return measure(*sources, border, progress)
        similarity, sheet = measure_and_draw(*sources, border, centre, progress)
        line.update("writing", 1)
        write(sheet, Path(out), overwrite=overwrite)
    return similarity


def _lines(first: str, second: str, similarity: "Similarity") -> Iterator[str]:
    from onebranch.comparison.similarity import score_lines

    height, width = similarity.size
    yield f"{first}, {second}: {width}x{height}"
    for line in (*score_lines(similarity), _difference(similarity), *similarity.notes):
        yield f"  {line}"


def _difference(similarity: "Similarity") -> str:
    from onebranch.comparison.similarity import format_levels, format_share

    if similarity.equal:
        return "equal: every sample is the same"
    x, y = similarity.position
    where = f", most at {x},{y}" if similarity.largest else " (in transparency alone)"
    share, levels = format_share(similarity.different), format_levels(similarity.largest)
    return f"{share} of the pixels differ, by up to {levels}{where}"


def _coordinates(text: str) -> tuple[int, int]:
    """The X,Y of --at."""
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text)
    if not match:
        raise OnebranchError(f"--at is X,Y in pixels, such as 640,480, not '{text}'")
    return int(match[1]), int(match[2])
