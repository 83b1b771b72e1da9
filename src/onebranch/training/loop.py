"""The training loop: reads top to bottom, one process or many (torchrun), resumable bit for bit."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from onebranch.errors import OnebranchError
from onebranch.model import file
from onebranch.nn.network import Network, weights_of
from onebranch.training import average as ema
from onebranch.training import log as logs
from onebranch.training.config import Config, Training, to_dict
from onebranch.training.crops import Crops, Pairs, load_pairs
from onebranch.training.objective import Objective, objective_of
from onebranch.training.place import Place, join
from onebranch.training.state import State, freeze, freeze_step, fresh, prepare, resume, save
from onebranch.training.validation import validated, validation_pairs

STATISTICS_BATCHES = 64
"""Batches over which population statistics are estimated when BN is frozen, and for averaged weights."""

CHECKPOINT_SECONDS = 120.0
"""A checkpoint is written at least this often, so that a kill loses two minutes at most."""

RECORD_EVERY = 100
"""Steps between two records of the loss."""


@dataclass(frozen=True)
class Run:
    """What stays the same while training."""

    config: Config
    out: Path
    place: Place
    crops: Crops
    objective: Objective
    checked: Pairs | None

    @property
    def checkpoint(self) -> Path:
        """Where the run can be resumed from."""
        return self.out / "checkpoint.safetensors"

    def statistics_inputs(self) -> Iterator[Tensor]:
        """Fixed batches for population statistics: those of the steps after the last one."""
        options = self.config.training
        for index in range(STATISTICS_BATCHES):
            inputs, _ = self.crops.batch(options.steps + index, range(options.batch))
            yield self.place.tensor(inputs)


def train(config: Config, out: Path, *, continues: bool = True, shown: bool = True) -> Path:
    """Train as `config` says, in the folder `out`; returns the path of the trained model file.

    The folder holds checkpoint.safetensors, log.jsonl, log.png and NAME.safetensors (averaged weights). A run
    that was stopped goes on from its checkpoint, bit for bit on one machine and thread count, unless
    `continues` is false. Raises OnebranchError for whatever the user can mend.
    """
    place = join(config.training)
    run = _run(config, out, place)
    state = fresh(config, place)
    if run.checkpoint.exists() and continues:
        resume(state, run.checkpoint, config)
    elif place.leads:
        run.checkpoint.unlink(missing_ok=True)
    with logs.Log(out / "log.jsonl", config.training.steps, state.step, place.leads, shown) as log:
        log.say(_greeting(run, state))
        prepare(state, config.training, place)
        state.threads = state.threads or _choose_threads(run, state)
        torch.set_num_threads(state.threads)
        _loop(run, state, log)
    target = out / f"{config.name}.safetensors"
    if place.leads:
        file.write(_finished(run, state), target, overwrite=True)
        logs.plot(logs.read(out / "log.jsonl"), config.name, out / "log.png")
    place.leave()
    return target


def _run(config: Config, out: Path, place: Place) -> Run:
    """The folder made, the pictures decoded (by one process, while the others wait) and mapped."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(
            f"{out}: cannot make this folder: {error.strerror}; choose another --out"
        ) from None
    data, spec = config.data, config.spec
    if not place.leads:
        place.wait()
    pairs = load_pairs(data.train, data.low_quality, spec, Path(data.cache), data.patch)
    checked = validation_pairs(data, spec) if place.leads else None
    if place.leads:
        place.wait()
    crops = Crops(pairs, spec, data, config.seed)
    return Run(config, out, place, crops, objective_of(config, place), checked)


def _loop(run: Run, state: State, log: logs.Log) -> None:
    """The steps that are left."""
    options, place = run.config.training, run.place
    runner = _runner(state.network, place)
    losses: list[Tensor] = []
    clock = written = time.monotonic()
    for inputs, labels in _prefetched(run, state.step):  # (N, C, h, w), (N, C, H, W)
        if state.network.batch_norms() and not state.frozen and state.step >= freeze_step(options):
            freeze(state, options, run.statistics_inputs())
            runner = _runner(state.network, place)
            log.say(f"step {state.step}: batch normalization frozen to its population statistics")
        losses.append(_step(run, state, runner, inputs, labels))
        last = state.step == options.steps
        if not place.leads:
            continue
        if state.step % RECORD_EVERY == 0 or last:
            rate = len(losses) / (time.monotonic() - clock)
            log.record(state.step, loss=_finite_mean(losses, state.step), steps_per_second=round(rate, 2))
            losses, clock = [], time.monotonic()
        if run.checked and (state.step % options.validate_every == 0 or last):
            inputs_again = run.statistics_inputs()
            state.psnr = validated(state, run.checked, run.objective, run.config.spec, place, inputs_again)
            log.record(state.step, psnr=state.psnr)
            clock = time.monotonic()
        due = state.step % options.checkpoint_every == 0 or time.monotonic() - written > CHECKPOINT_SECONDS
        if due or last:
            save(run.checkpoint, run.config, state)
            written = time.monotonic()


