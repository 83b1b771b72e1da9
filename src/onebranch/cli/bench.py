"""`onebranch bench`: how fast networks are on this machine, in every runtime that is installed."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onebranch.cli.bench_tables import (
    print_path,
    print_pictures,
    print_result,
    print_scaling,
    print_table,
    print_targets,
)
from onebranch.errors import OnebranchError

if TYPE_CHECKING:
    from onebranch.bench.inference import Settings

BUSY = 0.5
"""Other processes' share of the cores from which the machine is called busy."""


@click.command("bench")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE.onnx]...")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="photo-x2, leaky-x2, photo-x4, rgb-10x32-x2, rgb-10x32-x4, y-16x64-x2, y-16x64-x4, a preset, or all"
    " [all but the wide x4].",
)
@click.option("--runtime", "runtimes", multiple=True, help="torch, onnxruntime, openvino or engine [all].")
@click.option("--precision", "precisions", multiple=True, help="fp32, bf16 or int8 [all].")
@click.option(
    "--size",
    help="Height and width of the picture, for files where they leave them open.  [default: 540x960; files:"
    " 224x224]",
)
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Rounds that are counted; at least 20 with --training.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of every runtime [all cores]; training: one."
)
@click.option("--data", help="Measure what bf16 and int8 lose on the pictures in this folder.")
@click.option("--no-memory", is_flag=True, help="Leave out memory and first call: a process for each row.")
@click.option("--scaling", is_flag=True, help="Measure the engine on small and huge pictures instead.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Time `enhance` on the pictures of a folder and on one of 24 megapixels instead.",
)
@click.option("--training", is_flag=True, help="Time training steps instead: plain, merged, branches.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the times, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    networks: tuple[str, ...],
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    size: str | None,
    rounds: int,
    threads: int | None,
    data: str | None,
    no_memory: bool,
    scaling: bool,
    pictures: Path | None,
    training: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Time networks on a 960x540 picture in every runtime and precision, in turns.

    Each network unmerged and merged: milliseconds, megapixels of output a second, share of the machine's
    measured peak, memory, first call, and the loss of quality where it is known; then the whole path beside
    OpenCV, and the project's goals. --scaling: cost per pixel and memory from small to huge pictures. With
    ONNX files: each is merged by its graph and timed in ONNX Runtime, whose own optimizer runs in full on
    both forms. --pictures: whole commands on files beside the network alone, encoders, and a cold start.
    """
    own = {"--runtime": runtimes, "--data": data, "--plot": plot, "--no-memory": no_memory}
    kinds = bool(files), training, scaling, pictures is not None
    _check_options(sum(kinds) + bool(networks), own, any(kinds))
    if size is not None and any(kinds[1:]):
        raise OnebranchError("--size is for networks and ONNX files; leave it out")
    if precisions and (files or training or pictures):
        raise OnebranchError("--precision is for onebranch's own networks; leave it out")
    if training:
        from onebranch.cli.requirement import require_torch

        require_torch("bench --training")
        _print_steps(rounds, as_json)
    elif files:
        _print_files(files, _height_and_width(size or "224x224"), rounds, threads, as_json)
    elif scaling:
        _print_scaling(precisions, rounds, threads, as_json)
    elif pictures:
        _print_pictures(pictures, rounds, threads, as_json)
    else:
        from onebranch.bench.inference import Settings
        from onebranch.bench.ways import threads_or_all

        frame = _height_and_width(size or "540x960")
        settings = Settings(frame, rounds, threads_or_all(threads), data, not no_memory)
        _print_networks(networks, runtimes, precisions, settings, plot, as_json)


def _check_options(kinds: int, own: dict[str, Any], other: bool) -> None:
    """Raise OnebranchError for several kinds of benchmark, and options that belong to another."""
    if kinds > 1:
        raise OnebranchError(
            "bench takes files, --network, --scaling, --pictures or --training; give one of them"
        )
    if other and (given := [name for name, value in own.items() if value]):
        raise OnebranchError(f"{given[0]} is for onebranch's own networks; leave it out")


def _height_and_width(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise OnebranchError(f"--size is HEIGHTxWIDTH, such as 224x224, not '{text}'")
    return int(match[1]), int(match[2])


def _print_networks(
    networks: tuple[str, ...],
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    settings: "Settings",
    plot: Path | None,
    as_json: bool,
) -> None:
    from rich.console import Console

    from onebranch.bench import inference, targets, ways, whole_path
    from onebranch.bench import networks as table
    from onebranch.bench.plot import check, save
    from onebranch.images.folders import find_pictures

    chosen, names = ways.chosen(runtimes, precisions), table.chosen(networks)
    if plot:
        check(plot)
    if settings.data:
        find_pictures(settings.data)
    busy = _busy()
    with Console(stderr=True).status("starting") as status:
        result = inference.compare(names, chosen, settings, status.update)
        path: list[whole_path.PathRow] = []
        left_out: list[str] = []
        if any(way.runtime == "engine" for way in chosen):
            status.update("the whole path")
            path, left_out = whole_path.compare(
                settings.size, settings.rounds, settings.threads, precisions, settings.turns
            )
    goals = targets.of_rows(result.rows, path)
    notes = [*busy, *result.notes, *left_out]
    title = _title(settings)
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
                "whole_path": [asdict(row) for row in path],
                "goals": [_goal(goal) for goal in goals],
                "notes": notes,
            }
        )
        return
    print_result(result, title)
    if path:
        height, width = settings.size
        print_path(
            path,
            f"Whole path, {width}x{height} RGB bytes to {2 * width}x{2 * height}: photo-x2, bicubic chroma",
        )
    print_targets(goals)
    for note in notes:
        click.echo(note)


def _title(settings: "Settings") -> str:
    height, width = settings.size
    threads = _threads_in_words(settings.threads)
    rounds = f"{settings.rounds} interleaved round{'s' * (settings.rounds > 1)}"
    return f"{width}x{height}, {threads}, medians of {rounds}"


def _threads_in_words(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _busy() -> list[str]:
    """A line where other processes take the cores: then no number here means much."""
    if not hasattr(os, "getloadavg"):
        return []
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < BUSY * cores:
        return []
    return [
        f"the machine was busy before this began (load {load:.1f} on {cores} cores): run it again when idle"
    ]


def _goal(goal: Any) -> dict[str, Any]:
    return {**asdict(goal), "unit": goal.unit.strip(), "met": goal.met}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_scaling(precisions: tuple[str, ...], rounds: int, threads: int | None, as_json: bool) -> None:
    from rich.console import Console

    from onebranch.bench import scaling, targets
    from onebranch.bench.ways import threads_or_all
    from onebranch.runtime.engine_library import available
    from onebranch.runtime.selection import PRECISIONS, check_precision

    for precision in precisions:
        check_precision(precision)
    if missing := available():
        raise OnebranchError(f"--scaling measures the engine: {missing}")
    chosen, count, busy = list(dict.fromkeys(precisions)) or PRECISIONS, threads_or_all(threads), _busy()
    with Console(stderr=True).status("cost per pixel") as status:
        scales = scaling.costs(scaling.EDGES, chosen, rounds, count)
        memories = scaling.memories(chosen, count, shown=status.update)
    goals = targets.of_scaling(scales, memories)
    if as_json:
        _print_json(
            {
                "rounds": rounds,
                "threads": count,
                "scaling": [asdict(scale) for scale in scales],
                "memory": [asdict(memory) for memory in memories],
                "goals": [_goal(goal) for goal in goals],
                "notes": busy,
            }
        )
        return
    threads_used = _threads_in_words(count)
    title = f"Nanoseconds for an input pixel: photo-x2, RGB bytes to RGB bytes, streamed, {threads_used}"
    print_scaling(scales, memories, title)
    print_targets(goals)
    for note in busy:
        click.echo(note)


def _print_pictures(folder: Path, rounds: int, threads: int | None, as_json: bool) -> None:
    from rich.console import Console

    from onebranch.bench import pictures
    from onebranch.bench.ways import threads_or_all

    count, busy = threads_or_all(threads), _busy()
    with Console(stderr=True).status("starting") as status:
        result = pictures.compare(folder, rounds, count, status.update)
    if as_json:
        goals = [_goal(goal) for goal in result.targets()]
        _print_json({"rounds": rounds, "threads": count, **asdict(result), "goals": goals, "notes": busy})
        return
    print_pictures(result, f"{_threads_in_words(count)}, medians of {rounds} interleaved rounds")
    print_targets(result.targets())
    for note in busy:
        click.echo(note)


def _print_files(
    files: Sequence[Path], size: tuple[int, int], rounds: int, threads: int | None, as_json: bool
) -> None:
    from onebranch.bench.merging import compare

    rows = compare(files, size, rounds, threads)
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    print_table(
        f"ONNX Runtime, its optimizer in full on both, medians of {rounds} interleaved rounds",
        ("model", "input", "convolutions", "parameters", "MACs", "before", "after", "faster"),
        [
            (
                row.model,
                ", ".join("x".join(map(str, shape)) for shape in row.shapes),
                f"{row.convolutions[0]} -> {row.convolutions[1]}",
                f"{short(row.parameters[0])} -> {short(row.parameters[1])}",
                f"{short(row.macs[0])} -> {short(row.macs[1])}",
                f"{row.milliseconds[0]:.1f} ms",
                f"{row.milliseconds[1]:.1f} ms",
                f"{row.faster:.2f} x",
            )
            for row in rows
        ],
    )


def short(number: int) -> str:
    """Three digits and the unit.

    >>> short(9_108_968), short(999)
    ('9.11 M', '999')
    """
    for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)


def _print_steps(rounds: int, as_json: bool) -> None:
    from onebranch.bench.steps import compare

    rows = compare(max(rounds, 20))
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    print_table(
        "A training step, 16 crops of 32x32, one thread; ratios to plain 3x3 in branches mode",
        ("network", "merged", "ratio", "branches", "ratio"),
        [
            (
                row.network,
                f"{row.merged_ms:.1f} ms",
                f"{row.merged_ratio:.2f}",
                f"{row.branches_ms:.1f} ms",
                f"{row.branches_ratio:.2f}",
            )
            for row in rows
        ],
    )
