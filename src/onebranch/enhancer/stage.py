"""One model at work on a picture's samples: its colours through the network and back, by several routes.

`ArrayStage` is the definition, in numpy, for any runtime. `GraphStage` has ONNX Runtime do the conversions,
and `engine_stage.EngineStage` the engine. Y networks see luma; chroma and alpha are resized by interpolation.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from onebranch.enhancer.picture_graph import interleaved, interpolation_graph, picture_graph
from onebranch.graph.analysis.halo import Halo, halo
from onebranch.graph.operations import Graph
from onebranch.images.colour import luma, to_rgb, to_ycbcr
from onebranch.images.picture import Samples, as_depth
from onebranch.images.resize import Kernel, resize
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime
from onebranch.spec.network import Colour

BLACK, RANGE = np.float32(16 / 255), np.float32(219 / 255)
"""Studio luma of black, and of white less that of black."""

INTERPOLATION_REACH = 2
"""Pixels that bicubic interpolation needs on each side, times the factor where it reduces."""

Function = Callable[[Samples], Samples]
"""A piece of a picture (H, W, C) -> the same piece, enhanced (H', W', C)."""


class Described(Protocol):
    """What is asked of a model whose network runs: a `Model`, or a `ForeignModel`."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def colour(self) -> Colour:
        """The colours of the pictures that its network takes."""


class Stage(Protocol):
    """A model that is ready to run on pieces of pictures.

    Types are uint8, uint16 or float32. Whole numbers are clipped and rounded half up, floats are neither.
    streams: whether it takes a whole picture and keeps only some of its rows; the others get tiles.
    phase: see `steps.NetworkStep`.
    """

    runtime: str
    streams: bool
    phase: int
    halo: Halo

    @property
    def model(self) -> Described:
        """The model."""

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """The function for pixels of 1 (grey) or 3 (RGB) channels, from type to type.

        A Y network sees the grey value g as the studio luma of (g, g, g), that is 16/255 + g 219/255, and its
        output is mapped back. An RGB network sees (g, g, g); the luma of its output is mapped back.
        """

    def alpha(self, source: str, target: str) -> Function:
        """The function for alpha (H, W, 1): interpolation to the size of the network's output."""


def scale_of(stage: Stage) -> Fraction:
    """Output pixels for one input pixel, along an axis."""
    return stage.halo.scale


def with_interpolation(own: Halo) -> Halo:
    """The larger of the network's halo and the interpolation's, on every side."""
    reach = INTERPOLATION_REACH * own.scale.denominator if own.scale != 1 else 0
    sides = {side: max(reach, getattr(own, side)) for side in ("top", "bottom", "left", "right")}
    return replace(own, **sides)


class GraphStage:
    """A model in ONNX Runtime, the conversions in the graph; a session for every kind of picture it meets."""

    runtime = "onnxruntime"
    streams = False
    phase = 1

    def __init__(self, model: Model, chroma: Kernel = "bicubic", threads: int | None = None) -> None:
        self.model, self.chroma, self.threads = model, chroma, threads
        self.halo = with_interpolation(halo(lower(model.spec, model.weights)))
        self._opened: dict[tuple[str | int, ...], Function] = {}

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """As `Stage.pixels`."""
        key = channels, source, target
        if key not in self._opened:
            graph = picture_graph(self.model, channels, self.chroma, source, target)
            self._opened[key] = self._function(graph)
        return self._opened[key]

    def alpha(self, source: str, target: str) -> Function:
        """As `Stage.alpha`."""
        key = "alpha", source, target
        if key not in self._opened:
            graph = interpolation_graph(self.model.spec, self.chroma, source, target)
            self._opened[key] = self._function(graph)
        return self._opened[key]

    def _function(self, graph: Graph) -> Function:
        from onebranch.runtime.onnxruntime import Session

        session = Session(graph, self.threads)
        return lambda piece: interleaved(session.run(np.ascontiguousarray(piece)))


class ArrayStage:
    """A model in any runtime, the conversions in numpy."""

    streams = False
    phase = 1

    def __init__(self, model: Described, network: Runtime, chroma: Kernel = "bicubic") -> None:
        self.model, self.network, self.chroma = model, network, chroma
        self.runtime = network.name
        self.halo = with_interpolation(network.halo)

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """As `Stage.pixels`."""
        if self.model.colour == "rgb":
            apply = self._run if channels == 3 else self._rgb_network_on_grey
        else:
            apply = self._y_network_on_rgb if channels == 3 else self._y_network_on_grey
        return lambda piece: as_depth(apply(_floats(piece)), target)

    def alpha(self, source: str, target: str) -> Function:
        """As `Stage.alpha`."""
        return lambda piece: as_depth(self._interpolated(_floats(piece)), target)

    def _run(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, C) through the network, as (H', W', C)."""
        pictures = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
        return np.asarray(self.network.run(pictures)[0].transpose(1, 2, 0))

    def _rgb_network_on_grey(self, picture: np.ndarray) -> np.ndarray:
        coloured = self._run(np.broadcast_to(picture, (*picture.shape[:2], 3)))
        return np.asarray((luma(coloured)[..., None] - BLACK) / RANGE)

    def _y_network_on_grey(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray((self._run(picture * RANGE + BLACK) - BLACK) / RANGE)

    def _y_network_on_rgb(self, picture: np.ndarray) -> np.ndarray:
        ycbcr = to_ycbcr(picture)
        enhanced = self._run(ycbcr[..., :1])
        return to_rgb(np.concatenate([enhanced, self._interpolated(ycbcr[..., 1:])], axis=2))

    def _interpolated(self, planes: np.ndarray) -> np.ndarray:
        """Planes (H, W, C) that the network does not see, at the size of its output, unclipped."""
        scale = scale_of(self)
        if scale == 1:
            return planes
        height, width = planes.shape[:2]
        rows, columns = (-side % scale.denominator for side in (height, width))
        if rows or columns:
            planes = np.pad(planes, ((0, rows), (0, columns), (0, 0)), mode="edge")
        tall, wide = (self.halo.scaled(side) for side in (height, width))
        height, width = (int(side * scale) for side in planes.shape[:2])
        return resize(planes, height, width, kernel=self.chroma, border="edge")[:tall, :wide]


def _floats(piece: Samples) -> np.ndarray:
    return as_depth(piece, "float32").astype(np.float32, copy=False)
