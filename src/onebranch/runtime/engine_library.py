"""The native engine's shared library: its path, whether it can be used, and its C functions by ctypes.

The functions are declared in src/engine/onebranch_engine.h.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from onebranch.errors import OnebranchError
from onebranch.lowering.program import PROGRAM_SIGNATURE

INTERFACE_VERSION = 2
"""Version of the C interface: OB_VERSION."""

LIBRARY_VARIABLE = "ONEBRANCH_ENGINE_LIBRARY"
"""Environment variable with the path of another library, for tests of special builds."""

MESSAGE_BYTES = 512
"""Size of the buffer that the engine writes an error message into."""

SAMPLE_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
"""Types of samples by their numpy names: enum ob_type."""

COLOUR_CONVERSIONS = {"own": 0, "y of rgb": 1, "y of grey": 2, "rgb of grey": 3}
"""Conversions between the picture's samples and the network's channels: enum ob_colour."""


class PictureFormat(ctypes.Structure):
    """Size, sample types and memory layout of a picture: struct ob_format."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("source", ctypes.c_int32),
        ("target", ctypes.c_int32),
        ("colour", ctypes.c_int32),
        ("planar", ctypes.c_int32),
    )


_POINTER, _TEXT, _INT, _LONG = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64
_FORMAT, _BYTE_COUNT = ctypes.POINTER(PictureFormat), ctypes.c_size_t

CancellationCallback = ctypes.CFUNCTYPE(ctypes.c_int32)
"""Called a few times a second on the calling thread; a result other than 0 cancels: ob_cancellation."""

FUNCTIONS = {
    "ob_version": (_INT, ()),
    "ob_instruction_sets": (_TEXT, ()),
    "ob_open": (_POINTER, (_TEXT, _BYTE_COUNT, _TEXT, _TEXT, _BYTE_COUNT)),
    "ob_close": (None, (_POINTER,)),
    "ob_output_height": (_LONG, (_POINTER, _LONG)),
    "ob_output_width": (_LONG, (_POINTER, _LONG)),
    "ob_run": (
        _INT,
        (_POINTER, _FORMAT, _POINTER, _POINTER, _INT, _LONG, _LONG, CancellationCallback, _TEXT, _BYTE_COUNT),
    ),
    "ob_stream_open": (_POINTER, (_POINTER, _FORMAT, _INT, _TEXT, _BYTE_COUNT)),
    "ob_stream_ready": (_LONG, (_POINTER, _LONG)),
    "ob_stream_push": (
        _INT,
        (_POINTER, _POINTER, _LONG, _LONG, _POINTER, _LONG, CancellationCallback, _TEXT, _BYTE_COUNT),
    ),
    "ob_stream_close": (None, (_POINTER,)),
    "ob_peak": (ctypes.c_double, (_POINTER, _INT, ctypes.c_double)),
}
"""Every C function for networks: its result type and its argument types."""

PROGRAM_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    name.replace("ob_", "ob_program_", 1): types
    for name, types in FUNCTIONS.items()
    if name not in ("ob_version", "ob_instruction_sets")
}
"""The functions of onebranch_program.h, each with the types of its counterpart for networks."""
PROGRAM_FUNCTIONS["ob_program_unary"] = (
    _INT,
    (_TEXT, _INT, _POINTER, ctypes.c_float, ctypes.c_float, _BYTE_COUNT, _POINTER),
)


class EngineFunctions:
    """The C functions for networks, or for programs: `open`, `close`, `run`, `stream_push`, ..."""

    def __init__(self, loaded: ctypes.CDLL, prefix: str) -> None:
        self._loaded, self._prefix = loaded, prefix

    def __getattr__(self, name: str) -> Any:
        """The function `name` after the prefix."""
        return getattr(self._loaded, self._prefix + name)


def path() -> Path:
    """The path of the library, whether or not it exists."""
    if named := os.environ.get(LIBRARY_VARIABLE):
        return Path(named)
    name = {"darwin": "libonebranch_engine.dylib", "win32": "onebranch_engine.dll"}.get(
        sys.platform, "libonebranch_engine.so"
    )
    return Path(__file__).parent / "native" / name


@cache
def _loaded(file: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library and an empty text, or None and the reason why it cannot be used."""
    if not file.exists():
        return (
            None,
            "the native engine was not built when onebranch was installed (it needs a C++17 compiler)",
        )
    try:
        loaded = ctypes.CDLL(str(file))
        for name, (result, arguments) in (FUNCTIONS | PROGRAM_FUNCTIONS).items():
            if name in FUNCTIONS or hasattr(loaded, name):
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f"the native engine cannot be loaded: {str(error).splitlines()[0]}"
    if loaded.ob_version() != INTERFACE_VERSION:
        return (
            None,
            f"its version is {loaded.ob_version()}, not {INTERFACE_VERSION}; install onebranch again",
        )
    return loaded, ""


def available() -> str:
    """The reason why the engine cannot be used, in one line; empty if it can be used."""
    return _loaded(path())[1]


def library() -> ctypes.CDLL:
    """The library. Raises OnebranchError if it cannot be used."""
    loaded, reason = _loaded(path())
    if loaded is None:
        raise OnebranchError(f"runtime 'engine' is not installed: {reason}; use --runtime onnxruntime")
    return loaded


def functions_for(network: bytes) -> EngineFunctions:
    """The functions for a program or for the description of a network, by its first bytes."""
    if not network.startswith(PROGRAM_SIGNATURE):
        return EngineFunctions(library(), "ob_")
    if reason := programs_available():
        raise OnebranchError(f"{reason}; use --runtime onnxruntime")
    return EngineFunctions(library(), "ob_program_")


def programs_available() -> str:
    """The reason why the engine runs no programs, in one line; empty if it does."""
    if reason := available():
        return reason
    missing = not hasattr(library(), "ob_program_open")
    return "the engine was built before it ran programs; install onebranch again" if missing else ""


def instruction_sets() -> list[str]:
    """Names of the instruction sets that this machine runs, best first."""
    names: bytes = library().ob_instruction_sets()
    return names.decode().split()
