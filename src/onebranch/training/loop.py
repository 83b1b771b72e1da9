"""The training loop: reads top to bottom, one process or many (torchrun), resumable bit for bit."""

import ctypes
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from onebranch.errors import OnebranchError
from onebranch.model import catalogue, file
from onebranch.nn.block import Mode
from onebranch.nn.network import Network, load, weights_of
from onebranch.spec.network import NetworkSpec
from onebranch.training import average as ema
from onebranch.training import checkpoint
from onebranch.training import log as logs
from onebranch.training.config import Config, Training, to_dict
from onebranch.training.crops import Crops, Pairs, channels_first, load_pairs

STATISTICS_BATCHES = 64
"""Batches over which population statistics are estimated when BN is frozen, and for averaged weights."""

CHECKPOINT_SECONDS = 120.0
"""A checkpoint is written at least this often, so that a kill loses two minutes at most."""

RECORD_EVERY = 100
"""Steps between two records of the loss."""

VALIDATION_SIGMA = 25.0
"""Noise level (8-bit grey levels) of the validation PSNR of a denoiser."""


@dataclass(frozen=True)
class World:
    """Which process this is, of how many (one, unless torchrun started several)."""

    rank: int
    size: int

    def share(self, batch: int) -> range:
        """Indices of the global batch that this process takes."""
        if batch % self.size:
            raise OnebranchError(
                f"config: 'training.batch' ({batch}) must be a multiple of the {self.size} processes"
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)


