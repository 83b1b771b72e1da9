"""PReLU while it is trained, in the three ways between which the trainer chooses by timing them.

The outputs of all three are equal to the last bit. Their gradients are equal but for the order of the sums,
and but for values of exactly 0.
"""

from typing import Any

import torch
from torch import Tensor, nn

PRELU_COMPUTATIONS = ("native", "relu", "masked")
"""How a PReLU is computed while it is trained."""


class TrainablePReLU(nn.PReLU):
    """PReLU that, while it is trained, is computed as `computation` says.

    "native": PyTorch's own operation. Its backward pass takes a branch for every value, and processors guess
    the signs of feature maps badly. "relu": by two ReLUs. "masked": `MaskedPReLU`, without branches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.computation = "relu"

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W), negative values times the channel's slope."""
        if self.computation == "native" or not torch.is_grad_enabled():
            return super().forward(input)
        if self.computation == "masked":
            result: Tensor = MaskedPReLU.apply(input, self.weight)  # type: ignore[no-untyped-call]
            return result
        # For x < 0: 0 - slope * (-x) = slope * x; for x >= 0: x - slope * 0 = x.
        return torch.relu(input) - self.weight[:, None, None] * torch.relu(-input)


class MaskedPReLU(torch.autograd.Function):
    """PReLU whose gradients are sums and products of whole tensors, in a few vectorized passes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Tensor) -> Tensor:
        """(N, C, H, W), negative values times their channel's slope. slopes: (C,)."""
        ctx.save_for_backward(values, slopes)
        if values.dtype != torch.bfloat16:
            return torch.prelu(values, slopes)
        rows, factors = _rows(values), _row_of(slopes, values)  # PyTorch's own is slow below 32 channels
        return _like(torch.addcmul(rows.relu(), rows.clamp_max(0), factors), values)

    # Worked example, one channel of slope 0.25: x = (2, -4), gradient g = (1, 3). At negative values only, g
    # is n = (0, 3). The gradient of x is g + (0.25 - 1) n = (1, 0.75), that of the slope the sum of n x, -12.
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of values (N, C, H, W) and slopes (C,)."""
        values, slopes = ctx.saved_tensors
        rows = _rows(values)
        gradients = _rows(gradient.contiguous(memory_format=_memory_format(values)))
        negative = torch.ops.aten.threshold_backward(gradients, -rows, 0)
        of_values = torch.addcmul(gradients, negative, _row_of(slopes, values) - 1)
        sums = negative.mul_(rows).sum(0, dtype=slopes.dtype)
        channels = len(slopes)
        of_slopes = (
            sums.view(-1, channels).sum(0) if _is_channels_last(values) else sums.view(channels, -1).sum(1)
        )
        return _like(of_values, values), of_slopes


def _is_channels_last(values: Tensor) -> bool:
    return values.is_contiguous(memory_format=torch.channels_last)


def _memory_format(values: Tensor) -> torch.memory_format:
    return torch.channels_last if _is_channels_last(values) else torch.contiguous_format


# The rows are long, because PyTorch's loops over a short last dimension are slow. Example: (8, 16, 48, 48),
# channels last, become 384 rows of 48 pixels with 16 channels each; otherwise 8 rows of 16 * 48 * 48 values.
def _rows(values: Tensor) -> Tensor:
    """The values in the order of memory: (N H, W C) if channels are last, else (N, C H W)."""
    n, channels, height, width = values.shape
    if _is_channels_last(values):
        return values.permute(0, 2, 3, 1).reshape(n * height, width * channels)
    return values.contiguous().view(n, channels * height * width)


def _row_of(slopes: Tensor, values: Tensor) -> Tensor:
    """The slope of every value of a row of `_rows(values)`, in the type of the values."""
    _, _, height, width = values.shape
    slopes = slopes.to(values.dtype)
    return slopes.repeat(width) if _is_channels_last(values) else slopes.repeat_interleave(height * width)


def _like(rows: Tensor, values: Tensor) -> Tensor:
    """Rows of `_rows` in the shape of `values`."""
    n, channels, height, width = values.shape
    if _is_channels_last(values):
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
    return rows.view(values.shape)
