"""The state that changes during training, and how it is initialized, saved, resumed and frozen."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebranch.errors import OnebranchError
from onebranch.model import catalogue, file
from onebranch.nn.block import Mode
from onebranch.nn.network import Network
from onebranch.spec.network import convert
from onebranch.training import checkpoint, ema
from onebranch.training.config import Config, Training, to_dict
from onebranch.training.initialization import initialize_from, round_to_8_bits
from onebranch.training.objective import model_for
from onebranch.training.optimizers import optimizer_of
from onebranch.training.process import Process

FOLDERS = ("train", "validation", "cache", "low_quality", "validation_low_quality")
"""Settings that may differ when a run is resumed, so that it can move to another machine."""


@dataclass
class State:
    """The network, its average, the optimizer, and the progress of the run.

    threads is 0, prelu "auto" and compiled None until they are chosen; compiled: whether steps are.
    core_seconds: processor time of the run before `began`, which is this process's own processor time when
    the state was made. scales_from: SHA-256 of the weights of the quantized model whose scales the network is
    trained with.
    """

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    step: int
    frozen: bool
    threads: int
    psnr: float | None
    prelu: str = "auto"
    compiled: bool | None = None
    core_seconds: float = 0.0
    scales_from: str | None = None
    began: float = field(default_factory=time.process_time)

    @property
    def total_core_seconds(self) -> float:
        """Processor time of the run so far, in the main process, its threads included."""
        return self.core_seconds + time.process_time() - self.began

    def set_mode(self, mode: Mode) -> None:
        """Choose how both networks run forward. Raises OnebranchError if `merged` is not defined yet."""
        self.network.set_mode(mode)
        self.average.set_mode(mode)

    def freeze_batch_norms(self) -> None:
        """Use population statistics from now on, in both networks."""
        self.network.freeze_batch_norms()
        self.average.freeze_batch_norms()
        self.frozen = True


def initial_state(config: Config, process: Process) -> State:
    """The state before the first step; the weights depend on the seed alone, or come from `init_from`."""
    options = config.training
    torch.manual_seed(config.seed)
    network, scales_from = Network(config.spec), None
    if options.init_from:
        model = file.read(catalogue.find(options.init_from))
        initialize_from(network, model)
        if options.quantization_aware:
            round_to_8_bits(network, model)
            scales_from = file.fingerprint(model)
    if options.restorer and options.restorer_learns:
        wanted = "upscale", config.spec.scale, config.spec.colour
        network.restorer = model_for("restorer", options.restorer, wanted)
    network.to(process.device, process.dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(network, options, process.device)
    threads = 0 if options.threads == "auto" else options.threads
    average = ema.averaged_copy(network)
    return State(network, average, optimizer, 0, False, threads, None, options.prelu, scales_from=scales_from)


def resume(state: State, path: Path, config: Config) -> None:
    """Load a checkpoint of the same config into the state; raises OnebranchError that names what differs."""
    progress = checkpoint.read_progress(path)
    stored = to_dict(convert(progress.config, Config, str(path)))  # with the defaults of newer keys
    if different := _differences(to_dict(config), stored):
        raise OnebranchError(
            f"{path}: this run was started with another config ({', '.join(different)} differ);"
            " use --restart, or another --out"
        )
    if progress.frozen:
        state.freeze_batch_norms()
    checkpoint.restore(path, state.network, state.average, state.optimizer)
    state.step, state.threads, state.psnr = progress.step, progress.threads, progress.psnr
    state.prelu, state.compiled = progress.prelu, progress.compiled
    state.core_seconds = progress.core_seconds


def _differences(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Settings that differ, as 'table.key'."""
    here, there = _settings(now), _settings(then)
    return [key for key in {**here, **there} if here.get(key) != there.get(key)]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Every setting by 'table.key', folders left out."""
    tables = {name: value if isinstance(value, dict) else {"": value} for name, value in config.items()}
    return {
        f"{name}.{key}".rstrip("."): value
        for name, table in tables.items()
        for key, value in table.items()
        if not (name == "data" and key in FOLDERS)
    }


def save(path: Path, config: Config, state: State) -> None:
    """Write the checkpoint atomically."""
    progress = checkpoint.RunProgress(
        state.step,
        state.frozen,
        state.threads,
        to_dict(config),
        state.psnr,
        state.prelu,
        round(state.total_core_seconds, 1),
        bool(state.compiled),
    )
    checkpoint.write(path, state.network, state.average, state.optimizer, progress)


def prepare(state: State, options: Training, process: Process) -> None:
    """Check the combination of BN and processes, freeze BN if it is frozen from the start, set the mode."""
    norms = state.network.batch_norms()
    if norms and freeze_step(options) <= 0:
        state.freeze_batch_norms()
    if norms and process.world_size > 1 and not state.frozen:
        if process.device.type == "cpu":
            raise OnebranchError(
                "batch normalization over several processes synchronizes on GPUs only; on CPU use one"
                " process, blocks without BN, or bn_freeze_fraction = 1.0"
            )
        state.network.synchronize_batch_norms()
    state.set_mode(forward_mode(options, state))


def freeze(state: State, options: Training, inputs: Iterable[Tensor]) -> None:
    """Estimate the population statistics, freeze them, and restart the average of the weights from here.

    From now on the statistics are constants of the function that is optimized. The average uses the same
    constants, because weights that were trained with one set of statistics are valid only with that set.
    """
    ema.estimate_statistics(state.network, inputs)
    state.freeze_batch_norms()
    state.average.load_state_dict(state.network.state_dict())
    state.set_mode(forward_mode(options, state))


def freeze_step(options: Training) -> int:
    """The step from which BN is frozen; if the fraction is 0, BN is never frozen."""
    if options.bn_freeze_fraction == 0:
        return options.steps + 1
    return options.steps - round(options.steps * options.bn_freeze_fraction)


def forward_mode(options: Training, state: State) -> Mode:
    """How blocks run forward at this step; `auto`: merged as soon as that is defined."""
    if options.forward == "auto":
        return "merged" if state.frozen or not state.network.batch_norms() else "branches"
    return options.forward
