"""Regions: connected linear operations, and the parts of them that can be chosen for independently."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from onebranch.graph.merge.linear import LinearGraph, Pass, Step


@dataclass(frozen=True)
class Region:
    """Linear operations that are connected through values which they make.

    inputs: values that come from elsewhere. outputs: values that are read elsewhere. parts: the operations,
    in groups that meet only at values which must be kept; each in an order in which few values are open at
    once.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parts: tuple[tuple[Step, ...], ...]


def simplified(graph: LinearGraph) -> LinearGraph:
    """The graph without operations that only pass a value on, or that nothing needs.

    They stay in the model: what they pass on is called by the name of what they read.
    """
    same: dict[str, str] = {}
    steps = []
    for step in graph.steps:
        inputs = tuple(same.get(name, name) for name in step.inputs)
        if isinstance(step.operation, Pass) and step.value not in graph.kept:
            same[step.value] = inputs[0]
        else:
            steps.append(Step(step.value, step.operation, inputs))
    needed = set(graph.kept)
    for step in reversed(steps):
        if step.value in needed:
            needed.update(step.inputs)
    return replace(graph, steps=tuple(step for step in steps if step.value in needed))


def regions(graph: LinearGraph) -> list[Region]:
    """Every region of a simplified graph, in the order of their first operation."""
    return [_region(steps, graph) for steps in _connected(graph.steps, lambda value: True)]


def _region(steps: Sequence[Step], graph: LinearGraph) -> Region:
    made = {step.value for step in steps}
    inputs = dict.fromkeys(name for step in steps for name in step.inputs if name not in made)
    outputs = [step.value for step in steps if step.value in graph.kept]
    parts = _connected(steps, lambda value: value not in graph.kept)
    return Region(tuple(steps), tuple(inputs), tuple(outputs), tuple(_narrow(part) for part in parts))


def _connected(steps: Sequence[Step], through: Callable[[str], bool]) -> list[list[Step]]:
    """Steps in groups that are connected by values which `through` accepts, each in the given order."""
    leader = {step.value: step.value for step in steps}

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


def _narrow(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps depth first from where they end, so that one branch is done before the next begins."""
    by_value = {step.value: step for step in steps}
    read = {name for step in steps for name in step.inputs}
    ordered: dict[str, Step] = {}
    for end in (step.value for step in steps if step.value not in read):
        _visit(end, by_value, ordered)
    return tuple(ordered.values())


def _visit(end: str, by_value: dict[str, Step], ordered: dict[str, Step]) -> None:
    """Depth first without recursion: long networks are deeper than Python's stack."""
    stack: list[tuple[str, Iterable[str]]] = [(end, iter(by_value[end].inputs))]
    while stack:
        value, inputs = stack[-1]
        name = next((n for n in inputs if n in by_value and n not in ordered), None)
        if name is None:
            ordered[value] = by_value[value]
            stack.pop()
        else:
            stack.append((name, iter(by_value[name].inputs)))
