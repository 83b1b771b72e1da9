"""`onebranch bench`: what merging saves on this machine."""

import json
from dataclasses import asdict

import click


@click.command("bench")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="photo-x2, or a preset [photo-x2, patent]; not with --training.",
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
    networks: tuple[str, ...], rounds: int, threads: int | None, training: bool, as_json: bool
) -> None:
    """Time unmerged against merged networks on a 960x540 picture, in one interleaved run."""
    if training:
        from onebranch.cli.requirement import require_torch

        require_torch("bench --training")
        _print_steps(rounds, as_json)
    else:
        _print_inference(list(networks) or ["photo-x2", "patent"], rounds, threads, as_json)


def _print_inference(networks: list[str], rounds: int, threads: int | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from onebranch.bench.inference import HEIGHT, WIDTH, compare

    rows = compare(networks, rounds, threads)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table(
        title=f"{WIDTH}x{HEIGHT} to {2 * WIDTH}x{2 * HEIGHT}, medians of {rounds} interleaved rounds"
    )
    for heading in ("network", "runtime", "unmerged", "merged", "faster", "parameters", "MACs a pixel"):
        named = heading in ("network", "runtime")
        table.add_column(heading, justify="left" if named else "right", no_wrap=named)
    for row in rows:
        table.add_row(
            row.network,
            row.runtime,
            f"{row.unmerged_ms:.0f} ms",
            f"{row.merged_ms:.0f} ms",
            f"{row.faster:.1f} x",
            f"{row.parameters[0]:,} -> {row.parameters[1]:,}",
            f"{row.macs[0]:,} -> {row.macs[1]:,}",
        )
    Console().print(table)


def _print_steps(rounds: int, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from onebranch.bench.steps import compare

    rows = compare(max(rounds, 20))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table(
        title="A training step, 16 crops of 32x32, one thread; ratios to plain 3x3 in branches mode"
    )
    for heading in ("network", "merged", "ratio", "branches", "ratio"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for row in rows:
        table.add_row(
            row.network,
            f"{row.merged_ms:.1f} ms",
            f"{row.merged_ratio:.2f}",
            f"{row.branches_ms:.1f} ms",
            f"{row.branches_ratio:.2f}",
        )
    Console().print(table)
