"""Networks from both ONNX exporters of PyTorch: equal analysis, and tiles that equal the whole picture."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

from onebranch.algebra.padding import Padding
from onebranch.enhancer.tiles import run_tiled
from onebranch.graph.onnx.file import write
from onebranch.model.foreign import read_foreign
from onebranch.runtime.foreign import ForeignRuntime

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its exporters were not tried")
nn, functional = torch.nn, torch.nn.functional

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    # A warning of torch.export about torch's own code.
    "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning",
)

TOLERANCE = 1e-5
"""Relative to the largest value: float32 sums differ in order, because runtimes block by size."""

Pictures = torch.Tensor


class Edsr(nn.Module):
    """Residual blocks and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        pair = (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.body = nn.Sequential(*pair)

    def forward(self, x: Pictures) -> Pictures:
        x = self.head(x)
        return functional.pixel_shuffle(self.tail(x + 0.5 * self.body(x)), 2)


class UNet(nn.Module):
    """Reduced by a stride and a pool; enlarged by interpolation and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.middle, self.up = nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Pictures) -> Pictures:
        first = functional.relu(self.first(x))
        down = functional.silu(self.down(first))
        deep = functional.relu(self.middle(functional.max_pool2d(down, 2)))
        back = functional.interpolate(deep, size=down.shape[2:], mode="bilinear") + down
        return self.last(torch.cat([self.up(back), first], 1)) + x


class Fsrcnn(nn.Sequential):
    """PReLU and a large transposed convolution at the end."""

    def __init__(self) -> None:
        last = nn.ConvTranspose2d(8, 1, 9, stride=2, padding=4, output_padding=1)
        super().__init__(nn.Conv2d(1, 8, 5, padding=2), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1), last)


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

    def forward(self, x: Pictures) -> Pictures:
        x = self.first(x)
        return self.last(x * self.gate(x))


class Upsampled(nn.Module):
    """A network that enlarges its feature maps by a factor, by interpolation."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.mode = mode

    def forward(self, x: Pictures) -> Pictures:
        return self.last(functional.interpolate(self.first(x), scale_factor=2, mode=self.mode))


class PaddedWindows(nn.Module):
    """As SwinIR: the picture is padded to whole windows, attention is per window, the output is cropped."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.normal, self.queries = nn.LayerNorm(8), nn.Linear(8, 24)

    def forward(self, x: Pictures) -> Pictures:
        _, _, rows, columns = x.shape
        x = functional.pad(x, (0, -columns % 4, 0, -rows % 4), mode="reflect")
        x = self.first(x)
        x = x + self.attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = functional.pixel_shuffle(self.last(x), 2)
        return x[:, :, : 2 * rows, : 2 * columns]

    def attention(self, x: Pictures) -> Pictures:
        b, h, w, c = x.shape
        tokens = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = (
            self.queries(self.normal(tokens)).view(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, 4, c)
        return mixed.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


class Channels(nn.Module):
    """Pixel unshuffle, grouped convolution, channel shuffle, normalization along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.middle, self.normal = nn.Conv2d(12, 12, 3, padding=1, groups=2), nn.LayerNorm(12)

    def forward(self, x: Pictures) -> Pictures:
        x = self.middle(functional.pixel_unshuffle(x, 2))
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        x = self.normal(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return functional.pixel_shuffle(x * x.softmax(1), 2)


class Attention(nn.Module):
    """Attention from every pixel to every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Pictures) -> Pictures:
        x = self.first(x)
        tokens = x.flatten(2)
        mixed = (tokens.transpose(1, 2) @ tokens).softmax(-1) @ tokens.transpose(1, 2)
        return self.last(mixed.transpose(1, 2).view(x.shape))


@dataclass(frozen=True)
class Case:
    """A module and its expected analysis; halo is None if it needs the whole picture."""

    build: Callable[[], nn.Module]
    scale: int
    multiple: int
    halo: Padding | None


CASES = {
    "edsr": Case(Edsr, 2, 1, Padding.uniform(4)),
    "unet": Case(UNet, 1, 4, Padding.uniform(12)),
    "fsrcnn": Case(Fsrcnn, 2, 1, Padding.uniform(5)),
    "squeeze": Case(Squeeze, 1, 1, None),
    "nearest": Case(lambda: Upsampled("nearest"), 2, 1, Padding.uniform(2)),
    "bilinear": Case(lambda: Upsampled("bilinear"), 2, 1, Padding.uniform(2)),
    "bicubic": Case(lambda: Upsampled("bicubic"), 2, 1, Padding.uniform(3)),
    "windows": Case(PaddedWindows, 2, 4, Padding.uniform(8)),
    "channels": Case(Channels, 1, 2, Padding.uniform(2)),
    "attention": Case(Attention, 1, 1, None),
}


def module_of(case: Case) -> nn.Module:
    """The module, with the same weights every time."""
    torch.manual_seed(0)
    return case.build().eval()


def by_tracing(module: nn.Module, example: Pictures) -> onnx.ModelProto:
    """Exported by the older exporter, at an older opset."""
    content = io.BytesIO()
    axes = {"input": {2: "height", 3: "width"}}
    names = {"input_names": ["input"], "output_names": ["output"]}
    torch.onnx.export(module, (example,), content, dynamo=False, opset_version=11, dynamic_axes=axes, **names)
    return onnx.load_from_string(content.getvalue())


def by_dynamo(module: nn.Module, example: Pictures) -> onnx.ModelProto:
    """Exported by the newer exporter (torch.export), at a newer opset."""
    open_size = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        module, (example,), dynamo=True, opset_version=18, dynamic_shapes=({2: open_size, 3: open_size},),
        verbose=False,
    )  # fmt: skip
    return program.model_proto


@pytest.mark.parametrize("export", [by_tracing, by_dynamo])
@pytest.mark.parametrize("name", CASES)
def test_exports_are_understood_and_run(name: str, export: Callable, tmp_path: Path) -> None:
    case = CASES[name]
    module = module_of(case)
    channels = 1 if name == "fsrcnn" else 3
    write(export(module, torch.rand(1, channels, 24, 32)), tmp_path / "x.onnx")
    model = read_foreign(tmp_path / "x.onnx")
    analysis = model.usable()[1]
    assert analysis.unsupported == ""
    assert (analysis.scale, analysis.multiple, analysis.halo) == (
        Fraction(case.scale),
        case.multiple,
        case.halo,
    )

    runtime = ForeignRuntime(model, threads=1)
    height, width = 60, 84
    picture = np.random.default_rng(0).random((height, width, channels), np.float32)

    def run(piece: np.ndarray) -> np.ndarray:
        return runtime.run(np.ascontiguousarray(piece.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)

    with torch.no_grad():
        expected = module(torch.from_numpy(picture.transpose(2, 0, 1)[None]))[0].numpy().transpose(1, 2, 0)
    largest = max(1, np.abs(expected).max())
    np.testing.assert_allclose(run(picture), expected, rtol=0, atol=TOLERANCE * largest)
    for size in ((height, width), (height - 3, width - 1)):
        smaller = picture[: size[0], : size[1]]
        whole = run(smaller)
        for tile in (8, 21):
            tiled = run_tiled(run, smaller, runtime.halo, tile)
            np.testing.assert_allclose(tiled, whole, rtol=0, atol=TOLERANCE * largest)
