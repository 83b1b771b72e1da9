"""`onebranch enhance`: pictures, folders, patterns and lists of pictures through a model."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.cli.enhance_screen import Screen
    from onebranch.enhancer.folders import BatchOptions, Summary
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.single_file import Writing


@click.command("enhance")
@click.argument("pictures", nargs=-1, metavar="PICTURE...")
@click.option(
    "-o", "--out", required=True, help="A folder; or a file, for one picture, if the name has a suffix."
)
@click.option(
    "--list", "listing", help="Pictures are named in this file, one a line or ended by NUL; - is stdin."
)
@click.option(
    "-r", "--recursive", is_flag=True, help="Folders with the folders in them, mirrored below --out."
)
@click.option(
    "--name",
    help="What results are called, such as {stem}_x2{suffix}; also {scale}, {model}, {width}, {height},"
    " {index} and {parent} [as the pictures].",
)
@click.option("--format", "form", help="Format of all results, such as png or jpg [each picture's own].")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--resume", is_flag=True, help="Leave out what such a run has done, and done right.")
@click.option("--shard", help="Only this part of the pictures, such as 1/4; four runs then do all of them.")
@click.option("--jobs", type=int, help="Pictures at a time [as batch as cores, at most 8].")
@click.option("-m", "--model", help="A shipped model's name, a file of ours or any ONNX file [by the scale].")
@click.option("--scale", type=float, help="Size of the result over that of the picture [the model's own].")
@click.option("--width", type=int, help="Width of the result in pixels; alone it keeps the proportions.")
@click.option("--height", type=int, help="Height of the result in pixels; alone it keeps the proportions.")
@click.option(
    "--chroma", default="bicubic", show_default=True, help="Resizing of chroma: bicubic or bilinear."
)
@click.option("--wrap", is_flag=True, help="The picture is a seamless texture: it goes on at the other side.")
@click.option(
    "--self-ensemble", is_flag=True, help="The mean over eight flips and turns; eight times the work."
)
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="What runs it: auto, engine, onnxruntime, openvino or torch.",
)
@click.option("--precision", default="fp32", show_default=True, help="What it computes in: fp32, bf16, int8.")
@click.option("--threads", type=int, help="Threads that work on a picture [its share of the cores].")
@click.option("--tile", type=int, default=0, help="Edge of a tile in pixels; 0: by the memory [0].")
@click.option("--memory", help="What an enhancement may take, like 500M or 2G [512M; half of what is free].")
@click.option("--max-pixels", type=int, help="Largest picture that is read, in pixels [1000000000].")
@click.option("--quality", type=int, help="1 to 100, for JPEG, WebP and AVIF [95, 95, 90].")
@click.option("--lossless", is_flag=True, help="Lossless WebP and AVIF.")
@click.option("--subsampling", default="auto", help="Chroma in JPEG and AVIF: 444, 420 or auto [auto].")
@click.option("--compression", default="deflate", help="TIFF: none, lzw or deflate [deflate].")
@click.option("--level", type=int, default=1, help="PNG: 0 (fast) to 9 (small) [1].")
@click.option("--strip", is_flag=True, help="Leave out all metadata but the colour profile.")
@click.option("--strip-location", is_flag=True, help="Leave out where a picture was taken.")
@click.option(
    "--compare", "comparisons", help="Write input and result side by side, too: a folder, or a file."
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: an object a line for each picture, and one for all."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
def command(
    pictures: tuple[str, ...],
    out: str,
    listing: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    runtime: str,
    model: str | None,
    **typed: Any,
) -> None:
    """Enhance pictures, or all pictures in a folder: upscale, downscale or denoise, by the model.

    Without --model: photo-x2; --scale 3 or 4 takes a model that does it, or a chain of them. --scale,
    --width and --height are reached by resampling after the model. Models of luma (colour y) leave chroma to
    interpolation; a denoising one leaves it as it is. An ONNX file may be anybody's: one picture (1, C, H, W)
    from 0 to 1 in and one out, luma or RGB.

    A PICTURE is a file, a folder, or a pattern in quotes, such as 'in/**/*.jpg'. Bad pictures are reported,
    the others are done. The exit code is 0 if all were, 1 if some failed, 2 if nothing was begun, 130 after
    Ctrl-C.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its small products spin on more
    from onebranch.cli.enhance_lines import Json, Lines
    from onebranch.cli.enhance_screen import Screen

    options, writing, batch = _options(runtime, model, typed), _writing(typed), _batch_options(typed)
    paths = [*pictures, *(_listed(listing) if listing is not None else ())]
    screen = Screen(sys.stderr.isatty() and not (quiet or dry_run))
    lines = Json(screen) if as_json else Lines(screen, quiet)
    begin = time.perf_counter()
    if dry_run:
        summary = _preview(paths, out, options, writing, batch, lines)
    else:
        summary = _enhance(paths, out, options, writing, batch, lines, screen)
    lines.ends(summary, time.perf_counter() - begin)
    if not (quiet or as_json) and summary.done:
        _say_why_no_engine(runtime, model)
    if summary.failed:
        sys.exit(1)


