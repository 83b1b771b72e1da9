"""Torch networks: both forward modes agree, in outputs and gradients; batch normalization freezes."""

import numpy as np
import pytest
import torch

from onebranch.algebra.definition import run_branch
from onebranch.errors import OnebranchError
from onebranch.nn.network import Network, load, weights_of
from onebranch.spec.network import Skip
from onebranch.spec.presets import PRESETS
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand

pytestmark = pytest.mark.fast

MIXED = ("1x1*2 3x3*2 1x1", "3x3 5x5", "1x1 sobel_x", "identity", "avg3x5", "5x5 dw d2", "1x3 g2 nobias")


def network(**settings):
    """A network in float64 with random parameters and random BN statistics."""
    torch.manual_seed(0)
    if settings["branches"] is MIXED:
        settings |= {"head": BlockShorthand(("3x3*2 1x1", "1x5 nobias")), "tail": BlockShorthand("plain")}
    built = Network(expand(NetworkShorthand(**settings))).double()
    for norm in built.batch_norms():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 3)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return built


@pytest.mark.parametrize("branches", [*PRESETS, MIXED], ids=str)
def test_merged_mode_equals_branches_in_output_and_gradients(branches):
    built = network(task="upscale", width=4, depth=2, branches=branches, residual="bicubic")
    built.freeze_batch_norms()
    pictures = torch.randn(2, 1, 5, 7, dtype=torch.float64)
    results = {}
    for mode in ("branches", "merged"):
        built.set_mode(mode)
        built.zero_grad()
        output = built(pictures)
        output.square().sum().backward()
        results[mode] = output.detach(), [p.grad.clone() for p in built.parameters()]
    largest = max(float(g.abs().max()) for g in results["branches"][1])
    torch.testing.assert_close(results["merged"][0], results["branches"][0], rtol=1e-9, atol=1e-9)
    for mine, theirs in zip(results["merged"][1], results["branches"][1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * largest)


def test_merged_mode_before_freezing_is_refused():
    built = network(task="upscale", width=4, depth=1, branches="repvgg")
    with pytest.raises(OnebranchError, match="frozen statistics"):
        built.set_mode("merged")


def test_a_frozen_network_does_not_move_its_statistics():
    built = network(task="denoise", width=4, depth=1, branches="repvgg").train()
    pictures = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    before = [norm.running_mean.clone() for norm in built.batch_norms()]
    built.freeze_batch_norms()
    torch.testing.assert_close(built(pictures), built.eval()(pictures), rtol=0, atol=0)
    assert all(torch.equal(b, n.running_mean) for b, n in zip(before, built.batch_norms(), strict=True))


@pytest.mark.parametrize("branches", [*PRESETS, MIXED], ids=str)
def test_a_block_equals_the_definition_of_its_branches(branches):
    built = network(task="denoise", width=4, depth=1, branches=branches, activation="none").eval()
    block = built.blocks[0]
    pictures = np.random.default_rng(0).standard_normal((2, 4, 3, 8))
    tensors = {k: v.detach().numpy() for k, v in block.state_dict().items()}
    expected = sum(
        run_branch(
            branch,
            {
                k.removeprefix(f"branches.{n}."): v
                for k, v in tensors.items()
                if k.startswith(f"branches.{n}.")
            },
            pictures,
            4,
        )
        for n, branch in enumerate(block.spec.parsed)
    )
    result = block(torch.from_numpy(pictures)).detach().numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_weights_survive_the_way_through_numpy():
    spec = expand(NetworkShorthand(task="upscale", width=4, depth=1, branches="repvgg", skips=(Skip(0, 1),)))
    torch.manual_seed(1)
    built = Network(spec).eval()
    again = load(spec, weights_of(built))
    pictures = torch.rand(1, 1, 9, 5)
    torch.testing.assert_close(again(pictures), built(pictures), rtol=0, atol=0)


@pytest.mark.parametrize("downsampling", ["convolution", "average", "unshuffle"])
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (7, 12)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscaling_rounds_sizes_up(downsampling, size, scale):
    built = network(
        task="downscale", scale=scale, width=4, depth=1, branches="plain", downsampling=downsampling,
        residual="bicubic",
    )  # fmt: skip
    output = built(torch.rand(1, 1, *size, dtype=torch.float64))
    assert output.shape[2:] == (-(-size[0] // scale), -(-size[1] // scale))


@pytest.mark.parametrize("name", PRESETS)
def test_blocks_merged_together_equal_blocks_merged_one_by_one_bit_for_bit(name):
    torch.manual_seed(0)
    built = network(task="upscale", width=4, depth=3, branches=name)
    built.freeze_batch_norms()
    built.set_mode("merged")
    picture = torch.rand(2, 1, 9, 8, dtype=torch.float64)
    together = built.merged_kernels(picture)
    assert sorted(together) == list(range(len(built.blocks)))
    for index, block in enumerate(built.blocks):
        alone = block.merged_kernel(block.branch_tensors(), picture)
        assert torch.equal(together[index].weight, alone.weight), name
        assert torch.equal(together[index].bias, alone.bias), name
        assert together[index].groups == alone.groups
    gradients = []
    for mode in ("merged", "branches"):
        built.zero_grad()
        built.set_mode(mode)
        built(picture).sum().backward()
        gradients.append([p.grad.clone() for p in built.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
