"""Networks in integers: cases computed by hand, loops against arrays, and how far they are from floats."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_specs import random_model
from onebranch.algebra.integer import integer_layers, run_integer, run_integer_network
from onebranch.algebra.network import filled, run_layers, run_network, within
from onebranch.errors import OnebranchError
from onebranch.model.file import Model
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec, Skip
from quantized_models import crude_record, integer_specs, random_quantized

pytestmark = pytest.mark.fast

F = np.float32


def pointwise(*activations: str, skips: tuple[tuple[int, int], ...] = ()) -> NetworkSpec:
    """A grey denoising network of 1x1 convolutions of one channel; the first activation is the head's."""
    body = [BlockSpec(("1x1",), 1, activation) for activation in activations]
    return NetworkSpec(
        task="denoise",
        colour="y",
        scale=1,
        head=body[0],
        blocks=tuple(body[1:]),
        tail=BlockSpec(("1x1",), 1, "none"),
        skips=tuple(Skip(*pair) for pair in skips),
    )


def numbers(spec: NetworkSpec, values: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Weight and bias of every layer of a `pointwise` network."""
    tensors = {}
    for name in spec.names:
        weight, bias = values[name]
        tensors[f"{name}.branches.0.0.weight"] = np.full((1, 1, 1, 1), weight, F)
        tensors[f"{name}.branches.0.0.bias"] = np.full(1, bias, F)
    return tensors


def outputs(
    spec: NetworkSpec, weights: dict[str, np.ndarray], record: dict, values: list[float]
) -> list[float]:
    """The tail's output for a row of pixels."""
    return run_integer(spec, weights, record, np.array([[values]], F))[0, 0].tolist()


def test_head_and_tail_by_hand() -> None:
    spec = pointwise("leaky_relu")
    weights = numbers(spec, {"head": (2, -0.5), "tail": (3, 0.5)})
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": {"scale": 0.25, "zero_point": 10}},
            {"name": "tail", "weight_scales": [0.5]},
        ],
    }
    # head: 2 x - 0.5, leaky: -0.5, 0, 0.125 (half a step: to even 0), 0.375 (1.5: to 2), 1.5, 200 -> 255
    # in steps above the zero point: -0.5 * 0.1 / 0.25 = -0.2 -> 0; 0; 0; 2; 6; 245
    # tail: 6 levels of 0.5 times the step of 0.25, bias 0.5 in units of 0.125 is 4
    actual = outputs(spec, weights, record, [0, 0.25, 0.3125, 0.4375, 1, 100])
    assert actual == [(6 * q + 4) * 0.125 for q in (0, 0, 0, 2, 6, 245)]


def test_zero_padding_is_the_zero_point_and_the_sums_are_integers() -> None:
    spec = replace_tail(pointwise("none"), "3x1")
    weights = numbers(spec, {"head": (1, 0), "tail": (0, 0)})
    weights["tail.branches.0.0.weight"] = np.array([1, -2, 3], F).reshape(1, 1, 3, 1)
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": {"scale": 1.0, "zero_point": 128}},
            {"name": "tail", "weight_scales": [1.0]},
        ],
    }
    column = np.array([5, -7, 127], F).reshape(1, 3, 1)
    actual = run_integer(spec, weights, record, column)[0, :, 0]
    assert actual.tolist() == [-2 * 5 + 3 * -7, 5 + 14 + 3 * 127, -7 - 254]


def replace_tail(spec: NetworkSpec, kernel: str) -> NetworkSpec:
    import msgspec

    return msgspec.structs.replace(spec, tail=BlockSpec((kernel,), spec.tail.width, "none"))


def test_weights_round_to_even_and_clip() -> None:
    spec = pointwise("none")
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": {"scale": 1.0, "zero_point": 0}},
            {"name": "tail", "weight_scales": [0.5]},
        ],
    }
    for weight, level in ((0.25, 0), (0.75, 2), (-1.25, -2), (1000, 127), (-1000, -127)):
        weights = numbers(spec, {"head": (1, 0), "tail": (weight, 0)})
        assert integer_layers(spec, weights, record)[0].weight.item() == level


