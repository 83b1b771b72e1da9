"""Small ONNX networks from picture to picture, one for each operation that affects the receptive field."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from onebranch.algebra.padding import Padding
from onnx_networks import Sketch

ONE_PIXEL = Padding.uniform(1)
"""The halo of a 3x3 convolution."""


@dataclass(frozen=True)
class Net:
    """A network and its expected analysis.

    halo: None if the network needs the whole picture; then `whole` names the operation that does. exact: True
    if the halo equals the measured receptive field; cropped pixels are not read, but cannot be missing.
    """

    name: str
    build: Callable[["Net"], onnx.ModelProto]
    scale: Fraction = Fraction(1)
    multiple: int = 1
    halo: Padding | None = ONE_PIXEL
    exact: bool = True
    whole: str = ""


class Drawing(Sketch):
    """A network under construction with one picture `x` of `channels` channels as its input."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(0, x=("N", channels, "H", "W"))

    def numbers(self, name: str, *values: int) -> str:
        """A constant list of integers; its name."""
        return self.constant(name, np.array(values, np.int64))

    def several(self, kind: str, source: str, names: Sequence[str], *others: str, **attributes: Any) -> None:
        """An operation with several outputs."""
        self.add(kind, [source, *others], names[0], **attributes)
        self.nodes[-1].output.extend(names[1:])
        for name in names:
            self.channels[name] = self.channels[source]

    def size_of(self, source: str, index: int) -> str:
        """The size of one axis of a value as a list of one number, computed as exporters do."""
        name = f"{source}.side{index}"
        if name in self.channels:
            return name
        self.add("Shape", source, f"{name}.shape")
        self.add(
            "Gather", [f"{name}.shape", self.constant(f"{name}.index", np.array(index))], f"{name}.number"
        )
        return self.add("Unsqueeze", [f"{name}.number", self.numbers(f"{name}.axes", 0)], name)

    def joined(self, name: str, *parts: str | int) -> str:
        """A list of sizes and constants, concatenated; its name."""
        names = [self.numbers(f"{name}.{k}", p) if isinstance(p, int) else p for k, p in enumerate(parts)]
        return self.add("Concat", names, name, axis=0)

    def padded_to_multiple(self, multiple: int, mode: str) -> str:
        """`x` with rows and columns appended, so that height and width are multiples; its name."""
        missing = []
        for index in (2, 3):
            side = self.size_of("x", index)
            divisor = self.numbers(f"{side}.multiple", multiple)
            self.add("Neg", side, f"{side}.negated")
            missing.append(self.add("Mod", [f"{side}.negated", divisor], f"{side}.missing"))
        self.add("Pad", ["x", self.joined("pads", 0, 0, 0, 0, 0, 0, *missing)], "padded", mode=mode)
        self.channels["padded"] = self.channels["x"]
        return "padded"

    def last(self, source: str, opset: int = 18, pad: int = 1) -> onnx.ModelProto:
        """A 3x3 convolution to three channels, which ends the network."""
        return self.model(self.conv(source, "y", 3, 3, pad=pad), opset=opset, version=8)


def edsr(net: Net) -> onnx.ModelProto:
    d = Drawing()
    value = d.conv("x", "head", 8)
    for k in range(2):
        inner = d.conv(d.add("Relu", d.conv(value, f"a{k}", 8), f"relu{k}"), f"b{k}", 8)
        value = d.add("Add", [value, inner], f"sum{k}")
    d.conv(value, "tail", 12)
    return d.model(d.add("DepthToSpace", "tail", "y", blocksize=2, mode="CRD"))


def shuffled_by_reshapes(net: Net) -> onnx.ModelProto:
    d = Drawing()
    d.conv("x", "tail", 12)
    h, w = d.size_of("tail", 2), d.size_of("tail", 3)
    d.add("Reshape", ["tail", d.joined("apart", 1, 3, 2, 2, h, w)], "split")
    d.add("Transpose", "split", "turned", perm=[0, 1, 4, 2, 5, 3])
    for side in (h, w):
        d.add("Mul", [side, d.numbers(f"{side}.two", 2)], f"{side}.twice")
    return d.model(d.add("Reshape", ["turned", d.joined("together", 1, 3, f"{h}.twice", f"{w}.twice")], "y"))


