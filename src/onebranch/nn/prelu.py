"""Three computations of PReLU in training; the trainer times them and takes the fastest.

The outputs of all three are equal to the last bit. Their gradients are equal but for the order of the sums,
and "relu" has the gradient 0 for values of exactly 0.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PRELU_COMPUTATIONS = ("native", "relu", "masked")
"""How a PReLU is computed while it is trained."""


class TrainablePReLU(nn.PReLU):
    """PReLU that, while it is trained, is computed as `computation` says.

    "native": PyTorch's own operation. Its backward pass jumps on the sign of every value, which processors
    predict badly. "relu": by two ReLUs. "masked": `MaskedPReLU`, without jumps.
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
        slopes = self.weight.to(input.dtype)
        return torch.relu(input) - slopes[:, None, None] * torch.relu(-input)


class MaskedPReLU(torch.autograd.Function):
    """PReLU whose gradients are sums and products of whole tensors, in a few vectorized passes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Tensor) -> Tensor:
        """(N, C, H, W), negative values times their channel's slope. slopes: (C,)."""
        ctx.save_for_backward(values, slopes)
        if values.dtype != torch.bfloat16:
            return torch.prelu(values, slopes)
        layout = _Layout(values)  # PyTorch's own operation is slow for bfloat16 below 32 channels
        rows = layout.rows(values)
        return layout.shaped(torch.addcmul(rows.relu(), rows.clamp_max(0), layout.row_of(slopes)))

    # Worked example, one channel of slope 0.25: x = (2, -4), gradient g = (1, 3). At positive values only, g
    # is p = (1, 0), elsewhere n = (0, 3). The gradient of x is p + 0.25 n = (1, 0.75), that of the slope the
    # sum of n x, -12.
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of values (N, C, H, W) and slopes (C,)."""
        values, slopes = ctx.saved_tensors
        layout = _Layout(values)
        rows, gradients = layout.rows(values), layout.rows(gradient)
        positive = torch.ops.aten.threshold_backward(gradients, rows, 0)
        negative = gradients - positive
        of_values = torch.addcmul(positive, negative, layout.row_of(slopes))
        return layout.shaped(of_values), layout.sum_of_channels(negative.mul_(rows), slopes.dtype)


class _Layout:
    """The order of the values of a tensor (N, C, H, W) in memory, as rows of values.

    The rows are long, because PyTorch's loops over a short last dimension are slow. Example: (8, 16, 48, 48)
    with channels last: 384 rows of 48 pixels with 16 channels each; otherwise 8 rows of 16 * 48 * 48 values.
    """

    def __init__(self, values: Tensor) -> None:
        self.shape, self.dtype = values.shape, values.dtype
        self.channels_last = values.is_contiguous(memory_format=torch.channels_last)

    def rows(self, values: Tensor) -> Tensor:
        """The values (N, C, H, W) as (N H, W C) if channels are last, else as (N, C H W)."""
        n, channels, height, width = self.shape
        if self.channels_last:
            return values.permute(0, 2, 3, 1).reshape(n * height, width * channels)
        return values.reshape(n, channels * height * width)

    def row_of(self, slopes: Tensor) -> Tensor:
        """The slope (C,) of every value of a row."""
        _, _, height, width = self.shape
        slopes = slopes.to(self.dtype)
        return slopes.repeat(width) if self.channels_last else slopes.repeat_interleave(height * width)

    def shaped(self, rows: Tensor) -> Tensor:
        """Rows as (N, C, H, W)."""
        n, channels, height, width = self.shape
        if self.channels_last:
            return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
        return rows.view(self.shape)

    def sum_of_channels(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """The sum (C,) over all values of each channel."""
        _, channels, height, width = self.shape
        sums = rows.sum(0, dtype=dtype)
        if self.channels_last:
            return sums.view(width, channels).sum(0)
        return sums.view(channels, height * width).sum(1)
