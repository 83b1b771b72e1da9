"""`onebranch enhance`: enhance pictures, folders, patterns and lists of pictures with a model."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onebranch.cli.enhance_streams import (
    STANDARD_STREAM,
    check_streams,
    has_scheme,
    renamed_urls,
    stream_files,
)
from onebranch.cli.enhance_video import VideoArguments, is_y4m_pipe, video_options
from onebranch.cli.option_groups import (
    INPUT_SIZE_OPTION,
    MAX_PIXELS_OPTION,
    RuntimeArguments,
    option_group,
    runtime_options,
)
from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.enhancer.folders import BatchObserver, BatchOptions, Summary
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.single_file import FileOptions
    from onebranch.graph.analysis.valid_sizes import InputSize
    from onebranch.video.mixed_files import MixedFiles


@dataclass(frozen=True)
class BatchArguments:
    """Which pictures are enhanced, and the names of results; see `BatchOptions`."""

    recursive: bool
    name: str | None
    file_format: str | None
    resume: bool
    shard: str | None
    jobs: int | None
    comparisons: str | None

    def batch_options(self) -> "BatchOptions":
        """These arguments as checked `BatchOptions`."""
        from onebranch.enhancer.folders import BatchOptions
        from onebranch.enhancer.jobs import parse_shard
        from onebranch.enhancer.names import Naming

        return BatchOptions(
            recursive=self.recursive,
            naming=Naming(self.name, self.file_format),
            jobs=self.jobs,
            resume=self.resume,
            shard=None if self.shard is None else parse_shard(self.shard),
            comparisons=self.comparisons,
        )


batch_options = option_group(
    "batch",
    BatchArguments,
    click.option(
        "-r", "--recursive", is_flag=True, help="Recurse into subfolders, which are mirrored below --out."
    ),
    click.option(
        "--name",
        help="Names of results, such as {stem}_x2{suffix}; also {scale}, {model}, {width}, {height}, {index}"
        " and {parent} [default: the names of the pictures].",
    ),
    click.option(
        "--format",
        "file_format",
        help="Format of all results, such as png or jpg [default: each picture's own].",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Record completed pictures in the output folder, and skip those that are recorded there.",
    ),
    click.option(
        "--shard",
        help="Enhance only one of N parts of the pictures, written I/N; the runs 1/4 to 4/4 together enhance"
        " all of them.",
    ),
    click.option(
        "--jobs",
        type=int,
        help="Number of pictures enhanced at the same time [default: number of cores, at most 8].",
    ),
    click.option(
        "--compare",
        "comparisons",
        help="Folder (for one picture also a file) for comparisons: input and result side by side (clips have"
        " --preview instead).",
    ),
)


@dataclass(frozen=True)
class ModelArguments:
    """The model and the size of results; see `Options`."""

    model: str | None
    scale: float | None
    width: int | None
    height: int | None
    chroma: str
    wrap: bool
    self_ensemble: bool
    strength: float
    tile: int
    memory: str | None
    input_size: "InputSize | None"

    def options(self, running: RuntimeArguments) -> "Options":
        """These arguments as checked `Options`. running: the arguments of the runtime."""
        from onebranch.enhancer.options import Options
        from onebranch.runtime.memory import parse_bytes

        values = {**vars(self), **vars(running)}
        values["memory"] = None if self.memory is None else parse_bytes(self.memory)
        values["input_size"] = None if self.input_size is None else self.input_size.numbers
        return Options(**values)


model_options = option_group(
    "network",
    ModelArguments,
    click.option(
        "-m",
        "--model",
        help="Name of a shipped model, a model file, or any ONNX file [default: by the scale].",
    ),
    click.option("--scale", type=float, help="Scale factor of both sides [default: the model's own]."),
    click.option("--width", type=int, help="Width of the result in pixels; alone it keeps the proportions."),
    click.option(
        "--height", type=int, help="Height of the result in pixels; alone it keeps the proportions."
    ),
    click.option(
        "--chroma",
        default="bicubic",
        show_default=True,
        help="Interpolation of chroma for luma models: bicubic or bilinear.",
    ),
    click.option(
        "--wrap", is_flag=True, help="The picture is a seamless texture that continues on the opposite side."
    ),
    click.option(
        "--self-ensemble",
        is_flag=True,
        help="Average the results for eight flips and rotations of the picture; takes eight times as long.",
    ),
    click.option(
        "--strength",
        type=float,
        default=1.0,
        show_default=True,
        help="Blend the network's result (1) with the plainly resized picture (0).",
    ),
    click.option(
        "--tile",
        type=int,
        default=0,
        help="Side length of tiles in pixels of the input; 0: chosen by the memory limit [default: 0].",
    ),
    click.option(
        "--memory",
        help="Memory limit, such as 500M or 2G [default: 512M, or half of the free memory for whole-picture"
        " models].",
    ),
    INPUT_SIZE_OPTION,
)


@dataclass(frozen=True)
class FileArguments:
    """How files are read and written; see `FileOptions` and `Encoding`."""

    overwrite: bool
    keep_times: bool
    max_pixels: int | None
    quality: int | None
    lossless: bool
    subsampling: str
    compression: str
    level: int
    strip: bool
    strip_location: bool

    def file_options(self) -> "FileOptions":
        """These arguments as checked `FileOptions`."""
        from onebranch.enhancer.single_file import FileOptions
        from onebranch.images.encoders.encoding import Encoding
        from onebranch.images.reading import MAX_PIXELS

        encoding = Encoding(**{each.name: getattr(self, each.name) for each in fields(Encoding)})
        max_pixels = MAX_PIXELS if self.max_pixels is None else self.max_pixels
        return FileOptions(encoding, self.overwrite, max_pixels, self.keep_times)


file_options = option_group(
    "files",
    FileArguments,
    click.option("--overwrite", is_flag=True, help="Replace results that exist."),
    click.option("--keep-times", is_flag=True, help="Keep the modification times of the pictures."),
    MAX_PIXELS_OPTION,
    click.option(
        "--quality",
        type=int,
        help="Quality of JPEG, WebP and AVIF, 1 to 100 [default: JPEG and WebP 95, AVIF 90].",
    ),
    click.option("--lossless", is_flag=True, help="Write lossless WebP and AVIF."),
    click.option(
        "--subsampling",
        default="auto",
        show_default=True,
        help="Chroma of JPEG and AVIF: 444, 420, or auto (444 from quality 90 up).",
    ),
    click.option(
        "--compression", default="deflate", show_default=True, help="TIFF compression: none, lzw or deflate."
    ),
    click.option(
        "--level", type=int, default=1, show_default=True, help="PNG compression: 0 (fast) to 9 (small)."
    ),
    click.option(
        "--strip", is_flag=True, help="Remove all metadata; colour profiles and languages are kept."
    ),
    click.option("--strip-location", is_flag=True, help="Remove geographic locations."),
)


@click.command("enhance")
@click.argument("pictures", nargs=-1, metavar="PICTURE...")
@click.option(
    "-o",
    "--out",
    required=True,
    help="Output folder; or, for one picture, a file name with a suffix or - for standard output.",
)
@click.option(
    "--list",
    "listing",
    help="File with the names of pictures, newline- or NUL-separated; - is standard input.",
)
@batch_options
@model_options
@runtime_options
@file_options
@video_options
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Enhance on the Ray cluster with this address, such as 10.0.0.1:6379; local: this machine.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one object per line for each picture, and a summary."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
def command(
    pictures: tuple[str, ...],
    out: str,
    listing: str | None,
    batch: BatchArguments,
    network: ModelArguments,
    running: RuntimeArguments,
    files: FileArguments,
    clips: VideoArguments,
    cluster: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Enhance pictures, clips or whole folders. The model determines whether they are upscaled, downscaled or
    denoised.

    Without --model, the scale factor selects it: restore-x2 up to 2, restore-x4 up to 4, and several models
    one after the other above 4. Sizes in between (--scale, --width, --height) are reached by resampling after
    the model. Luma models (colour y) process brightness only: chroma is interpolated, or unchanged if the
    size is. --model can also be PyTorch weights, or any ONNX file with one input and one output of shape
    (1, C, H, W), luma (C = 1) or RGB (C = 3), with values in [0, 1].

    Clips (mp4, mov, mkv, webm, ts and others) need PyAV: pip install 'onebranch[video]'. Without --model they
    take photo-x2-int8 or photo-x4-int8, which are fast; --model restore-luma-x2-int8 suits strongly
    compressed clips. With --format y4m, standard input and output are uncompressed clips.

    A PICTURE is a file, a folder, a quoted pattern such as 'in/**/*.jpg', a URL such as s3://bucket/in, or -
    for standard input; --out can be a URL, too. Pictures that fail are reported, the others are enhanced. The
    exit code is 0 if all succeeded, 1 if some failed, 2 if nothing was started, 130 after Ctrl-C or SIGTERM.
    """
    # Set before numpy is imported, which is used for small products only: more BLAS threads would busy-wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    to_stdout = out == STANDARD_STREAM
    if to_stdout:
        _check_standard_output(batch, as_json)
    if is_y4m_pipe(out, batch.file_format):
        if dry_run or listing:
            raise click.UsageError("-o - --format y4m writes one clip: it takes neither --dry-run nor --list")
        clips.pipe(pictures, network.options(running))
        return
    paths = _paths(pictures, listing)
    check_streams(paths, out, cluster)
    output = _Output(as_json, quiet or (to_stdout and not dry_run))
    with stream_files(paths, out, batch.file_format) as streams:
        output.screen.rename = renamed_urls(streams, out)
        mixed = clips.mixed_files(batch.resume, batch.file_format, output.screen.clip_progress)
        if to_stdout or mixed.suffix:
            batch = replace(batch, file_format=None)
        request = _Request(
            streams.paths,
            streams.out,
            network.options(running),
            files.file_options(),
            replace(batch.batch_options(), other=mixed.other_files()),
            mixed,
            cluster,
        )
        begin = time.perf_counter()
        summary = request.run(output, dry_run)
    output.report.summary(summary, time.perf_counter() - begin)
    if output.verbose and summary.done:
        _print_why_no_engine(running, network.model)
    if summary.failed:
        sys.exit(1)


