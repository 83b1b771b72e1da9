"""The training loop, for one process or many (torchrun). A stopped run resumes bit for bit."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from onebranch.atomic_files import remove_leftovers
from onebranch.errors import OnebranchError, counted_noun
from onebranch.model import file
from onebranch.nn.network import weights_of
from onebranch.training import ema
from onebranch.training import log as logs
from onebranch.training.batches import Batches, prefetched, worker_count
from onebranch.training.computation import Trial, choose_computation, compile_steps
from onebranch.training.config import Config, Training, to_dict
from onebranch.training.crops import Crops
from onebranch.training.objective import Objective, objective_of
from onebranch.training.picture_cache import Pairs, load_pairs, training_source
from onebranch.training.process import Process, join
from onebranch.training.schedule import Schedule
from onebranch.training.state import State, freeze, freeze_step, initial_state, prepare, resume, save
from onebranch.training.step import OptimizationStep
from onebranch.training.validation import validated, validation_pairs

STATISTICS_BATCHES = 64
"""Batches over which population statistics are estimated when BN is frozen, and for averaged weights."""

CHECKPOINT_SECONDS = 120.0
"""Seconds after which a checkpoint is written in any case: a killed run loses two minutes at most."""

RECORD_EVERY = 100
"""Steps between two records of the loss."""


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run that stay constant during training."""

    config: Config
    out: Path
    process: Process
    crops: Crops
    schedule: Schedule
    objective: Objective
    validation: Pairs | None

    @property
    def checkpoint(self) -> Path:
        """The file that the run resumes from."""
        return self.out / "checkpoint.safetensors"

    def statistics_inputs(self) -> Iterator[Tensor]:
        """Fixed batches for population statistics: those of the steps that would follow the last one."""
        options = self.config.training
        for index in range(STATISTICS_BATCHES):
            inputs, _ = self.crops.batch(options.steps + index, range(options.batch_size))
            yield self.process.tensor(inputs)


def train(
    config: Config,
    out: Path,
    *,
    resumes: bool = True,
    shown: bool = True,
    limit_seconds: float | None = None,
) -> Path:
    """Train the network of `config` in the folder `out`; returns the path of the trained model file.

    The folder holds checkpoint.safetensors, log.jsonl, log.png and NAME.safetensors (averaged weights). A run
    that was stopped resumes from its checkpoint, bit for bit on one machine and thread count, unless
    `resumes` is false. After `limit_seconds` it writes a checkpoint and returns that file, which is a usable
    model too. Raises OnebranchError for mistakes that the user can correct.
    """
    process = join(config.training)
    run = _run(config, out, process)
    state = initial_state(config, process)
    if run.checkpoint.exists() and resumes:
        resume(state, run.checkpoint, config)
    elif process.is_main:
        run.checkpoint.unlink(missing_ok=True)
    if process.is_main:
        remove_leftovers(out)
    with logs.Log(out / "log.jsonl", config.training.steps, state.step, process.is_main, shown) as log:
        log.print(_greeting(run, state))
        prepare(state, config.training, process)
        choose_computation(_first_trial(run, state), config.training)
        _loop(run, state, log, None if limit_seconds is None else time.monotonic() + limit_seconds)
    if state.step < config.training.steps:
        process.leave()
        return run.checkpoint
    target = out / f"{config.name}.safetensors"
    if process.is_main:
        _write_models(run, state, target)
        logs.plot(logs.read(out / "log.jsonl"), config.name, out / "log.png")
    process.leave()
    return target


def _first_trial(run: TrainingRun, state: State) -> Trial:
    """A trial of this process's share of the first batch."""
    share = run.process.share(run.config.training.batch_size)
    inputs, labels = (run.process.tensor(half) for half in run.crops.batch(0, share))
    return Trial(state, run.objective, run.process, inputs, labels)


