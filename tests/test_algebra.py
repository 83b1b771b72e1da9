"""Laws of the convolution algebra against the slow dense definition, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebranch.algebra.branch import collapse
from onebranch.algebra.conv import Conv, add, compose, identity, pad, regroup, scale
from onebranch.algebra.definition import apply, matrix, run_branch, tensor_names, zero_pad
from onebranch.errors import OnebranchError
from onebranch.spec.branch import parse
from onebranch.spec.presets import PRESETS

pytestmark = pytest.mark.fast

EXACT = dict(rtol=0, atol=1e-12)


def conv(rng, outputs, inputs, kernel, groups=1, stride=1):
    weight = rng.standard_normal((outputs, inputs // groups, *kernel)) / np.sqrt(inputs)
    return Conv(weight, rng.standard_normal(outputs), groups, stride)


kernels = st.sampled_from([(1, 1), (1, 3), (3, 1), (3, 3), (5, 3), (5, 5)])
grouped = st.sampled_from([1, 2, 4])
seeds = st.integers(0, 2**32 - 1)


@given(seeds, kernels, kernels, grouped, grouped)
def test_compose_equals_one_after_the_other(seed, k1, k2, g1, g2):
    rng = np.random.default_rng(seed)
    first, second = conv(rng, 8, 4, k1, g1), conv(rng, 4, 8, k2, g2)
    picture = rng.standard_normal((2, 4, 11, 13))
    np.testing.assert_allclose(apply(second @ first, picture), apply(second, apply(first, picture)), **EXACT)


@pytest.mark.parametrize("strides", [(2, 1), (1, 2), (2, 3), (3, 2)])
def test_compose_multiplies_strides(strides):
    rng = np.random.default_rng(1)
    first, second = conv(rng, 6, 3, (3, 3), stride=strides[0]), conv(rng, 2, 6, (3, 3), stride=strides[1])
    picture = rng.standard_normal((1, 3, 26, 31))
    np.testing.assert_allclose(apply(second @ first, picture), apply(second, apply(first, picture)), **EXACT)


@given(seeds, kernels, kernels, grouped, grouped)
def test_add_equals_the_sum_of_both_padded_by_their_own_radius(seed, k1, k2, g1, g2):
    rng = np.random.default_rng(seed)
    one, other = conv(rng, 4, 4, k1, g1), conv(rng, 4, 4, k2, g2)
    picture = rng.standard_normal((2, 4, 3, 5))
    both = one + other
    expected = sum(apply(c, zero_pad(picture, c.radius)) for c in (one, other))
    np.testing.assert_allclose(apply(both, zero_pad(picture, both.radius)), expected, **EXACT)


@given(seeds, kernels, grouped)
def test_apply_equals_the_dense_matrix(seed, kernel, groups):
    rng = np.random.default_rng(seed)
    one, picture = conv(rng, 4, 4, kernel, groups), rng.standard_normal((4, 3, 4))
    dense = matrix(one, 3, 4) @ picture.reshape(-1)
    expected = dense.reshape(4, 3, 4) + one.bias[:, None, None]
    np.testing.assert_allclose(apply(one, zero_pad(picture[None], one.radius))[0], expected, **EXACT)


@given(seeds, grouped)
def test_regroup_and_scale(seed, groups):
    rng = np.random.default_rng(seed)
    one, factor = conv(rng, 8, 4, (3, 3), groups), rng.standard_normal(8)
    picture = rng.standard_normal((1, 4, 5, 5))
    np.testing.assert_allclose(apply(regroup(one, 1), picture), apply(one, picture), **EXACT)
    np.testing.assert_allclose(
        apply(scale(one, factor), picture), apply(one, picture) * factor[:, None, None], **EXACT
    )


def test_identity_is_neutral():
    rng = np.random.default_rng(2)
    one = conv(rng, 4, 4, (3, 3))
    unit = identity(one.weight, 4)
    for product in (one @ unit, unit @ one):
        np.testing.assert_array_equal(product.weight, one.weight)


def test_laws_refuse_what_does_not_fit():
    rng = np.random.default_rng(3)
    one, other = conv(rng, 4, 3, (3, 3)), conv(rng, 4, 4, (5, 5))
    with pytest.raises(OnebranchError, match="cannot compose"):
        compose(one, other)
    with pytest.raises(OnebranchError, match="cannot add"):
        add(one, other)
    with pytest.raises(OnebranchError, match="grow evenly"):
        pad(other, (3, 3))
    with pytest.raises(OnebranchError, match="divisor"):
        regroup(one, 3)


def random_tensors(rng, branch, inputs, width):
    """Tensors of a branch with random BN statistics far from the neutral ones."""
    tensors, current = {}, inputs
    for index, (step, outputs) in enumerate(zip(branch.steps, branch.channels(inputs, width), strict=True)):
        for name in tensor_names(step):
            shape = (outputs,)
            if name == "weight" and hasattr(step, "groups"):
                shape = (outputs, current // (step.groups or current), *step.kernel)
            value = rng.uniform(0.3, 3, shape) if name == "running_var" else rng.standard_normal(shape)
            tensors[f"{index}.{name}"] = value
        current = outputs
    return tensors


EVERY_BRANCH = [
    *sorted({text for p in PRESETS.values() for block in p.blocks for text in block}),
    "3x3 5x5",
    "5x3*2 d2 nobias bn 1x1",
    "3x3 dw d3 bn avg3x5 bn 1x1 g2",
    "identity",
    "avg3x3",
    "laplacian bn",
    "3x3 bn 3x3 bn 3x3 bn",
]


@pytest.mark.parametrize("text", EVERY_BRANCH)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (9, 8)])
def test_a_collapsed_branch_equals_the_branch_borders_included(text, size):
    rng, branch = np.random.default_rng(4), parse(text)
    tensors = random_tensors(rng, branch, 4, 4)
    picture = rng.standard_normal((2, 4, *size))
    merged = collapse(branch, tensors, picture, 4, 4)
    expected = run_branch(branch, tensors, picture, 4)
    result = apply(merged, zero_pad(picture, branch.radius))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("text", EVERY_BRANCH)
def test_the_laws_give_the_same_on_torch_tensors(text):
    rng, branch = np.random.default_rng(5), parse(text)
    tensors = random_tensors(rng, branch, 4, 4)
    ours = collapse(branch, tensors, np.zeros(1), 4, 4)
    theirs = collapse(
        branch,
        {k: torch.from_numpy(v) for k, v in tensors.items()},
        torch.zeros(1, dtype=torch.float64),
        4,
        4,
    )
    np.testing.assert_allclose(theirs.weight.numpy(), ours.weight, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(theirs.bias.numpy(), ours.bias, rtol=1e-12, atol=1e-12)
