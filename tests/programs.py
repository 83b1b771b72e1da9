"""Networks as programs of the native engine, and as ONNX files, for tests."""

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.published_networks import Abpn, Dncnn, LocalImdn, Span, WithResidual, conv, plain
from onebranch.graph.analysis.graph_analysis import analyze
from onebranch.graph.onnx.graph import graph_of
from onebranch.lowering.program import Program
from onebranch.lowering.program_compiler import compile_graph
from onebranch.runtime.engine import Engine


class Mixed(nn.Module):
    """Depthwise, grouped, dilated and asymmetric convolutions, activations, slices, a bicubic residual."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 12, (3, 5), padding=(1, 2))
        self.depth = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12)
        self.group = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.edge = nn.Sequential(nn.ReplicationPad2d((2, 0, 1, 1)), nn.Conv2d(12, 8, 3))
        self.last = nn.Conv2d(8, 27, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 3 H, 3 W)."""
        features = nn.functional.hardswish(self.head(picture))
        gates = torch.sigmoid(features[:, :1]) * 2
        features = torch.tanh(self.depth(features)) * gates - self.group(nn.functional.silu(features))
        features = torch.cat([features[:, 6:], 1 - features[:, :6]], 1)
        features = nn.functional.leaky_relu(self.edge(features), 0.1)
        enlarged = nn.functional.interpolate(picture, scale_factor=3, mode="bicubic", align_corners=False)
        smooth = nn.functional.interpolate(picture, scale_factor=3, mode="bilinear", align_corners=False)
        result: Tensor = nn.functional.pixel_shuffle(self.last(features), 3) + enlarged - 0.5 * smooth
        return result


class TwoShuffles(nn.Module):
    """x4 by two pixel shuffles, one after the other, and the nearest pixel; PReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(1, 8), nn.PReLU(8), conv(8, 16))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, 4 H, 4 W)."""
        shuffled = nn.functional.pixel_shuffle(self.body(picture), 2)
        enlarged = nn.functional.interpolate(picture, scale_factor=2, mode="nearest")
        twice = nn.functional.pixel_shuffle(torch.relu(shuffled) + enlarged, 2)
        result: Tensor = twice + nn.functional.interpolate(picture, scale_factor=4, mode="nearest")
        return result


class Unet(nn.Module):
    """A U-Net: convolutions with strides, a pool, two kinds of enlarging, skips between equal sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = conv(3, 8), conv(8, 3)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(12, 16, 4, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.joined, self.wide = conv(24, 12), conv(12, 32)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same; H and W are multiples of 4."""
        first = torch.relu(self.head(picture))
        half = nn.functional.silu(self.down(first))
        quarter = torch.relu(self.deep(half)) + nn.functional.max_pool2d(half[:, :1], 2)
        half = torch.tanh(self.joined(torch.cat([self.up(quarter), half], 1)))
        result: Tensor = self.tail(nn.functional.pixel_shuffle(self.wide(half), 2) + first) + picture
        return result


class Edsr(nn.Module):
    """EDSR (Lim et al., 2017): a convolution after the pixel shuffle, and a skip around everything."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.head, self.tail = conv(3, width), conv(width, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)) for _ in range(2)
        )
        self.wide = conv(width, 4 * width)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 2 H, 2 W)."""
        first = features = self.head(picture)
        for block in self.blocks:
            features = features + 0.1 * block(features)
        large = nn.functional.pixel_shuffle(self.wide(features + first), 2)
        enlarged = nn.functional.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
        result: Tensor = self.tail(large) + enlarged
        return result


