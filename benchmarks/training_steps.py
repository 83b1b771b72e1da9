"""Time of a training step: a plain network, and networks of many branches in both forward modes."""

from dataclasses import dataclass
from statistics import median

import torch

from onebranch.bench import ONE_RUN_EACH, median_ratio, time_interleaved
from onebranch.nn.block import Mode
from onebranch.nn.network import Network
from onebranch.spec.shorthand import NetworkShorthand, expand

NETWORKS: dict[str, str | tuple[str, ...]] = {
    "plain 3x3": "plain",
    "sesr": "sesr",
    "ecb": "ecb",
    "5 branches": ("3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "identity"),
}


@dataclass(frozen=True)
class TrainingStepRow:
    """One network: median milliseconds of a step in each mode, and the ratio of each to the plain network."""

    network: str
    merged_ms: float
    merged_ratio: float
    branches_ms: float
    branches_ratio: float


def compare(rounds: int, batch: int = 16, patch: int = 32) -> list[TrainingStepRow]:
    """Steps of 4 x 16 x2 networks on `batch` crops of `patch` x `patch` pixels, one thread, interleaved."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = {
            f"{name} {mode}": _Step(branches, mode, batch, patch)
            for name, branches in NETWORKS.items()
            for mode in ("merged", "branches")
        }
        seconds = time_interleaved(candidates, rounds, ONE_RUN_EACH)
    finally:
        torch.set_num_threads(threads)
    plain = seconds["plain 3x3 branches"]
    return [
        TrainingStepRow(
            name,
            1e3 * median(seconds[f"{name} merged"]),
            median_ratio(seconds[f"{name} merged"], plain),
            1e3 * median(seconds[f"{name} branches"]),
            median_ratio(seconds[f"{name} branches"], plain),
        )
        for name in NETWORKS
    ]


class _Step:
    """One step of one network: forward pass, backward pass, optimizer."""

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
