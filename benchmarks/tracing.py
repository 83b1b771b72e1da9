"""Processor time of tracing and merging PyTorch modules of many branches, beside one plain torch.export.

All in one thread and one process, after a small module has been traced, which loads what PyTorch loads late.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

import onebranch
from benchmarks.targets import Target
from foreign import from_timm
from literature import DBB
from onebranch.graph.torch.tracing import exported_program, trace

MAX_RATIO = 2.0
"""The goal: processor time of tracing over that of one torch.export."""

SIDE = 64
"""Height and width of the example inputs."""


class DBBResidual(nn.Module):
    """Two diverse branch blocks and a shortcut, the basic block of a ResNet."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = DBB(inputs, width, stride), DBB(width, width)
        self.shortcut = (
            nn.Conv2d(inputs, width, 1, stride) if stride > 1 or inputs != width else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        result: Tensor = torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))
        return result


def dbb_resnet18() -> nn.Module:
    """ResNet-18 whose 3x3 convolutions are diverse branch blocks, an eighth as wide."""
    widths = (8, 8, 16, 16, 32, 32, 64, 64)
    pairs = zip((8, *widths), widths, strict=False)
    blocks = [DBBResidual(inputs, width, 1 + (width > inputs)) for inputs, width in pairs]
    return nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), *blocks)


class ManyBranches(nn.Module):
    """3x3 convolutions with batch normalization, added."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8, H, W)."""
        return torch.relu(torch.stack([branch(x) for branch in self.branches]).sum(0))


Builders = Mapping[str, Callable[[], nn.Module]]

NETWORKS: Builders = {
    "ResNet-18 of DBB": dbb_resnet18,
    "sixty branches": lambda: ManyBranches(60),
    "timm repvit_m0_9": from_timm("repvit_m0_9"),
    "timm repghostnet_050": from_timm("repghostnet_050"),
}


@dataclass(frozen=True)
class TracingRow:
    """Processor seconds: one torch.export, tracing as a merge does it, and the whole merge."""

    network: str
    export: float
    trace: float
    merge: float

    @property
    def ratio(self) -> float:
        """Tracing over one torch.export."""
        return self.trace / self.export


def measure(rounds: int, networks: Builders = NETWORKS) -> list[TracingRow]:
    """A row for each network; export and trace are medians over the rounds, the merge runs once."""
    torch.set_num_threads(1)
    trace(nn.ReLU().eval(), (torch.rand(1, 3, SIDE, SIDE),))
    return [_row(name, build, rounds) for name, build in networks.items()]


def _row(name: str, build: Callable[[], nn.Module], rounds: int) -> TracingRow:
    torch.manual_seed(0)
    module = build().eval()
    example = torch.rand(1, 3, SIDE, SIDE)
    exports, traces = [], []
    for _ in range(rounds):
        exports.append(_processor_seconds(lambda: exported_program(module, (example,))))
        traces.append(_processor_seconds(lambda: trace(module, (example,))))
    merged = _processor_seconds(lambda: onebranch.merge(module, example))
    return TracingRow(name, median(exports), median(traces), merged)


def _processor_seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def report(rows: Sequence[TracingRow]) -> list[str]:
    """A Markdown table of processor seconds."""
    return [
        "| module | one torch.export | tracing | tracing / export | whole merge |",
        "| --- | --: | --: | --: | --: |",
        *(
            f"| {r.network} | {r.export:.1f} s | {r.trace:.1f} s | {r.ratio:.2f} | {r.merge:.1f} s |"
            for r in rows
        ),
    ]


def targets(rows: Sequence[TracingRow]) -> list[Target]:
    """Every network's ratio beside its goal."""
    return [
        Target(f"{row.network}: tracing over torch.export", MAX_RATIO, row.ratio, at_most=True)
        for row in rows
    ]
