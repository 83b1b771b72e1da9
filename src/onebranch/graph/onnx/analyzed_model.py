"""The facts about an ONNX model that the rules for linear operations need, such as shapes and constants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import TensorProto

from onebranch.graph.analysis.shapes import Shapes
from onebranch.graph.analysis.symbolic_size import SymbolicSize
from onebranch.graph.merge.checks import (
    NotLinear,
)
from onebranch.graph.merge.linear import (
    Linear,
)
from onebranch.graph.onnx.index_arrays import IndexArrayReader
from onebranch.graph.operations import Graph, Node

MERGED_TYPES = ("float32", "float64")
"""Element types of values that are merged."""

SHORT_FLOATS = ("float16", "bfloat16")
"""Element types for which the message advises to merge the model before converting it."""

MAX_SLICE_BOUND = 1 << 40
"""Slice bounds are limited to this value, which is beyond every axis."""

ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
"""ONNX's numbers of the merged element types, for `Cast`."""

FLOAT32_ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Relative difference between results of a few float32 operations in two different orders."""

Read = tuple[Linear, tuple[str, ...]]
"""A linear operation, and the values that it reads."""

AxisSizes = Sequence[SymbolicSize]

OnnxRule = Callable[[Node, "AnalyzedModel"], list[Read] | None]
"""A linear operation for each output; None: not applicable. Raises NotLinear with the reason."""


@dataclass
class AnalyzedModel:
    """A graph with the symbolic shape, the element type and the maker of every value."""

    graph: Graph
    shapes: Shapes
    types: Mapping[str, str]

    @cached_property
    def makers(self) -> dict[str, Node]:
        return {name: node for node in self.graph.nodes for name in node.outputs}

    def maker(self, name: str, kind: str) -> Node | None:
        """The operation that computes a value, if it is of this kind."""
        node = self.makers.get(name)
        return node if node and node.kind == kind else None

    @cached_property
    def arrays(self) -> IndexArrayReader:
        return IndexArrayReader(self.graph, self.shapes)

    def is_constant(self, name: str) -> bool:
        return name in self.graph.constants

    def rank(self, name: str) -> int:
        """The rank of a value; 0 if it is not known."""
        return len(self.shapes.get(name, ()))

    def is_plane(self, name: str) -> bool:
        """True for a value (N, C, H, W) or (N, C) of a merged element type that is not a constant."""
        is_picture = self.rank(name) in (2, 4) and self.types.get(name) in MERGED_TYPES
        return is_picture and not self.is_constant(name)

    def channels(self, name: str) -> int:
        """Channels of a value (N, C, H, W) or (N, C) of floats. Raises NotLinear."""
        kind = self.types.get(name, "")
        if kind in SHORT_FLOATS:
            raise NotLinear(f"its numbers are {kind}: merge the float32 model, then convert")
        if kind not in MERGED_TYPES:
            raise NotLinear("the type of its input is not known to be float32")
        if self.rank(name) not in (2, 4):
            raise NotLinear(f"its input has rank {self.rank(name) or 'unknown'}, not 4 (or 2)")
        number = self.shapes[name][1].number
        if number is None:
            raise NotLinear("its number of channels is not fixed")
        return int(number)

    def constant(self, name: str, what: str) -> np.ndarray:
        """A constant. Raises NotLinear, which names it by `what`."""
        if not self.is_constant(name):
            raise NotLinear(f"its {what} is not a constant")
        array = self.graph.constants[name]
        if array.dtype == np.float16:
            raise NotLinear(f"its {what} is float16: merge the float32 model, then convert")
        return array

    def picture(self, node: Node, rank: int | None = 4) -> tuple[str, int]:
        """The node's first input and its channels. Raises NotLinear if it has another rank."""
        name = node.inputs[0]
        if self.is_constant(name):
            raise NotLinear("its input is a constant")
        channels = self.channels(name)
        if rank is not None and self.rank(name) != rank:
            raise NotLinear(f"its input has rank {self.rank(name)}, not {rank}")
        return name, channels
