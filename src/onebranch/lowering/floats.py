"""A spec and its weights become a graph of operations, merged networks and unmerged ones alike.

A merged network becomes convolutions and activations, plus its skips and its resampling layer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onebranch.algebra.network import within
from onebranch.graph.operations import EDGE_FILL, Builder, Graph, Value
from onebranch.images.resize import PhaseKind, downscale_phases, upscale_phases
from onebranch.spec.branch import EDGES, AveragePool, BatchNorm, Branch, BranchStep, Edge, Identity
from onebranch.spec.network import BATCH_NORM_EPSILON, LEAKY_SLOPE, Activation, BlockSpec, NetworkSpec

Tensors = Mapping[str, np.ndarray]
"""Float32 arrays by the names of the model file, or by the rest of those names below a prefix."""

INPUT, OUTPUT = "input", "output"
"""Names of the picture that goes in and the one that comes out."""


def lower(spec: NetworkSpec, weights: Tensors) -> Graph:
    """The network as a graph: `input` (N, C, H, W) in [0, 1] -> `output`, batch, height and width open.

    weights: exactly the tensors of the spec, float32.
    """
    return framed(spec, lambda builder, picture: add_network(builder, spec, weights, picture))


def framed(spec: NetworkSpec, network: Callable[[Builder, str], str]) -> Graph:
    """The graph from `input` to `output`. network: adds the layers between the padding and the shuffle."""
    builder = Builder({INPUT: Value(("batch", spec.channels, "height", "width"))})
    result = network(builder, add_fill(builder, spec, INPUT))
    if spec.task == "upscale":
        result = builder.add("DepthToSpace", (result,), "shuffled", blocksize=spec.scale, mode="CRD")
    builder.name(result, OUTPUT)
    return builder.graph({OUTPUT: Value(("batch", spec.channels, "output_height", "output_width"))})


def add_fill(builder: Builder, spec: NetworkSpec, picture: str, name: str = "filled") -> str:
    """Adds the padding before a downscaling network: edges replicated up to a multiple of its scale."""
    if spec.task != "downscale":
        return picture
    return builder.add(EDGE_FILL, (picture,), name, multiple=spec.scale)


def add_network(builder: Builder, spec: NetworkSpec, weights: Tensors, picture: str) -> str:
    """Adds the network on a filled `picture`; returns its output, for upscaling before the pixel shuffle."""
    return add_rest(builder, spec, weights, _blocks(builder, spec, weights, picture), picture)


def add_rest(builder: Builder, spec: NetworkSpec, weights: Tensors, features: str, picture: str) -> str:
    """Adds the operations after the tail: the downsampling layer and the picture residual."""
    if spec.task == "downscale":
        features = _downsampled(builder, spec, weights, features)
    return _with_residual(builder, spec, features, picture)


def _blocks(builder: Builder, spec: NetworkSpec, weights: Tensors, picture: str) -> str:
    """Head, blocks and tail, joined by the skips: additions first, then concatenations."""
    outputs: list[str] = []
    value = picture
    for index, (name, block, inputs) in enumerate(spec.walk()):
        output = _block(builder, name, block, inputs, within(weights, name), value)
        outputs.append(output)
        value = output
        skips = [skip for skip in spec.skips if skip.target == index]
        for n, skip in enumerate(s for s in skips if s.join == "add"):
            value = builder.add("Add", (value, outputs[skip.source]), f"{name}.added.{n}")
        widening = tuple(outputs[skip.source] for skip in skips if skip.join == "concatenate")
        if widening:
            value = builder.add("Concat", (value, *widening), f"{name}.concatenated", axis=1)
    return value


def _block(builder: Builder, name: str, block: BlockSpec, inputs: int, tensors: Tensors, value: str) -> str:
    """The sum of the branches, then the activation. Branches with equal padding share it."""
    total = ""
    padded: dict[tuple[int, int], str] = {(0, 0): value}
    for n, branch in enumerate(block.parsed):
        prefix = f"{name}.branches.{n}"
        chain = _Chain(prefix, branch, (inputs, *branch.channels(inputs, block.width)))
        output = _branch(builder, chain, within(tensors, f"branches.{n}"), padded)
        total = builder.add("Add", (total, output), f"{prefix}.sum") if total else output
    return add_activation(builder, f"{name}.activation", block.activation, tensors, total)


@dataclass(frozen=True)
class _Chain:
    """A branch with its name and the channels before, between and after its steps."""

    name: str
    branch: Branch
    channels: tuple[int, ...]


# Examples: "3x3 bn 1x1" has radius 1, all of it in its first step, so the convolution pads by itself. In "1x1
# 3x3" the first step has radius 0: the picture is padded by a Pad node of 1, which other branches of the
# block with the same radius share.
def _branch(builder: Builder, chain: _Chain, tensors: Tensors, padded: dict[tuple[int, int], str]) -> str:
    """A branch that is padded once: by its first step if that has the branch's radius, else by a Pad node."""
    branch = chain.branch
    first_radius = branch.steps[0].radius if branch.steps[0].radius == branch.radius else (0, 0)
    rest = branch.radius if first_radius == (0, 0) else (0, 0)
    if rest not in padded:
        frame = builder.constant(f"{chain.name}.pads", np.array([0, 0, *rest, 0, 0, *rest], np.int64))
        padded[rest] = builder.add("Pad", (padded[0, 0], frame), f"{chain.name}.padded")
    value = padded[rest]
    for k, step in enumerate(branch.steps):
        pads = (first_radius if k == 0 else (0, 0)) * 2
        name = f"{chain.name}.{k}"
        value = _step(builder, name, step, within(tensors, str(k)), value, pads, chain.channels[k])
    return value


