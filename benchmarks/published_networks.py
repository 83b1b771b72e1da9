"""Networks of the literature with random weights, and their published scores.

They are built as they run: merged where their papers merge them. All enlarge twice. A network of luma gets
(N, 1, H, W), one of RGB (N, 3, H, W).
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PublishedNetwork:
    """set14_psnr: PSNR on Y in dB, x2, as its authors or a later paper print it; None where we found none."""

    name: str
    channels: int
    build: Callable[[], nn.Module]
    set14_psnr: float | None
    source: str


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def plain(channels: int, width: int, depth: int, kernel: int = 3) -> nn.Sequential:
    """Convolutions with PReLU between them, then a pixel shuffle; `kernel` of the first and the last one."""
    layers: list[nn.Module] = [conv(channels, width, kernel), nn.PReLU(width)]
    for _ in range(depth):
        layers += [conv(width, width), nn.PReLU(width)]
    return nn.Sequential(*layers, conv(width, 4 * channels, kernel), nn.PixelShuffle(2))


class WithResidual(nn.Module):
    """A network of luma or RGB whose input, enlarged by repetition, is added to its output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        result: Tensor = self.network(picture) + functional.interpolate(
            picture, scale_factor=2, mode="nearest"
        )
        return result


class Sesr(nn.Module):
    """SESR-M, merged (Bhardwaj et al., 2022, figure 2): 5x5, `depth` 3x3, a skip over them, 5x5."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(1, width, 5), nn.PReLU(width))
        self.body = nn.Sequential(
            *(layer for _ in range(depth) for layer in (conv(width, width), nn.PReLU(width)))
        )
        self.tail = conv(width, 4, 5)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, 2H, 2W)."""
        features = self.head(picture)
        return functional.pixel_shuffle(self.tail(features + self.body(features)) + picture, 2)


def fsrcnn() -> nn.Sequential:
    """FSRCNN(56, 12, 4) (Dong et al., 2016)."""
    layers: list[nn.Module] = [conv(1, 56, 5), nn.PReLU(56), conv(56, 12, 1), nn.PReLU(12)]
    for _ in range(4):
        layers += [conv(12, 12), nn.PReLU(12)]
    enlarging = nn.ConvTranspose2d(56, 1, 9, stride=2, padding=4, output_padding=1)
    return nn.Sequential(*layers, conv(12, 56, 1), nn.PReLU(56), enlarging)


def espcn() -> nn.Sequential:
    """ESPCN (Shi et al., 2016)."""
    layers = [conv(1, 64, 5), nn.Tanh(), conv(64, 32), nn.Tanh(), conv(32, 4)]
    return nn.Sequential(*layers, nn.PixelShuffle(2))


class DistillationBlock(nn.Module):
    """A block of IMDN (Hui et al., 2019, figure 3): three splits, contrast-aware attention, fusion."""

    def __init__(self, width: int = 64, kept: int = 16) -> None:
        super().__init__()
        self.kept, rest = kept, width - kept
        self.steps = nn.ModuleList([conv(width, width), conv(rest, width), conv(rest, width)])
        self.last = conv(rest, kept)
        self.attention = nn.Sequential(
            nn.Conv2d(width, width // 16, 1), nn.ReLU(), nn.Conv2d(width // 16, width, 1), nn.Sigmoid()
        )
        self.fusion = conv(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 64, H, W) -> the same."""
        rest, parts = features, []
        for step in self.steps:
            value = functional.leaky_relu(step(rest), 0.05)
            parts.append(value[:, : self.kept])
            rest = value[:, self.kept :]
        joined = torch.cat([*parts, self.last(rest)], 1)
        mean = joined.mean((2, 3), keepdim=True)
        contrast = (joined - mean).square().mean((2, 3), keepdim=True).sqrt() + mean
        result: Tensor = self.fusion(joined * self.attention(contrast)) + features
        return result


class Imdn(nn.Module):
    """IMDN (Hui et al., 2019): six blocks of 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.blocks = conv(3, 64), nn.ModuleList(DistillationBlock() for _ in range(6))
        self.gather = nn.Sequential(conv(6 * 64, 64, 1), nn.LeakyReLU(0.05), conv(64, 64))
        self.tail = nn.Sequential(conv(64, 12), nn.PixelShuffle(2))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 2H, 2W)."""
        first = features = self.head(picture)
        outputs = []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        result: Tensor = self.tail(self.gather(torch.cat(outputs, 1)) + first)
        return result


class LocalBlock(DistillationBlock):
    """A block of IMDN without its attention, which needs the whole picture."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        rest, parts = features, []
        for step in self.steps:
            value = functional.leaky_relu(step(rest), 0.05)
            parts.append(value[:, : self.kept])
            rest = value[:, self.kept :]
        result: Tensor = self.fusion(torch.cat([*parts, self.last(rest)], 1)) + features
        return result


