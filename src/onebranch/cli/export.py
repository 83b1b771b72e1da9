"""`onebranch export`: a model for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onebranch.model.file import Model


@click.command("export")
@click.argument("model")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write, or a folder."
)
@click.option(
    "--to",
    "form",
    default="onnx",
    show_default=True,
    help="onnx; or compact: a safetensors file that spandrel, chaiNNer and ComfyUI load.",
)
@click.option("--format", "older_name", hidden=True, help="As --to.")
@click.option("--precision", default="fp32", show_default=True, help="Of ONNX: fp32, fp16, int8.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def command(
    model: str, out: Path, form: str, older_name: str | None, precision: str, overwrite: bool
) -> None:
    """Write a model as ONNX or in the layout of Real-ESRGAN's Compact, run and compared before it is done.

    MODEL is a shipped model's name or a file. ONNX holds any network, merged or not, as one input and one
    output (batch, channels, height, width), all but the channels open, values from 0 to 1, float32 or, in
    fp16, float16. int8 takes a model from onebranch quantize; input and output stay float32, and inside stand
    QuantizeLinear and DequantizeLinear. On processors without VNNI, ONNX Runtime's products of uint8 and int8
    saturate unless its session option session.x64quantprecision is 1. Compact holds merged networks of 3x3
    convolutions with PReLU, leaky ReLU or ReLU, a nearest residual and no feature skips. In a folder, the
    file gets the name that the field's conventions give it.
    """
    from onebranch.errors import OnebranchError
    from onebranch.exporting.files import check_format, export
    from onebranch.model.catalogue import load

    form = older_name or form
    check_format(form, precision)
    found = load(model)
    target = out / _name(found, form, precision) if out.is_dir() else out
    suffix = {"onnx": ".onnx", "compact": ".safetensors"}[form]
    if target.suffix.lower() != suffix:
        raise OnebranchError(f"{target}: a file of format '{form}' is named *{suffix}")
    comparisons = export(found, target, form, overwrite, precision)
    click.echo(f"{target}: {target.stat().st_size:,} bytes, {_ends(found, form, precision)}")
    for comparison in comparisons:
        click.echo(f"  {comparison.words()}")


def _name(model: "Model", form: str, precision: str) -> str:
    from onebranch.exporting.onnx import conventional_name

    onnx = conventional_name(model, precision)
    return onnx if form == "onnx" else f"{onnx.partition('_')[0]}_{model.name or 'model'}.safetensors"


def _ends(model: "Model", form: str, precision: str) -> str:
    """What goes in and comes out."""
    colours = "luma (BT.601 studio range / 255)" if model.colour == "y" else "RGB"
    kind = "float16" if precision == "fp16" else "float32"
    return f"{colours} in [0, 1] in and out" + (f", {kind}" if form == "onnx" else "")
