"""The linear operations that can be merged, as frozen values, and the graph of them from a reader.

The set is small on purpose: a reader (ONNX, PyTorch) expresses what it can in these operations, exactly for
every picture size, and reports the rest as unmerged. This module depends on no file format and no framework.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from onebranch.algebra.definition import Floats
from onebranch.algebra.padding import Padding

NO_PADDING = Padding()


@dataclass(frozen=True, eq=False)
class Convolve:
    """Cross-correlation of the zero-padded input. weight: (O, I / groups, K, L); bias: (O,) or None."""

    weight: Floats
    bias: Floats | None = None
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING


@dataclass(frozen=True, eq=False)
class Normalize:
    """Batch normalization with population statistics; all arrays are (C,)."""

    weight: Floats
    bias: Floats
    mean: Floats
    variance: Floats
    epsilon: float


@dataclass(frozen=True, eq=False)
class Scale:
    """factor * x + shift, channel by channel; factor and shift are (C,)."""

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
    """Output channel o is input channel indices[o]: channel slices, shuffles and repetitions."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Pad:
    """Padding with one constant value around the picture."""

    padding: Padding
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Fill:
    """Overwriting of `count` rows (axis 2) or columns (axis 3) from `start` on with `value` (C,).

    A negative start counts from the end, as in Python.
    """

    axis: int
    start: int
    count: int
    value: Floats


@dataclass(frozen=True)
class Average:
    """Average pooling with `count_include_pad=True`: a sum over a window of the zero-padded input, divided by
    `divisor`."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding
    divisor: int


@dataclass(frozen=True)
class Pass:
    """The input itself: an identity, a copy, or dropout in evaluation mode."""


@dataclass(frozen=True)
class Ones:
    """A plane of ones of the input's height and width. Only border maps use it; readers never return it."""


@dataclass(frozen=True)
class Fills:
    """Several fills, one after the other."""

    fills: tuple[Fill, ...]


Linear = Convolve | Normalize | Scale | Sum | Join | Select | Pad | Fill | Fills | Average | Pass | Ones


@dataclass(frozen=True)
class Plane:
    """What is known about a value (N, C, H, W), or a vector (N, C), which counts as a picture of one pixel.

    size: keys of height and width; two values with equal keys have equal sizes for every input. shape: height
    and width at the example's size, on which MACs are counted. precision: "float32" or "float64".
    """

    channels: int
    size: tuple[Hashable, Hashable]
    shape: tuple[int, int]
    vector: bool = False
    precision: str = "float32"

    @property
    def pixels(self) -> int:
        """The number of pixels at the example's size."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Step:
    """One linear operation: the name of the value that it computes, and the names of its inputs."""

    value: str
    operation: Linear
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Unmerged:
    """An operation that was not merged, and the reason, in the user's words."""

    name: str
    reason: str


@dataclass(frozen=True)
class LinearGraph:
    """The linear operations of a model, in an order in which they can run.

    planes: for every value that they read or compute. required: values that something else reads (a nonlinear
    operation, a subgraph, the model's outputs). names: every name that the model uses. unmerged: operations
    that look linear but cannot be expressed exactly, each with the reason.
    """

    steps: tuple[Step, ...]
    planes: Mapping[str, Plane]
    required: frozenset[str]
    names: frozenset[str] = frozenset()
    unmerged: tuple[Unmerged, ...] = field(default=())
