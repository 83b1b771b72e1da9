"""Regions: connected linear operations, and their parts, for which choices are independent."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from onebranch.graph.merge.linear import LinearGraph, Pass, Step


@dataclass(frozen=True)
class Region:
    """Linear operations that are connected through values which they compute.

    inputs: values computed outside. outputs: values that are read outside. parts: the operations in
    groups that are connected only through outputs; each in an order in which few values are alive at once.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parts: tuple[tuple[Step, ...], ...]


def simplified(graph: LinearGraph) -> LinearGraph:
    """The graph without identities and without operations whose value nothing reads.

    The identities stay in the model; in the graph, readers of an identity read the identity's input.
    """
    same: dict[str, str] = {}
    steps = []
    for step in graph.steps:
        inputs = tuple(same.get(name, name) for name in step.inputs)
        if isinstance(step.operation, Pass) and step.value not in graph.required:
            same[step.value] = inputs[0]
        else:
            steps.append(Step(step.value, step.operation, inputs))
    reached = set(graph.required)
    for step in reversed(steps):
        if step.value in reached:
            reached.update(step.inputs)
    return replace(graph, steps=tuple(step for step in steps if step.value in reached))


def regions(graph: LinearGraph) -> list[Region]:
    """The regions of a simplified graph, in the order of their first operations."""
    return [_region(steps, graph) for steps in _connected(graph.steps, lambda value: True)]


def _region(steps: Sequence[Step], graph: LinearGraph) -> Region:
    made = {step.value for step in steps}
    inputs = dict.fromkeys(name for step in steps for name in step.inputs if name not in made)
    outputs = [step.value for step in steps if step.value in graph.required]
    # A required value is computed in any case, so what reads it can be chosen independently of what computes
    # it.
    parts = _connected(steps, lambda value: value not in graph.required)
    return Region(tuple(steps), tuple(inputs), tuple(outputs), tuple(_depth_first(part) for part in parts))


def _connected(steps: Sequence[Step], through: Callable[[str], bool]) -> list[list[Step]]:
    """Groups of steps that are connected through values for which `through` is true, in the given order."""
    leader = {step.value: step.value for step in steps}

    # Union-find; each search halves the path to the leader.
    def find(value: str) -> str:
        while leader[value] != value:
            leader[value] = leader[leader[value]]
            value = leader[value]
        return value

    for step in steps:
        for name in step.inputs:
            if name in leader and through(name):
                leader[find(name)] = find(step.value)
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(find(step.value), []).append(step)
    return list(groups.values())


def _depth_first(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps in depth-first order from their last values: each branch ends before the next begins."""
    by_value = {step.value: step for step in steps}
    read = {name for step in steps for name in step.inputs}
    ordered: dict[str, Step] = {}
    for end in (step.value for step in steps if step.value not in read):
        _visit(end, by_value, ordered)
    return tuple(ordered.values())


def _visit(end: str, by_value: dict[str, Step], ordered: dict[str, Step]) -> None:
    """Append the steps that `end` depends on, without recursion: networks are deeper than Python's stack."""
    stack: list[tuple[str, Iterable[str]]] = [(end, iter(by_value[end].inputs))]
    while stack:
        value, inputs = stack[-1]
        name = next((n for n in inputs if n in by_value and n not in ordered), None)
        if name is None:
            ordered[value] = by_value[value]
            stack.pop()
        else:
            stack.append((name, iter(by_value[name].inputs)))
