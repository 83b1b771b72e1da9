"""The definition of a quantized network: a slow numpy reference that integer runtimes match bit for bit.

The head computes in float32 from the picture; the blocks and the tail compute in exact integers, and the
tail's output is float32. All float arithmetic is IEEE float32: each product and each sum is rounded
separately, and each constant is rounded once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebranch.algebra.definition import Floats, correlate, zero_pad
from onebranch.algebra.network import filled, finished, within
from onebranch.errors import OnebranchError
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec
from onebranch.spec.quantization import (
    MAX_LEVEL,
    MAX_WEIGHT_LEVEL,
    Quantization,
    QuantizedLayer,
    QuantParams,
    quantization_of,
)

MAX_ACCUMULATOR = 2**31 - 1
"""The largest accumulator value: sums of products are held in signed 32-bit integers."""

MAX_ROUNDED_VALUE = 2**30
"""Values stay below this before they are rounded to an integer, so that the conversion cannot overflow."""

QuantizationRecord = Mapping[str, Any] | Quantization


@dataclass(frozen=True)
class IntegerLayer:
    """A block or the tail in integers, with O output channels, I input channels and a K x L kernel.

    weight: (O, I, K, L) int64 within -127..127.
    bias: (O,) int64 in units of the accumulator, without the contribution of the input's zero point.
    multiplier: (O,) float32. An accumulator times its multiplier is in units of the output's scale; in the
        tail, and in layers at which a skip ends, it is in real units.
    slopes: (O,) float32, the factors by which the activation multiplies values below zero.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: Floats
    slopes: Floats


def run_integer(
    spec: NetworkSpec, weights: Mapping[str, Floats], record: QuantizationRecord, picture: Floats
) -> Floats:
    """The tail's output (O, H, W) float32 for a picture (C, H, W) float32, before the resampling layer.

    picture: finite values; for a downscaling network, already padded by `filled`.
    """
    quantization = quantization_of(record, spec)
    value, output = head_output(spec, weights, quantization.layers[0], picture)
    outputs = [output]
    for index, integers in enumerate(integer_layers(spec, weights, quantization), start=1):
        input_q = _present(quantization.layers[index - 1].output)
        if index == len(quantization.layers) - 1:
            return tail_output(integers, value, input_q)
        added = [outputs[skip.source] for skip in spec.skips if skip.target == index]
        value, output = block_output(integers, value, input_q, quantization.layers[index], added)
        outputs.append(output)
    raise AssertionError("the last layer is the tail")


def run_integer_network(
    spec: NetworkSpec, weights: Mapping[str, Floats], record: QuantizationRecord, pictures: Floats
) -> Floats:
    """Enhanced pictures, unclipped: `algebra.network.run_network` with blocks and tail in integers.

    pictures: (N, C, H, W) float32, finite. The resampling layer and the picture residual stay float32.
    """
    pictures = filled(pictures, spec.scale) if spec.task == "downscale" else pictures
    features = np.stack([run_integer(spec, weights, record, picture) for picture in pictures])
    return finished(spec, weights, pictures, features)


def integer_layers(
    spec: NetworkSpec, weights: Mapping[str, Floats], record: QuantizationRecord
) -> tuple[IntegerLayer, ...]:
    """Blocks and tail in integers. Raises OnebranchError if an accumulator or a value could overflow."""
    quantization = quantization_of(record, spec)
    _check_head(spec, within(weights, "head"), _present(quantization.layers[0].output))
    layers = []
    for index, (name, block, _) in enumerate(spec.walk()):
        if index == 0:
            continue
        input_q, layer = _present(quantization.layers[index - 1].output), quantization.layers[index]
        sources = [quantization.layers[skip.source] for skip in spec.skips if skip.target == index]
        added = sum(MAX_LEVEL * _present(source.raw or source.output).scale for source in sources)
        integers = integer_layer(block, within(weights, name), layer, input_q, bool(sources))
        _check_accumulators(integers, layer, input_q)
        _check_values(integers, layer, input_q, added)
        layers.append(integers)
    return tuple(layers)


