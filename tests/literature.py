"""Blocks of the literature as plain modules, written as their papers and official code describe them.

Branches, batch normalization and padding tricks are the authors'; no block has code for merging. Each module
is the linear part of a block, without its activation. `chains` of a block that has a preset returns the
tensors in the order of the preset's branches and steps.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebranch.spec.branch import EDGES

Chain = tuple[dict[str, Tensor], ...]
"""The tensors of one branch, step by step, by the names that the model file gives them."""

STATISTICS = ("weight", "bias", "running_mean", "running_var")


def tensors(layer: nn.Module) -> dict[str, Tensor]:
    """The weight, bias and statistics that a convolution or a batch normalization has."""
    values = {name: getattr(layer, name, None) for name in STATISTICS}
    return {name: value.detach() for name, value in values.items() if value is not None}


def convolution(inputs: int, outputs: int, kernel: int | tuple[int, int], **options: object) -> nn.Conv2d:
    """A zero-padded convolution with an odd kernel; at stride 1 it keeps the size."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(inputs, outputs, sides, padding=(sides[0] // 2, sides[1] // 2), **options)


class ConvBN(nn.Sequential):
    """Convolution without bias, then batch normalization: `conv_bn` of RepVGG, ACNet and their heirs."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: object) -> None:
        super().__init__()
        self.add_module("conv", convolution(inputs, outputs, kernel, bias=False, **options))
        self.add_module("bn", nn.BatchNorm2d(outputs))

    @property
    def chain(self) -> Chain:
        return tensors(self.conv), tensors(self.bn)


class Plain(nn.Module):
    """One convolution."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def chains(self) -> Sequence[Chain]:
        return ((tensors(self.conv),),)


class ACNet(nn.Module):
    """Asymmetric convolution block (Ding et al., ICCV 2019): square, horizontal and vertical, a BN each."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.square = ConvBN(inputs, width, 3)
        self.horizontal = ConvBN(inputs, width, (1, 3))
        self.vertical = ConvBN(inputs, width, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        result = self.square(x)
        result += self.vertical(x) + self.horizontal(x)
        return result

    def chains(self) -> Sequence[Chain]:
        return self.square.chain, self.horizontal.chain, self.vertical.chain


class RepVGG(nn.Module):
    """RepVGG block (Ding et al., CVPR 2021): 3x3, 1x1 and identity, a BN each."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.rbr_dense = ConvBN(inputs, width, 3, stride=stride)
        self.rbr_1x1 = ConvBN(inputs, width, 1, stride=stride)
        self.rbr_identity = nn.BatchNorm2d(inputs) if inputs == width and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(x)
        return self.rbr_dense(x) + self.rbr_1x1(x) + id_out

    def chains(self) -> Sequence[Chain]:
        last = () if self.rbr_identity is None else (({}, tensors(self.rbr_identity)),)
        return self.rbr_dense.chain, self.rbr_1x1.chain, *last


