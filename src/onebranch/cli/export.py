"""`onebranch export`: write a model for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onebranch.model.file import Model


SUFFIXES = {"onnx": ".onnx", "compact": ".safetensors", "mpv": ".glsl"}
"""The suffix of the files of every format."""


@click.command("export")
@click.argument("model")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output file, or a folder.")
@click.option(
    "--to",
    "file_format",
    default="onnx",
    show_default=True,
    help="onnx; compact: a safetensors file that spandrel, chaiNNer and ComfyUI load; mpv: a shader for mpv,"
    " video2x and ffmpeg.",
)
@click.option("--format", "older_name", hidden=True, help="The same as --to.")
@click.option(
    "--precision", default="fp32", show_default=True, help="Precision of an ONNX file: fp32, fp16 or int8."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(
    model: str, out: Path, file_format: str, older_name: str | None, precision: str, overwrite: bool
) -> None:
    """Write MODEL (a shipped name or a file) as ONNX, as a Compact file of Real-ESRGAN or as a shader.

    The file is run and compared with the model before it is written.

    An ONNX file holds any network, merged or not. Its input and output are (batch, channels, height, width)
    with values from 0 to 1 and dynamic sizes, in float32, or in float16 with --precision fp16. --precision
    int8 needs a model of onebranch quantize; input and output stay float32. On processors without VNNI, ONNX
    Runtime saturates products of uint8 and int8 unless its session option session.x64quantprecision is 1.

    A Compact file holds a merged network of 3x3 convolutions with PReLU, leaky ReLU or ReLU, a nearest
    residual and no feature skips.

    An mpv shader holds a merged network that enlarges luma, with PReLU, leaky ReLU, ReLU or no activation. It
    is run and compared where ffmpeg has the filter libplacebo and a Vulkan device (a software driver is
    enough); otherwise it is written, and the output says that it was not run.

    If OUT is an existing folder, the file is named by convention, such as
    2x_photo-x2_1x1xHxW_dyn-HW_fp32_op18.onnx.
    """
    from onebranch.cli.progress import ProgressLine
    from onebranch.errors import OnebranchError
    from onebranch.exporting.files import check_format, export
    from onebranch.model.catalogue import load

    file_format = older_name or file_format
    check_format(file_format, precision)
    loaded = load(model)
    target = out / _name(loaded, file_format, precision) if out.is_dir() else out
    suffix = SUFFIXES[file_format]
    if target.suffix.lower() != suffix:
        raise OnebranchError(
            f"{target}: the name of a file in format '{file_format}' must end in {suffix}; or name a"
            " folder that exists"
        )
    with ProgressLine("exporting") as status:
        comparisons = export(loaded, target, file_format, overwrite, precision, status.update)
    click.echo(
        f"{target}: {target.stat().st_size:,} bytes, {_input_and_output(loaded, file_format, precision)}"
    )
    for comparison in comparisons:
        click.echo(f"  {comparison.summary()}")


def _name(model: "Model", file_format: str, precision: str) -> str:
    from onebranch.exporting.onnx import conventional_name

    onnx = conventional_name(model, precision)
    name = f"{onnx.partition('_')[0]}_{model.name or 'model'}{SUFFIXES[file_format]}"
    return onnx if file_format == "onnx" else name


def _input_and_output(model: "Model", file_format: str, precision: str) -> str:
    """Colour mode, range and type of input and output."""
    colours = "luma (BT.601 studio range / 255)" if model.colour == "y" else "RGB"
    kind = "float16" if precision == "fp16" else "float32"
    return f"{colours} in [0, 1] in and out" + (f", {kind}" if file_format == "onnx" else "")
