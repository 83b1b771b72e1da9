"""Serialization of a merged network for the native engine, and which networks the engine supports.

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

NETWORK_SIGNATURE = b"OBNET\0\0\1"

TASK_CODES = {"upscale": 0, "downscale": 1, "denoise": 2}
PRECISION_CODES = {"fp32": 0, "bf16": 1, "int8": 2}
SLOPES = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}

MAX_CHANNELS, MAX_KERNEL_SIZE, MAX_LAYERS = 4096, 31, 1024
"""Limits of the engine: channels of a layer, rows and columns of a kernel, layers of a network."""


def reason_against(model: Model, precision: str = "fp32") -> str:
    """The reason why the engine does not support this network in this precision; empty if it does."""
    spec = model.spec
    if len(spec.all_blocks) > MAX_LAYERS:
        return f"it has {len(spec.all_blocks)} blocks, more than {MAX_LAYERS}"
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
    if max(step.kernel) > MAX_KERNEL_SIZE:
        return f"{name} is '{block.branches[0]}', larger than {MAX_KERNEL_SIZE} pixels"
    if max(block.width, inputs) > MAX_CHANNELS:
        return f"{name} is more than {MAX_CHANNELS} channels wide"
    if block.activation not in ("prelu", *SLOPES):
        return f"{name} has the activation '{block.activation}'"
    return ""


def describe(model: Model, precision: str = "fp32", chroma: Kernel = "bicubic") -> bytes:
    """The serialized network. Raises OnebranchError if the engine does not support it.

    chroma: interpolation of planes that the network does not process.
    """
    if reason := reason_against(model, precision):
        raise OnebranchError(f"the engine does not run this network in {precision}: {reason}")
    spec = model.spec
    parts = [
        NETWORK_SIGNATURE,
        _integers(TASK_CODES[spec.task], PRECISION_CODES[precision], spec.channels, spec.scale),
        _integers(len(spec.all_blocks), len(spec.skips), int(spec.residual != "none")),
    ]
    if spec.residual != "none":
        parts.append(_resampler(spec, spec.residual))
    parts += [_resampler(spec, chroma), _reduction(model)]
    parts += _quantized_layers(model) if precision == "int8" else _layers(model)
    parts += [_integers(skip.source, skip.target) for skip in spec.skips]
    return b"".join(parts)


def describe_interpolation(spec: NetworkSpec, kind: Kernel) -> bytes:
    """A serialized network of one channel that only interpolates, by the scale of `spec`.

    All of its weights are 0, so that its result is its picture residual.
    """
    tail = spec.scale**2 if spec.task == "upscale" else 1
    reduction = _integers(1 if spec.task == "downscale" else 0)
    zeros = [_shape(np.zeros((n, 1, 1, 1)), False) + _floats([0.0] * 2 * n + [1.0] * n) for n in (1, tail)]
    facts = _integers(TASK_CODES[spec.task], PRECISION_CODES["fp32"], 1, spec.scale, len(zeros), 0, 1)
    resampler = _resampler(spec, kind)
    return b"".join([NETWORK_SIGNATURE, facts, resampler, resampler, reduction, *zeros])


def _integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _floats(values: Any) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _resampler(spec: NetworkSpec, kind: PhaseKind) -> bytes:
    """The weights of resizing along one axis by the network's scale."""
    if spec.task == "denoise":
        return _integers(1, 1, 1, 0) + _floats([1.0])
    if spec.task == "upscale":
        lines = _enlarging_lines(spec.scale, kind)
        return _integers(spec.scale, 1, lines.shape[1], lines.shape[1] // 2) + _floats(lines)
    line = _reducing_line(spec.scale, kind)
    return _integers(1, spec.scale, len(line), (len(line) - spec.scale) // 2) + _floats(line)


# The 2-D kernels are outer products of 1-D ones whose entries add up to 1, so that adding over the columns
# leaves the weights of the rows.
def _enlarging_lines(scale: int, kind: PhaseKind) -> np.ndarray:
    """(S, K): the weights of each of the S outputs of an input pixel; K is odd and centred on that pixel."""
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
    """The layers of an int8 network, with constants rounded as in `algebra.integer`."""
    record = quantization_of(model.quantization or {}, model.spec)
    integers = integer_layers(model.spec, model.weights, record)
    parts = []
    for index, (name, block, _) in enumerate(model.spec.walk()):
        layer, has_skips = record.layers[index], any(skip.target == index for skip in model.spec.skips)
        if index == 0:
            weight, bias = _weight_and_bias(model, name, block)
            parts += [_shape(weight, False), _floats(weight), _floats(bias)]
        else:
            parts += _integer_layer(integers[index - 1], record.layers[index - 1].output)
        parts.append(_floats(_slopes(model, name, block)))
        parts += [_quant_params(layer.output, index == 0 or has_skips), _quant_params(layer.raw, True)]
    return parts


def _integer_layer(layer: IntegerLayer, input_q: QuantParams | None) -> list[bytes]:
    """Weight, initial sums and multiplier; the sums contain the contribution of the input's zero point."""
    zero = 0 if input_q is None else input_q.zero_point
    # sum(w * (q - zero)) + bias = sum(w * q) + (bias - zero * sum(w)): the engine multiplies the bytes as
    # they are. Example: weights (2, -3), zero point 100, bias 10: the initial sum is 10 - 100 * (2 - 3), 110.
    initial_sums = layer.bias - zero * layer.weight.sum((1, 2, 3))
    weight = np.ascontiguousarray(layer.weight, "i1").tobytes()
    return [
        _shape(layer.weight, True),
        weight,
        initial_sums.astype("<i4").tobytes(),
        _floats(layer.multiplier),
    ]


def _quant_params(params: QuantParams | None, in_real_units: bool) -> bytes:
    """Scale, its inverse and zero point.

    in_real_units: whether values are still to be divided by the scale; if not, the inverse is 1, because the
    multiplier contains it.
    """
    if params is None:
        return struct.pack("<ffi", 1, 1, 0)
    return struct.pack("<ffi", params.scale, 1 / params.scale if in_real_units else 1, params.zero_point)
