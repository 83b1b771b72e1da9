"""How a merged network runs in 8-bit integers: the record that a quantized model's file carries.

Values only. What they mean, operation by operation, is `algebra/integer.py`.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.branch import Convolution
from onebranch.spec.network import BlockSpec, NetworkSpec, convert

ACTIVATIONS = ("prelu", "leaky_relu", "relu", "none")
"""Activations that integer networks have: two lines through zero, so that a positive scale passes them."""

LEVELS = 255
"""The largest value of an 8-bit tensor."""

WEIGHT_LEVELS = 127
"""The largest magnitude of an 8-bit weight; -128 is not used, so that the range is symmetric."""

SMALLEST_SCALE, LARGEST_SCALE = 1e-9, 1e9
"""Of any scale: products of two, and quotients by a third, stay normal float32 numbers."""


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An 8-bit tensor's meaning: real value = scale * (q - zero_point), q from 0 to 255."""

    scale: float
    zero_point: Annotated[int, msgspec.Meta(ge=0, le=LEVELS)]


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One layer, by its name: head, blocks.0, ..., tail.

    weight_scales: one of every output channel; none for the head, which computes in floats. output: what the
    next layer reads, after the additions; none for the tail, which gives floats. raw: the layer's own output
    before the additions, only where skips end here and another starts here.
    """

    name: str
    weight_scales: tuple[float, ...] | None = None
    output: Range | None = None
    raw: Range | None = None


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The whole record. weights: SHA-256 of the weights that it was made for, by `model.file.fingerprint`.

    calibration: how the ranges were found. loss: what 8 bits cost, and on which pictures. JSON values.
    """

    version: Literal[1]
    layers: tuple[Layer, ...]
    weights: str | None = None
    calibration: dict[str, Any] | None = None
    loss: dict[str, Any] | None = None


def quantization_of(record: Mapping[str, Any] | Quantization, spec: NetworkSpec) -> Quantization:
    """The record as a value. Raises OnebranchError unless it fits the spec, layer by layer."""
    if why := reason_against(spec):
        raise OnebranchError(f"{why}; it cannot have a record of quantization")
    found = (
        record if isinstance(record, Quantization) else convert(dict(record), Quantization, "quantization")
    )
    names = [layer.name for layer in found.layers]
    if names != list(spec.names):
        raise OnebranchError(
            f"quantization: the layers must be {', '.join(spec.names)}, not {', '.join(names) or 'none'}"
        )
    for index, layer in enumerate(found.layers):
        _check_layer(layer, spec, index)
    return found


def reason_against(spec: NetworkSpec) -> str:
    """Why a network cannot run in integers, in one line; empty where it can.

    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> reason_against(expand(NetworkShorthand(task="denoise", branches=("3x3",))))
    ''
    >>> reason_against(expand(NetworkShorthand(task="denoise", branches=("3x3", "1x1"))))
    'head has 2 branches where integers take one convolution; merge the network first'
    """
    for name, block in zip(spec.names, spec.all_blocks, strict=True):
        if why := _reason_against_block(block):
            return f"{name} {why}"
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
    """Whether a layer's own output, before the additions, is kept for a skip beside its sum."""
    return any(s.target == index for s in spec.skips) and any(s.source == index for s in spec.skips)


def _check_layer(layer: Layer, spec: NetworkSpec, index: int) -> None:
    is_tail = index == len(spec.names) - 1
    fields = {"weight_scales": index > 0, "output": not is_tail, "raw": needs_raw(spec, index)}
    for field, wanted in fields.items():
        if (getattr(layer, field) is not None) != wanted:
            raise OnebranchError(f"quantization: {layer.name} must have {'' if wanted else 'no '}'{field}'")
    scales = layer.weight_scales or ()
    width = spec.all_blocks[index].width
    if layer.weight_scales is not None and len(scales) != width:
        raise OnebranchError(f"quantization: {layer.name} has {len(scales)} weight scales, not {width}")
    for scale in (*scales, *(found.scale for found in (layer.output, layer.raw) if found)):
        if not (math.isfinite(scale) and SMALLEST_SCALE <= scale <= LARGEST_SCALE):
            raise OnebranchError(
                f"quantization: {layer.name} has the scale {scale:g}; scales must be finite and from"
                f" {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}"
            )
