"""Blocks of the literature as plain modules: the graph route finds the kernel that the block route finds."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import literature
import onebranch
from convolutions import counted
from onebranch.blocks.merge import merge_network
from onebranch.blocks.plan import MergePlan
from onebranch.spec.network import BlockSpec, NetworkSpec
from onebranch.spec.presets import PRESETS
from random_weights import randomize

WIDTH = 6

Kernel = Mapping[str, np.ndarray | None]
"""Weight and bias of a convolution; None for no bias."""

SIZES = ((1, 1), (1, 7), (7, 1), (3, 3), (2, 5), (9, 11), (16, 15))
"""Heights and widths: smaller than the kernels, odd, even."""

TOLERANCE = 1e-5
"""Tolerance of float32 outputs, relative to the largest value."""


SLOW = ("dbb", "ecb", "edbb", "dbb stride 2")
"""Blocks that overwrite their padding: tracing the many slices takes PyTorch seconds."""


def each(names: Iterable[str]) -> list[object]:
    """Names as parameters of a test, the slow ones marked."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


def both_routes(
    blocks: Sequence[nn.Module], branches: Sequence[tuple[str, ...]], inputs: int, width: int
) -> tuple[nn.Module, list[Kernel]]:
    """The blocks with activations between them merged by the graph route; each merged by the block route."""
    for seed, block in enumerate(blocks):
        coarsen(randomize(block, seed))
    merged, report = onebranch.merge(activated(blocks, nn.ReLU), torch.zeros(1, inputs, 9, 11))
    assert report.changed or all(len(texts) == 1 for texts in branches)
    return merged, by_plan(blocks, branches, inputs, width)


def coarsen(block: nn.Module) -> None:
    """Make DBB's sum of identity and weight exact: the preset stores it in float32, the graph in float64."""
    for part in block.modules():
        if isinstance(part, literature.IdentityBasedConv1x1):
            part.weight.data = torch.round(part.weight.data * 2**20) / 2**20


def activated(blocks: Sequence[nn.Module], activation: type[nn.Module]) -> nn.Module:
    """The blocks in sequence with an activation after each but the last."""
    layers = [layer for block in blocks for layer in (block, activation())]
    return nn.Sequential(*layers[:-1]).eval()


def by_plan(
    blocks: Sequence[nn.Module], branches: Sequence[tuple[str, ...]], inputs: int, width: int
) -> list[Kernel]:
    """Weight and bias of every block, merged by the default plan in a network that has them as its blocks."""
    plain = BlockSpec(("3x3",), inputs, "none")
    spec = NetworkSpec(
        task="denoise",
        colour="rgb",
        scale=1,
        head=plain,
        blocks=tuple(BlockSpec(tuple(texts), width, "relu") for texts in branches),
        tail=BlockSpec(("3x3",), 3, "none"),
    )
    weights = plain_ends(spec)
    for index, block in enumerate(blocks):
        weights |= {f"blocks.{index}.{name}": array for name, array in stored(block).items()}
    merged = merge_network(spec, weights, MergePlan()).weights
    return [
        {key: merged.get(f"blocks.{index}.branches.0.0.{key}") for key in ("weight", "bias")}
        for index in range(len(blocks))
    ]


def plain_ends(spec: NetworkSpec) -> dict[str, np.ndarray]:
    """Weights of the plain convolutions before and after the blocks; their values do not matter."""
    shapes = {"head": (spec.head.width, 3, 3, 3), "tail": (3, spec.blocks[-1].width, 3, 3)}
    kernels = {f"{end}.branches.0.0.weight": np.ones(shape, np.float32) for end, shape in shapes.items()}
    return kernels | {
        f"{end}.branches.0.0.bias": np.ones(shape[0], np.float32) for end, shape in shapes.items()
    }


def stored(block: nn.Module) -> dict[str, np.ndarray]:
    """The block's tensors by the names of the model file."""
    return {
        f"branches.{n}.{k}.{name}": value.numpy()
        for n, chain in enumerate(block.chains())
        for k, step in enumerate(chain)
        for name, value in step.items()
    }


