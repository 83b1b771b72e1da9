"""A merged network as the bytes that the native engine reads, and which networks it takes.

The layout is that of src/engine/description.cpp.
"""

import struct
from typing import Any

import numpy as np

from onebranch.algebra.integer import IntegerLayer, integer_layers
from onebranch.errors import OnebranchError
from onebranch.images.resize import Kernel, PhaseKind, downscale_phases, upscale_phases
from onebranch.lowering.floats import unshuffled
from onebranch.model.file import Model
from onebranch.spec.branch import Convolution
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec
from onebranch.spec.quantization import QuantParams, quantization_of

MAGIC = b"OBNET\0\0\1"

TASKS = {"upscale": 0, "downscale": 1, "denoise": 2}
PRECISIONS = {"fp32": 0, "bf16": 1, "int8": 2}
SLOPES = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}

MOST_CHANNELS, MOST_KERNEL, MOST_LAYERS = 4096, 31, 1024
"""The engine's limits."""


def reason_against(model: Model, precision: str = "fp32") -> str:
    """Why the engine does not run this network in this precision, in one line; empty where it does."""
    spec = model.spec
    if len(spec.all_blocks) > MOST_LAYERS:
        return f"it has {len(spec.all_blocks)} blocks, more than {MOST_LAYERS}"
    if any(skip.join == "concatenate" for skip in spec.skips):
        return "it has skips that concatenate"
    for name, block, inputs in spec.walk():
        if reason := _reason_against_block(name, block, inputs):
            return reason
    if precision == "int8" and model.quantization is None:
        return "it is not quantized (onebranch quantize does that)"
    return ""


def _reason_against_block(name: str, block: BlockSpec, inputs: int) -> str:
    steps = block.parsed[0].steps
    if len(block.branches) > 1 or len(steps) > 1 or not isinstance(steps[0], Convolution):
        return f"{name} is not one convolution (onebranch merge makes it one)"
    step = steps[0]
    if step.groups != 1 or step.dilation != 1:
        return f"{name} is '{block.branches[0]}', a convolution in groups or dilated"
    if max(step.kernel) > MOST_KERNEL:
        return f"{name} is '{block.branches[0]}', larger than {MOST_KERNEL} pixels"
    if max(block.width, inputs) > MOST_CHANNELS:
        return f"{name} is more than {MOST_CHANNELS} channels wide"
    if block.activation not in ("prelu", *SLOPES):
        return f"{name} has the activation '{block.activation}'"
    return ""


def describe(model: Model, precision: str = "fp32", chroma: Kernel = "bicubic") -> bytes:
    """The network as the engine reads it. Raises OnebranchError where the engine does not run it.

    chroma: how planes that the network does not see are resized.
    """
    if reason := reason_against(model, precision):
        raise OnebranchError(f"the engine does not run this network in {precision}: {reason}")
    spec = model.spec
    parts = [
        MAGIC,
        _integers(TASKS[spec.task], PRECISIONS[precision], spec.channels, spec.scale),
        _integers(len(spec.all_blocks), len(spec.skips), int(spec.residual != "none")),
    ]
    if spec.residual != "none":
        parts.append(_resampler(spec, spec.residual))
    parts += [_resampler(spec, chroma), _reduction(model)]
    parts += _quantized_layers(model) if precision == "int8" else _layers(model)
    parts += [_integers(skip.source, skip.target) for skip in spec.skips]
    return b"".join(parts)


def describe_interpolation(spec: NetworkSpec, kind: Kernel) -> bytes:
    """A network of one channel that only interpolates, by the scale of `spec`: all but its residual is 0."""
    tail = spec.scale**2 if spec.task == "upscale" else 1
    reduction = _integers(1 if spec.task == "downscale" else 0)
    zeros = [_shape(np.zeros((n, 1, 1, 1)), False) + _floats([0.0] * 2 * n + [1.0] * n) for n in (1, tail)]
    facts = _integers(TASKS[spec.task], PRECISIONS["fp32"], 1, spec.scale, len(zeros), 0, 1)
    resampler = _resampler(spec, kind)
    return b"".join([MAGIC, facts, resampler, resampler, reduction, *zeros])


