"""One optimization step, on a GPU captured once as a CUDA graph and replayed.

Small networks consist of short operations, so that starting each of them takes longer than computing it; a
graph starts all of them at once (Accelerating PyTorch with CUDA Graphs, Nguyen et al., 2021).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from onebranch.errors import OnebranchError
from onebranch.nn.network import Network
from onebranch.training import ema
from onebranch.training.computation import compiled
from onebranch.training.config import Training
from onebranch.training.objective import Objective
from onebranch.training.optimizers import set_learning_rate
from onebranch.training.process import Process
from onebranch.training.schedule import SchedulePart
from onebranch.training.state import State

EAGER_STEPS = 3
"""Steps that run as they are before a GPU captures one, so that all memory and algorithms are chosen."""


class OptimizationStep:
    """The steps of one stage while the network runs forward in one mode.

    A new one is made when the stage or the mode changes. It keeps the sum of the losses on the device, so
    that a GPU need not be waited for at every step.
    """

    def __init__(
        self, state: State, objective: Objective, process: Process, options: Training, stage: SchedulePart
    ) -> None:
        self.state, self.process, self.stage = state, process, stage
        self.objective = replace(objective, loss=stage.settings.loss)
        self.gradient_limit = options.grad_clip_norm or float("inf")
        self.runner = compiled(state.network) if state.compiled else _runner(state.network, process)
        self.captures = (
            process.device.type == "cuda" and process.world_size == 1 and options.optimizer != "sgd"
        )
        self.ema_share = torch.zeros((), device=process.device, dtype=process.dtype)
        self.loss_sum = torch.zeros((), device=process.device, dtype=torch.float64)
        self.summed_steps = self.eager_steps = 0
        self.captured: tuple[Tensor, Tensor, Callable[[], None]] | None = None
        state.network.train()

    def run(self, inputs: Tensor, labels: Tensor, learning_rate: float, checkpoint: Path) -> None:
        """Update the weights and their average for one batch.

        Raises OnebranchError if the loss or the gradient is not finite: on the CPU before any weight
        changes, on a GPU at the latest when the mean loss is taken, before a checkpoint is written.
        """
        state = self.state
        set_learning_rate(state.optimizer, learning_rate)
        share = ema.rate(self.stage.settings.ema_decay, state.step)
        if self.captures:
            self._compute_on_gpu(inputs, labels, share)
        else:
            self._compute(inputs, labels, share, checkpoint)
        self.summed_steps += 1
        state.step += 1

    def mean_loss(self, checkpoint: Path) -> float:
        """The mean loss since the last call. Raises OnebranchError if it is not finite."""
        self.check_finite(checkpoint)
        mean = float(self.loss_sum) / max(1, self.summed_steps)
        self.loss_sum.zero_()
        self.summed_steps = 0
        return mean

    def check_finite(self, checkpoint: Path) -> None:
        """Raise OnebranchError if the loss or the gradient of a step was not finite."""
        total = float(self.loss_sum)
        _check_finite(total, total, self.state.step, checkpoint)

    def _compute(
        self, inputs: Tensor, labels: Tensor, share: float | Tensor, checkpoint: Path | None
    ) -> None:
        """Run one step. If `checkpoint` is given, the loss is checked first, which waits for the device."""
        state = self.state
        state.optimizer.zero_grad(set_to_none=True)
        with self.process.autocast():
            loss = self.objective(self.runner, inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), self.gradient_limit, foreach=True)
        if checkpoint is not None:
            _check_finite(float(loss.detach()), float(norm), state.step, checkpoint)
        state.optimizer.step()
        ema.update(state.average, state.network, share)
        self.loss_sum += torch.where(torch.isfinite(norm), loss.detach(), norm)

    def _compute_on_gpu(self, inputs: Tensor, labels: Tensor, share: float) -> None:
        """A few steps as they are, then the captured one."""
        self.ema_share.fill_(share)
        if self.eager_steps < EAGER_STEPS:
            self._compute_aside(inputs, labels)
            self.eager_steps += 1
        else:
            self._replay(inputs, labels)

    def _compute_aside(self, inputs: Tensor, labels: Tensor) -> None:
        """A step on a separate stream, as CUDA requires before a capture."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute(inputs, labels, self.ema_share, None)
        torch.cuda.current_stream().wait_stream(stream)

    def _replay(self, inputs: Tensor, labels: Tensor) -> None:
        """Copy the batch to where the captured step reads it, and replay the step."""
        if self.captured is None:
            fixed = inputs.clone(), labels.clone()
            self.captured = (*fixed, captured(lambda: self._compute(*fixed, self.ema_share, None)))
        fixed_inputs, fixed_labels, replay = self.captured
        fixed_inputs.copy_(inputs, non_blocking=True)
        fixed_labels.copy_(labels, non_blocking=True)
        replay()


def captured(operations: Callable[[], None]) -> Callable[[], None]:
    """A function that replays the GPU operations of `operations`, which run here without any effect."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operations()
    return graph.replay


def _runner(network: Network, process: Process) -> Callable[[Tensor], Tensor]:
    """The network itself, or wrapped so that gradients are averaged over the processes."""
    if process.world_size == 1:
        return network
    return DistributedDataParallel(network, broadcast_buffers=False)  # BN statistics are equal everywhere


def _check_finite(loss: float, gradient_norm: float, step: int, checkpoint: Path) -> None:
    if np.isfinite(loss) and np.isfinite(gradient_norm):
        return
    kept = f"; the last checkpoint, {checkpoint}, is intact" if checkpoint.exists() else ""
    raise OnebranchError(
        f"training diverged at step {step}: the loss is {loss} and the norm of its gradient {gradient_norm};"
        f" lower 'training.learning_rate' or raise 'training.warmup_steps', and start again with"
        f" --restart{kept}"
    )