def as_module(kernel: Kernel, inputs: int) -> nn.Conv2d:
    """The convolution of that kernel, padded by its radius with zeros."""
    weight = torch.from_numpy(kernel["weight"])
    outputs, group_inputs, *sides = weight.shape
    padding = [side // 2 for side in sides]
    module = nn.Conv2d(inputs, outputs, sides, padding=padding, groups=inputs // group_inputs)
    bias = torch.zeros(outputs) if kernel["bias"] is None else torch.from_numpy(kernel["bias"])
    module.load_state_dict({"weight": weight, "bias": bias})
    return module


def assert_same_kernels(merged: nn.Module, planned: Sequence[Kernel], inputs: int) -> None:
    """One convolution a block, and every kernel and bias within float32 rounding: one unit in the last place.

    The two routes add in different orders, in float64: sums that cancel differ by its rounding.
    """
    ran = counted(merged, torch.zeros(1, inputs, 9, 11))
    assert len(ran.convolutions) == len(planned)
    assert ran.normalizations == 0
    for actual, expected in zip(ran.convolutions, planned, strict=True):
        assert_rounded_alike(actual.weight.numpy(), expected["weight"])
        none = np.zeros(len(expected["weight"]), np.float32)
        bias = none if actual.bias is None else actual.bias.numpy()
        assert_rounded_alike(bias, none if expected["bias"] is None else expected["bias"])


def assert_rounded_alike(actual: np.ndarray, expected: np.ndarray) -> None:
    """At most one unit in the last place apart."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == np.float32
    last = np.spacing(np.maximum(np.abs(actual), np.abs(expected)))
    rounding = 1e-13 * np.abs(expected).max()
    assert (np.abs(actual - expected) <= last + rounding).all()


def assert_same_outputs(original: nn.Module, merged: nn.Module, inputs: int) -> None:
    """Within float32 rounding on pictures of every size, two in a batch."""
    generator = torch.Generator().manual_seed(1)
    for size in SIZES:
        pictures = torch.randn(2, inputs, *size, generator=generator)
        with torch.no_grad():
            expected, actual = original(pictures), merged(pictures)
        assert_close(actual, expected, size)


def assert_close(actual: Tensor, expected: Tensor, size: tuple[int, int]) -> None:
    """Equal shapes, and differences within TOLERANCE of the largest value."""
    assert actual.shape == expected.shape, size
    assert torch.isfinite(expected).all(), size
    error = float((actual - expected).abs().max() / expected.abs().max())
    assert error <= TOLERANCE, (size, error)


def test_every_preset_is_there():
    assert set(literature.BLOCKS) == set(literature.ENDS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_modules_are_what_the_presets_write(name):
    blocks = [randomize(build(WIDTH), seed) for seed, build in enumerate(literature.BLOCKS[name])]
    for block, kernel in zip(blocks, by_plan(blocks, PRESETS[name].blocks, WIDTH, WIDTH), strict=True):
        assert_same_outputs(block, as_module(kernel, WIDTH), WIDTH)


@pytest.mark.parametrize("name", PRESETS)
def test_blocks_merge_to_the_kernel_of_the_block_route(name):
    blocks = [build(WIDTH) for build in literature.BLOCKS[name]]
    merged, planned = both_routes(blocks, PRESETS[name].blocks, WIDTH, WIDTH)
    assert_same_kernels(merged, planned, WIDTH)
    assert_same_outputs(nn.Sequential(*activated(blocks, nn.ReLU)), merged, WIDTH)


@pytest.mark.parametrize("name", each(PRESETS))
def test_heads_merge_to_the_kernel_of_the_block_route(name):
    inputs, width = 3, WIDTH
    block = literature.ENDS[name](inputs, width)
    merged, planned = both_routes([block], [PRESETS[name].head_and_tail], inputs, width)
    assert_same_kernels(merged, planned, inputs)
    assert_same_outputs(block, merged, inputs)


@pytest.mark.parametrize("name", each(literature.WITHOUT_PRESET))
def test_blocks_without_a_preset_become_one_convolution(name):
    block = randomize(literature.WITHOUT_PRESET[name](WIDTH))
    merged, report = onebranch.merge(block, torch.zeros(1, WIDTH, 9, 11))
    assert report.changed
    ran = counted(merged, torch.zeros(1, WIDTH, 9, 11))
    assert (len(ran.convolutions), ran.normalizations) == (1, 0)
    assert_same_outputs(block, merged, WIDTH)


@pytest.mark.parametrize("name", ["repvgg", "repsr", "mobileone"])
def test_a_network_of_blocks_keeps_its_activations(name):
    blocks = [randomize(build(WIDTH), seed) for seed in range(2) for build in literature.BLOCKS[name]]
    network = activated(blocks, nn.SiLU)
    merged, _ = onebranch.merge(network, torch.zeros(1, WIDTH, 9, 11))
    ran = counted(merged, torch.zeros(1, WIDTH, 9, 11))
    assert len(ran.convolutions) == len(blocks)
    assert ran.operators["aten.silu"] == len(blocks) - 1
    assert_same_outputs(network, merged, WIDTH)
