"""The linear operations that a merge understands, as values, and the graph of them that a reader hands over.

The vocabulary is small on purpose: a reader (ONNX, PyTorch) says everything it can in these words, exactly
for every size of picture, and leaves the rest alone. It knows no file format and no framework.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

Floats = np.ndarray
"""A numpy array of floats; weights are float64 from here on."""

Sides = tuple[int, int, int, int]
"""Rows and columns of padding: top, left, bottom, right."""


@dataclass(frozen=True, eq=False)
class Convolve:
    """Cross-correlation of the zero-padded input. weight: (O, I / groups, K, L); bias: (O,) or None."""

    weight: Floats
    bias: Floats | None = None
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Sides = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Normalize:
    """Batch normalization with population statistics, all (C,)."""

    weight: Floats
    bias: Floats
    mean: Floats
    variance: Floats
    epsilon: float


@dataclass(frozen=True, eq=False)
class Scale:
    """factor * x + shift, channel by channel; both (C,)."""

    factor: Floats
    shift: Floats


@dataclass(frozen=True)
class Sum:
    """The signed sum of inputs of one shape; signs: +1 or -1 for each."""

    signs: tuple[int, ...]


@dataclass(frozen=True)
class Join:
    """Concatenation along the channels."""


@dataclass(frozen=True)
class Select:
    """Output channel o is input channel indices[o]: slices, shuffles, repetitions."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Pad:
    """A frame of one constant value around the picture."""

    pads: Sides
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Fill:
    """`count` rows (axis 2) or columns (axis 3) from `start` on are overwritten with `value`, (C,).

    A negative start counts from the end, as in Python.
    """

    axis: int
    start: int
    count: int
    value: Floats


@dataclass(frozen=True)
class Average:
    """Sum over a window of the zero-padded input, divided by `divisor`: average pooling that counts
    padding."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: Sides
    divisor: int


@dataclass(frozen=True)
class Pass:
    """The input itself: identity, dropout in evaluation, a copy."""


@dataclass(frozen=True)
class Ones:
    """A plane of ones as high and wide as the input: written for border maps, never read."""


Linear = Convolve | Normalize | Scale | Sum | Join | Select | Pad | Fill | Average | Pass | Ones


@dataclass(frozen=True)
class Plane:
    """What is known of a value (N, C, H, W), or of a vector (N, C), which counts as a picture of one pixel.

    size: keys of height and width: equal keys are equal sizes, for every input. shape: (height, width) in the
    example that MACs are counted on. precision: of the numbers, "float32" or "float64".
    """

    channels: int
    size: tuple[Hashable, Hashable]
    shape: tuple[int, int]
    vector: bool = False
    precision: str = "float32"

    @property
    def pixels(self) -> int:
        """Pixels of the example."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Step:
    """One linear operation: what it computes (its value's name), from which values."""

    value: str
    operation: Linear
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """An operation that was left as it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LinearGraph:
    """The linear operations of a model, in an order in which they can run.

    planes: every value that they read or make. kept: values that something else reads (a nonlinear operation,
    a subgraph, the model's outputs). names: every name that the model has given away. left: operations that
    look linear but are not, exactly; each with why.
    """

    steps: tuple[Step, ...]
    planes: Mapping[str, Plane]
    kept: frozenset[str]
    names: frozenset[str] = frozenset()
    left: tuple[Left, ...] = field(default=())