def unshuffled_by_reshapes(net: Net) -> onnx.ModelProto:
    d = Drawing()
    h, w = d.size_of("x", 2), d.size_of("x", 3)
    for side in (h, w):
        d.add("Div", [side, d.numbers(f"{side}.two", 2)], f"{side}.half")
    d.add("Reshape", ["x", d.joined("apart", 1, 3, f"{h}.half", 2, -1, 2)], "split")
    d.add("Transpose", "split", "turned", perm=[0, 1, 3, 5, 2, 4])
    d.add("Reshape", ["turned", d.joined("together", 0, 12, f"{h}.half", f"{w}.half")], "coarse")
    d.channels["coarse"] = 12
    d.conv("coarse", "middle", 12)
    return d.model(d.add("DepthToSpace", "middle", "y", blocksize=2))


def unet(net: Net) -> onnx.ModelProto:
    d = Drawing()
    first = d.add("Relu", d.conv("x", "first", 4), "relu1")
    second = d.add("Relu", d.conv(first, "second", 4, strides=[2, 2]), "relu2")
    third = d.add("Relu", d.conv(second, "third", 4, strides=[2, 2]), "relu3")
    d.add("ConvTranspose", [third, d.normal("up1.weight", 4, 4, 2, 2)], "up1", strides=[2, 2])
    d.add("Add", ["up1", second], "sum1")
    d.add("ConvTranspose", ["sum1", d.normal("up2.weight", 4, 4, 4, 4)], "up2", strides=[2, 2], pads=[1] * 4)
    d.add("Concat", ["up2", first], "join", axis=1)
    d.channels["join"] = 8
    return d.last("join")


def fsrcnn(net: Net) -> onnx.ModelProto:
    d = Drawing(1)
    d.add("PRelu", [d.conv("x", "head", 4, 5), d.normal("slope", 4, 1, 1)], "relu")
    names = ["relu", d.normal("up.weight", 4, 1, 9, 9), d.normal("up.bias", 1)]
    d.add("ConvTranspose", names, "y", strides=[2, 2], pads=[4] * 4, output_padding=[1, 1])
    return d.model("y")


