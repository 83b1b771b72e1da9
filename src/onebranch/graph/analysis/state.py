"""The state of a graph analysis: the values analyzed so far, and constraints on the picture's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.symbolic_size import (
    SymbolicSize,
    UndeterminedSizeError,
    as_size,
    floor_with_multiple,
)
from onebranch.graph.analysis.symbolic_tensor import SymbolicTensor, constant_tensor
from onebranch.graph.operations import Graph, Node

MAX_SIZE_VALUES = 4096
"""A constant of at most this many elements is treated as an array of sizes; a larger one is a weight."""


class UnsupportedOperationError(OnebranchError):
    """The analysis does not support an operation, or one of its options; the message says which."""


SizeArray = npt.NDArray[np.object_]
"""An array whose elements are `SymbolicSize`s."""


@dataclass(frozen=True)
class SymbolicValues:
    """An array of known symbolic values: a small constant, or computed from the output of `Shape`.

    is_integer: True if its element type is an integer or bool, where division rounds towards zero.
    """

    values: SizeArray
    is_integer: bool

    def flat(self) -> list[SymbolicSize]:
        """All elements in row-major order."""
        return list(self.values.ravel())


AnalysisValue = SymbolicTensor | SymbolicValues

AnalysisRule = Callable[[Node, "AnalysisState"], Sequence[AnalysisValue]]
"""The values of an operation's outputs; outputs that the rule does not return are unknown."""


@dataclass
class AnalysisState:
    """Values by name, and constraints on the height and width of the picture.

    input_size: height and width of the picture. multiple: height and width must be multiples of it.
    minimum_size: the smallest height and width for which every value has a pixel, and enough pixels for
    padding by reflection. minimum_border_tile: the smallest height and width of a tile at the picture's
    border. remainder: the height and width of the picture minus `input_size`, which is a multiple.
    """

    graph: Graph
    input_size: tuple[SymbolicSize, SymbolicSize]
    values: dict[str, AnalysisValue] = field(default_factory=dict)
    multiple: int = 1
    minimum_size: int = 1
    minimum_border_tile: int = 1
    remainder: tuple[int, int] = (0, 0)

    def tensor(self, name: str) -> SymbolicTensor:
        """A value as a symbolic tensor, constants included. Raises UnsupportedOperationError if unknown."""
        value = self.values.get(name)
        if isinstance(value, SymbolicTensor):
            return value
        if isinstance(value, SymbolicValues):
            depends_on_picture = any(size.number is None for size in value.flat())
            tensor = constant_tensor(value.values.shape, self.input_size)
            return SymbolicTensor(tensor.axes, {}, depends_on_picture, self.input_size)
        if name not in self.graph.constants:
            raise UnsupportedOperationError(f"nothing is known of '{name}'")
        return constant_tensor(self.graph.constants[name].shape, self.input_size)

    def tensors(self, node: Node) -> list[SymbolicTensor]:
        """Every input that is present, as a symbolic tensor."""
        return [self.tensor(name) for name in node.inputs if name]

    def symbolic_values(self, name: str) -> SymbolicValues | None:
        """A value as an array of symbolic sizes; None if its elements are not known."""
        if name in self.graph.constants:
            array = self.graph.constants[name]
            if array.dtype.kind not in "iufb" or array.size > MAX_SIZE_VALUES:
                return None
            return as_symbolic_values(array)
        value = self.values.get(name)
        return value if isinstance(value, SymbolicValues) else None

    def sizes(self, name: str) -> list[SymbolicSize]:
        """A value as a list of sizes. Raises UnsupportedOperationError if its elements are not known."""
        values = self.symbolic_values(name)
        if values is None:
            raise UnsupportedOperationError(f"'{name}' is neither a constant nor computed from sizes")
        return values.flat()

    def integers(self, name: str) -> list[int]:
        """A value as constant integers. Raises UnsupportedOperationError if it depends on the picture."""
        numbers = [size.number for size in self.sizes(name)]
        if any(number is None or number.denominator != 1 for number in numbers):
            raise UnsupportedOperationError(f"'{name}' depends on the picture")
        return [int(number or 0) for number in numbers]

    def floored(self, size: SymbolicSize) -> SymbolicSize:
        """The size rounded down; `multiple` is increased so that the result is a polynomial."""
        whole, multiple = floor_with_multiple(size)
        self.multiple = lcm(self.multiple, multiple)
        return whole

    def floored_approximately(self, size: SymbolicSize) -> SymbolicSize:
        """The size rounded down without requiring a multiple, for tensors that are global anyway."""
        return floor_with_multiple(size)[0]


def as_symbolic_values(array: np.ndarray) -> SymbolicValues:
    """A constant as symbolic values. Raises UnsupportedOperationError for infinity and NaN."""
    values = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        number = array[index].item()
        if isinstance(number, float) and not np.isfinite(number):
            raise UnsupportedOperationError(f"{number} is not a size")
        values[index] = as_size(Fraction(number))
    return SymbolicValues(values, array.dtype.kind in "iub")


def input_name(node: Node, index: int) -> str:
    """The name of an input; empty if the optional input is absent."""
    return node.inputs[index] if index < len(node.inputs) else ""


def int_attribute(node: Node, name: str, default: int) -> int:
    """An integer attribute, or its default."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int), f"{node.kind}: {name} is an integer"
    return value


def ints_attribute(node: Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is a list of integers, or its default."""
    value = node.attributes.get(name, tuple(default))
    assert isinstance(value, tuple), f"{node.kind}: {name} is a list of integers"
    return [int(number) for number in value]


def str_attribute(node: Node, name: str, default: str) -> str:
    """A string attribute, or its default."""
    return str(node.attributes.get(name, default))


def axis_index(axis: int, rank: int) -> int:
    """An axis as a non-negative index. Raises UnsupportedOperationError if it is out of range."""
    if not -rank <= axis < rank:
        raise UnsupportedOperationError(f"there is no axis {axis} among {rank}")
    return axis % rank


def constant_size(size: SymbolicSize) -> Fraction:
    """A size as a number. Raises UndeterminedSizeError if it depends on the picture."""
    if size.number is None:
        raise UndeterminedSizeError(f"{size} depends on the picture")
    return size.number
