"""What a quantized network means: a slow numpy reference that every integer runtime equals bit for bit.

The head computes in float32 on the picture, blocks and tail in exact integers, and the tail gives float32.
All float arithmetic is IEEE float32, every product and every sum rounded by itself, constants rounded once.
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
    LEVELS,
    WEIGHT_LEVELS,
    Layer,
    Quantization,
    Range,
    quantization_of,
)

LARGEST_SUM = 2**31 - 1
"""Of what a layer adds up: sums fit 32 bits."""

LARGEST_VALUE = 2**30
"""Of what is rounded to an integer."""

Record = Mapping[str, Any] | Quantization


@dataclass(frozen=True)
class IntegerLayer:
    """A block or the tail in integers; O output channels, I input channels, K x L kernel.

    weight: (O, I, K, L) int64 within -127..127. bias: (O,) int64, in units of the sums, the input's zero
    point not in it. multiplier: (O,) float32, a sum's value in units of the output's scale, or, where skips
    end here and at the tail, in real units. slopes: (O,) float32 for what is below zero.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: Floats
    slopes: Floats


def run_integer(spec: NetworkSpec, weights: Mapping[str, Floats], record: Record, picture: Floats) -> Floats:
    """The tail's output (O, H, W) float32 for a picture (C, H, W) float32, before the resampling layer.

    picture: finite; what a downscaling network is given must have been `filled` before.
    """
    found = quantization_of(record, spec)
    value, own = head_output(spec, weights, found.layers[0], picture)
    kept = [own]
    for index, layer in enumerate(integer_layers(spec, weights, found), start=1):
        read = _given(found.layers[index - 1].output)
        if index == len(found.layers) - 1:
            return tail_output(layer, value, read)
        added = [kept[skip.source] for skip in spec.skips if skip.target == index]
        value, own = block_output(layer, value, read, found.layers[index], added)
        kept.append(own)
    raise AssertionError("the last layer is the tail")


def run_integer_network(
    spec: NetworkSpec, weights: Mapping[str, Floats], record: Record, pictures: Floats
) -> Floats:
    """Enhanced pictures, unclipped: `algebra.network.run_network` in integers from first block to tail.

    pictures: (N, C, H, W) float32, finite. Resampling layer and picture residual are float32, as they were.
    """
    pictures = filled(pictures, spec.scale) if spec.task == "downscale" else pictures
    features = np.stack([run_integer(spec, weights, record, picture) for picture in pictures])
    return finished(spec, weights, pictures, features)


def integer_layers(
    spec: NetworkSpec, weights: Mapping[str, Floats], record: Record
) -> tuple[IntegerLayer, ...]:
    """Blocks and tail in integers. Raises OnebranchError where sums or values could overflow."""
    found = quantization_of(record, spec)
    _check_head(spec, within(weights, "head"), _given(found.layers[0].output))
    layers = []
    for index, (name, block, _) in enumerate(spec.walk()):
        if index == 0:
            continue
        read, own = _given(found.layers[index - 1].output), found.layers[index]
        sources = [found.layers[skip.source] for skip in spec.skips if skip.target == index]
        added = sum(LEVELS * _given(source.raw or source.output).scale for source in sources)
        layer = integer_layer(block, within(weights, name), own, read, bool(sources))
        _check_sums(name, layer, read)
        _check_values(name, layer, read, own, added)
        layers.append(layer)
    return tuple(layers)


def integer_layer(
    block: BlockSpec, tensors: Mapping[str, Floats], own: Layer, read: Range, joined: bool
) -> IntegerLayer:
    """One layer in integers. read: the range of its input. joined: whether skips end here."""
    unit = 1.0 if joined or own.output is None else own.output.scale
    scales = np.array(own.weight_scales, np.float64)
    weight, bias = convolution_of(tensors)
    levels = np.clip(np.rint(weight / scales[:, None, None, None]), -WEIGHT_LEVELS, WEIGHT_LEVELS)
    units = np.rint(bias / (read.scale * scales))
    if not (np.abs(units) <= LARGEST_SUM).all():
        raise OnebranchError(
            f"quantization: a bias of {own.name} is too large for 32-bit sums; its weight scale is too small"
        )
    multiplier = (read.scale * scales / unit).astype(np.float32)
    return IntegerLayer(
        levels.astype(np.int64), units.astype(np.int64), multiplier, slopes_of(block, tensors)
    )


