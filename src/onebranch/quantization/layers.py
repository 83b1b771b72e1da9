"""Quantization of a merged model, layer by layer, on calibration pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats, correlate, zero_pad
from onebranch.algebra.integer import block_output, head_output, integer_layer, slopes_of, tail_output
from onebranch.algebra.network import activate, filled, run_network, within
from onebranch.errors import OnebranchError
from onebranch.model.file import Model, fingerprint
from onebranch.progress import StepProgress, named, no_progress, part_of
from onebranch.quantization.calibration import Crop
from onebranch.quantization.equalization import Extent, equalized, equalizing_scales
from onebranch.quantization.ranges import best_quant_params
from onebranch.quantization.rounding import Products, rounded_weights
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import (
    MAX_WEIGHT_LEVEL,
    Quantization,
    QuantizedLayer,
    QuantParams,
    needs_raw,
    quantization_of,
    reason_against,
)

EQUALIZATIONS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1e-3))
"""Pairs: strength of equalization, share of each picture's values that it treats as outliers.

All are tried; the one with the least error on the calibration pictures is taken."""

IMPORTANCE_SHARE, EXTENT_SHARE = 0.05, 0.1
"""Shares of a quantization that the importances take, and of an attempt that the extents take, about."""


@dataclass(frozen=True)
class CalibrationPicture:
    """One calibration picture as the head reads it (C, H, W), and the weight of its squared errors."""

    given: Floats
    weight: float = 1.0


@dataclass(frozen=True)
class Attempt:
    """A quantized network, and the weighted mean squared error of its tail against the float network."""

    weights: dict[str, Floats]
    layers: tuple[QuantizedLayer, ...]
    error: float


def quantize(model: Model, crops: Sequence[Crop], progress: StepProgress = no_progress) -> Model:
    """The model with a record of quantization and with equalized, rounded weights; it still runs in floats.

    crops: the calibration set. progress: called with the current step and the completed share. The merge's
    proof and the scores belong to the original weights and are dropped. Raises OnebranchError for a network
    that cannot run in integers, and without crops.
    """
    if reason := reason_against(model.spec):
        raise OnebranchError(f"{model.name or 'the network'} cannot be quantized: {reason}")
    if not crops:
        raise OnebranchError("quantizing needs at least one picture to calibrate on")
    weights = importances(model, crops, part_of(progress, 0, IMPORTANCE_SHARE))
    pictures = [
        CalibrationPicture(prepared(crop.given, model.spec), weight)
        for crop, weight in zip(crops, weights, strict=True)
    ]
    given = [picture.given for picture in pictures]
    attempts, step = [], (1 - IMPORTANCE_SHARE) / len(EQUALIZATIONS)
    for number, (strength, outliers) in enumerate(EQUALIZATIONS):
        start = IMPORTANCE_SHARE + number * step
        attempt = named(part_of(progress, start, start + step), f"attempt {number + 1}")
        extents = channel_extents(model, given, outliers, part_of(attempt, 0, EXTENT_SHARE))
        scales = equalizing_scales(model.spec, extents, strength)
        rounding = part_of(attempt, EXTENT_SHARE, 1)
        attempts.append(
            attempted(model.spec, equalized(model.spec, model.weights, scales), pictures, rounding)
        )
    errors = [attempt.error for attempt in attempts]
    best = errors.index(min(errors))
    calibration = {
        "crops": len(crops),
        "equalization": EQUALIZATIONS[best][0],
        "outliers": EQUALIZATIONS[best][1],
        "tail_error": errors[best] ** 0.5,
    }
    return _quantized(model, attempts[best].weights, attempts[best].layers, calibration)


def quantize_with_scales(model: Model, quantized: Model) -> Model:
    """The model in 8 bits with the scales and zero points of another; weights are rounded to nearest.

    For models from quantization-aware training, which has computed with these scales. The record keeps their
    calibration and names the SHA-256 of the quantized model's weights (`scales_from`). Raises OnebranchError
    if `quantized` has no record of quantization, if that does not fit the model's network, or if the model
    was trained with the scales of another one.
    """
    if quantized.quantization is None:
        raise OnebranchError(
            f"scales: {quantized.name or 'the model'} has no scales to keep, because it is not quantized;"
            " name a quantized model, or leave the scales to be chosen"
        )
    calibration = quantized.quantization.get("calibration", {})
    origin = calibration.get("scales_from") or fingerprint(quantized)
    if (model.recipe or {}).get("scales_from", origin) != origin:
        raise OnebranchError(
            f"scales: {model.name or 'the model'} was trained with the scales of another quantized model, not"
            f" with those of {quantized.name or 'this one'}; use the file that 'training.init_from' named"
        )
    layers = quantization_of(quantized.quantization, model.spec).layers
    weights = dict(model.weights)
    for layer in layers:
        if layer.weight_scales is not None:
            name = f"{layer.name}.branches.0.0.weight"
            steps = np.array(layer.weight_scales)[:, None, None, None]
            levels = np.clip(np.rint(weights[name] / steps), -MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL)
            weights[name] = levels * steps
    return _quantized(model, weights, layers, {**calibration, "scales_from": origin})


def _quantized(
    model: Model,
    weights: Mapping[str, Floats],
    layers: tuple[QuantizedLayer, ...],
    calibration: dict[str, Any],
) -> Model:
    """The model with rounded weights and their record."""
    rounded = {name: value.astype(np.float32) for name, value in weights.items()}
    plain = replace(model, weights=rounded, merge=None, scores={}, quantization=None)
    record = Quantization(version=1, layers=layers, weights=fingerprint(plain), calibration=calibration)
    return replace(plain, quantization=plain_record(record))


def plain_record(record: Quantization) -> dict[str, Any]:
    """The record as JSON values."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return plain


