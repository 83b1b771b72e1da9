"""What a torch module really computes: every convolution it runs, seen below the module and the graph.

A dispatch mode sees the operators that PyTorch executes, whoever wrote the module: eager code, torch.fx or
torch.export. It shares nothing with the package.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

CONVOLUTIONS = (aten.convolution, aten.mkldnn_convolution, aten._convolution)
NORMALIZATIONS = (
    aten.native_batch_norm,
    aten._native_batch_norm_legit_no_training,
    aten._native_batch_norm_legit,
    aten.cudnn_batch_norm,
    aten.batch_norm,
)
PRODUCTS = (aten.addmm, aten.mm, aten.bmm, aten.baddbmm)
ELEMENTWISE = (aten.add, aten.add_, aten.sub, aten.sub_, aten.mul, aten.mul_, aten.div, aten.div_)


@dataclass(frozen=True)
class Convolution:
    """Kernel and bias of one convolution that ran (bias None where it had none)."""

    weight: Tensor
    bias: Tensor | None


@dataclass
class Work:
    """What ran: convolutions, batch normalizations, and multiply-accumulates.

    macs: of convolutions and matrix products; batch normalizations and arithmetic between two arrays or an
    array and a number count one for each value of the result.
    """

    convolutions: list[Convolution] = field(default_factory=list)
    normalizations: int = 0
    macs: int = 0
    operators: Counter[str] = field(default_factory=Counter)


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        self.work.operators[str(packet)] += 1
        if packet in CONVOLUTIONS:
            self._convolution(args, result)
        elif packet in NORMALIZATIONS:
            self.work.normalizations += 1
            self.work.macs += result[0].numel()
        elif packet in PRODUCTS:
            left = args[1] if packet in (aten.addmm, aten.baddbmm) else args[0]
            self.work.macs += result.numel() * left.shape[-1]
        elif packet in ELEMENTWISE and isinstance(result, Tensor):
            self.work.macs += result.numel()
        return result

    def _convolution(self, args: Any, result: Tensor) -> None:
        weight, bias, transposed = args[1], args[2], args[6]
        self.work.convolutions.append(Convolution(weight.detach(), None if bias is None else bias.detach()))
        places = args[0] if transposed else result
        self.work.macs += places.numel() * weight[0].numel()


def counted(module: nn.Module, *inputs: Tensor) -> Work:
    """What `module` runs on `inputs`, in the order in which it runs."""
    with torch.no_grad(), _Counting() as counting:
        module(*inputs)
    return counting.work
