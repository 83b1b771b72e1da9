"""`onebranch bench`: what merging saves on this machine."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from onebranch.errors import OnebranchError


@click.command("bench")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE.onnx]...")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="photo-x2, or a preset [photo-x2, patent]; not with files or --training.",
)
@click.option(
    "--size", help="Height and width for files that leave them open, such as 224x224.  [default: 224x224]"
)
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Rounds that are counted; at least 20 with --training.",
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of every runtime [all cores]; training: one."
)
@click.option("--training", is_flag=True, help="Time training steps instead: plain, merged, branches.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    networks: tuple[str, ...],
    size: str | None,
    rounds: int,
    threads: int | None,
    training: bool,
    as_json: bool,
) -> None:
    """Time unmerged against merged networks, in one interleaved run.

    Without files: networks of onebranch's own on a 960x540 picture. With ONNX files: each is merged by its
    graph and timed in ONNX Runtime, whose own optimizer runs in full on both forms.
    """
    if bool(files) + bool(networks) + training > 1:
        raise OnebranchError("bench takes files, --network or --training; give one of them")
    if size is not None and not files:
        raise OnebranchError("--size is for ONNX files; give at least one, as in: onebranch bench model.onnx")
    if training:
        from onebranch.cli.requirement import require_torch

        require_torch("bench --training")
        _print_steps(rounds, as_json)
    elif files:
        _print_files(files, _height_and_width(size or "224x224"), rounds, threads, as_json)
    else:
        _print_inference(list(networks) or ["photo-x2", "patent"], rounds, threads, as_json)


def _height_and_width(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise OnebranchError(f"--size is HEIGHTxWIDTH, such as 224x224, not '{text}'")
    return int(match[1]), int(match[2])


def _print_inference(networks: list[str], rounds: int, threads: int | None, as_json: bool) -> None:
    from onebranch.bench.inference import HEIGHT, WIDTH, compare

    rows = compare(networks, rounds, threads)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    _print_table(
        f"{WIDTH}x{HEIGHT} to {2 * WIDTH}x{2 * HEIGHT}, medians of {rounds} interleaved rounds",
        ("network", "runtime", "unmerged", "merged", "faster", "parameters", "MACs a pixel"),
        [
            (
                row.network,
                row.runtime,
                f"{row.unmerged_ms:.0f} ms",
                f"{row.merged_ms:.0f} ms",
                f"{row.faster:.1f} x",
                f"{row.parameters[0]:,} -> {row.parameters[1]:,}",
                f"{row.macs[0]:,} -> {row.macs[1]:,}",
            )
            for row in rows
        ],
    )


def _print_files(
    files: Sequence[Path], size: tuple[int, int], rounds: int, threads: int | None, as_json: bool
) -> None:
    from onebranch.bench.merging import compare

    rows = compare(files, size, rounds, threads)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    _print_table(
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
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    _print_table(
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


NAMED = ("network", "runtime", "model", "input")
"""Columns of text; the others hold numbers."""

WIDE = 140
"""Characters of a line that goes into a file or to another program."""


def _print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in headings:
        named = heading in NAMED
        table.add_column(heading, justify="left" if named else "right", no_wrap=named)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:  # a file has no edge at which to break
        console.width = max(console.width, WIDE)
    console.print(table)
