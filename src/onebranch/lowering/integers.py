"""A quantized model becomes a graph of operations in ONNX's form of 8-bit networks (QDQ).

Every 8-bit value is a QuantizeLinear followed by a DequantizeLinear, and convolutions stand between; runtimes
fuse what they can into integer arithmetic. What the graph means is `algebra/integer.py`: the sums are the
same; scales and activations are float32, so that a value on the edge of two levels may go to the other.
"""

import numpy as np

from onebranch.algebra.integer import IntegerLayer, integer_layers
from onebranch.algebra.network import within
from onebranch.errors import OnebranchError
from onebranch.graph.operations import Builder, Graph
from onebranch.lowering.floats import Tensors, add_activation, add_convolution, add_rest, framed
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import Layer, Quantization, Range


def lower_integer(spec: NetworkSpec, weights: Tensors, record: Quantization) -> Graph:
    """The quantized network as a graph: `input` (N, C, H, W) float32 in [0, 1] -> `output`, float32.

    weights: those of the spec. record: as `quantization_of` checked it. The head computes in floats, the
    tail's output stays one; the inputs of the blocks and of the tail are uint8 with one scale, their weights
    int8 with a scale per output channel, their biases int32 in units of the products of both.
    """
    integers = integer_layers(spec, weights, record)

    def network(builder: Builder, picture: str) -> str:
        features = _layers(builder, spec, weights, record, integers, picture)
        return add_rest(builder, spec, weights, features, picture)

    return framed(spec, network)


def _layers(
    builder: Builder,
    spec: NetworkSpec,
    weights: Tensors,
    record: Quantization,
    integers: tuple[IntegerLayer, ...],
    picture: str,
) -> str:
    """Head, blocks and tail. `skipped`: what a skip that starts at a layer adds."""
    skipped: list[str] = []
    value, read = picture, Range(1.0, 0)
    for index, (name, block, _) in enumerate(spec.walk()):
        own, tensors = record.layers[index], within(weights, name)
        if index == 0:
            value = _float_convolution(builder, name, tensors, value)
        else:
            value = _convolution(builder, name, integers[index - 1], own, read, value)
        value = add_activation(builder, f"{name}.activation", block.activation, tensors, value)
        if own.output is None:
            return value
        added = [skipped[skip.source] for skip in spec.skips if skip.target == index]
        raw = _eight_bits(builder, f"{name}.raw", own.raw, value) if own.raw else ""
        value = _eight_bits(builder, name, own.output, _sum(builder, name, value, added))
        skipped.append(raw or value)
        read = own.output
    raise OnebranchError("the network has no tail")


def _sum(builder: Builder, name: str, value: str, added: list[str]) -> str:
    for number, other in enumerate(added):
        value = builder.add("Add", (value, other), f"{name}.added.{number}")
    return value


def _float_convolution(builder: Builder, name: str, tensors: Tensors, value: str) -> str:
    weight = tensors["branches.0.0.weight"]
    bias = tensors.get("branches.0.0.bias", np.zeros(len(weight), np.float32))
    return add_convolution(builder, f"{name}.convolution", value, weight, bias, pads=_pads(weight))


def _pads(weight: np.ndarray) -> tuple[int, ...]:
    return (weight.shape[2] // 2, weight.shape[3] // 2) * 2


def _convolution(
    builder: Builder, name: str, layer: IntegerLayer, own: Layer, read: Range, value: str
) -> str:
    """A convolution of 8-bit values; its weight and bias are integers times their scales."""
    scales = np.array(own.weight_scales, np.float64)
    weight = _constant(builder, f"{name}.weight", layer.weight.astype(np.int8), scales)
    bias = _constant(builder, f"{name}.bias", layer.bias.astype(np.int32), scales * read.scale)
    shape = layer.weight.shape[2:]
    return builder.add(
        "Conv",
        (value, weight, bias),
        f"{name}.convolution",
        kernel_shape=shape,
        pads=_pads(layer.weight),
    )


def _constant(builder: Builder, name: str, values: np.ndarray, scales: np.ndarray) -> str:
    """Integers (O, ...) times one scale for each of the first axis."""
    integers = builder.constant(f"{name}.integers", values)
    scale = builder.constant(f"{name}.scales", scales.astype(np.float32))
    zero = builder.constant(f"{name}.zero", np.zeros(len(values), values.dtype))
    return builder.add("DequantizeLinear", (integers, scale, zero), name, axis=0)


def _eight_bits(builder: Builder, name: str, to: Range, value: str) -> str:
    """The value as it is after 8 bits, as floats."""
    scale = builder.constant(f"{name}.scale", np.array(to.scale, np.float32))
    zero = builder.constant(f"{name}.zero_point", np.array(to.zero_point, np.uint8))
    levels = builder.add("QuantizeLinear", (value, scale, zero), f"{name}.levels")
    return builder.add("DequantizeLinear", (levels, scale, zero), f"{name}.eight_bits")
