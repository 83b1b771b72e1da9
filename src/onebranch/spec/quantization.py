"""The record of quantization that a model file carries: scales and zero points of every layer.

The arithmetic that they stand for is defined, operation by operation, in `algebra/integer.py`.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.branch import Convolution
from onebranch.spec.network import BlockSpec, NetworkSpec, convert

ACTIVATIONS = ("prelu", "leaky_relu", "relu", "none")
"""Activations of integer networks: linear on both sides of zero, so positive scales commute with them."""

MAX_LEVEL = 255
"""The largest value of an 8-bit tensor."""

MAX_WEIGHT_LEVEL = 127
"""The largest magnitude of an 8-bit weight; -128 is not used, so that the range is symmetric."""

MIN_QUANT_SCALE, MAX_QUANT_SCALE = 1e-9, 1e9
"""Limits of every scale, so that the product of two divided by a third is a normal float32 number."""


class QuantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quantization parameters of an 8-bit tensor: real value = scale * (q - zero_point), q from 0 to 255."""

    scale: float
    zero_point: Annotated[int, msgspec.Meta(ge=0, le=MAX_LEVEL)]


class QuantizedLayer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One layer of the record.

    name: head, blocks.0, ..., tail.
    weight_scales: one scale of each output channel; None for the head, which computes in floats.
    output: parameters of the tensor that the next layer reads, after the skips; None for the tail (floats).
    raw: parameters of the layer's own output before the skips; present only if one skip ends at this layer
    and another starts here.
    """

    name: str
    weight_scales: tuple[float, ...] | None = None
    output: QuantParams | None = None
    raw: QuantParams | None = None


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The record of quantization in a model file.

    layers: head, blocks and tail, in order.
    weights: SHA-256 of the weights that the record was made for, by `model.file.fingerprint`.
    calibration: how the quantization parameters were chosen, as JSON values.
    loss: the measured loss of quality and the pictures that it was measured on, as JSON values.
    """

    version: Literal[1]
    layers: tuple[QuantizedLayer, ...]
    weights: str | None = None
    calibration: dict[str, Any] | None = None
    loss: dict[str, Any] | None = None


def quantization_of(record: Mapping[str, Any] | Quantization, spec: NetworkSpec) -> Quantization:
    """The record as a value. Raises OnebranchError unless it fits the spec, layer by layer."""
    if reason := reason_against(spec):
        raise OnebranchError(f"{reason}; it cannot have a record of quantization")
    quantization = (
        record if isinstance(record, Quantization) else convert(dict(record), Quantization, "quantization")
    )
    names = [layer.name for layer in quantization.layers]
    if names != list(spec.names):
        raise OnebranchError(
            f"quantization: the layers must be {', '.join(spec.names)}, not {', '.join(names) or 'none'}"
        )
    for index, layer in enumerate(quantization.layers):
        _check_layer(layer, spec, index)
    return quantization


def reason_against(spec: NetworkSpec) -> str:
    """Why a network cannot run in integers, in one line; empty if it can.

    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> reason_against(expand(NetworkShorthand(task="denoise", branches=("3x3",))))
    ''
    >>> reason_against(expand(NetworkShorthand(task="denoise", branches=("3x3", "1x1"))))
    'head has 2 branches where integers take one convolution; merge the network first'
    """
    for name, block in zip(spec.names, spec.all_blocks, strict=True):
        if reason := _reason_against_block(block):
            return f"{name} {reason}"
    if any(skip.join != "add" for skip in spec.skips):
        return "the network has a skip that concatenates; integers take skips that add"
    return ""


def _reason_against_block(block: BlockSpec) -> str:
    if len(block.branches) != 1:
        return (
            f"has {len(block.branches)} branches where integers take one convolution; merge the network first"
        )
    steps = block.parsed[0].steps
    if len(steps) != 1 or not isinstance(steps[0], Convolution):
        return f"is '{block.branches[0]}' where integers take one convolution; merge the network first"
    if steps[0].groups != 1 or steps[0].dilation != 1:
        return f"is '{block.branches[0]}'; integers take convolutions without groups and dilation"
    if block.activation not in ACTIVATIONS:
        return f"has the activation '{block.activation}'; integers take {', '.join(ACTIVATIONS)}"
    return ""


def needs_raw(spec: NetworkSpec, index: int) -> bool:
    """True if a layer's output before the skips is stored too, because another skip starts there."""
    return any(s.target == index for s in spec.skips) and any(s.source == index for s in spec.skips)


def _check_layer(layer: QuantizedLayer, spec: NetworkSpec, index: int) -> None:
    is_tail = index == len(spec.names) - 1
    fields = {"weight_scales": index > 0, "output": not is_tail, "raw": needs_raw(spec, index)}
    for field, required in fields.items():
        if (getattr(layer, field) is not None) != required:
            raise OnebranchError(f"quantization: {layer.name} must have {'' if required else 'no '}'{field}'")
    width = spec.all_blocks[index].width
    if layer.weight_scales is not None and len(layer.weight_scales) != width:
        raise OnebranchError(
            f"quantization: {layer.name} has {len(layer.weight_scales)} weight scales, not {width}"
        )
    _check_scales(layer)


def _check_scales(layer: QuantizedLayer) -> None:
    tensors = [params.scale for params in (layer.output, layer.raw) if params]
    for scale in (*(layer.weight_scales or ()), *tensors):
        if not (math.isfinite(scale) and MIN_QUANT_SCALE <= scale <= MAX_QUANT_SCALE):
            raise OnebranchError(
                f"quantization: {layer.name} has the scale {scale:g}; scales must be finite and from"
                f" {MIN_QUANT_SCALE:g} to {MAX_QUANT_SCALE:g}"
            )
