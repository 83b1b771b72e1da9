"""`onebranch enhance`: pictures and folders of pictures through a model."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onebranch.enhancer.files import Done, Failed, Summary


@click.command("enhance")
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option(
    "-o", "--out", required=True, help="A folder; or a file, for one picture, if the name has a suffix."
)
@click.option("-m", "--model", help="A shipped model's name, a file of ours or any ONNX file [by the scale].")
@click.option("--scale", type=float, help="Size of the result over that of the picture [the model's own].")
@click.option("--width", type=int, help="Width of the result in pixels; alone it keeps the proportions.")
@click.option("--height", type=int, help="Height of the result in pixels; alone it keeps the proportions.")
@click.option(
    "--chroma", default="bicubic", show_default=True, help="Resizing of chroma: bicubic or bilinear."
)
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="What runs it: auto, engine, onnxruntime, openvino or torch.",
)
@click.option("--precision", default="fp32", show_default=True, help="What it computes in: fp32, bf16, int8.")
@click.option("--threads", type=int, help="Threads that work on a picture [all cores].")
@click.option("--tile", type=int, help="Edge of a tile in pixels; less takes less memory [512].")
@click.option(
    "--memory", help="What an ONNX file's network may take, like 500M or 2G [half of what is free]."
)
@click.option("--quality", type=int, help="1 to 100, for JPEG, WebP and AVIF.")
@click.option("--lossless", is_flag=True, help="Lossless WebP and AVIF.")
@click.option("--max-pixels", type=int, help="Largest picture that is read, in pixels [1000000000].")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
def command(
    pictures: tuple[str, ...],
    out: str,
    model: str | None,
    scale: float | None,
    width: int | None,
    height: int | None,
    chroma: str,
    runtime: str,
    precision: str,
    threads: int | None,
    tile: int | None,
    memory: str | None,
    quality: int | None,
    lossless: bool,
    max_pixels: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Enhance pictures, or all pictures in a folder: upscale, downscale or denoise, by the model.

    Without --model: photo-x2; --scale 3 or 4 takes a model that does it, or a chain of them. --scale,
    --width and --height are reached by resampling after the model. Models of luma (colour y) leave chroma to
    interpolation; a denoising one leaves it as it is. An ONNX file may be anybody's: one picture (1, C, H, W)
    from 0 to 1 in and one out, luma or RGB. Bad pictures are reported, the others are done; the exit code is
    then 2.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its small products spin on more
    from onebranch.enhancer.files import Writing, enhance_files
    from onebranch.enhancer.options import Options
    from onebranch.images.reading import MAX_PIXELS
    from onebranch.model.catalogue import is_foreign
    from onebranch.runtime.memory import bytes_of
    from onebranch.runtime.selection import engine_missing

    options = Options(
        model=model,
        scale=scale,
        width=width,
        height=height,
        runtime=runtime,
        precision=precision,
        threads=threads,
        tile=tile or 0,
        memory=None if memory is None else bytes_of(memory),
        chroma=chroma,  # type: ignore[arg-type]  # checked by Options
    )
    writing = Writing(quality, lossless, overwrite, MAX_PIXELS if max_pixels is None else max_pixels)
    begin = time.perf_counter()
    summary = enhance_files(pictures, out, options, writing, _silent if quiet else _print)
    if not quiet:
        click.echo(_last_line(summary, time.perf_counter() - begin))
        if summary.done and not (model and is_foreign(model)) and (why := engine_missing(runtime)):
            click.echo(f"  not in the engine: {why}")
    if summary.failed:
        for failed in summary.failed:
            click.echo(f"onebranch: {failed.reason}", err=True)
        sys.exit(2)


def _silent(result: "Done | Failed") -> None:
    pass


def _print(result: "Done | Failed") -> None:
    from onebranch.enhancer.files import Failed

    if isinstance(result, Failed):
        click.echo(f"{result.job.source}: failed")
        return
    sizes = " -> ".join(f"{width}x{height}" for height, width in (result.before, result.after))
    click.echo(f"{result.job.source}: {sizes}, {result.seconds:.2f} s, {result.job.target}")
    for note in result.notes:
        click.echo(f"  {note}")


def _last_line(summary: "Summary", seconds: float) -> str:
    count = len(summary.done)
    parts = [f"{count} picture{'' if count == 1 else 's'} enhanced in {seconds:.2f} s"]
    if summary.done:
        chains = sorted({" then ".join(done.models) for done in summary.done})
        parts.append(f"{', '.join(chains)} in {_runtimes(summary)}, {summary.done[0].precision}")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed")
    return "; ".join(parts)


def _runtimes(summary: "Summary") -> str:
    return ", ".join(sorted({done.runtime for done in summary.done}))
