"""Speed of training steps: networks of many branches and a plain one, now and in version 0.1."""

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from onebranch.algebra.conv import Conv
from onebranch.bench import ONE_RUN_EACH, median_ratio, time_interleaved
from onebranch.nn.block import PRELU_COMPUTATIONS, Mode
from onebranch.nn.network import Network
from onebranch.spec.shorthand import NetworkShorthand, expand

NETWORKS: dict[str, str | tuple[str, ...]] = {
    "plain 3x3": "plain",
    "sesr": "sesr",
    "ecb": "ecb",
    "4 branches": ("3x3*8 1x1", "1x1*2 3x3", "3x3", "identity"),
    "5 branches": ("3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "identity"),
}
"""Branches by name; every network is 4 x 16, x2, luma."""

BATCH_SIZE = 16
OLD_PATCH_SIZE, PATCH_SIZE = 32, 48
"""Side of a crop in pixels: the default of version 0.1, and that of the recipes since."""


@dataclass(frozen=True)
class TrainingStepRow:
    """Millions of low-resolution pixels per second of one network, and the ratios of times per pixel.

    old: as in version 0.1. merged: with merged kernels. branches: every branch runs. speedup: merged over
    old. merged_ratio, branches_ratio: time per pixel over that of the plain network.
    """

    network: str
    old_megapixels: float
    merged_megapixels: float
    branches_megapixels: float
    speedup: float
    merged_ratio: float
    branches_ratio: float


def compare(
    rounds: int, batch: int = BATCH_SIZE, patches: tuple[int, int] = (OLD_PATCH_SIZE, PATCH_SIZE)
) -> list[TrainingStepRow]:
    """Time steps of every network on one thread, interleaved. patches: crop sides of version 0.1 and now."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = {}
        for name, branches in NETWORKS.items():
            candidates[f"{name} old"] = TrainingStep(branches, "merged", batch, patches[0], "relu", _OneByOne)
            for mode in ("merged", "branches"):
                for computation in PRELU_COMPUTATIONS:
                    candidates[f"{name} {mode} {computation}"] = TrainingStep(
                        branches, mode, batch, patches[1], computation
                    )
        seconds = time_interleaved(candidates, rounds, ONE_RUN_EACH)
    finally:
        torch.set_num_threads(threads)
    pixels = batch * patches[0] ** 2, batch * patches[1] ** 2
    computation = min(
        PRELU_COMPUTATIONS, key=lambda computation: median(seconds[f"plain 3x3 merged {computation}"])
    )
    return [_row(name, seconds, pixels, computation) for name in NETWORKS]


def _row(
    name: str, seconds: dict[str, list[float]], pixels: tuple[int, int], computation: str
) -> TrainingStepRow:
    old, merged, branches, plain = (
        seconds[key]
        for key in (
            f"{name} old",
            f"{name} merged {computation}",
            f"{name} branches {computation}",
            f"plain 3x3 merged {computation}",
        )
    )
    return TrainingStepRow(
        name,
        1e-6 * pixels[0] / median(old),
        1e-6 * pixels[1] / median(merged),
        1e-6 * pixels[1] / median(branches),
        median_ratio(old, merged) * pixels[1] / pixels[0],
        median_ratio(merged, plain),
        median_ratio(branches, plain),
    )


class _OneByOne(Network):
    """A network that merges the kernels of its blocks one by one, as version 0.1 did."""

    def _merged_kernels(self, like: Tensor) -> dict[int, Conv]:
        return {}


class TrainingStep:
    """One step of one network: forward pass, backward pass, optimizer."""

    def __init__(
        self,
        branches: str | tuple[str, ...],
        mode: Mode,
        batch: int,
        patch: int,
        prelu: str,
        kind: type[Network] = Network,
    ) -> None:
        torch.manual_seed(0)
        self.network = kind(expand(NetworkShorthand(task="upscale", branches=branches)))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.set_mode(mode)
        self.network.set_prelu(prelu)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, foreach=True)
        inputs = torch.rand(batch, 1, patch, patch)
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.labels = torch.rand(batch, 1, 2 * patch, 2 * patch)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.l1_loss(self.network(self.inputs), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
