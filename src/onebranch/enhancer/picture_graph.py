"""One graph of a network and all conversions between samples and its colours.

The graph computes what `stage.ArrayStage` defines. So the runtime does the conversions, the interpolation of
chroma and the rounding with all threads, and no float picture passes through Python. The output of the graph
is not pixel-shuffled: `interleaved` does that faster, on the rounded samples.
"""

import numpy as np

from onebranch.graph.operations import Builder, Graph, Value
from onebranch.images.colour import luma
from onebranch.images.resize import Kernel
from onebranch.images.samples import WHITE_LEVELS, Samples
from onebranch.lowering.floats import (
    INPUT,
    OUTPUT,
    add_convolution,
    add_fill,
    add_frame,
    add_network,
    kernels_of,
)
from onebranch.model.file import Model
from onebranch.spec.network import NetworkSpec

TYPES = {"float32": 1, "uint8": 2, "uint16": 4}
"""ONNX's numbers of tensor types, for `Cast`."""

BLACK_LUMA, WHITE_MINUS_BLACK = 16 / 255, 219 / 255
"""Studio-range luma / 255 of black, and the difference between white and black."""

LUMA_WEIGHTS = luma(np.eye(3)) - BLACK_LUMA
"""The weights of red, green and blue in luma. If luma changes by Y, they change by Y / LUMA_RANGE."""


def picture_graph(model: Model, channels: int, chroma: Kernel, source: str, target: str) -> Graph:
    """The graph from `input` (H, W, C) through the model to `output` (C, phases, H', W').

    source, target: sample types of input and output (uint8, uint16, float32). Integers are clipped and
    rounded half up at the end; floats are not.
    """
    spec = model.spec
    builder = Builder({INPUT: Value(("height", "width", channels), source)})
    values = INPUT if source == "float32" else builder.add("Cast", (INPUT,), "values", to=TYPES["float32"])
    matrix, shift = _input_colour(spec, channels)
    mixed = _matrix(builder, "into", values, matrix / WHITE_LEVELS[source])
    shifted = builder.add("Add", (mixed, _number(builder, "black", shift)), "shifted") if shift else mixed
    features = add_network(builder, spec, model.weights, _picture(builder, spec, "network", shifted))
    if spec.colour == "rgb" and channels == 1:
        features = _luma_of(builder, features, phases(spec))
    gain = WHITE_LEVELS[target] / (WHITE_MINUS_BLACK if spec.colour == "y" or channels == 1 else 1)
    constant = _half(target) - gain * shift
    result = builder.add("Mul", (features, _number(builder, "gain", gain)), "gained")
    result = _in_phases(builder, spec, result, channels if spec.colour == "rgb" else 1)
    if spec.colour == "y" and channels == 3:
        chroma_matrix = (
            np.eye(3) - np.outer(LUMA_WEIGHTS, np.ones(3)) / WHITE_MINUS_BLACK
        )  # RGB without its luma
        colours = _matrix(
            builder, "colours", values, chroma_matrix * (WHITE_LEVELS[target] / WHITE_LEVELS[source])
        )
        picture = _picture(builder, spec, "chroma", colours)
        chroma_planes = _interpolated(builder, spec, chroma, picture, 3, constant)
        result = builder.add("Add", (chroma_planes, result), "sum")
    elif constant:
        result = builder.add("Add", (result, _number(builder, "constant", constant)), "sum")
    return _written(builder, result, (channels, phases(spec)), target)


def interpolation_graph(spec: NetworkSpec, chroma: Kernel, source: str, target: str) -> Graph:
    """The graph that interpolates alpha: from `input` (H, W, 1) to `output` (1, phases, H', W'), clipped."""
    builder = Builder({INPUT: Value(("height", "width", 1), source)})
    values = INPUT if source == "float32" else builder.add("Cast", (INPUT,), "values", to=TYPES["float32"])
    scaled = _matrix(builder, "scaled", values, np.full((1, 1), WHITE_LEVELS[target] / WHITE_LEVELS[source]))
    picture = _picture(builder, spec, "alpha", scaled)
    result = _interpolated(builder, spec, chroma, picture, 1, _half(target))
    return _written(builder, result, (1, phases(spec)), target)


def phases(spec: NetworkSpec) -> int:
    """Number of result pixels per pixel of the graph's output, which the pixel shuffle arranges: S²."""
    return spec.scale**2 if spec.task == "upscale" else 1