def test_skips_add_what_was_quantized_in_their_order() -> None:
    spec = pointwise("none", "relu", "none", skips=((0, 1), (1, 2), (0, 2)))
    weights = numbers(spec, {"head": (1, 0), "blocks.0": (-1, 2), "blocks.1": (1, 0.25), "tail": (1, 0)})
    step = {"scale": 0.5, "zero_point": 20}
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": step},
            {
                "name": "blocks.0",
                "weight_scales": [0.25],
                "output": step,
                "raw": {"scale": 2.0, "zero_point": 3},
            },
            {"name": "blocks.1", "weight_scales": [0.25], "output": {"scale": 0.25, "zero_point": 7}},
            {"name": "tail", "weight_scales": [1.0]},
        ],
    }
    # head 1.0; block 0's own 1.0 -> raw 0 (half to even of 0.5); joined 2.0; block 1: 2.0 + 0.25 + 0 + 1.0
    assert outputs(spec, weights, record, [1.0]) == [3.25]
    # head -9 -> 18 steps below, block 0's own 11 -> raw 12 (5.5 to 6), joined 2; block 1: 2.25 + 12 - 9
    assert outputs(spec, weights, record, [-9.0]) == [5.25]


def pixel_by_pixel(model: Model, picture: np.ndarray) -> np.ndarray:
    """The integer network as it is defined, in Python integers and float32 scalars."""
    spec, layers, kept, value = model.spec, model.quantization["layers"], [], None
    for index, (name, block, inputs) in enumerate(spec.walk()):
        tensors, record = within(model.weights, name), layers[index]
        weight = tensors["branches.0.0.weight"]
        bias = tensors.get("branches.0.0.bias", np.zeros(block.width, F))
        slopes = {"relu": 0, "leaky_relu": LEAKY_SLOPE, "none": 1}.get(block.activation)
        slopes = tensors["activation.weight"] if slopes is None else [F(slopes)] * block.width
        skips = [skip for skip in spec.skips if skip.target == index]
        rows, columns = picture.shape[1:]
        result = np.zeros((block.width, rows, columns), F if "output" not in record else np.uint8)
        raw = np.zeros((block.width, rows, columns), np.uint8)
        for o, y, x in np.ndindex(*result.shape):
            if index == 0:
                f = bias[o]
                for k, i, l in np.ndindex(weight.shape[2], inputs, weight.shape[3]):
                    v, u = y + k - weight.shape[2] // 2, x + l - weight.shape[3] // 2
                    if 0 <= v < rows and 0 <= u < columns:
                        f = F(f + F(picture[i, v, u] * weight[o, i, k, l]))
                factor = F(1 / record["output"]["scale"])
            else:
                read, unit = layers[index - 1]["output"], record["weight_scales"][o]
                total = round(float(bias[o]) / (read["scale"] * unit))
                for i, k, l in np.ndindex(*weight.shape[1:]):
                    v, u = y + k - weight.shape[2] // 2, x + l - weight.shape[3] // 2
                    if 0 <= v < rows and 0 <= u < columns:
                        level = max(-127, min(127, round(float(weight[o, i, k, l]) / unit)))
                        total += level * (int(value[i, v, u]) - read["zero_point"])
                plain = "output" not in record or skips
                f = F(
                    F(total)
                    * F(read["scale"] * unit if plain else read["scale"] * unit / record["output"]["scale"])
                )
                factor = F(1 / record["output"]["scale"]) if skips else F(1)
            f = F(f * slopes[o]) if f < 0 else f
            if "output" not in record:
                result[o, y, x] = f
                continue
            if "raw" in record:
                raw[o, y, x] = eight_bits(F(f * F(1 / record["raw"]["scale"])), record["raw"])
            for skip in skips:
                source, meaning = kept[skip.source]
                f = F(f + F(F(int(source[o, y, x]) - meaning["zero_point"]) * F(meaning["scale"])))
            result[o, y, x] = eight_bits(F(f * factor), record["output"])
        value = result
        kept.append((raw, record["raw"]) if "raw" in record else (result, record.get("output")))
    return value


def eight_bits(units: np.float32, to: dict) -> int:
    """Python's round, too, takes halves to the even neighbour."""
    return max(0, min(255, round(float(units)) + to["zero_point"]))


