"""The weights that a run starts from: those of a model with the same branches, or of a merged model."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from onebranch.algebra.conv import Conv, pad
from onebranch.errors import OnebranchError
from onebranch.model.file import Model
from onebranch.nn.block import Block
from onebranch.nn.network import Network
from onebranch.spec.branch import BatchNorm, Branch, Convolution
from onebranch.spec.network import NetworkSpec
from onebranch.spec.quantization import quantization_of

ANOTHER_NETWORK = "config: 'training.init_from' holds another network: "


def initialize_from(network: Network, model: Model) -> tuple[str, ...]:
    """Copy a model's weights into a network; returns the names that were not copied.

    A block of the model that is merged into one convolution initializes a block with branches: one branch,
    a single convolution of the block's kernel size, is set to the difference between the merged kernel and
    the sum of the other branches, which keep their initial weights. The block then computes what the merged
    one does. A network of another scale or task may differ in its tail and resampling layer, which then
    keep their initial weights. Raises OnebranchError if anything else differs.
    """
    ours = network.state_dict()
    wanted = {n for n in ours if not n.endswith("num_batches_tracked")}
    same_end = all(
        getattr(network.spec, key) == getattr(model.spec, key) for key in ("task", "scale", "downsampling")
    )
    ends = () if same_end else ("tail.", "resample.")
    not_copied = tuple(sorted(n for n in wanted if n.startswith(ends))) if ends else ()
    copied = wanted - set(not_copied)
    given = {**model.weights, **_weights_of_branches(network, model, copied)}
    for name in sorted(copied):
        if name not in given or tuple(given[name].shape) != tuple(ours[name].shape):
            raise OnebranchError(
                f"{ANOTHER_NETWORK}'{name}' is missing or has another shape; head and blocks must be the same"
            )
        ours[name] = torch.from_numpy(np.array(given[name]))
    network.load_state_dict(ours)
    return not_copied


def round_to_8_bits(network: Network, model: Model) -> None:
    """Let a network compute in 8 bits while it is trained, with the scales of a quantized model.

    Raises OnebranchError if the model is not quantized, or if it is another network.
    """
    if model.quantization is None:
        raise OnebranchError(
            f"config: 'training.quantization_aware' takes its scales from 'training.init_from', and"
            f" {model.name or 'that model'} is not quantized; quantize it first (onebranch quantize)"
        )
    if _computed_alike(network.spec) != _computed_alike(model.spec):
        raise OnebranchError(
            "config: 'training.quantization_aware' needs a network with the task, scale, widths, activations"
            " and skips of the quantized model in 'training.init_from'"
        )
    network.round_to_8_bits(quantization_of(model.quantization, model.spec).layers)


def _computed_alike(spec: NetworkSpec) -> tuple[object, ...]:
    """What two networks have in common whose layers' outputs have the same shapes and meaning."""
    blocks = tuple((block.width, block.activation) for block in spec.all_blocks)
    return spec.task, spec.scale, spec.colour, spec.downsampling, spec.residual, spec.skips, blocks


def _weights_of_branches(network: Network, model: Model, copied: set[str]) -> dict[str, np.ndarray]:
    """Weights, by name, of all blocks that have branches where the model has one convolution."""
    merged = _merged_blocks(model.spec)
    weights: dict[str, np.ndarray] = {}
    for name, block in zip(network.spec.names, network.each_block(), strict=True):
        prefix = f"{name}.branches."
        if name not in merged or len(block.branches) == 1 or not any(n.startswith(prefix) for n in copied):
            continue
        kernel, bias = (np.array(model.weights[f"{prefix}0.0.{tensor}"]) for tensor in ("weight", "bias"))
        tensors = branches_of_kernel(block, Conv(torch.from_numpy(kernel), torch.from_numpy(bias)), name)
        weights |= {f"{prefix}{key}": tensor.numpy() for key, tensor in tensors.items()}
    return weights


def _merged_blocks(spec: NetworkSpec) -> set[str]:
    """Names of the blocks that consist of one dense convolution with a bias."""
    return {
        name for name, block, _ in spec.walk() if len(block.parsed) == 1 and _is_dense(block.parsed[0], None)
    }


def branches_of_kernel(block: Block, kernel: Conv, name: str) -> dict[str, Tensor]:
    """Tensors of the block's branches, by names such as "0.1.weight", whose merged kernel is `kernel`.

    Worked example: branches 3x3 and 1x1 on one channel; the initial 1x1 is 0.3, the kernel has 1.0 in its
    centre and 0.1 elsewhere. The 3x3 becomes 0.7 in its centre and 0.1 elsewhere.
    Raises OnebranchError if the block has batch normalization or no branch of one convolution that is as
    large as the merged kernel; `name` is the block's.
    """
    tensors: list[Mapping[str, Tensor]] = [
        {key: value.detach().double() for key, value in of_branch.items()}
        for of_branch in block.branch_tensors()
    ]
    if any(isinstance(step, BatchNorm) for branch in block.parsed for step in branch.steps):
        raise OnebranchError(f"{ANOTHER_NETWORK}'{name}' is merged there, and has batch normalization here")
    summed = block.merged_kernel(tensors, torch.zeros((), dtype=torch.float64))
    free = [index for index, branch in enumerate(block.parsed) if _is_dense(branch, summed.kernel)]
    if not free:
        rows, columns = summed.kernel
        raise OnebranchError(
            f"{ANOTHER_NETWORK}'{name}' is merged there, and here it has no branch '{rows}x{columns}' to"
            " hold the merged kernel; add one"
        )
    if not _holds(summed, kernel):
        raise OnebranchError(
            f"{ANOTHER_NETWORK}'{name}' has a kernel {_shape(kernel)} there and {_shape(summed)} here;"
            " head and blocks must have the same widths, and kernels at least as large"
        )
    target = pad(Conv(kernel.weight.double(), kernel.bias.double()), summed.kernel)
    taken = tensors[free[0]]
    tensors[free[0]] = {
        "0.weight": taken["0.weight"] + target.weight - summed.weight,
        "0.bias": taken["0.bias"] + target.bias - summed.bias,
    }
    return {
        f"{index}.{key}": value.float()
        for index, of_branch in enumerate(tensors)
        for key, value in of_branch.items()
    }


def _holds(ours: Conv, theirs: Conv) -> bool:
    """True if both have the same channels and no dimension of their kernel is larger than ours."""
    sizes = zip(ours.kernel, theirs.kernel, strict=True)
    same = (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    return same and all(our >= their for our, their in sizes)


def _shape(conv: Conv) -> str:
    rows, columns = conv.kernel
    return f"{rows}x{columns} of {conv.inputs} to {conv.outputs} channels"


def _is_dense(branch: Branch, kernel: tuple[int, int] | None) -> bool:
    """True if the branch is one dense convolution with a bias (of that kernel size, unless it is None)."""
    step = branch.steps[0]
    if len(branch.steps) != 1 or not isinstance(step, Convolution):
        return False
    plain = step.bias and step.groups == 1 and step.dilation == 1
    return plain and kernel in (None, step.kernel)
