"""`onebranch quantize`: quantize a merged model to 8-bit integers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from onebranch.model.file import Model

RELIABLE_PICTURES = 16
"""A note is printed if there are fewer calibration pictures than this."""


@click.command("quantize")
@click.argument("model")
@click.option("--calibrate", required=True, help="Folder of calibration pictures, apart from any test set.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output model file.")
@click.option("--pictures", type=int, default=128, show_default=True, help="Use at most this many of them.")
@click.option(
    "--scales", help="After quantization-aware training: keep the scales of this model, its init_from."
)
@click.option("--evaluate", "data", help="Folder to measure the loss on  [default: held-out pictures]")
@click.option("--sigma", type=float, help="Noise for that measurement, in grey levels (denoising models).")
@click.option("--then", help="Model that enlarges the result again, in floats, before it is measured.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
def command(
    model: str,
    calibrate: str,
    out: Path,
    pictures: int,
    scales: str | None,
    data: str | None,
    sigma: float | None,
    then: str | None,
    overwrite: bool,
) -> None:
    """Quantize a merged MODEL (a shipped name or a file) to 8 bits and write it, with its measured loss.

    MODEL may be a network of another program (an ONNX file, or PyTorch weights) that is a chain of dense
    convolutions with PReLU, leaky ReLU or ReLU, as Compact is. It becomes a model file of onebranch.

    The file runs in integers with --precision int8, and in floats otherwise. Calibration takes the centre of
    each picture, prepared as the network's input: reduced for upscaling, with added noise for denoising; for
    a model that was trained on degraded pictures, such as restore-x2, some are noisy or compressed.
    Unless --evaluate names a folder to measure the loss on, a quarter of the pictures is held out for that.
    """
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: more threads would busy-wait
    from rich.console import Console

    from onebranch.cli.output_file import check_output
    from onebranch.cli.progress import ProgressLine
    from onebranch.errors import OnebranchError, counted_noun
    from onebranch.model.file import write
    from onebranch.quantization.folder import quantize

    if out.suffix.lower() != ".safetensors":
        raise OnebranchError(
            f"{out}: the quantized model is a file of onebranch; choose a name that ends in .safetensors"
        )
    check_output(out, overwrite)
    if data is None and (sigma is not None or then is not None):
        raise OnebranchError(
            "--sigma and --then are options of --evaluate FOLDER; give that as well, or leave them out"
        )
    if data is not None and Path(data).resolve() == Path(calibrate).resolve():
        raise OnebranchError(
            f"--evaluate and --calibrate are both '{calibrate}'; the loss is measured on other pictures"
        )
    with ProgressLine("reading") as status:
        quantized, loss = quantize(
            model,
            calibrate,
            pictures=pictures,
            scales=scales,
            data=data,
            sigma=sigma,
            then=then,
            report=status.update,
        )
    used = (quantized.quantization or {})["calibration"].get("crops", RELIABLE_PICTURES)
    if used < RELIABLE_PICTURES:
        click.echo(
            f"calibrated on {counted_noun(used, 'picture')};"
            f" {RELIABLE_PICTURES} or more give reliable ranges",
            err=True,
        )
    Console().print(_table(quantized))
    click.echo(loss.summary())
    write(quantized, out, overwrite)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


def _table(model: "Model") -> "Table":
    """The scales, zero point and range of every layer, one a row."""
    from rich.table import Table

    from onebranch.spec.quantization import MAX_LEVEL, quantization_of

    assert model.quantization is not None
    record = quantization_of(model.quantization, model.spec)
    table = Table()
    for heading in ("layer", "weight scales", "output", "scale", "zero point"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in record.layers:
        scales, params = layer.weight_scales, layer.output
        weights = "float" if scales is None else f"{min(scales):.3g} to {max(scales):.3g}"
        if params is None:
            table.add_row(layer.name, weights, "float", "", "")
            continue
        ends = (params.scale * (level - params.zero_point) for level in (0, MAX_LEVEL))
        interval = " to ".join(f"{end:.3g}" for end in ends)
        table.add_row(layer.name, weights, interval, f"{params.scale:.3g}", str(params.zero_point))
    return table