@dataclass
class State:
    """Everything that changes while training."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    step: int
    frozen: bool
    threads: int
    psnr: float | None


def train(config: Config, out: Path, *, resume: bool = True, shown: bool = True) -> Path:
    """Train as `config` says, in the folder `out`; returns the path of the trained model file.

    The folder holds checkpoint.safetensors, log.jsonl, log.png and NAME.safetensors (averaged weights). A run
    that was stopped goes on from its checkpoint, bit for bit on one machine and thread count.
    Raises OnebranchError for whatever the user can mend.
    """
    spec, options = config.spec, config.training
    _keep_freed_memory()
    world = _join_world()
    device = _device(options)
    dtype = torch.float64 if options.precision == "float64" else torch.float32
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnebranchError(
            f"{out}: cannot make this folder: {error.strerror}; choose another --out"
        ) from None
    cache = Path(config.data.cache)
    if world.rank == 0:
        load_pairs(config.data.train, config.data.low_quality, spec, cache, config.data.patch)
    _wait(world)
    pairs = load_pairs(config.data.train, config.data.low_quality, spec, cache, config.data.patch)
    crops = Crops(pairs, spec, config.data, config.seed)
    checked = _validation(config, spec, cache) if world.rank == 0 else None

    state = _fresh(config, spec, device, dtype)
    path = out / "checkpoint.safetensors"
    if resume and path.exists():
        _resume(state, path, config)
    elif path.exists():
        path.unlink()
    objective = _objective(config, device, dtype)
    with logs.Log(out / "log.jsonl", options.steps, state.step, shown and world.rank == 0) as log:
        log.say(_greeting(config, spec, pairs, state, device))
        _prepare(state, options, world, device)
        if not state.threads:
            state.threads = _choose_threads(options, state, crops, world, objective, device, dtype)
        torch.set_num_threads(state.threads)
        _loop(config, crops, state, world, objective, checked, path, log, device, dtype)
    if world.rank == 0:
        model = _finished(config, spec, state, crops, device, dtype)
        target = out / f"{config.name}.safetensors"
        file.write(model, target, overwrite=True)
        logs.plot(logs.read(out / "log.jsonl"), config.name, out / "log.png")
    _leave(world)
    return out / f"{config.name}.safetensors"


def _loop(
    config: Config,
    crops: Crops,
    state: State,
    world: World,
    objective: "Objective",
    checked: Pairs | None,
    path: Path,
    log: logs.Log,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """The steps that are left."""
    options, spec = config.training, config.spec
    frozen_from = _freeze_step(options)
    runner = _runner(state.network, world)
    batches = _prefetched(crops, state.step, options.steps, world.share(options.batch), device, dtype)
    losses: list[Tensor] = []
    clock, written = time.monotonic(), time.monotonic()
    for inputs, labels in batches:  # (N, C, h, w), (N, C, H, W)
        if state.network.batch_norms() and not state.frozen and state.step >= frozen_from:
            _freeze(state, crops, options, device, dtype)
            runner = _runner(state.network, world)
            log.say(f"step {state.step}: batch normalization frozen to its population statistics")
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(options, state.step)
        state.network.train()
        state.optimizer.zero_grad(set_to_none=True)
        with _autocast(options, device):
            loss = objective(runner, inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if options.clip:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip, foreach=True)
        state.optimizer.step()
        ema.update(state.average, state.network, options.average, state.step)
        state.step += 1
        losses.append(loss.detach())
        if world.rank:
            continue
        if state.step % RECORD_EVERY == 0 or state.step == options.steps:
            mean = float(torch.stack(losses).mean())
            if not np.isfinite(mean):
                raise OnebranchError(
                    f"the loss is {mean} at step {state.step}; lower 'training.learning_rate' or raise"
                    " 'training.warm_up', and start again with --restart"
                )
            rate = len(losses) / (time.monotonic() - clock)
            log.record(state.step, loss=mean, steps_per_second=round(rate, 2))
            losses, clock = [], time.monotonic()
        if checked and (state.step % options.validate_every == 0 or state.step == options.steps):
            state.psnr = _validated(state, crops, checked, objective, spec, options, device, dtype)
            log.record(state.step, psnr=state.psnr)
            clock = time.monotonic()
        due = state.step % options.checkpoint_every == 0 or time.monotonic() - written > CHECKPOINT_SECONDS
        if due or state.step == options.steps:
            _save(path, config, state)
            written = time.monotonic()


def learning_rate(options: Training, step: int) -> float:
    """The rate of a step: linear warm-up, then a cosine from `learning_rate` to `final_rate`."""
    if step < options.warm_up:
        return options.learning_rate * (step + 1) / options.warm_up
    done = (step - options.warm_up) / max(1, options.steps - options.warm_up)
    half = (1 + np.cos(np.pi * min(1.0, done))) / 2
    return float(options.final_rate + (options.learning_rate - options.final_rate) * half)


@dataclass(frozen=True)
class Objective:
    """The loss of a batch; for downscale with a restorer, also the loss after enlarging again."""

    options: Training
    restorer: Network | None

    def __call__(self, runner: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of inputs (N, C, h, w) against labels (N, C, H, W)."""
        outputs = runner(inputs)
        loss = difference(self.options.loss, outputs, labels)
        if self.restorer is None:
            return loss
        restored = self.restored(outputs, inputs.shape)
        again = difference(self.options.loss, restored, inputs)
        return self.options.picture_weight * loss + self.options.restorer_weight * again

    def restored(self, small: Tensor, shape: torch.Size) -> Tensor:
        """The reduced picture rounded to 8 bits (gradient passed through) and enlarged again."""
        assert self.restorer is not None
        clipped = small.clamp(0, 1)
        rounded = clipped + ((clipped * 255).round() / 255 - clipped).detach()
        enlarged: Tensor = self.restorer(rounded)
        return enlarged[..., : shape[2], : shape[3]]


def difference(loss: str, outputs: Tensor, labels: Tensor) -> Tensor:
    """L1, Charbonnier (epsilon 1e-3) or mean squared error, averaged over everything."""
    if loss == "mse":
        return functional.mse_loss(outputs, labels)
    if loss == "charbonnier":
        return torch.sqrt((outputs - labels) ** 2 + 1e-6).mean()
    return functional.l1_loss(outputs, labels)


