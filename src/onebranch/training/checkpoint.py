"""Checkpoints: everything that training needs to resume bit for bit, in one safetensors file, never pickle.

`model.file.read` takes the averaged weights of such a file as a model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from onebranch.atomic_files import write_atomically
from onebranch.errors import OnebranchError
from onebranch.nn.network import Network
from onebranch.spec.renamed_keys import translate_config


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run, which a checkpoint holds beside its tensors.

    step: steps done. frozen: True if BN is frozen. threads, prelu, compiled: the choices made for a machine,
    on which the last bits of results depend. config: the resolved config. psnr: that of the last validation,
    in dB. core_seconds: processor time of the run so far.
    """

    step: int
    frozen: bool
    threads: int
    config: dict[str, Any]
    psnr: float | None
    prelu: str = "relu"
    core_seconds: float = 0.0
    compiled: bool = False


def write(
    path: Path, network: Network, average: Network, optimizer: torch.optim.Optimizer, progress: RunProgress
) -> None:
    """Write a checkpoint atomically, replacing an older one. Raises OnebranchError on failure."""
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{k}": v.contiguous() for k, v in state.items() if isinstance(v, Tensor)
        }
    write_atomically(path, save(tensors, {"facts": json.dumps(progress.__dict__)}), overwrite=True)


def read_progress(path: Path) -> RunProgress:
    """The progress in a checkpoint. Raises OnebranchError if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            stored = json.loads((file.metadata() or {})["facts"])
        return RunProgress(**{**stored, "config": translate_config(stored["config"])})
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise OnebranchError(
            f"{path}: not a readable checkpoint ({error}); delete it to start over"
        ) from None


def restore(path: Path, network: Network, average: Network, optimizer: torch.optim.Optimizer) -> None:
    """Load the tensors of a checkpoint into the network, its average and the optimizer, in place."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    try:
        network.load_state_dict(_with_prefix(tensors, "network."))
        average.load_state_dict(_with_prefix(tensors, "average."))
        state = optimizer.state_dict()
        state["state"] = _optimizer_state(_with_prefix(tensors, "optimizer."))
        optimizer.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise OnebranchError(f"{path}: this checkpoint does not fit the config: {error}") from None


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    return state
