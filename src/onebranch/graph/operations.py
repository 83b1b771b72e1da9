"""A graph of operations as frozen values. It does not depend on file formats.

Operations are those of ONNX (opset 18), and one of onebranch's own, `EdgeFill`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from onebranch.errors import OnebranchError

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]
Shape = tuple[int | str, ...]
"""The dimensions of an array; a string names an open dimension."""

EDGE_FILL = "EdgeFill"
"""Replicates the edges of (N, C, H, W) on the right and bottom up to a multiple of `multiple`."""


@dataclass(frozen=True)
class Value:
    """An input or output of a graph: its shape, and its element type by numpy's name."""

    shape: Shape
    kind: str = "float32"


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of its inputs and outputs, its attributes.

    An empty name among `inputs` is an absent optional input.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Operations in topological order, from named inputs and constants to named outputs.

    inputs, outputs: by name. Raises OnebranchError if a value is used before it is computed, computed twice,
    or never.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every value is computed once, before it is used."""
        made = {*self.inputs, *self.constants}
        for node in self.nodes:
            _check_node(node, made)
            made.update(node.outputs)
        for name in self.outputs:
            if name not in made:
                raise OnebranchError(f"the graph's output '{name}' is made by no operation")
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))


def _check_node(node: Node, made: set[str]) -> None:
    for name in node.inputs:
        if name and name not in made:
            raise OnebranchError(f"{node.kind} '{node.outputs[0]}' reads '{name}' before anything makes it")
    for name in node.outputs:
        if name in made:
            raise OnebranchError(f"the value '{name}' is made twice")


class Builder:
    """Builds a graph from operations and constants, added one after the other.

    >>> picture = Value(("batch", 1, "height", "width"))
    >>> builder = Builder({"input": picture})
    >>> doubled = builder.add("Add", ("input", "input"), "doubled")
    >>> [node.kind for node in builder.graph({doubled: picture}).nodes]
    ['Add']
    """

    def __init__(self, inputs: Mapping[str, Value]) -> None:
        self._inputs = dict(inputs)
        self._nodes: list[Node] = []
        self._constants: dict[str, np.ndarray] = {}

    def add(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Attribute) -> str:
        """Append an operation with one output; returns the output's name."""
        self._nodes.append(Node(kind, inputs, (output,), MappingProxyType(attributes)))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant; returns its name."""
        self._constants[name] = value
        return name

    def name(self, value: str, name: str) -> None:
        """Give a value its final name; an input or constant gets an `Identity`."""
        if value in self._inputs or value in self._constants:
            self.add("Identity", (value,), name)
        else:
            self._nodes = [_renamed(node, value, name) for node in self._nodes]

    def graph(self, outputs: Mapping[str, Value]) -> Graph:
        """The graph of everything added so far, with these outputs."""
        return Graph(tuple(self._nodes), dict(self._inputs), dict(outputs), self._constants)


def _renamed(node: Node, value: str, name: str) -> Node:
    inputs = tuple(name if n == value else n for n in node.inputs)
    return Node(node.kind, inputs, tuple(name if n == value else n for n in node.outputs), node.attributes)
