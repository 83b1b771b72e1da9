"""Third-party ONNX models in ONNX Runtime: pictures padded where they must be, outputs checked."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
import onnxruntime

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo, whole_picture_halo
from onebranch.graph.analysis.valid_sizes import valid_sizes
from onebranch.model.foreign import ForeignModel
from onebranch.runtime.memory import format_bytes, memory_estimate, memory_limit
from onebranch.runtime.onnxruntime import session_options
from onebranch.runtime.sizing import Sizing

NO_LOG = 4
"""ONNX Runtime's log level for fatal errors only: errors are raised and reported by onebranch."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Multiples that are tried, in this order, for a network that the graph analysis does not support."""

MAX_MULTIPLE = 128
"""Beyond `MULTIPLES`, all multiples up to this one are tried on which the graph's shapes fit together."""


class OpenedSession(Protocol):
    """What runs the network: an `onnxruntime.InferenceSession`, or one on a GPU."""

    def run(self, outputs: Sequence[str], values: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """The outputs with these names for inputs by name."""


class ForeignRuntime:
    """A third-party network on the CPU, or in the session that is given, with its halo.

    threads: None uses every core. memory: memory limit in bytes, None: half of the free memory. Raises
    OnebranchError, with the reason, for a network that cannot run.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: ForeignModel,
        threads: int | None = None,
        memory: int | None = None,
        session: OpenedSession | None = None,
    ) -> None:
        self.model, self._memory = model, memory
        self._graph, self._analysis = model.usable()
        ((self._input, value),) = self._graph.inputs.items()
        (self._output,) = self._graph.outputs
        self._kind = value.kind
        self._refused: set[tuple[int, int]] = set()
        self._estimates: dict[tuple[int, int], int] = {}
        self._sizing = Sizing(self._graph, self._analysis)
        self._session = session or _opened(model, threads)
        self.halo = self._probed() if self._analysis.unsupported else self._sizing.halo()

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (N, C, H, W), float32 in [0, 1] -> the network's output, float32, unclipped.

        A picture on whose size the network does not run is padded by its last row and column up to the next
        size on which it does, and the output is cropped. Raises OnebranchError for a size on which the
        network does not run, or that takes more than the memory limit.
        """
        results = [self._one(picture[None]) for picture in pictures]
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _one(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[2:]
        self._check_size(height, width)
        rows, columns = (self._padded(side) - side for side in (height, width))
        if (rows or columns) and (height, width) not in self._refused:
            native_rows, native_columns = self._padding_if_native(height, width)
            if (native_rows, native_columns) != (rows, columns):
                try:
                    return self._padded_run(picture, native_rows, native_columns)
                except OnebranchError:
                    self._refused.add((height, width))
        return self._padded_run(picture, rows, columns)

    def _padding_if_native(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of padding, 0 along each axis on whose size the network runs without padding."""
        if self.halo.needs_whole_picture:
            return 0, 0
        rows, columns = (
            0 if self._sizing.runs_at(axis, side) else self._padded(side) - side
            for axis, side in enumerate((height, width))
        )
        return rows, columns

    def _padded_run(self, picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """The output for the padded picture, cropped to the scaled size of the original picture."""
        height, width = picture.shape[2:]
        self._check_memory(height + rows, width + columns)
        if rows or columns:
            picture = np.pad(picture, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="edge")
        tall, wide = (self.halo.scaled(side) for side in (height, width))
        return self._checked(picture)[:, :, :tall, :wide]

    def _checked(self, picture: np.ndarray) -> np.ndarray:
        """The network's output, which must have the size of the picture times the network's scale."""
        output = self._computed(picture)
        expected = (*picture.shape[:2], *(self.halo.scaled(side) for side in picture.shape[2:]))
        if output.shape != expected:
            raise OnebranchError(
                f"{self.model.path} gives an output of shape {output.shape} for one of {picture.shape}, where"
                f" {expected} was expected; it is not a network with one scale"
            )
        return np.asarray(output, np.float32)

    def _padded(self, side: int) -> int:
        """The next height or width that is a multiple and at least the minimum size."""
        cells = max(-(-side // self.halo.multiple), -(-self.halo.minimum_size // self.halo.multiple))
        return cells * self.halo.multiple

    def _computed(self, picture: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(picture.astype(self._kind, copy=False))
        try:
            output = self._session.run([self._output], {self._input: values})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
            height, width = picture.shape[2:]
            why = " ".join(str(error).split())
            raise OnebranchError(
                f"{self.model.path} does not run on {width}x{height} pixels: {why}"
            ) from None
        return output

    def _check_size(self, height: int, width: int) -> None:
        exact = self.halo.fixed_size
        if exact and exact != (height, width):
            rule = f"it runs on pictures of {exact[1]}x{exact[0]} pixels only"
            if not self.halo.needs_whole_picture:
                rule = f"its size is fixed, to {exact[1]}x{exact[0]} pixels, and pictures must not be smaller"
            raise OnebranchError(
                f"{self.model.path} cannot run on {width}x{height} pixels: {rule}; export it with open sizes"
            )

    def _check_memory(self, height: int, width: int) -> None:
        """Raise OnebranchError if a picture of that size takes more than the memory limit."""
        if (height, width) not in self._estimates:
            self._estimates[height, width] = memory_estimate(self._graph, self._analysis, height, width)
        need, limit = self._estimates[height, width], memory_limit(self._memory)
        if need <= limit:
            return
        reasons = (*self._analysis.whole_picture_reasons, self._analysis.unsupported)
        why = f" at once ({reasons[0]})" if self.halo.needs_whole_picture else ""
        smaller = "picture" if self.halo.needs_whole_picture else "--tile"
        raise OnebranchError(
            f"{self.model.path} needs about {format_bytes(need)} of memory for {width}x{height}"
            f" pixels{why}, and {format_bytes(limit)} are allowed; choose a smaller {smaller}, or allow"
            " more with --memory"
        )

    def _probed(self) -> Halo:
        """Scale and multiple of a network that the analysis does not support, found by running it."""
        reason = ""
        for multiple, (height, width) in self._trials():
            picture = np.full((1, self._analysis.channels[0], height, width), 0.5, np.float32)
            try:
                shape = self._computed(picture).shape
            except OnebranchError as error:
                reason = reason or str(error)
                continue
            scales = {
                Fraction(side, before) for side, before in zip(shape[2:], (height, width), strict=False)
            }
            if len(shape) == 4 and shape[1] == picture.shape[1] and len(scales) == 1:
                return whole_picture_halo(scales.pop(), multiple, 1, self._analysis.fixed_size)
            reason = reason or f"{self.model.path} makes {shape} of {picture.shape}; it has no one scale"
        raise OnebranchError(
            "none of the sizes that were tried suits the network; name one on which it runs with --input-size"
            f" HxW (height x width): {reason}"
        )

    def _trials(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Multiples, and sizes that are odd multiples of them; only the fixed size if there is one."""
        height, width = self._analysis.fixed_size
        if height is not None and width is not None:
            yield 1, (height, width)
            return
        for multiple in MULTIPLES:
            yield multiple, _odd_multiples(multiple)
        valid = valid_sizes(self._graph, {})
        if not valid.admits(*_odd_multiples(1)):
            others = (number for number in range(1, MAX_MULTIPLE + 1) if number not in MULTIPLES)
            for multiple in others:
                if valid.admits(*_odd_multiples(multiple)):
                    yield multiple, _odd_multiples(multiple)


def _odd_multiples(multiple: int) -> tuple[int, int]:
    """A height and a width of at least 36 pixels, or near it, that are not multiples of twice this number."""
    odd = 36 // multiple | 1
    return multiple * odd, multiple * (odd + 2)


def _opened(model: ForeignModel, threads: int | None) -> OpenedSession:
    options = session_options(threads)
    options.log_severity_level = NO_LOG
    options.enable_mem_pattern = False  # it keeps a second copy of all values for every tile size
    try:
        session: OpenedSession = onnxruntime.InferenceSession(
            model.content or model.path, options, providers=["CPUExecutionProvider"]
        )
        return session
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise OnebranchError(
            f"ONNX Runtime cannot open {model.path}: {' '.join(str(error).split())}"
        ) from None