class Ffdnet(nn.Module):
    """FFDNet (Zhang, Zuo and Zhang, 2018): a pixel unshuffle first, a pixel shuffle last."""

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(12, width), nn.ReLU()]
        for _ in range(depth):
            layers += [conv(width, width), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, conv(width, 12))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same; H and W are even."""
        result: Tensor = nn.functional.pixel_shuffle(self.body(nn.functional.pixel_unshuffle(picture, 2)), 2)
        return result


class DualPath(nn.Module):
    """Two paths side by side, as in ETDS (Chao et al., 2023): one with activations, one without."""

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.head, self.base = conv(3, width), conv(3, 12)
        self.details = nn.ModuleList(conv(width, width) for _ in range(depth))
        self.to_base = nn.ModuleList(nn.Conv2d(width, 12, 3, padding=1) for _ in range(depth))
        self.bases = nn.ModuleList(nn.Conv2d(12, 12, 1) for _ in range(depth))

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 2 H, 2 W)."""
        detail, base = torch.relu(self.head(picture)), self.base(picture)
        for of_detail, across, of_base in zip(self.details, self.to_base, self.bases, strict=True):
            detail, base = torch.relu(of_detail(detail)), of_base(base) + across(detail)
        result: Tensor = nn.functional.pixel_shuffle(base, 2)
        return result


class WrittenShuffles(nn.Module):
    """A channel shuffle, an unshuffle by 4 in two steps, and a pixel shuffle, written by view and permute."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body, self.tail = conv(3, 8), nn.Conv2d(128, 27, 1), conv(3, 3)

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, 3 H, 3 W); H and W are multiples of 4."""
        features = self.head(picture)
        n, channels, height, width = features.shape
        features = features.view(n, 2, channels // 2, height, width).transpose(1, 2)
        features = features.reshape(n, channels, height, width)
        features = nn.functional.pixel_unshuffle(nn.functional.pixel_unshuffle(features, 2), 2)
        features = torch.relu(self.body(features))
        n, _, height, width = features.shape
        features = features.view(n, 3, 3, 3, height, width).permute(0, 1, 4, 2, 5, 3)
        features = self.tail(features.reshape(n, 3, 3 * height, 3 * width))
        result: Tensor = nn.functional.interpolate(features, scale_factor=4, mode="nearest")
        return result


NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "compact-24x8": (3, lambda: WithResidual(plain(3, 24, 8))),
    "dncnn": (1, lambda: Dncnn(16, 3)),
    "abpn": (3, lambda: Abpn(depth=3)),
    "imdn-local": (3, lambda: LocalImdn(2)),
    "mixed": (3, Mixed),
    "two-shuffles": (1, TwoShuffles),
    "span-8": (3, lambda: Span(8)),
    "u-net": (3, Unet),
    "edsr": (3, Edsr),
    "ffdnet": (3, Ffdnet),
    "dual-path": (3, DualPath),
    "written-shuffles": (3, WrittenShuffles),
}
"""Channels of the picture and the network, beside those of benchmarks/published_networks.py."""


def exported(module: nn.Module, channels: int) -> onnx.ModelProto:
    """A network with normal weights as an ONNX model of open size."""
    torch.manual_seed(0)
    for buffer in module.modules():
        if isinstance(buffer, nn.BatchNorm2d):
            buffer.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            buffer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    file = io.BytesIO()
    sizes = {"x": {2: "height", 3: "width"}, "y": {2: "tall", 3: "wide"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter takes a tenth of the time, and warns of itself
        torch.onnx.export(
            module.eval(),
            (torch.rand(1, channels, 8, 12),),
            file,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=sizes,
            opset_version=17,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


def program_of(model: onnx.ModelProto) -> Program:
    """The program of an ONNX model."""
    graph = graph_of(model)
    return compile_graph(graph, analyze(graph))


def expected(model: onnx.ModelProto, picture: np.ndarray, multiple: int = 1) -> np.ndarray:
    """ONNX Runtime's output (C, H', W') for a picture (C, H, W), extended by its edges to a multiple."""
    height, width = picture.shape[1:]
    picture = np.pad(picture, ((0, 0), (0, -height % multiple), (0, -width % multiple)), "edge")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in model.graph.input)
    output: np.ndarray = session.run(None, {name: picture[None]})[0][0]
    scale = output.shape[1] // picture.shape[1]
    return output[:, : height * scale, : width * scale]


def streamed(engine: Engine, picture: np.ndarray, rows: int) -> np.ndarray:
    """The engine's output for a picture (C, H, W) that is passed some rows at a time."""
    channels, height, width = picture.shape
    stream = engine.stream(height, width, channels, "float32", "float32")
    pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
    parts = [stream.push(pixels[first : first + rows]) for first in range(0, height, rows)]
    return np.concatenate(parts).transpose(2, 0, 1)
