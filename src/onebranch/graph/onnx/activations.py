"""GELU as exporters write it out: Div, Erf, Add, Mul, Mul, or the same with Tanh.

Its constants are its own: merged into a convolution behind it they would save a product, and cost the
runtimes the one operation that they make of the pattern.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

MIDDLES = ("Erf", "Tanh")
"""What stands in the middle of the pattern."""


def parts_of_activations(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> set[str]:
    """The values that are computed inside of written-out activations, their results included."""
    pattern = _Pattern(model, constants)
    return {
        name
        for node in model.graph.node
        if node.op_type in MIDDLES and node.domain in ("", "ai.onnx")
        for name in pattern.around(node)
    }


class _Pattern:
    """Looks around in a model: who makes a value, who alone reads it, which factors are single numbers."""

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> None:
        self.constants = constants
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def around(self, middle: onnx.NodeProto) -> Iterator[str]:
        """The pattern's values where the node is in the middle of one: (1 + middle(..)) * x, and scalings."""
        shifted = self.only_reader(middle.output[0])
        if shifted is None or shifted.op_type != "Add" or not self.has_number(shifted):
            return
        product = self.only_reader(shifted.output[0])
        if product is None or product.op_type != "Mul" or self.has_number(product):
            return
        yield from (shifted.output[0], product.output[0])
        halved = self.only_reader(product.output[0])
        if halved is not None and halved.op_type in ("Mul", "Div") and self.has_number(halved):
            yield halved.output[0]
        for name in (*middle.input, *product.input):
            yield from self.before(name)

    def before(self, name: str) -> Iterator[str]:
        """Scalings, and the sum of the cubic, that stand before the pattern's middle."""
        node = self.makers.get(name)
        if node is None or len(self.readers[name]) != 1:
            return
        cubic = node.op_type == "Add" and any(self.is_scaling(self.makers.get(n)) for n in node.input)
        if self.is_scaling(node) or cubic:
            yield name
            for inner in node.input:
                yield from self.before(inner)

    def is_scaling(self, node: onnx.NodeProto | None) -> bool:
        return node is not None and node.op_type in ("Mul", "Div") and self.has_number(node)

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 else None

    def has_number(self, node: onnx.NodeProto) -> bool:
        """Whether one of the operands is a constant of one number."""
        return any(name in self.constants and self.constants[name].size == 1 for name in node.input)
