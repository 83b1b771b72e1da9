"""`onebranch merge`: branches into fewer convolutions, with a proof."""

from pathlib import Path

import click


@click.command("merge")
@click.argument("model")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="TOML: select, schedule, group; identity, ends: true or false.",
)
@click.option("--select", help="all | random:M:SEED | kernel:3x3 | convs:2 | name:TEXT,...  [all]")
@click.option("--without-identity", is_flag=True, help="Leave identity branches out of the selection.")
@click.option("--schedule", help="all | same:M | growing:M | shrinking:M | kernel:3x3 | convs:2  [all]")
@click.option("--group", help="one | every:J | size | type  [one]")
@click.option("--without-ends", is_flag=True, help="Leave head and tail as they are.")
@click.option("--force", is_flag=True, help="ONNX: merge whatever can be merged, cheaper or not.")
@click.option("--border-maps", is_flag=True, help="ONNX: allow biases that differ at the borders.")
@click.option(
    "--proof",
    type=click.Choice(["auto", "full"]),
    help="ONNX: full insists on a full basis where random signs would do.  [auto]",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: str,
    out: Path,
    plan: Path | None,
    select: str | None,
    without_identity: bool,
    schedule: str | None,
    group: str | None,
    without_ends: bool,
    force: bool,
    border_maps: bool,
    proof: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Merge the branches of MODEL (a shipped name, a file of ours or any ONNX file) and write the merged
    model.

    A model of ours: by default every block becomes one convolution. A plan says which branches (--select,
    without identity branches or with them), how many of them in which block (--schedule), and into how many
    (--group).

    An ONNX file: connected linear operations are merged where that costs fewer multiply-accumulates, whoever
    made the network; the table says what was merged into what, and what was left and why.

    The proof is printed and stored in the file; a merge that fails its proof writes nothing.
    """
    import json

    from rich.console import Console

    from onebranch.blocks.plan import Plan
    from onebranch.blocks.plan import read as read_plan
    from onebranch.cli.proof import print_graph_report, print_record
    from onebranch.errors import OnebranchError
    from onebranch.merging.own import merge_model
    from onebranch.model.file import write

    single = Plan(
        select="all" if select is None else select,
        identity=not without_identity,
        schedule="all" if schedule is None else schedule,
        group="one" if group is None else group,
        ends=not without_ends,
    )
    planned, ruled = plan or single != Plan(), force or border_maps or proof
    if plan and single != Plan():
        raise OnebranchError("give --plan or the single options, not both")
    if model.lower().endswith(".onnx") and planned:
        raise OnebranchError("an ONNX file is merged by its graph; plans are for models of onebranch's own")
    if not model.lower().endswith(".onnx") and ruled:
        raise OnebranchError(
            "--force, --border-maps and --proof are for ONNX files; a model of ours takes a plan"
        )
    if out.exists() and not overwrite:
        raise OnebranchError(f"{out}: it exists; choose another name or add --overwrite")
    if model.lower().endswith(".onnx"):
        from onebranch.graph.merge.rewriting import Rules
        from onebranch.graph.onnx.file import write as write_onnx
        from onebranch.merging.onnx import merge_onnx

        found, graph_report = merge_onnx(model, Rules(force, proof or "auto", border_maps))
        if as_json:
            click.echo(json.dumps(graph_report.as_json(), indent=2))
        else:
            print_graph_report(Console(), graph_report)
            click.echo(graph_report.summary())
        write_onnx(found, out, overwrite)
    else:
        merged, report = merge_model(model, read_plan(plan) if plan else single)
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            print_record(Console(), report.record)
            if report.changed:
                click.echo(report.summary())
        write(merged, out, overwrite)  # unchanged where nothing was left to do: who asked for a file gets it
    if not as_json:
        click.echo(f"{out}: {out.stat().st_size:,} bytes")
