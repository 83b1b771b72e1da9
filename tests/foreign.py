"""Third-party networks, unmodified: the smallest variants from timm and spandrel, and their export to ONNX.

Weights and statistics are random (`random_weights`); classifiers have ten classes. If torchvision is not
installed, a placeholder takes its place, so that both packages can be imported.
"""

import importlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import torchvision_placeholder
from random_weights import randomize, settle

torchvision_placeholder.install()


@dataclass(frozen=True)
class Network:
    """A builder of a network, and the sizes at which it runs.

    sizes: heights and widths, first those of the example; only one if the network runs at one size.
    slow: True if its tests are marked as slow. windowed: True if its code branches on the size, as attention
    in windows does, so that a trace by PyTorch is valid only for the size of the example. traceable: False if
    PyTorch cannot trace it; it can still be merged as ONNX.
    """

    build: Callable[[], nn.Module]
    sizes: tuple[tuple[int, int], ...]
    slow: bool = False
    windowed: bool = False
    traceable: bool = True

    def module(self) -> nn.Module:
        """A new module in evaluation mode; every call gives the same random weights."""
        return settle(randomize(self.build()), pictures(*self.sizes[0], count=4, seed=0))

    def example(self) -> Tensor:
        """A random picture of the first size."""
        return pictures(*self.sizes[0])

    def exported(self, module: nn.Module) -> onnx.ModelProto:
        """The module as unmerged ONNX; height and width are dynamic if `sizes` has more than one entry."""
        return exported(module, self.example(), free=len(self.sizes) > 1)


def pictures(height: int, width: int, count: int = 1, seed: int = 1) -> Tensor:
    """(count, 3, height, width), uniform in [0, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def from_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A builder of that timm model with ten classes; `img_size` where the model has one."""

    def build() -> nn.Module:
        timm = importlib.import_module("timm")
        return timm.create_model(name, pretrained=False, num_classes=10, **options)

    return build