def _options(runtime: str, model: str | None, typed: dict[str, Any]) -> "Options":
    from onebranch.enhancer.options import Options
    from onebranch.runtime.memory import parse_bytes

    names = ("scale", "width", "height", "chroma", "wrap", "self_ensemble", "precision", "threads", "tile")
    memory = None if typed["memory"] is None else parse_bytes(typed["memory"])
    return Options(model=model, runtime=runtime, memory=memory, **{name: typed[name] for name in names})


def _writing(typed: dict[str, Any]) -> "Writing":
    from onebranch.enhancer.single_file import Writing
    from onebranch.images.encoders.encoding import Encoding
    from onebranch.images.reading import MAX_PIXELS

    names = ("quality", "lossless", "subsampling", "compression", "level", "strip", "strip_location")
    pixels = MAX_PIXELS if typed["max_pixels"] is None else typed["max_pixels"]
    return Writing(Encoding(**{name: typed[name] for name in names}), typed["overwrite"], pixels)


def _batch_options(typed: dict[str, Any]) -> "BatchOptions":
    from onebranch.enhancer.folders import BatchOptions
    from onebranch.enhancer.jobs import shard_of
    from onebranch.enhancer.names import Naming

    return BatchOptions(
        recursive=typed["recursive"],
        naming=Naming(typed["name"], typed["form"]),
        jobs=typed["jobs"],
        resume=typed["resume"],
        shard=None if typed["shard"] is None else shard_of(typed["shard"]),
        comparisons=typed["comparisons"],
    )


def _listed(listing: str) -> list[str]:
    """The paths in the file of --list."""
    from onebranch.enhancer.inputs import listed

    try:
        content = sys.stdin.buffer.read() if listing == "-" else Path(listing).read_bytes()
    except OSError as error:
        raise OnebranchError(f"cannot read the list '{listing}': {error.strerror}") from None
    return listed(content)


def _enhance(
    paths: list[str],
    out: str,
    options: "Options",
    writing: "Writing",
    batch: "BatchOptions",
    lines: Any,
    screen: "Screen",
) -> "Summary":
    from onebranch.cli.enhance_lines import pictures as in_words
    from onebranch.enhancer.batch import Done, Outcome
    from onebranch.enhancer.folders import Watcher, enhance_files

    done = 0

    def begins(count: int, left_out: Any) -> None:
        screen.begins(count)
        lines.begins(count, left_out)

    def shown(outcome: Outcome) -> None:
        nonlocal done
        done += isinstance(outcome, Done)
        screen.shown(outcome)
        lines.shown(outcome)

    try:
        with screen, _ended_like_ctrl_c():
            return enhance_files(
                paths, out, options, writing, batch=batch, watcher=Watcher(begins, screen.share, shown)
            )
    except KeyboardInterrupt:
        screen.complain(f"stopped; {in_words(done)} enhanced, none is half-written")
        sys.exit(130)


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A friendly kill (SIGTERM) leaves no files in the making, either."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _preview(
    paths: list[str], out: str, options: "Options", writing: "Writing", batch: "BatchOptions", lines: Any
) -> "Summary":
    from onebranch.enhancer.folders import Watcher, preview_files

    return preview_files(
        paths, out, options, writing, batch=batch, watcher=Watcher(lines.begins, shown=lines.shown)
    )


def _say_why_no_engine(runtime: str, model: str | None) -> None:
    from onebranch.model.catalogue import is_foreign
    from onebranch.runtime.selection import engine_missing

    if not (model and is_foreign(model)) and (why := engine_missing(runtime)):
        click.echo(f"  not in the engine: {why}")
