"""Passes over a program that keep what it computes: operations joined, unneeded ones left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onebranch.lowering.program import (
    Binary,
    BinaryNode,
    BorderKind,
    ConvolutionNode,
    Operand,
    Program,
    ProgramNode,
    Unary,
    UnaryNode,
)


def optimized(program: Program) -> Program:
    """The program with activations and sums joined to the convolutions before them."""
    return _without_unneeded(_joined(_without_unneeded(program)))


def _without_unneeded(program: Program) -> Program:
    """The program without nodes that its result does not depend on; the other values are renumbered."""
    needed = {program.output.value}
    for index in range(len(program.nodes), 0, -1):
        if index in needed:
            needed |= {operand.value for operand in program.nodes[index - 1].inputs}
    kept = [index for index in range(1, len(program.nodes) + 1) if index in needed]
    numbers = {0: 0} | {old: new for new, old in enumerate(kept, 1)}
    nodes = tuple(_renumbered(program.nodes[index - 1], numbers) for index in kept)
    output = replace(program.output, value=numbers[program.output.value])
    return replace(program, nodes=nodes, output=output)


def _renumbered(node: ProgramNode, numbers: dict[int, int]) -> ProgramNode:
    return replace(node, inputs=tuple(replace(o, value=numbers[o.value]) for o in node.inputs))


# Example: value 1 = convolution, value 2 = slope(value 1), value 3 = value 2 + value 0. The convolution
# replaces value 2, with that slope, then value 3, with value 0 as its second input; nothing reads the other
# two nodes then. It may move down, because nothing else reads its output.
def _joined(program: Program) -> Program:
    nodes = list(program.nodes)
    readers = Counter(operand.value for node in nodes for operand in node.inputs)
    readers[program.output.value] += 1
    for index, node in enumerate(nodes):
        for position in range(len(node.inputs)):
            operand = node.inputs[position]
            before = nodes[operand.value - 1] if operand.value else None
            if not isinstance(before, ConvolutionNode) or readers[operand.value] > 1:
                continue
            if operand.count != before.channels or node.border is not BorderKind.ZERO:
                continue
            joined = _joined_node(before, node, position)
            if joined is not None:
                nodes[index] = joined
                break
    return replace(program, nodes=tuple(nodes))


def _joined_node(convolution: ConvolutionNode, node: ProgramNode, position: int) -> ConvolutionNode | None:
    """The convolution with the node after it, which reads it as that input; None if they stay apart."""
    if isinstance(node, UnaryNode) and convolution.is_linear:
        return _with_unary(convolution, node)
    if isinstance(node, BinaryNode) and all(o.count == node.channels for o in node.inputs):
        return _with_sum(convolution, node.operation, position, node.inputs)
    return None


def _with_unary(convolution: ConvolutionNode, node: UnaryNode) -> ConvolutionNode | None:
    if node.operation is Unary.SLOPE:
        return replace(convolution, slope=node.a)
    if node.operation is Unary.ADD:
        return replace(convolution, bias=convolution.bias + node.a)
    if node.operation is Unary.MULTIPLY:
        return _scaled(convolution, node.a)
    return None


def _scaled(convolution: ConvolutionNode, factors: np.ndarray) -> ConvolutionNode:
    weight = convolution.weight * factors[:, None, None, None]
    return replace(convolution, weight=weight, bias=convolution.bias * factors)


def _with_sum(
    convolution: ConvolutionNode, operation: Binary, position: int, inputs: Sequence[Operand]
) -> ConvolutionNode | None:
    """A sum with, or a difference from, the other input: x - c is x + (-c)."""
    if operation is Binary.SUBTRACT and position == 1 and convolution.is_linear:
        convolution = _scaled(convolution, np.full(convolution.channels, -1, np.float32))
    elif operation is not Binary.ADD:
        return None
    return replace(convolution, inputs=(*convolution.inputs, inputs[1 - position]))