class LocalImdn(Imdn):
    """IMDN without its global part."""

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(LocalBlock() for _ in range(blocks))
        self.gather = nn.Sequential(conv(blocks * 64, 64, 1), nn.LeakyReLU(0.05), conv(64, 64))


class Dncnn(nn.Module):
    """DnCNN (Zhang et al., 2017), merged: the noise is subtracted from the picture."""

    def __init__(self, width: int = 64, depth: int = 15) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(1, width), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.noise = nn.Sequential(*layers, conv(width, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 1, H, W) -> the same."""
        result: Tensor = picture - self.noise(picture)
        return result


class Abpn(nn.Module):
    """ABPN (Du et al., 2021): the repeated picture is added before the pixel shuffle, then clipped."""

    def __init__(self, width: int = 28, depth: int = 4, scale: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, width), nn.ReLU()]
        for _ in range(depth):
            layers += [conv(width, width), nn.ReLU()]
        self.body = nn.Sequential(*layers, conv(width, 3 * scale**2), nn.ReLU(), conv(27, 27))
        self.scale = scale

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 3 H, 3 W)."""
        repeated = torch.cat([picture[:, c : c + 1] for c in range(3) for _ in range(self.scale**2)], 1)
        shuffled = functional.pixel_shuffle(self.body(picture) + repeated, self.scale)
        return torch.clamp(shuffled, 0, 1)


class SpanBlock(nn.Module):
    """A block of SPAN, merged (Wan et al., 2024, figure 2): three convolutions, parameter-free attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.third = (conv(width, width) for _ in range(3))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 48, H, W) -> output, and the features after the first convolution."""
        early = self.first(features)
        late = self.third(functional.silu(self.second(functional.silu(early))))
        return (late + features) * (torch.sigmoid(late) - 0.5), early


class Span(nn.Module):
    """SPAN with 48 channels, merged."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.head, self.blocks = conv(3, width), nn.ModuleList(SpanBlock(width) for _ in range(6))
        self.last, self.gather = conv(width, width), conv(4 * width, width, 1)
        self.tail = nn.Sequential(conv(width, 12), nn.PixelShuffle(2))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 2H, 2W)."""
        first = features = self.head(picture)
        outputs, early = [], features
        for block in self.blocks:
            features, early = block(features)
            outputs.append(features)
        gathered = torch.cat([first, self.last(features), outputs[0], early], 1)
        result: Tensor = self.tail(self.gather(gathered))
        return result


NETWORKS: tuple[PublishedNetwork, ...] = (
    PublishedNetwork("ESPCN", 1, espcn, 32.40, "SAFMN, table of efficient networks"),
    PublishedNetwork("FSRCNN", 1, fsrcnn, 32.63, "SAFMN, table of efficient networks"),
    PublishedNetwork("ECBSR-M4C16", 1, lambda: plain(1, 16, 4), 32.79, "ETDS, table of mobile networks"),
    PublishedNetwork("ECBSR-M4C32", 1, lambda: plain(1, 32, 4), 33.03, "ETDS, table of mobile networks"),
    PublishedNetwork("SESR-M5", 1, lambda: Sesr(16, 5), 32.84, "SESR, figure of the authors' repository"),
    PublishedNetwork("SESR-M11", 1, lambda: Sesr(16, 11), 33.03, "SESR, from memory"),
    PublishedNetwork("IMDN", 3, Imdn, 33.63, "SAFMN, table of efficient networks"),
    PublishedNetwork("SPAN", 3, Span, None, ""),
    PublishedNetwork("Compact 64x16", 3, lambda: WithResidual(plain(3, 64, 16)), None, ""),
)
"""Networks and their scores. RGB networks with a published PSNR are scored on Y too."""


def exported(network: PublishedNetwork, size: tuple[int, int], is_open: bool = False) -> Any:
    """The network as an ONNX model, as its users would export it.

    size: height and width, which the model fixes unless `is_open`.
    """
    import onnx

    torch.manual_seed(0)
    module = network.build().eval()
    example = torch.zeros(1, network.channels, *size)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the older exporter takes a tenth of the time
        path = Path(folder) / "network.onnx"
        axes = {"x": {2: "height", 3: "width"}, "y": {2: "tall", 3: "wide"}} if is_open else {}
        torch.onnx.export(
            module,
            (example,),
            path,
            opset_version=17,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=axes,
        )
        return onnx.load(path)


def parameter_count(network: PublishedNetwork) -> int:
    """Learnt parameters."""
    return sum(parameter.numel() for parameter in network.build().parameters())
