"""Fills any torch module with demanding weights: statistics far from 0 and 1, biases everywhere."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module itself in evaluation mode, with every parameter and statistic drawn from `seed`.

    Kernels and matrices have the variance 1 / fan-in, so that values keep their magnitude. Scales of channels
    are drawn from 0.5 to 1.5, shifts around 0, variances from 0.5 to 2. Frozen parameters are unchanged.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.requires_grad:
                    parameter.copy_(_drawn(name, parameter, generator))
            if isinstance(part, _BatchNorm) and part.running_mean is not None:
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def _drawn(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    inner = parameter[0].numel() if parameter.dim() else 1
    if parameter.dim() > 1 and inner > 1:
        return torch.randn(parameter.shape, generator=generator) / inner**0.5
    if "bias" in name or parameter.dim() == 0:
        return 0.3 * torch.randn(parameter.shape, generator=generator)
    return torch.rand(parameter.shape, generator=generator) + 0.5


def settle(module: nn.Module, inputs: Tensor, seed: int = 0) -> nn.Module:
    """The module itself with the statistics of `inputs`, shifted and scaled at random.

    In deep random networks values grow, or no longer depend on the picture, and rounding errors grow with
    them. Batch normalizations with about the statistics of their inputs keep both at the magnitude that they
    have in trained networks.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        module(inputs)
    generator = torch.Generator().manual_seed(seed)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.eval().momentum = momentum
        _disturb(norm, generator)
    return module


def _disturb(norm: _BatchNorm, generator: torch.Generator) -> None:
    """Means are off by 0.3 standard deviations, variances by up to a factor of 2; no variance is near 0."""
    mean, variance = norm.running_mean, norm.running_var
    variance += 0.1 * variance.mean()
    mean += 0.3 * variance.sqrt() * torch.randn(mean.shape, generator=generator)
    variance *= 1.5 * torch.rand(variance.shape, generator=generator) + 0.5
