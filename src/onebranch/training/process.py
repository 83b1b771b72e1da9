"""The process that trains: its rank among those of the run, its device and its precision."""

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed

from onebranch.errors import OnebranchError
from onebranch.training.config import Training


@dataclass(frozen=True)
class Process:
    """One of the run's processes (the only one, unless torchrun started several)."""

    rank: int
    world_size: int
    """Number of processes."""
    device: torch.device
    dtype: torch.dtype
    """Type of the weights."""
    autocasts: bool
    """True if the blocks compute in bfloat16."""

    @property
    def is_main(self) -> bool:
        """True for rank 0, which writes the files and logs."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Indices of the global batch that this process computes."""
        if batch_size % self.world_size:
            raise OnebranchError(
                f"config: 'training.batch_size' ({batch_size}) must be a multiple of the {self.world_size}"
                " processes"
            )
        count = batch_size // self.world_size
        return range(self.rank * count, (self.rank + 1) * count)

    def tensor(self, values: np.ndarray | Tensor) -> Tensor:
        """Pictures (N, C, H, W) on the device, channels last, which is a quarter faster on CPUs."""
        pictures = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        moved = pictures.to(self.device, self.dtype, non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which blocks compute in bfloat16, where the config asks for it."""
        if not self.autocasts:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self.world_size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Leave the group of processes."""
        if self.world_size > 1:
            distributed.destroy_process_group()


def join(options: Training) -> Process:
    """Join the process group. Raises OnebranchError if a GPU is requested but not available."""
    _keep_freed_memory()
    rank, world_size = 0, int(os.environ.get("WORLD_SIZE", "1"))
    device = _device(options)
    if world_size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    dtype = torch.float64 if options.precision == "float64" else torch.float32
    return Process(rank, world_size, device, dtype, options.precision == "bfloat16")


def _device(options: Training) -> torch.device:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise OnebranchError(
            "config: training.device = 'cuda', but PyTorch finds no GPU; use 'auto' or 'cpu'"
        )
    if options.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _keep_freed_memory() -> None:
    """Let the C library keep the memory that a step frees: mapping it again takes a fifth of a step.

    Only glibc has these settings (mallopt: M_MMAP_THRESHOLD -3, M_TRIM_THRESHOLD -1).
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for setting in (-3, -1):
            library.mallopt(setting, 1 << 30)
