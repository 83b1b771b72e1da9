"""Quantization-aware training: the rounded network is the integer network, and gradients pass through it."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.model import file
from onebranch.nn.fake_quantization import rounded_features, rounded_kernel
from onebranch.nn.network import Network, load
from onebranch.spec.quantization import QuantParams, quantization_of
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.training.initialization import round_to_8_bits
from quantized_models import integer_specs, random_quantized


def rounding_network(model: file.Model) -> Network:
    network = load(model.spec, model.weights)
    round_to_8_bits(network, model)
    network.set_mode("merged")
    return network


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(spec=integer_specs(), seed=st.integers(0, 2**32 - 1))
def test_the_rounded_network_computes_what_the_integer_network_does(spec, seed):
    model = random_quantized(spec, seed % 1000)
    picture = np.random.default_rng(seed).random((1, spec.channels, 12, 13)).astype(np.float32)
    with torch.no_grad():
        actual = rounding_network(model)(torch.from_numpy(picture)).numpy()
    expected = run_integer_network(spec, model.weights, model.quantization, picture)
    floating = run_network(spec, model.weights, picture)
    # Equal but for sums near the middle between two levels, which float errors and the integer network's
    # rounded biases may move to either: much less than what the rounding itself changes.
    change, error = (np.sqrt(np.mean(np.square(each - expected))) for each in (floating, actual))
    assert error <= 0.1 * change + 1e-5 * np.abs(expected).max()


def test_feature_maps_become_levels_and_keep_their_gradient_within_the_range():
    values = torch.tensor([-3.0, 0.6, 200.0], requires_grad=True)
    rounded = rounded_features(values, QuantParams(0.5, 1))
    assert rounded.tolist() == [-0.5, 0.5, 127.0]
    rounded.sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 0.0]


def test_kernels_become_multiples_of_the_scales_and_keep_their_gradient():
    weight = torch.tensor([0.26, -9.0]).reshape(2, 1, 1, 1).requires_grad_()
    rounded = rounded_kernel(weight, (0.1, 0.05))
    assert rounded.flatten().tolist() == pytest.approx([0.3, -6.35])
    rounded.sum().backward()
    assert weight.grad.flatten().tolist() == [1.0, 1.0]


def test_a_record_of_another_network_is_refused():
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches=("3x3",)))
    deeper = expand(NetworkShorthand(task="upscale", width=4, depth=2, branches=("3x3",)))
    layers = quantization_of(random_quantized(deeper).quantization, deeper).layers
    with pytest.raises(OnebranchError, match="other layers"):
        Network(spec).round_to_8_bits(layers)
