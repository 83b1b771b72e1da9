"""GELU as a pattern of operations that exporters write: Div, Erf, Add, Mul, Mul, or the same with Tanh.

Its constants are not merged into the convolution that follows: that would save one multiplication, but
runtimes would no longer recognize the pattern, which they fuse into a single operation.
"""

from collections.abc import Iterator

from onebranch.graph.operations import Graph, Node

INNER_FUNCTIONS = ("Erf", "Tanh")
"""The function inside of the pattern."""


def values_inside_activations(graph: Graph) -> set[str]:
    """The values that such patterns compute, including their results."""
    pattern = _Pattern(graph)
    return {
        name for node in graph.nodes if node.kind in INNER_FUNCTIONS for name in pattern.values_around(node)
    }


class _Pattern:
    """Matches the pattern around a function, given the makers and readers of values and scalar constants."""

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self.makers = {name: node for node in graph.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def values_around(self, function: Node) -> Iterator[str]:
        """The values of (1 + function(..)) * x with its scalings; none if the pattern does not match."""
        shifted = self.only_reader(function.outputs[0])
        if shifted is None or shifted.kind != "Add" or not self.has_scalar(shifted):
            return
        product = self.only_reader(shifted.outputs[0])
        if product is None or product.kind != "Mul" or self.has_scalar(product):
            return
        yield from (shifted.outputs[0], product.outputs[0])
        halved = self.only_reader(product.outputs[0])
        if halved is not None and self.is_scaling(halved):
            yield halved.outputs[0]
        for name in (*function.inputs, *product.inputs):
            yield from self.values_before(name)

    def values_before(self, name: str) -> Iterator[str]:
        """The scalings, and the sum of the cubic polynomial, from which a value is computed."""
        node = self.makers.get(name)
        if node is None or len(self.readers[name]) != 1:
            return
        is_cubic = node.kind == "Add" and any(self.is_scaling(self.makers.get(n)) for n in node.inputs)
        if self.is_scaling(node) or is_cubic:
            yield name
            for inner in node.inputs:
                yield from self.values_before(inner)

    def is_scaling(self, node: Node | None) -> bool:
        """True for a product or quotient with a constant scalar."""
        return node is not None and node.kind in ("Mul", "Div") and self.has_scalar(node)

    def only_reader(self, name: str) -> Node | None:
        """The operation that reads a value if there is exactly one."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 else None

    def has_scalar(self, node: Node) -> bool:
        """True if one of the operands is a constant of one element."""
        return any(name in self.constants and self.constants[name].size == 1 for name in node.inputs)
