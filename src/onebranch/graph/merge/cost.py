"""The cost model: multiply-accumulates first, then memory traffic, both at the size of the example input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.graph.merge.affine_form import AffineForm, effective_terms
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
    """The cost of some operations at the example's size.

    macs: multiply-accumulates; an addition or a scaling of one number counts as one. traffic: numbers read
    and written. operations: their number. changes: values that are not computed by their own operation.
    convolutions: the number of convolutions, without scalings and pools.
    """

    macs: int = 0
    traffic: int = 0
    operations: int = 0
    changes: int = 0
    convolutions: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both, one after the other."""
        return Cost(
            self.macs + other.macs,
            self.traffic + other.traffic,
            self.operations + other.operations,
            self.changes + other.changes,
            self.convolutions + other.convolutions,
        )


def cost_of_step(step: Step, planes: Mapping[str, Plane]) -> Cost:
    """The cost of an unchanged operation."""
    if isinstance(step.operation, Pass):
        return Cost()
    result = planes[step.value]
    numbers = result.channels * result.pixels
    if isinstance(step.operation, Select) and _is_slice(step.operation):
        return Cost(operations=1)
    read = sum(planes[name].channels * planes[name].pixels for name in step.inputs)
    return Cost(
        macs=_macs_per_number(step.operation, len(step.inputs)) * numbers,
        traffic=read + numbers,
        operations=1,
        convolutions=int(isinstance(step.operation, Convolve)),
    )


def _is_slice(operation: Select) -> bool:
    """Return True if the selected channels are adjacent, so that no copy is made."""
    return bool((np.diff(operation.indices) == 1).all())


def _macs_per_number(operation: Linear, inputs: int) -> int:
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


# Example: y = conv 3x3 (x) + x with 16 channels and 100 pixels: 16 * 16 * 9 * 100 MACs for the convolution
# and 16 * 100 for the addition: 232,000. As one 3x3 convolution, with the identity in its kernel: 230,400.
def cost_of_form(affine_form: AffineForm, value: str, planes: Mapping[str, Plane]) -> Cost:
    """The cost of a value that is computed from its affine form: a convolution of every source, then sums.

    An unchanged source costs only the addition. The constant is part of the first convolution.
    A border map does not count as an operation: otherwise a forced merge, which minimizes operations, would
    never use one.
    """
    result = planes[value]
    numbers = result.channels * result.pixels
    terms = effective_terms(affine_form)
    computed = [(key, term) for key, term in terms.items() if not term.identity_sign]
    macs = sum(term.macs for _, term in computed) * result.pixels
    traffic = sum(
        (1 if key.ones else planes[key.value].channels) * planes[key.value].pixels + numbers
        for key, _ in computed
    )
    additions = max(0, len(terms) - 1) + int(not computed)
    maps = sum(key.ones for key in terms)
    return Cost(
        macs=macs + additions * numbers,
        traffic=traffic + 3 * additions * numbers,
        operations=len(computed) + additions - 2 * maps,
        changes=1,
        convolutions=sum(not term.is_scaling for _, term in computed),
    )


# Worked example: x (64 channels) -> a = conv 1x1 (8 channels) -> b = conv 3x3 (64 channels), 100 pixels.
# Whatever is materialized, b is computed by a dense convolution of at least 3x3 taps that reads a (8
# channels) or x (64): at least 8 * 3 * 3 MACs for each of its 64 * 100 numbers, that is 460,800.
def lower_bounds(steps: Sequence[Step], planes: Mapping[str, Plane]) -> dict[str, Cost]:
    """A lower bound of the cost of each value, whichever values before it are materialized.

    Windows only grow when operations are composed, and a dense convolution stays dense: it reads at least as
    many channels as the narrowest value before it has.
    """
    narrowest: dict[str, int] = {}
    bounds = {}
    for step in steps:
        channels = [min(narrowest.get(n, planes[n].channels), planes[n].channels) for n in step.inputs]
        result = planes[step.value]
        numbers = result.channels * result.pixels
        operation = step.operation
        factor = 0
        if isinstance(operation, Convolve):
            k, l = operation.weight.shape[2:]
            factor = k * l * (min(channels) if operation.groups == 1 else 1)
        bounds[step.value] = Cost(macs=factor * numbers)
        narrowest[step.value] = min(channels)
    return bounds
