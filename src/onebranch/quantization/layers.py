"""A merged model into integers, layer by layer, on calibration pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from onebranch.algebra.definition import Floats, correlate, zero_pad
from onebranch.algebra.integer import block_output, head_output, integer_layer, slopes_of, tail_output
from onebranch.algebra.network import activate, filled, run_network, within
from onebranch.errors import OnebranchError
from onebranch.model.file import Model, fingerprint
from onebranch.quantization.calibration import Crop
from onebranch.quantization.equalization import Extent, equalized, equalizing_scales
from onebranch.quantization.ranges import best_range
from onebranch.quantization.rounding import Products, rounded_weights
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import Layer, Quantization, Range, needs_raw, reason_against

EQUALIZATIONS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1e-3))
"""Strength of equalization, and the share of each picture's values that it may take for outliers; what loses
least on the calibration pictures is taken."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Picture:
    """One calibration picture as the head sees it (C, H, W), and what its squared errors weigh."""

    given: Floats
    weight: float = 1.0


@dataclass(frozen=True)
class Attempt:
    """A quantized network and its tail's mean squared error, weighed, against the float one."""

    weights: dict[str, Floats]
    layers: tuple[Layer, ...]
    error: float


def quantize(model: Model, crops: Sequence[Crop], shown: Progress = lambda line: None) -> Model:
    """The model with a record of quantization, its weights equalized and rounded; it runs in floats too.

    crops: what it is calibrated on. shown: called with what is being tried. The merge's proof, which was of
    other weights, and the scores are left out. Raises OnebranchError for a network that integers do not take.
    """
    if why := reason_against(model.spec):
        raise OnebranchError(f"{model.name or 'the network'} cannot be quantized: {why}")
    if not crops:
        raise OnebranchError("quantizing needs at least one picture to calibrate on")
    weights = importances(model, crops)
    pictures = [
        Picture(prepared(crop.given, model.spec), weight) for crop, weight in zip(crops, weights, strict=True)
    ]
    given = [picture.given for picture in pictures]
    attempts = []
    for strength, outliers in EQUALIZATIONS:
        shown(f"equalization {strength:g} without {outliers:g} of the values")
        scales = equalizing_scales(model.spec, channel_extents(model, given, outliers), strength)
        attempts.append(attempted(model.spec, equalized(model.spec, model.weights, scales), pictures))
    errors = [attempt.error for attempt in attempts]
    best = errors.index(min(errors))
    calibration = {
        "crops": len(crops),
        "equalization": EQUALIZATIONS[best][0],
        "outliers": EQUALIZATIONS[best][1],
        "tail_error": errors[best] ** 0.5,
    }
    return _quantized(model, attempts[best], calibration)


def _quantized(model: Model, best: Attempt, calibration: dict[str, Any]) -> Model:
    weights = {name: value.astype(np.float32) for name, value in best.weights.items()}
    plain = replace(model, weights=weights, merge=None, scores={}, quantization=None)
    record = Quantization(version=1, layers=best.layers, weights=fingerprint(plain), calibration=calibration)
    return replace(plain, quantization=plain_record(record))


