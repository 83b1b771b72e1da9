"""How the steps of a run are computed on this machine: PReLU, threads, compiled by PyTorch or not."""

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
        for _ in range(4):
            start = time.perf_counter()
            with self.process.autocast():
                loss = self.objective(runner, self.inputs, self.labels)
            loss.backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - start)
        self.state.optimizer.zero_grad(set_to_none=True)
        for name, value in self.state.network.named_buffers():
            value.copy_(buffers[name])
        return float(np.median(seconds[1:]))


def choose(trial: Trial, options: Training, report: Callable[[str], None]) -> None:
    """Set how PReLU is computed, the number of threads, and whether steps are compiled, in the trial's state.

    report: called with a line for the log where compiling fails. Raises OnebranchError if it fails although
    the config demands it.
    """
    state = trial.state
    wanted = wants_compiled(options, trial.process)
    if wanted and options.prelu == "auto":
        state.prelu = "native"  # compiled, PyTorch's own operation is as fast as any
    elif state.prelu == "auto":
        state.prelu = _fastest_prelu(trial)
    state.network.set_prelu(state.prelu)
    state.threads = state.threads or _fastest_threads(trial)
    torch.set_num_threads(state.threads)
    if wanted:
        _compile(trial, options, report)


def wants_compiled(options: Training, process: Process) -> bool:
    """Whether the steps of a run should be compiled; only those of one process on the CPU can be."""
    if options.compile == "never" or process.device.type != "cpu" or process.world_size > 1:
        return False
    return options.compile == "always" or options.steps >= STEPS_WORTH_COMPILING


def compiled(network: Network) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled with its backward pass when it first runs.

    Passes over feature maps between convolutions are joined; the network itself stays as it is. Raises
    RuntimeError at the first run where compiling fails, such as without a C++ compiler.
    """
    from torch._inductor import config as inductor

    inductor.compile_threads = 1  # no pool of processes, which would outlive a killed run
    run: Callable[[Tensor], Tensor] = torch.compile(network)
    return run


def _compile(trial: Trial, options: Training, report: Callable[[str], None]) -> None:
    """Compile the steps, or say why that is impossible."""
    state = trial.state
    try:
        trial.seconds(compiled(state.network))
        state.compiled = True
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "unknown")
        if options.compile == "always":
            raise OnebranchError(
                f"config: 'training.compile' = \"always\", but torch.compile fails: {reason}; install a C++"
                ' compiler (g++ or clang), or use "auto"'
            ) from None
        report(f"steps are not compiled, and slower: {reason}")
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
