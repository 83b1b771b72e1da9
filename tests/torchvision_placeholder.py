"""Lets timm and spandrel import without torchvision, which has no build for every PyTorch.

Every torchvision name becomes an inert placeholder: enough to build and to run their convolutional networks,
not enough to use torchvision itself. Where torchvision is installed, nothing is replaced.
"""

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence


class _Names(type):
    """Every attribute of a placeholder class is a text: they are stored, and never used."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Inert(metaclass=_Names):
    """Accepts any arguments and does nothing."""

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __call__(self, *arguments: object, **named: object) -> "_Inert":
        return _Inert()


class _Module(types.ModuleType):
    """A module that defines every name."""

    __path__: list[str] = []  # noqa: RUF012 - what the import system reads
    __version__ = "0"

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (_Inert,), {})


class _Finder:
    """Finds torchvision and all of its submodules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> _Module:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install() -> None:
    """Put the placeholder on the import path, once; call it before timm or spandrel is imported."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Finder())  # type: ignore[arg-type]