def plain_record(record: Quantization) -> dict[str, Any]:
    """The record as JSON values."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return plain


def prepared(picture: Floats, spec: NetworkSpec) -> Floats:
    """A picture (C, H, W) as the head sees it."""
    return filled(picture[None], spec.scale)[0] if spec.task == "downscale" else picture


def channel_extents(model: Model, pictures: Sequence[Floats], outliers: float = 0.0) -> list[Extent]:
    """The extents of head and every block.

    outliers: share of each picture's values, at both ends of each channel, that the extents leave out.
    """
    spec, blocks = model.spec, (model.spec.head, *model.spec.blocks)
    lowest = [np.zeros(block.width) for block in blocks]
    highest = [np.zeros(block.width) for block in blocks]
    energies = [np.zeros(block.width) for block in blocks]  # of the activation's slope, in mean
    for picture in pictures:
        values = _Values(picture, picture)
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


def noise_gains(spec: NetworkSpec, weights: Mapping[str, Floats], energies: Sequence[Floats]) -> list[Floats]:
    """Of head and every block, what unit variance of white noise in each channel (C,) becomes at the tail.

    energies: the mean square of each activation's slope. Skips pass noise on as well. An estimate, too large
    in early layers, whose noise the later ones average out; only its proportions within a layer are used.
    """
    last = len(spec.blocks)
    gains: list[Floats] = [np.zeros(0)] * (last + 1)
    passed: Floats = np.ones(spec.tail.width)  # from a layer's sums on
    for index in range(last, -1, -1):
        kernel = within(weights, spec.names[index + 1])["branches.0.0.weight"]
        gains[index] = np.einsum("o,oikl->i", passed, np.square(kernel, dtype=np.float64))
        joined = (gains[skip.target] for skip in spec.skips if skip.source == index)
        passed = energies[index] * sum(joined, gains[index])
    return gains


def importances(model: Model, crops: Sequence[Crop]) -> list[float]:
    """What each crop's squared error weighs: less where the float network is far from what is wanted, since
    loss in decibels compares with that; mean 1."""
    errors = [
        float(np.square(run_network(model.spec, model.weights, crop.given[None])[0] - crop.wanted).mean())
        for crop in crops
    ]
    middle = float(np.median(errors)) or 1.0
    weights = [1 / (error + middle) for error in errors]
    return [weight * len(weights) / sum(weights) for weight in weights]


@dataclass(frozen=True)
class _Values:
    """Values of one picture before a layer, in both networks: what it reads, and what skips may add.

    exact: (C, H, W) float32. value: the same as uint8; the head reads the picture in both. weight: what the
    picture's squared errors weigh.
    """

    exact: Floats
    value: np.ndarray
    exact_kept: tuple[Floats, ...] = ()
    kept: tuple[Floats, ...] = ()
    weight: float = 1.0


def attempted(spec: NetworkSpec, weights: Mapping[str, Floats], pictures: Sequence[Picture]) -> Attempt:
    """The equalized network in integers: ranges and rounding chosen layer after layer.

    Each layer is fitted to what the float network's layer gives, on what the integer network's layer reads.
    """
    result = {name: value.astype(np.float32) for name, value in weights.items()}
    values = [_Values(each.given, each.given, weight=each.weight) for each in pictures]
    layers: list[Layer] = []
    for index, (name, block) in enumerate(zip(spec.names, spec.all_blocks, strict=True)):
        sums = [convolved(within(result, name), each.exact) for each in values]
        outputs = [activate(block.activation, each, within(result, name)) for each in sums]
        values = [_after(each, own, spec, index) for each, own in zip(values, outputs, strict=True)]
        layer = Layer(name=name)
        if index > 0:
            read = _read(layers)
            fitted, scales = refitted(within(result, name), values, sums, read)
            result |= {f"{name}.{key}": value for key, value in fitted.items()}
            layer = msgspec.structs.replace(layer, weight_scales=scales)
        if index < len(spec.names) - 1:
            following = within(result, spec.names[index + 1])["branches.0.0.weight"]
            layer = _with_ranges(layer, values, following, needs_raw(spec, index))
        layers.append(layer)
        if index < len(spec.names) - 1:
            values = [_after_integers(each, spec, result, layers) for each in values]
    error = float(np.mean([_tail_error(each, spec, result, layers) for each in values]))
    return Attempt(result, tuple(layers), error)


def convolved(tensors: Mapping[str, Floats], value: Floats) -> Floats:
    """A merged block before its activation, of what it reads (I, H, W): (O, H, W) float32."""
    weight = tensors["branches.0.0.weight"]
    k, l = weight.shape[2:]
    sums: Floats = correlate(zero_pad(value[None], (k // 2, l // 2)), weight, 1, 1)[0]
    bias = tensors.get("branches.0.0.bias")
    return sums if bias is None else np.asarray(sums + bias[:, None, None])


def refitted(
    tensors: Mapping[str, Floats], values: Sequence[_Values], wanted: Sequence[Floats], read: Range
) -> tuple[dict[str, Floats], tuple[float, ...]]:
    """A block's weight and bias (where it has one), rounded, and the weights' scales.

    values: what it reads. wanted: its sums in the float network, (O, H, W).
    """
    weight, bias = tensors["branches.0.0.weight"], tensors.get("branches.0.0.bias")
    products = [
        products_of(columns(each.value, read, weight.shape[2:], bias is not None), sums, each.weight)
        for each, sums in zip(values, wanted, strict=True)
    ]
    total = Products(
        np.sum([each.inputs for each in products], 0), np.sum([each.outputs for each in products], 0)
    )
    found = rounded_weights(weight.reshape(len(weight), -1), bias, total, read.scale)
    rounded = {"branches.0.0.weight": found.weight.reshape(weight.shape).astype(np.float32)}
    if found.bias is not None:
        rounded["branches.0.0.bias"] = found.bias.astype(np.float32)
    return rounded, tuple(float(scale) for scale in found.scales)


def columns(value: np.ndarray, read: Range, kernel: tuple[int, ...], constant: bool) -> Floats:
    """What every weight meets at every pixel, in real units: (I K L, H W); below it ones for the bias."""
    rows, wide = kernel
    centred = (value.astype(np.float32) - read.zero_point) * np.float32(read.scale)
    framed = zero_pad(centred[None], (rows // 2, wide // 2))[0]
    windows = np.lib.stride_tricks.sliding_window_view(framed, (rows, wide), (1, 2))
    flat = windows.transpose(0, 3, 4, 1, 2).reshape(-1, value[0].size)
    return np.concatenate([flat, np.ones((1, flat.shape[1]), np.float32)]) if constant else flat


def products_of(read: Floats, wanted: Floats, weight: float) -> Products:
    """One picture's products, times its weight. read: (D, pixels). wanted: (O, H, W)."""
    flat = wanted.reshape(len(wanted), -1)
    return Products(weight * (read @ read.T).astype(np.float64), weight * (flat @ read.T).astype(np.float64))


