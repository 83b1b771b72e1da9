"""The proof's first part: all operations are local, shift-equivariant and affine; their radius and stride."""

from collections.abc import Sequence

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.branch import AveragePool, BatchNorm, Branch, Convolution, Edge, Identity

OPERATIONS: dict[type, str] = {
    Convolution: "convolution",
    BatchNorm: "batch normalization with population statistics",
    AveragePool: "average pool that counts its padding",
    Edge: "fixed filter, scaled",
    Identity: "identity",
}
"""The operations that are local, shift-equivariant (zero padding comes first) and affine, by type of step."""


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Radius (rows, columns) and total stride of a region; the sizes of the basis follow from them."""

    radius: tuple[int, int]
    stride: int


def structure(branches: Sequence[Branch]) -> Structure:
    """The structure of a sum of branches: its radius is the largest sum of the radii along a branch.

    Raises OnebranchError for an operation that is not on the list.

    >>> from onebranch.spec.branch import parse
    >>> structure([parse("3x3*2 bn 1x1"), parse("1x5"), parse("identity")])
    Structure(radius=(1, 2), stride=1)
    """
    steps = [step for branch in branches for step in branch.steps]
    for step in steps:
        if type(step) not in OPERATIONS:
            raise OnebranchError(
                f"structure: '{step}' is not known to be local, shift-equivariant and affine"
            )
    rows = max(sum(step.radius[0] for step in branch.steps) for branch in branches)
    columns = max(sum(step.radius[1] for step in branch.steps) for branch in branches)
    return Structure((rows, columns), 1)
