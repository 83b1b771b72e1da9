"""`onebranch demo`: merge a network, double a photograph, compare with bicubic."""

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "-o",
    "--out",
    default="demo-out",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Output folder; existing pictures of the demo are replaced.",
)
def command(out: Path) -> None:
    """Merge photo-x2 with its proof, double a photograph, and compare the result with bicubic."""
    from onebranch.cli.progress import ProgressLine
    from onebranch.demo import run

    click.echo("Merging photo-x2-branches into one convolution per block, with a proof ...")
    with ProgressLine("merging and proving") as line:
        outcome = run(out, line.update)
    relation = "equal to" if outcome.merged_equals_shipped else "DIFFERENT from"
    click.echo(f"  the merged network is {relation} the shipped photo-x2, weight by weight")
    click.echo("Doubling a photograph (256x256 to 512x512), against the original:")
    click.echo(f"  bicubic    {outcome.bicubic_psnr:6.2f} dB  {1e3 * outcome.bicubic_seconds:6.1f} ms")
    click.echo(f"  photo-x2   {outcome.network_psnr:6.2f} dB  {1e3 * outcome.network_seconds:6.1f} ms")
    click.echo(f"Result: {outcome.result}")
    click.echo(f"Side by side: {outcome.comparison}")
