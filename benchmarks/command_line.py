"""`python -m benchmarks`: one command per benchmark; none starts while the training queue runs."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.tables import (
    print_commands,
    print_end_to_end,
    print_inference,
    print_published,
    print_quality,
    print_scaling,
    print_sets,
    print_table,
    print_targets,
    print_video,
)
from benchmarks.training_queue import refuse_while_training
from onebranch.bench import busy_warning
from onebranch.cli.bench import parse_size
from onebranch.errors import OnebranchError, nearest
from onebranch.runtime.cores import cores

if TYPE_CHECKING:
    from benchmarks.inference import InferenceSettings
    from benchmarks.merging import MergedFileRow
    from benchmarks.targets import Target


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _rounds(default: int) -> Decorator:
    return click.option("--rounds", default=default, show_default=True, type=click.IntRange(1))


_threads: Decorator = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of every runtime.  [default: all cores]"
)
_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_precision: Decorator = click.option(
    "--precision", "precisions", multiple=True, help="fp32, bf16 or int8; may be repeated.  [default: all]"
)


UNTIMED = ("resumed-clip", "clip-sheet")
"""Commands that measure no time."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.pass_context
def benchmarks(context: click.Context) -> None:
    """Compare onebranch with other programs and with the project's goals, on an idle machine."""
    if context.invoked_subcommand not in UNTIMED:
        refuse_while_training()