def prepared(picture: Floats, spec: NetworkSpec) -> Floats:
    """A picture (C, H, W) as the head reads it: padded to whole pixels of the result for downscaling."""
    return filled(picture[None], spec.scale)[0] if spec.task == "downscale" else picture


def channel_extents(
    model: Model, pictures: Sequence[Floats], outliers: float = 0.0, progress: StepProgress = no_progress
) -> list[Extent]:
    """The extents of the outputs of head and every block, on the pictures.

    outliers: the share of each picture's values that is left out at either end of each channel. progress:
    called after each picture with the share of the pictures.
    """
    spec, blocks = model.spec, (model.spec.head, *model.spec.blocks)
    lowest = [np.zeros(block.width) for block in blocks]
    highest = [np.zeros(block.width) for block in blocks]
    energies = [np.zeros(block.width) for block in blocks]  # mean square of the activation's slope
    for number, picture in enumerate(pictures, 1):
        progress(f"ranges, picture {number} of {len(pictures)}", number / len(pictures))
        values = _LayerInput(picture, picture)
        for index, (name, block) in enumerate(zip(spec.names[:-1], blocks, strict=True)):
            tensors = within(model.weights, name)
            sums = convolved(tensors, values.exact)
            values = _after(values, activate(block.activation, sums, tensors), spec, index)
            slopes = np.square(slopes_of(block, tensors), dtype=np.float64)
            below = (sums < 0).mean((1, 2))
            energies[index] += (1 - below + below * slopes) / len(pictures)
            flat = values.exact.reshape(block.width, -1)
            np.minimum(lowest[index], np.quantile(flat, outliers, 1), out=lowest[index])
            np.maximum(highest[index], np.quantile(flat, 1 - outliers, 1), out=highest[index])
    gains = noise_gains(spec, model.weights, energies)
    return [Extent(*each) for each in zip(lowest, highest, gains, strict=True)]


# Example: a block of one channel, then a 1x1 tail of weight 3 to one output. A unit of noise in the block's
# output becomes 9 units of variance at the tail: its gain is 9. If that block has the weight 2 and an
# activation whose slope is 1 on half of the pixels and 0 on the others (energy 0.5), the gain of its input,
# the head's output, is 4 * 0.5 * 9 = 18.
def noise_gains(spec: NetworkSpec, weights: Mapping[str, Floats], energies: Sequence[Floats]) -> list[Floats]:
    """For head and every block, the variance at the tail per unit variance of noise in each channel (C,).

    energies: the mean square of each activation's slope. Skips pass noise on as well. The estimate is too
    large for early layers, whose noise later layers average out; only ratios within one layer are used.
    """
    last = len(spec.blocks)
    gains: list[Floats] = [np.zeros(0)] * (last + 1)
    passed: Floats = np.ones(spec.tail.width)  # gain from a layer's sums to the tail
    for index in range(last, -1, -1):
        kernel = within(weights, spec.names[index + 1])["branches.0.0.weight"]
        gains[index] = np.einsum("o,oikl->i", passed, np.square(kernel, dtype=np.float64))
        joined = (gains[skip.target] for skip in spec.skips if skip.source == index)
        passed = energies[index] * sum(joined, gains[index])
    return gains