def convolution_of(tensors: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Weight (O, I, K, L) and bias (O,) of a merged block in float64; 0 where it has no bias."""
    weight = tensors["branches.0.0.weight"].astype(np.float64)
    bias = tensors.get("branches.0.0.bias", np.zeros(weight.shape[0], np.float32))
    return weight, bias.astype(np.float64)


def slopes_of(block: BlockSpec, tensors: Mapping[str, Floats]) -> Floats:
    """(O,) float32: what a value below zero is multiplied with."""
    if block.activation == "prelu":
        return tensors["activation.weight"].astype(np.float32)
    slope = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}[block.activation]
    return np.full(block.width, slope, np.float32)


def head_output(
    spec: NetworkSpec, weights: Mapping[str, Floats], own: Layer, picture: Floats
) -> tuple[np.ndarray, Floats]:
    """The head's output (O, H, W) as uint8, and as the real float32 values that skips add.

    In float32: the bias, then row by row, channel by channel, column by column, each product rounded and each
    sum rounded; then the activation.
    """
    tensors, to = within(weights, "head"), _given(own.output)
    weight, bias = (value.astype(np.float32) for value in convolution_of(tensors))
    _, inputs, k, l = weight.shape
    rows, columns = picture.shape[1:]
    framed = zero_pad(picture[None].astype(np.float32), (k // 2, l // 2))[0]
    total = np.broadcast_to(bias[:, None, None], (len(bias), rows, columns))
    for y, i, x in np.ndindex(k, inputs, l):
        total = total + framed[i, y : y + rows, x : x + columns] * weight[:, i, y, x, None, None]
    value = _quantized(_activated(total, slopes_of(spec.head, tensors)), to, 1 / to.scale)
    return value, _real(value, to)


def block_output(
    layer: IntegerLayer, value: np.ndarray, read: Range, own: Layer, added: list[Floats]
) -> tuple[np.ndarray, Floats]:
    """A block's output (O, H, W) as uint8, what the next layer reads; and the real values that skips add.

    value: uint8, what it reads. added: what the skips that end here add, in their order.
    """
    to = _given(own.output)
    output = _activated(_sums(layer, value, read) * layer.multiplier[:, None, None], layer.slopes)
    if not added:
        value = _quantized(output, to, 1)
        return value, _real(value, to)
    kept = _real(_quantized(output, own.raw, 1 / own.raw.scale), own.raw) if own.raw else output
    for other in added:
        output = output + other
    return _quantized(output, to, 1 / to.scale), kept


def tail_output(layer: IntegerLayer, value: np.ndarray, read: Range) -> Floats:
    """The tail's output (O, H, W), float32."""
    return np.asarray(_sums(layer, value, read) * layer.multiplier[:, None, None])


def _sums(layer: IntegerLayer, value: np.ndarray, read: Range) -> Floats:
    """The layer's sums, exact, as float32; beyond the border lies the zero point.

    Integers below 2**53 are exact in float64, whose matrix products are fast.
    """
    k, l = layer.weight.shape[2:]
    centred = zero_pad(value[None].astype(np.float64) - read.zero_point, (k // 2, l // 2))
    sums = correlate(centred, layer.weight.astype(np.float64), 1, 1)[0] + layer.bias[:, None, None]
    return np.asarray(sums, np.float32)


def _activated(values: Floats, slopes: Floats) -> Floats:
    return np.where(values < 0, values * slopes[:, None, None], values)


def _quantized(values: Floats, to: Range, factor: float) -> np.ndarray:
    """Values, times a factor into units of the scale, as uint8; halves go to the even neighbour."""
    units = values if factor == 1 else values * np.float32(factor)
    rounded: np.ndarray = np.clip(np.rint(units) + np.float32(to.zero_point), 0, LEVELS).astype(np.uint8)
    return rounded


def _real(value: np.ndarray, meaning: Range) -> Floats:
    real: Floats = (value.astype(np.float32) - np.float32(meaning.zero_point)) * np.float32(meaning.scale)
    return real


def _given(found: Range | None) -> Range:
    assert found is not None, "the record was checked"
    return found


def _check_sums(name: str, layer: IntegerLayer, read: Range) -> None:
    """Whatever the order of additions, the largest sum of inputs 0 to 255 must fit 32 bits."""
    magnitudes = np.abs(layer.weight).sum((1, 2, 3))
    start = np.abs(layer.bias - read.zero_point * layer.weight.sum((1, 2, 3)))
    if (largest := int((LEVELS * magnitudes + start).max())) > LARGEST_SUM:
        raise OnebranchError(
            f"quantization: {name} could add up to {largest:,}; at most {LARGEST_SUM:,} fits 32-bit sums"
        )


def _check_head(spec: NetworkSpec, tensors: Mapping[str, Floats], to: Range) -> None:
    """What pictures in [-1, 1] become."""
    weight, bias = convolution_of(tensors)
    values = np.abs(weight).sum((1, 2, 3)) + np.abs(bias)
    _check_largest("head", values * _largest_slopes(slopes_of(spec.head, tensors)), to.scale)


def _check_values(name: str, layer: IntegerLayer, read: Range, own: Layer, added: float) -> None:
    """What inputs of 0 to 255 become. added: by skips, in real units; 0 where none end here."""
    if own.output is None:
        return
    reach = max(read.zero_point, LEVELS - read.zero_point)
    sums = reach * np.abs(layer.weight).sum((1, 2, 3)) + np.abs(layer.bias)
    values = sums * layer.multiplier * _largest_slopes(layer.slopes) + added
    units = [found.scale for found in (own.output, own.raw) if found] if added else [1.0]
    _check_largest(name, values, min(units))


def _largest_slopes(slopes: Floats) -> Floats:
    return np.maximum(1, np.abs(slopes.astype(np.float64)))


def _check_largest(name: str, values: Floats, unit: float) -> None:
    if (largest := float(values.max()) / unit) >= LARGEST_VALUE:
        raise OnebranchError(
            f"quantization: {name} could reach {largest:.3g} times its output's scale; 2**30 is too much"
        )
