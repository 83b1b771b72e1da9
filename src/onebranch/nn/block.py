"""A block of branches as a torch module that runs forward in two ways.

`branches` is the definition: every branch runs on the picture. `merged` collapses the branches into one
kernel by the laws of the algebra, differentiably, and runs that one convolution.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebranch.algebra.branch import collapse, total
from onebranch.algebra.conv import Conv
from onebranch.errors import OnebranchError
from onebranch.nn.fake_quantization import rounded_kernel
from onebranch.nn.prelu import TrainablePReLU
from onebranch.spec.branch import EDGES, AveragePool, BatchNorm, Branch, BranchStep, Convolution, Edge
from onebranch.spec.network import BATCH_NORM_EPSILON, LEAKY_SLOPE, Activation, BlockSpec

Mode = Literal["branches", "merged"]

TRAINED_WITH_ACTIVATION: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class FreezableBatchNorm(nn.BatchNorm2d):
    """Batch normalization that, once frozen, uses population statistics in training too.

    Once `synchronized`, batch statistics are taken over all processes (GPUs only).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BATCH_NORM_EPSILON)
        self.frozen = False
        self.synchronized = False
        self.process_group = None  # None: all processes, if synchronized

    def forward(self, input: Tensor) -> Tensor:
        """Normalized `input` (N, C, H, W)."""
        if self.frozen:
            statistics = self.running_mean, self.running_var
            return functional.batch_norm(input, *statistics, self.weight, self.bias, False, 0.0, self.eps)
        if self.synchronized:
            return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        return super().forward(input)


class EdgeFilter(nn.Module):
    """A fixed edge filter on every channel, times a learnt scale, plus a learnt bias (ECBSR)."""

    taps: Tensor

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels) * 1e-3)
        self.bias = nn.Parameter(torch.randn(channels) * 1e-3)
        taps = torch.tensor(EDGES[name]).expand(channels, 1, 3, 3).clone()
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H - 2, W - 2)."""
        weight = self.taps * self.scale[:, None, None, None]
        return functional.conv2d(values, weight, self.bias, groups=len(self.scale))


class BranchChain(nn.ModuleList):
    """One branch: the input padded once by the branch's radius, then its steps, unpadded."""

    def __init__(self, branch: Branch, inputs: int, width: int) -> None:
        widths = (inputs, *branch.channels(inputs, width))
        super().__init__(_module(step, widths[k], widths[k + 1]) for k, step in enumerate(branch.steps))
        self.branch = branch

    def forward(self, values: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H, W)."""
        rows, columns = self.branch.radius
        values = functional.pad(values, (columns, columns, rows, rows)) if rows or columns else values
        for step in self:
            values = step(values)
        return values

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers of the steps by names such as "0.weight", without `named_parameters`.

        That method takes longer than the merge itself.
        """
        tables = [
            (index, tensors)
            for index, step in self._modules.items()
            if step
            for tensors in (step._parameters, step._buffers)
        ]
        return {
            f"{index}.{name}": value
            for index, tensors in tables
            for name, value in tensors.items()
            if value is not None
        }


def _module(step: BranchStep, inputs: int, outputs: int) -> nn.Module:
    if isinstance(step, Convolution):
        groups = step.groups or inputs
        return nn.Conv2d(inputs, outputs, step.kernel, dilation=step.dilation, groups=groups, bias=step.bias)
    if isinstance(step, BatchNorm):
        return FreezableBatchNorm(outputs)
    if isinstance(step, AveragePool):
        return nn.AvgPool2d(step.kernel, stride=1)
    return EdgeFilter(step.name, inputs) if isinstance(step, Edge) else nn.Identity()


class Block(nn.Module):
    """The sum of the branches, then the activation. `mode` chooses how the sum is computed."""

    def __init__(self, spec: BlockSpec, inputs: int) -> None:
        super().__init__()
        self.spec, self.inputs, self.parsed = spec, inputs, spec.parsed
        self.mode: Mode = "branches"
        self.weight_scales: tuple[float, ...] | None = None
        """Scale of each output channel to whose multiples the merged kernel is rounded; None: it is not."""
        self.branches = nn.ModuleList(BranchChain(branch, inputs, spec.width) for branch in spec.parsed)
        self.activation = _activation(spec.activation, spec.width)

    def forward(self, values: Tensor, merged: Conv | None = None) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H, W). merged: the block's kernel, where it is known already."""
        summed = self._merged(values, merged) if self.mode == "merged" else self._summed(values)
        result: Tensor = self.activation(summed)
        return result

    def _summed(self, values: Tensor) -> Tensor:
        outputs = [branch(values) for branch in self.branches]
        return torch.stack(outputs).sum(0) if len(outputs) > 1 else outputs[0]

    def _merged(self, values: Tensor, conv: Conv | None) -> Tensor:
        if conv is None:
            with torch.autocast(values.device.type, enabled=False):  # kernels keep their full precision
                conv = self.merged_kernel(self.branch_tensors(), values)
        weight = (
            conv.weight if self.weight_scales is None else rounded_kernel(conv.weight, self.weight_scales)
        )
        return functional.conv2d(values, weight, conv.bias, padding=conv.radius, groups=conv.groups)

    def branch_tensors(self) -> list[dict[str, Tensor]]:
        """The parameters and buffers of every branch, by names such as "0.weight"."""
        return [chain.tensors() for chain in self.branches if isinstance(chain, BranchChain)]

    def merged_kernel(self, tensors: Sequence[Mapping[str, Tensor]], like: Tensor) -> Conv:
        """The one convolution that equals the sum of the branches with these tensors, differentiably.

        like: a tensor of the type and device of the kernel, for branches without tensors.
        """
        width = self.spec.width
        kernels = [
            collapse(branch, branch_tensors, like, self.inputs, width)
            for branch, branch_tensors in zip(self.parsed, tensors, strict=True)
        ]
        return total(kernels)

    def can_merge(self) -> bool:
        """True if `merged` is defined: there is no BN, or every BN is frozen."""
        return all(m.frozen for m in self.modules() if isinstance(m, FreezableBatchNorm))

    def set_mode(self, mode: Mode) -> None:
        """Choose how forward computes. Raises OnebranchError for `merged` before BN is frozen."""
        if mode == "merged" and not self.can_merge():
            raise OnebranchError(
                "forward = 'merged' needs blocks without batch normalization, or frozen statistics;"
                " use 'auto', which switches when the statistics are frozen, or 'branches'"
            )
        self.mode = mode


def _activation(name: Activation, width: int) -> nn.Module:
    if name == "prelu":
        return TrainablePReLU(width)
    if name == "leaky_relu":
        return nn.LeakyReLU(LEAKY_SLOPE)
    return TRAINED_WITH_ACTIVATION.get(name, nn.Identity)()
