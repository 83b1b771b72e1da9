"""`onebranch merge`: merge branches into fewer convolutions, with a proof."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onebranch import strict_json
from onebranch.cli.option_groups import INPUT_SIZES_OPTION

if TYPE_CHECKING:
    from onebranch.blocks.plan import MergePlan
    from onebranch.graph.analysis.valid_sizes import InputSize


@click.command("merge")
@click.argument("model")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="Merge plan, a TOML file with the keys select, identity, schedule, group, head_and_tail.",
)
@click.option(
    "--select", help="Branches to merge: all | random:M:SEED | kernel:3x3 | convs:2 | name:TEXT,...  [all]"
)
@click.option("--without-identity", is_flag=True, help="Do not select identity branches.")
@click.option(
    "--schedule",
    help="Number of selected branches to merge in each block: all | same:M | growing:M | shrinking:M |"
    " kernel:3x3 | convs:2  [all]",
)
@click.option("--group", help="Branches that become one: one (all) | every:J | size | type  [one]")
@click.option("--without-head-and-tail", is_flag=True, help="Do not merge the head and the tail.")
@click.option(
    "--force", is_flag=True, help="ONNX, PyTorch: merge everything that can be merged, even at a higher cost."
)
@click.option(
    "--border-maps", is_flag=True, help="ONNX, PyTorch: allow biases that differ at the picture's borders."
)
@click.option(
    "--proof",
    type=click.Choice(["auto", "full"]),
    help="ONNX, PyTorch: test every region on a full basis (full), or large ones on random signs (auto)."
    "  [auto]",
)
@INPUT_SIZES_OPTION
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: str,
    out: Path,
    plan: Path | None,
    select: str | None,
    without_identity: bool,
    schedule: str | None,
    group: str | None,
    without_head_and_tail: bool,
    force: bool,
    border_maps: bool,
    proof: str | None,
    input_sizes: "tuple[InputSize, ...]",
    overwrite: bool,
    as_json: bool,
) -> None:
    """Merge the branches of MODEL (a shipped model's name, a file of onebranch, any ONNX file, or PyTorch
    weights) and write the merged model.

    A model of onebranch: by default every block becomes one convolution. A plan selects branches (--select,
    --without-identity), the number of them that is merged in each block (--schedule), and the groups that
    become one convolution (--group).

    An ONNX file: connected linear operations are merged where that saves multiply-accumulates. The report
    lists what was merged, and what was not, with the reasons. Original and merged model are compared at
    three sizes on which the model runs; where none is found, name one with --input-size.

    PyTorch weights (.pth, .pt, .ckpt, .safetensors) of an architecture that spandrel knows, such as Compact,
    SPAN or ESRGAN: they are converted to ONNX and merged like an ONNX file, and the result is compared with
    the PyTorch module. Files that hold more than weights are refused, and no code in them is run.

    The proof is printed and stored in the file. If the proof fails, nothing is written.
    """
    from onebranch.blocks.plan import MergePlan
    from onebranch.cli.output_file import check_output
    from onebranch.model.third_party import is_third_party_file

    options = MergePlan(
        select=select or "all",
        identity=not without_identity,
        schedule=schedule or "all",
        group=group or "one",
        head_and_tail=not without_head_and_tail,
    )
    by_graph = is_third_party_file(model)
    _check_options(by_graph, plan, options != MergePlan(), any((force, border_maps, proof, input_sizes)))
    _check_suffix(model, by_graph, out)
    check_output(out, overwrite)
    if by_graph:
        rules = (force, proof or "auto", border_maps)
        _merge_by_graph(model, out, rules, input_sizes, overwrite, as_json)
    else:
        _merge_own_file(model, out, plan, options, overwrite, as_json)
    if not as_json:
        click.echo(f"{out}: {out.stat().st_size:,} bytes")


def _check_suffix(model: str, by_graph: bool, out: Path) -> None:
    """Raise OnebranchError if the output's name promises another format than the one that is written."""
    from onebranch.errors import OnebranchError
    from onebranch.model.catalogue import CATALOGUE

    if not by_graph and model not in CATALOGUE and Path(model).suffix.lower() != ".safetensors":
        return  # reading it says what it is

    suffix = out.suffix.lower()
    if by_graph and suffix != ".onnx":
        raise OnebranchError(
            f"{out}: ONNX files and PyTorch weights are merged into an ONNX file; choose a name that ends in"
            " .onnx"
        )
    if not by_graph and suffix == ".onnx":
        raise OnebranchError(
            f"{out}: a model of onebranch is merged into a file of onebranch; choose a name that ends in"
            " .safetensors, then write ONNX with onebranch export"
        )


def _check_options(by_graph: bool, plan: Path | None, has_plan_options: bool, has_rules: bool) -> None:
    """Raise OnebranchError for options that do not fit the kind of the model, or each other."""
    from onebranch.errors import OnebranchError

    if plan is not None and has_plan_options:
        raise OnebranchError("give --plan or the single options, not both")
    if by_graph and (plan is not None or has_plan_options):
        raise OnebranchError(
            "a network of another program is merged by its graph; plans are for models of onebranch's own"
        )
    if has_rules and not by_graph:
        raise OnebranchError(
            "--force, --border-maps, --proof and --input-size are for ONNX files and PyTorch weights; a"
            " model of onebranch's own takes a plan"
        )


def _merge_by_graph(
    model: str,
    out: Path,
    rules: tuple[bool, str, bool],
    input_sizes: "tuple[InputSize, ...]",
    overwrite: bool,
    as_json: bool,
) -> None:
    from rich.console import Console

    from onebranch.model.third_party import require_reader

    require_reader(model, "merging")
    from onebranch.cli.progress import ProgressLine
    from onebranch.cli.proof import print_graph_report
    from onebranch.graph.merge.rewriting import Rules
    from onebranch.graph.onnx.file import write
    from onebranch.merging.pytorch import merge_file

    with ProgressLine("merging and proving") as line:
        merged, report = merge_file(model, Rules(*rules), input_sizes, line.update)
    if as_json:
        click.echo(strict_json.dumps(report.as_json(), indent=2))
    else:
        print_graph_report(Console(), report)
        click.echo(report.summary())
    write(merged, out, overwrite)


def _merge_own_file(
    model: str, out: Path, plan: Path | None, options: "MergePlan", overwrite: bool, as_json: bool
) -> None:
    """Merge a model of onebranch. It is written unchanged if there was nothing to merge."""
    from rich.console import Console

    from onebranch.blocks.plan import MergePlan
    from onebranch.blocks.plan import read as read_plan
    from onebranch.cli.progress import ProgressLine
    from onebranch.cli.proof import print_record
    from onebranch.merging.own import merge_model
    from onebranch.model.file import write

    with ProgressLine("merging and proving") as line:
        merged, report = merge_model(model, read_plan(plan) if plan else options, line.update)
    if as_json:
        click.echo(strict_json.dumps(report.as_json(), indent=2))
    elif report.changed:
        print_record(Console(), report.record)
        click.echo(report.summary())
    else:
        where = "under this plan" if plan or options != MergePlan() else "in this model"
        click.echo(f"Nothing to merge {where}; an unchanged copy is written.")
    write(merged, out, overwrite)