@given(integer_specs(deepest=2), st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_arrays_equal_the_loop_over_pixels(spec: NetworkSpec, seed: int, height: int, width: int) -> None:
    model = random_quantized(spec, seed)
    picture = np.random.default_rng(seed).random((spec.channels, height, width)).astype(F)
    actual = run_integer(spec, model.weights, model.quantization, picture)
    assert actual.dtype == F
    assert np.array_equal(actual, pixel_by_pixel(model, picture))


def error_bound(model: Model) -> float:
    """How far the tail's integer output can be from the float one, where no true value lies beyond its range.

    A layer passes on its input's error times its largest gain, adds half a step of every weight times the
    largest input, half a step of the bias, and half a step of its output.
    """
    spec, layers = model.spec, model.quantization["layers"]
    kept: list[float] = []
    error = 0.0
    for index, name in enumerate(spec.names):
        tensors, layer = within(model.weights, name), layers[index]
        weight = tensors["branches.0.0.weight"].astype(np.float64)
        if index:
            step, units = layers[index - 1]["output"]["scale"], np.array(layer["weight_scales"])
            gains = np.abs(weight).sum((1, 2, 3))
            error = float((error * gains + weight[0].size * units / 2 * 255 * step + step * units / 2).max())
        error *= max(1.0, float(np.abs(tensors.get("activation.weight", np.zeros(1))).max()))
        half = {key: layer[key]["scale"] / 2 for key in ("output", "raw") if key in layer}
        joined = sum(kept[skip.source] for skip in spec.skips if skip.target == index)
        kept.append(error + half.get("raw", half.get("output", 0.0)))
        error += joined + half.get("output", 0.0)
    return error


@given(integer_specs(), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_error_is_rounding_and_nothing_else(spec: NetworkSpec, seed: int) -> None:
    model = random_model(spec, seed)
    model = replace(model, quantization=crude_record(model, seed, tightness=1.1))
    picture = np.random.default_rng(seed).random((1, spec.channels, 12, 13))
    picture = filled(picture, spec.scale) if spec.task == "downscale" else picture
    *_, (_, exact) = run_layers(spec, model.weights, picture)
    actual = run_integer(spec, model.weights, model.quantization, picture[0].astype(F))
    assert np.abs(actual - exact[0]).max() <= error_bound(model) + 1e-4


@given(integer_specs(), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_after_the_tail_it_is_the_float_network(spec: NetworkSpec, seed: int) -> None:
    """The float network with the integer tail's output in the place of its own."""
    model = random_quantized(spec, seed)
    pictures = np.random.default_rng(seed).random((2, spec.channels, 5, 6)).astype(F)
    actual = run_integer_network(spec, model.weights, model.quantization, pictures)
    exact = run_network(spec, model.weights, pictures)
    assert actual.shape == exact.shape and actual.dtype == F
    silent = {n: v * F(0) if n.startswith("tail.") else v for n, v in model.weights.items()}
    quiet = replace(model, weights=silent)
    actual = run_integer_network(spec, quiet.weights, quiet.quantization, pictures)
    assert np.array_equal(actual, run_network(spec, quiet.weights, pictures))


@pytest.mark.parametrize("factor", [1e-8, 1e-9])
def test_sums_beyond_32_bits_are_refused(factor: float) -> None:
    spec = pointwise("none")
    weights = numbers(spec, {"head": (1, 0), "tail": (1, 300)})
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": {"scale": 1.0, "zero_point": 0}},
            {"name": "tail", "weight_scales": [factor]},
        ],
    }
    with pytest.raises(OnebranchError, match="32-bit sums"):
        integer_layers(spec, weights, record)


def test_values_beyond_integers_are_refused() -> None:
    spec = pointwise("none", "none")
    weights = numbers(spec, {"head": (1, 0), "blocks.0": (1, 0), "tail": (1, 0)})
    record = {
        "version": 1,
        "layers": [
            {"name": "head", "output": {"scale": 1.0, "zero_point": 0}},
            {"name": "blocks.0", "weight_scales": [1.0], "output": {"scale": 1e-8, "zero_point": 0}},
            {"name": "tail", "weight_scales": [1.0]},
        ],
    }
    with pytest.raises(OnebranchError, match=r"blocks\.0 could reach"):
        integer_layers(spec, weights, record)
    weights = numbers(spec, {"head": (2, 0), "blocks.0": (1, 0), "tail": (1, 0)})
    record["layers"][0]["output"]["scale"] = 1e-9
    record["layers"][1]["output"]["scale"] = 1.0
    with pytest.raises(OnebranchError, match="head could reach"):
        integer_layers(spec, weights, record)
