"""Small mergeable networks as ONNX graphs, one for each structure in the literature, with demanding weights.

Every operation has the name of its output, so that the names in a report are names of values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

OPSET = 21
"""The default opset of the graphs."""

VERSION = 10
"""The default version of the ONNX file format (IR) of the graphs."""


class Sketch:
    """An ONNX model under construction: operations, constants, inputs and outputs are added one by one."""

    def __init__(self, seed: int = 0, **inputs: Sequence[int | str]) -> None:
        """inputs: shapes of the float32 inputs by name; a text stands for an open size."""
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.channels = {name: shape[1] for name, shape in self.inputs.items()}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Keep the array under that name; returns the name."""
        self.constants[name] = value
        return name

    def normal(self, name: str, *shape: int, spread: float = 0.5) -> str:
        """A constant of normal values."""
        return self.constant(name, self.random.normal(0, spread, shape).astype(np.float32))

    def add(self, kind: str, inputs: str | Sequence[str], name: str, **attributes: Any) -> str:
        """Append an operation with one output of the same name and as many channels as its first input."""
        names = [inputs] if isinstance(inputs, str) else list(inputs)
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        self.channels[name] = self.channels.get(names[0], 0) if names else 0
        return name

    def conv(
        self,
        source: str,
        name: str,
        outputs: int,
        kernel: Sequence[int] | int = 3,
        pad: int | None = None,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """A convolution, padded by its radius unless `pad` says otherwise."""
        sides = [kernel, kernel] if isinstance(kernel, int) else list(kernel)
        dilations = attributes.get("dilations", [1] * len(sides))
        radii = [(k - 1) * d // 2 for k, d in zip(sides, dilations, strict=True)]
        pads = radii if pad is None else [pad] * len(sides)
        inputs = self.channels[source] // attributes.get("group", 1)
        spread = 1.4 / math.sqrt(inputs * math.prod(sides))
        names = [source, self.normal(f"{name}.weight", outputs, inputs, *sides, spread=spread)]
        if bias:
            names.append(self.normal(f"{name}.bias", outputs))
        self.add("Conv", names, name, kernel_shape=sides, pads=pads * 2, **attributes)
        self.channels[name] = outputs
        return name

    def bn(self, source: str, name: str) -> str:
        """Batch normalization with statistics far from 0 and 1."""
        channels = self.channels[source]
        names = [self.normal(f"{name}.{part}", channels) for part in ("weight", "bias", "mean")]
        self.constant(f"{name}.var", self.random.uniform(0.3, 3, channels).astype(np.float32))
        return self.add("BatchNormalization", [source, *names, f"{name}.var"], name, epsilon=1e-3)

    def pad(self, source: str, name: str, radius: int = 1, rank: int = 4) -> str:
        """Zero padding of every spatial axis."""
        amounts = np.array(([0, 0] + [radius] * (rank - 2)) * 2, np.int64)
        return self.add("Pad", [source, self.constant(f"{name}.pads", amounts)], name)

    def model(self, *outputs: str, opset: int = OPSET, version: int = VERSION) -> onnx.ModelProto:
        """The ONNX model with these outputs."""
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.inputs.items()]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "sketch", inputs, results, tensors)
        opsets = [helper.make_opsetid("", opset)]
        return with_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=version))


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the inferred shapes of its outputs, but not of its inner values."""
    inferred = shape_inference.infer_shapes(model)
    del inferred.graph.value_info[:]
    return inferred


def picture(seed: int, channels: int = 4) -> Sketch:
    """A sketch with one picture `x` of open batch and size."""
    return Sketch(seed, x=("N", channels, "H", "W"))


def conv_bn(seed: int) -> onnx.ModelProto:
    """Convolution, BN, ReLU, pointwise convolution."""
    s = picture(seed)
    s.add("Relu", s.bn(s.conv("x", "conv", 4), "bn"), "relu")
    return s.model(s.conv("relu", "last", 3, 1))


def pad_first(seed: int) -> onnx.ModelProto:
    """Conv3XC: padded once, then 1x1 (wider), 3x3, 1x1, and a pointwise shortcut."""
    s = picture(seed)
    wide = s.conv(s.pad("x", "pad"), "expand", 8, 1)
    s.conv(s.conv(wide, "middle", 8, 3, pad=0), "reduce", 4, 1)
    s.add("Add", ["reduce", s.conv("x", "shortcut", 4, 1)], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def repvgg(seed: int) -> onnx.ModelProto:
    """3x3 with BN, 1x1 with BN, identity with BN, summed."""
    s = picture(seed)
    large, small = s.bn(s.conv("x", "large", 4, bias=False), "bn_large"), s.conv("x", "small", 4, 1)
    s.add("Add", [large, s.bn(small, "bn_small")], "partial")
    s.add("Add", ["partial", s.bn("x", "bn_identity")], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def ecb(seed: int) -> onnx.ModelProto:
    """ECB: 3x3; 1x1 padded with its own bias, then 3x3; the same with a scaled Sobel filter; identity."""
    s = picture(seed)
    s.conv("x", "plain", 4)
    s.conv(_padded_with_bias(s, "first", 8), "second", 4, pad=0)
    edges = s.conv(_padded_with_bias(s, "before", 4), "sobel", 4, pad=0, group=4)
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)
    s.constants["sobel.weight"] = s.random.normal(0, 0.4, (4, 1, 1, 1)).astype(np.float32) * sobel
    s.add("Add", ["plain", "second"], "sum1")
    s.add("Add", ["sum1", edges], "sum2")
    s.add("Add", ["sum2", "x"], "sum")
    return s.model(s.add("PRelu", ["sum", s.normal("slope", 4, 1, 1)], "prelu"))


def _padded_with_bias(s: Sketch, name: str, width: int) -> str:
    s.pad(s.conv("x", name, width, 1, bias=False), f"{name}_pad")
    return s.add("Add", [f"{name}_pad", s.normal(f"{name}.bias", width, 1, 1)], f"{name}_biased")


def dbb(seed: int) -> onnx.ModelProto:
    """Diverse branch block: 3x3, 1x1, 1x1 to 3x3, 1x1 to average, each with BN."""
    s = picture(seed)
    parts = [s.bn(s.conv("x", "plain", 4), "bn_plain"), s.bn(s.conv("x", "small", 4, 1), "bn_small")]
    inner = s.bn(s.conv(s.pad("x", "pad"), "first", 4, 1), "bn_first")
    parts.append(s.bn(s.conv(inner, "second", 4, pad=0), "bn_second"))
    before = s.bn(s.conv("pad", "before", 4, 1), "bn_before")
    parts.append(s.bn(s.add("AveragePool", before, "pool", kernel_shape=[3, 3]), "bn_pool"))
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = s.add("Add", [total, part], f"sum{number}")
    return s.model(s.add("Relu", total, "relu"))


def average(seed: int) -> onnx.ModelProto:
    """3x3 beside an average pool that counts its padding."""
    s = picture(seed)
    s.add("AveragePool", "x", "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    s.add("Add", [s.conv("x", "plain", 4), s.conv("pool", "small", 4, 1, bias=False)], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def mobileone(seed: int) -> onnx.ModelProto:
    """Depthwise 3x3, 1x1 and identity with BN; then pointwise and identity with BN."""
    s = picture(seed)
    parts = [s.bn(s.conv("x", f"depth{k}", 4, k, group=4, bias=False), f"bn_depth{k}") for k in (3, 1)]
    s.add("Add", [s.add("Add", parts, "depth_sum"), s.bn("x", "bn_x")], "depth")
    s.add("Relu", "depth", "middle")
    wide = s.bn(s.conv("middle", "point", 4, 1), "bn_point")
    s.add("Add", [wide, s.bn("middle", "bn_middle")], "point_sum")
    return s.model(s.add("Relu", "point_sum", "relu"))


def large_kernel(seed: int) -> onnx.ModelProto:
    """UniRepLKNet: depthwise 5x5 beside dilated depthwise kernels, each with BN."""
    s = picture(seed)
    s.bn(s.conv("x", "large", 4, 5, group=4), "bn_large")
    s.bn(s.conv("x", "dilated", 4, 3, group=4, dilations=[2, 2]), "bn_dilated")
    s.bn(s.conv("x", "small", 4, 3, group=4, bias=False), "bn_small")
    s.add("Add", ["bn_large", "bn_dilated"], "partial")
    s.add("Add", ["partial", "bn_small"], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def concatenation(seed: int) -> onnx.ModelProto:
    """Two convolutions of the same input, concatenated into a pointwise one."""
    s = picture(seed)
    s.add("Concat", [s.conv("x", "left", 4), s.conv("x", "right", 4, 1)], "join", axis=1)
    s.channels["join"] = 8
    return s.model(s.add("Relu", s.conv("join", "merge", 4, 1), "relu"))


def layer_scale(seed: int) -> onnx.ModelProto:
    """A learnt scale for each channel, and a residual around it."""
    s = picture(seed)
    s.add("Mul", [s.conv("x", "conv", 4), s.normal("gamma", 1, 4, 1, 1)], "scaled")
    s.add("Add", ["x", "scaled"], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def repmixer(seed: int) -> onnx.ModelProto:
    """FastViT: the input plus a scaled difference of a depthwise convolution and a BN."""
    s = picture(seed)
    s.bn(s.conv("x", "depth", 4, 3, group=4), "bn_depth")
    s.add("Sub", ["bn_depth", s.bn("x", "bn_x")], "difference")
    s.add("Mul", [s.normal("gamma", 4, 1, 1), "difference"], "scaled")
    s.channels["scaled"] = 4
    s.add("Add", ["x", "scaled"], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def shuffle(seed: int) -> onnx.ModelProto:
    """Half of the channels through a convolution; joined, shuffled, through a pointwise one."""
    s = picture(seed)
    for name, span in {"top": (0, 2), "bottom": (2, 4)}.items():
        ends = [s.constant(f"{name}.{k}", np.array([end])) for k, end in enumerate(span)]
        s.add("Slice", ["x", *ends, s.constant(f"{name}.axes", np.array([1]))], name)
        s.channels[name] = 2
    s.add("Concat", [s.bn(s.conv("top", "conv", 2), "bn"), "bottom"], "join", axis=1)
    s.channels["join"] = 4
    s.add("Gather", ["join", s.constant("order", np.array([0, 2, 1, 3]))], "shuffled", axis=1)
    return s.model(s.add("Relu", s.conv("shuffled", "point", 4, 1), "relu"))


def transposed(seed: int) -> onnx.ModelProto:
    """A transposed convolution of stride 1 with BN."""
    s = picture(seed)
    weight = s.normal("transposed.weight", 4, 3, 3, 3, spread=0.3)
    names = ["x", weight, s.normal("transposed.bias", 3)]
    s.add("ConvTranspose", names, "transposed", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    s.channels["transposed"] = 3
    return s.model(s.add("Relu", s.bn("transposed", "bn"), "relu"))


def head(seed: int) -> onnx.ModelProto:
    """A classifier: ReLU, global pooling, flattened, BN, a dense layer."""
    s = picture(seed)
    s.add("Relu", s.conv("x", "conv", 6, bias=False), "relu")
    s.add("Flatten", s.add("GlobalAveragePool", "relu", "pool"), "flat", axis=1)
    s.bn("flat", "bn")
    names = ["bn", s.normal("dense.weight", 5, 6), s.normal("dense.bias", 5)]
    return s.model(s.add("Gemm", names, "dense", transB=1))


def two_heads(seed: int) -> onnx.ModelProto:
    """A wide pointwise convolution, read by two narrow ones: two outputs."""
    s = picture(seed)
    s.conv("x", "wide", 16, 1)
    return s.model(s.conv("wide", "first", 2, 1), s.conv("wide", "second", 3, 1))


def downsample(seed: int) -> onnx.ModelProto:
    """RepVGG of stride 2: 3x3 and 1x1, each with BN."""
    s = picture(seed)
    s.bn(s.conv("x", "large", 6, strides=[2, 2]), "bn_large")
    s.bn(s.conv("x", "small", 6, 1, strides=[2, 2]), "bn_small")
    s.add("Add", ["bn_large", "bn_small"], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def anchor(seed: int) -> onnx.ModelProto:
    """ABPN: the input repeated along its channels, added to a convolution, then pixel shuffle."""
    s = picture(seed, 3)
    s.add("Concat", ["x"] * 4, "repeated", axis=1)
    s.channels["repeated"] = 12
    s.add("Add", [s.conv("x", "conv", 12), "repeated"], "sum")
    return s.model(s.add("DepthToSpace", "sum", "pixels", blocksize=2, mode="CRD"))


def bottleneck(seed: int) -> onnx.ModelProto:
    """SESR: 3x3 to many channels, 1x1 back, a residual, and a second one after it."""
    s = picture(seed)
    s.add("Add", [s.conv(s.conv("x", "wide", 16, bias=False), "narrow", 4, 1), "x"], "first")
    s.add("Relu", "first", "relu")
    s.add("Add", [s.conv(s.conv("relu", "up", 8, 1), "down", 4, 1), "relu"], "second")
    return s.model(s.add("Sigmoid", "second", "sigmoid"))


def two_inputs(seed: int) -> onnx.ModelProto:
    """Two branches on each of two inputs, all summed."""
    s = Sketch(seed, x=("N", 4, "H", "W"), z=("N", 3, "H", "W"))
    parts = [s.conv(source, f"{source}{k}", 4, k) for source in ("x", "z") for k in (3, 1)]
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = s.add("Add", [total, part], f"sum{number}")
    return s.model(s.add("Relu", total, "relu"))


def line(seed: int) -> onnx.ModelProto:
    """RepVGG on sequences: one spatial axis."""
    s = Sketch(seed, x=("N", 4, "W"))
    s.bn(s.conv("x", "large", 4, [3]), "bn_large")
    s.add("Add", ["bn_large", s.conv("x", "small", 4, [1])], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


def volume(seed: int) -> onnx.ModelProto:
    """RepVGG on volumes: three spatial axes."""
    s = Sketch(seed, x=("N", 2, "D", "H", "W"))
    s.bn(s.conv("x", "large", 2, [3, 3, 3]), "bn_large")
    s.add("Add", ["bn_large", s.conv("x", "small", 2, [1, 1, 1])], "sum")
    return s.model(s.add("Relu", "sum", "relu"))


NETWORKS: Mapping[str, Callable[[int], onnx.ModelProto]] = {
    "conv_bn": conv_bn,
    "pad_first": pad_first,
    "repvgg": repvgg,
    "ecb": ecb,
    "dbb": dbb,
    "average": average,
    "mobileone": mobileone,
    "large_kernel": large_kernel,
    "concatenation": concatenation,
    "layer_scale": layer_scale,
    "repmixer": repmixer,
    "shuffle": shuffle,
    "transposed": transposed,
    "head": head,
    "two_heads": two_heads,
    "downsample": downsample,
    "anchor": anchor,
    "bottleneck": bottleneck,
    "two_inputs": two_inputs,
    "line": line,
    "volume": volume,
}
"""Every network by its name; all can be merged, except those of one or three spatial axes."""
