"""What the native engine runs, in which precisions and on which instruction sets, found by running it.

`scripts/engine_table.py` puts the table into `docs/concepts/engine.md`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from engine_networks import model_of, quantized
from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.runtime.engine import Engine, EngineRuntime
from onebranch.runtime.engine_library import instruction_sets
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from programs import expected, exported, program_of

PRECISIONS = ("fp32", "bf16", "int8")

ALLOWED = {"fp32": 1e-5, "bf16": 0.05, "int8": 1e-5}
"""Largest difference from the definition (of bf16: in float64), relative to the largest value."""


def _network(kernel: str = "3x3", width: int = 12, depth: int = 1, **changes: object) -> NetworkSpec:
    block = BlockSpec((kernel,), width)
    facts: dict[str, object] = dict(task="denoise", colour="y", scale=1, head=block)
    facts |= dict(blocks=(block,) * depth, tail=BlockSpec((kernel,), 1, "none"))
    return NetworkSpec(**{**facts, **changes})  # type: ignore[arg-type]


def _activations() -> NetworkSpec:
    kinds = ("prelu", "relu", "leaky_relu", "none")
    return _network(blocks=tuple(BlockSpec(("3x3",), 12, kind) for kind in kinds))


def _enlarging(residual: str) -> NetworkSpec:
    tail = BlockSpec(("3x3",), 4, "none")
    return _network(task="upscale", scale=2, tail=tail, residual=residual)


def _reducing(layer: str) -> NetworkSpec:
    tail = BlockSpec(("3x3",), 1 if layer == "average" else 5, "none")
    return _network(task="downscale", scale=2, tail=tail, downsampling=layer, residual="bicubic")


NETWORK_ROWS: dict[str, Sequence[Callable[[], NetworkSpec]]] = {
    "dense convolutions of odd kernels (3x3, 1x1, 5x5, 3x1)": [
        partial(_network, kernel) for kernel in ("3x3", "1x1", "5x5", "3x1")
    ],
    "PReLU, ReLU, leaky ReLU, no activation": [_activations],
    "additive skips": [partial(_network, depth=3, skips=(Skip(0, 2), Skip(1, 3)))],
    "pixel shuffle, picture residual (nearest, bicubic)": [
        partial(_enlarging, residual) for residual in ("none", "nearest", "bicubic")
    ],
    "downsampling (strided convolution, average, unshuffle)": [
        partial(_reducing, layer) for layer in ("convolution", "average", "unshuffle")
    ],
}
"""Parts of onebranch's own networks, each with networks that have them."""