def importances(model: Model, crops: Sequence[Crop], progress: StepProgress = no_progress) -> list[float]:
    """The weight of each crop's squared error, with mean 1.

    It is smaller where the float network itself is far from the wanted picture, because the same error costs
    fewer decibels there.
    """
    errors = []
    for number, crop in enumerate(crops, 1):
        output = run_network(model.spec, model.weights, crop.given[None])[0]
        errors.append(float(np.square(output - crop.wanted).mean()))
        progress(f"running picture {number} of {len(crops)}", number / len(crops))
    # Example: errors 1, 4, 9 with median 4 give 1/5, 1/8, 1/13, scaled to mean 1: 1.49, 0.93, 0.57.
    middle = float(np.median(errors)) or 1.0
    weights = [1 / (error + middle) for error in errors]
    return [weight * len(weights) / sum(weights) for weight in weights]


@dataclass(frozen=True)
class _LayerInput:
    """The input of a layer for one picture, in the float and in the integer network.

    exact: (C, H, W) float32. value: the same in the integer network, uint8. Both are the picture before the
    head. exact_kept, kept: the outputs of all earlier layers before their skips, which later skips may add.
    weight: weight of the picture's squared errors.
    """

    exact: Floats
    value: np.ndarray
    exact_kept: tuple[Floats, ...] = ()
    kept: tuple[Floats, ...] = ()
    weight: float = 1.0


def attempted(
    spec: NetworkSpec,
    weights: Mapping[str, Floats],
    pictures: Sequence[CalibrationPicture],
    progress: StepProgress = no_progress,
) -> Attempt:
    """The equalized network in integers, with quantization parameters and weights chosen layer by layer.

    progress: called after each layer with the share of the layers. Each layer is fitted to the output of the
    float network's layer on the input of the integer network's.
    """
    result = {name: value.astype(np.float32) for name, value in weights.items()}
    values = [_LayerInput(each.given, each.given, weight=each.weight) for each in pictures]
    layers: list[QuantizedLayer] = []
    for index in range(len(spec.names)):
        values = _quantize_next(spec, result, layers, values, index)
        count = len(spec.names)
        progress(f"rounding, layer {index + 1} of {count}", (index + 1) / count)
    error = float(np.mean([_tail_error(each, spec, result, layers) for each in values]))
    return Attempt(result, tuple(layers), error)


def _quantize_next(
    spec: NetworkSpec,
    weights: dict[str, Floats],
    layers: list[QuantizedLayer],
    values: list[_LayerInput],
    index: int,
) -> list[_LayerInput]:
    """Quantizes layer `index`: rounds its `weights` in place and appends it to `layers`.

    values: its inputs. Returns the inputs of the next layer, or, after the tail, its float output.
    """
    # The order matters: the layer is fitted to the float network's sums, on inputs that already contain the
    # rounding errors of all earlier layers. Only then are its output's parameters chosen.
    name, is_tail = spec.names[index], index == len(spec.names) - 1
    tensors = within(weights, name)
    sums = [convolved(tensors, each.exact) for each in values]
    outputs = [activate(spec.all_blocks[index].activation, each, tensors) for each in sums]
    values = [_after(each, output, spec, index) for each, output in zip(values, outputs, strict=True)]
    layer = QuantizedLayer(name=name)
    if index > 0:
        fitted, scales = refitted(tensors, values, sums, _output_q(layers))
        weights.update({f"{name}.{key}": value for key, value in fitted.items()})
        layer = msgspec.structs.replace(layer, weight_scales=scales)
    if not is_tail:
        following = within(weights, spec.names[index + 1])["branches.0.0.weight"]
        layer = _with_params(layer, values, following, needs_raw(spec, index))
    layers.append(layer)
    return values if is_tail else [_after_integers(each, spec, weights, layers) for each in values]


