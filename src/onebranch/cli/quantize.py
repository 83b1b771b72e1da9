"""`onebranch quantize`: a merged model in 8-bit integers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from onebranch.model.file import Model

FEW = 16
"""Fewer pictures than that are worth a word."""


@click.command("quantize")
@click.argument("model")
@click.option("--calibrate", required=True, help="A folder of ordinary pictures, none to be measured on.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--pictures", type=int, default=128, show_default=True, help="How many of them at most.")
@click.option("--evaluate", "data", help="Measure the loss on this folder [a quarter of the pictures].")
@click.option("--sigma", type=float, help="Noise in grey levels of that measurement, for a denoising model.")
@click.option("--then", help="Measure a pair: reduced in 8 bits, enlarged in floats by this model.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def command(
    model: str,
    calibrate: str,
    out: Path,
    pictures: int,
    data: str | None,
    sigma: float | None,
    then: str | None,
    overwrite: bool,
) -> None:
    """Quantize a merged MODEL (a shipped name or a file) to 8 bits and write it, with its measured loss.

    The file runs in integers with --precision int8, and in floats without. Calibration takes the middle of
    each picture as the network would see it: reduced for upscaling, with noise for denoising. Unless
    --evaluate names a folder to measure the loss on, a quarter of the pictures is kept apart for that.
    """
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its small products spin on more
    from rich.console import Console

    from onebranch.errors import OnebranchError
    from onebranch.model.catalogue import load
    from onebranch.model.file import write
    from onebranch.quantization.calibration import held_out, read_crops
    from onebranch.quantization.layers import quantize
    from onebranch.quantization.loss import loss_on_crops, loss_on_folder, with_loss

    if out.exists() and not overwrite:
        raise OnebranchError(f"{out}: it exists; choose another name or add --overwrite")
    if data is None and (sigma is not None or then is not None):
        raise OnebranchError(
            "--sigma and --then say how --evaluate measures; give it a folder, or leave them out"
        )
    if data is not None and Path(data).resolve() == Path(calibrate).resolve():
        raise OnebranchError(
            f"--evaluate and --calibrate are both '{calibrate}'; a loss is measured on other pictures"
        )
    found = load(model)
    with Console(stderr=True).status("reading") as status:
        crops = read_crops(calibrate, found.spec, pictures)
        chosen, apart = held_out(crops) if data is None else (crops, ())
        quantized = quantize(found, chosen, status.update)
        status.update("measuring")
        if data is None:
            loss = loss_on_crops(found, quantized, apart)
        else:
            loss = loss_on_folder(found, quantized, data, sigma=sigma, then=then, shown=status.update)
    if len(chosen) < FEW:
        click.echo(f"calibrated on {len(chosen)} pictures; {FEW} or more give ranges to rely on", err=True)
    quantized = with_loss(quantized, loss, Path(calibrate).resolve().name)
    Console().print(_table(quantized))
    click.echo(loss.summary())
    write(quantized, out, overwrite)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


def _table(model: "Model") -> "Table":
    """Every layer's ranges."""
    from rich.table import Table

    from onebranch.spec.quantization import quantization_of

    assert model.quantization is not None
    record = quantization_of(model.quantization, model.spec)
    table = Table()
    for heading in ("layer", "weight scales", "output", "step", "zero point"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in record.layers:
        scales, to = layer.weight_scales, layer.output
        weights = "float" if scales is None else f"{min(scales):.3g} to {max(scales):.3g}"
        if to is None:
            table.add_row(layer.name, weights, "float", "", "")
            continue
        ends = (to.scale * (level - to.zero_point) for level in (0, 255))
        reach = " to ".join(f"{end:.3g}" for end in ends)
        table.add_row(layer.name, weights, reach, f"{to.scale:.3g}", str(to.zero_point))
    return table
