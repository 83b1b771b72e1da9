"""Random networks of linear and nonlinear operations, as ONNX graphs and as PyTorch modules.

A network is described by a program: a list of instructions (kind, two operands, a number). An instruction
that does not fit is replaced by one that does, so that every program is a network, and a shorter program is
a smaller network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from onnx_networks import Sketch

EXAMPLE = (9, 8)
"""Height and width for which programs are valid."""

WIDEST = 8
"""Numbers of channels that are drawn."""


class Instruction(NamedTuple):
    """An operation's kind, how many values ago its operands were made, and a number that selects a form."""

    kind: str
    first: int
    second: int
    variant: int


class Value(NamedTuple):
    """A feature map, and its channels, height and width at the example's size."""

    name: str
    channels: int
    height: int
    width: int


Make = Callable[[Sketch, str, Value, Value, int], Value | None]
"""A function of a sketch, the new value's name, two operands and a form; None if they do not fit."""

KERNELS = ((1, 1), (3, 3), (1, 1), (3, 3), (2, 2), (1, 3), (3, 1), (5, 5), (2, 3))


def _digits(variant: int, *bases: int) -> list[int]:
    """The form as digits, each below its base."""
    digits = []
    for base in bases:
        digits.append(variant % base)
        variant //= base
    return digits


def _after(size: int, kernel: int, pads: int, stride: int, dilation: int = 1) -> int:
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def _weight(s: Sketch, name: str, shape: Sequence[int], whole: bool) -> str:
    """Normally distributed values, or small integers."""
    spread = 1.2 / math.sqrt(math.prod(shape[1:]) or 1)
    values = s.random.integers(-2, 3, shape) * 0.25 if whole else s.random.normal(0, spread, shape)
    return s.constant(name, np.asarray(values, np.float32))


