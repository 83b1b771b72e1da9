"""Exponential moving average (EMA) of the weights, and population statistics for batch normalization."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from onebranch.nn.network import Network


def averaged_copy(network: Network) -> Network:
    """A copy of the network to hold the average; it is never trained itself."""
    return copy.deepcopy(network).requires_grad_(False)


def rate(decay: float, step: int) -> float:
    """The share of the new weights in the average at a step: 1 - d.

    d is `decay`, but at most (1 + step) / (10 + step), to forget the random initial weights quickly.
    """
    # Example: decay 0.999. Step 0: d = 1/10; step 90: d = 91/100; from step 8,990 on d = 0.999.
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: Network, network: Network, share: float | Tensor) -> None:
    """Move the average towards the network: average = (1 - share) average + share network, in place."""
    means, values = list[Tensor](average.parameters()), list[Tensor](network.parameters())
    if not isinstance(share, Tensor):
        torch._foreach_lerp_(means, values, share)
        return
    differences = torch._foreach_sub(values, means)
    torch._foreach_mul_(differences, share)
    torch._foreach_add_(means, differences)


@torch.no_grad()
def estimate_statistics(network: Network, inputs: Iterable[Tensor]) -> None:
    """Set every BN's population statistics to the mean over `inputs`, layer by layer in one pass each.

    All batches have equal weight (momentum None), as in Wu and Johnson, Rethinking "Batch" in
    BatchNorm, section 3 (precise BN). Nothing happens in networks without BN or with frozen BN.
    """
    norms = [norm for norm in network.batch_norms() if not norm.frozen]
    if not norms:
        return
    modes = [block.mode for block in network.each_block()]
    was_training, momenta = network.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    # `merged` mode uses the statistics that are to be estimated, so every branch has to run.
    network.train().set_mode("branches")
    for batch in inputs:
        network(batch)
    network.train(was_training)
    for block, mode in zip(network.each_block(), modes, strict=True):
        block.mode = mode
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
