"""Any torch module filled with weights that hurt: statistics far from 0 and 1, biases everywhere."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module itself, in evaluation mode, every parameter and statistic drawn anew from `seed`.

    Kernels and matrices are drawn with variance 1 / fan-in, so that values keep their magnitude; what scales
    a channel lies in 0.5 to 1.5, what shifts one around 0, a variance in 0.5 to 2. Frozen parameters stay.
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