def _read(layers: Sequence[Layer]) -> Range:
    found = layers[-1].output
    assert found is not None, "only the tail has no range"
    return found


def _after(values: _Values, own: Floats, spec: NetworkSpec, index: int) -> _Values:
    """With the float network's next layer reached."""
    kept = (*values.exact_kept, own)
    joined = sum((kept[skip.source] for skip in spec.skips if skip.target == index), own)
    return replace(values, exact=joined, exact_kept=kept)


def _with_ranges(layer: Layer, values: Sequence[_Values], following: Floats, raw: bool) -> Layer:
    """The layer with its ranges; an error in a channel weighs what the next layer's weights make of it."""
    importance = np.square(following, dtype=np.float64).sum((0, 2, 3))
    weights = [each.weight for each in values]
    return msgspec.structs.replace(
        layer,
        output=best_range([each.exact for each in values], weights, importance),
        raw=best_range([each.exact_kept[-1] for each in values], weights) if raw else None,
    )


def _after_integers(
    values: _Values, spec: NetworkSpec, weights: Mapping[str, Floats], layers: Sequence[Layer]
) -> _Values:
    """With the integer network's next layer reached."""
    index, own = len(layers) - 1, layers[-1]
    if index == 0:
        value, kept = head_output(spec, weights, own, values.value)
    else:
        added = [values.kept[skip.source] for skip in spec.skips if skip.target == index]
        read = _read(layers[:-1])
        layer = integer_layer(spec.all_blocks[index], within(weights, own.name), own, read, bool(added))
        value, kept = block_output(layer, values.value, read, own, added)
    return replace(values, value=value, kept=(*values.kept, kept))


def _tail_error(
    values: _Values, spec: NetworkSpec, weights: Mapping[str, Floats], layers: Sequence[Layer]
) -> float:
    read = _read(layers[:-1])
    layer = integer_layer(spec.tail, within(weights, "tail"), layers[-1], read, False)
    difference = tail_output(layer, values.value, read) - values.exact
    return values.weight * float(np.square(difference, dtype=np.float64).mean())
