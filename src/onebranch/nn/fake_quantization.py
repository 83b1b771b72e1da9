"""Rounding to 8 bits inside a network that is trained (fake quantization), with fixed scales and zero points.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), section 3: the forward pass computes with rounded weights and feature maps, and the gradient
passes through the rounding as if it were not there.
"""

import torch
from torch import Tensor

from onebranch.spec.quantization import MAX_LEVEL, MAX_WEIGHT_LEVEL, QuantParams


def rounded_features(values: Tensor, params: QuantParams) -> Tensor:
    """Feature maps (N, C, H, W) rounded to 256 levels, in real units.

    The gradient of values outside the levels' range is zero. Example: scale 0.5 and zero point 1: -3 becomes
    -0.5 (level 0), 0.6 becomes 0.5 (level 2), 200 becomes 127 (level 255).
    """
    scale, zero_point = params.scale, params.zero_point
    within = values.clamp(-zero_point * scale, (MAX_LEVEL - zero_point) * scale)
    return with_gradient_of(within, torch.round(within.detach() / scale) * scale)


def rounded_kernel(weight: Tensor, scales: tuple[float, ...]) -> Tensor:
    """A kernel (O, I, K, L) with every output channel rounded to multiples of its scale, in real units.

    Weights beyond 127 multiples become 127 multiples, and keep their gradient, so that they can return.
    """
    steps = torch.tensor(scales, dtype=weight.dtype, device=weight.device)[:, None, None, None]
    levels = torch.round(weight.detach() / steps).clamp(-MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL)
    return with_gradient_of(weight, levels * steps)


def with_gradient_of(values: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `values`."""
    return values + (rounded - values).detach()