def conv(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """Any convolution: kernel, padding on each side, stride, dilation, groups, bias."""
    k, padding, stride, dilation, group, bias, wide, whole = _digits(variant, 9, 5, 5, 4, 3, 2, 3, 2)
    rows, columns = KERNELS[k]
    step, spacing = 2 if stride == 4 else 1, 2 if dilation == 3 else 1
    groups = [1, x.channels, math.gcd(2, x.channels)][group]
    outputs = [x.channels, min(WIDEST, 2 * x.channels), groups][wide]
    radii = [(rows - 1) * spacing, (columns - 1) * spacing]
    halves = [r // 2 for r in radii] + [r - r // 2 for r in radii]
    pads = [halves, halves, [0] * 4, [radii[0], 0, 0, radii[1]], [0, 0, *radii]][padding]
    height = _after(x.height, rows, pads[0] + pads[2], step, spacing)
    width = _after(x.width, columns, pads[1] + pads[3], step, spacing)
    if outputs % groups or min(height, width) < 1:
        return None
    names = [x.name, _weight(s, f"{name}.w", (outputs, x.channels // groups, rows, columns), bool(whole))]
    if bias:
        names.append(_weight(s, f"{name}.b", (outputs,), False))
    s.add("Conv", names, name, pads=pads, strides=[step] * 2, dilations=[spacing] * 2, group=groups)
    return Value(name, outputs, height, width)


def transposed(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """A transposed convolution, mostly of stride 1, rarely of stride 2."""
    k, padding, stride, group, bias = _digits(variant, 3, 3, 5, 2, 2)
    kernel, step, groups = (1, 3, 2)[k], 2 if stride == 4 else 1, x.channels if group else 1
    pads = [[(kernel - 1) // 2] * 4, [0] * 4, [kernel - 1, 0, 0, kernel - 1]][padding]
    names = [x.name, _weight(s, f"{name}.w", (x.channels, 1 if group else x.channels, kernel, kernel), False)]
    if bias:
        names.append(_weight(s, f"{name}.b", (x.channels,), False))
    height = (x.height - 1) * step + kernel - pads[0] - pads[2]
    width = (x.width - 1) * step + kernel - pads[1] - pads[3]
    if not 1 <= height <= 40 or not 1 <= width <= 40:
        return None
    s.add("ConvTranspose", names, name, pads=pads, strides=[step] * 2, group=groups)
    return Value(name, x.channels, height, width)


def bn(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
    """Batch normalization."""
    s.channels[x.name] = x.channels
    return x._replace(name=s.bn(x.name, name))


def combined(kind: str) -> Make:
    """An operation on two values of one shape, or on a value and one with a single channel or pixel."""

    def make(s: Sketch, name: str, x: Value, y: Value, variant: int) -> Value | None:
        sides = list(zip(x[1:], y[1:], strict=True))
        if any(a != b and 1 not in (a, b) for a, b in sides):
            return None
        s.add(kind, [x.name, y.name], name)
        return Value(name, *(max(pair) for pair in sides))

    return make


def joined(s: Sketch, name: str, x: Value, y: Value, variant: int) -> Value | None:
    """Two values, or one value twice, concatenated."""
    if x[2:] != y[2:] or x.channels + y.channels > WIDEST:
        return None
    s.add("Concat", [x.name, y.name], name, axis=1)
    return x._replace(name=name, channels=x.channels + y.channels)


def with_channels(kind: str) -> Make:
    """An operation with a constant: a number, one per channel, or rarely one per row or column."""

    def make(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
        shape, reverse = _digits(variant, 5, 2)
        shapes = [(x.channels, 1, 1), (1, x.channels, 1, 1), (), (1,), (x.channels, 1, x.width)]
        values = s.random.uniform(0.4, 1.6, shapes[shape]) * s.random.choice([-1, 1], shapes[shape])
        names = [x.name, s.constant(f"{name}.c", np.asarray(values, np.float32))]
        s.add(kind, names[::-1] if reverse and kind != "Div" else names, name)
        return x._replace(name=name)

    return make


def cut(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
    """Some of the channels, or rarely some of the rows."""
    start, count, step, axis = _digits(variant, WIDEST, WIDEST, 3, 8)
    length = x.height if axis == 7 else x.channels
    begin = start % length
    stop, stride = min(length, begin + 1 + count), 2 if step == 2 else 1
    ends = [[begin], [stop], [2 if axis == 7 else 1], [stride]]
    s.add("Slice", [x.name, *(s.constant(f"{name}.{k}", np.array(e)) for k, e in enumerate(ends))], name)
    left = len(range(begin, stop, stride))
    return x._replace(name=name, height=left) if axis == 7 else x._replace(name=name, channels=left)


def gathered(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
    """Channels in any order, some of them twice."""
    order = np.random.default_rng(variant).integers(0, x.channels, min(WIDEST, x.channels + variant % 2))
    s.add("Gather", [x.name, s.constant(f"{name}.order", order)], name, axis=1)
    return x._replace(name=name, channels=len(order))


def shuffled(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """A channel shuffle by reshapes that contain the size of the picture."""
    if x.channels % 2:
        return None
    groups = s.constant(f"{name}.groups", np.array([0, 2, x.channels // 2, -1]))
    s.add("Shape", x.name, f"{name}.shape")
    s.add("Reshape", [x.name, groups], f"{name}.apart")
    s.add("Transpose", f"{name}.apart", f"{name}.turned", perm=[0, 2, 1, 3])
    s.add("Reshape", [f"{name}.turned", f"{name}.shape"], name)
    return x._replace(name=name)


def pool(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """Average pooling, rarely maximum pooling."""
    k, stride, padding, counted, ceil, maximum = _digits(variant, 3, 4, 3, 4, 4, 4)
    kernel, step = (2, 3, 1)[k], 2 if stride == 3 else 1
    pads = [[(kernel - 1) // 2] * 4, [0] * 4, [kernel - 1, 0, 0, kernel - 1]][padding]
    up = int(ceil == 3)
    height, width = (
        -((kernel - size - both) // step) + 1 if up else _after(size, kernel, both, step)
        for size, both in ((x.height, pads[0] + pads[2]), (x.width, pads[1] + pads[3]))
    )
    if min(height, width) < 1:
        return None
    shared = {"kernel_shape": [kernel] * 2, "strides": [step] * 2, "pads": pads, "ceil_mode": up}
    if maximum == 3:
        s.add("MaxPool", x.name, name, **shared)
    else:
        s.add("AveragePool", x.name, name, count_include_pad=int(counted > 0), **shared)
    return Value(name, x.channels, height, width)


def padded(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """Padding, mostly with zero."""
    amounts, mode = _digits(variant, 4, 8)
    pads = [[1, 1, 1, 1], [1, 0, 0, 2], [0, 1, -1, 1], [2, 2, 2, 2]][amounts]
    height, width = x.height + pads[0] + pads[2], x.width + pads[1] + pads[3]
    kind = ["constant"] * 5 + ["reflect", "edge", "constant"]
    if min(height, width) < 1 or (kind[mode] == "reflect" and min(x.height, x.width) < 3):
        return None
    names = [x.name, s.constant(f"{name}.pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]]))]
    if mode == 7:
        names.append(s.constant(f"{name}.value", np.array(0.5, np.float32)))
    s.add("Pad", names, name, mode=kind[mode])
    return Value(name, x.channels, height, width)


def alone(kind: str, **attributes: Any) -> Make:
    """An operation on one value that keeps its shape."""

    def make(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
        s.add(kind, x.name, name, **attributes)
        return x._replace(name=name)

    return make


def prelu(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
    """PReLU with a slope for each channel."""
    s.add("PRelu", [x.name, s.normal(f"{name}.slope", x.channels, 1, 1)], name)
    return x._replace(name=name)


def mean(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value:
    """The mean of the picture, or of the channels."""
    if variant % 2:
        s.add("GlobalAveragePool", x.name, name)
        return Value(name, x.channels, 1, 1)
    s.add("ReduceMean", [x.name, s.constant(f"{name}.axes", np.array([1]))], name, keepdims=1)
    return x._replace(name=name, channels=1)


def resized(s: Sketch, name: str, x: Value, _: Value, variant: int) -> Value | None:
    """Resizing by 2, pixel shuffle, or pixel unshuffle."""
    if variant % 3 == 0 and max(x.height, x.width) <= 20:
        scales = s.constant(f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
        nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        s.add("Resize", [x.name, "", scales], name, mode="nearest", **nearest)
        return Value(name, x.channels, 2 * x.height, 2 * x.width)
    if variant % 3 == 1 and x.channels % 4 == 0:
        s.add("DepthToSpace", x.name, name, blocksize=2, mode=["CRD", "DCR"][variant % 2])
        return Value(name, x.channels // 4, 2 * x.height, 2 * x.width)
    if variant % 3 == 2 and x.channels <= 2 and x.height % 2 == x.width % 2 == 0:
        s.add("SpaceToDepth", x.name, name, blocksize=2)
        return Value(name, 4 * x.channels, x.height // 2, x.width // 2)
    return None


MAKERS: Mapping[str, Make] = {
    "conv": conv,
    "transposed": transposed,
    "bn": bn,
    "add": combined("Add"),
    "subtract": combined("Sub"),
    "multiply": combined("Mul"),
    "maximum": combined("Max"),
    "concatenate": joined,
    "scale": with_channels("Mul"),
    "shift": with_channels("Add"),
    "subtract constant": with_channels("Sub"),
    "divide": with_channels("Div"),
    "cut": cut,
    "gather": gathered,
    "shuffle": shuffled,
    "pool": pool,
    "pad": padded,
    "negate": alone("Neg"),
    "identity": alone("Identity"),
    "dropout": alone("Dropout"),
    "relu": alone("Relu"),
    "leaky relu": alone("LeakyRelu", alpha=0.3),
    "sigmoid": alone("Sigmoid"),
    "prelu": prelu,
    "mean": mean,
    "resize": resized,
}
"""Kinds of operations."""

FREQUENT = ["conv"] * 8 + ["bn", "add"] * 4 + ["pad", "concatenate", "scale", "pool"] * 2
"""Kinds that random programs repeat."""

INSTRUCTIONS = st.builds(
    Instruction,
    st.sampled_from([*FREQUENT, *MAKERS]),
    st.integers(0, 5),
    st.integers(0, 7),
    st.integers(0, 9 * 5 * 5 * 4 * 3 * 2 * 3 * 2 - 1),
)

PROGRAMS = st.lists(INSTRUCTIONS, min_size=3, max_size=15)
"""Programs of 3 to 15 operations."""


def _operand(values: Sequence[Any], back: int) -> Any:
    return values[-1 - min(back, len(values) - 1)]


def graph(program: Sequence[Instruction], seed: int, also: int = 0) -> onnx.ModelProto:
    """The program as an ONNX graph. also: bits that select inner values as additional outputs."""
    s = Sketch(seed, x=("N", 3, "H", "W"))
    values = [Value("x", 3, *EXAMPLE)]
    for number, step in enumerate(program):
        x, y = _operand(values, step.first), _operand(values, step.second)
        made = MAKERS[step.kind](s, f"{step.kind.replace(' ', '_')}{number}", x, y, step.variant)
        values.append(made or alone("Relu")(s, f"relu{number}", x, x, 0))
    read = {name for node in s.nodes for name in node.input}
    made = [value.name for value in values[1:]]
    return s.model(*(name for k, name in enumerate(made) if name not in read or also >> k & 1))


class Module(nn.Module):
    """A program as a PyTorch module; instructions that do not fit the example are skipped."""

    def __init__(self, program: Sequence[Instruction], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.parts = nn.ModuleList()
        self.steps: list[tuple[str, int, int, int]] = []
        values = [torch.randn(1, 3, *EXAMPLE)]
        for step in program:
            first = max(0, len(values) - 1 - step.first)
            second = max(0, len(values) - 1 - step.second)
            entry = (step.kind, first, second, step.variant)
            self.parts.append(_part(step.kind, values[first].shape[1], step.variant))
            try:
                values.append(_done(entry, self.parts[-1], values).detach())
                self.steps.append(entry)
            except (RuntimeError, ValueError):
                del self.parts[-1]
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        """All values without readers."""
        values = [x]
        for entry, part in zip(self.steps, self.parts, strict=True):
            values.append(_done(entry, part, values))
        read = {index for _, first, second, _ in self.steps for index in (first, second)}
        return [value for index, value in enumerate(values) if index not in read]


def _part(kind: str, channels: int, variant: int) -> nn.Module:
    """The module of a step; Identity if the step needs none."""
    if kind == "conv":
        k, mode, stride, group, bias, padding = _digits(variant, 9, 6, 5, 2, 2, 3)
        rows, columns = KERNELS[k]
        modes = ["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]
        return nn.Conv2d(
            channels,
            channels if group else min(WIDEST, channels + 1),
            (rows, columns),
            2 if stride == 4 else 1,
            [0, (rows // 2, columns // 2), "same" if stride < 4 else 0][padding],
            groups=channels if group else 1,
            bias=bool(bias),
            padding_mode=modes[mode],
        )
    if kind == "transposed":
        return nn.ConvTranspose2d(channels, channels, 3, padding=variant % 2)
    if kind == "bn":
        layer = nn.BatchNorm2d(channels)
        nn.init.normal_(layer.running_mean, 0, 0.5)
        nn.init.uniform_(layer.running_var, 0.3, 3)
        nn.init.normal_(layer.bias, 0, 0.5)
        return layer
    return nn.Identity()


def _done(entry: tuple[str, int, int, int], part: nn.Module, values: Sequence[Tensor]) -> Tensor:
    """One step of a module."""
    kind, first, second, variant = entry
    x, y = values[first], values[second]
    return _TORCH[kind](x, y, variant) if kind in _TORCH else part(x)


_TORCH: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "add": lambda x, y, variant: x + y,
    "subtract": lambda x, y, variant: x - y if variant % 2 else torch.sub(x, y, alpha=2),
    "multiply": lambda x, y, variant: x * y,
    "maximum": lambda x, y, variant: torch.maximum(x, y),
    "concatenate": lambda x, y, variant: _joined(x, y),
    "scale": lambda x, y, variant: x * torch.linspace(-1, 2, x.shape[1]).view(-1, 1, 1),
    "shift": lambda x, y, variant: x.add(torch.linspace(-1, 2, x.shape[1]).view(1, -1, 1, 1), alpha=0.5),
    "subtract constant": lambda x, y, variant: 1.5 - x,
    "divide": lambda x, y, variant: x / 3,
    "cut": lambda x, y, variant: x[:, variant % x.shape[1] :],
    "gather": lambda x, y, variant: x[:, [variant % x.shape[1], 0, -1]],
    "shuffle": lambda x, y, variant: functional.channel_shuffle(x, 2),
    "pool": lambda x, y, variant: functional.avg_pool2d(
        x,
        3,
        1 + variant % 2,
        variant // 2 % 2,
        count_include_pad=variant // 4 % 4 > 0,
        ceil_mode=variant // 16 % 4 == 0,
    ),
    "pad": lambda x, y, variant: functional.pad(
        x, (1, variant % 2, 1, 1), ["constant", "constant", "constant", "reflect"][variant // 2 % 4]
    ),
    "negate": lambda x, y, variant: -x,
    "relu": lambda x, y, variant: functional.relu(x),
    "leaky relu": lambda x, y, variant: functional.leaky_relu(x, 0.2),
    "sigmoid": lambda x, y, variant: torch.sigmoid(x),
    "prelu": lambda x, y, variant: functional.prelu(x, torch.tensor([0.4])),
    "mean": lambda x, y, variant: x.mean((2, 3), keepdim=True),
    "resize": lambda x, y, variant: functional.interpolate(x, scale_factor=2, mode="nearest"),
    "dropout": lambda x, y, variant: functional.dropout(x, 0.5, training=False),
    "identity": lambda x, y, variant: x.clone().mul_(0.5) if variant % 2 else x,
}


def _joined(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[1] + y.shape[1] > WIDEST:
        raise ValueError("too wide")
    return torch.cat([x, y], 1)
