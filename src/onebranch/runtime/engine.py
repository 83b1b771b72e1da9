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
from onebranch.images.resize import Kernel
from onebranch.images.samples import Samples
from onebranch.lowering.floats import lower
from onebranch.lowering.program import PROGRAM_SIGNATURE
from onebranch.model.file import Model
from onebranch.runtime.cores import cores
from onebranch.runtime.engine_library import (
    COLOUR_CONVERSIONS,
    MESSAGE_BYTES,
    SAMPLE_TYPES,
    CancellationCallback,
    EngineFunctions,
    PictureFormat,
    functions_for,
    instruction_sets,
)
from onebranch.runtime.engine_network import NETWORK_SIGNATURE, describe


class Engine:
    """A network that is loaded into the engine.

    description: the bytes that `engine_network.describe` or `Program.packed` returns. threads: None takes
    every core that this process may use. instructions: one of `instruction_sets()`; None takes the best.
    Raises OnebranchError for an invalid description and for an unknown instruction set.
    """

    def __init__(
        self, description: bytes, threads: int | None = None, instructions: str | None = None
    ) -> None:
        self._functions = functions = functions_for(description)
        self.threads = threads or cores()
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        chosen = None if instructions is None else instructions.encode()
        self._network = functions.open(description, len(description), chosen, message, MESSAGE_BYTES)
        if not self._network:
            raise OnebranchError(f"the engine cannot take this network: {message.value.decode()}")
        # The third number of a description, the first one of a program.
        offset = 0 if description.startswith(PROGRAM_SIGNATURE) else 8
        (self._channels,) = struct.unpack_from("<i", description, len(NETWORK_SIGNATURE) + offset)
        self.instructions = instructions or instruction_sets()[0]
        self._close = weakref.finalize(self, functions.close, self._network)
        self._close.atexit = False  # another thread may still be running it

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of the result for a picture of that size."""
        output_height: int = self._functions.output_height(self._network, height)
        output_width: int = self._functions.output_width(self._network, width)
        return output_height, output_width

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
        """The result for a whole picture, of type `target` ("uint8", "uint16" or "float32").

        samples: (H, W, C), or (C, H, W) where planar. colour: one of `COLOUR_CONVERSIONS`. strip, band: the
        largest number of columns and of rows in a piece; 0: the engine chooses. The result does not depend on
        them. Raises OnebranchError for samples of another shape or type and for too little memory, and
        KeyboardInterrupt soon after Ctrl-C.
        """
        self._check(samples.dtype, target, colour)
        channels = self.picture_channels(colour)
        if samples.ndim != 3 or samples.shape[0 if planar else 2] != channels:
            order = f"({channels}, H, W)" if planar else f"(H, W, {channels})"
            raise OnebranchError(f"samples of shape {samples.shape} where the network takes {order}")
        height, width = samples.shape[1:] if planar else samples.shape[:2]
        output_height, output_width = self.output_size(height, width)
        try:
            samples = np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
            result = np.empty(
                (channels, output_height, output_width)
                if planar
                else (output_height, output_width, channels),
                target,
            )
        except (MemoryError, ValueError):
            raise OnebranchError(
                f"there is not enough memory for a picture of {width}x{height} pixels"
            ) from None
        layout = PictureFormat(
            height,
            width,
            SAMPLE_TYPES[samples.dtype.name],
            SAMPLE_TYPES[target],
            COLOUR_CONVERSIONS[colour],
            int(planar),
        )

        def call(cancellation: object, message: "ctypes.Array[ctypes.c_char]") -> int:
            done: int = self._functions.run(
                self._network,
                ctypes.byref(layout),
                samples.ctypes.data,
                result.ctypes.data,
                self.threads,
                strip,
                band,
                cancellation,
                message,
                MESSAGE_BYTES,
            )
            return done

        _interruptible(call)
        return result

    def stream(
        self, height: int, width: int, channels: int, source: str, target: str, colour: str = "own"
    ) -> "Stream":
        """A stream for a picture of that size, which is passed row by row from the top."""
        self._check(np.dtype(source), target, colour)
        if channels != self.picture_channels(colour):
            raise OnebranchError(
                f"a stream of {channels} channels where the network takes {self.picture_channels(colour)}"
            )
        return Stream(
            self,
            PictureFormat(
                height, width, SAMPLE_TYPES[source], SAMPLE_TYPES[target], COLOUR_CONVERSIONS[colour], 0
            ),
            channels,
        )

    def picture_channels(self, colour: str) -> int:
        """The number of channels of pictures with this colour conversion."""
        return self._channels if colour == "own" else 3 if colour == "y of rgb" else 1

    def _check(self, source: np.dtype[Any], target: str, colour: str) -> None:
        for name in (source.name, target):
            if name not in SAMPLE_TYPES:
                raise OnebranchError(f"the engine reads and writes {', '.join(SAMPLE_TYPES)}, not {name}")
        if colour not in COLOUR_CONVERSIONS:
            raise OnebranchError(f"unknown colour '{colour}'; {nearest(colour, COLOUR_CONVERSIONS)}")

    def peak(self, precision: int, seconds: float) -> float:
        """Measured multiply-adds per second of one thread. precision: 0 float32, 1 bfloat16, 2 int8."""
        rate: float = self._functions.peak(self._network, precision, seconds)
        return rate


class Stream:
    """A picture passed row by row; memory grows with its width, not with its height."""

    def __init__(self, engine: Engine, layout: PictureFormat, channels: int) -> None:
        self._engine, self._format, self._channels = engine, layout, channels
        functions, message = engine._functions, ctypes.create_string_buffer(MESSAGE_BYTES)
        self._stream = functions.stream_open(
            engine._network, ctypes.byref(layout), engine.threads, message, MESSAGE_BYTES
        )
        if not self._stream:
            raise OnebranchError(f"the engine cannot start: {message.value.decode()}")
        self._close = weakref.finalize(self, _close_stream, functions, self._stream, engine)
        self._close.atexit = False
        self._types = {number: name for name, number in SAMPLE_TYPES.items()}
        self._lock, self._broken = threading.Lock(), False
        self.taken = 0

    def push(self, rows: Samples) -> Samples:
        """The rows of the result (M, W', C), M >= 0, that the next `rows` (N, W, C) make ready.

        After the last row of the picture, every row of the result has been returned. Raises OnebranchError
        for rows of another type or width, for too many rows, and after an interrupt or an error. It may be
        called from any thread; calls wait for each other.
        """
        with self._lock:
            return self._pushed(rows)

    def _pushed(self, rows: Samples) -> Samples:
        if self._broken:
            raise OnebranchError("the stream was interrupted or has failed; open a new one")
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))
        layout = self._format
        if rows.shape[1:] != (layout.width, self._channels) or rows.dtype.name != self._types[layout.source]:
            expected = f"(rows, {layout.width}, {self._channels}) of {self._types[layout.source]}"
            raise OnebranchError(
                f"rows of shape {rows.shape} of {rows.dtype.name} where the stream takes {expected}"
            )
        functions = self._engine._functions
        count = rows.shape[0]
        if self.taken + count > layout.height:
            raise OnebranchError(f"{self.taken + count} rows for a stream whose picture has {layout.height}")
        ready = functions.stream_ready
        new_rows = ready(self._stream, self.taken + count) - ready(self._stream, self.taken)
        output_width = self._engine.output_size(1, layout.width)[1]
        result = np.empty((new_rows, output_width, self._channels), self._types[layout.target])

        def call(cancellation: object, message: "ctypes.Array[ctypes.c_char]") -> int:
            done: int = functions.stream_push(
                self._stream,
                rows.ctypes.data,
                count,
                0,
                result.ctypes.data,
                0,
                cancellation,
                message,
                MESSAGE_BYTES,
            )
            return done

        # An exception in the call leaves this true: rows may have been read, so the stream cannot continue.
        self._broken = True
        _interruptible(call)
        self._broken = False
        self.taken += count
        return result


def _close_stream(functions: EngineFunctions, stream: int, engine: Engine) -> None:
    """Closes a stream. The argument `engine` keeps its network alive until then."""
    functions.stream_close(stream)


def _interruptible(call: Callable[[object, "ctypes.Array[ctypes.c_char]"], int]) -> None:
    """Calls a C function with a cancellation callback and a message buffer; raises where it fails.

    Python runs signal handlers in its main thread between bytecodes, hence while the callback runs. Ctrl-C is
    recorded there, cancels the function, and reaches the original handler once the function has returned.
    """
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    handler, interrupts = signal.getsignal(signal.SIGINT), list[int]()
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        done = call(CancellationCallback(), message)
    else:
        done, interrupts = _recording_interrupts(lambda cancellation: call(cancellation, message))
    if interrupts and callable(handler):
        handler(signal.SIGINT, None)
    if not done:
        raise OnebranchError(f"the engine stopped: {message.value.decode()}")


def _recording_interrupts(call: Callable[[object], int]) -> tuple[int, list[int]]:
    """The result of `call`, and the interrupts that arrived meanwhile, which cancel it."""
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    try:
        return call(CancellationCallback(lambda: len(interrupts))), interrupts
    finally:
        signal.signal(signal.SIGINT, handler)


class EngineRuntime:
    """A model in the engine.

    threads: how many compute one picture; None takes every core. chroma: interpolation of planes that the
    network does not process. instructions: as `Engine` takes it.
    """

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