class IdentityBasedConv1x1(nn.Conv2d):
    """DBB's 1x1 convolution whose kernel is the identity plus what is learnt (official code)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, bias=False)
        self.register_buffer("id_tensor", torch.eye(channels)[:, :, None, None], persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(input, self.weight + self.id_tensor, None)


class BNAndPadLayer(nn.Module):
    """DBB's batch normalization, followed by padding with its output for zero (official code)."""

    def __init__(self, pixels: int, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.pad_pixels = pixels

    def forward(self, input: Tensor) -> Tensor:
        output = self.bn(input)
        deviation = torch.sqrt(self.bn.running_var + self.bn.eps)
        pad_values = self.bn.bias.detach() - self.bn.running_mean * self.bn.weight.detach() / deviation
        output = functional.pad(output, [self.pad_pixels] * 4)
        pad_values = pad_values.view(1, -1, 1, 1)
        output[:, :, 0 : self.pad_pixels, :] = pad_values
        output[:, :, -self.pad_pixels :, :] = pad_values
        output[:, :, :, 0 : self.pad_pixels] = pad_values
        output[:, :, :, -self.pad_pixels :] = pad_values
        return output


class DBB(nn.Module):
    """Diverse branch block (Ding et al., CVPR 2021): KxK, 1x1, 1x1 then KxK, 1x1 then average."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.dbb_origin = ConvBN(inputs, width, 3, stride=stride)
        self.dbb_1x1 = ConvBN(inputs, width, 1, stride=stride)
        self.dbb_avg = nn.Sequential()
        self.dbb_avg.add_module("conv", nn.Conv2d(inputs, width, 1, bias=False))
        self.dbb_avg.add_module("bn", BNAndPadLayer(1, width))
        self.dbb_avg.add_module("avg", nn.AvgPool2d(3, stride=stride, padding=0))
        self.dbb_avg.add_module("avgbn", nn.BatchNorm2d(width))
        first = IdentityBasedConv1x1(inputs) if inputs == width else nn.Conv2d(inputs, width, 1, bias=False)
        self.dbb_1x1_kxk = nn.Sequential()
        self.dbb_1x1_kxk.add_module("idconv1", first)
        self.dbb_1x1_kxk.add_module("bn1", BNAndPadLayer(1, width))
        self.dbb_1x1_kxk.add_module("conv2", nn.Conv2d(width, width, 3, stride=stride, bias=False))
        self.dbb_1x1_kxk.add_module("bn2", nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.dbb_origin(x)
        out += self.dbb_1x1(x)
        out += self.dbb_avg(x)
        out += self.dbb_1x1_kxk(x)
        return out

    def chains(self) -> Sequence[Chain]:
        first, bn1, second, bn2 = self.dbb_1x1_kxk
        learnt = first.weight + first.id_tensor if isinstance(first, IdentityBasedConv1x1) else first.weight
        conv, bn, _, avgbn = self.dbb_avg
        return (
            self.dbb_origin.chain,
            self.dbb_1x1.chain,
            ({"weight": learnt.detach()}, tensors(bn1.bn), tensors(second), tensors(bn2)),
            (tensors(conv), tensors(bn.bn), {}, tensors(avgbn)),
        )


def pad_with_bias(y: Tensor, bias: Tensor) -> Tensor:
    """ECB's padding: one pixel, overwritten with the bias, as if the 1x1 before it had seen zeros."""
    y = functional.pad(y, (1, 1, 1, 1), "constant", 0)
    b0_pad = bias.view(1, -1, 1, 1)
    y[:, :, 0:1, :] = b0_pad
    y[:, :, -1:, :] = b0_pad
    y[:, :, :, 0:1] = b0_pad
    y[:, :, :, -1:] = b0_pad
    return y


class SeqConv3x3(nn.Module):
    """ECB's 1x1, then 3x3 (official code): bare parameters, padding overwritten with the first bias."""

    def __init__(self, inputs: int, width: int, multiplier: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(inputs, multiplier * width, 1), nn.Conv2d(multiplier * width, width, 3)
        self.k0, self.b0 = first.weight, first.bias
        self.k1, self.b1 = second.weight, second.bias

    def forward(self, x: Tensor) -> Tensor:
        y0 = functional.conv2d(input=x, weight=self.k0, bias=self.b0, stride=1)
        y0 = pad_with_bias(y0, self.b0)
        return functional.conv2d(input=y0, weight=self.k1, bias=self.b1, stride=1)

    @property
    def chain(self) -> Chain:
        first = {"weight": self.k0.detach(), "bias": self.b0.detach()}
        return first, {"weight": self.k1.detach(), "bias": self.b1.detach()}


class SeqEdge3x3(nn.Module):
    """ECB's 1x1, then a fixed edge filter on every channel with a learnt scale and bias (official code)."""

    def __init__(self, inputs: int, width: int, edge: str) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, width, 1)
        self.k0, self.b0 = first.weight, first.bias
        self.scale = nn.Parameter(torch.randn(width, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(width) * 1e-3)
        mask = torch.tensor(EDGES[edge]).expand(width, 1, 3, 3).clone()
        self.mask = nn.Parameter(mask, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y0 = functional.conv2d(input=x, weight=self.k0, bias=self.b0, stride=1)
        y0 = pad_with_bias(y0, self.b0)
        weight = self.scale * self.mask
        return functional.conv2d(input=y0, weight=weight, bias=self.bias, stride=1, groups=len(weight))

    @property
    def chain(self) -> Chain:
        first = {"weight": self.k0.detach(), "bias": self.b0.detach()}
        return first, {"scale": self.scale.detach().flatten(), "bias": self.bias.detach()}


class ECB(nn.Module):
    """Edge-oriented convolution block (Zhang et al., ECBSR, ACM MM 2021)."""

    def __init__(self, inputs: int, width: int, multiplier: int = 2) -> None:
        super().__init__()
        self.conv3x3 = convolution(inputs, width, 3)
        self.conv1x1_3x3 = SeqConv3x3(inputs, width, multiplier)
        self.conv1x1_sbx = SeqEdge3x3(inputs, width, "sobel_x")
        self.conv1x1_sby = SeqEdge3x3(inputs, width, "sobel_y")
        self.conv1x1_lpl = SeqEdge3x3(inputs, width, "laplacian")

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3x3(x) + self.conv1x1_3x3(x)
        return y + self.conv1x1_sbx(x) + self.conv1x1_sby(x) + self.conv1x1_lpl(x)

    def chains(self) -> Sequence[Chain]:
        sequential = (self.conv1x1_3x3, self.conv1x1_sbx, self.conv1x1_sby, self.conv1x1_lpl)
        return (tensors(self.conv3x3),), *(part.chain for part in sequential)


class RepSR(nn.Module):
    """RepSR block (Wang et al., ACM MM 2022): chains of 3x3, BN, 1x1, and an identity.

    With four chains, figure 5 of US 2025/0259275 A1.
    """

    def __init__(self, inputs: int, width: int, count: int = 2) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Sequential(
                convolution(inputs, 2 * width, 3), nn.BatchNorm2d(2 * width), nn.Conv2d(2 * width, width, 1)
            )
            for _ in range(count)
        )
        self.skip = inputs == width

    def forward(self, x: Tensor) -> Tensor:
        out = sum(path(x) for path in self.paths)
        return out + x if self.skip else out

    def chains(self) -> Sequence[Chain]:
        paths = tuple(tuple(tensors(layer) for layer in path) for path in self.paths)
        return (*paths, ({},)) if self.skip else paths


class SESR(nn.Module):
    """SESR's collapsible linear block (Bhardwaj et al., MLSys 2022): KxK to many channels, 1x1 back."""

    def __init__(self, inputs: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv_expand = convolution(inputs, 16 * width, kernel, bias=False)
        self.conv_squeeze = nn.Conv2d(16 * width, width, 1)
        self.residual = inputs == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_squeeze(self.conv_expand(x))
        if self.residual:
            y += x
        return y

    def chains(self) -> Sequence[Chain]:
        linear = tensors(self.conv_expand), tensors(self.conv_squeeze)
        return (linear, ({},)) if self.residual else (linear,)


class Conv3XC(nn.Module):
    """SPAN's Conv3XC (Wan et al., CVPR workshops 2024) as it trains: the input padded first, a 1x1 skip.

    The official code widens the input's channels by the gain, the preset the block's; they differ in ends.
    """

    def __init__(self, inputs: int, width: int, gain: int = 2) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, width, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, width * gain, 1),
            nn.Conv2d(width * gain, width * gain, 3, padding=0),
            nn.Conv2d(width * gain, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x_pad = functional.pad(x, (1, 1, 1, 1), "constant", 0)
        return self.conv(x_pad) + self.sk(x)

    def chains(self) -> Sequence[Chain]:
        return tuple(tensors(layer) for layer in self.conv), (tensors(self.sk),)


class MobileOne(nn.Module):
    """MobileOne block (Vasu et al., CVPR 2023; official code): k branches, a 1x1 "scale", a BN "skip"."""

    def __init__(
        self, inputs: int, width: int, kernel: int, groups: int = 1, stride: int = 1, branches: int = 4
    ) -> None:
        super().__init__()
        options = {"stride": stride, "groups": groups}
        self.rbr_skip = nn.BatchNorm2d(inputs) if inputs == width and stride == 1 else None
        self.rbr_conv = nn.ModuleList(ConvBN(inputs, width, kernel, **options) for _ in range(branches))
        self.rbr_scale = ConvBN(inputs, width, 1, **options) if kernel > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        identity_out = 0 if self.rbr_skip is None else self.rbr_skip(x)
        scale_out = 0 if self.rbr_scale is None else self.rbr_scale(x)
        out = scale_out + identity_out
        for conv in self.rbr_conv:
            out += conv(x)
        return out

    def chains(self) -> Sequence[Chain]:
        scale = () if self.rbr_scale is None else (self.rbr_scale.chain,)
        skip = () if self.rbr_skip is None else (({}, tensors(self.rbr_skip)),)
        return *(conv.chain for conv in self.rbr_conv), *scale, *skip


BLOCKS: dict[str, tuple[Callable[[int], nn.Module], ...]] = {
    "plain": (lambda width: Plain(width, width),),
    "patent": (lambda width: RepSR(width, width, 4),),
    "acnet": (lambda width: ACNet(width, width),),
    "repvgg": (lambda width: RepVGG(width, width),),
    "dbb": (lambda width: DBB(width, width),),
    "ecb": (lambda width: ECB(width, width),),
    "repsr": (lambda width: RepSR(width, width),),
    "sesr": (lambda width: SESR(width, width),),
    "conv3xc": (lambda width: Conv3XC(width, width),),
    "mobileone": (
        lambda width: MobileOne(width, width, 3, groups=width),
        lambda width: MobileOne(width, width, 1),
    ),
}
"""The blocks of every preset, from `width` to `width` channels."""

ENDS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": Plain,
    "patent": lambda inputs, width: RepSR(inputs, width, 4),
    "acnet": ACNet,
    "repvgg": RepVGG,
    "dbb": DBB,
    "ecb": ECB,
    "repsr": RepSR,
    "sesr": lambda inputs, width: SESR(inputs, width, 5),
    "conv3xc": Conv3XC,
    "mobileone": lambda inputs, width: MobileOne(inputs, width, 3),
}
"""The head and tail of every preset, from `inputs` to a different number of channels."""


class EDBB(nn.Module):
    """EFDN's edge-enhanced diverse branch block (Wang, CVPR workshops 2022): seven branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rep_conv = convolution(channels, channels, 3)
        self.conv1x1 = nn.Conv2d(channels, channels, 1)
        self.conv1x1_3x3 = SeqConv3x3(channels, channels, 2)
        self.conv1x1_sbx = SeqEdge3x3(channels, channels, "sobel_x")
        self.conv1x1_sby = SeqEdge3x3(channels, channels, "sobel_y")
        self.conv1x1_lpl = SeqEdge3x3(channels, channels, "laplacian")

    def forward(self, x: Tensor) -> Tensor:
        y = self.rep_conv(x) + self.conv1x1(x) + self.conv1x1_3x3(x)
        return y + self.conv1x1_sbx(x) + self.conv1x1_sby(x) + self.conv1x1_lpl(x) + x


class RRRB(nn.Module):
    """FMEN's repeat re-parameterizable residual block (Du et al., CVPR workshops 2022)."""

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        self.expand_conv = nn.Conv2d(channels, ratio * channels, 1)
        self.fea_conv = nn.Conv2d(ratio * channels, ratio * channels, 3, padding=0)
        self.reduce_conv = nn.Conv2d(ratio * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand_conv(x)
        out_identity = out
        out = self.fea_conv(pad_with_bias(out, self.expand_conv.bias))
        out += out_identity
        out = self.reduce_conv(out)
        out += x
        return out


class RepMBConv(nn.Module):
    """PlainUSR's RepMBConv (Wang et al., ACCV 2024): squeeze-and-excitation of a learnt constant."""

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        inner = ratio * channels
        self.expand_conv = nn.Conv2d(channels, inner, 1)
        self.fea_conv = nn.Conv2d(inner, inner, 3, padding=0)
        self.reduce_conv = nn.Conv2d(inner, channels, 1)
        self.constant = nn.Parameter(torch.randn(1, inner, 1, 1))
        self.gate = nn.Sequential(
            nn.Conv2d(inner, inner // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner // 4, inner, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand_conv(x)
        out_identity = out
        out = self.fea_conv(pad_with_bias(out, self.expand_conv.bias))
        out = out * self.gate(self.constant) + out_identity
        return self.reduce_conv(out) + x


class QARepVGG(nn.Module):
    """QARepVGG block (Chu et al., AAAI 2024): BN on the 3x3 only, and one after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rbr_dense = ConvBN(channels, channels, 3)
        self.rbr_1x1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.rbr_dense(x) + self.rbr_1x1(x) + x)


class DilatedReparamBlock(nn.Module):
    """UniRepLKNet's block (Ding et al., CVPR 2024): a large kernel and dilated small ones, depthwise.

    The kernels and dilations are the official ones for a kernel of 13.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lk_origin = ConvBN(channels, channels, 13, groups=channels)
        self.dilated = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    channels,
                    channels,
                    kernel,
                    padding=dilation * (kernel - 1) // 2,
                    dilation=dilation,
                    groups=channels,
                    bias=False,
                ),
                nn.BatchNorm2d(channels),
            )
            for kernel, dilation in ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.lk_origin(x)
        for path in self.dilated:
            out = out + path(x)
        return out


class ReparamLargeKernel(nn.Module):
    """RepLKNet's large kernel beside a small one (Ding et al., CVPR 2022), depthwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lkb_origin = ConvBN(channels, channels, 9, groups=channels)
        self.small_conv = ConvBN(channels, channels, 5, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.lkb_origin(x)
        out += self.small_conv(x)
        return out


class RepMixer(nn.Module):
    """FastViT's token mixer (Vasu et al., ICCV 2023): x + scale * (mixer(x) - norm(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mixer = MobileOne(channels, channels, 3, groups=channels, branches=1)
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * (self.mixer(x) - self.norm(x))


class RepGhost(nn.Module):
    """The re-parameterized part of a RepGhost module (Chen et al., 2022): cheap operation plus BN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cheap_operation = ConvBN(channels, channels, 3, groups=channels)
        self.fusion_conv = nn.Sequential(nn.Identity())
        self.fusion_bn = nn.Sequential(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.cheap_operation(x)
        for conv, bn in zip(self.fusion_conv, self.fusion_bn, strict=True):
            x1 = x1 + bn(conv(x))
        return x1


class RepVGGDW(nn.Module):
    """RepViT's depthwise block (Wang et al., CVPR 2024): BN after the sum, a bias on the 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBN(channels, channels, 3, groups=channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, groups=channels)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x) + self.conv1(x) + x)


class LowRankConv(nn.Module):
    """A frozen convolution and its low-rank correction (DSCLoRA, Chai et al., CVPR workshops 2025)."""

    def __init__(self, channels: int, rank: int = 2) -> None:
        super().__init__()
        self.conv = convolution(channels, channels, 3)
        self.down = convolution(channels, rank, 3, bias=False)
        self.up = nn.Conv2d(rank, channels, 1, bias=False)
        self.scaling = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.up(self.down(x)) * self.scaling


class Anchor(nn.Module):
    """ABPN's last stage (Du et al., CVPR workshops 2021): a convolution plus repeated channels."""

    def __init__(self, channels: int, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.conv = convolution(channels, channels * scale**2, 3)

    def forward(self, x: Tensor) -> Tensor:
        anchor = torch.cat([x] * self.scale**2, dim=1)
        return self.conv(x) + anchor


class OREPA(nn.Module):
    """OREPA's linear scaling in the place of BN (Hu et al., CVPR 2022), and one BN after the sum.

    Here two branches also share a 1x1 convolution, which OREPA does not do, to test sharing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.origin = convolution(channels, channels, 3, bias=False)
        self.point = nn.Conv2d(channels, channels, 1, bias=False)
        self.average = nn.AvgPool2d(3, stride=1, padding=1)
        self.vectors = nn.ParameterList(nn.Parameter(torch.rand(channels)) for _ in range(3))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        origin, point, average = (vector.view(1, -1, 1, 1) for vector in self.vectors)
        mixed = self.origin(x) * origin + self.point(x) * point + self.average(self.point(x)) * average
        return self.bn(mixed)


WITHOUT_PRESET: dict[str, Callable[[int], nn.Module]] = {
    "edbb": EDBB,
    "rrrb": RRRB,
    "repmbconv": RepMBConv,
    "qarepvgg": QARepVGG,
    "unireplknet": DilatedReparamBlock,
    "replknet": ReparamLargeKernel,
    "repmixer": RepMixer,
    "repghost": RepGhost,
    "repvggdw": RepVGGDW,
    "dsclora": LowRankConv,
    "abpn": Anchor,
    "orepa": OREPA,
    "repvgg stride 2": lambda channels: RepVGG(channels, channels, stride=2),
    "repvgg wider": lambda channels: RepVGG(channels, 2 * channels),
    "dbb stride 2": lambda channels: DBB(channels, channels, stride=2),
    "mobileone stride 2": lambda channels: MobileOne(channels, channels, 3, groups=channels, stride=2),
    "mobileone 7x7": lambda channels: MobileOne(channels, channels, 7, groups=channels, branches=1),
}
"""Blocks that the branch grammar cannot express; they too become one convolution each."""
