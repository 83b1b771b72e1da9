"""The batches of a run, prepared ahead of their step by a thread or by other processes."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onebranch.read_ahead import ReadAhead
from onebranch.training.crops import Crops
from onebranch.training.process import Process
from onebranch.training.schedule import Schedule

BATCHES_AHEAD = 4
"""Batches that wait ready for their step, for the thread and for each process."""


@dataclass(frozen=True)
class Batches(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Inputs (N, C, h, w) and labels (N, C, H, W) of the steps `first` to `end` - 1, by index from 0."""

    crops: Crops
    schedule: Schedule
    process: Process
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        step = self.first + index
        return self.crops.batch(step, self.process.share(self.schedule.stage(step).settings.batch_size))


def prefetched(batches: Batches, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches in order, on the process's device; `workers` processes prepare them, or a thread if 0."""
    source = _in_processes(batches, workers) if workers else _in_a_thread(batches)
    with source as halves:
        for inputs, labels in halves:
            yield batches.process.tensor(inputs), batches.process.tensor(labels)


def worker_count(setting: int | str, process: Process) -> int:
    """The number of processes that prepare batches; "auto": none on the CPU, all cores but one for a GPU."""
    if setting != "auto":
        return int(setting)
    if process.device.type == "cpu":
        return 0
    return max(1, (os.cpu_count() or 1) // process.world_size - 1)


def _in_processes(batches: Batches, workers: int) -> AbstractContextManager[Iterable[Any]]:
    """Forked processes share the mapped pictures; each batch is a function of its step, so order is kept."""
    loader: Iterable[Any] = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD,
        pin_memory=batches.process.device.type == "cuda",
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    return nullcontext(loader)


def _in_a_thread(batches: Batches) -> AbstractContextManager[Iterable[Any]]:
    """A batch depends on its step alone, so batches that were prepared but not used are simply dropped."""
    return ReadAhead((batches[index] for index in range(len(batches))), BATCHES_AHEAD)
