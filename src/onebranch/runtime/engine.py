"""The native engine as a runtime: merged networks on the CPU, row by row, without PyTorch or ONNX Runtime."""

import ctypes
import signal
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.graph.analysis.halo import halo
from onebranch.images.picture import Samples
from onebranch.images.resize import Kernel
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.engine_library import ASK, COLOURS, ROOM, TYPES, Format, instruction_sets, library
from onebranch.runtime.engine_network import MAGIC, describe


class Engine:
    """A network in the engine, opened.

    description: as `engine_network.describe` writes it. instructions: one of `instruction_sets()`, None: the
    best. threads: None takes every core that this process may use. Raises OnebranchError for a description or
    a set of instructions that the engine does not take.
    """

    def __init__(
        self, description: bytes, threads: int | None = None, instructions: str | None = None
    ) -> None:
        functions = library()
        self.threads = threads or cores()
        message = ctypes.create_string_buffer(ROOM)
        chosen = None if instructions is None else instructions.encode()
        self._network = functions.ob_open(description, len(description), chosen, message, ROOM)
        if not self._network:
            raise OnebranchError(f"the engine cannot take this network: {message.value.decode()}")
        (self._channels,) = struct.unpack_from("<i", description, len(MAGIC) + 8)
        self.instructions = instructions or instruction_sets()[0]
        self._close = weakref.finalize(self, functions.ob_close, self._network)
        self._close.atexit = False  # another thread may still be at work in it

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result for a picture of that size."""
        functions = library()
        tall: int = functions.ob_output_height(self._network, height)
        wide: int = functions.ob_output_width(self._network, width)
        return tall, wide

    def run(
        self,
        samples: Samples,
        target: str,
        colour: str = "own",
        *,
        planar: bool = False,
        strip: int = 0,
        band: int = 0,
    ) -> Samples:
        """The result for a picture, of type `target` ("uint8", "uint16" or "float32").

        samples: (H, W, C), or (C, H, W) where planar. colour: see `COLOURS`. strip, band: the largest columns
        and rows of a piece, 0: the engine chooses; the result does not depend on them. Raises OnebranchError
        for samples of another shape or type, and where memory does not suffice; an interrupt ends it early.
        """
        self._check(samples.dtype, target, colour)
        channels = self.picture_channels(colour)
        if samples.ndim != 3 or samples.shape[0 if planar else 2] != channels:
            order = f"({channels}, H, W)" if planar else f"(H, W, {channels})"
            raise OnebranchError(f"samples of shape {samples.shape} where the network takes {order}")
        height, width = samples.shape[1:] if planar else samples.shape[:2]
        tall, wide = self.output_size(height, width)
        try:
            samples = np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
            result = np.empty((channels, tall, wide) if planar else (tall, wide, channels), target)
        except (MemoryError, ValueError):
            raise OnebranchError(
                f"there is not enough memory for a picture of {width}x{height} pixels"
            ) from None
        form = Format(height, width, TYPES[samples.dtype.name], TYPES[target], COLOURS[colour], int(planar))

        def call(ask: object, message: "ctypes.Array[ctypes.c_char]") -> int:
            found: int = library().ob_run(
                self._network,
                ctypes.byref(form),
                samples.ctypes.data,
                result.ctypes.data,
                self.threads,
                strip,
                band,
                ask,
                message,
                ROOM,
            )
            return found

        _interruptible(call)
        return result

    def stream(
        self, height: int, width: int, channels: int, source: str, target: str, colour: str = "own"
    ) -> "Stream":
        """A picture of that size, given row by row from the top; see `Stream`."""
        self._check(np.dtype(source), target, colour)
        if channels != self.picture_channels(colour):
            raise OnebranchError(
                f"a stream of {channels} channels where the network takes {self.picture_channels(colour)}"
            )
        return Stream(self, Format(height, width, TYPES[source], TYPES[target], COLOURS[colour], 0), channels)

    def picture_channels(self, colour: str) -> int:
        """Channels of the pictures that it takes in that colour."""
        return self._channels if colour == "own" else 3 if colour == "y of rgb" else 1

    def _check(self, source: np.dtype[Any], target: str, colour: str) -> None:
        for name in (source.name, target):
            if name not in TYPES:
                raise OnebranchError(f"the engine takes and gives {', '.join(TYPES)}, not {name}")
        if colour not in COLOURS:
            raise OnebranchError(f"unknown colour '{colour}'; {nearest(colour, COLOURS)}")

    def peak(self, precision: int, seconds: float) -> float:
        """Multiply-accumulates a second of one thread, measured: 0 float32, 1 bfloat16, 2 int8."""
        found: float = library().ob_peak(self._network, precision, seconds)
        return found


class Stream:
    """Rows of a picture in, rows of the result out; memory grows with the width alone."""

    def __init__(self, engine: Engine, form: Format, channels: int) -> None:
        self._engine, self._format, self._channels = engine, form, channels
        functions, message = library(), ctypes.create_string_buffer(ROOM)
        self._stream = functions.ob_stream_open(
            engine._network, ctypes.byref(form), engine.threads, message, ROOM
        )
        if not self._stream:
            raise OnebranchError(f"the engine cannot start: {message.value.decode()}")
        self._close = weakref.finalize(self, _close_stream, functions, self._stream, engine)
        self._close.atexit = False
        self._types = {number: name for name, number in TYPES.items()}
        self._turn, self._broken = threading.Lock(), False
        self.taken = 0

    def push(self, rows: Samples) -> Samples:
        """The rows of the result (M, W', C) that `rows` (N, W, C) make ready, M from 0 on.

        Once it has all rows of the picture, it has given all rows of the result. Raises OnebranchError for
        rows of another type or width, or too many, and after an interrupt or an error. From any thread, one
        at a time.
        """
        with self._turn:
            return self._pushed(rows)

    def _pushed(self, rows: Samples) -> Samples:
        if self._broken:
            raise OnebranchError("the stream was interrupted; open another one")
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))
        form = self._format
        if rows.shape[1:] != (form.width, self._channels) or rows.dtype.name != self._types[form.source]:
            expected = f"(rows, {form.width}, {self._channels}) of {self._types[form.source]}"
            raise OnebranchError(
                f"rows of shape {rows.shape} of {rows.dtype.name} where the stream takes {expected}"
            )
        functions = library()
        count = rows.shape[0]
        if self.taken + count > form.height:
            raise OnebranchError(f"{self.taken + count} rows for a stream whose picture has {form.height}")
        ready = functions.ob_stream_ready
        made = ready(self._stream, self.taken + count) - ready(self._stream, self.taken)
        wide = self._engine.output_size(1, form.width)[1]
        result = np.empty((made, wide, self._channels), self._types[form.target])

        def call(ask: object, message: "ctypes.Array[ctypes.c_char]") -> int:
            found: int = functions.ob_stream_push(
                self._stream,
                rows.ctypes.data,
                count,
                0,
                result.ctypes.data,
                0,
                ask,
                message,
                ROOM,
            )
            return found

        self._broken = True
        _interruptible(call)
        self._broken = False
        self.taken += count
        return result


def _close_stream(functions: ctypes.CDLL, stream: int, engine: Engine) -> None:
    """Closes a stream while its network, which `engine` holds, is still there."""
    functions.ob_stream_close(stream)


def _interruptible(call: Callable[[object, "ctypes.Array[ctypes.c_char]"], int]) -> None:
    """Run a C function that asks, now and then, whether to end early, and has room for a message.

    Python runs the handlers of signals in its main thread, between its own steps, which is when it is asked;
    Ctrl-C is noted there, and handled as it would have been once the function has ended.
    """
    message = ctypes.create_string_buffer(ROOM)
    usual, interrupts = signal.getsignal(signal.SIGINT), list[int]()
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        done = call(ASK(), message)
    else:
        done, interrupts = _noting_interrupts(lambda ask: call(ask, message))
    if interrupts and callable(usual):
        usual(signal.SIGINT, None)
    if not done:
        raise OnebranchError(f"the engine stopped: {message.value.decode()}")


def _noting_interrupts(call: Callable[[object], int]) -> tuple[int, list[int]]:
    """What `call` gives, and the interrupts that came meanwhile, which it was told of when it asked."""
    interrupts: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    try:
        return call(ASK(lambda: len(interrupts))), interrupts
    finally:
        signal.signal(signal.SIGINT, usual)


class EngineRuntime:
    """A model in the engine. threads: how many work on one picture; None takes every core."""

    name = "engine"

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        precision: str = "fp32",
        chroma: Kernel = "bicubic",
        instructions: str | None = None,
    ) -> None:
        self.halo = halo(lower(model.spec, model.weights))
        self.precision = precision
        self.engine = Engine(describe(model, precision, chroma), threads, instructions)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped."""
        results = [self.engine.run(picture, "float32", planar=True)[None] for picture in pictures]
        return np.asarray(results[0] if len(results) == 1 else np.concatenate(results))