def _objective(config: Config, device: torch.device, dtype: torch.dtype) -> Objective:
    name = config.training.restorer
    if not name:
        return Objective(config.training, None)
    model = file.read(catalogue.find(name))
    if (model.spec.task, model.spec.scale, model.spec.colour) != (
        "upscale",
        config.spec.scale,
        config.spec.colour,
    ):
        raise OnebranchError(
            f"config: 'training.restorer' must upscale x{config.spec.scale} in '{config.spec.colour}',"
            f" not {model.spec.task} x{model.spec.scale} in '{model.spec.colour}'"
        )
    restorer = load(model.spec, model.weights).to(device, dtype).requires_grad_(False)
    return Objective(config.training, restorer)


def _fresh(config: Config, spec: NetworkSpec, device: torch.device, dtype: torch.dtype) -> State:
    """The state before the first step; the weights depend on the seed alone, or come from `init_from`."""
    torch.manual_seed(config.seed)
    network = Network(spec)
    if config.training.init_from:
        initialize_from(network, file.read(catalogue.find(config.training.init_from)))
    network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = config.training
    if options.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            network.parameters(), lr=options.learning_rate, foreach=True
        )
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=options.learning_rate, foreach=True)
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


def _resume(state: State, path: Path, config: Config) -> None:
    """Load a checkpoint of the same config; OnebranchError names what differs."""
    facts = checkpoint.read_facts(path)
    now, then = json.loads(json.dumps(to_dict(config))), facts.config
    different = [
        f"{table}.{key}" if isinstance(now[table], dict) else table
        for table in now
        for key in (now[table] if isinstance(now[table], dict) else [table])
        if _value(now, table, key) != _value(then, table, key)
    ]
    if different:
        raise OnebranchError(
            f"{path}: this run was started with another config ({', '.join(different)} differ);"
            " use --restart, or another --out"
        )
    if facts.frozen:
        state.network.freeze_batch_norms()
        state.average.freeze_batch_norms()
    checkpoint.restore(path, state.network, state.average, state.optimizer)
    state.step, state.frozen, state.psnr = facts.step, facts.frozen, facts.psnr
    state.threads = facts.threads


def _value(config: dict[str, Any], table: str, key: str) -> Any:
    """One setting; folders do not count, so that a run can move to another machine."""
    if table == "data" and key in ("train", "validation", "cache", "low_quality", "validation_low_quality"):
        return None
    inner = config.get(table)
    return inner.get(key) if isinstance(inner, dict) else inner


def _save(path: Path, config: Config, state: State) -> None:
    facts = checkpoint.Facts(state.step, state.frozen, state.threads, to_dict(config), state.psnr)
    checkpoint.write(path, state.network, state.average, state.optimizer, facts)


def _freeze_step(options: Training) -> int:
    """The step from which BN is frozen; never, where the fraction is 0."""
    if options.freeze_batch_norm == 0:
        return options.steps + 1
    return options.steps - round(options.steps * options.freeze_batch_norm)


def _freeze(state: State, crops: Crops, options: Training, device: torch.device, dtype: torch.dtype) -> None:
    """Estimate the population statistics, freeze them, and let the average start anew from here.

    From now on the statistics are constants of the optimized function; the average shares them, since an
    average of weights that were trained with these constants is only meaningful with the same ones.
    """
    ema.estimate_statistics(state.network, _statistics_inputs(crops, options, device, dtype))
    state.network.freeze_batch_norms()
    state.average.freeze_batch_norms()
    state.average.load_state_dict(state.network.state_dict())
    state.frozen = True
    state.network.set_mode(_mode(options, state))
    state.average.set_mode(_mode(options, state))


def _statistics_inputs(
    crops: Crops, options: Training, device: torch.device, dtype: torch.dtype
) -> Iterator[Tensor]:
    """Fixed batches for population statistics: those of the steps after the last one."""
    for index in range(STATISTICS_BATCHES):
        inputs, _ = crops.batch(options.steps + index, range(options.batch))
        yield _tensor(inputs, device, dtype)