def from_spandrel(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    """A builder of the class `name` in a module of spandrel's architectures."""

    def build() -> nn.Module:
        architecture = importlib.import_module(f"spandrel.architectures.{module}")
        return Picture(getattr(architecture, name)(**options))

    return build


class Picture(nn.Module):
    """The network with the picture as its only argument; the exporter would turn others into inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(picture)


FREE = ((64, 64), (96, 64), (64, 128))
"""Sizes for classifiers that accept any multiple of 32."""

TIMM = {
    "repvgg_a0": Network(from_timm("repvgg_a0"), FREE, slow=True),
    "mobileone_s0": Network(from_timm("mobileone_s0"), FREE, slow=True),
    "mobileone_s1": Network(from_timm("mobileone_s1"), FREE, slow=True),
    "repvit_m0_9": Network(from_timm("repvit_m0_9"), FREE, slow=True),
    "fastvit_t8": Network(from_timm("fastvit_t8"), FREE, slow=True),
    "repghostnet_050": Network(from_timm("repghostnet_050"), FREE, slow=True),
    "ghostnetv3_050": Network(from_timm("ghostnetv3_050"), FREE, slow=True),
    "resnet10t": Network(from_timm("resnet10t"), FREE, slow=True),
    "efficientnet_b0": Network(from_timm("efficientnet_b0"), FREE, slow=True),
    "levit_conv_128s": Network(from_timm("levit_conv_128s", img_size=64), FREE[:1], slow=True),
    "levit_128s": Network(from_timm("levit_128s", img_size=64), FREE[:1], slow=True),
    "efficientformerv2_s0": Network(from_timm("efficientformerv2_s0", img_size=64), FREE[:1], slow=True),
    "tiny_vit_5m_224": Network(from_timm("tiny_vit_5m_224"), FREE, slow=True),
    "shvit_s1": Network(from_timm("shvit_s1"), FREE, slow=True, windowed=True),
    "ghostnet_050": Network(from_timm("ghostnet_050"), FREE, slow=True),
    "mobilenetv4_conv_small": Network(from_timm("mobilenetv4_conv_small"), FREE, slow=True),
    "efficientvit_m0": Network(from_timm("efficientvit_m0"), FREE, slow=True, windowed=True),
    "swiftformer_xs": Network(from_timm("swiftformer_xs"), FREE, slow=True),
    "starnet_s050": Network(from_timm("starnet_s050"), FREE, slow=True),
    "fasternet_t0": Network(from_timm("fasternet_t0"), FREE, slow=True),
    "lcnet_050": Network(from_timm("lcnet_050"), FREE, slow=True),
    "densenet121": Network(from_timm("densenet121"), FREE, slow=True),
    "res2net50_14w_8s": Network(from_timm("res2net50_14w_8s"), FREE, slow=True),
    "hrnet_w18_small": Network(from_timm("hrnet_w18_small"), FREE, slow=True),
}
"""timm's re-parameterizable and foldable classifiers."""

ODD = ((24, 24), (17, 23), (8, 40))
"""Sizes for picture-to-picture networks that accept any size."""

PADDED = ((24, 24), (28, 36), (40, 20))
"""Sizes for networks that pad by reflection: larger than the padding, multiples of 4."""

SPANDREL = {
    "SPAN": Network(
        from_spandrel(
            "SPAN.__arch.span", "SPAN", num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2, norm=False
        ),
        ODD,
        traceable=False,  # whenever it runs, it merges its own branches into its weights
    ),
    "Compact": Network(
        from_spandrel("Compact.__arch.SRVGG", "SRVGGNetCompact", num_feat=16, num_conv=4, upscale=2), ODD
    ),
    "RealCUGAN": Network(from_spandrel("RealCUGAN.__arch.upcunet_v3", "UpCunet2x"), PADDED, slow=True),
    "RealCUGAN pro": Network(
        from_spandrel("RealCUGAN.__arch.upcunet_v3", "UpCunet3x", pro=True), PADDED, slow=True
    ),
    "PLKSR": Network(
        from_spandrel("PLKSR.__arch.PLKSR", "PLKSR", dim=16, n_blocks=2, upscaling_factor=2, with_idt=True),
        ODD,
    ),
    "PLKSR sparse": Network(
        from_spandrel(
            "PLKSR.__arch.PLKSR",
            "PLKSR",
            dim=16,
            n_blocks=2,
            upscaling_factor=2,
            lk_type="SparsePLK",
            use_max_kernel=True,
            with_idt=True,
        ),
        ODD,
        slow=True,
    ),
    "RealPLKSR": Network(
        from_spandrel("PLKSR.__arch.RealPLKSR", "RealPLKSR", dim=16, n_blocks=2, upscaling_factor=2), ODD
    ),
    "DnCNN": Network(
        from_spandrel("DnCNN.__arch.network_dncnn", "DnCNN", in_nc=3, out_nc=3, nc=16, nb=6), ODD
    ),
    "SwiftSRGAN": Network(
        from_spandrel(
            "SwiftSRGAN.__arch.SwiftSRGAN", "Generator", num_channels=16, num_blocks=2, upscale_factor=2
        ),
        ODD,
    ),
    "SAFMN": Network(
        from_spandrel("SAFMN.__arch.safmn", "SAFMN", dim=16, n_blocks=2, ffn_scale=2.0, upscaling_factor=2),
        ((32, 32),),
        slow=True,
    ),
    "MoSR": Network(
        from_spandrel("MoSR.__arch.mosr_arch", "MoSR", dim=16, n_block=2, upscale=2), ODD, slow=True
    ),
    "ESRGAN": Network(
        from_spandrel("ESRGAN.__arch.RRDB", "RRDBNet", num_filters=16, num_blocks=2, scale=2), ODD, slow=True
    ),
    "DRUNet": Network(
        from_spandrel("DRUNet.__arch.network_unet", "DRUNet", in_nc=3, out_nc=3, nc=[8, 16, 16, 24], nb=1),
        ((32, 32), (24, 40)),
        slow=True,
    ),
}
"""spandrel's picture-to-picture networks, with few channels and blocks."""

NETWORKS = TIMM | SPANDREL


def exported(module: nn.Module, example: Tensor, free: bool) -> onnx.ModelProto:
    """The module as ONNX, unmerged: batch normalization, branches and constants are not folded.

    Only TrainingMode.PRESERVE makes the TorchScript exporter keep BN. free: height and width are dynamic.
    """
    buffer = io.BytesIO()
    axes = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        # PyTorch warns that this exporter is deprecated and that sizes in `if` and int() become constants.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)  # and skips folding
        torch.onnx.export(
            module,
            (example,),
            buffer,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=18,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": axes} if free else None,
        )
    return onnx.load_from_string(buffer.getvalue())
