"""What is known while a graph is looked through: every value so far, and what the picture's sides must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

import numpy as np
import numpy.typing as npt

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph, Node
from onebranch.graph.seeing.size import Size, Undecided, as_size, rounded_down
from onebranch.graph.seeing.view import View, fixed

MANY = 4096
"""More numbers than that are weights, not sizes."""


class Unknown(OnebranchError):
    """An operation, or a form of it, of which no shape is known; the text says which."""


Objects = npt.NDArray[np.object_]
"""An array of `Size`s."""


@dataclass(frozen=True)
class Numbers:
    """An array of sizes: constants, or what `Shape` gives and is computed from it.

    integers: whether they are of an integer type, which is divided otherwise.
    """

    values: Objects
    integers: bool

    def flat(self) -> list[Size]:
        """All of them in order."""
        return list(self.values.ravel())


Value = View | Numbers

Rule = Callable[[Node, "Scope"], Sequence[Value]]
"""What an operation gives; outputs beyond those that the rule gives are not known."""


@dataclass
class Scope:
    """Values by name, and what sides must be.

    multiple: of the picture's sides. least: sides for which every value has a pixel, and one to reflect where
    it is reflected. smallest: sides of a piece at the picture's border.
    """

    graph: Graph
    picture: tuple[Size, Size]
    values: dict[str, Value] = field(default_factory=dict)
    multiple: int = 1
    least: int = 1
    smallest: int = 1

    def view(self, name: str) -> View:
        """A value's axes; those of a constant or of sizes too."""
        value = self.values.get(name)
        if isinstance(value, View):
            return value
        if isinstance(value, Numbers):
            varies = any(number.number is None for number in value.flat())
            view = fixed(value.values.shape, self.picture)
            return View(view.axes, {}, varies, self.picture)
        if name not in self.graph.constants:
            raise Unknown(f"nothing is known of '{name}'")
        return fixed(self.graph.constants[name].shape, self.picture)

    def views(self, node: Node) -> list[View]:
        """The axes of every input that is there."""
        return [self.view(name) for name in node.inputs if name]

    def numbers(self, name: str) -> Numbers | None:
        """A value as sizes; None where it is none."""
        if name in self.graph.constants:
            array = self.graph.constants[name]
            if array.dtype.kind not in "iufb" or array.size > MANY:
                return None
            return as_numbers(array)
        value = self.values.get(name)
        return value if isinstance(value, Numbers) else None

    def sizes(self, name: str) -> list[Size]:
        """A value as a list of sizes. Raises Unknown where it is none."""
        found = self.numbers(name)
        if found is None:
            raise Unknown(f"'{name}' is neither a constant nor computed from sizes")
        return found.flat()

    def integers(self, name: str) -> list[int]:
        """A value as whole numbers that no picture changes. Raises Unknown where it is none."""
        found = [size.number for size in self.sizes(name)]
        if any(number is None or number.denominator != 1 for number in found):
            raise Unknown(f"'{name}' depends on the picture")
        return [int(number or 0) for number in found]

    def rounded(self, size: Size) -> Size:
        """The whole part of a size; the picture's sides must be such that it is one for all of them."""
        whole, multiple = rounded_down(size)
        self.multiple = lcm(self.multiple, multiple)
        return whole


def as_numbers(array: np.ndarray) -> Numbers:
    """A constant as sizes."""
    values = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        number = array[index].item()
        if isinstance(number, float) and not np.isfinite(number):
            raise Unknown(f"{number} is no size")
        values[index] = as_size(Fraction(number))
    return Numbers(values, array.dtype.kind in "iub")


def input_name(node: Node, index: int) -> str:
    """The name of an input; empty where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else ""


def integer(node: Node, name: str, default: int) -> int:
    """A whole number among the attributes."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int), f"{node.kind}: {name} is an integer"
    return value


def integers(node: Node, name: str, default: Sequence[int]) -> list[int]:
    """Whole numbers among the attributes."""
    value = node.attributes.get(name, tuple(default))
    assert isinstance(value, tuple), f"{node.kind}: {name} is a list of integers"
    return [int(number) for number in value]


def text(node: Node, name: str, default: str) -> str:
    """A word among the attributes."""
    return str(node.attributes.get(name, default))


def axis_index(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises Unknown where there is none of that number."""
    if not -rank <= axis < rank:
        raise Unknown(f"there is no axis {axis} among {rank}")
    return axis % rank


def exact(size: Size) -> Fraction:
    """A size as a number. Raises Undecided where it depends on the picture."""
    if size.number is None:
        raise Undecided(f"{size} depends on the picture")
    return size.number