def integer_layer(
    block: BlockSpec,
    tensors: Mapping[str, Floats],
    layer: QuantizedLayer,
    input_q: QuantParams,
    has_skips: bool,
) -> IntegerLayer:
    """One block or the tail in integers.

    tensors: the block's tensors. layer: the block's entry in the quantization record. input_q: the
    quantization parameters of its input. has_skips: True if a skip ends at this layer.
    """
    unit = 1.0 if has_skips or layer.output is None else layer.output.scale
    scales = np.array(layer.weight_scales, np.float64)
    weight, bias = convolution_of(tensors)
    levels = np.clip(np.rint(weight / scales[:, None, None, None]), -MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL)
    units = np.rint(bias / (input_q.scale * scales))
    if not (np.abs(units) <= MAX_ACCUMULATOR).all():
        raise OnebranchError(
            f"quantization: a bias of {layer.name} is too large for 32-bit sums; its weight scale is"
            " too small"
        )
    multiplier = (input_q.scale * scales / unit).astype(np.float32)
    return IntegerLayer(
        levels.astype(np.int64), units.astype(np.int64), multiplier, slopes_of(block, tensors)
    )


def convolution_of(tensors: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Weight (O, I, K, L) and bias (O,) of a merged block in float64; the bias is 0 where it has none."""
    weight = tensors["branches.0.0.weight"].astype(np.float64)
    bias = tensors.get("branches.0.0.bias", np.zeros(weight.shape[0], np.float32))
    return weight, bias.astype(np.float64)


def slopes_of(block: BlockSpec, tensors: Mapping[str, Floats]) -> Floats:
    """The factors (O,) float32 of values below zero, for activations linear on both sides of zero."""
    if block.activation == "prelu":
        return tensors["activation.weight"].astype(np.float32)
    slope = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}[block.activation]
    return np.full(block.width, slope, np.float32)


def head_output(
    spec: NetworkSpec, weights: Mapping[str, Floats], layer: QuantizedLayer, picture: Floats
) -> tuple[np.ndarray, Floats]:
    """The head's output (O, H, W): as uint8, and dequantized to the float32 values that skips add.

    The order of the float32 operations is fixed: a sum begins with the bias, and the products are added in
    order of the kernel's row, then the input channel, then the kernel's column. Each product and each sum is
    rounded. The activation follows.
    """
    tensors, output_q = within(weights, "head"), _present(layer.output)
    weight, bias = (value.astype(np.float32) for value in convolution_of(tensors))
    _, inputs, k, l = weight.shape
    rows, columns = picture.shape[1:]
    padded = zero_pad(picture[None].astype(np.float32), (k // 2, l // 2))[0]
    total = np.broadcast_to(bias[:, None, None], (len(bias), rows, columns))
    for y, i, x in np.ndindex(k, inputs, l):
        total = total + padded[i, y : y + rows, x : x + columns] * weight[:, i, y, x, None, None]
    activated = _activate(total, slopes_of(spec.head, tensors))
    value = _quantize(activated, output_q, 1 / output_q.scale)
    return value, _dequantize(value, output_q)


# Worked example: one channel, a 1x1 kernel of weight 3, bias 10, input level 130 with zero point 100,
# multiplier 0.5, output scale 0.1 and zero point 20, no skip. The accumulator is 3 * (130 - 100) + 10 = 100,
# which is 50 units of the output's scale. The uint8 output is 50 + 20 = 70, the float32 output 50 * 0.1 = 5.
def block_output(
    integers: IntegerLayer,
    value: np.ndarray,
    input_q: QuantParams,
    layer: QuantizedLayer,
    added: list[Floats],
) -> tuple[np.ndarray, Floats]:
    """A block's output (O, H, W): as the uint8 that the next layer reads, and as the float32 that skips add.

    value: the block's input, uint8. added: the values of the skips that end at this block, in their order.
    """
    output_q = _present(layer.output)
    accumulated = _accumulators(integers, value, input_q)
    output = _activate(accumulated * integers.multiplier[:, None, None], integers.slopes)
    if not added:
        value = _quantize(output, output_q, 1)
        return value, _dequantize(value, output_q)
    raw = layer.raw
    before_skips = _dequantize(_quantize(output, raw, 1 / raw.scale), raw) if raw else output
    for other in added:
        output = output + other
    return _quantize(output, output_q, 1 / output_q.scale), before_skips


def tail_output(integers: IntegerLayer, value: np.ndarray, input_q: QuantParams) -> Floats:
    """The tail's output (O, H, W), float32, for its input `value`, uint8."""
    return np.asarray(_accumulators(integers, value, input_q) * integers.multiplier[:, None, None])


def _accumulators(integers: IntegerLayer, value: np.ndarray, input_q: QuantParams) -> Floats:
    """The exact sums of products and bias, rounded to float32; pixels outside the picture count as 0.

    They are computed in float64, where integers below 2**53 are exact and matrix products are fast.
    """
    k, l = integers.weight.shape[2:]
    centred = zero_pad(value[None].astype(np.float64) - input_q.zero_point, (k // 2, l // 2))
    sums = correlate(centred, integers.weight.astype(np.float64), 1, 1)[0] + integers.bias[:, None, None]
    return np.asarray(sums, np.float32)


def _activate(values: Floats, slopes: Floats) -> Floats:
    return np.where(values < 0, values * slopes[:, None, None], values)


def _quantize(values: Floats, output_q: QuantParams, factor: float) -> np.ndarray:
    """Values as uint8. factor: converts them to units of the output's scale. Ties round to even."""
    units = values if factor == 1 else values * np.float32(factor)
    levels: np.ndarray = np.clip(np.rint(units) + np.float32(output_q.zero_point), 0, MAX_LEVEL)
    return levels.astype(np.uint8)


def _dequantize(value: np.ndarray, params: QuantParams) -> Floats:
    real: Floats = (value.astype(np.float32) - np.float32(params.zero_point)) * np.float32(params.scale)
    return real


def _present(params: QuantParams | None) -> QuantParams:
    assert params is not None, "quantization_of has checked the record"
    return params


def _check_accumulators(integers: IntegerLayer, layer: QuantizedLayer, input_q: QuantParams) -> None:
    """Raise OnebranchError unless every partial sum fits 32 bits for every order of the additions."""
    magnitudes = np.abs(integers.weight).sum((1, 2, 3))
    start = np.abs(integers.bias - input_q.zero_point * integers.weight.sum((1, 2, 3)))
    if (largest := int((MAX_LEVEL * magnitudes + start).max())) > MAX_ACCUMULATOR:
        raise OnebranchError(
            f"quantization: {layer.name} could add up to {largest:,}; at most {MAX_ACCUMULATOR:,} fits"
            " 32-bit sums"
        )


def _check_head(spec: NetworkSpec, tensors: Mapping[str, Floats], output_q: QuantParams) -> None:
    """Raise OnebranchError if the head's values for pictures in [-1, 1] could be too large to round."""
    weight, bias = convolution_of(tensors)
    values = np.abs(weight).sum((1, 2, 3)) + np.abs(bias)
    _check_rounded("head", values * _largest_factors(slopes_of(spec.head, tensors)), output_q.scale)


# Worked example: weight (2, -3), bias 10, input zero point 100, multiplier 0.5, slope 0.25, no skip.
#   An input level is at most max(100, 255 - 100) = 155 away from the zero point, so an accumulator is at most
#   155 * (2 + 3) + 10 = 785 in magnitude, and the value at most 785 * 0.5 * max(1, 0.25) = 392.5. It is
#   already in units of the output's scale (unit 1.0): 392.5 < 2**30, accepted.
#   With a skip that adds at most 4.0 in real units, and output scale 0.01: (392.5 + 4.0) / 0.01 = 39650.
def _check_values(integers: IntegerLayer, layer: QuantizedLayer, input_q: QuantParams, added: float) -> None:
    """Raise OnebranchError if the layer's values for inputs of 0 to 255 could be too large to round.

    added: the largest sum of the skips that end at this layer, in real units; 0 where none does.
    """
    if layer.output is None:
        return
    distance = max(input_q.zero_point, MAX_LEVEL - input_q.zero_point)
    sums = distance * np.abs(integers.weight).sum((1, 2, 3)) + np.abs(integers.bias)
    values = sums * integers.multiplier * _largest_factors(integers.slopes) + added
    units = [params.scale for params in (layer.output, layer.raw) if params] if added else [1.0]
    _check_rounded(layer.name, values, min(units))


def _largest_factors(slopes: Floats) -> Floats:
    """The largest factor of an activation on either side of zero."""
    return np.maximum(1, np.abs(slopes.astype(np.float64)))


def _check_rounded(name: str, values: Floats, unit: float) -> None:
    if (largest := float(values.max()) / unit) >= MAX_ROUNDED_VALUE:
        raise OnebranchError(
            f"quantization: {name} could reach {largest:.3g} times its output's scale; it must stay"
            " below 2**30"
        )
