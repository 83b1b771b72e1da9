"""The engine's WebAssembly module in wasmtime, called like the native engine."""

import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wasmtime", reason="wasmtime is not installed (make wasm installs it)")
from wasmtime import Engine, Func, Instance, Memory, Module, Store

from onebranch.runtime.engine_library import COLOUR_CONVERSIONS, MESSAGE_BYTES, SAMPLE_TYPES

MODULE = Path(__file__).parent.parent / "src" / "web" / "engine.wasm"

FORMAT_BYTES = 32


@cache
def _compiled() -> tuple[Engine, Module]:
    engine = Engine()
    return engine, Module.from_file(engine, str(MODULE))


class WasmEngine:
    """A network in a fresh instance of the module."""

    def __init__(self, description: bytes) -> None:
        engine, module = _compiled()
        self._store = Store(engine)
        self._exports = Instance(self._store, module, []).exports(self._store)
        memory = self._exports["memory"]
        assert isinstance(memory, Memory)
        self._memory = memory
        self._call("_initialize")
        self._message, self._format = self._allocate(MESSAGE_BYTES), self._allocate(FORMAT_BYTES)
        at = self._write(description)
        self._network = self._call("ob_open", at, len(description), 0, self._message, MESSAGE_BYTES)
        self._call("free", at)
        if not self._network:
            raise ValueError(self.message())

    def run(
        self, samples: np.ndarray, target: str, colour: str = "own", *, planar: bool = False, **pieces: int
    ) -> np.ndarray:
        """As `runtime.engine.Engine.run`. Raises ValueError with the engine's message."""
        height, width = samples.shape[1:] if planar else samples.shape[:2]
        channels = samples.shape[0 if planar else 2]
        size = tuple(
            self._call(f"ob_output_{side}", self._network, n)
            for side, n in (("height", height), ("width", width))
        )
        result = np.empty((channels, *size) if planar else (*size, channels), target)
        kinds = SAMPLE_TYPES[samples.dtype.name], SAMPLE_TYPES[target], COLOUR_CONVERSIONS[colour]
        self._memory.write(self._store, struct.pack("<qqiiii", height, width, *kinds, planar), self._format)
        source, output = self._write(np.ascontiguousarray(samples).tobytes()), self._allocate(result.nbytes)
        done = self._call(
            *("ob_run", self._network, self._format, source, output, 1),
            *(pieces.get("strip", 0), pieces.get("band", 0), 0, self._message, MESSAGE_BYTES),
        )
        if not done:
            raise ValueError(self.message())
        content = bytes(self._memory.read(self._store, output, output + result.nbytes))
        self._call("free", source)
        self._call("free", output)
        return np.frombuffer(content, target).reshape(result.shape)

    def message(self) -> str:
        """The engine's last error."""
        text = bytes(self._memory.read(self._store, self._message, self._message + MESSAGE_BYTES))
        return text[: text.index(0)].decode()

    def _call(self, name: str, *arguments: Any) -> Any:
        function = self._exports[name]
        assert isinstance(function, Func)
        result = function(self._store, *arguments)
        return result & 0xFFFFFFFF if isinstance(result, int) and name in ("malloc", "ob_open") else result

    def _allocate(self, size: int) -> int:
        at: int = self._call("malloc", max(size, 1))
        assert at, "out of memory"
        return at

    def _write(self, content: bytes) -> int:
        at = self._allocate(len(content))
        self._memory.write(self._store, content, at)
        return at
