"""How the steps of a run are computed on this machine: PReLU, threads, and whether PyTorch compiles them."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onebranch.errors import OnebranchError
from onebranch.nn.network import Network
from onebranch.nn.prelu import PRELU_COMPUTATIONS
from onebranch.training.config import Training
from onebranch.training.objective import Objective
from onebranch.training.process import Process
from onebranch.training.state import State

STEPS_WORTH_COMPILING = 5000
"""Shorter runs are not compiled by default: compiling takes 20 to 60 seconds."""

GRAPHS_LIMIT = 64
"""Most compiled graphs of a process; every network, forward mode and size of a batch takes one."""


@dataclass(frozen=True)
class Trial:
    """Forward and backward passes of one batch, which change neither weights nor buffers."""

    state: State
    objective: Objective
    process: Process
    inputs: Tensor
    labels: Tensor

    def seconds(self, runner: Callable[[Tensor], Tensor]) -> float:
        """The median time of a forward and backward pass."""
        buffers = {name: value.clone() for name, value in self.state.network.named_buffers()}
        seconds = []
        try:
            for _ in range(4):
                start = time.perf_counter()
                with self.process.autocast():
                    loss = self.objective(runner, self.inputs, self.labels)
                loss.backward()  # type: ignore[no-untyped-call]
                seconds.append(time.perf_counter() - start)
        finally:
            self.state.optimizer.zero_grad(set_to_none=True)
            for name, value in self.state.network.named_buffers():
                value.copy_(buffers[name])
        return float(np.median(seconds[1:]))


def choose_computation(trial: Trial, options: Training) -> None:
    """Set how PReLU is computed, the number of threads, and whether steps are compiled, in the trial's state.

    What a checkpoint has chosen stays. Raises OnebranchError if steps must be compiled but cannot be.
    """
    state = trial.state
    if state.compiled is None:
        state.compiled = wants_compiled(options, trial.process)
    if state.prelu == "auto":  # compiled, PyTorch's own operation is as fast as any
        state.prelu = "native" if state.compiled else _fastest_prelu(trial)
    state.network.set_prelu(state.prelu)
    state.threads = state.threads or _fastest_threads(trial)
    torch.set_num_threads(state.threads)


def wants_compiled(options: Training, process: Process) -> bool:
    """Whether the steps of a run should be compiled.

    Only runs of one process on the CPU that train one network alone can be. Raises OnebranchError if the
    config demands more.
    """
    alone = options.teacher is None and not options.restorer_learns
    possible = process.device.type == "cpu" and process.world_size == 1 and alone
    if options.compile == "always" and not possible:
        raise OnebranchError(
            "config: 'training.compile' = \"always\" is for one process on the CPU, without"
            " 'training.teacher' and 'training.restorer_learns'; leave it out"
        )
    return (
        possible
        and options.compile != "never"
        and (options.compile == "always" or options.steps >= STEPS_WORTH_COMPILING)
    )


def compiled(network: Network) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled with its backward pass when it first runs.

    Pointwise operations between convolutions are fused; the network itself stays as it is. Every size
    of a batch is compiled on its own, so that a resumed run computes the same bits. The first run raises
    RuntimeError, OSError or ImportError where compiling fails, such as without a C++ compiler.
    """
    from torch._inductor import config as inductor

    inductor.compile_threads = 1  # no pool of processes, which would outlive a killed run
    torch._dynamo.config.recompile_limit = GRAPHS_LIMIT
    run: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    return run


def compile_steps(trial: Trial, options: Training, report: Callable[[str], None]) -> None:
    """Compile the steps for the trial's batch, or say why that is impossible and go on without.

    Raises OnebranchError if they must be compiled but cannot be.
    """
    state = trial.state
    report(f"step {state.step}: compiling, which takes up to a minute")
    torch._dynamo.reset()  # graphs that are no longer used count towards the limit
    try:
        trial.seconds(compiled(state.network))
    except (RuntimeError, OSError, ImportError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        if options.compile == "always":
            raise OnebranchError(
                f"config: 'training.compile' = \"always\", but torch.compile fails: {reason}; install a C++"
                ' compiler (g++ or clang) if there is none, or use "never"'
            ) from None
        report(f"steps are not compiled from here on, and slower: {reason}")
        state.compiled = False
        if options.prelu == "auto":
            state.prelu = _fastest_prelu(trial)
            state.network.set_prelu(state.prelu)


def _fastest_prelu(trial: Trial) -> str:
    """The fastest way to compute PReLU on this machine, found by timing a few steps on one thread.

    A GPU takes PyTorch's own operation: it is a single one there.
    """
    if trial.process.device.type == "cuda":
        return "native"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {}
    for name in PRELU_COMPUTATIONS:
        trial.state.network.set_prelu(name)
        seconds[name] = trial.seconds(trial.state.network)
    torch.set_num_threads(threads)
    return min(seconds, key=lambda name: seconds[name])


def _fastest_threads(trial: Trial) -> int:
    """The number of threads at which a few steps of the real batch are fastest; no weight changes."""
    cores, process = os.cpu_count() or 1, trial.process
    if process.device.type != "cpu" or process.world_size > 1:
        return max(1, cores // process.world_size)
    seconds: dict[int, float] = {}
    for threads in sorted({cores, *(2**k for k in range(8) if 2**k <= cores)}):
        torch.set_num_threads(threads)
        seconds[threads] = trial.seconds(trial.state.network)
    # Each thread counts as 2 % more time, so that nearly equal times favour fewer threads.
    return min(seconds, key=lambda threads: seconds[threads] * (1 + 0.02 * threads))