def _step(
    run: Run, state: State, runner: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor
) -> Tensor:
    """One optimizer step, and the average moved along; returns the loss."""
    options = run.config.training
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(options, state.step)
    state.network.train()
    state.optimizer.zero_grad(set_to_none=True)
    with run.place.autocast():
        loss = run.objective(runner, inputs, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    if options.clip:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip, foreach=True)
    state.optimizer.step()
    ema.update(state.average, state.network, options.average, state.step)
    state.step += 1
    return loss.detach()


def _finite_mean(losses: list[Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not np.isfinite(mean):
        raise OnebranchError(
            f"the loss is {mean} at step {step}; lower 'training.learning_rate' or raise 'training.warm_up',"
            " and start again with --restart"
        )
    return mean


def learning_rate(options: Training, step: int) -> float:
    """The rate of a step: linear warm-up, then a cosine from `learning_rate` to `final_rate`."""
    if step < options.warm_up:
        return options.learning_rate * (step + 1) / options.warm_up
    done = (step - options.warm_up) / max(1, options.steps - options.warm_up)
    half = (1 + np.cos(np.pi * min(1.0, done))) / 2
    return float(options.final_rate + (options.learning_rate - options.final_rate) * half)


def _runner(network: Network, place: Place) -> Callable[[Tensor], Tensor]:
    """The network itself, or wrapped so that gradients are averaged over the processes."""
    if place.size == 1:
        return network
    return DistributedDataParallel(network, broadcast_buffers=False)  # BN statistics are equal everywhere


def _prefetched(run: Run, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of the steps from `first` on, prepared by a thread a few steps ahead."""
    options = run.config.training
    share = run.place.share(options.batch)
    ready: queue.Queue[Any] = queue.Queue(maxsize=4)
    stopped = threading.Event()

    def prepare_batches() -> None:
        try:
            for step in range(first, options.steps):
                if stopped.is_set():
                    return
                ready.put(run.crops.batch(step, share))
        except BaseException as error:
            ready.put(error)

    preparing = threading.Thread(target=prepare_batches, daemon=True)
    preparing.start()
    try:
        for _ in range(first, options.steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            inputs, labels = (run.place.tensor(half) for half in item)
            yield inputs, labels
    finally:
        stopped.set()
        while not ready.empty():
            ready.get_nowait()
        preparing.join()


def _choose_threads(run: Run, state: State) -> int:
    """The number of threads at which a few steps of the real batch are fastest, no weight changed."""
    cores, place = os.cpu_count() or 1, run.place
    if place.device.type != "cpu" or place.size > 1:
        return max(1, cores // place.size)
    inputs, labels = (place.tensor(half) for half in run.crops.batch(0, range(run.config.training.batch)))
    buffers = {name: value.clone() for name, value in state.network.named_buffers()}
    seconds: dict[int, float] = {}
    for threads in sorted({cores, *(2**k for k in range(8) if 2**k <= cores)}):
        torch.set_num_threads(threads)
        taken = []
        for _ in range(4):
            start = time.perf_counter()
            run.objective(state.network, inputs, labels).backward()  # type: ignore[no-untyped-call]
            taken.append(time.perf_counter() - start)
        seconds[threads] = float(np.median(taken[1:]))
    state.optimizer.zero_grad(set_to_none=True)
    for name, value in state.network.named_buffers():
        value.copy_(buffers[name])
    return min(seconds, key=lambda threads: seconds[threads] * (1 + 0.02 * threads))


def _finished(run: Run, state: State) -> file.Model:
    """The trained model: averaged weights, and a summary of how they came about."""
    if not state.frozen:
        ema.estimate_statistics(state.average, run.statistics_inputs())
    recipe = {
        "config": without_folders(run.config),
        "steps": state.step,
        "pictures": len(run.crops.pairs),
        "batch_norm_frozen": state.frozen or not state.network.batch_norms(),
        "validation_psnr": state.psnr,
    }
    return file.Model(run.config.spec, weights_of(state.average), run.config.name, recipe)


def without_folders(config: Config) -> dict[str, Any]:
    """The config with folders and files reduced to their names: what travels with the weights."""
    plain = to_dict(config)
    for table in ("data", "training"):
        for key, value in plain[table].items():
            if isinstance(value, str) and os.sep in value:
                plain[table][key] = Path(value).name
    return plain


def _greeting(run: Run, state: State) -> str:
    count = sum(p.numel() for p in state.network.parameters())
    start = f"from step {state.step}" if state.step else "from the start"
    pictures, device = len(run.crops.pairs), run.place.device
    return f"{run.config.name}: {count:,} parameters, {pictures} pictures, on {device}, {start}"