def interleaved(planes: Samples) -> Samples:
    """The pixel shuffle: (C, S², H, W) -> (S H, S W, C), in PyTorch's order of phases.

    >>> interleaved(np.arange(4).reshape(1, 4, 1, 1))[..., 0].tolist()
    [[0, 1], [2, 3]]
    """
    channels, count, height, width = planes.shape
    scale = round(count**0.5)
    result = np.empty((height, scale, width, scale, channels), planes.dtype)
    for channel in range(channels):
        for phase in range(count):
            result[:, phase // scale, :, phase % scale, channel] = planes[channel, phase]
    return result.reshape(height * scale, width * scale, channels)


def _input_colour(spec: NetworkSpec, channels: int) -> tuple[np.ndarray, float]:
    """The conversion to the network's colour: a matrix (picture channels, network channels) and an offset."""
    if spec.colour == "rgb":
        return (np.eye(3) if channels == 3 else np.ones((1, 3))), 0.0
    return (LUMA_WEIGHTS[:, None] if channels == 3 else np.full((1, 1), WHITE_MINUS_BLACK)), BLACK_LUMA


def _half(target: str) -> float:
    """The constant that is added before truncation, so that it rounds half up."""
    return 0.0 if target == "float32" else 0.5


def _number(builder: Builder, name: str, value: float) -> str:
    return builder.constant(name, np.array(value, np.float32))


def _matrix(builder: Builder, name: str, values: str, matrix: np.ndarray) -> str:
    """The matrix product of values (H, W, I) and a matrix (I, O)."""
    if np.array_equal(matrix, np.eye(len(matrix))):
        return values
    if matrix.shape == (1, 1) or np.array_equal(matrix, matrix[0, 0] * np.eye(len(matrix))):
        return builder.add("Mul", (values, _number(builder, f"{name}.factor", matrix[0, 0])), name)
    return builder.add(
        "MatMul", (values, builder.constant(f"{name}.matrix", matrix.astype(np.float32))), name
    )


def _picture(builder: Builder, spec: NetworkSpec, name: str, values: str) -> str:
    """Values (H, W, C) as a picture (1, C, H, W), padded to a multiple of the network's cell."""
    planes = builder.add("Transpose", (values,), f"{name}.planes", perm=(2, 0, 1))
    first = builder.constant(f"{name}.first", np.zeros(1, np.int64))
    return add_fill(
        builder, spec, builder.add("Unsqueeze", (planes, first), f"{name}.picture"), f"{name}.filled"
    )


def _luma_of(builder: Builder, features: str, count: int) -> str:
    """The luma, less that of black, of RGB features: (1, 3 phases, H, W) becomes (1, phases, H, W)."""
    weight = np.kron(LUMA_WEIGHTS[None], np.eye(count))[:, :, None, None].astype(np.float32)
    return add_convolution(builder, "luma", features, weight, None)


def _in_phases(builder: Builder, spec: NetworkSpec, features: str, channels: int) -> str:
    """Features (1, C phases, H, W) reshaped to (C, phases, H, W)."""
    if channels == 1:
        return features
    shape = builder.constant("phases.shape", np.array([channels, phases(spec), 0, -1], np.int64))
    return builder.add("Reshape", (features, shape), "phases")


def _interpolated(
    builder: Builder, spec: NetworkSpec, chroma: Kernel, picture: str, channels: int, constant: float
) -> str:
    """A picture (1, C, H, W), interpolated to the output size (C, phases, H', W'), plus a constant."""
    kernels = kernels_of(spec, chroma).astype(np.float32)
    framed = add_frame(builder, "resized", spec, kernels, picture)
    weight = np.tile(kernels[:, None], (channels, 1, 1, 1))
    bias = np.full(len(weight), constant, np.float32)
    stride = spec.scale if spec.task == "downscale" else 1
    resized = add_convolution(
        builder, "resized", framed, weight, bias, strides=(stride, stride), group=channels
    )
    shape = builder.constant("resized.shape", np.array([channels, phases(spec), 0, -1], np.int64))
    return builder.add("Reshape", (resized, shape), "resized.phases")


def _written(builder: Builder, value: str, shape: tuple[int, int], target: str) -> Graph:
    """Floats, scaled, clipped and rounded to samples of the type `target`."""
    if target != "float32":
        bounds = {"minimum": 0, "maximum": WHITE_LEVELS[target] + 0.5}
        limits = tuple(_number(builder, name, number) for name, number in bounds.items())
        clipped = builder.add("Clip", (value, *limits), "clipped")
        value = builder.add("Cast", (clipped,), "samples", to=TYPES[target])
    builder.name(value, OUTPUT)
    return builder.graph({OUTPUT: Value((*shape, "output_height", "output_width"), target)})