def _step(
    builder: Builder,
    name: str,
    step: BranchStep,
    parameters: Tensors,
    value: str,
    pads: tuple[int, ...],
    channels: int,
) -> str:
    """One step of a chain. parameters: its tensors. channels: number of its input channels."""
    if isinstance(step, Identity):
        return value
    if isinstance(step, BatchNorm):
        order = ("weight", "bias", "running_mean", "running_var")
        statistics = tuple(builder.constant(f"{name}.{key}", parameters[key]) for key in order)
        return builder.add("BatchNormalization", (value, *statistics), name, epsilon=BATCH_NORM_EPSILON)
    if isinstance(step, AveragePool):
        return builder.add(
            "AveragePool", (value,), name, kernel_shape=step.kernel, pads=pads, count_include_pad=1
        )
    if isinstance(step, Edge):
        taps = parameters["scale"][:, None, None, None] * np.asarray(EDGES[step.name], np.float32)
        return add_convolution(builder, name, value, taps, parameters["bias"], pads=pads, group=channels)
    groups, spread = step.groups or channels, (step.dilation,) * 2
    weight, bias = parameters["weight"], parameters.get("bias")
    return add_convolution(builder, name, value, weight, bias, pads=pads, group=groups, dilations=spread)


def add_convolution(
    builder: Builder,
    name: str,
    value: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    **attributes: int | tuple[int, ...],
) -> str:
    """Adds a convolution with constant weight (O, I / group, K, L) and bias (O,); attributes as in ONNX."""
    inputs: tuple[str, ...] = (value, builder.constant(f"{name}.weight", weight))
    if bias is not None:
        inputs += (builder.constant(f"{name}.bias", bias),)
    return builder.add("Conv", inputs, name, kernel_shape=weight.shape[2:], **attributes)


def add_activation(builder: Builder, name: str, kind: Activation, tensors: Tensors, value: str) -> str:
    """Adds a block's activation; `tensors` are those of the block."""
    if kind == "none":
        return value
    if kind == "prelu":
        slopes = builder.constant(f"{name}.weight", tensors["activation.weight"].reshape(-1, 1, 1))
        return builder.add("PRelu", (value, slopes), name)
    if kind == "leaky_relu":
        return builder.add("LeakyRelu", (value,), name, alpha=LEAKY_SLOPE)
    if kind == "relu":
        return builder.add("Relu", (value,), name)
    return _silu(builder, name, value) if kind == "silu" else _gelu(builder, name, value)