def _mode(options: Training, state: State) -> Mode:
    """How blocks run forward now; `auto`: merged as soon as that is defined."""
    if options.forward == "auto":
        return "merged" if state.frozen or not state.network.batch_norms() else "branches"
    return options.forward


def _prepare(state: State, options: Training, world: World, device: torch.device) -> None:
    """Refuse what cannot be, freeze from the first step where asked, and set the forward mode."""
    norms = state.network.batch_norms()
    if norms and not state.frozen and _freeze_step(options) <= 0:
        state.network.freeze_batch_norms()
        state.average.freeze_batch_norms()
        state.frozen = True
    if norms and world.size > 1 and not state.frozen and device.type == "cpu":
        raise OnebranchError(
            "batch normalization over several processes synchronizes on GPUs only; on CPU use one process,"
            " blocks without BN, or freeze_batch_norm = 1.0"
        )
    if norms and world.size > 1:
        state.network.synchronize_batch_norms()
    if not (options.forward == "merged" and norms and not state.frozen):
        state.network.set_mode(_mode(options, state))
        state.average.set_mode(_mode(options, state))
        return
    state.network.set_mode("merged")  # raises: says why it cannot be


def _runner(network: Network, world: World) -> Callable[[Tensor], Tensor]:
    """The network itself, or wrapped so that gradients are averaged over the processes."""
    if world.size == 1:
        return network
    return DistributedDataParallel(network, broadcast_buffers=False)  # BN statistics are equal everywhere


