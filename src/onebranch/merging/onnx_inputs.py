"""Random inputs on which an ONNX model and its merged form are compared, of sizes on which the model runs."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx import helper

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.valid_sizes import (
    MAX_SIDE,
    InputSize,
    ValidSizes,
    valid_sizes,
    with_open_channels_resolved,
)
from onebranch.graph.onnx.constants import constants
from onebranch.graph.onnx.graph import read_graph
from onebranch.graph.onnx.inference import inferred_values
from onebranch.graph.onnx.linear import EXAMPLE_PIXELS
from onebranch.graph.operations import Graph, Value
from onebranch.merging.check import MIN_COMPARED, Run

TRIED_SIZES = ((64, 64), (48, 80), (33, 47), (97, 31), (128, 96), (224, 224), (256, 256), (512, 512))
"""Heights and widths that are tried for open ones, in this order, before others are searched in the graph."""


class CheckInputs:
    """Random inputs of a model, always the same, with the given sizes or else with sizes on which it runs.

    named: sizes of pictures, for the dimensions that the model leaves open. Iterating gives lists of arrays,
    one for each input.
    """

    def __init__(self, model: onnx.ModelProto, named: Sequence[InputSize] = ()) -> None:
        self._model, self.named = model, tuple(named)
        self._is_searched = False
        self._refusals: dict[InputSize, str] = {}

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Inputs of the named sizes; else of `TRIED_SIZES`, then of the sizes that the graph's shapes allow.

        Sizes that `example` found not to run are left out.
        """
        random = np.random.default_rng(0)
        for size in self._sizes():
            values = [self._random(value, size, random) for value in self._values]
            if size not in self._refusals:
                yield values

    def _sizes(self) -> Iterator[InputSize]:
        if self.named:
            repeats = -(-MIN_COMPARED // len(self.named))
            yield from self.named * repeats
            return
        yield from (InputSize(*size) for size in TRIED_SIZES)
        self._is_searched = True
        yield from self._valid.fixed()[:MIN_COMPARED]
        nearest = (self._valid.nearest(*size) for size in TRIED_SIZES)
        tried = {InputSize(*size) for size in TRIED_SIZES}
        yield from dict.fromkeys(size for size in nearest if size is not None and size not in tried)

    def example(self, run: Run | None) -> InputSize:
        """The size at which MACs are counted: the first named one, or `EXAMPLE_PIXELS` squared.

        If `run`, the model, accepts none of `TRIED_SIZES`, it is the first searched size that it accepts.
        Raises OnebranchError if a size is named although no input leaves its size open.
        """
        if self.named:
            self._check_named()
            return self.named[0]
        usual = InputSize(EXAMPLE_PIXELS, EXAMPLE_PIXELS)
        if run is None or not self._has_open_sides:
            return usual
        for size in self._sizes():
            try:
                run([self._random(value, size, np.random.default_rng(0)) for value in self._values])
            except Exception as error:  # of the runtime: the model does not accept this size
                self._refusals[size] = str(error).splitlines()[0]
                continue
            return size if self._is_searched else usual
        return usual

    def _check_named(self) -> None:
        pictures = {value.name: _fixed_dims(value) for value in self._values}
        if any(None in sides[1:] for sides in pictures.values() if len(sides) > 2):
            return
        name, sides = next(iter(pictures.items()), ("", []))
        shape = "x".join(str(side or "open") for side in sides)
        raise OnebranchError(
            f"the model fixes the size of its input '{name}' ({shape}); --input-size is for models that leave"
            " it open"
        )

    def size_limits(self) -> tuple[str, ...]:
        """A sentence for the user if the model fixes its size although it declares it open."""
        if not self._is_searched or not (sizes := self._valid.fixed()):
            return ()
        only = f"only on {sizes[0]}" if len(sizes) == 1 else f"on {len(sizes)} sizes only, such as {sizes[0]}"
        limit = (
            f"the model declares its height and width open, but it runs {only} (height x width), because"
            f" {self._valid.cause} fixes them; export the original for another size, or with open sizes"
            " (the dynamo exporter of PyTorch keeps more sizes open than TorchScript); --input-size names the"
            " size of the comparison"
        )
        return (limit,)

    def advice(self) -> str:
        """The end of the message for a model that runs on none of the inputs."""
        if self.named:
            return f" ({', '.join(map(str, self.named))}, height x width)"
        reason = "".join(f": {reason}" for reason in list(self._refusals.values())[:1])
        return f"; name a size on which it runs with --input-size HxW (height x width, such as 48x96){reason}"

    @cached_property
    def _values(self) -> list[onnx.ValueInfoProto]:
        weights = {tensor.name for tensor in self._model.graph.initializer}
        return [value for value in self._model.graph.input if value.name not in weights]

    @property
    def _has_open_sides(self) -> bool:
        return any(None in _fixed_dims(value)[2:] for value in self._values)

    @cached_property
    def _read(self) -> tuple[Graph, dict[str, Value]]:
        """The graph, and the shapes that ONNX infers."""
        known = constants(self._model)
        return read_graph(self._model, known), inferred_values(self._model, known)

    @cached_property
    def _valid(self) -> ValidSizes:
        try:
            graph, declared = self._read
        except OnebranchError:  # the graph cannot be read
            return ValidSizes(np.zeros((MAX_SIDE, MAX_SIDE), np.bool_))
        return valid_sizes(with_open_channels_resolved(graph, declared), declared)

    @cached_property
    def _channels(self) -> dict[str, int]:
        """The channels that the weights require, by input, for input pictures that leave them open."""
        dims = {value.name: _fixed_dims(value) for value in self._values}
        if not any(len(sides) == 4 and sides[1] is None for sides in dims.values()):
            return {}
        try:
            inputs = with_open_channels_resolved(*self._read).inputs
        except OnebranchError:  # the graph cannot be read
            return {}
        sides = {name: value.shape[1] for name, value in inputs.items() if len(value.shape) == 4}
        return {name: side for name, side in sides.items() if isinstance(side, int)}

    def _random(self, value: onnx.ValueInfoProto, size: InputSize, random: np.random.Generator) -> np.ndarray:
        sides = _fixed_dims(value)
        wanted: dict[int, int] = {}
        if len(sides) > 2:
            wanted = dict(zip(range(len(sides) - 2, len(sides)), (size.height, size.width), strict=True))
        if len(sides) == 4:
            wanted[1] = size.channels or self._channels.get(value.name, 1)
        shape = [side or wanted.get(axis, 1) for axis, side in enumerate(sides)]
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if kind.kind == "f":
            return np.asarray(random.random(shape), kind)
        return np.asarray(random.integers(0, 2, shape), kind)


def _fixed_dims(value: onnx.ValueInfoProto) -> list[int | None]:
    """The dimensions of an input; None for open ones (named, 0 or negative)."""
    return [d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim]