@benchmarks.command("inference")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="photo-x2, leaky-x2, photo-x4, rgb-10x32-x2, rgb-10x32-x4, y-16x64-x2, y-16x64-x4, a preset, or all;"
    " may be repeated.  [default: all except the wide x4]",
)
@click.option("--runtime", "runtimes", multiple=True, help="torch, onnxruntime, openvino or engine.")
@_precision
@click.option("--size", default="540x960", show_default=True, metavar="HEIGHTxWIDTH")
@_rounds(5)
@_threads
@click.option("--data", help="Folder of pictures on which the loss of bf16 and int8 is measured.")
@click.option("--no-memory", is_flag=True, help="Do not measure memory and first run in new processes.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Plot the times.")
@_json
def inference_command(
    networks: tuple[str, ...],
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    size: str,
    rounds: int,
    threads: int | None,
    data: str | None,
    no_memory: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Time networks, unmerged and merged, in every runtime and precision, and RGB bytes to RGB bytes.

    Prints milliseconds, megapixels of output per second, the share of the machine's measured peak, memory,
    first run, loss of quality, and the project's goals.
    """
    from benchmarks.configurations import select_configurations, threads_or_all
    from benchmarks.inference import InferenceSettings
    from benchmarks.networks import select_networks
    from benchmarks.plots import check
    from onebranch.images.folders import find_pictures

    configurations, names = select_configurations(runtimes, precisions), select_networks(networks)
    if plot:
        check(plot)
    if data:
        find_pictures(data)
    settings = InferenceSettings(parse_size(size), rounds, threads_or_all(threads), data, not no_memory)
    _run_inference(names, configurations, precisions, settings, plot, as_json)


def _run_inference(
    names: Sequence[str],
    configurations: Sequence[Any],
    precisions: tuple[str, ...],
    settings: "InferenceSettings",
    plot: Path | None,
    as_json: bool,
) -> None:
    from rich.console import Console

    from benchmarks import end_to_end, inference, targets
    from benchmarks.plots import save

    notes = busy_warning()
    with Console(stderr=True).status("starting") as status:
        result = inference.compare(names, configurations, settings, status.update)
        rows: list[end_to_end.EndToEndRow] = []
        skipped: list[str] = []
        if any(each.runtime == "engine" for each in configurations):
            status.update("end to end")
            rows, skipped = end_to_end.compare(
                settings.size, settings.rounds, settings.threads, precisions, settings.pacing
            )
    goals = targets.inference_targets(result.rows, rows)
    notes += [*result.notes, *skipped]
    height, width = settings.size
    title = f"{width}x{height}, {_threads_text(settings.threads)}, medians of {settings.rounds} rounds"
    if plot:
        save(result.rows, f"{title}; in brackets: times faster than ONNX Runtime", plot)
    if as_json:
        _print_json(
            {
                "size": settings.size,
                "rounds": settings.rounds,
                "threads": settings.threads,
                "peaks": dict(result.peaks),
                "rows": [row.as_json() for row in result.rows],
                "end_to_end": [asdict(row) for row in rows],
                "goals": [_target_json(target) for target in goals],
                "notes": notes,
            }
        )
        return
    print_inference(result, title)
    if rows:
        print_end_to_end(
            rows, f"RGB bytes {width}x{height} to {2 * width}x{2 * height}: photo-x2, bicubic chroma"
        )
    print_targets(goals)
    _print_lines(notes)


@benchmarks.command("quality")
@click.option("--size", default="540x960", show_default=True, metavar="HEIGHTxWIDTH")
@_rounds(5)
@_threads
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Plot PSNR against time.")
@_json
def quality_command(size: str, rounds: int, threads: int | None, plot: Path | None, as_json: bool) -> None:
    """PSNR on Set14 x2 against the time of a frame: our models, the literature's networks, plain resizing.

    Networks of the literature have random weights, which take the same time, and the scores that were
    published for them.
    """
    from benchmarks.configurations import threads_or_all
    from benchmarks.plots import check
    from benchmarks.quality_plot import save_plot
    from benchmarks.quality_speed import compare, processor_text

    if plot:
        check(plot)
    notes = busy_warning()
    height, width = parse_size(size)
    count = threads_or_all(threads)
    rows = compare((height, width), rounds, count, notes.append)
    title = f"{width}x{height} on {processor_text()}, {_threads_text(count)}, medians of {rounds} rounds"
    if plot:
        save_plot(rows, title, plot)
    if as_json:
        _print_json({"size": [height, width], "rows": [row.as_json() for row in rows], "notes": notes})
        return
    print_quality(rows, title)
    _print_lines(notes)


@benchmarks.command("scaling")
@_precision
@_rounds(5)
@_threads
@_json
def scaling_command(precisions: tuple[str, ...], rounds: int, threads: int | None, as_json: bool) -> None:
    """Measure the engine's cost per pixel and its memory from small to huge pictures."""
    from rich.console import Console

    from benchmarks import scaling, targets
    from benchmarks.configurations import threads_or_all
    from onebranch.runtime.engine_library import available
    from onebranch.runtime.selection import PRECISIONS, check_precision

    for precision in precisions:
        check_precision(precision)
    if missing := available():
        raise OnebranchError(f"scaling measures the engine: {missing}")
    selected, count, notes = (
        list(dict.fromkeys(precisions)) or PRECISIONS,
        threads_or_all(threads),
        busy_warning(),
    )
    with Console(stderr=True).status("cost per pixel") as status:
        costs = scaling.costs(scaling.EDGES, selected, rounds, count)
        small = scaling.small_pictures(selected, rounds, count)
        memories = scaling.memories(selected, count, report=status.update)
    goals = targets.scaling_targets(costs, small, memories)
    if as_json:
        _print_json(
            {
                "rounds": rounds,
                "threads": count,
                "scaling": [asdict(cost) for cost in costs],
                "small_pictures": [asdict(each) for each in small],
                "memory": [asdict(memory) for memory in memories],
                "goals": [_target_json(target) for target in goals],
                "notes": notes,
            }
        )
        return
    threads_text = _threads_text(count)
    title = f"Nanoseconds per input pixel: photo-x2, RGB bytes to RGB bytes, streamed, {threads_text}"
    print_scaling(costs, small, memories, title)
    print_targets(goals)
    _print_lines(notes)


@benchmarks.command("sets")
@click.option("--set", "sets", multiple=True, help="Instruction set; may be repeated.  [default: all here]")
@click.option("--shape", "shapes", multiple=True, help="4 x 16, 10 x 32 or 16 x 64.  [default: all]")
@click.option("--size", default="540x960", show_default=True, metavar="HEIGHTxWIDTH")
@_rounds(5)
@_threads
@_json
def sets_command(
    sets: tuple[str, ...],
    shapes: tuple[str, ...],
    size: str,
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time the engine in every instruction set of this machine, in fp32 and int8, and its peers.

    OpenVINO is held to the same instruction set in a process of its own; ONNX Runtime is not restricted.
    """
    from rich.console import Console

    from benchmarks import instruction_sets
    from benchmarks.configurations import threads_or_all
    from onebranch.runtime.engine_library import available

    selected = list(dict.fromkeys(shapes)) or list(instruction_sets.NETWORKS)
    for shape in selected:
        if shape not in instruction_sets.NETWORKS:
            raise OnebranchError(f"unknown shape '{shape}'; {nearest(shape, instruction_sets.NETWORKS)}")
    if missing := available():
        raise OnebranchError(f"sets measures the engine: {missing}")
    settings = instruction_sets.SetSettings(parse_size(size), rounds, threads_or_all(threads))
    notes = busy_warning()
    with Console(stderr=True).status("starting") as status:
        rows = instruction_sets.compare(selected, sets, settings, status.update)
    goals = instruction_sets.goals(rows)
    if as_json:
        _print_json(
            {
                **asdict(settings),
                "rows": [row.as_json() for row in rows],
                "goals": [_target_json(target) for target in goals],
                "notes": notes,
            }
        )
        return
    height, width = settings.size
    shown = f"{width}x{height}, {_threads_text(settings.threads)}, medians of {rounds} interleaved rounds"
    print_sets(rows, f"Milliseconds in every instruction set: {shown}")
    print_targets(goals, "Goals")
    _print_lines(notes)


@benchmarks.command("published")
@click.option("--network", "networks", multiple=True, help="May be repeated.  [default: all]")
@click.option("--size", default="360x640", show_default=True, metavar="HEIGHTxWIDTH")
@_rounds(5)
@_threads
@click.option("--no-memory", is_flag=True, help="Do not measure memory in new processes.")
@_json
def published_command(
    networks: tuple[str, ...], size: str, rounds: int, threads: int | None, no_memory: bool, as_json: bool
) -> None:
    """Time networks of the literature in the engine, ONNX Runtime and OpenVINO, in fp32; their memory.

    Weights are random, which takes the same time. Prints medians, ratios within each round, peak memory of
    the first run in a process of its own, and the project's goals.
    """
    from rich.console import Console

    from benchmarks import published_speed
    from benchmarks.configurations import threads_or_all
    from benchmarks.quality_speed import processor_text

    names, count, notes = published_speed.select_published(networks), threads_or_all(threads), busy_warning()
    settings = published_speed.PublishedSettings(parse_size(size), rounds, count, not no_memory)
    with Console(stderr=True).status("starting") as status:
        rows = published_speed.compare(names, settings, status.update)
    goals = published_speed.goals(rows)
    if as_json:
        values = {"size": settings.size, "rounds": rounds, "threads": count, "processor": processor_text()}
        results = {"rows": [row.as_json() for row in rows], "goals": [_target_json(goal) for goal in goals]}
        _print_json({**values, **results, "notes": notes})
        return
    height, width = settings.size
    shown = f"{width}x{height}, fp32, {_threads_text(count)}, medians of {rounds} interleaved rounds"
    print_published(rows, f"{shown}, {processor_text()}")
    print_targets(goals)
    _print_lines(notes)


@benchmarks.command("commands")
@click.argument("folder", type=click.Path(path_type=Path))
@_rounds(5)
@_threads
@_json
def commands_command(folder: Path, rounds: int, threads: int | None, as_json: bool) -> None:
    """Time `onebranch enhance` on the pictures of FOLDER and on one of 24 megapixels.

    Also times encoders and the steps of a cold start.
    """
    from rich.console import Console

    from benchmarks import commands
    from benchmarks.configurations import threads_or_all

    count, notes = threads_or_all(threads), busy_warning()
    with Console(stderr=True).status("starting") as status:
        result = commands.compare(folder, rounds, count, status.update)
    if as_json:
        goals = [_target_json(target) for target in result.targets()]
        _print_json({"rounds": rounds, "threads": count, **asdict(result), "goals": goals, "notes": notes})
        return
    print_commands(result, f"{_threads_text(count)}, medians of {rounds} interleaved rounds")
    print_targets(result.targets())
    _print_lines(notes)


@benchmarks.command("cluster")
@click.option("--pictures", default=24, show_default=True, type=click.IntRange(4))
@click.option("--megapixels", default=4.0, show_default=True, type=click.FloatRange(1))
@_json
def cluster_command(pictures: int, megapixels: float, as_json: bool) -> None:
    """Time `onebranch enhance --cluster` on one and two Ray nodes of one core each, with local folders.

    Also prints the share of the processor time that the driver and Ray use.
    """
    from rich.console import Console

    from benchmarks import cluster

    notes = busy_warning()
    with Console(stderr=True).status("starting") as status:
        rows = cluster.compare(pictures, megapixels, status.update)
    if as_json:
        measured = [{**asdict(row), "rate": row.rate, "overhead": row.overhead} for row in rows]
        targets = [_target_json(target) for target in cluster.goals(rows)]
        _print_json({"megapixels": megapixels, "rows": measured, "goals": targets, "notes": notes})
        return
    print_table(
        f"{pictures} JPEG files of {megapixels:g} megapixels with {cluster.MODEL}, each node on one core",
        ("nodes", "pictures/s", "workers, CPU s", "driver", "Ray", "share of driver and Ray"),
        [
            (
                str(row.nodes),
                f"{row.rate:.2f}",
                f"{row.workers:.1f}",
                f"{row.driver:.1f}",
                f"{row.ray:.1f}",
                f"{100 * row.overhead:.1f} %",
            )
            for row in rows
        ],
    )
    print_targets(cluster.goals(rows))
    _print_lines(notes)


@benchmarks.command("merging")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE.onnx]...")
@click.option("--size", default="224x224", show_default=True, help="Height and width of dynamic inputs.")
@_rounds(30)
@_threads
@_json
def merging_command(
    files: tuple[Path, ...], size: str, rounds: int, threads: int | None, as_json: bool
) -> None:
    """Time ONNX files in ONNX Runtime before and after merging.

    Without files it exports networks of timm and spandrel.
    """
    from benchmarks.merging import compare

    if files:
        rows = compare(files, parse_size(size), rounds, threads)
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
        from benchmarks.external_networks import export_networks

        with tempfile.TemporaryDirectory() as folder:
            rows = compare(export_networks(Path(folder)), parse_size(size), rounds, threads)
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    print_table(
        f"ONNX Runtime, its optimizer fully enabled for both, medians of {rounds} interleaved rounds",
        ("model", "input", "convolutions", "parameters", "MACs", "before", "after", "speedup"),
        [_merging_cells(row) for row in rows],
    )


def _merging_cells(row: "MergedFileRow") -> tuple[str, ...]:
    return (
        row.model,
        ", ".join("x".join(map(str, shape)) for shape in row.shapes),
        f"{row.convolutions[0]} -> {row.convolutions[1]}",
        f"{short(row.parameters[0])} -> {short(row.parameters[1])}",
        f"{short(row.macs[0])} -> {short(row.macs[1])}",
        f"{row.milliseconds[0]:.1f} ms",
        f"{row.milliseconds[1]:.1f} ms",
        f"{row.speedup:.2f} x",
    )


@benchmarks.command("training")
@_rounds(20)
@_json
def training_command(rounds: int, as_json: bool) -> None:
    """Time training steps of a plain network and of networks with branches, on one thread."""
    from benchmarks.training_steps import compare

    rows = compare(rounds)
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    print_table(
        "Training on one thread, 16 crops of 48x48 (0.1: 32x32): million low-resolution pixels per second,"
        " their ratios, and time per pixel over that of the plain network",
        (
            "network",
            "version 0.1",
            "merged",
            "compiled",
            "over merged",
            "over 0.1",
            "time over plain",
            "branches",
            "time over plain",
            "bfloat16",
            "over compiled",
        ),
        [
            (
                row.network,
                f"{row.old_megapixels:.3f}",
                f"{row.merged_megapixels:.3f}",
                f"{row.compiled_megapixels:.3f}",
                f"{row.compiled_speedup:.2f} x",
                f"{row.speedup:.2f} x",
                f"{row.compiled_ratio:.2f}",
                f"{row.branches_megapixels:.3f}",
                f"{row.branches_ratio:.2f}",
                f"{row.bfloat16_megapixels:.3f}",
                f"{row.bfloat16_speedup:.2f} x",
            )
            for row in rows
        ],
    )


@benchmarks.command("evaluation")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="photo-x2", show_default=True)
@_rounds(5)
@_threads
@_json
def evaluation_command(folder: Path, model: str, rounds: int, threads: int | None, as_json: bool) -> None:
    """Time `onebranch evaluate` on the pictures of FOLDER beside its former definition, interleaved.

    Exits with 1 if a score differs by more than 1e-9.
    """
    from benchmarks.evaluation import MAX_DIFFERENCE, compare

    notes, times = busy_warning(), compare(folder, model, rounds, threads)
    if as_json:
        _print_json({**asdict(times), "speedup": times.speedup, "notes": notes})
    else:
        rows = [(name, f"{seconds:.2f} s") for name, seconds in times.seconds.items()]
        print_table(f"evaluate {model} on {folder.name}", ("SSIM and pictures", "time"), rows)
        difference = f"largest difference of a score: {times.difference:.1e} (at most {MAX_DIFFERENCE:.0e})"
        _print_lines([f"{times.speedup:.2f} times as fast; {difference}", *notes])
    if times.difference > MAX_DIFFERENCE:
        sys.exit(1)


@benchmarks.command("huge-picture")
@click.option("--width", default=30_000, show_default=True, help="Of the input, in pixels.")
@click.option("--height", default=20_000, show_default=True, help="Of the input, in pixels.")
@click.option("--suffix", default=".tif", show_default=True, help="File format of input and result.")
@click.option("--memory", help="The option --memory of the command.")
@click.option("--model", default="photo-x2", show_default=True)
def huge_picture_command(width: int, height: int, suffix: str, memory: str | None, model: str) -> None:
    """Measure time and peak memory of `onebranch enhance` on one huge picture."""
    from benchmarks.huge_picture import enhance_huge_picture

    result = enhance_huge_picture(width, height, suffix, model, memory)
    click.echo(
        f"{width}x{height} -> {result.output_size[0]}x{result.output_size[1]} {suffix}"
        f" ({result.input_megabytes:,.0f} -> {result.output_megabytes:,.0f} MB): {result.seconds:.0f} s,"
        f" at most {result.peak_megabytes:.0f} MB resident"
    )


@benchmarks.command("video")
@click.option("--frames", default=72, show_default=True, type=click.IntRange(2), help="Frames of each clip.")
@click.option("--model", default="photo-x2-int8", show_default=True)
@click.option(
    "--preset", "presets", multiple=True, help="Of x264; may be repeated.  [default: veryfast, medium]"
)
@click.option(
    "--pictures", type=click.Path(path_type=Path), help="Folder with a picture that the clips show."
)
@_threads
@_json
def video_command(
    frames: int,
    model: str,
    presets: tuple[str, ...],
    pictures: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure frames/s and the share of each stage on clips of 960x540, beside bicubic and Lanczos."""
    from benchmarks.video import measure, video_targets

    selected = presets or ("veryfast", "medium")
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), frames, model, selected, pictures, threads))
    goals, notes = video_targets(rows), busy_warning()
    if as_json:
        values = {"rows": [asdict(row) | {"allowed": row.allowed} for row in rows], "notes": notes}
        _print_json(values | {"goals": [_target_json(target) for target in goals]})
        return
    print_video(rows, f"Clips of 960x540, {frames} frames, h264, {_threads_text(threads or cores())}")
    print_targets(goals)
    _print_lines(notes)


