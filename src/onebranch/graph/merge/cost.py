"""What operations cost: multiply-accumulates first, then memory traffic, both counted on the example's
size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.graph.merge.form import Form, effective
from onebranch.graph.merge.linear import (
    Average,
    Convolve,
    Linear,
    Normalize,
    Pass,
    Plane,
    Scale,
    Select,
    Step,
    Sum,
)


@dataclass(frozen=True)
class Cost:
    """macs: additions and scalings count one each. traffic: numbers read and written. changes: values that
    are not computed by their own operation.
    """

    macs: int = 0
    traffic: int = 0
    operations: int = 0
    changes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Both, one after the other."""
        return Cost(
            self.macs + other.macs,
            self.traffic + other.traffic,
            self.operations + other.operations,
            self.changes + other.changes,
        )


def cost_of_step(step: Step, planes: Mapping[str, Plane]) -> Cost:
    """The cost of an operation as it stands."""
    if isinstance(step.operation, Pass):
        return Cost()
    result = planes[step.value]
    numbers = result.channels * result.pixels
    if isinstance(step.operation, Select) and _is_slice(step.operation):
        return Cost(operations=1)
    read = sum(planes[name].channels * planes[name].pixels for name in step.inputs)
    return Cost(_factor(step.operation, len(step.inputs)) * numbers, read + numbers, 1)


def _is_slice(operation: Select) -> bool:
    """Whether it takes neighbouring channels, of which no copy is made."""
    return bool((np.diff(operation.indices) == 1).all())


def _factor(operation: Linear, inputs: int) -> int:
    """Multiply-accumulates for one number of the result."""
    match operation:
        case Convolve():
            return int(operation.weight[0].size)
        case Average():
            return operation.kernel[0] * operation.kernel[1]
        case Normalize() | Scale():
            return 1
        case Sum():
            return inputs - 1
    return 0


def cost_of_form(form: Form, value: str, planes: Mapping[str, Plane]) -> Cost:
    """The cost of a value that is computed from its form: a convolution of every source, then additions.

    A source that is passed on costs its addition only. A constant is part of the first convolution, and a
    border map counts as no operation of its own, or forcing merges would never allow one.
    """
    result = planes[value]
    numbers = result.channels * result.pixels
    terms = effective(form)
    convolutions = [(key, term) for key, term in terms.items() if not term.plain]
    macs = sum(term.macs for _, term in convolutions) * result.pixels
    traffic = sum(
        (1 if key.ones else planes[key.value].channels) * planes[key.value].pixels + numbers
        for key, _ in convolutions
    )
    additions = max(0, len(terms) - 1) + int(not convolutions)
    maps = sum(key.ones for key in terms)
    operations = len(convolutions) + additions - 2 * maps
    return Cost(macs + additions * numbers, traffic + 3 * additions * numbers, operations, 1)


def least_costs(steps: Sequence[Step], planes: Mapping[str, Plane]) -> dict[str, Cost]:
    """What computing each value costs at least, from whatever values before it.

    Windows only grow when operations are composed, and a dense convolution stays dense: it reads at least as
    many channels as the narrowest value before it has.
    """
    narrowest: dict[str, int] = {}
    found = {}
    for step in steps:
        reached = [min(narrowest.get(n, planes[n].channels), planes[n].channels) for n in step.inputs]
        result = planes[step.value]
        numbers = result.channels * result.pixels
        operation = step.operation
        factor = 0
        if isinstance(operation, Convolve):
            k, l = operation.weight.shape[2:]
            factor = k * l * (min(reached) if operation.groups == 1 else 1)
        found[step.value] = Cost(factor * numbers, 0, 0)
        narrowest[step.value] = min(reached)
    return found
