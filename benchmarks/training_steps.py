"""Speed of training steps: networks of many branches and a plain one, now and in version 0.1."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from onebranch.algebra.conv import Conv
from onebranch.bench import ONE_RUN_EACH, median_ratio, time_interleaved
from onebranch.nn.block import Mode
from onebranch.nn.network import Network
from onebranch.nn.prelu import PRELU_COMPUTATIONS
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.training.computation import compiled

FOUR_BRANCHES = ("3x3*8 1x1", "1x1*2 3x3", "3x3", "identity")

NETWORKS: dict[str, NetworkShorthand] = {
    "plain 3x3": NetworkShorthand(task="upscale", branches="plain"),
    "sesr": NetworkShorthand(task="upscale", branches="sesr"),
    "ecb": NetworkShorthand(task="upscale", branches="ecb"),
    "4 branches": NetworkShorthand(task="upscale", branches=FOUR_BRANCHES),
    "5 branches": NetworkShorthand(
        task="upscale", branches=("3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "3x3*2 1x1", "identity")
    ),
    "plain 5 x 32": NetworkShorthand(task="upscale", branches="plain", width=32, depth=5),
    "4 branches, 5 x 32": NetworkShorthand(task="upscale", branches=FOUR_BRANCHES, width=32, depth=5),
}
"""Networks by name, x2, luma; 4 blocks of 16 channels where the name says nothing else."""

BATCH_SIZE = 16
FORWARD_MODES: tuple[Mode, ...] = ("merged", "branches")

OLD_PATCH_SIZE, PATCH_SIZE = 32, 48
"""Side of a crop in pixels: the default of version 0.1, and that of the recipes since."""


@dataclass(frozen=True)
class TrainingStepRow:
    """Millions of low-resolution pixels per second of one network, and the ratios of times per pixel.

    old: as in version 0.1. merged: with merged kernels. compiled: merged, and compiled by `torch.compile`.
    branches: every branch runs, not compiled. bfloat16: compiled, with blocks in bfloat16. speedup: compiled
    over old. compiled_speedup: compiled over merged. compiled_ratio, branches_ratio: time per pixel over that
    of the plain network in the same computation. bfloat16_speedup: bfloat16 over compiled.
    """

    network: str
    old_megapixels: float
    merged_megapixels: float
    compiled_megapixels: float
    branches_megapixels: float
    bfloat16_megapixels: float
    speedup: float
    compiled_speedup: float
    compiled_ratio: float
    branches_ratio: float
    bfloat16_speedup: float


def compare(
    rounds: int,
    batch: int = BATCH_SIZE,
    patches: tuple[int, int] = (OLD_PATCH_SIZE, PATCH_SIZE),
    names: Sequence[str] = tuple(NETWORKS),
) -> list[TrainingStepRow]:
    """Time steps of the named networks on one thread, interleaved.

    patches: crop sides of version 0.1 and now. Compiling takes about a minute per network first.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = _candidates(batch, patches, names)
        seconds = time_interleaved(candidates, rounds, ONE_RUN_EACH)
    finally:
        torch.set_num_threads(threads)
    pixels = batch * patches[0] ** 2, batch * patches[1] ** 2
    return [_row(name, seconds, pixels) for name in names]


def _candidates(batch: int, patches: tuple[int, int], names: Sequence[str]) -> dict[str, "TrainingStep"]:
    """Steps by network and way to compute them; those not compiled with every computation of PReLU."""
    candidates = {}
    for name in dict.fromkeys([*map(_plain_of, names), *names]):
        network = NETWORKS[name]
        candidates[f"{name} old"] = TrainingStep(
            network, StepOptions("merged", batch, patches[0], "relu"), _OneByOne
        )
        for computation in PRELU_COMPUTATIONS:
            for mode in FORWARD_MODES:
                options = StepOptions(mode, batch, patches[1], computation)
                candidates[f"{name} {mode} {computation}"] = TrainingStep(network, options)
        for kind in ("compiled", "bfloat16"):
            options = StepOptions("merged", batch, patches[1], "native", kind == "bfloat16", compiled=True)
            candidates[f"{name} {kind}"] = TrainingStep(network, options)
    return candidates


def _row(name: str, seconds: dict[str, list[float]], pixels: tuple[int, int]) -> TrainingStepRow:
    old, plain = seconds[f"{name} old"], _plain_of(name)
    merged, branches = (_fastest(f"{name} {mode}", seconds) for mode in FORWARD_MODES)
    compiled, bfloat16 = seconds[f"{name} compiled"], seconds[f"{name} bfloat16"]
    return TrainingStepRow(
        name,
        1e-6 * pixels[0] / median(old),
        1e-6 * pixels[1] / median(merged),
        1e-6 * pixels[1] / median(compiled),
        1e-6 * pixels[1] / median(branches),
        1e-6 * pixels[1] / median(bfloat16),
        median_ratio(old, compiled) * pixels[1] / pixels[0],
        median_ratio(merged, compiled),
        median_ratio(compiled, seconds[f"{plain} compiled"]),
        median_ratio(branches, _fastest(f"{plain} merged", seconds)),
        median_ratio(compiled, bfloat16),
    )


def _plain_of(name: str) -> str:
    """The plain network of the same size."""
    return "plain 5 x 32" if name.endswith("5 x 32") else "plain 3x3"


def _fastest(candidate: str, seconds: dict[str, list[float]]) -> list[float]:
    """The times of a candidate with its fastest computation of PReLU, as the trainer chooses it."""
    return min((seconds[f"{candidate} {computation}"] for computation in PRELU_COMPUTATIONS), key=median)


class _OneByOne(Network):
    """A network that merges the kernels of its blocks one by one, as version 0.1 did."""

    def merged_kernels(self, like: Tensor) -> dict[int, Conv]:
        return {}


@dataclass(frozen=True)
class StepOptions:
    """Forward mode, crops of a batch, side of a crop, computation of PReLU, bfloat16, compiled or not."""

    mode: Mode
    batch: int
    patch: int
    prelu: str
    bfloat16: bool = False
    compiled: bool = False


class TrainingStep:
    """One step of one network: forward pass, backward pass, optimizer."""

    def __init__(
        self, network: NetworkShorthand, options: StepOptions, kind: type[Network] = Network
    ) -> None:
        torch.manual_seed(0)
        self.network, self.options = kind(expand(network)), options
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.set_mode(options.mode)
        self.network.set_prelu(options.prelu)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, foreach=True)
        self.runner = compiled(self.network) if options.compiled else self.network
        inputs = torch.rand(options.batch, 1, options.patch, options.patch)
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.labels = torch.rand(options.batch, 1, 2 * options.patch, 2 * options.patch)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16, cache_enabled=False):
            outputs = self.runner(self.inputs)
        loss = torch.nn.functional.l1_loss(outputs, self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
