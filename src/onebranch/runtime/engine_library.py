"""The native engine's shared library: where it is, whether it can be used, and its C functions by ctypes.

See src/engine/onebranch_engine.h, of which this is the other side.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

from onebranch.errors import OnebranchError

VERSION = 2
"""Of the C interface: OB_VERSION."""

VARIABLE = "ONEBRANCH_ENGINE_LIBRARY"
"""Names another library than the installed one, for tests of special builds."""

ROOM = 512
"""Bytes of a message."""

TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
"""Samples' types by numpy's names: enum ob_type."""

COLOURS = {"own": 0, "y of rgb": 1, "y of grey": 2, "rgb of grey": 3}
"""What lies between the picture's samples and the network's channels: enum ob_colour."""


class Format(ctypes.Structure):
    """A picture as it lies in memory: struct ob_format."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("source", ctypes.c_int32),
        ("target", ctypes.c_int32),
        ("colour", ctypes.c_int32),
        ("planar", ctypes.c_int32),
    )


_POINTER, _TEXT, _INT, _LONG = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64
_FORMAT, _SIZE = ctypes.POINTER(Format), ctypes.c_size_t

ASK = ctypes.CFUNCTYPE(ctypes.c_int32)
"""Called a few times a second on the calling thread; another answer than 0 ends the call early: ob_ask."""

FUNCTIONS = {
    "ob_version": (_INT, ()),
    "ob_instruction_sets": (_TEXT, ()),
    "ob_open": (_POINTER, (_TEXT, _SIZE, _TEXT, _TEXT, _SIZE)),
    "ob_close": (None, (_POINTER,)),
    "ob_output_height": (_LONG, (_POINTER, _LONG)),
    "ob_output_width": (_LONG, (_POINTER, _LONG)),
    "ob_run": (
        _INT,
        (_POINTER, _FORMAT, _POINTER, _POINTER, _INT, _LONG, _LONG, ASK, _TEXT, _SIZE),
    ),
    "ob_stream_open": (_POINTER, (_POINTER, _FORMAT, _INT, _TEXT, _SIZE)),
    "ob_stream_ready": (_LONG, (_POINTER, _LONG)),
    "ob_stream_push": (
        _INT,
        (_POINTER, _POINTER, _LONG, _LONG, _POINTER, _LONG, ASK, _TEXT, _SIZE),
    ),
    "ob_stream_close": (None, (_POINTER,)),
    "ob_peak": (ctypes.c_double, (_POINTER, _INT, ctypes.c_double)),
}
"""Every C function: what it gives back and what it takes."""


def path() -> Path:
    """Where the library is, or would be."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    name = {"darwin": "libonebranch_engine.dylib", "win32": "onebranch_engine.dll"}.get(
        sys.platform, "libonebranch_engine.so"
    )
    return Path(__file__).parent / "native" / name


@cache
def _loaded(file: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library and an empty text, or None and why not."""
    if not file.exists():
        return (
            None,
            "the native engine was not built when onebranch was installed (it needs a C++17 compiler)",
        )
    try:
        found = ctypes.CDLL(str(file))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f"the native engine cannot be loaded: {str(error).splitlines()[0]}"
    if found.ob_version() != VERSION:
        return (
            None,
            f"the native engine's version is {found.ob_version()}, not {VERSION}; install onebranch again",
        )
    return found, ""


def available() -> str:
    """Why the engine cannot be used, in one line; empty where it can."""
    return _loaded(path())[1]


def library() -> ctypes.CDLL:
    """The library. Raises OnebranchError, one line, where it is not there."""
    found, why = _loaded(path())
    if found is None:
        raise OnebranchError(f"runtime 'engine' is not installed: {why}; use --runtime onnxruntime")
    return found


def instruction_sets() -> list[str]:
    """Names of the instruction sets that this machine runs, best first."""
    names: bytes = library().ob_instruction_sets()
    return names.decode().split()
