"""`onebranch verify`: prove a merge again, from the two files."""

from typing import TYPE_CHECKING

import click

from onebranch import strict_json
from onebranch.cli.option_groups import INPUT_SIZES_OPTION

if TYPE_CHECKING:
    from onebranch.graph.analysis.valid_sizes import InputSize


@click.command("verify")
@click.argument("original")
@click.argument("merged")
@INPUT_SIZES_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(original: str, merged: str, input_sizes: "tuple[InputSize, ...]", as_json: bool) -> None:
    """Check that MERGED is what its stored plan or rules make of ORIGINAL, and prove every region again.

    Both are shipped models' names, files of onebranch, or ONNX files; the original of an ONNX file can also
    be the PyTorch weights that were merged. Hashes, spec, weights, the proof of every region and the whole
    networks are checked. The first thing that does not hold is named, and the exit code is 2.
    """
    import msgspec
    from rich.console import Console

    from onebranch.cli.progress import ProgressLine
    from onebranch.cli.proof import print_graph_report, print_record
    from onebranch.merging.dispatch import verify
    from onebranch.merging.report import GraphReport

    sizes = [size.numbers for size in input_sizes]
    with ProgressLine("proving") as line:
        proven = verify(original, merged, input_sizes=sizes, progress=line.update)
    if as_json:
        values = proven.as_json() if isinstance(proven, GraphReport) else msgspec.to_builtins(proven)
        click.echo(strict_json.dumps(values, indent=2))
        return
    if isinstance(proven, GraphReport):
        print_graph_report(Console(), proven)
        changed = proven.changed
    else:
        print_record(Console(), proven)
        changed = any(block.groups for block in proven.blocks)
    click.echo(f"verified: {merged} is {original}, merged" if changed else _EQUAL.format(merged, original))


_EQUAL = "verified: {} equals {}; nothing was merged"