@benchmarks.command("resumed-clip")
@click.option(
    "--frames", default=28_800, show_default=True, type=click.IntRange(960), help="Of the clip, 24 a second."
)
@click.option(
    "--kills", default=4, show_default=True, type=click.IntRange(1, 7), help="How often it is killed."
)
@click.option(
    "--pictures",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with photographs that it shows.",
)
@_json
def resumed_clip_command(frames: int, kills: int, pictures: Path, as_json: bool) -> None:
    """Kill a run over a clip of 20 minutes and resume it; compare it with a run without interruption."""
    from benchmarks.long_clip import compare_resumed

    with tempfile.TemporaryDirectory() as folder:
        result = compare_resumed(Path(folder), pictures, frames, kills)
    if as_json:
        _print_json(asdict(result))
    else:
        _print_lines(result.lines())
    if not result.is_same:
        sys.exit(1)


@benchmarks.command("tracing")
@_rounds(3)
@_json
def tracing_command(rounds: int, as_json: bool) -> None:
    """Processor time of tracing and merging modules of many branches, beside one plain torch.export."""
    from benchmarks.tracing import measure, report, targets

    rows = measure(rounds)
    if as_json:
        _print_json([asdict(row) for row in rows])
    else:
        _print_lines(report(rows))
        print_targets(targets(rows), "Goals")


