"""Stages: a model that is applied to samples, with the colour conversions before and after its network.

`ArrayStage` is the reference implementation, in numpy, for any runtime. In `GraphStage`, ONNX Runtime does
the conversions; in `engine_stage.EngineStage`, the engine does them. Networks of colour "y" process luma;
chroma and alpha are interpolated.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from onebranch.enhancer.finite import check_output, checked
from onebranch.enhancer.picture_graph import interleaved, interpolation_graph, picture_graph
from onebranch.graph.analysis.halo import Halo, halo
from onebranch.graph.operations import Graph
from onebranch.images.colour import luma, to_rgb, to_ycbcr
from onebranch.images.resize import Kernel, resize
from onebranch.images.samples import Samples, as_depth
from onebranch.lowering.floats import lower
from onebranch.model.file import Model
from onebranch.runtime.protocol import Runtime
from onebranch.spec.network import Colour

LUMA_BLACK, LUMA_RANGE = np.float32(16 / 255), np.float32(219 / 255)
"""Studio-range luma / 255 of black, and the difference between white and black."""

INTERPOLATION_RADIUS = 2
"""Pixels that bicubic interpolation needs on each side. For downscaling, multiply them by the factor."""

Function = Callable[[Samples], Samples]
"""A function from a part of a picture (H, W, C) to the enhanced part (H', W', C)."""


class ModelDescription(Protocol):
    """What a stage needs to know about a model, which is a `Model` or a third-party network."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def colour(self) -> Colour:
        """The colour of the network's input: "y" or "rgb"."""


class Stage(Protocol):
    """A model that is ready to run on parts of pictures.

    Sample types are uint8, uint16 or float32. Integers are clipped and rounded half up; floats are not.
    streams: True if the memory does not depend on the height of a part; other stages process tiles. phase:
    see `steps.NetworkStep`.
    """

    runtime: str
    streams: bool
    phase: int
    halo: Halo

    @property
    def model(self) -> ModelDescription:
        """The model."""

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """The function for pixels of 1 (grey) or 3 (RGB) channels, from one sample type to another.

        For grey pictures, a Y network gets the studio-range luma of (g, g, g), which is 16/255 + g 219/255,
        and an RGB network gets (g, g, g). The luma of the output is mapped back to a grey value.
        """

    def alpha(self, source: str, target: str) -> Function:
        """The function for alpha (H, W, 1): interpolation to the size of the network's output."""


def scale_of(stage: Stage) -> Fraction:
    """The scale factor of the stage: output pixels per input pixel along an axis."""
    return stage.halo.scale


def with_interpolation(network: Halo) -> Halo:
    """On every side, the larger one of the halos of the network and of the interpolation."""
    radius = INTERPOLATION_RADIUS * network.scale.denominator if network.scale != 1 else 0
    sides = {side: max(radius, getattr(network, side)) for side in ("top", "bottom", "left", "right")}
    return replace(network, **sides)


class GraphStage:
    """A `Stage` in ONNX Runtime with the conversions in its graph, and a session per kind of picture."""

    runtime = "onnxruntime"
    streams = False
    phase = 1

    def __init__(self, model: Model, chroma: Kernel = "bicubic", threads: int | None = None) -> None:
        self.model, self.chroma, self.threads = model, chroma, threads
        self.halo = with_interpolation(halo(lower(model.spec, model.weights)))
        self._opened: dict[tuple[str | int, ...], Function] = {}

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        key = channels, source, target
        if key not in self._opened:
            graph = picture_graph(self.model, channels, self.chroma, source, target)
            function = self._function(graph)
            floats = target == "float32"
            self._opened[key] = checked(function, self.model.name) if floats else function
        return self._opened[key]

    def alpha(self, source: str, target: str) -> Function:
        """See `Stage.alpha`."""
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
    """A `Stage` in any runtime, with the conversions in numpy."""

    streams = False
    phase = 1

    def __init__(self, model: ModelDescription, network: Runtime, chroma: Kernel = "bicubic") -> None:
        self.model, self.network, self.chroma = model, network, chroma
        self.runtime = network.name
        self.halo = with_interpolation(network.halo)

    def pixels(self, channels: int, source: str, target: str) -> Function:
        """See `Stage.pixels`."""
        if self.model.colour == "rgb":
            apply = self._run if channels == 3 else self._rgb_network_on_grey
        else:
            apply = self._y_network_on_rgb if channels == 3 else self._y_network_on_grey
        return lambda piece: as_depth(apply(_floats(piece)), target)

    def alpha(self, source: str, target: str) -> Function:
        """See `Stage.alpha`."""
        return lambda piece: as_depth(self._interpolated(_floats(piece)), target)

    def _run(self, picture: np.ndarray) -> np.ndarray:
        """The network's output (H', W', C) for a picture (H, W, C). OnebranchError if it is not finite."""
        pictures = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
        output = self.network.run(pictures)
        check_output(output, pictures, self.model.name)
        return np.asarray(output[0].transpose(1, 2, 0))

    def _rgb_network_on_grey(self, picture: np.ndarray) -> np.ndarray:
        coloured = self._run(np.broadcast_to(picture, (*picture.shape[:2], 3)))
        return np.asarray((luma(coloured)[..., None] - LUMA_BLACK) / LUMA_RANGE)

    def _y_network_on_grey(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray((self._run(picture * LUMA_RANGE + LUMA_BLACK) - LUMA_BLACK) / LUMA_RANGE)

    def _y_network_on_rgb(self, picture: np.ndarray) -> np.ndarray:
        ycbcr = to_ycbcr(picture)
        enhanced = self._run(ycbcr[..., :1])
        return to_rgb(np.concatenate([enhanced, self._interpolated(ycbcr[..., 1:])], axis=2))

    def _interpolated(self, planes: np.ndarray) -> np.ndarray:
        """Planes (H, W, C), interpolated to the size of the network's output, not clipped."""
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
