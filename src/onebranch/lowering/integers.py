"""A quantized model becomes a graph in ONNX's QDQ form: QuantizeLinear, DequantizeLinear, operation.

Runtimes fuse what they can into integer arithmetic. The graph's accumulators equal those of the definition,
`algebra/integer.py`; its scales and activations are float32 operations in the runtime's own order, so a value
halfway between two levels may be rounded to the other one.
"""

import numpy as np

from onebranch.algebra.integer import IntegerLayer, integer_layers
from onebranch.algebra.network import within
from onebranch.errors import OnebranchError
from onebranch.graph.operations import Builder, Graph
from onebranch.lowering.floats import Tensors, add_activation, add_convolution, add_rest, framed
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import Quantization, QuantizedLayer, QuantParams


def lower_integer(spec: NetworkSpec, weights: Tensors, record: Quantization) -> Graph:
    """The quantized network as a graph: `input` (N, C, H, W) float32 in [0, 1] -> `output`, float32.

    weights: those of the spec. record: checked by `quantization_of`. The head computes in floats and the
    tail's output is float. Blocks and tail read uint8 tensors with one scale each; their weights are int8
    with one scale per output channel, their biases int32 in units of the product of both scales.
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
    """Adds head, blocks and tail; returns the name of the tail's output."""
    skip_values: list[str] = []  # by layer: the value that a skip from it adds
    value, input_q = picture, QuantParams(1.0, 0)
    for index, (name, block, _) in enumerate(spec.walk()):
        layer, tensors = record.layers[index], within(weights, name)
        if index == 0:
            value = _float_convolution(builder, name, tensors, value)
        else:
            value = _convolution(builder, integers[index - 1], layer, input_q, value)
        value = add_activation(builder, f"{name}.activation", block.activation, tensors, value)
        if layer.output is None:
            return value
        added = [skip_values[skip.source] for skip in spec.skips if skip.target == index]
        # A skip that starts here adds the layer's output before the skips that end here. If there are any of
        # these, it needs quantization parameters of its own; otherwise both values are the same.
        raw = _quantized(builder, f"{name}.raw", layer.raw, value) if layer.raw else ""
        value = _quantized(builder, name, layer.output, _sum(builder, name, value, added))
        skip_values.append(raw or value)
        input_q = layer.output
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
    builder: Builder, integers: IntegerLayer, layer: QuantizedLayer, input_q: QuantParams, value: str
) -> str:
    """Adds a convolution of 8-bit values whose weight and bias are integers times their scales."""
    name, scales = layer.name, np.array(layer.weight_scales, np.float64)
    weight = _constant(builder, f"{name}.weight", integers.weight.astype(np.int8), scales)
    bias = _constant(builder, f"{name}.bias", integers.bias.astype(np.int32), scales * input_q.scale)
    shape = integers.weight.shape[2:]
    return builder.add(
        "Conv",
        (value, weight, bias),
        f"{name}.convolution",
        kernel_shape=shape,
        pads=_pads(integers.weight),
    )


# The file holds integers, and the graph makes floats of them: ONNX's QDQ form. Example: weights (3, -2) of an
# output channel with scale 0.5 stand for (1.5, -1).
def _constant(builder: Builder, name: str, values: np.ndarray, scales: np.ndarray) -> str:
    """Adds integers (O, ...), dequantized with one scale per entry of the first axis."""
    integers = builder.constant(f"{name}.integers", values)
    scale = builder.constant(f"{name}.scales", scales.astype(np.float32))
    zero = builder.constant(f"{name}.zero", np.zeros(len(values), values.dtype))
    return builder.add("DequantizeLinear", (integers, scale, zero), name, axis=0)


def _quantized(builder: Builder, name: str, params: QuantParams, value: str) -> str:
    """Adds a quantization to 8 bits and back; returns the name of the float value."""
    scale = builder.constant(f"{name}.scale", np.array(params.scale, np.float32))
    zero = builder.constant(f"{name}.zero_point", np.array(params.zero_point, np.uint8))
    levels = builder.add("QuantizeLinear", (value, scale, zero), f"{name}.levels")
    return builder.add("DequantizeLinear", (levels, scale, zero), f"{name}.eight_bits")