@benchmarks.command("clip-sheet")
@click.option(
    "--pictures",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with photographs of at least 640x360 that the clip shows.",
)
@click.option(
    "--frames", default=240, show_default=True, type=click.IntRange(2), help="Of the clip, 24 a second."
)
@click.option("--model", default="photo-x2-int8", show_default=True)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw some of the frames."
)
@_json
def clip_sheet_command(pictures: Path, frames: int, model: str, output: Path | None, as_json: bool) -> None:
    """Enhance a clip of moving photographs, compare every frame with the original view, and draw some."""
    from benchmarks.clip_sheet import draw, measure_clip, report

    sheet = measure_clip(pictures, frames, model)
    if as_json:
        _print_json([asdict(frame) for frame in sheet.frames])
    else:
        _print_lines(report(sheet))
    if output:
        draw(sheet, output)


@benchmarks.command("platforms")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Picture to enhance.  [default: the demo's photograph]"
)
@_rounds(5)
@_json
def platforms_command(picture: Path | None, rounds: int, as_json: bool) -> None:
    """Compare the command line, Python, service, WebAssembly and shader: differences, bytes, milliseconds."""
    from benchmarks.platforms import measure_platforms, report
    from onebranch.demo import DEMO_PHOTOGRAPH
    from onebranch.images.reading import read

    pixels = read(str(picture or DEMO_PHOTOGRAPH)).pixels[..., :3]
    rows, notes = measure_platforms(pixels, rounds), busy_warning()
    if as_json:
        _print_json({"rows": [asdict(row) for row in rows], "notes": notes})
    else:
        _print_lines([*report(rows, pixels.shape[:2]), *notes])


@benchmarks.command("browser")
@_rounds(7)
@_json
def browser_command(rounds: int, as_json: bool) -> None:
    """Compare the engine with onnxruntime-web in Chromium; the page's longest task for 24 megapixels."""
    from benchmarks.browser import compare, large_picture, report

    rows, large = compare(rounds), large_picture()
    if as_json:
        _print_json({"rows": [asdict(row) for row in rows], "large_picture": asdict(large)})
    else:
        _print_lines(report(rows, large))


def short(number: int) -> str:
    """The number with three digits and its unit.

    >>> short(9_108_968), short(999)
    ('9.11 M', '999')
    """
    for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)


def _threads_text(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _target_json(target: "Target") -> dict[str, Any]:
    return {**asdict(target), "unit": target.unit.strip(), "met": target.met}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)


def main() -> None:
    """Run a benchmark; a mistake of the user is one line and exit code 2."""
    try:
        benchmarks(prog_name="python -m benchmarks", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OnebranchError as error:
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
