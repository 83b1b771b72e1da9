"""The runtimes, how `auto` chooses one, and opening it; only the module of that runtime is imported."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebranch.errors import OnebranchError, nearest
from onebranch.extras import missing_packages
from onebranch.model.catalogue import quantized_name
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel

PRECISIONS = ("fp32", "bf16", "int8")
"""Number formats: 32-bit floats; bfloat16 with 32-bit float sums; 8-bit integers with 32-bit sums."""


FAST = "fast"
"""Stands for the fastest precision whose loss the model file records; see `fast_choice`."""

AUTO = "auto"
"""Stands for int8 for a quantized model file, and for fp32 for any other; see `resolve_precision`."""


@dataclass(frozen=True)
class Entry:
    """A runtime.

    module, attribute: where its class is. extra: the extra of this package that it needs; empty: none.
    precisions: those that it supports.
    """

    module: str
    attribute: str
    extra: str
    precisions: tuple[str, ...]


RUNTIMES = {
    "engine": Entry("onebranch.runtime.engine", "EngineRuntime", "", PRECISIONS),
    "onnxruntime": Entry(
        *("onebranch.runtime.onnxruntime", "OnnxRuntime", "onnx"),
        precisions=("fp32",),
    ),
    "openvino": Entry(
        *("onebranch.runtime.openvino", "OpenvinoRuntime", "openvino"),
        precisions=PRECISIONS,
    ),
    "torch": Entry(
        *("onebranch.runtime.torch", "TorchRuntime", "train"),
        precisions=("fp32",),
    ),
}
"""Every runtime by its name on the command line."""

MAX_THREADS = 1024
"""The largest number of threads; more exceed any machine's cores, and starting them takes minutes."""


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime and a precision for a network, and the reason for that runtime, in one line."""

    runtime: str
    precision: str
    reason: str


def chosen(model: Model, runtime: str = "auto", precision: str = "fp32") -> RuntimeChoice:
    """The runtime for a model. `auto` is the engine if it is available and supports the network.

    Otherwise `auto` is ONNX Runtime for fp32, and OpenVINO, if installed, for bf16 and int8. Raises
    OnebranchError for an unknown name, for a runtime that is not installed or lacks the precision, for
    `engine` if it does not support the network, and for int8 without a record of quantization. precision: one
    of `PRECISIONS`, or "auto" or "fast", which `resolve_precision` resolves.
    """
    check_precision(precision)
    name = known(runtime)
    precision = resolve_precision(model, precision, name)
    if precision == "int8" and model.quantization is None:
        raise OnebranchError(without_record(model))
    if name == "auto":
        return _automatic(model, precision)
    check_available(name, precision)
    if name == "engine" and (reason := engine_refusal(model, precision)):
        raise OnebranchError(
            f"runtime 'engine' cannot run {model.name or 'the model'} in {precision}: {reason};"
            " --runtime auto chooses another"
        )
    return RuntimeChoice(name, precision, "requested")


def resolve_precision(model: Model, precision: str, runtime: str = "auto") -> str:
    """The precision itself; for "fast", the one that `fast_choice` takes.

    For "auto", it is int8 if the file is a quantized one (it has a record of quantization) and a runtime here
    runs it in int8; otherwise it is fp32.
    """
    if precision == AUTO:
        return "int8" if model.quantization is not None and _runs_int8(model, runtime) else "fp32"
    return fast_choice(model, runtime).precision if precision == FAST else precision


@dataclass(frozen=True)
class FastChoice:
    """What "fast" stands for with one model on this machine, and the reason in one line."""

    precision: str
    reason: str


def fast_choice(model: Model, runtime: str = "auto") -> FastChoice:
    """The quickest precision on this processor among those whose loss of quality the model file records.

    These are fp32, which loses nothing, and int8 if `onebranch quantize` has stored its loss. No file records
    the loss of bf16. The speeds are those of the engine, measured once per machine (`speed.kept_speeds`);
    with another runtime, or where the engine does not run the model, the choice is fp32.
    """
    if not (model.quantization or {}).get("loss"):
        return FastChoice("fp32", "the file records the loss of no other precision")
    if runtime not in ("auto", "engine"):
        return FastChoice(
            "fp32", f"runtime '{runtime}' is requested, and only the engine's speed is measured"
        )
    if reason := engine_refusal(model, "int8"):
        return FastChoice("fp32", f"not the engine: {reason}")
    from onebranch.runtime.speed import kept_speeds

    speeds = kept_speeds(model, ("fp32", "int8"))
    fastest = min(speeds, key=lambda precision: speeds[precision])
    times = ", ".join(f"{precision} {speed:.1f}" for precision, speed in speeds.items())
    return FastChoice(fastest, f"the fastest here, in ms per megapixel of the input on one core: {times}")


def _runs_int8(model: Model, runtime: str) -> bool:
    """True if the runtime, which may be "auto", can run this quantized model in int8 here."""
    if runtime in ("auto", "engine") and not engine_refusal(model, "int8"):
        return True
    other = "openvino" if runtime == "auto" else runtime
    return other != "engine" and "int8" in RUNTIMES[other].precisions and installed(other)


def without_record(model: Model) -> str:
    """The error message for int8 with a model that has no record of quantization."""
    from onebranch.spec.quantization import reason_against

    if why := reason_against(model.spec):
        return f"{model.name or 'the model'} cannot be quantized to int8: {why}"
    shipped = quantized_name(model.name)
    advice = "make a file that has one: onebranch quantize MODEL --calibrate FOLDER -o OUT"
    if shipped != model.name:
        advice = f"the shipped {shipped} has one, and onebranch quantize makes one"
    return f"{model.name or 'the model'} has no record of quantization, which int8 needs; {advice}"


def engine_refusal(model: Model, precision: str = "fp32") -> str:
    """The reason why the engine is unavailable, or does not support this model; empty if it does."""
    from onebranch.runtime.engine_library import available
    from onebranch.runtime.engine_network import reason_against

    return available() or reason_against(model, precision)


def engine_missing(runtime: str = "auto") -> str:
    """The reason why `auto` cannot use the engine's library; empty if it can, and for any other runtime."""
    from onebranch.runtime.engine_library import available

    return available() if runtime == "auto" else ""


