"""Which runtimes there are, what `auto` means and why; only the runtime that is opened is imported."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebranch.errors import OnebranchError, nearest
from onebranch.model.catalogue import quantized
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel

PRECISIONS = ("fp32", "bf16", "int8")
"""What a network computes in: 32-bit floats, bfloat16 with 32-bit sums, 8-bit integers with 32-bit sums."""


@dataclass(frozen=True)
class Entry:
    """A runtime: its module and class there, the package that it needs, how to install it, its precisions."""

    module: str
    attribute: str
    package: str
    install: str
    precisions: tuple[str, ...]


RUNTIMES = {
    "engine": Entry("onebranch.runtime.engine", "EngineRuntime", "", "", PRECISIONS),
    "onnxruntime": Entry(
        *("onebranch.runtime.onnxruntime", "OnnxRuntime", "onnxruntime", "pip install onnxruntime"),
        precisions=("fp32",),
    ),
    "openvino": Entry(
        *("onebranch.runtime.openvino", "OpenvinoRuntime", "openvino"),
        install="pip install 'onebranch[openvino]'",
        precisions=PRECISIONS,
    ),
    "torch": Entry(
        *("onebranch.runtime.torch", "TorchRuntime", "torch", "pip install 'onebranch[train]'"),
        precisions=("fp32",),
    ),
}
"""Every runtime by the name that users write."""

MOST_THREADS = 1024
"""More threads than that are no number of cores, and starting them takes minutes."""


@dataclass(frozen=True)
class Choice:
    """What runs a network: a runtime, a precision, and why that runtime, in one line."""

    runtime: str
    precision: str
    reason: str


def chosen(model: Model, runtime: str = "auto", precision: str = "fp32") -> Choice:
    """What runs the model; `auto` takes the engine where it is there and takes the network.

    Else `auto` takes ONNX Runtime for fp32, and OpenVINO, where installed, for bf16 and int8. Raises
    OnebranchError for an unknown name, a runtime that is not installed or lacks the precision, a network that
    the engine does not take, and int8 without a record of quantization.
    """
    check_precision(precision)
    name = known(runtime)
    if precision == "int8" and model.quantization is None:
        raise OnebranchError(without_record(model))
    if name == "auto":
        return _automatic(model, precision)
    check_available(name, precision)
    if name == "engine" and (why := engine_refusal(model, precision)):
        raise OnebranchError(
            f"runtime 'engine' cannot run {model.name or 'the model'} in {precision}: {why}; --runtime auto"
            " takes another"
        )
    return Choice(name, precision, "it was asked for")


def without_record(model: Model) -> str:
    """What to say of a model that int8 is asked of and that has no record of quantization."""
    from onebranch.spec.quantization import reason_against

    if why := reason_against(model.spec):
        return f"{model.name or 'the model'} cannot be quantized to int8: {why}"
    shipped = quantized(model.name)
    way = "make a file that has one: onebranch quantize MODEL --calibrate FOLDER -o OUT"
    if shipped != model.name:
        way = f"the shipped {shipped} has one, and onebranch quantize makes one"
    return f"{model.name or 'the model'} has no record of quantization, which int8 needs; {way}"


def engine_refusal(model: Model, precision: str = "fp32") -> str:
    """Why the engine does not run the model, in one line: it is not there, or not for it; empty: it does."""
    from onebranch.runtime.engine_library import available
    from onebranch.runtime.engine_network import reason_against

    return available() or reason_against(model, precision)


def engine_missing(runtime: str = "auto") -> str:
    """What to tell who asked for `runtime`, once, where the engine's library cannot be used; else empty."""
    from onebranch.runtime.engine_library import available

    return available() if runtime == "auto" else ""


def _automatic(model: Model, precision: str) -> Choice:
    against = engine_refusal(model, precision)
    if not against:
        return Choice("engine", precision, "the engine takes this network")
    if precision == "fp32":
        return Choice("onnxruntime", precision, f"not the engine: {against}")
    if installed("openvino"):
        return Choice("openvino", precision, f"not the engine: {against}")
    raise OnebranchError(
        f"nothing here runs {model.name or 'the model'} in {precision}: not the engine ({against})"
        f", and OpenVINO is not there; {RUNTIMES['openvino'].install}, or use --precision fp32"
    )


def known(runtime: str) -> str:
    """The name itself, `auto` too. Raises OnebranchError, with the nearest name, for an unknown one.

    >>> known("auto")
    'auto'
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise OnebranchError(f"unknown runtime '{runtime}'; {nearest(runtime, ['auto', *RUNTIMES])}")
    return runtime


def installed(runtime: str) -> bool:
    """Whether the package that a runtime needs can be imported; it is not imported."""
    package = RUNTIMES[runtime].package
    return not package or importlib.util.find_spec(package) is not None


def check_available(runtime: str, precision: str) -> None:
    """Raise OnebranchError unless the runtime is installed and has the precision; `auto` always does."""
    if runtime == "auto":
        return
    entry = RUNTIMES[runtime]
    if precision not in entry.precisions:
        others = ", ".join(name for name, other in RUNTIMES.items() if precision in other.precisions)
        raise OnebranchError(
            f"runtime '{runtime}' computes in {', '.join(entry.precisions)}, not in {precision}; {others} can"
        )
    if not installed(runtime):
        raise OnebranchError(f"runtime '{runtime}' is not installed; {entry.install}")
    if runtime == "engine":
        from onebranch.runtime.engine_library import library

        library()


def check_precision(precision: str) -> None:
    """Raise OnebranchError, with all there are, for an unknown precision: the nearest word may be far off."""
    if precision not in PRECISIONS:
        raise OnebranchError(f"unknown precision '{precision}'; valid: {', '.join(PRECISIONS)}")


def check_threads(threads: int | None) -> None:
    """Raise OnebranchError for a number of threads that is not from 1 to `MOST_THREADS`."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        rule = "at least 1" if threads < 1 else f"at most {MOST_THREADS}"
        raise OnebranchError(f"threads must be {rule}, not {threads}")


def open_runtime(
    model: Model, name: str = "auto", threads: int | None = None, precision: str = "fp32"
) -> Runtime:
    """The model, ready to run in the runtime of that name, or in what `auto` means; see `chosen`.

    threads: how many work on one picture, None: every core. Raises OnebranchError as `chosen` does, and for a
    number of threads out of range.
    """
    check_threads(threads)
    choice = chosen(model, name, precision)
    entry = RUNTIMES[choice.runtime]
    kind: Callable[..., Runtime] = getattr(importlib.import_module(entry.module), entry.attribute)
    if entry.precisions == ("fp32",):
        return kind(model, threads)
    return kind(model, threads, precision)


def open_foreign(
    model: "ForeignModel",
    name: str = "auto",
    threads: int | None = None,
    memory: int | None = None,
    precision: str = "fp32",
) -> Runtime:
    """An ONNX file, ready to run. memory: bytes that it may take, None: half of what is free.

    Raises OnebranchError as `open_runtime` does, for a network that cannot run, and for a runtime or a
    precision that ONNX files are not run in.
    """
    check_threads(threads)
    check_precision(precision)
    if known(name) not in ("auto", "onnxruntime"):
        raise OnebranchError(
            f"runtime '{name}' does not take ONNX files such as {model.path}; onnxruntime does"
        )
    if precision != "fp32":
        raise OnebranchError(
            f"{model.path} is an ONNX file, which runs as it is, not in {precision}; leave --precision out"
        )
    from onebranch.runtime.foreign import ForeignRuntime

    return ForeignRuntime(model, threads, memory)