def convolved(tensors: Mapping[str, Floats], value: Floats) -> Floats:
    """A merged block's convolution of its input (I, H, W), before the activation: (O, H, W) float32."""
    weight = tensors["branches.0.0.weight"]
    k, l = weight.shape[2:]
    sums: Floats = correlate(zero_pad(value[None], (k // 2, l // 2)), weight, 1, 1)[0]
    bias = tensors.get("branches.0.0.bias")
    return sums if bias is None else np.asarray(sums + bias[:, None, None])


def refitted(
    tensors: Mapping[str, Floats],
    values: Sequence[_LayerInput],
    wanted: Sequence[Floats],
    input_q: QuantParams,
) -> tuple[dict[str, Floats], tuple[float, ...]]:
    """A block's rounded weight, its bias where it has one, and the weights' scales.

    values: its inputs. wanted: its sums in the float network, (O, H, W), for each of them.
    """
    weight, bias = tensors["branches.0.0.weight"], tensors.get("branches.0.0.bias")
    products = [
        products_of(columns(each.value, input_q, weight.shape[2:], bias is not None), sums, each.weight)
        for each, sums in zip(values, wanted, strict=True)
    ]
    total = Products(
        np.sum([each.inputs for each in products], 0), np.sum([each.outputs for each in products], 0)
    )
    rounded_layer = rounded_weights(weight.reshape(len(weight), -1), bias, total, input_q.scale)
    rounded = {"branches.0.0.weight": rounded_layer.weight.reshape(weight.shape).astype(np.float32)}
    if rounded_layer.bias is not None:
        rounded["branches.0.0.bias"] = rounded_layer.bias.astype(np.float32)
    return rounded, tuple(float(scale) for scale in rounded_layer.scales)


def columns(value: np.ndarray, input_q: QuantParams, kernel: tuple[int, ...], constant: bool) -> Floats:
    """The input of each weight at each pixel (im2col), in real units: (I K L, H W), then ones for a bias."""
    rows, wide = kernel
    centred = (value.astype(np.float32) - input_q.zero_point) * np.float32(input_q.scale)
    framed = zero_pad(centred[None], (rows // 2, wide // 2))[0]
    windows = np.lib.stride_tricks.sliding_window_view(framed, (rows, wide), (1, 2))
    flat = windows.transpose(0, 3, 4, 1, 2).reshape(-1, value[0].size)
    return np.concatenate([flat, np.ones((1, flat.shape[1]), np.float32)]) if constant else flat


def products_of(inputs: Floats, wanted: Floats, weight: float) -> Products:
    """One picture's products, times its weight. inputs: (D, pixels). wanted: (O, H, W)."""
    flat = wanted.reshape(len(wanted), -1)
    return Products(
        weight * (inputs @ inputs.T).astype(np.float64), weight * (flat @ inputs.T).astype(np.float64)
    )


def _output_q(layers: Sequence[QuantizedLayer]) -> QuantParams:
    """The quantization parameters of the last layer's output."""
    params = layers[-1].output
    assert params is not None, "only the tail's output is float"
    return params


def _after(values: _LayerInput, output: Floats, spec: NetworkSpec, index: int) -> _LayerInput:
    """The values after one more layer of the float network, whose output before skips is `output`."""
    kept = (*values.exact_kept, output)
    joined = sum((kept[skip.source] for skip in spec.skips if skip.target == index), output)
    return replace(values, exact=joined, exact_kept=kept)


def _with_params(
    layer: QuantizedLayer, values: Sequence[_LayerInput], following: Floats, raw: bool
) -> QuantizedLayer:
    """The layer with its quantization parameters; errors are weighted by the `following` layer's weights."""
    # An error in channel i of the output is multiplied by the next layer's weights for channel i.
    importance = np.square(following, dtype=np.float64).sum((0, 2, 3))
    weights = [each.weight for each in values]
    return msgspec.structs.replace(
        layer,
        output=best_quant_params([each.exact for each in values], weights, importance),
        raw=best_quant_params([each.exact_kept[-1] for each in values], weights) if raw else None,
    )


def _after_integers(
    values: _LayerInput, spec: NetworkSpec, weights: Mapping[str, Floats], layers: Sequence[QuantizedLayer]
) -> _LayerInput:
    """The values after one more layer of the integer network, the last of `layers`."""
    index, layer = len(layers) - 1, layers[-1]
    if index == 0:
        value, kept = head_output(spec, weights, layer, values.value)
    else:
        added = [values.kept[skip.source] for skip in spec.skips if skip.target == index]
        input_q = _output_q(layers[:-1])
        tensors = within(weights, layer.name)
        integers = integer_layer(spec.all_blocks[index], tensors, layer, input_q, bool(added))
        value, kept = block_output(integers, values.value, input_q, layer, added)
    return replace(values, value=value, kept=(*values.kept, kept))


def _tail_error(
    values: _LayerInput, spec: NetworkSpec, weights: Mapping[str, Floats], layers: Sequence[QuantizedLayer]
) -> float:
    input_q = _output_q(layers[:-1])
    integers = integer_layer(spec.tail, within(weights, "tail"), layers[-1], input_q, False)
    difference = tail_output(integers, values.value, input_q) - values.exact
    return values.weight * float(np.square(difference, dtype=np.float64).mean())
