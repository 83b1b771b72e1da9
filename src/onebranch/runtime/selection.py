"""Which runtimes there are, and how one is opened: only the chosen one is imported."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from onebranch.errors import OnebranchError, nearest
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel

RUNTIMES = {
    "onnxruntime": ("onebranch.runtime.onnxruntime", "OnnxRuntime", "pip install onnxruntime"),
    "torch": ("onebranch.runtime.torch", "TorchRuntime", "pip install 'onebranch[train]'"),
}
"""Module, class and what to install, by the name that users write."""

MOST_THREADS = 1024
"""More threads than that are no number of cores, and starting them takes minutes."""

FASTEST = "onnxruntime"
"""What `auto` means."""


def resolved(name: str) -> str:
    """The runtime that a name means. Raises OnebranchError for an unknown one.

    >>> resolved("auto")
    'onnxruntime'
    """
    name = FASTEST if name == "auto" else name
    if name not in RUNTIMES:
        raise OnebranchError(f"unknown runtime '{name}'; {nearest(name, ['auto', *RUNTIMES])}")
    return name


def check_threads(threads: int | None) -> None:
    """Raise OnebranchError for a number of threads that is not from 1 to `MOST_THREADS`."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        rule = "at least 1" if threads < 1 else f"at most {MOST_THREADS}"
        raise OnebranchError(f"threads must be {rule}, not {threads}")


def open_runtime(model: Model, name: str = "auto", threads: int | None = None) -> Runtime:
    """The model, ready to run in the runtime of that name; `auto` takes the fastest there is.

    threads: how many work on one picture, None: every core. Raises OnebranchError as `resolved` does, for a
    number of threads out of range, or a runtime that is not installed.
    """
    check_threads(threads)
    module, attribute, install = RUNTIMES[name := resolved(name)]
    try:
        kind: Callable[..., Runtime] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "onebranch":
            raise
        raise OnebranchError(f"runtime '{name}' is not installed ({error}); {install}") from None
    return kind(model, threads)


def open_foreign(
    model: "ForeignModel", name: str = "auto", threads: int | None = None, memory: int | None = None
) -> Runtime:
    """An ONNX file, ready to run. memory: bytes that it may take, None: half of what is free.

    Raises OnebranchError as `open_runtime` does, for a network that cannot run, and for a runtime that takes
    no ONNX files.
    """
    check_threads(threads)
    if resolved(name) != "onnxruntime":
        raise OnebranchError(
            f"runtime '{name}' does not take ONNX files such as {model.path}; onnxruntime does"
        )
    from onebranch.runtime.foreign import ForeignRuntime

    return ForeignRuntime(model, threads, memory)