def _run(config: Config, out: Path, process: Process) -> TrainingRun:
    """Make the folder, decode the pictures (in one process, while the others wait) and map them."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(
            f"{out}: cannot make this folder: {error.strerror}; choose another --out"
        ) from None
    data, spec = config.data, config.spec
    # Rank 0 decodes the pictures into the cache while the other processes wait here; then they only map it.
    if not process.is_main:
        process.wait_for_all()
    pairs = load_pairs(training_source(data, spec), spec, Path(data.cache), data.patch_size)
    validation = validation_pairs(data, spec) if process.is_main else None
    if process.is_main:
        process.wait_for_all()
    crops = Crops(pairs, spec, data, config.seed)
    return TrainingRun(
        config, out, process, crops, Schedule(config), objective_of(config, process), validation
    )


def _loop(run: TrainingRun, state: State, log: logs.Log, deadline: float | None) -> None:
    """The remaining steps, or those until `deadline` (of the monotonic clock, in seconds)."""
    options = run.config.training
    schedule, progress = run.schedule, _Progress(state.step)
    batches = Batches(run.crops, schedule, run.process, state.step, options.steps)
    step = None
    for inputs, labels in prefetched(batches, worker_count(options.workers, run.process)):
        if _must_freeze(state, options):
            freeze(state, options, run.statistics_inputs())
            step = None
            log.print(f"step {state.step}: batch normalization frozen to its population statistics")
        stage = schedule.stage(state.step)
        if step is None or step.stage != stage:
            if state.compiled:
                trial = Trial(state, run.objective, run.process, inputs, labels)
                compile_steps(trial, options, log.print)
            step = OptimizationStep(state, run.objective, run.process, options, stage)
        step.run(inputs, labels, schedule.learning_rate(state.step), run.checkpoint)
        ends = state.step == options.steps or (deadline is not None and time.monotonic() >= deadline)
        if run.process.is_main:
            _report_and_save(run, step, log, progress, ends)
        if ends:
            return


@dataclass
class _Progress:
    """The step and the time of the last record, and the time of the last checkpoint (monotonic clock)."""

    step: int
    recorded: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)


def _report_and_save(
    run: TrainingRun, step: OptimizationStep, log: logs.Log, progress: _Progress, ends: bool
) -> None:
    """Log the loss, validate and write a checkpoint, each if it is due; at the end, do all three."""
    options, state = run.config.training, step.state
    stage_ends = state.step == step.stage.end
    if ends or stage_ends or state.step % RECORD_EVERY == 0:
        _record(run, step, log, progress)
    if run.validation and (state.step == options.steps or state.step % options.validate_every == 0):
        _validate(run, state, log)
        progress.recorded = time.monotonic()
    seconds = time.monotonic() - progress.saved
    if ends or stage_ends or state.step % options.checkpoint_every == 0 or seconds > CHECKPOINT_SECONDS:
        step.check_finite(run.checkpoint)
        save(run.checkpoint, run.config, state)
        progress.saved = time.monotonic()


def _must_freeze(state: State, options: Training) -> bool:
    """True if BN must be frozen before the next step."""
    return not state.frozen and state.step >= freeze_step(options) and bool(state.network.batch_norms())


def _record(run: TrainingRun, step: OptimizationStep, log: logs.Log, progress: _Progress) -> None:
    """Log the mean loss and the speed of the last steps; pixels are those of the low-resolution pictures."""
    loss, number = step.mean_loss(run.checkpoint), step.state.step
    seconds = max(time.monotonic() - progress.recorded, 1e-9)
    pixels = run.schedule.pixels(number) - run.schedule.pixels(progress.step)
    log.record(
        number,
        loss=loss,
        steps_per_second=round((number - progress.step) / seconds, 2),
        megapixels_per_second=round(1e-6 * pixels / seconds, 4),
        gigapixels=round(1e-9 * run.schedule.pixels(number), 4),
        core_seconds=round(step.state.total_core_seconds, 1),
    )
    progress.step, progress.recorded = number, time.monotonic()


def _validate(run: TrainingRun, state: State, log: logs.Log) -> None:
    assert run.validation is not None
    config = run.config
    state.psnr = validated(
        state,
        run.validation,
        run.objective,
        config.spec,
        config.data.degradation,
        run.process,
        run.statistics_inputs(),
    )
    core_seconds = round(state.total_core_seconds, 1)
    log.record(state.step, psnr=state.psnr, core_seconds=core_seconds)


def _write_models(run: TrainingRun, state: State, target: Path) -> None:
    """Write the trained model, and the restorer next to it if it was trained as well."""
    model = _finished(run, state)
    if (restorer := state.average.restorer) is not None:
        name = f"{model.name}-restorer"
        partner = file.Model(restorer.spec, weights_of(restorer), name, model.recipe)
        file.write(partner, target.with_name(f"{name}.safetensors"), overwrite=True)
    file.write(model, target, overwrite=True)


def _finished(run: TrainingRun, state: State) -> file.Model:
    """The trained model: the averaged weights and a summary of their training."""
    if not state.frozen:
        ema.estimate_statistics(state.average, run.statistics_inputs())
    recipe = {
        "config": without_folders(run.config),
        "steps": state.step,
        "pictures": len(run.crops.pairs),
        "core_hours": round(state.total_core_seconds / 3600, 3),
        "gigapixels": round(1e-9 * run.schedule.pixels(state.step), 4),
        "batch_norm_frozen": state.frozen or not state.network.batch_norms(),
        "validation_psnr": state.psnr,
    }
    if state.scales_from:
        recipe["scales_from"] = state.scales_from
    return file.Model(run.config.spec, weights_of(state.average), run.config.name, recipe)


def without_folders(config: Config) -> dict[str, Any]:
    """The config as it is stored with the weights: folders and files are reduced to their names."""
    plain = to_dict(config)
    for table in ("data", "training"):
        for key, value in plain[table].items():
            if isinstance(value, str) and os.sep in value:
                plain[table][key] = Path(value).name
    return plain


def _greeting(run: TrainingRun, state: State) -> str:
    """One line: name, parameters, pictures (and those left out), device, first step."""
    count = sum(p.numel() for p in state.network.parameters())
    start = f"from step {state.step}" if state.step else "from the start"
    pairs = run.crops.pairs
    skipped = f" ({pairs.too_small} smaller than a patch left out)" if pairs.too_small else ""
    skipped += f" ({len(pairs.unreadable)} unreadable left out)" if pairs.unreadable else ""
    return (
        f"{run.config.name}: {count:,} parameters, {counted_noun(len(pairs), 'picture')}{skipped},"
        f" on {run.process.device}, {start}"
    )
