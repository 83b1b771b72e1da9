"""Passes over a program that keep what it computes: operations joined, unneeded ones left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onebranch.lowering.program import (
    MAX_STEPS,
    Binary,
    BorderKind,
    ConvolutionNode,
    ElementwiseNode,
    ElementwiseStep,
    Operand,
    Program,
    ProgramNode,
    Unary,
)


def optimized(program: Program) -> Program:
    """The program with element-wise operations joined to the operations before them."""
    return _without_unneeded(_with_steps(_without_unneeded(_joined(_without_unneeded(program)))))


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
    if not isinstance(node, ElementwiseNode) or any(o.count != node.channels for o in node.inputs):
        return None
    (step,) = node.steps
    if isinstance(step.operation, Binary):
        return _with_sum(convolution, step.operation, position, node.inputs)
    return _with_unary(convolution, step) if convolution.is_linear else None


def _with_unary(convolution: ConvolutionNode, step: ElementwiseStep) -> ConvolutionNode | None:
    assert step.a is not None, "an operation on one value has parameters"
    if step.operation is Unary.SLOPE:
        return replace(convolution, slope=step.a)
    if step.operation is Unary.ADD:
        return replace(convolution, bias=convolution.bias + step.a)
    if step.operation is Unary.MULTIPLY:
        return _scaled(convolution, step.a)
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
    joined = (*convolution.inputs, inputs[1 - position])
    return replace(convolution, inputs=joined, sums=convolution.sums + 1)


# Example: value 1 = convolution, value 2 = sigmoid(value 1), value 3 = value 1 * value 2, and nothing else
# reads the values 1 and 2: the convolution replaces value 3, with the steps sigmoid and product. If value 2
# were read by another convolution too, all three would stay.
def _with_steps(program: Program) -> Program:
    """Element-wise operations as steps of the node before them, where nothing else needs what it computes."""
    nodes, done = list(program.nodes), set[int]()
    readers: dict[int, set[int]] = {value: set() for value in range(len(nodes) + 1)}
    for value, node in enumerate(nodes, 1):
        for operand in node.inputs:
            readers[operand.value].add(value)
    readers[program.output.value].add(len(nodes) + 1)
    for value in range(1, len(nodes) + 1):
        if value not in done:
            group = _group_from(value, nodes, readers, done)
            nodes[group[-1] - 1] = _joined_group(nodes, group)
            done |= set(group)
    return replace(program, nodes=tuple(nodes))


def _group_from(
    first: int, nodes: Sequence[ProgramNode], readers: dict[int, set[int]], done: set[int]
) -> list[int]:
    """A value and those after it that become its steps, in order; only the last one is read by others."""
    members, best, count = [first], 1, len(nodes[first - 1].steps)
    for value in range(first + 1, len(nodes) + 1):
        node = nodes[value - 1]
        if value in done or not _continues(node, members, nodes[first - 1].channels):
            continue
        members.append(value)
        count += len(node.steps)
        if count > MAX_STEPS:
            break
        if all(readers[member] <= set(members) for member in members[:-1]):
            best = len(members)
    return members[:best]


def _continues(node: ProgramNode, members: Sequence[int], channels: int) -> bool:
    """True if an element-wise node reads one of these values, and all channels of each that it reads."""
    reads = [operand for operand in node.inputs if operand.value in members]
    whole = all((operand.first, operand.count) == (0, channels) for operand in reads)
    return isinstance(node, ElementwiseNode) and bool(reads) and whole and node.channels == channels


def _joined_group(nodes: Sequence[ProgramNode], group: Sequence[int]) -> ProgramNode:
    """The first node of a group with all others as its steps."""
    first = nodes[group[0] - 1]
    inputs, steps, results = list(first.inputs), list(first.steps), {group[0]: len(first.steps)}
    for value in group[1:]:
        node, before = nodes[value - 1], len(steps)
        numbers = [_operand_number(operand, inputs, results) for operand in node.inputs]
        for step in node.steps:
            operands = (before + k if k > 0 else numbers[max(-1 - k, 0)] for k in step.operands)
            steps.append(replace(step, operands=tuple(operands)))
        results[value] = len(steps)
    return replace(first, inputs=tuple(inputs), steps=tuple(steps), border=nodes[group[-1] - 1].border)


def _operand_number(operand: Operand, inputs: list[Operand], results: dict[int, int]) -> int:
    """Where a step finds an operand: a result of the group, or an input, which is added if it is new."""
    if operand.value in results:
        return results[operand.value]
    if operand not in inputs:
        inputs.append(operand)
    return -1 - inputs.index(operand)
