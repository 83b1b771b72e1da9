"""The models that ship with the package, and loading a model by its name or file."""

import os
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest
from onebranch.model.file import Model, read
from onebranch.model.third_party import PYTORCH_SUFFIXES, is_onnx_file
from onebranch.spec.network import Colour, Task

MODELS_FOLDER = Path(__file__).parent.parent / "data" / "models"


@dataclass(frozen=True)
class ShippedModel:
    """One shipped model. scale: 1 for denoise. about: what it is for, in one line."""

    name: str
    task: Task
    scale: int
    colour: Colour
    file: str
    about: str

    @property
    def path(self) -> Path:
        """Its file in this installation."""
        return MODELS_FOLDER / self.file


_TABLE: tuple[tuple[str, Task, int, Colour, str], ...] = (
    ("restore-x2", "upscale", 2, "rgb", "doubles photographs as people have them: noisy, compressed"),
    ("photo-x2", "upscale", 2, "y", "doubles clean photographs that were reduced bicubically"),
    ("photo-x2-branches", "upscale", 2, "y", "photo-x2 before merging, with its branches"),
    ("restore-luma-x2", "upscale", 2, "y", "as restore-x2, but on luma alone: for mpv and video"),
    ("restore-x4", "upscale", 4, "y", "quadruples photographs as people have them, on luma alone"),
    ("photo-x4", "upscale", 4, "y", "quadruples clean photographs that were reduced bicubically"),
    ("denoise", "denoise", 1, "rgb", "removes noise of unknown strength"),
    ("shrink-x2", "downscale", 2, "y", "halves width and height so that photo-x2 restores more"),
    ("restore-x2-int8", "upscale", 2, "rgb", "restore-x2 in 8-bit integers: faster"),
    ("restore-luma-x2-int8", "upscale", 2, "y", "restore-luma-x2 in 8-bit integers: faster"),
    ("restore-x4-int8", "upscale", 4, "y", "restore-x4 in 8-bit integers: faster"),
    ("photo-x2-int8", "upscale", 2, "y", "photo-x2 in 8-bit integers: faster"),
    ("photo-x4-int8", "upscale", 4, "y", "photo-x4 in 8-bit integers: faster"),
    ("denoise-int8", "denoise", 1, "rgb", "denoise in 8-bit integers: faster"),
    ("shrink-x2-int8", "downscale", 2, "y", "shrink-x2 in 8-bit integers: faster"),
)
"""Name, task, scale, colour mode and purpose of every shipped model."""


CATALOGUE = {
    name: ShippedModel(name, task, scale, colour, f"{name}.safetensors", about)
    for name, task, scale, colour, about in _TABLE
}
"""Every shipped model by its name."""

DEFAULT_MODEL = "restore-x2"
"""The model that enlarges a picture if no model is named."""

DOWNSCALING_MODEL = "shrink-x2"
"""The model that reduces a picture to half its size or less if no model is named."""


def find(name: str | os.PathLike[str]) -> Path:
    """The file of a shipped model, or the path itself. Raises OnebranchError if there is neither.

    >>> find("photo-x2").name
    'photo-x2.safetensors'
    """
    if str(name) in CATALOGUE:
        return CATALOGUE[str(name)].path
    path = Path(name)
    if not path.exists():
        raise OnebranchError(
            f"'{name}' is neither a shipped model nor a file; {nearest(str(name), CATALOGUE)}"
        )
    return path


def quantized_name(name: str) -> str:
    """The name of the 8-bit version of a shipped model; the name itself if there is none.

    >>> quantized_name("photo-x2"), quantized_name("photo-x2-branches")
    ('photo-x2-int8', 'photo-x2-branches')
    """
    return candidate if (candidate := f"{name}-int8") in CATALOGUE else name


def load(name: str | os.PathLike[str]) -> Model:
    """Load a shipped model by its name, or a model file of onebranch by its path.

    Raises OnebranchError if there is no such model or file, or if the file is not a model of onebranch.

    >>> model = load("photo-x4")
    >>> model.name, model.spec.scale
    ('photo-x4', 4)
    """
    if is_onnx_file(path := find(name)):
        raise OnebranchError(
            f"{path} is an ONNX file, which enhance, info, merge and verify accept; this needs a model of"
            " onebranch"
        )
    if path.suffix.lower() in PYTORCH_SUFFIXES:
        raise OnebranchError(
            f"{path} holds PyTorch weights, which enhance, info, merge and quantize accept; this needs a"
            " model of onebranch"
        )
    return read(path)


def upscaling_model(scale: int) -> ShippedModel | None:
    """The first shipped model that enlarges by `scale`; None if there is none."""
    fitting = (e for e in CATALOGUE.values() if (e.task, e.scale) == ("upscale", scale))
    return next((entry for entry in fitting if entry.path.exists()), None)
