"""Export other people's networks unmerged and time them before and after merging.

    python scripts/bench_merging.py [--rounds N] [--threads N] [--json] [--folder FOLDER]

The smallest variant of each at its usual size, random weights and statistics, from timm and spandrel; see
tests/foreign.txt for both. The files stay where --folder says so.
"""

import sys
import tempfile
from pathlib import Path

import click
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from foreign import Network, from_spandrel, from_timm
from onebranch.cli.bench import command as bench

CLASSIFIERS = (
    *("repvgg_a0", "mobileone_s0", "mobileone_s1", "repvit_m0_9", "fastvit_t8", "repghostnet_050"),
    *("ghostnetv3_050", "efficientformerv2_s0", "mobilenetv4_conv_small", "resnet10t"),
)
"""timm's, each at 224x224."""

PICTURE = (128, 128)
"""The input of the picture-to-picture networks: height and width."""

SPAN = from_spandrel("SPAN.__arch.span", "SPAN", num_in_ch=3, num_out_ch=3, upscale=2, norm=False)
SWIFT = from_spandrel("SwiftSRGAN.__arch.SwiftSRGAN", "Generator", upscale_factor=2)
DNCNN = from_spandrel("DnCNN.__arch.network_dncnn", "DnCNN", in_nc=3, out_nc=3)

NETWORKS = {
    **{name: Network(from_timm(name), ((224, 224),)) for name in CLASSIFIERS},
    "SwiftSRGAN x2": Network(SWIFT, (PICTURE,)),
    "DnCNN": Network(DNCNN, (PICTURE,)),
}
"""Networks as they evaluate."""

TRAINED = {"SPAN x2": Network(SPAN, (PICTURE,))}
"""Networks without BN as they train: evaluating, they merge their branches anew for every picture."""


def export(folder: Path) -> list[Path]:
    """Every network as an unmerged ONNX file of a fixed size."""
    models = {name: network.exported(network.module()) for name, network in NETWORKS.items()}
    models |= {name: network.exported(network.module().train()) for name, network in TRAINED.items()}
    paths = [folder / f"{name}.onnx" for name in models]
    for path, model in zip(paths, models.values(), strict=True):
        onnx.save(model, path)
    return paths


@click.command()
@click.option("--rounds", default=30, show_default=True, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1), help="Threads [all cores].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.pass_context
def main(
    context: click.Context, rounds: int, threads: int | None, as_json: bool, folder: Path | None
) -> None:
    """Print the table of `onebranch bench` for other people's networks."""
    with tempfile.TemporaryDirectory() as temporary:
        files = export(folder or Path(temporary))
        context.invoke(bench, files=tuple(files), rounds=rounds, threads=threads, as_json=as_json)


if __name__ == "__main__":
    main()