def _automatic(model: Model, precision: str) -> RuntimeChoice:
    against = engine_refusal(model, precision)
    if not against:
        return RuntimeChoice("engine", precision, "the engine supports this network")
    name, title = ("onnxruntime", "ONNX Runtime") if precision == "fp32" else ("openvino", "OpenVINO")
    if installed(name):
        return RuntimeChoice(name, precision, f"not the engine: {against}")
    raise OnebranchError(
        f"no installed runtime supports {model.name or 'the model'} in {precision}: not the engine"
        f" ({against}), and {title} is not installed; {_installation(name)}"
        f"{'' if precision == 'fp32' else ', or use --precision fp32'}"
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
    """True if the packages that a runtime needs are installed; they are not imported."""
    extra = RUNTIMES[runtime].extra
    return not extra or not missing_packages(extra)


def _installation(runtime: str) -> str:
    """The command that installs what a runtime needs."""
    return f"pip install 'onebranch[{RUNTIMES[runtime].extra}]'"


def check_available(runtime: str, precision: str) -> None:
    """Raise OnebranchError unless the runtime is installed and supports the precision; `auto` passes."""
    if runtime == "auto":
        return
    entry = RUNTIMES[runtime]
    if precision not in (AUTO, FAST, *entry.precisions):
        others = ", ".join(name for name, other in RUNTIMES.items() if precision in other.precisions)
        raise OnebranchError(
            f"runtime '{runtime}' computes in {', '.join(entry.precisions)}, not in {precision}; {others} can"
        )
    if not installed(runtime):
        raise OnebranchError(f"runtime '{runtime}' is not installed; {_installation(runtime)}")
    if runtime == "engine":
        from onebranch.runtime.engine_library import library

        library()


def check_precision(precision: str) -> None:
    """Raise OnebranchError, which lists the valid ones, for an unknown precision."""
    if precision not in (AUTO, *PRECISIONS, FAST):
        raise OnebranchError(
            f"unknown precision '{precision}'; valid: {AUTO}, {', '.join(PRECISIONS)}, {FAST}"
        )


def check_threads(threads: int | None) -> None:
    """Raise OnebranchError for a number of threads that is not from 1 to `MAX_THREADS`."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        rule = "at least 1" if threads < 1 else f"at most {MAX_THREADS}"
        raise OnebranchError(f"threads must be {rule}, not {threads}")


def open_runtime(
    model: Model, name: str = "auto", threads: int | None = None, precision: str = "fp32"
) -> Runtime:
    """The model, loaded into the runtime that `chosen` returns for the name and the precision.

    threads: how many compute one picture; None: every core. Raises OnebranchError as `chosen` does, and for a
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
    """A third-party ONNX model, loaded into the runtime that `chosen_for_foreign` returns.

    memory: limit in bytes for ONNX Runtime; None: half of the free memory. Raises OnebranchError for a number
    of threads out of range, for a network that cannot run, and for another runtime or precision.
    """
    check_threads(threads)
    if chosen_for_foreign(model, name, precision).runtime == "engine":
        from onebranch.runtime.program import ProgramRuntime

        return ProgramRuntime(model, threads)
    from onebranch.runtime.foreign import ForeignRuntime

    return ForeignRuntime(model, threads, memory)


def chosen_for_foreign(
    model: "ForeignModel", runtime: str = "auto", precision: str = "fp32"
) -> RuntimeChoice:
    """The runtime for a third-party ONNX model: the engine where it takes the network, else ONNX Runtime.

    Raises OnebranchError for another runtime or precision, and for `engine` if it does not take the network.
    """
    check_precision(precision)
    if known(runtime) not in ("auto", "engine", "onnxruntime"):
        raise OnebranchError(
            f"runtime '{runtime}' does not run ONNX files such as {model.path}; use engine or onnxruntime"
        )
    if precision not in (AUTO, "fp32", FAST):
        raise OnebranchError(
            f"{model.path} is an ONNX file, which runs unchanged, not in {precision}; omit --precision"
        )
    if runtime == "onnxruntime":
        return RuntimeChoice(runtime, "fp32", "requested")
    from onebranch.runtime.program import program_refusal

    reason = program_refusal(model)
    if not reason:
        return RuntimeChoice("engine", "fp32", "the engine supports this network")
    if runtime == "engine":
        model.usable()
        raise OnebranchError(
            f"runtime 'engine' cannot run {model.path}: {reason}; --runtime auto chooses another"
        )
    return RuntimeChoice("onnxruntime", "fp32", f"not the engine: {reason}")
