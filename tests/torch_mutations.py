"""Wrong, odd and harmless variants of mergeable PyTorch networks: a table of kinds and their makers.

A network is a forward function over named parts; `net.at(k, value)` marks places for insertions.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils import _pytree as pytree

from mutations import TOLERANCE, Arrays, Expectation, Merge, relative_error
from onebranch.errors import OnebranchError

SIZES = ((1, 9, 8), (2, 7, 5), (1, 1, 1), (1, 1, 7), (3, 2, 3), (1, 8, 8))
"""Batch, height and width of the inputs, first those of the example."""

Slip = Callable[[Tensor], Any]
Forward = Callable[..., Any]
Build = Callable[[], nn.Module]


class Net(nn.Module):
    """A forward function over parts: modules, parameters, or anything else."""

    def __init__(self, function: Forward, position: int = -1, slip: Slip = lambda x: x, **parts: Any) -> None:
        super().__init__()
        self.function, self.position, self.slip = function, position, slip
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def at(self, position: int, value: Tensor) -> Any:
        """The value, or its mutation if this is the chosen place."""
        return self.slip(value) if position == self.position else value

    def forward(self, x: Tensor) -> Any:
        """The output of this network."""
        return self.function(self, x)


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, **options: Any) -> nn.Conv2d:
    """A convolution padded by its radius unless said otherwise."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    dilation = options.get("dilation", 1)
    padding = tuple((k - 1) * dilation // 2 for k in sides)
    return nn.Conv2d(inputs, outputs, sides, **{"padding": padding, **options})


def bn(channels: int = 4, **options: Any) -> nn.BatchNorm2d:
    """Batch normalization with statistics far from 0 and 1."""
    layer = nn.BatchNorm2d(channels, **options)
    for tensor in (layer.weight, layer.bias, layer.running_mean):
        if tensor is not None:
            nn.init.normal_(tensor, 0.1, 0.5)
    if layer.running_var is not None:
        nn.init.uniform_(layer.running_var, 0.3, 3)
    return layer


def parameter(*shape: int) -> nn.Parameter:
    """A learnt tensor."""
    return nn.Parameter(torch.randn(shape) * 0.5)


def _conv_bn(n: Any, x: Tensor) -> Tensor:
    return n.last(torch.relu(n.at(2, n.bn(n.at(1, n.conv(n.at(0, x)))))))


def _repvgg(n: Any, x: Tensor) -> Tensor:
    large = n.at(2, n.bn3(n.at(1, n.conv3(n.at(0, x)))))
    return torch.relu(n.at(5, large + n.at(3, n.bn1(n.conv1(x))) + n.at(4, n.bn0(x))))


def _pad_first(n: Any, x: Tensor) -> Tensor:
    wide = n.at(1, n.expand(n.at(0, functional.pad(x, (1, 1, 1, 1)))))
    return functional.silu(n.at(4, n.at(3, n.reduce(n.at(2, n.middle(wide)))) + n.shortcut(x)))


def _ecb(n: Any, x: Tensor) -> Tensor:
    inner = functional.pad(n.at(0, n.first(x)), (1, 1, 1, 1))
    bias = n.first.bias.view(1, -1, 1, 1)
    inner[:, :, 0:1, :] = bias
    inner[:, :, -1:, :] = bias
    inner[:, :, :, 0:1] = bias
    inner[:, :, :, -1:] = bias
    return n.act(n.at(3, n.at(2, n.second(n.at(1, inner))) + n.plain(x) + x))


def _mobileone(n: Any, x: Tensor) -> Tensor:
    depth = torch.relu(n.at(1, n.bn3(n.at(0, n.depth3(x))) + n.bn1(n.depth1(x)) + n.bn0(x)))
    return torch.relu(n.at(3, n.at(2, n.bn_point(n.point(depth))) + n.bn_skip(depth)))


def _large_kernel(n: Any, x: Tensor) -> Tensor:
    return functional.gelu(n.at(2, n.bn5(n.at(0, n.large(x))) + n.bn3(n.at(1, n.dilated(x)))))


def _concatenation(n: Any, x: Tensor) -> Tensor:
    joined = torch.cat([n.at(0, n.left(x)), n.at(1, n.right(x))], 1)
    return torch.sigmoid(n.at(3, n.merge(n.at(2, joined))))


def _layer_scale(n: Any, x: Tensor) -> Tensor:
    return torch.tanh(n.at(2, x + n.at(1, n.gamma * n.at(0, n.conv(x)))))


def _shuffle(n: Any, x: Tensor) -> Tensor:
    top, bottom = n.at(0, x).chunk(2, 1)
    joined = n.at(2, torch.cat([n.at(1, n.conv(top)), bottom], 1))
    batch, channels, height, width = joined.shape
    mixed = joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(joined.shape)
    return torch.relu(n.point(n.at(3, mixed)))


def _transposed(n: Any, x: Tensor) -> Tensor:
    return torch.relu(n.at(1, n.bn(n.at(0, n.conv(x)))))


def _dbb(n: Any, x: Tensor) -> Tensor:
    padded = functional.pad(x, (1, 1, 1, 1))
    inner = n.at(1, n.pool(n.at(0, n.bn_before(n.before(padded)))))
    return torch.relu(n.at(2, n.bn3(n.conv3(x)) + n.bn_pool(inner)))


def _head(n: Any, x: Tensor) -> Tensor:
    features = torch.relu(n.at(0, n.conv(x))).mean((2, 3))
    return n.dense(n.bn(features))


NETWORKS: Mapping[str, tuple[Forward, int, Callable[[], dict[str, Any]]]] = {
    "conv_bn": (_conv_bn, 3, lambda: {"conv": conv(4, 4), "bn": bn(), "last": conv(4, 3, 1)}),
    "repvgg": (
        _repvgg,
        6,
        lambda: {
            "conv3": conv(4, 4, bias=False),
            "bn3": bn(),
            "conv1": conv(4, 4, 1),
            "bn1": bn(),
            "bn0": bn(),
        },
    ),
    "pad_first": (
        _pad_first,
        5,
        lambda: {
            "expand": conv(4, 8, 1),
            "middle": conv(8, 8, padding=0),
            "reduce": conv(8, 4, 1),
            "shortcut": conv(4, 4, 1),
        },
    ),
    "ecb": (
        _ecb,
        4,
        lambda: {
            "first": conv(4, 8, 1),
            "second": conv(8, 4, padding=0),
            "plain": conv(4, 4),
            "act": nn.PReLU(4),
        },
    ),
    "dbb": (
        _dbb,
        3,
        lambda: {
            "conv3": conv(4, 4),
            "bn3": bn(),
            "before": conv(4, 4, 1),
            "bn_before": bn(),
            "pool": nn.AvgPool2d(3, 1),
            "bn_pool": bn(),
        },
    ),
    "mobileone": (
        _mobileone,
        4,
        lambda: {
            "depth3": conv(4, 4, groups=4, bias=False),
            "depth1": conv(4, 4, 1, groups=4, bias=False),
            "point": conv(4, 4, 1),
            **{name: bn() for name in ("bn3", "bn1", "bn0", "bn_point", "bn_skip")},
        },
    ),
    "large_kernel": (
        _large_kernel,
        3,
        lambda: {
            "large": conv(4, 4, 5, groups=4),
            "dilated": conv(4, 4, dilation=2, groups=4),
            "bn5": bn(),
            "bn3": bn(),
        },
    ),
    "concatenation": (
        _concatenation,
        4,
        lambda: {"left": conv(4, 4), "right": conv(4, 4, 1), "merge": conv(8, 4, 1)},
    ),
    "layer_scale": (_layer_scale, 3, lambda: {"conv": conv(4, 4), "gamma": parameter(1, 4, 1, 1)}),
    "shuffle": (_shuffle, 4, lambda: {"conv": conv(2, 2), "point": conv(4, 4, 1)}),
    "transposed": (
        _transposed,
        2,
        lambda: {"conv": nn.ConvTranspose2d(4, 4, 3, padding=1), "bn": bn()},
    ),
    "head": (
        _head,
        1,
        lambda: {"conv": conv(4, 6), "bn": _dense_bn(6), "dense": nn.Linear(6, 5)},
    ),
}
"""Forward function, number of places, parts."""


def _dense_bn(features: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(features)
    nn.init.normal_(layer.running_mean, 0, 0.5)
    nn.init.uniform_(layer.running_var, 0.3, 3)
    return layer


@dataclass(frozen=True)
class TorchVariant:
    """A module in evaluation mode; it is built again whenever it is run or merged."""

    name: str
    build: Build
    expectation: Expectation
    channels: int = 4
    sizes: Sequence[tuple[int, int, int]] = SIZES

    def module(self) -> nn.Module:
        """The module with the same random weights every time."""
        torch.manual_seed(zlib.crc32(self.name.encode()))
        return self.build()

    def inputs(self) -> list[Arrays]:
        """A random picture of each size."""
        numbers = np.random.default_rng(zlib.crc32(self.name.encode()))
        shapes = [(batch, self.channels, height, width) for batch, height, width in self.sizes]
        return [[numbers.normal(0.3, 1, shape).astype(np.float32)] for shape in shapes]

    def runner(self, model: Any) -> Callable[[Arrays], Arrays]:
        """A function that runs the original or a merged module twice, in float64 if possible."""
        return self._reference if model is None else lambda arrays: _run_guarded(model, arrays)

    def _reference(self, arrays: Arrays) -> Arrays:
        single = _run(self.module(), arrays)
        try:
            double = _run(self.module().double(), [array.astype(np.float64) for array in arrays])
        except Exception:
            return single
        alike = [_alike(*pair) for pair in zip(single, double, strict=True)]
        return [d.astype(s.dtype) if same else s for s, d, same in zip(single, double, alike, strict=True)]

    def merge(self, merge: Merge, **options: Any) -> tuple[Any, Any]:
        """The merge of the module, which must not change."""
        module = self.module()
        before = _fingerprint(module)
        example = torch.from_numpy(np.asarray(self.inputs()[0][0]))
        result = merge(module, example, **options)
        assert _fingerprint(module) == before, "the merge changed its source"
        return result


def _alike(single: np.ndarray, double: np.ndarray) -> bool:
    return single.shape == double.shape and relative_error(single, double) < TOLERANCE / 10


def _run(module: nn.Module, arrays: Arrays) -> Arrays:
    """Everything that two runs return or change: outputs, their structure, the inputs afterwards."""
    results: list[np.ndarray] = []
    for _ in range(2):
        inputs = [torch.from_numpy(array.copy()) for array in arrays]
        torch.manual_seed(0)
        with torch.no_grad():
            leaves, structure = pytree.tree_flatten(module(*inputs))
        results += [_array(leaf) for leaf in (*leaves, *inputs)]
        results.append(np.frombuffer(str(structure).encode(), np.uint8))
    return results


def _run_guarded(module: nn.Module, arrays: Arrays) -> Arrays:
    """Runs a merged module; a size that it was not traced for is refused by torch.export's guards."""
    try:
        return _run(module, arrays)
    except AssertionError as error:
        if "Guard failed" in str(error):
            raise OnebranchError(str(error)) from error
        raise


def _array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, Tensor):
        leaf = leaf.detach().float() if leaf.dtype == torch.bfloat16 else leaf.detach()
        return leaf.numpy().copy()
    return np.asarray(-1.0 if leaf is None else leaf)


def _fingerprint(module: nn.Module) -> tuple[Any, ...]:
    state = {name: value.detach().double().numpy().tobytes() for name, value in module.state_dict().items()}
    modes = [(name, part.training, len(part._forward_hooks)) for name, part in module.named_modules()]
    return state, modes, repr(module)


def _flipped(value: Tensor) -> Tensor:
    return value.flip(2)


def _rows_swapped(value: Tensor) -> Tensor:
    """The picture shifted by one row in place; the last row occurs twice."""
    shifted = value.clone()
    shifted[:, :, :-1] = value[:, :, 1:]
    return shifted


def _channels_doubled_through_a_view(value: Tensor) -> Tensor:
    value = value.clone()
    view = value[:, :2]
    view.mul_(2.0)
    return value


def _row_zeroed(value: Tensor) -> Tensor:
    value = value.clone()
    value[:, :, 0:1, :] = 0.0
    return value


def _added_in_place_and_kept(value: Tensor) -> Tensor:
    """The value before and after an addition in place is the same tensor."""
    before = value.clone()
    same = before
    before.add_(1.0)
    return same * 0.5 + before


def _data_dependent(value: Tensor) -> Tensor:
    return value * 2.0 if value.sum() > 0 else value - 1.0


def _data_dependent_loop(value: Tensor) -> Tensor:
    for _ in range(int(value.abs().mean().item() * 3) + 1):
        value = value * 0.5 + 0.1
    return value


def _size_dependent(value: Tensor) -> Tensor:
    return value * 2.0 if value.shape[2] > 4 else value


def _size_dependent_loop(value: Tensor) -> Tensor:
    for _ in range(value.shape[3] % 3):
        value = value * 0.5
    return value


def _batch_dependent(value: Tensor) -> Tensor:
    return value.flip(1) if value.shape[0] > 1 else value


def _padded_to_a_multiple(value: Tensor) -> Tensor:
    height, width = value.shape[2:]
    padded = functional.pad(value, (0, -width % 4, 0, -height % 4))
    return functional.avg_pool2d(padded, 3, 1, 1)[:, :, :height, :width]


def _batch_in_channels(value: Tensor) -> Tensor:
    batch, channels, height, width = value.shape
    return value.reshape(channels, batch, height, width).transpose(0, 1)


def _shuffled_over_batch(value: Tensor) -> Tensor:
    batch, channels, height, width = value.shape
    return value.view(batch, 2, channels // 2, height, width).transpose(0, 1).reshape(value.shape)


def _batch_normalized_by_batch(value: Tensor) -> Tensor:
    return functional.batch_norm(value, None, None, training=True)


def _batch_normalized_by_function(value: Tensor) -> Tensor:
    channels = value.shape[1]
    return functional.batch_norm(value, torch.full((channels,), 0.3), torch.linspace(0.5, 2, channels))


class _StraightThrough(torch.autograd.Function):
    """Rounds; its gradient, which is not used, is that of the identity."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """The value, rounded to quarters."""
        return torch.round(value * 4) / 4


SLIPS: Mapping[str, Slip] = {
    "relu": torch.relu,
    "relu in place": lambda v: functional.relu_(v.clone()),
    "prelu": lambda v: functional.prelu(v, torch.tensor([0.3])),
    "leaky relu": lambda v: functional.leaky_relu(v, 0.1),
    "sigmoid": torch.sigmoid,
    "clamp": lambda v: v.clamp(-0.3, 0.7),
    "round": lambda v: torch.round(v * 4) / 4,
    "abs": torch.abs,
    "square": lambda v: v * v,
    "gated by itself": lambda v: v * torch.sigmoid(v),
    "squeezed and excited": lambda v: v * torch.sigmoid(v.mean((2, 3), keepdim=True)),
    "softmax": lambda v: v.softmax(1),
    "straight through": _StraightThrough.apply,
    "where": lambda v: torch.where(v > 0, v, v * 0.2),
    "masked": lambda v: v.masked_fill(v < 0.1, 0.0),
    "max pool": lambda v: functional.max_pool2d(v, 3, 1, 1),
    "instance norm": functional.instance_norm,
    "layer norm": lambda v: functional.layer_norm(v, v.shape[1:]),
    "group norm": lambda v: functional.group_norm(v, 2),
    "half": lambda v: v.half().float(),
    "mean removed": lambda v: v - v.mean((2, 3), keepdim=True),
    "mean as a number": lambda v: v * v.mean().item(),
    "dropout in training mode": lambda v: functional.dropout(v, 0.5, training=True),
    "alpha dropout in training mode": lambda v: functional.alpha_dropout(v, 0.3, training=True),
    "noise": lambda v: v + torch.randn_like(v),
    "random factor": lambda v: v * torch.rand(1),
    "batch norm by the batch": _batch_normalized_by_batch,
    "flipped": _flipped,
    "rolled": lambda v: torch.roll(v, 1, 3),
    "shifted in place": _rows_swapped,
    "row zeroed": _row_zeroed,
    "turned": lambda v: v.transpose(2, 3),
    "running sum": lambda v: v.cumsum(2),
    "batch in channels": _batch_in_channels,
    "shuffled over the batch": _shuffled_over_batch,
    "global mean instead": lambda v: v.mean((2, 3), keepdim=True),
    "constant picture added": lambda v: v + torch.arange(8.0),
    "position added": lambda v: v + torch.arange(v.shape[3]),
    "divided by its size": lambda v: v / v.shape[2],
    "data-dependent control flow": _data_dependent,
    "data-dependent loop": _data_dependent_loop,
    "size-dependent control flow": _size_dependent,
    "size-dependent loop": _size_dependent_loop,
    "batch-dependent control flow": _batch_dependent,
    "padded to a multiple": _padded_to_a_multiple,
    "uncounted padding": lambda v: functional.avg_pool2d(v, 3, 1, 1, count_include_pad=False),
    "rounding up": lambda v: functional.interpolate(
        functional.avg_pool2d(v, 2, 2, ceil_mode=True), size=v.shape[2:]
    ),
    "own divisor": lambda v: functional.avg_pool2d(v, 3, 1, 1, divisor_override=5),
    "counted padding": lambda v: functional.avg_pool2d(v, 3, 1, 1),
    "adaptive pool": lambda v: functional.adaptive_avg_pool2d(v, v.shape[2:]),
    "adaptive pool to 3": lambda v: functional.interpolate(
        functional.adaptive_avg_pool2d(v, 3), size=v.shape[2:], mode="nearest"
    ),
    "unfolded": lambda v: functional.unfold(v, 3, padding=1)[:, ::9].view(v.shape),
    "reflected": lambda v: functional.avg_pool2d(functional.pad(v, (1, 1, 1, 1), mode="reflect"), 3, 1),
    "replicated": lambda v: functional.avg_pool2d(functional.pad(v, (1, 1, 1, 1), mode="replicate"), 3, 1),
    "wrapped": lambda v: functional.avg_pool2d(functional.pad(v, (1, 1, 1, 1), mode="circular"), 3, 1),
    "padded with a constant": lambda v: functional.avg_pool2d(
        functional.pad(v, (1, 1, 1, 1), value=0.7), 3, 1
    ),
    "cropped and padded": lambda v: functional.pad(v, (-1, 1, 0, 0)),
    "view doubled in place": _channels_doubled_through_a_view,
    "added in place and kept": _added_in_place_and_kept,
    "scaled in place": lambda v: v.clone().mul_(1.5),
    "added in place": lambda v: v.clone().add_(0.25),
    "batch norm by function": _batch_normalized_by_function,
    "added channels": lambda v: v + torch.linspace(-1, 1, v.shape[1]).view(-1, 1, 1),
    "subtracted from a constant": lambda v: 1.0 - v,
    "constant scale": lambda v: 2 * v / 3,
    "channels reversed": lambda v: v[:, list(range(v.shape[1] - 1, -1, -1))],
    "detached": lambda v: v.detach().contiguous(),
    "there and back": lambda v: v.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "double and back": lambda v: v.double().to(v.dtype),
    "einsum": lambda v: torch.einsum("nchw->nchw", v),
    "checkpoint": lambda v: torch.utils.checkpoint.checkpoint(torch.sigmoid, v, use_reentrant=False),
}
"""Operations that are inserted between two steps, by name."""

JUMPS = ("round", "straight through", "half")
"""Insertions that round."""

LINEAR = {
    *("counted padding", "own divisor", "scaled in place", "added in place", "batch norm by function"),
    *("added channels", "subtracted from a constant", "constant scale", "channels reversed", "detached"),
    *("there and back", "double and back", "einsum", "view doubled in place", "added in place and kept"),
    *("adaptive pool", "cropped and padded", "padded with a constant"),
}
"""Insertions across which a merge is allowed."""


SQUARE = ("turned", "constant picture added")
"""Insertions that fit only pictures of 8 columns, or as many rows as columns."""


def _slipped(kind: str) -> Iterator[TorchVariant]:
    one_size = any(
        word in kind for word in ("size", "picture", "multiple", "batch", "layer norm", "position")
    )
    for network, (function, positions, parts) in NETWORKS.items():
        for position in range(positions):
            yield TorchVariant(
                f"{kind}, {network}: place {position}",
                lambda f=function, k=position, p=parts: Net(f, k, SLIPS[kind], **p()).eval(),
                Expectation(one_size=one_size, jumps=kind in JUMPS),
                sizes=SIZES[::-1] if kind in SQUARE else SIZES,
            )


def _plain(function: Forward, **parts: Any) -> nn.Module:
    return Net(function, **parts).eval()


def _repvgg_parts(**changes: Any) -> dict[str, Any]:
    return {**NETWORKS["repvgg"][2](), **changes}


def _repvgg_with(**changes: Callable[[], Any]) -> Build:
    return lambda: _plain(_repvgg, **_repvgg_parts(**{name: make() for name, make in changes.items()}))


def _training(*names: str) -> Build:
    """RepVGG in evaluation mode, the parts of these names in training mode; "" is the whole."""

    def build() -> nn.Module:
        net = _plain(_repvgg, **_repvgg_parts(dropped=nn.Dropout(0.5)))
        for name in names:
            net.get_submodule(name).train()
        return net

    return build


def _dropout_training() -> nn.Module:
    net = _plain(
        lambda n, x: n.conv3(n.dropped(n.conv1(x))),
        conv1=conv(4, 4, 1),
        conv3=conv(4, 4),
        dropped=nn.Dropout(0.4),
    )
    net.dropped.train()
    return net


def _chain(first: Callable[[], nn.Module], second: Callable[[], nn.Module]) -> Build:
    return lambda: _plain(lambda n, x: n.second(n.first(x)), first=first(), second=second())


def _sum(first: Callable[[], nn.Module], second: Callable[[], nn.Module]) -> Build:
    return lambda: _plain(lambda n, x: torch.relu(n.first(x) + n.second(x)), first=first(), second=second())


def _ecb_border(change: Callable[[Tensor, Tensor], None]) -> Build:
    """ECB with another fill of its border."""

    def forward(n: Any, x: Tensor) -> Tensor:
        inner = functional.pad(n.first(x), (1, 1, 1, 1))
        change(inner, n.first.bias.view(1, -1, 1, 1))
        return n.act(n.second(inner) + n.plain(x) + x)

    return lambda: _plain(forward, **NETWORKS["ecb"][2]())


def _three_sides(inner: Tensor, bias: Tensor) -> None:
    inner[:, :, 0:1, :] = bias
    inner[:, :, :, 0:1] = bias
    inner[:, :, :, -1:] = bias


def _wrong_value(inner: Tensor, bias: Tensor) -> None:
    _three_sides(inner, bias)
    inner[:, :, -1:, :] = -bias


def _one_row_too_many(inner: Tensor, bias: Tensor) -> None:
    _three_sides(inner, bias)
    inner[:, :, -2:, :] = bias


def _one_channel_too_few(inner: Tensor, bias: Tensor) -> None:
    _three_sides(inner, bias)
    inner[:, :-1, -1:, :] = bias[:, :-1]


def _added_to_the_border(inner: Tensor, bias: Tensor) -> None:
    _three_sides(inner, bias)
    inner[:, :, -1:, :] += bias


def _all_sides(inner: Tensor, bias: Tensor) -> None:
    _three_sides(inner, bias)
    inner[:, :, -1, :] = bias.squeeze(2)


class _SameConv(nn.Conv2d):
    """TensorFlow's padding, which depends on the picture's size."""

    def forward(self, x: Tensor) -> Tensor:
        """Padded so that the output has ceil(size / stride) rows."""
        rows, columns = (
            max((-(-s // k) - 1) * k + r - s, 0)
            for s, k, r in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        padded = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return functional.conv2d(padded, self.weight, self.bias, self.stride)


class _StandardizedConv(nn.Conv2d):
    """A convolution whose weight is standardized in the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """The convolution with the standardized weight."""
        mean, deviation = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class _ActivatedConv(nn.Conv2d):
    """A subclass of a convolution that also applies an activation."""

    def forward(self, x: Tensor) -> Tensor:
        """The convolution, then tanh."""
        return torch.tanh(super().forward(x))


class _FrozenBN(nn.BatchNorm2d):
    """A batch normalization with another forward pass than its base class."""

    def forward(self, x: Tensor) -> Tensor:
        """The input times the weight, shifted by the variance."""
        return x * self.weight.view(1, -1, 1, 1) + self.running_var.view(1, -1, 1, 1)


class _Sequence(nn.Sequential):
    """A sequence that adds its input."""

    def forward(self, x: Tensor) -> Tensor:
        """The sequence's output plus its input."""
        return super().forward(x) + x


def _hooked(kind: str) -> Build:
    def build() -> nn.Module:
        net = _plain(_repvgg, **_repvgg_parts())
        if kind == "before":
            net.conv3.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        else:
            net.conv3.register_forward_hook(lambda module, inputs, output: output.abs())
        return net

    return build


def _counting(n: Any, x: Tensor) -> Tensor:
    n.count += 1
    return n.conv(x) * n.count + n.skip(x)


def _changes_its_input(n: Any, x: Tensor) -> Tensor:
    x.mul_(2.0)
    return torch.relu(n.conv3(x) + n.conv1(x))


def _aliased(n: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a value that is changed in place after other operations read it."""
    inner = n.conv1(x)
    total = n.conv3(inner) + inner
    inner.add_(1.0)
    return total, inner


def _read_after_change(n: Any, x: Tensor) -> Tensor:
    inner = n.conv1(x)
    first = n.conv3(inner)
    inner.mul_(-1.0)
    return first + n.last(inner)


def _tied_twice(n: Any, x: Tensor) -> Tensor:
    return torch.relu(n.bn2(n.conv(n.bn1(n.conv(x)))) + x)


def _tied_by_weight(n: Any, x: Tensor) -> Tensor:
    first = functional.conv2d(x, n.weight, padding=1)
    return n.bn1(first) + n.bn2(functional.conv2d(torch.relu(first), n.weight, padding=1))


def _tied_bn(n: Any, x: Tensor) -> Tensor:
    return n.bn(n.conv3(x)) + n.bn(n.conv1(x)) + n.bn(x)


def _several_outputs(n: Any, x: Tensor) -> dict[str, Any]:
    inner = n.conv3(x)
    return {"inner": inner, "all": [n.bn3(inner), (n.bn1(n.conv1(x)), x)], "none": None, "number": 3}


def _dynamic_kernel(n: Any, x: Tensor) -> Tensor:
    weight = n.conv3.weight * x.mean()
    return functional.conv2d(x, weight, padding=1) + n.conv1(x)


def _mixed_kernel(n: Any, x: Tensor) -> Tensor:
    return functional.conv2d(x, n.conv3.weight * n.gamma, n.conv3.bias, padding=1) + n.conv1(x)


def _autocast(n: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (n.conv3(x) + n.conv1(x)).float()


def _shape_sliced(n: Any, x: Tensor) -> Tensor:
    inner = n.conv3(x)
    return torch.cat([inner[:, :, : x.shape[2] // 2], n.conv1(x)[:, :, x.shape[2] // 2 :]], 2)


def _bilinear(n: Any, x: Tensor) -> Tensor:
    larger = functional.interpolate(n.conv1(x), scale_factor=2, mode="bilinear", align_corners=False)
    return n.conv3(larger)


def _nearest_down(n: Any, x: Tensor) -> Tensor:
    return n.conv1(functional.interpolate(n.conv3(x), scale_factor=0.5, mode="nearest"))


def _strides_swapped(first: int, second: int) -> Build:
    return _chain(lambda: conv(4, 8, 1, stride=first, bias=False), lambda: conv(8, 4, 3, stride=second))


def _unshuffled() -> nn.Module:
    """A pixel unshuffle that appends a row to pictures of odd height."""
    return nn.Sequential(nn.ZeroPad2d((0, 0, 0, 1)), nn.PixelUnshuffle(2))


def _cast_module(dtype: torch.dtype) -> Build:
    def forward(n: Any, x: Tensor) -> Tensor:
        return (n.conv3(x.to(dtype)) + n.conv1(x.to(dtype))).float()

    return lambda: _plain(forward, conv3=conv(4, 4).to(dtype), conv1=conv(4, 4, 1).to(dtype))


def _sizes(*pairs: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    return tuple((1, height, width) for height, width in pairs)


def _with_variance(value: float) -> nn.BatchNorm2d:
    layer = bn()
    layer.running_var[1] = value
    return layer


def _tied_parameters() -> nn.Module:
    first, second = conv(4, 4), conv(4, 4)
    second.weight = first.weight
    return _plain(
        lambda n, x: n.bn2(n.second(torch.relu(n.bn1(n.first(x))))),
        first=first,
        second=second,
        bn1=bn(),
        bn2=bn(),
    )


def _inplace_relu(n: Any, x: Tensor) -> Tensor:
    inner = n.conv1(x)
    activated = functional.relu(inner, inplace=True)
    return n.conv3(activated) + inner


class _Counting(nn.Module):
    """Multiplies by the number of its calls: a Python number, which a trace records as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """The input, times the number of calls."""
        self.calls += 1
        return x * self.calls


class _Drawing(nn.Module):
    """Multiplies by a random number of Python's `random`."""

    def forward(self, x: Tensor) -> Tensor:
        """The input, times a number between 1 and 2."""
        return x * random.uniform(1, 2)


class _Exported(nn.Module):
    """Computes something else while it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        """The input; twice the input while it is exported."""
        return x * 2 if torch.compiler.is_exporting() else x


def _with_part(part: Callable[[], nn.Module], merges: bool) -> Build:
    """A convolution, BN (if something is to be merged), and the part."""
    between = bn if merges else nn.ReLU
    return lambda: nn.Sequential(conv(4, 4), between(), part()).eval()


NAMES_BN3 = Expectation(named=("bn3",))
LOUD = Expectation(one_size=True)
FREE = Expectation()

Special = tuple[str, Build, Expectation]

SPECIALS: Mapping[str, Sequence[Special]] = {
    "module in training mode": [
        ("all", _training(""), Expectation(named=("train",))),
        ("bn3", _training("bn3"), NAMES_BN3),
        ("dropped and bn1", _training("dropped", "bn1"), Expectation(named=("bn1", "dropped"))),
        ("dropout", _dropout_training, Expectation(named=("dropped",))),
    ],
    "statistics not tracked": [
        ("bn3", _repvgg_with(bn3=lambda: bn(track_running_stats=False)), NAMES_BN3),
        ("bn0", _repvgg_with(bn0=lambda: bn(track_running_stats=False)), Expectation(named=("bn0",))),
        ("instance", _repvgg_with(bn3=lambda: nn.InstanceNorm2d(4, affine=True)), FREE),
        (
            "instance, tracked",
            _repvgg_with(bn3=lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
            FREE,
        ),
    ],
    "BN of another kind": [
        ("no affine part", _repvgg_with(bn3=lambda: bn(affine=False)), FREE),
        ("huge epsilon", _repvgg_with(bn3=lambda: bn(eps=100.0)), FREE),
        ("no momentum", _repvgg_with(bn3=lambda: bn(momentum=None)), FREE),
        ("own forward", _repvgg_with(bn3=lambda: _FrozenBN(4)), FREE),
        ("synchronized", _repvgg_with(bn3=lambda: nn.SyncBatchNorm(4)), FREE),
        ("group norm", _repvgg_with(bn3=lambda: nn.GroupNorm(2, 4)), FREE),
        ("dropout2d", _repvgg_with(bn3=nn.Dropout2d), FREE),
        ("identity", _repvgg_with(bn3=nn.Identity), FREE),
    ],
    "statistics that make no sense": [
        ("negative", _repvgg_with(bn3=lambda: _with_variance(-1.0)), FREE),
        ("not a number", _repvgg_with(bn3=lambda: _with_variance(float("nan"))), FREE),
        ("infinite", _repvgg_with(bn3=lambda: _with_variance(float("inf"))), FREE),
        ("zero", _repvgg_with(bn3=lambda: _with_variance(0.0)), FREE),
    ],
    "zero padding after a bias": [
        (
            "1x1, 3x3",
            _chain(lambda: conv(4, 8, 1), lambda: conv(8, 4)),
            Expectation(named=("second", "first")),
        ),
        ("BN, 3x3", _chain(bn, lambda: conv(4, 4)), Expectation(named=("second", "first"))),
        (
            "1x1, average",
            _chain(lambda: conv(4, 4, 1), lambda: nn.AvgPool2d(3, 1, 1)),
            Expectation(named=("second", "first")),
        ),
        ("1x1, 5x1", _chain(lambda: conv(4, 8, 1), lambda: conv(8, 4, (5, 1))), FREE),
        ("no bias", _chain(lambda: conv(4, 8, 1, bias=False), lambda: conv(8, 4)), Expectation(merges=True)),
        ("1x1 padded", _chain(lambda: conv(4, 8, 1, padding=1), lambda: conv(8, 4, padding=0)), FREE),
        ("1x1 after", _chain(lambda: conv(4, 8, 3), lambda: conv(8, 4, 1)), Expectation(merges=True)),
        ("1x1 after, padded", _chain(lambda: conv(4, 8, 3), lambda: conv(8, 4, 1, padding=1)), FREE),
        ("two 3x3", _chain(lambda: conv(4, 16, 3, bias=False), lambda: conv(16, 2, 3, bias=False)), FREE),
    ],
    "padding of another mode": [
        (
            f"{mode}, {where}",
            _sum(
                lambda m=mode: conv(4, 4, padding_mode=m),
                lambda m=mode, w=where: conv(4, 4, 1) if w == "one" else conv(4, 4, 5, padding_mode=m),
            ),
            FREE,
        )
        for mode in ("reflect", "replicate", "circular", "zeros")
        for where in ("one", "both")
    ],
    "same padding": [
        (
            f"{kernel} d{dilation}",
            _sum(
                lambda k=kernel, d=dilation: nn.Conv2d(4, 4, k, padding="same", dilation=d),
                lambda: conv(4, 4, 1),
            ),
            FREE,
        )
        for kernel in (2, 3, 4, (2, 3))
        for dilation in (1, 2)
    ],
    "even kernels": [
        (f"{kernel}", _chain(lambda k=kernel: nn.Conv2d(4, 4, k, padding=1), bn), FREE)
        for kernel in (2, 4, (2, 3))
    ],
    "asymmetric padding": [
        (
            f"{pads}",
            _chain(lambda p=pads: nn.ZeroPad2d(p), lambda: nn.Sequential(nn.Conv2d(4, 4, 3), bn())),
            FREE,
        )
        for pads in ((2, 0, 2, 0), (0, 2, 1, 1), (3, -1, 1, 1))
    ],
    "convolution with a forward of its own": [
        ("same", _repvgg_with(conv3=lambda: _SameConv(4, 4, 3)), FREE),
        ("same, even", _repvgg_with(conv3=lambda: _SameConv(4, 4, 2)), FREE),
        ("standardized", _repvgg_with(conv3=lambda: _StandardizedConv(4, 4, 3, padding=1)), FREE),
        ("activated", _repvgg_with(conv3=lambda: _ActivatedConv(4, 4, 3, padding=1)), FREE),
        ("sequence", _repvgg_with(conv3=lambda: _Sequence(conv(4, 4), bn())), FREE),
        (
            "same, stride 2",
            lambda: _plain(lambda n, x: n.bn(n.conv(x)), conv=_SameConv(4, 4, 3, 2), bn=bn()),
            LOUD,
        ),
    ],
    "convolution with a hook": [("before", _hooked("before"), FREE), ("after", _hooked("after"), FREE)],
    "weights computed in the forward pass": [
        ("weight norm", _repvgg_with(conv3=lambda: parametrizations.weight_norm(conv(4, 4))), FREE),
        ("spectral norm", _repvgg_with(conv3=lambda: parametrizations.spectral_norm(conv(4, 4))), FREE),
        ("orthogonal", _repvgg_with(conv1=lambda: parametrizations.orthogonal(conv(4, 4, 1))), FREE),
        ("scaled", lambda: _plain(_mixed_kernel, **_repvgg_parts(gamma=parameter(4, 1, 1, 1))), FREE),
        ("of the picture", lambda: _plain(_dynamic_kernel, **_repvgg_parts()), FREE),
    ],
    "shared convolution": [
        ("module twice", lambda: _plain(_tied_twice, conv=conv(4, 4), bn1=bn(), bn2=bn()), FREE),
        (
            "weight twice",
            lambda: _plain(_tied_by_weight, weight=parameter(4, 4, 3, 3), bn1=bn(), bn2=bn()),
            FREE,
        ),
        ("BN three times", lambda: _plain(_tied_bn, **_repvgg_parts(bn=bn())), FREE),
        ("tied parameters", _tied_parameters, FREE),
    ],
    "in place": [
        ("input", lambda: _plain(_changes_its_input, **_repvgg_parts()), FREE),
        ("returned", lambda: _plain(_aliased, **_repvgg_parts()), FREE),
        ("read later", lambda: _plain(_read_after_change, **_repvgg_parts(last=conv(4, 4, 1))), FREE),
        ("ReLU in place on the sum", lambda: _plain(_inplace_relu, **_repvgg_parts()), FREE),
    ],
    "border filled in place": [
        ("all sides", _ecb_border(_all_sides), FREE),
        ("one side missing", _ecb_border(_three_sides), FREE),
        ("wrong value", _ecb_border(_wrong_value), FREE),
        ("one row too many", _ecb_border(_one_row_too_many), FREE),
        ("one channel too few", _ecb_border(_one_channel_too_few), FREE),
        ("added", _ecb_border(_added_to_the_border), FREE),
        ("nothing", _ecb_border(lambda inner, bias: None), FREE),
    ],
    "state": [
        (
            "counter",
            lambda: _plain(_counting, conv=conv(4, 4), skip=conv(4, 4, 1), count=torch.zeros(())),
            FREE,
        ),
    ],
    "numbers that a trace freezes": [
        (f"{part.__name__[1:].lower()}, {words}", _with_part(part, merges), FREE)
        for part in (_Counting, _Drawing, _Exported)
        for words, merges in (("merged", True), ("left", False))
    ],
    "several outputs": [("nested", lambda: _plain(_several_outputs, **_repvgg_parts()), FREE)],
    "strides": [
        ("second", _strides_swapped(1, 2), FREE),
        ("first", _strides_swapped(2, 1), FREE),
        ("both", _strides_swapped(2, 2), FREE),
        ("branches", _sum(lambda: conv(4, 4, stride=2), lambda: conv(4, 4, 1, stride=2)), FREE),
        ("average", _sum(lambda: conv(4, 4, 2, stride=2, padding=0), lambda: nn.AvgPool2d(2)), FREE),
        (
            "average that rounds up",
            _sum(lambda: conv(4, 4, stride=2), lambda: nn.AvgPool2d(2, ceil_mode=True)),
            FREE,
        ),
        ("average, then pointwise", _chain(lambda: nn.AvgPool2d(2), lambda: conv(4, 4, 1)), FREE),
        (
            "average that does not count padding",
            _sum(lambda: conv(4, 4), lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
            FREE,
        ),
    ],
    "resized": [
        ("bilinear", lambda: _plain(_bilinear, **_repvgg_parts()), FREE),
        ("nearest, smaller", lambda: _plain(_nearest_down, **_repvgg_parts()), FREE),
        ("sliced by its size", lambda: _plain(_shape_sliced, **_repvgg_parts()), LOUD),
        ("pixel shuffle between", _chain(lambda: nn.PixelShuffle(2), lambda: conv(1, 4)), FREE),
        ("pixel unshuffle", _chain(_unshuffled, lambda: conv(16, 4)), LOUD),
    ],
    "precision": [
        ("half", _cast_module(torch.float16), FREE),
        ("bfloat16", _cast_module(torch.bfloat16), FREE),
        ("double", _cast_module(torch.float64), FREE),
        ("autocast", lambda: _plain(_autocast, **_repvgg_parts()), FREE),
    ],
    "grouped against dense": [
        ("depthwise, pointwise", _chain(lambda: conv(4, 8, groups=4), lambda: conv(8, 4, 1)), FREE),
        ("groups 2, 4", _sum(lambda: conv(4, 4, groups=2), lambda: conv(4, 4, 1, groups=4)), FREE),
        ("groups 2, dense", _sum(lambda: conv(4, 4, groups=2), lambda: conv(4, 4, 1)), FREE),
        (
            "groups 2, groups 2",
            _chain(lambda: conv(4, 4, 1, groups=2), lambda: conv(4, 4, 1, groups=2)),
            FREE,
        ),
    ],
    "transposed": [
        ("stride 2", _chain(lambda: nn.ConvTranspose2d(4, 4, 2, 2), bn), FREE),
        ("output padding", _chain(lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), bn), FREE),
        ("groups", _chain(lambda: nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2), bn), FREE),
        ("dilated", _chain(lambda: nn.ConvTranspose2d(4, 4, 3, padding=2, dilation=2), bn), FREE),
        ("unpadded", _chain(lambda: nn.ConvTranspose2d(4, 4, 3), lambda: conv(4, 4, 1)), FREE),
    ],
}
"""Networks with unusual parts."""


KINDS = (*(f"{kind} slipped in" for kind in SLIPS), *SPECIALS)
"""Every kind of mutation of a PyTorch network."""


def variants(kind: str) -> Iterator[TorchVariant]:
    """Every variant of that kind, in a fixed order."""
    if kind in SPECIALS:
        for position, build, expectation in SPECIALS[kind]:
            yield TorchVariant(f"{kind}: {position}", build, expectation)
    else:
        yield from _slipped(kind.removesuffix(" slipped in"))