class _Output:
    """The screen and the report of the command. verbose: text output that is not limited to failures."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        from onebranch.cli.enhance_report import JsonReport, TextReport
        from onebranch.cli.enhance_screen import Screen

        self.screen = Screen(sys.stderr.isatty() and not quiet)
        self.report = JsonReport(self.screen) if as_json else TextReport(self.screen, quiet)
        self.verbose = not (quiet or as_json)


def _check_standard_output(batch: BatchArguments, as_json: bool) -> None:
    """Raise OnebranchError for options that cannot be used with a result on standard output."""
    excluded = {
        "--json": as_json,
        "--name": batch.name,
        "--resume": batch.resume,
        "--shard": batch.shard,
        "--compare": batch.comparisons,
    }
    given = [option for option, value in excluded.items() if value]
    if given:
        raise OnebranchError(f"{given[0]} cannot be used with standard output (-o -)")


@dataclass(frozen=True)
class _Request:
    """The arguments of `enhance_files` and `preview_files`."""

    paths: Sequence[str]
    out: str
    options: "Options"
    files: "FileOptions"
    batch: "BatchOptions"
    mixed: "MixedFiles"
    cluster: str | None

    def run(self, output: _Output, dry_run: bool) -> "Summary":
        """Enhance the pictures, or report what that would do; after an interrupt, exit with code 130."""
        from onebranch.cli.enhance_report import count_files
        from onebranch.enhancer.batch import Done, Outcome
        from onebranch.enhancer.folders import BatchObserver, enhance_files, preview_files

        screen, report, done = output.screen, output.report, list[Done]()

        def started(count: int, left_out: Sequence[str]) -> None:
            screen.started(count)
            report.started(count, left_out)

        def finished(outcome: Outcome) -> None:
            if isinstance(outcome, Done):
                done.append(outcome)
            screen.finished(outcome)
            report.finished(outcome)

        arguments = self.paths, self.out, self.options, self.files
        batch, observer = self.batch, BatchObserver(started, screen.progress, finished)
        try:
            with screen, _interrupted_by_sigterm():
                if self.cluster is not None or any(map(has_scheme, (*self.paths, self.out))):
                    return self._run_elsewhere(observer, dry_run)
                if dry_run:
                    return preview_files(
                        *arguments, batch=batch, observer=observer, preview=self.mixed.preview
                    )
                return enhance_files(*arguments, batch=batch, observer=observer, enhance=self.mixed.enhance)
        except KeyboardInterrupt as interrupt:
            left = f"; {interrupt}" if str(interrupt) else ""
            screen.print_error(f"stopped; {count_files(done)} enhanced, none is half-written{left}")
            sys.exit(130)

    def _run_elsewhere(self, observer: "BatchObserver", dry_run: bool) -> "Summary":
        """Enhance the pictures on a cluster, or those at URLs."""
        from onebranch.cluster.cluster_batch import enhance_on_cluster
        from onebranch.video.progress import report_nothing

        mixed = replace(self.mixed, report=report_nothing)  # a screen cannot be sent to other machines
        return enhance_on_cluster(
            self.paths,
            self.out,
            self.options,
            self.files,
            address=self.cluster,
            batch=replace(self.batch, other=mixed.other_files()),
            observer=observer,
            enhance=mixed.enhance,
            preview=mixed.preview,
            dry_run=dry_run,
            clips=mixed,
        )


def _paths(pictures: Sequence[str], listing: str | None) -> list[str]:
    """The pictures that are named, and those of the list."""
    if listing is None:
        return list(pictures)
    paths = [*pictures, *_read_list(listing)]
    if listing == STANDARD_STREAM and STANDARD_STREAM in paths:
        raise OnebranchError("standard input is the list (--list -), so it cannot also be a picture (-)")
    return paths


def _read_list(listing: str) -> list[str]:
    """The paths in the file that --list names, or in standard input for "-"."""
    from onebranch.enhancer.inputs import parse_list

    try:
        content = sys.stdin.buffer.read() if listing == STANDARD_STREAM else Path(listing).read_bytes()
    except OSError as error:
        raise OnebranchError(f"cannot read the list '{listing}': {error.strerror}") from None
    return parse_list(content)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that no temporary files are left."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_why_no_engine(running: RuntimeArguments, model: str | None) -> None:
    from onebranch.model.third_party import is_third_party_file
    from onebranch.runtime.selection import engine_missing

    is_checked = running.device == "cpu" and not (model and is_third_party_file(model))
    if is_checked and (reason := engine_missing(running.runtime)):
        click.echo(f"  the engine was not used: {reason}")
