"""The models that ship with the package: one literal table, and finding a model by name or by file."""

import os
from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest
from onebranch.model.file import Model, read
from onebranch.spec.network import Colour, Task

FOLDER = Path(__file__).parent.parent / "data" / "models"


@dataclass(frozen=True)
class Entry:
    """One shipped model. `scale` is 1 for denoise; `about` is one line."""

    name: str
    task: Task
    scale: int
    colour: Colour
    file: str
    about: str

    @property
    def path(self) -> Path:
        """Where its file lies in this installation."""
        return FOLDER / self.file


CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry("photo-x2", "upscale", 2, "y", "photo-x2.safetensors", "doubles photographs"),
        Entry(
            "photo-x2-branches",
            *("upscale", 2, "y", "photo-x2-branches.safetensors"),
            "photo-x2 with its branches, to merge",
        ),
        Entry("photo-x4", "upscale", 4, "y", "photo-x4.safetensors", "four times the width and height"),
        Entry("denoise", "denoise", 1, "rgb", "denoise.safetensors", "removes noise of unknown strength"),
        Entry(
            "shrink-x2",
            *("downscale", 2, "y", "shrink-x2.safetensors"),
            "halves; photo-x2 restores it a little better",
        ),
        Entry("photo-x2-int8", "upscale", 2, "y", "photo-x2-int8.safetensors", "photo-x2 in 8-bit integers"),
        Entry("photo-x4-int8", "upscale", 4, "y", "photo-x4-int8.safetensors", "photo-x4 in 8-bit integers"),
        Entry("denoise-int8", "denoise", 1, "rgb", "denoise-int8.safetensors", "denoise in 8-bit integers"),
        Entry(
            "shrink-x2-int8", "downscale", 2, "y", "shrink-x2-int8.safetensors", "shrink-x2 in 8-bit integers"
        ),
    )
}
"""Every shipped model by its name."""

DEFAULT = "photo-x2"
"""What enlarges a picture when nothing else is said."""

HALVING = "shrink-x2"
"""What reduces a picture to a half or less when no model is named."""


def find(name: str | os.PathLike[str]) -> Path:
    """The file of a shipped model, or the path itself. Raises OnebranchError where it is neither.

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


def quantized(name: str) -> str:
    """The shipped 8-bit form of a shipped model, by name; the name itself where there is none.

    >>> quantized("photo-x2"), quantized("photo-x2-branches")
    ('photo-x2-int8', 'photo-x2-branches')
    """
    return found if (found := f"{name}-int8") in CATALOGUE else name


def is_foreign(name: str | os.PathLike[str]) -> bool:
    """Whether it names an ONNX file, which may be anybody's.

    >>> is_foreign("x.ONNX"), is_foreign("photo-x2")
    (True, False)
    """
    return Path(name).suffix.lower() == ".onnx"


def load(name: str | os.PathLike[str]) -> Model:
    """The shipped model of that name, or the model in that file, which must be one of ours."""
    if is_foreign(path := find(name)):
        raise OnebranchError(
            f"{path} is an ONNX file; enhance, info and merge take those, this needs a model of our own"
        )
    return read(path)


def enlarging(scale: int) -> Entry | None:
    """The first shipped model that enlarges by `scale`; None where none does."""
    fitting = (e for e in CATALOGUE.values() if (e.task, e.scale) == ("upscale", scale))
    return next((entry for entry in fitting if entry.path.exists()), None)
