"""`onebranch verify`: a merged file's proof again, from the two files."""

import click


@click.command("verify")
@click.argument("original")
@click.argument("merged")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(original: str, merged: str, as_json: bool) -> None:
    """Check that MERGED is what its stored plan or rules make of ORIGINAL, proving every region anew.

    Both are shipped models' names, files of ours, or ONNX files. Hashes, spec, weights, the proof of every
    region and the whole networks are checked; the first thing that does not hold is named, with exit code 2.
    """
    import json

    import msgspec
    from rich.console import Console

    from onebranch.cli.proof import print_graph_report, print_record
    from onebranch.merging.dispatch import verify
    from onebranch.merging.report import GraphReport

    found = verify(original, merged)
    if as_json:
        plain = found.as_json() if isinstance(found, GraphReport) else msgspec.to_builtins(found)
        click.echo(json.dumps(plain, indent=2))
        return
    if isinstance(found, GraphReport):
        print_graph_report(Console(), found)
    else:
        print_record(Console(), found)
    click.echo(f"verified: {merged} is {original}, merged")