def _integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _floats(values: Any) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _resampler(spec: NetworkSpec, kind: PhaseKind) -> bytes:
    """Resizing along one axis, by the network's scale: of the phases' kernels' lines."""
    if spec.task == "denoise":
        return _integers(1, 1, 1, 0) + _floats([1.0])
    if spec.task == "upscale":
        lines = _enlarging_lines(spec.scale, kind)
        return _integers(spec.scale, 1, lines.shape[1], lines.shape[1] // 2) + _floats(lines)
    line = _reducing_line(spec.scale, kind)
    return _integers(1, spec.scale, len(line), (len(line) - spec.scale) // 2) + _floats(line)


def _enlarging_lines(scale: int, kind: PhaseKind) -> np.ndarray:
    """(S, K): the weights of every output position in a cell, K odd and centred on the input position."""
    kernels = upscale_phases(scale, kind)
    size = kernels.shape[-1]
    square = kernels.reshape(scale, scale, size, size)
    return np.asarray(square[:, 0].sum(axis=2))


def _reducing_line(scale: int, kind: PhaseKind) -> np.ndarray:
    return np.asarray(downscale_phases(scale, kind)[0].sum(axis=1))


def _reduction(model: Model) -> bytes:
    spec = model.spec
    if spec.task != "downscale":
        return _integers(0)
    if spec.downsampling == "average":
        return _integers(1)
    weight, pad = model.weights["resample.weight"], 1
    if spec.downsampling == "unshuffle":
        weight, pad = unshuffled(weight, spec.scale), spec.scale
    outputs, inputs, size, _ = weight.shape
    return (
        _integers(2, inputs, outputs, size, pad) + _floats(weight) + _floats(model.weights["resample.bias"])
    )


def _weight_and_bias(model: Model, name: str, block: BlockSpec) -> tuple[np.ndarray, np.ndarray]:
    weight = model.weights[f"{name}.branches.0.0.weight"]
    return weight, model.weights.get(f"{name}.branches.0.0.bias", np.zeros(block.width, np.float32))


def _slopes(model: Model, name: str, block: BlockSpec) -> np.ndarray:
    if block.activation == "prelu":
        return model.weights[f"{name}.activation.weight"]
    return np.full(block.width, SLOPES[block.activation], np.float32)


def _shape(weight: np.ndarray, integer: bool) -> bytes:
    outputs, inputs, rows, columns = weight.shape
    return _integers(inputs, outputs, rows, columns, int(integer))


def _layers(model: Model) -> list[bytes]:
    parts = []
    for name, block, _ in model.spec.walk():
        weight, bias = _weight_and_bias(model, name, block)
        parts += [_shape(weight, False), _floats(weight), _floats(bias)]
        parts.append(_floats(_slopes(model, name, block)))
    return parts


def _quantized_layers(model: Model) -> list[bytes]:
    """The layers of an int8 network, its constants rounded as `algebra.integer` rounds them."""
    record = quantization_of(model.quantization or {}, model.spec)
    integers = integer_layers(model.spec, model.weights, record)
    parts = []
    for index, (name, block, _) in enumerate(model.spec.walk()):
        own, skipped = record.layers[index], any(skip.target == index for skip in model.spec.skips)
        if index == 0:
            weight, bias = _weight_and_bias(model, name, block)
            parts += [_shape(weight, False), _floats(weight), _floats(bias)]
        else:
            parts += _integer_layer(integers[index - 1], record.layers[index - 1].output)
        parts.append(_floats(_slopes(model, name, block)))
        parts += [_grid(own.output, index == 0 or skipped), _grid(own.raw, True)]
    return parts


def _integer_layer(layer: IntegerLayer, read: QuantParams | None) -> list[bytes]:
    """Weight, start and multiplier; the input's zero point is part of the start."""
    zero = 0 if read is None else read.zero_point
    start = layer.bias - zero * layer.weight.sum((1, 2, 3))
    weight = np.ascontiguousarray(layer.weight, "i1").tobytes()
    return [_shape(layer.weight, True), weight, start.astype("<i4").tobytes(), _floats(layer.multiplier)]


def _grid(found: QuantParams | None, unapplied: bool) -> bytes:
    """Scale, its inverse (1 where the multiplier has it already) and zero point."""
    if found is None:
        return struct.pack("<ffi", 1, 1, 0)
    return struct.pack("<ffi", found.scale, 1 / found.scale if unapplied else 1, found.zero_point)
