"""Everything that changes while training: made fresh, started from a model, saved, resumed, frozen."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebranch.errors import OnebranchError
from onebranch.model import catalogue, file
from onebranch.nn.block import Mode
from onebranch.nn.network import Network
from onebranch.training import average as ema
from onebranch.training import checkpoint
from onebranch.training.config import Config, Training, to_dict
from onebranch.training.place import Place

FOLDERS = ("train", "validation", "cache", "low_quality", "validation_low_quality")
"""Settings that may differ when a run is resumed, so that it can move to another machine."""


@dataclass
class State:
    """The network, its average, the optimizer, and how far the run has come. threads 0: not chosen yet."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    step: int
    frozen: bool
    threads: int
    psnr: float | None

    def set_mode(self, mode: Mode) -> None:
        """Choose how both networks run forward. Raises OnebranchError where `merged` is not defined yet."""
        self.network.set_mode(mode)
        self.average.set_mode(mode)

    def freeze_batch_norms(self) -> None:
        """Use population statistics from now on, in both networks."""
        self.network.freeze_batch_norms()
        self.average.freeze_batch_norms()
        self.frozen = True


def fresh(config: Config, place: Place) -> State:
    """The state before the first step; the weights depend on the seed alone, or come from `init_from`."""
    options = config.training
    torch.manual_seed(config.seed)
    network = Network(config.spec)
    if options.init_from:
        initialize_from(network, file.read(catalogue.find(options.init_from)))
    network.to(place.device, place.dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[options.optimizer]
    optimizer = kind(network.parameters(), lr=options.learning_rate, foreach=True)
    threads = 0 if options.threads == "auto" else options.threads
    return State(network, ema.averaged_copy(network), optimizer, 0, False, threads, None)


def initialize_from(network: Network, model: file.Model) -> tuple[str, ...]:
    """Copy a model's weights into a network of the same spec; returns the names left as they were.

    A network of another scale or task may differ in its tail and resampling layer: those are left fresh.
    Raises OnebranchError where anything else differs.
    """
    ours = network.state_dict()
    wanted = {n for n in ours if not n.endswith("num_batches_tracked")}
    same_end = all(
        getattr(network.spec, key) == getattr(model.spec, key) for key in ("task", "scale", "downsampling")
    )
    ends = () if same_end else ("tail.", "resample.")
    left = tuple(sorted(n for n in wanted if n.startswith(ends))) if ends else ()
    for name in sorted(wanted - set(left)):
        if name not in model.weights or tuple(model.weights[name].shape) != tuple(ours[name].shape):
            raise OnebranchError(
                f"config: 'training.init_from' holds another network: '{name}' is missing or has another"
                " shape; head and blocks must be the same"
            )
        ours[name] = torch.from_numpy(np.array(model.weights[name]))
    network.load_state_dict(ours)
    return left


def resume(state: State, path: Path, config: Config) -> None:
    """Load a checkpoint of the same config into the state; OnebranchError names what differs."""
    facts = checkpoint.read_facts(path)
    if different := _differences(json.loads(json.dumps(to_dict(config))), facts.config):
        raise OnebranchError(
            f"{path}: this run was started with another config ({', '.join(different)} differ);"
            " use --restart, or another --out"
        )
    if facts.frozen:
        state.freeze_batch_norms()
    checkpoint.restore(path, state.network, state.average, state.optimizer)
    state.step, state.threads, state.psnr = facts.step, facts.threads, facts.psnr


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
    """Write the checkpoint, whole or not at all."""
    facts = checkpoint.Facts(state.step, state.frozen, state.threads, to_dict(config), state.psnr)
    checkpoint.write(path, state.network, state.average, state.optimizer, facts)


def prepare(state: State, options: Training, place: Place) -> None:
    """Refuse what cannot be, freeze from the first step where asked, and set the forward mode."""
    norms = state.network.batch_norms()
    if norms and freeze_step(options) <= 0:
        state.freeze_batch_norms()
    if norms and place.size > 1 and not state.frozen:
        if place.device.type == "cpu":
            raise OnebranchError(
                "batch normalization over several processes synchronizes on GPUs only; on CPU use one"
                " process, blocks without BN, or freeze_batch_norm = 1.0"
            )
        state.network.synchronize_batch_norms()
    state.set_mode(mode_now(options, state))


def freeze(state: State, options: Training, inputs: Iterable[Tensor]) -> None:
    """Estimate the population statistics, freeze them, and let the average start anew from here.

    From now on the statistics are constants of the optimized function; the average shares them, since an
    average of weights that were trained with these constants is only meaningful with the same ones.
    """
    ema.estimate_statistics(state.network, inputs)
    state.freeze_batch_norms()
    state.average.load_state_dict(state.network.state_dict())
    state.set_mode(mode_now(options, state))


def freeze_step(options: Training) -> int:
    """The step from which BN is frozen; never, where the fraction is 0."""
    if options.freeze_batch_norm == 0:
        return options.steps + 1
    return options.steps - round(options.steps * options.freeze_batch_norm)


def mode_now(options: Training, state: State) -> Mode:
    """How blocks run forward now; `auto`: merged as soon as that is defined."""
    if options.forward == "auto":
        return "merged" if state.frozen or not state.network.batch_norms() else "branches"
    return options.forward
