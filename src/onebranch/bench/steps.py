"""What a training step costs: a plain network, and one of many branches in both forward modes."""

from dataclasses import dataclass
from statistics import median

import torch

from onebranch.bench.interleaved import interleaved, ratio
from onebranch.nn.block import Mode
from onebranch.nn.network import Network
from onebranch.spec.shorthand import NetworkShorthand, expand

BRANCHES: dict[str, str | tuple[str, ...]] = {
    "plain 3x3": "plain",
    "sesr": "sesr",
    "ecb": "ecb",
    "5 branches": ("3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "identity"),
}


@dataclass(frozen=True)
class Row:
    """One network: median milliseconds of a step in each mode, and each against the plain network's."""

    network: str
    merged_ms: float
    merged_ratio: float
    branches_ms: float
    branches_ratio: float


def compare(rounds: int, batch: int = 16, patch: int = 32) -> list[Row]:
    """Steps of 4 x 16 x2 networks on `batch` crops of `patch` x `patch` pixels, one thread, interleaved."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = {
            f"{name} {mode}": _Step(branches, mode, batch, patch)
            for name, branches in BRANCHES.items()
            for mode in ("merged", "branches")
        }
        seconds = interleaved(candidates, rounds)
    finally:
        torch.set_num_threads(threads)
    plain = seconds["plain 3x3 branches"]
    return [
        Row(
            name,
            1e3 * median(seconds[f"{name} merged"]),
            ratio(seconds[f"{name} merged"], plain),
            1e3 * median(seconds[f"{name} branches"]),
            ratio(seconds[f"{name} branches"], plain),
        )
        for name in BRANCHES
    ]


class _Step:
    """A whole step of one network: forward, backward, optimizer."""

    def __init__(self, branches: str | tuple[str, ...], mode: Mode, batch: int, patch: int) -> None:
        torch.manual_seed(0)
        self.network = Network(expand(NetworkShorthand(task="upscale", branches=branches)))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.set_mode(mode)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, foreach=True)
        self.inputs = torch.rand(batch, 1, patch, patch)
        self.labels = torch.rand(batch, 1, 2 * patch, 2 * patch)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.l1_loss(self.network(self.inputs), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