def pools(net: Net) -> onnx.ModelProto:
    d = Drawing()
    d.add("MaxPool", d.conv("x", "a", 4), "p", kernel_shape=[2, 2], strides=[2, 2])
    d.add("AveragePool", d.conv("p", "b", 4), "q", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    d.constant("scales", np.array([1, 1, 2, 2], np.float32))
    names = ["q", "", "scales"]
    d.add(
        "Resize",
        names,
        "up",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return d.last("up")


def rounded_up_pool(net: Net) -> onnx.ModelProto:
    d = Drawing()
    d.add("MaxPool", "x", "p", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    d.channels["p"] = 3
    d.conv("p", "a", 12)
    return d.model(d.add("DepthToSpace", "a", "y", blocksize=2))


def same_padding(mode: str) -> Callable[[Net], onnx.ModelProto]:
    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        d.add("Conv", ["x", d.normal("w", 4, 3, 3, 3)], "a", strides=[2, 2], auto_pad=mode)
        d.add("Conv", ["a", d.normal("v", 12, 4, 2, 2)], "b", auto_pad=mode)
        return d.model(d.add("DepthToSpace", "b", "y", blocksize=2))

    return build


def resized(scale: float, opset: int = 18, **attributes: Any) -> Callable[[Net], onnx.ModelProto]:
    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        d.constant("scales", np.array([1, 1, scale, scale], np.float32))
        d.add("Resize", [d.conv("x", "a", 4), "", "scales"], "up", **attributes)
        return d.last("up", opset)

    return build


def resized_back(**attributes: Any) -> Callable[[Net], onnx.ModelProto]:
    """Halved by a pool, then resized to the picture's size."""

    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        d.add("AveragePool", d.conv("x", "a", 4), "p", kernel_shape=[2, 2], strides=[2, 2])
        h, w = d.size_of("a", 2), d.size_of("a", 3)
        d.add("Resize", ["p", "", "", d.joined("sizes", 1, 4, h, w)], "up", **attributes)
        return d.model(d.add("Add", ["up", "a"], "sum"), d.last("sum").graph.output[0].name)

    return lambda net: _only_last(build(net))


def _only_last(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.output[:-1]
    return model


def padded(mode: str, amount: int) -> Callable[[Net], onnx.ModelProto]:
    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        d.conv("x", "a", 4)
        d.add("Pad", ["a", d.numbers("pads", 0, 0, amount, amount, 0, 0, amount, amount)], "p", mode=mode)
        d.channels["p"] = 4
        return d.model(d.conv("p", "y", 3, 2 * amount + 1, pad=0))

    return build


def cropped(net: Net) -> onnx.ModelProto:
    """Two pixels cropped on every side, then two pixels of zeros added: the cropped pixels are lost."""
    d = Drawing()
    d.add(
        "Slice",
        [d.conv("x", "a", 4), d.numbers("s", 2, 2), d.numbers("e", -2, -2), d.numbers("k", 2, 3)],
        "c",
    )
    d.add("Pad", ["c", d.numbers("pads", 0, 0, 2, 2, 0, 0, 2, 2)], "p")
    d.channels["p"] = 4
    return d.last("p")


def focus(net: Net) -> onnx.ModelProto:
    """Four pictures of every second pixel, concatenated: YOLO's focus layer."""
    d = Drawing()
    ends, axes, steps = d.numbers("e", 2**63 - 1, 2**63 - 1), d.numbers("k", 2, 3), d.numbers("t", 2, 2)
    for k, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        d.add("Slice", ["x", d.numbers(f"s{k}", row, column), ends, axes, steps], f"part{k}")
    d.add("Concat", [f"part{k}" for k in range(4)], "parts", axis=1)
    d.channels["parts"] = 12
    d.conv("parts", "a", 12)
    return d.model(d.add("DepthToSpace", "a", "y", blocksize=2))


def cut_to_size(net: Net) -> onnx.ModelProto:
    """The picture padded to a multiple of 4, and the output cropped to its size, as SwinIR does."""
    d = Drawing()
    d.conv(d.padded_to_multiple(4, "reflect"), "a", 12)
    d.add("DepthToSpace", "a", "b", blocksize=2)
    for index in (2, 3):
        d.add("Mul", [d.size_of("x", index), d.numbers(f"two{index}", 2)], f"end{index}")
    names = ["b", d.numbers("starts", 0, 0), d.joined("ends", "end2", "end3"), d.numbers("axes", 2, 3)]
    return d.model(d.add("Slice", names, "y"))


def along_channels(net: Net) -> onnx.ModelProto:
    """All operations along the channels only, and all elementwise operations."""
    d = Drawing()
    value = d.conv("x", "a", 8)
    d.add("ReduceMean", [value, d.numbers("axis", 1)], "mean", keepdims=1)
    d.add("Sub", [value, "mean"], "centred")
    d.add("Pow", ["centred", d.constant("two", np.array(2, np.float32))], "squared")
    d.add("ReduceMean", ["squared", "axis"], "variance", keepdims=1)
    d.add("Add", ["variance", d.constant("little", np.array(1e-5, np.float32))], "more")
    d.add("Div", ["centred", d.add("Sqrt", "more", "deviation")], "normal")
    value = d.add("Softmax", "normal", "softmax", axis=1)
    d.several("Split", "softmax", ["left", "right"], axis=1, num_outputs=2)
    d.add("Mul", ["left", d.add("Sigmoid", "right", "gate")], "gated")
    d.channels["gated"] = 4
    value = "gated"
    for kind in ("HardSwish", "Elu", "Selu", "Softplus", "Mish", "Exp", "HardSigmoid", "Tanh", "Erf"):
        value = d.add(kind, value, kind.lower())
    for kind in ("Sum", "Mean", "Max"):
        value = d.add(kind, [value, "left", "right"], f"the {kind}")
    d.add("Gather", [value, d.numbers("order", 3, 1, 2, 0)], "picked", axis=1)
    d.add("Tile", ["picked", d.numbers("times", 1, 2, 1, 1)], "tiled")
    d.channels["tiled"] = 8
    return d.last("tiled")


def channels_last(net: Net) -> onnx.ModelProto:
    """A token mixer: channels moved last, layer normalization, two dense layers, channels moved back."""
    d = Drawing()
    d.add("Transpose", d.conv("x", "a", 8), "tokens", perm=[0, 2, 3, 1])
    d.add("LayerNormalization", ["tokens", d.normal("scale", 8), d.normal("shift", 8)], "normal", axis=-1)
    d.add("MatMul", ["normal", d.normal("wide", 8, 16)], "hidden")
    d.add("MatMul", [d.add("Relu", "hidden", "relu"), d.normal("narrow", 16, 8)], "mixed")
    d.add("Add", ["mixed", "tokens"], "sum")
    d.add("Transpose", "sum", "back", perm=[0, 3, 1, 2])
    d.channels["back"] = 8
    return d.last("back")


def windows(net: Net) -> onnx.ModelProto:
    """Attention within windows of 4x4 pixels."""
    d = Drawing()
    d.add("Transpose", d.conv("x", "a", 8), "tokens", perm=[0, 2, 3, 1])
    h, w = d.size_of("x", 2), d.size_of("x", 3)
    for side in (h, w):
        d.add("Div", [side, d.numbers(f"{side}.four", 4)], f"{side}.windows")
    d.add("Reshape", ["tokens", d.joined("apart", 1, f"{h}.windows", 4, f"{w}.windows", 4, 8)], "split")
    d.add("Transpose", "split", "turned", perm=[0, 1, 3, 2, 4, 5])
    d.add("Reshape", ["turned", d.joined("flat", -1, 16, 8)], "windows")
    d.add("Transpose", "windows", "keys", perm=[0, 2, 1])
    d.add("MatMul", ["windows", "keys"], "scores")
    d.add("MatMul", [d.add("Softmax", "scores", "attention", axis=-1), "windows"], "mixed")
    d.add("Reshape", ["mixed", d.joined("again", 1, f"{h}.windows", f"{w}.windows", 4, 4, 8)], "separate")
    d.add("Transpose", "separate", "returned", perm=[0, 5, 1, 3, 2, 4])
    d.add("Reshape", ["returned", d.joined("picture", 1, 8, h, w)], "back")
    d.channels["back"] = 8
    return d.last("back")


def kernels(net: Net) -> onnx.ModelProto:
    """Oblong, dilated, grouped, even and one-sided kernels."""
    d = Drawing()
    value = d.conv("x", "oblong", 4, (1, 7))
    value = d.conv(value, "dilated", 4, 3, dilations=[2, 3], group=2)
    d.add("Conv", [value, d.normal("even.weight", 4, 4, 2, 2)], "even", pads=[1, 0, 0, 1])
    d.add("Conv", ["even", d.normal("ahead.weight", 3, 4, 3, 1)], "y", pads=[0, 0, 2, 0])
    return d.model("y")


def edge_filled(net: Net) -> onnx.ModelProto:
    """The picture reduced to a half after padding to even sizes, as onebranch exports it."""
    d = Drawing()
    return d.model(d.conv(d.padded_to_multiple(2, "edge"), "y", 3, 3, strides=[2, 2]))


def old_forms(net: Net) -> onnx.ModelProto:
    """Opset 9: Upsample, and attributes that later opsets have as inputs."""
    d = Drawing()
    d.add("Pad", "x", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
    d.channels["p"] = 3
    d.conv("p", "a", 4, 3, pad=0)
    d.add("Slice", "a", "s", starts=[1, 0], ends=[4, 9999999999], axes=[1, 2])
    d.channels["s"] = 3
    d.add("Upsample", ["s", d.constant("scales", np.array([1, 1, 2, 2], np.float32))], "u", mode="nearest")
    d.channels["u"] = 3
    return d.last("u", opset=9)


def ones(net: Net) -> onnx.ModelProto:
    """A convolution of a plane of ones added to the network: it differs at the borders only."""
    d = Drawing()
    d.add("Shape", "x", "shape")
    d.add("ConstantOfShape", "shape", "ones", value=onnx.numpy_helper.from_array(np.ones(1, np.float32)))
    d.channels["ones"] = 3
    d.add("Add", [d.conv("x", "a", 3), d.conv("ones", "map", 3)], "y")
    return d.model("y")


def beside_everything(kind: str, **attributes: Any) -> Callable[[Net], onnx.ModelProto]:
    """A gate for every channel, computed from the whole picture."""

    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        names = [d.conv("x", "a", 8)]
        if kind.startswith("Reduce"):
            names.append(d.numbers("axes", 2, 3))
        d.add(kind, names, "seen", **attributes)
        d.channels["seen"] = 8
        d.add("Mul", ["a", d.add("Sigmoid", d.conv("seen", "squeeze", 8, 1), "gate")], "gated")
        return d.last("gated")

    return build


def in_between(kind: str, *others: str, **attributes: Any) -> Callable[[Net], onnx.ModelProto]:
    """An operation that keeps the shape, between two convolutions; others: names of 8 numbers each."""

    def build(net: Net) -> onnx.ModelProto:
        d = Drawing()
        names = [d.conv("x", "a", 8), *(d.normal(name, 8) for name in others)]
        d.add(kind, names, "seen", **attributes)
        d.channels["seen"] = 8
        return d.last("seen")

    return build


def attention(net: Net) -> onnx.ModelProto:
    """Attention from every pixel to every pixel."""
    d = Drawing()
    h, w = d.size_of("x", 2), d.size_of("x", 3)
    d.add("Reshape", [d.conv("x", "a", 8), d.joined("flat", 1, 8, -1)], "keys")
    d.add("Transpose", "keys", "tokens", perm=[0, 2, 1])
    d.add("Softmax", d.add("MatMul", ["tokens", "keys"], "scores"), "attention", axis=-1)
    d.add("Transpose", d.add("MatMul", ["attention", "tokens"], "mixed"), "turned", perm=[0, 2, 1])
    d.add("Reshape", ["turned", d.joined("picture", 1, 8, h, w)], "back")
    d.channels["back"] = 8
    return d.last("back")


def rolled(net: Net) -> onnx.ModelProto:
    """The rows rotated by two, as in Swin's shifted windows."""
    d = Drawing()
    d.conv("x", "a", 8)
    axis = d.numbers("axis", 2)
    d.add("Slice", ["a", d.numbers("s1", -2), d.numbers("e1", 2**63 - 1), axis], "end")
    d.add("Slice", ["a", d.numbers("s2", 0), d.numbers("e2", -2), axis], "begin")
    d.add("Concat", ["end", "begin"], "rolled", axis=2)
    d.channels["rolled"] = 8
    return d.last("rolled")


def flipped(net: Net) -> onnx.ModelProto:
    d = Drawing()
    bounds = d.numbers("s", -1), d.numbers("e", -(2**63)), d.numbers("axis", 3), d.numbers("steps", -1)
    d.add("Slice", ["x", *bounds], "turned")
    d.add("Add", ["x", "turned"], "sum")
    d.channels["sum"] = 3
    return d.last("sum")


HALF, TWO = Fraction(1, 2), Fraction(2)

LOCAL = (
    Net("edsr", edsr, TWO, halo=Padding.uniform(6)),
    Net("shuffled by reshapes", shuffled_by_reshapes, TWO),
    Net("unshuffled by reshapes", unshuffled_by_reshapes, multiple=2, halo=Padding.uniform(2)),
    Net("unet", unet, multiple=4, halo=Padding.uniform(8)),
    Net("fsrcnn", fsrcnn, TWO, halo=Padding.uniform(4)),
    Net("pools", pools, multiple=2, halo=Padding.uniform(8)),
    Net("rounded up pool", rounded_up_pool, multiple=2, halo=Padding(2, 4, 2, 4)),
    Net("same upper", same_padding("SAME_UPPER"), multiple=2, halo=Padding(0, 4, 0, 4)),
    Net("same lower", same_padding("SAME_LOWER"), multiple=2, halo=Padding(4, 0, 4, 0)),
    Net("linear", resized(2, mode="linear"), TWO, halo=Padding.uniform(2)),
    Net(
        "linear, corners",
        resized(2, mode="linear", coordinate_transformation_mode="asymmetric"),
        TWO,
        halo=Padding.uniform(2),
    ),
    Net("cubic", resized(2, mode="cubic"), TWO, halo=Padding.uniform(3)),
    Net("cubic x1.5", resized(1.5, mode="cubic"), Fraction(3, 2), 2, Padding.uniform(4)),
    Net(
        "linear x3",
        resized(3, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
        Fraction(3),
        halo=Padding.uniform(2),
    ),
    Net("linear /2", resized(0.5, mode="linear"), HALF, 2, Padding.uniform(4)),
    Net("antialiased /2", resized(0.5, mode="linear", antialias=1), HALF, 2, Padding.uniform(4)),
    Net("nearest x3", resized(3, mode="nearest"), Fraction(3), halo=Padding.uniform(2)),
    Net("resized back", resized_back(mode="linear"), multiple=2, halo=Padding.uniform(4)),
    Net("reflected", padded("reflect", 2), halo=Padding.uniform(3)),
    Net("edges", padded("edge", 3), halo=Padding.uniform(4)),
    Net("cropped", cropped, halo=Padding.uniform(3), exact=False),
    Net("focus", focus, multiple=2, halo=Padding.uniform(2)),
    Net("cut to size", cut_to_size, TWO, 4, Padding.uniform(4)),
    Net("along channels", along_channels, halo=Padding.uniform(2)),
    Net("channels last", channels_last, halo=Padding.uniform(2)),
    Net("windows", windows, multiple=4, halo=Padding.uniform(8)),
    Net("kernels", kernels, halo=Padding(3, 4, 6, 7)),
    Net("edge filled", edge_filled, HALF, 2, Padding(2, 0, 2, 0)),
    Net("old forms", old_forms, TWO, halo=Padding.uniform(2)),
    Net("ones", ones),
)
"""Networks with a halo."""

GLOBAL = (
    Net("squeeze", beside_everything("GlobalAveragePool"), halo=None, whole="GlobalAveragePool 'seen'"),
    Net("largest", beside_everything("GlobalMaxPool"), halo=None, whole="GlobalMaxPool 'seen'"),
    Net("mean", beside_everything("ReduceMean"), halo=None, whole="ReduceMean 'seen'"),
    Net(
        "instances",
        in_between("InstanceNormalization", "s", "b"),
        halo=None,
        whole="InstanceNormalization 'seen'",
    ),
    Net(
        "variance",
        in_between("MeanVarianceNormalization"),
        halo=None,
        whole="MeanVarianceNormalization 'seen'",
    ),
    Net("along rows", in_between("Softmax", axis=3), halo=None, whole="Softmax 'seen'"),
    Net("attention", attention, halo=None, whole="MatMul 'scores'"),
    Net("flipped", flipped, halo=None, whole="Slice 'turned'"),
    Net("rolled", rolled, halo=None, whole="Slice 'end'"),
    Net(
        "corners aligned",
        resized(2, mode="linear", coordinate_transformation_mode="align_corners"),
        TWO,
        halo=None,
        whole="Resize 'up'",
    ),
)
"""Networks that need the whole picture."""
