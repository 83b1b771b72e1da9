"""Networks of other programs, stored as PyTorch or safetensors weights, by the architectures of spandrel.

No code in a file is executed: PyTorch files are read with `weights_only=True`.
"""

from __future__ import annotations

import importlib
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onebranch.errors import OnebranchError

EXAMPLE_SIDES = (24, 40)
"""Height and width in pixels of the picture for which a network is converted, unless it needs others."""

UPDATE_METHODS = ("update_params",)
"""Methods by which modules compute their merged weights again whenever they run (SPAN and its relatives)."""


class PictureNetwork(torch.nn.Module):
    """A network with the picture (N, C, H, W) in [0, 1] as its only argument and the result as its output."""

    def __init__(self, network: torch.nn.Module, call: Any) -> None:
        super().__init__()
        self.network, self._call = network, call

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """The network's output for the picture, unclipped."""
        output: torch.Tensor = self._call(self.network, picture)
        return output


@dataclass(frozen=True)
class PytorchNetwork:
    """A network that was read from a file.

    architecture: its name in spandrel. scale: an integer. channels: of the input. multiple, minimum: of the
    sides of its input, in pixels. square: True if height and width must be equal.
    """

    path: Path
    module: PictureNetwork
    architecture: str
    scale: int
    channels: int
    multiple: int
    minimum: int
    square: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The next (height, width) on which the network runs."""
        sides = [max(height, width)] * 2 if self.square else [height, width]
        tall, wide = (-(-max(side, self.minimum) // self.multiple) * self.multiple for side in sides)
        return tall, wide

    def picture(self, height: int, width: int) -> torch.Tensor:
        """A random picture (1, C, H, W) of the next size on which the network runs; always the same."""
        generator = torch.Generator().manual_seed(height + width)
        return torch.rand((1, self.channels, *self.size(height, width)), generator=generator)


def read_pytorch(path: str | os.PathLike[str]) -> PytorchNetwork:
    """The network in a `.pth`, `.pt`, `.ckpt` or `.safetensors` file, in evaluation mode and float32.

    Raises OnebranchError, one line that names the file, if the file cannot be read, if it holds more than
    weights, if spandrel knows no architecture with its tensors, or if the network takes more than a picture.
    """
    file = Path(path)
    tensors, spandrel = _tensors(file), imported_spandrel()
    descriptor = _descriptor(file, spandrel.canonicalize_state_dict(tensors))
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise OnebranchError(f"{file}: {descriptor.architecture.name} takes a mask beside the picture")
    descriptor.model.requires_grad_(False).float().eval()
    required = descriptor.size_requirements
    return PytorchNetwork(
        file,
        PictureNetwork(descriptor.model, descriptor._call_fn).eval(),
        descriptor.architecture.name,
        descriptor.scale,
        descriptor.input_channels,
        required.multiple_of,
        required.minimum,
        required.square,
    )


def without_weight_updates(network: PytorchNetwork) -> None:
    """Compute merged weights once and for all, in the place of whenever the network runs.

    A tracer cannot record modules that write their weights; the weights stay those of the last run.
    """
    with torch.no_grad():
        network.module(network.picture(*EXAMPLE_SIDES))
    for module in network.module.modules():
        for name in UPDATE_METHODS:
            if callable(getattr(type(module), name, None)):
                setattr(module, name, _nothing)


def _nothing() -> None:
    """Stands for a method that has done its work."""


def imported_spandrel() -> Any:
    """The package spandrel. Raises OnebranchError where it, or torchvision, which it needs, does not load."""
    try:
        return importlib.import_module("spandrel")
    except (ImportError, OSError, RuntimeError) as error:  # torchvision for another PyTorch: RuntimeError
        raise OnebranchError(
            f"spandrel, which reads PyTorch weights, cannot be imported ({_first(error)}); install the"
            f" torchvision that belongs to PyTorch {torch.__version__}, or export the network to ONNX"
        ) from None


def _descriptor(file: Path, tensors: Mapping[str, Any]) -> Any:
    """What spandrel says about the network that these tensors are."""
    spandrel = imported_spandrel()
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise OnebranchError(f"{file} holds no tensors by name, as the weights of a network are")
    try:
        return spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError:
        names = ", ".join(f"'{name}'" for name in list(tensors)[:3])
        raise OnebranchError(
            f"{file}: spandrel knows no architecture with its {len(tensors)} tensors ({names}, ...); export"
            " the network to ONNX with the program that trained it"
        ) from None
    except Exception as error:  # of whatever kind an architecture raises for tensors that do not fit it
        raise OnebranchError(
            f"{file}: its tensors do not fit the architecture that spandrel takes them for: {_first(error)}"
        ) from None


def _tensors(file: Path) -> dict[str, Any]:
    """The object in the file, which must be a dictionary."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        reason = "it is a folder" if file.is_dir() else error.strerror or error
        raise OnebranchError(f"cannot read {file}: {reason}") from None
    try:
        content = _loaded(file)
    except Exception as error:  # of many kinds: the file is damaged, or is not what its suffix says
        raise OnebranchError(f"{file}: {_refusal(error)}") from None
    if not isinstance(content, dict):
        raise OnebranchError(f"{file} holds a {type(content).__name__}, not the weights of a network by name")
    return content


def _loaded(file: Path) -> Any:
    if file.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _refusal(error: Exception) -> str:
    """Why a file was not loaded, in one line."""
    text = str(error)
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is a program; onebranch reads weights only"
    named = re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and named:
        return (
            f"it holds Python objects ({named[1] or named[2]}) beside weights, which could run code;"
            " nothing of it was loaded or run. Ask its author for the weights alone, best as safetensors"
        )
    said = _first(error)
    return "it is damaged, or no file of PyTorch weights" + (f": {said}" if " " in said else "")


def _first(error: Exception) -> str:
    """The first line of an error's message, or the second if the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