def _prefetched(
    crops: Crops, first: int, last: int, share: range, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the steps first..last-1, prepared by a thread a few steps ahead."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=4)
    stopped = threading.Event()

    def prepare() -> None:
        try:
            for step in range(first, last):
                if stopped.is_set():
                    return
                ready.put(crops.batch(step, share))
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=prepare, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            inputs, labels = (_tensor(half, device, dtype) for half in item)
            yield inputs, labels
    finally:
        stopped.set()
        while not ready.empty():
            ready.get_nowait()


def _tensor(values: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """An array (N, C, H, W) on the device, channels last."""
    return torch.from_numpy(values).to(device, dtype).contiguous(memory_format=torch.channels_last)


def _choose_threads(
    options: Training,
    state: State,
    crops: Crops,
    world: World,
    objective: Objective,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """The number of threads at which a few steps of the real batch are fastest, no weight changed."""
    if device.type != "cpu" or world.size > 1:
        return max(1, (os.cpu_count() or 1) // world.size)
    inputs, labels = (_tensor(half, device, dtype) for half in crops.batch(0, world.share(options.batch)))
    buffers = {name: value.clone() for name, value in state.network.named_buffers()}
    seconds: dict[int, float] = {}
    for threads in sorted(
        {1, *(2**k for k in range(1, 8) if 2**k <= (os.cpu_count() or 1)), os.cpu_count() or 1}
    ):
        torch.set_num_threads(threads)
        taken = []
        for _ in range(4):
            start = time.perf_counter()
            objective(state.network, inputs, labels).backward()  # type: ignore[no-untyped-call]
            taken.append(time.perf_counter() - start)
        seconds[threads] = float(np.median(taken[1:]))
    state.optimizer.zero_grad(set_to_none=True)
    for name, value in state.network.named_buffers():
        value.copy_(buffers[name])
    return min(seconds, key=lambda threads: seconds[threads] * (1 + 0.02 * threads))


def _validation(config: Config, spec: NetworkSpec, cache: Path) -> Pairs | None:
    data = config.data
    if not data.validation:
        return None
    pairs = load_pairs(data.validation, data.validation_low_quality, spec, cache, 1)
    count = data.validation_pictures
    return replace(
        pairs,
        names=pairs.names[:count],
        high=pairs.high[:count],
        low=pairs.low[:count] if pairs.low else None,
    )


@torch.no_grad()
def _validated(
    state: State,
    crops: Crops,
    pairs: Pairs,
    objective: Objective,
    spec: NetworkSpec,
    options: Training,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """Mean PSNR of the averaged weights on the validation pictures, unrounded, `scale` pixels cropped."""
    if not state.frozen:
        ema.estimate_statistics(state.average, _statistics_inputs(crops, options, device, dtype))
    state.average.eval()
    scores = []
    for index, high in enumerate(pairs.high):
        low = pairs.low[index] if pairs.low else None
        inputs, labels = _whole_pair(spec, high, low, index)
        given, wanted = (_tensor(half[None], device, dtype) for half in (inputs, labels))
        outputs = state.average(given)
        if objective.restorer is not None:
            outputs, wanted = objective.restored(outputs, given.shape), given
        edge = slice(spec.scale, -spec.scale) if spec.task != "denoise" else slice(None)
        error = (outputs.clamp(0, 1) - wanted)[..., edge, edge].square().mean()
        scores.append(float(-10 * torch.log10(error.clamp_min(1e-12))))
    return round(float(np.mean(scores)), 4)


def _whole_pair(
    spec: NetworkSpec, high: np.ndarray, low: np.ndarray | None, index: int
) -> tuple[np.ndarray, np.ndarray]:
    large = channels_first(high, spec.colour)
    if low is not None:
        small = channels_first(low, spec.colour)
        return (large, small) if spec.task == "downscale" else (small, large)
    noise = np.random.default_rng(index).standard_normal(large.shape, np.float32)
    return large + np.float32(VALIDATION_SIGMA / 255) * noise, large


def _finished(
    config: Config, spec: NetworkSpec, state: State, crops: Crops, device: torch.device, dtype: torch.dtype
) -> file.Model:
    """The trained model: averaged weights, and a summary of how they came about."""
    if not state.frozen:
        inputs = _statistics_inputs(crops, config.training, device, dtype)
        ema.estimate_statistics(state.average, inputs)
    recipe = {
        "config": without_folders(config),
        "steps": state.step,
        "pictures": len(crops.pairs),
        "batch_norm_frozen": state.frozen or not state.network.batch_norms(),
        "validation_psnr": state.psnr,
    }
    return file.Model(spec=spec, weights=weights_of(state.average), name=config.name, recipe=recipe)


def without_folders(config: Config) -> dict[str, Any]:
    """The config with folders and files reduced to their names: what travels with the weights."""
    plain = to_dict(config)
    for table in ("data", "training"):
        for key, value in plain[table].items():
            if isinstance(value, str) and os.sep in value:
                plain[table][key] = Path(value).name
    return plain


def _greeting(config: Config, spec: NetworkSpec, pairs: Pairs, state: State, device: torch.device) -> str:
    count = sum(p.numel() for p in state.network.parameters())
    start = f"from step {state.step}" if state.step else "from the start"
    return f"{config.name}: {count:,} parameters, {len(pairs)} pictures, on {device}, {start}"


def _keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next: mapping it anew costs a fifth of a step.

    Only glibc has these settings (mallopt: M_MMAP_THRESHOLD -3, M_TRIM_THRESHOLD -1).
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for setting in (-3, -1):
            library.mallopt(setting, 1 << 30)


def _device(options: Training) -> torch.device:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise OnebranchError(
            "config: training.device = 'cuda', but PyTorch finds no GPU; use 'auto' or 'cpu'"
        )
    wants = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    if not wants:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _autocast(options: Training, device: torch.device) -> Any:
    if options.precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _join_world() -> World:
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return World(0, 1)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size())


def _wait(world: World) -> None:
    if world.size > 1:
        distributed.barrier()


def _leave(world: World) -> None:
    if world.size > 1:
        distributed.destroy_process_group()