def _silu(builder: Builder, name: str, value: str) -> str:
    sigmoid = builder.add("Sigmoid", (value,), f"{name}.sigmoid")
    return builder.add("Mul", (value, sigmoid), name)


def _gelu(builder: Builder, name: str, value: str) -> str:
    """x (1 + erf(x / sqrt 2)) / 2, in the order of operations that runtimes recognize and fuse."""
    numbers = {"root": math.sqrt(2), "one": 1.0, "half": 0.5}
    root, one, half = (
        builder.constant(f"{name}.{key}", np.array(x, np.float32)) for key, x in numbers.items()
    )
    divided = builder.add("Div", (value, root), f"{name}.divided")
    error = builder.add("Erf", (divided,), f"{name}.erf")
    shifted = builder.add("Add", (error, one), f"{name}.shifted")
    product = builder.add("Mul", (value, shifted), f"{name}.product")
    return builder.add("Mul", (product, half), name)


def _downsampled(builder: Builder, spec: NetworkSpec, weights: Tensors, features: str) -> str:
    strides = (spec.scale, spec.scale)
    if spec.downsampling == "average":
        return builder.add("AveragePool", (features,), "resample", kernel_shape=strides, strides=strides)
    weight, pad = weights["resample.weight"], 1
    if spec.downsampling == "unshuffle":
        weight, pad = unshuffled(weight, spec.scale), spec.scale
    bias = weights["resample.bias"]
    return add_convolution(builder, "resample", features, weight, bias, strides=strides, pads=(pad,) * 4)


# Example, factor 2, a 1x1 convolution (O, 4, 1, 1): its weights a, b, c, d for the four pixels of a cell
# become the 2x2 kernel ((a, b), (c, d)) of stride 2.
def unshuffled(weight: np.ndarray, factor: int) -> np.ndarray:
    """Pixel unshuffle, then a convolution (O, C s s, K, L), as one convolution (O, C, s K, s L) of stride s.

    Its padding is s times the padding of the convolution after the unshuffle.
    """
    o, _, k, l = weight.shape
    split = weight.reshape(o, -1, factor, factor, k, l)
    return split.transpose(0, 1, 4, 2, 5, 3).reshape(o, -1, factor * k, factor * l)


def _with_residual(builder: Builder, spec: NetworkSpec, features: str, picture: str) -> str:
    if spec.residual == "none":
        return features
    resized = picture if spec.task == "denoise" else _resized(builder, spec, spec.residual, picture)
    return builder.add("Add", (features, resized), "residual.sum")


def _resized(builder: Builder, spec: NetworkSpec, kind: PhaseKind, picture: str) -> str:
    """The picture residual: a fixed convolution of every channel by itself."""
    kernels = kernels_of(spec, kind)
    framed = add_frame(builder, "residual", spec, kernels, picture)
    weight = np.tile(kernels[:, None], (spec.channels, 1, 1, 1)).astype(np.float32)
    stride = spec.scale if spec.task == "downscale" else 1
    return add_convolution(
        builder, "residual", framed, weight, None, strides=(stride, stride), group=spec.channels
    )


def kernels_of(spec: NetworkSpec, kind: PhaseKind) -> np.ndarray:
    """Kernels (P, K, K) that resize a picture as the network does; P phases for its pixel shuffle, else 1."""
    if spec.task == "denoise":
        return np.ones((1, 1, 1))
    return (downscale_phases if spec.task == "downscale" else upscale_phases)(spec.scale, kind)


def add_frame(builder: Builder, name: str, spec: NetworkSpec, kernels: np.ndarray, picture: str) -> str:
    """Adds the replicated edges that an unpadded convolution with these kernels reads."""
    # Example: halving by a kernel of 8 rows with stride 2. An output row reads the 2 input rows of its cell
    # and (8 - 2) / 2 = 3 on each side.
    size, stride = kernels.shape[-1], spec.scale if spec.task == "downscale" else 1
    before = (size - stride) // 2
    after = size - stride - before
    if not before and not after:
        return picture
    pads = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
    return builder.add(
        "Pad", (picture, builder.constant(f"{name}.pads", pads)), f"{name}.padded", mode="edge"
    )
