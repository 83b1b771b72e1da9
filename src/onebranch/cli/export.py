"""`onebranch export`: a model for other programs."""

from pathlib import Path

import click


@click.command("export")
@click.argument("model")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--format",
    "form",
    default="onnx",
    show_default=True,
    help="onnx; or compact: a safetensors file that spandrel, chaiNNer and ComfyUI load.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def command(model: str, out: Path, form: str, overwrite: bool) -> None:
    """Write a model as ONNX (fp32, all sizes open) or in the layout of Real-ESRGAN's Compact.

    MODEL is a shipped model's name or a file. ONNX holds any network, merged or not; Compact holds merged
    networks of 3x3 convolutions with PReLU, leaky ReLU or ReLU, a nearest residual and no feature skips.
    """
    from onebranch.errors import OnebranchError
    from onebranch.exporting import export
    from onebranch.model.catalogue import load

    suffix = {"onnx": ".onnx", "compact": ".safetensors"}.get(form)
    if suffix and out.suffix.lower() != suffix:
        raise OnebranchError(f"{out}: a file of format '{form}' is named *{suffix}")
    export(load(model), out, form, overwrite)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")
