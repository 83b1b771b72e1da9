"""The graph of a quantized network computes what the integer reference defines."""

import math
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebranch.algebra.integer import run_integer_network
from onebranch.graph.onnx.writing import to_onnx
from onebranch.lowering.integers import lower_integer
from onebranch.model.file import Model
from onebranch.runtime.onnxruntime import session_options
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import Quantization, quantization_of
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import crude_record, integer_specs, random_quantized

TOLERANCE = 1e-6
"""Relative to the largest value: float32 rounding in the picture residual and in averages."""


def exact_model(spec: NetworkSpec, seed: int) -> Model:
    """A model whose float arithmetic is exact: every scale a power of two, every number few bits long.

    Then sums are exact in any order, so the order cannot change to which level a value is rounded.
    """
    model = random_quantized(spec, seed)
    weights = {name: snapped(name, value) for name, value in model.weights.items()}
    model = replace(model, weights=weights, quantization=None)
    record = crude_record(model, seed)
    for layer in record["layers"]:
        layer |= {key: to_power(layer[key]) for key in ("output", "raw") if key in layer}
        if "weight_scales" in layer:
            layer["weight_scales"] = [power(scale) for scale in layer["weight_scales"]]
    return replace(model, quantization=record)


def snapped(name: str, value: np.ndarray) -> np.ndarray:
    """Slopes to quarters, the rest to multiples of 2**-7."""
    steps = 4 if "activation" in name else 128
    return (np.round(value * steps) / steps).astype(np.float32)


def power(scale: float) -> float:
    """The next power of two."""
    return 2.0 ** math.ceil(math.log2(scale))


def to_power(params: dict) -> dict:
    """A range whose scale is a power of two, its zero point where it was."""
    return {"scale": power(params["scale"]), "zero_point": params["zero_point"]}


def record_of(model: Model) -> Quantization:
    """The model's record."""
    return quantization_of(model.quantization or {}, model.spec)


def run(model: Model, pictures: np.ndarray) -> np.ndarray:
    """The graph in ONNX Runtime."""
    content = to_onnx(lower_integer(model.spec, model.weights, record_of(model)))
    session = onnxruntime.InferenceSession(content, session_options(1), providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": pictures})[0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(integer_specs(), st.integers(1, 11), st.integers(1, 11), st.integers(0, 99))
def test_the_graph_is_the_reference(spec: NetworkSpec, height: int, width: int, seed: int) -> None:
    model = exact_model(spec, seed)
    pictures = np.random.default_rng(seed).integers(0, 257, (2, spec.channels, height, width)) / 256
    pictures = pictures.astype(np.float32)
    expected = run_integer_network(spec, model.weights, record_of(model), pictures)
    np.testing.assert_allclose(
        run(model, pictures), expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max())
    )


@pytest.mark.parametrize("what", ["weight", "bias"])
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(spec=integer_specs())
def test_a_wrong_constant_is_detected(what: str, spec: NetworkSpec) -> None:
    """The comparison above fails if one constant of the tail is off by one level."""
    model = exact_model(spec, 0)
    pictures = np.random.default_rng(0).integers(0, 257, (1, spec.channels, 9, 8)).astype(np.float32) / 256
    graph = lower_integer(spec, model.weights, record_of(model))
    name = f"tail.{what}.integers"
    constants = dict(graph.constants)
    constants[name] = constants[name] + constants[name].dtype.type(1)
    content = to_onnx(replace(graph, constants=constants))
    session = onnxruntime.InferenceSession(content, session_options(1), providers=["CPUExecutionProvider"])
    off = np.abs(session.run(["output"], {"input": pictures})[0] - run(model, pictures)).max()
    assert off > 10 * TOLERANCE


def test_every_8_bit_value_has_its_kind() -> None:
    model = random_quantized(network_of(2))
    graph = lower_integer(model.spec, model.weights, record_of(model))
    kinds = {name: value.dtype.name for name, value in graph.constants.items()}
    assert {kinds[f"blocks.{k}.weight.integers"] for k in (0, 1)} == {"int8"}
    assert kinds["tail.bias.integers"] == "int32"
    assert kinds["head.zero_point"] == kinds["blocks.1.zero_point"] == "uint8"
    assert "tail.zero_point" not in kinds
    assert graph.constants["tail.weight.scales"].shape == (model.spec.tail.width,)
    assert to_onnx(graph) == to_onnx(lower_integer(model.spec, model.weights, record_of(model)))


def network_of(depth: int) -> NetworkSpec:
    """A small network of that many blocks."""
    return expand(NetworkShorthand(task="upscale", width=4, depth=depth, branches=("3x3",)))