class _Applied(nn.Module):
    """A convolution, an operation on its result, and a convolution to the picture's channels."""

    def __init__(self, operation: Callable[[Tensor], Tensor], channels: int = 12) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(channels, 3, 1)
        self.operation = operation

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, s H, s W), where s is what the operation enlarges by."""
        result: Tensor = self.last(self.operation(self.first(picture)))
        return result


F = nn.functional


def _operation(operation: Callable[[Tensor], Tensor], channels: int = 12) -> Callable[[], nn.Module]:
    return partial(_Applied, operation, channels)


def _padded(mode: str) -> Callable[[Tensor], Tensor]:
    convolution = nn.Conv2d(12, 12, 3)
    return nn.Sequential(nn.ZeroPad2d(1) if mode == "zeros" else nn.ReplicationPad2d(1), convolution)


PROGRAM_ROWS: dict[str, Sequence[Callable[[], nn.Module]]] = {
    "convolutions: grouped, depthwise, dilated, padded unevenly, strided; transposed": [
        _operation(nn.Conv2d(12, 12, 3, padding=1, groups=3)),
        _operation(nn.Conv2d(12, 12, 3, padding=1, groups=12)),
        _operation(nn.Conv2d(12, 12, 3, padding=2, dilation=2)),
        _operation(nn.Conv2d(12, 12, (3, 5), padding=(1, 2))),
        _operation(nn.Sequential(nn.Conv2d(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 12, 2, 2))),
    ],
    "padding by zeros and edges": [_operation(_padded("zeros")), _operation(_padded("edges"))],
    "pooling: average, maximum": [
        _operation(nn.AvgPool2d(3, 1, 1)),
        _operation(nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2))),
    ],
    "PReLU, ReLU, leaky ReLU, clip, absolute value": [
        _operation(operation)
        for operation in (nn.PReLU(12), nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), torch.abs)
    ],
    "sigmoid, tanh, SiLU, hard sigmoid, hard swish": [
        _operation(operation) for operation in (torch.sigmoid, torch.tanh, F.silu, F.hardsigmoid, F.hardswish)
    ],
    "sums, differences, products, quotients by numbers, batch normalization": [
        _operation(lambda x: x + x[:, :1]),
        _operation(lambda x: x - 0.5 * torch.relu(x)),
        _operation(lambda x: x * torch.sigmoid(x[:, :1])),
        _operation(lambda x: x / 3),
        _operation(nn.BatchNorm2d(12)),
    ],
    "concatenation, slices and shuffles of channels": [
        _operation(lambda x: torch.cat([x[:, 6:], torch.relu(x[:, :6])], 1)),
        _operation(lambda x: x.view(1, 3, 4, x.shape[2], x.shape[3]).transpose(1, 2).reshape(x.shape)),
    ],
    "pixel shuffle and unshuffle": [
        _operation(lambda x: F.pixel_shuffle(x, 2), 3),
        _operation(lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2)),
    ],
    "resizing by whole numbers: nearest, bilinear, bicubic": [
        _operation(lambda x, kind=kind: F.interpolate(x, scale_factor=2, mode=kind))
        for kind in ("nearest", "bilinear", "bicubic")
    ],
}
"""Operations of other networks, which run as programs, each with modules that have them."""


def is_near(actual: np.ndarray, wanted: np.ndarray, precision: str) -> bool:
    """Whether the largest difference is allowed."""
    return bool(np.abs(actual - wanted).max() <= ALLOWED[precision] * max(1.0, float(np.abs(wanted).max())))


def runs_network(spec: NetworkSpec, precision: str, instructions: str) -> bool:
    """Whether the engine computes a network as it is defined."""
    model = quantized(model_of(spec, 0), 0)
    picture = np.random.default_rng(0).random((1, spec.channels, 10, 36), np.float32)
    if precision == "int8":
        wanted = run_integer_network(spec, model.weights, model.quantization, picture)
    else:
        wanted = run_network(spec, model.weights, picture.astype(np.float64))
    try:
        actual = EngineRuntime(model, 1, precision, instructions=instructions).run(picture)
    except OnebranchError:
        return False
    return is_near(actual, wanted, precision)


def runs_program(build: Callable[[], nn.Module], instructions: str) -> bool:
    """Whether the engine computes a module as ONNX Runtime does."""
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2)
    model = exported(module, 3)
    try:
        program = program_of(model)
    except OnebranchError:
        return False
    picture = np.random.default_rng(0).random((3, 12, 36), np.float32)
    wanted = expected(model, picture, program.block)
    actual = Engine(program.packed(), 1, instructions=instructions).run(picture, "float32", planar=True)
    return is_near(actual, wanted, "fp32")


def _cell(works: Callable[[str], bool]) -> str:
    """The instruction sets of this machine that work."""
    sets = [name for name in instruction_sets() if works(name)]
    return "every set" if len(sets) == len(instruction_sets()) else ", ".join(sets) or "–"


def table() -> str:
    """Operations by precision, as Markdown."""
    lines = ["| | float32 | bfloat16 | 8 bits |", "| --- | --- | --- | --- |"]
    for row, networks in NETWORK_ROWS.items():
        cells = [
            _cell(lambda name, p=precision, n=networks: all(runs_network(each(), p, name) for each in n))
            for precision in PRECISIONS
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    for row, modules in PROGRAM_ROWS.items():
        cell = _cell(lambda name, m=modules: all(runs_program(each, name) for each in m))
        lines.append(f"| {row} | {cell} | – | – |")
    return "\n".join(lines)
