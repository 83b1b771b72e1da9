"""`onebranch verify`: a merged file's proof again, from the two files."""

import click


@click.command("verify")
@click.argument("original")
@click.argument("merged")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(original: str, merged: str, as_json: bool) -> None:
    """Check that MERGED is what its stored plan makes of ORIGINAL, proving every region anew.

    Both are shipped models' names or files. Hashes, spec, weights, the proof of every region and the whole
    networks are checked; the first thing that does not hold is named, with exit code 2.
    """
    import json

    import msgspec
    from rich.console import Console

    from onebranch.cli.proof import print_record
    from onebranch.model.catalogue import load
    from onebranch.verification import verify

    record = verify(load(original), load(merged))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(record), indent=2))
        return
    print_record(Console(), record)
    click.echo(f"verified: {merged} is {original}, merged")
