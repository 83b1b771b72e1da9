"""Networks of timm and spandrel, exported unmerged as ONNX files, to be timed before and after merging.

The smallest variant of each at its usual size, with random weights and statistics; tests/foreign.txt pins
both packages.
"""

from pathlib import Path

import onnx

from foreign import Network, from_spandrel, from_timm

CLASSIFIERS = (
    *("repvgg_a0", "mobileone_s0", "mobileone_s1", "repvit_m0_9", "fastvit_t8", "repghostnet_050"),
    *("ghostnetv3_050", "efficientformerv2_s0", "mobilenetv4_conv_small", "resnet10t"),
)
"""Classifiers of timm, each at 224x224."""

PICTURE_SIZE = (128, 128)
"""Height and width of the input of picture-to-picture networks."""

SPAN = from_spandrel("SPAN.__arch.span", "SPAN", num_in_ch=3, num_out_ch=3, upscale=2, norm=False)
SWIFT = from_spandrel("SwiftSRGAN.__arch.SwiftSRGAN", "Generator", upscale_factor=2)
DNCNN = from_spandrel("DnCNN.__arch.network_dncnn", "DnCNN", in_nc=3, out_nc=3)

NETWORKS = {
    **{name: Network(from_timm(name), ((224, 224),)) for name in CLASSIFIERS},
    "SwiftSRGAN x2": Network(SWIFT, (PICTURE_SIZE,)),
    "DnCNN": Network(DNCNN, (PICTURE_SIZE,)),
}
"""Networks that are exported in evaluation mode."""

TRAINING_MODE = {"SPAN x2": Network(SPAN, (PICTURE_SIZE,))}
"""Networks that are exported in training mode: in evaluation mode they merge branches for every picture."""


def export_networks(folder: Path) -> list[Path]:
    """Write every network into the folder as an unmerged ONNX file of a fixed size."""
    models = {name: network.exported(network.module()) for name, network in NETWORKS.items()}
    models |= {name: network.exported(network.module().train()) for name, network in TRAINING_MODE.items()}
    paths = [folder / f"{name}.onnx" for name in models]
    for path, model in zip(paths, models.values(), strict=True):
        onnx.save(model, path)
    return paths
