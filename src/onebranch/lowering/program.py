"""Programs of the native engine: operations on rows of feature maps, and their serialization.

The layout is that of src/engine/program.cpp. Value 0 is the picture, value k the output of node k - 1. A
value's rate is the number of its rows for each row of the picture.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from math import ceil, lcm
from typing import ClassVar

import numpy as np

PROGRAM_SIGNATURE = b"OBPROG\0\2"

MAX_PICTURE_CHANNELS = 4
"""Channels of the picture and of the result."""

MAX_PROGRAM_CHANNELS = 4096
"""Channels of a value."""

MAX_PROGRAM_KERNEL = 31
"""Rows and columns of a kernel."""

MAX_COLUMNS_BESIDE = 60
"""Columns that a convolution reads on one side of a pixel."""

MAX_PROGRAM_SCALE = 8
"""Rows and columns of the result for each row and column of the picture."""

MAX_BLOCK = 16
"""Rows and columns of the picture for each block."""

MAX_RATE = 64
"""Rows and columns of a value for each block."""

SHUFFLE_FACTORS = (2, 3, 4)
"""Factors of a node that shuffles or unshuffles pixels."""

MAX_STEPS = 16
"""Steps of a node."""

FIRST_BINARY = 64
"""The number of the first operation of two values among the operations of steps."""

SLOPE_OF_NO_ACTIVATION = np.float32(1)


class BorderKind(IntEnum):
    """What lies beyond the sides of a value: zeros, or the pixels at its edge."""

    ZERO = 0
    EDGE = 1


class Unary(IntEnum):
    """Operations on every sample x with the parameters a and b of its channel; see kernel_set.h."""

    COPY = 0
    SLOPE = 1
    CLIP = 2
    ADD = 3
    MULTIPLY = 4
    SIGMOID = 5
    TANH = 6
    SILU = 7
    HARD_SIGMOID = 8
    HARD_SWISH = 9
    GELU = 10
    GELU_TANH = 11
    FROM = 12
    ABSOLUTE = 13


class Binary(IntEnum):
    """Operations on two values."""

    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2
    MAXIMUM = 3


@dataclass(frozen=True)
class Operand:
    """Channels [first, first + count) of a value."""

    value: int
    first: int
    count: int

    def packed(self) -> bytes:
        """The operand in a program's bytes."""
        return _integers(self.value, self.first, self.count)


@dataclass(frozen=True)
class ElementwiseStep:
    """An operation on every sample of one or two operands.

    An operand is 0 for what the node itself computed, k for the result of step k - 1, and -1 - k for input k
    of the node. a, b: parameters (C,) of the channels, of operations on one value.
    """

    operation: Unary | Binary
    operands: tuple[int, ...]
    a: np.ndarray | None = None
    b: np.ndarray | None = None

    def packed(self) -> bytes:
        """The step in a program's bytes."""
        if isinstance(self.operation, Binary):
            return _integers(FIRST_BINARY + self.operation, *self.operands)
        assert self.a is not None and self.b is not None, "operations on one value have both"
        return _integers(self.operation, *self.operands) + _floats(self.a) + _floats(self.b)


@dataclass(frozen=True)
class ConvolutionNode:
    """A convolution of `inputs[0]`, f < 0 ? f * slope : f of it, the sum with the next `sums` inputs, steps.

    weight: (O, I / groups, K, L). Output pixel (y, x) reads pixel (y - pads[0] + k dilations[0], ...); pads:
    top and left. The output has the size of the input.
    """

    kind: ClassVar[int] = 0
    inputs: tuple[Operand, ...]
    weight: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    groups: int = 1
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    border: BorderKind = BorderKind.ZERO
    sums: int = 0
    steps: tuple[ElementwiseStep, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return len(self.weight)

    @property
    def own_inputs(self) -> int:
        """Inputs that not only steps read."""
        return 1 + self.sums

    @property
    def rows_below(self) -> int:
        """Rows below a pixel that it depends on."""
        return int(self.weight.shape[2] - 1) * self.dilations[0] - self.pads[0]

    @property
    def is_linear(self) -> bool:
        """True if no activation, sum or step follows the convolution."""
        return bool((self.slope == SLOPE_OF_NO_ACTIVATION).all()) and not self.sums and not self.steps

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes, up to the steps."""
        facts = (self.channels, self.groups, *self.weight.shape[2:], *self.dilations, *self.pads)
        return _integers(*facts) + _floats(self.weight) + _floats(self.bias) + _floats(self.slope)


@dataclass(frozen=True)
class ElementwiseNode:
    """Steps from `inputs[0]`, which has as many channels as the output; other inputs may have one for all."""

    kind: ClassVar[int] = 1
    inputs: tuple[Operand, ...]
    steps: tuple[ElementwiseStep, ...]
    border: BorderKind = BorderKind.ZERO
    rows_below: ClassVar[int] = 0
    own_inputs: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.inputs[0].count

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes, up to the steps."""
        return b""


@dataclass(frozen=True)
class GatherNode:
    """The channels of the first `gathered` inputs, one after the other, then steps."""

    kind: ClassVar[int] = 2
    inputs: tuple[Operand, ...]
    gathered: int
    border: BorderKind = BorderKind.ZERO
    steps: tuple[ElementwiseStep, ...] = ()
    rows_below: ClassVar[int] = 0

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return sum(operand.count for operand in self.inputs[: self.gathered])

    @property
    def own_inputs(self) -> int:
        """Inputs that not only steps read."""
        return self.gathered

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes, up to the steps."""
        return b""


@dataclass(frozen=True)
class UnshuffleNode:
    """Pixels as channels, then steps.

    Channel (c factor + dy) factor + dx holds the pixels (factor y + dy, factor x + dx) of channel c.
    """

    kind: ClassVar[int] = 3
    inputs: tuple[Operand, ...]
    factor: int
    border: BorderKind = BorderKind.ZERO
    steps: tuple[ElementwiseStep, ...] = ()
    rows_below: ClassVar[int] = 0
    own_inputs: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.inputs[0].count * self.factor**2

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes, up to the steps."""
        return _integers(self.factor)


@dataclass(frozen=True)
class ShuffleNode:
    """Channels as pixels, the reverse of `UnshuffleNode`, then steps."""

    kind: ClassVar[int] = 4
    inputs: tuple[Operand, ...]
    factor: int
    border: BorderKind = BorderKind.ZERO
    steps: tuple[ElementwiseStep, ...] = ()
    rows_below: ClassVar[int] = 0
    own_inputs: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.inputs[0].count // self.factor**2

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes, up to the steps."""
        return _integers(self.factor)


ProgramNode = ConvolutionNode | ElementwiseNode | GatherNode | UnshuffleNode | ShuffleNode


@dataclass(frozen=True)
class Program:
    """A network as a list of operations.

    channels, output_channels: of the picture and of the result. scale: the result has `scale` times the
    height and width of `output`, whose channel (c scale + dy) scale + dx holds the result's pixels (scale y +
    dy, scale x + dx) of channel c. multiple: the picture is extended by its edges to a multiple of it. block:
    rows of the picture for which every value has a whole number of rows. rates, lags: of every value; the lag
    is by how many of its rows it lags behind the rows of a block.
    """

    channels: int
    output_channels: int
    scale: int
    nodes: tuple[ProgramNode, ...]
    output: Operand
    multiple: int = 1
    rates: tuple[Fraction, ...] = field(init=False)
    block: int = field(init=False)
    lags: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute the rate and the lag of every value."""
        rates, lags = [Fraction(1)], [0]
        for node in self.nodes:
            around = node.inputs[0].value
            rates.append(rates[around] * _rate_factor(node))
            lag = lags[around] + node.rows_below
            if isinstance(node, UnshuffleNode | ShuffleNode):
                lag = ceil(lags[around] * _rate_factor(node))
            lags.append(max(lag, *(lags[operand.value] for operand in node.inputs[1:]), 0))
        object.__setattr__(self, "rates", tuple(rates))
        object.__setattr__(self, "lags", tuple(lags))
        object.__setattr__(self, "block", lcm(self.multiple, *(rate.denominator for rate in rates)))

    @property
    def lag(self) -> int:
        """Rows of the picture below a row of the result that it depends on."""
        return ceil(self.lags[self.output.value] / self.rates[self.output.value])

    def packed(self) -> bytes:
        """The program as bytes."""
        facts = (
            *(self.channels, self.output_channels, self.scale, self.block, BorderKind.ZERO),
            len(self.nodes),
        )
        parts = [PROGRAM_SIGNATURE, _integers(*facts)]
        for lag, node in zip(self.lags[1:], self.nodes, strict=True):
            parts.append(_integers(node.kind, lag, node.border, len(node.inputs), node.own_inputs))
            parts += [operand.packed() for operand in node.inputs]
            parts += [node.packed(), _integers(len(node.steps)), *(step.packed() for step in node.steps)]
        return b"".join([*parts, self.output.packed()])


def _rate_factor(node: ProgramNode) -> Fraction:
    """The rate of a node's output over that of its first input."""
    if isinstance(node, UnshuffleNode):
        return Fraction(1, node.factor)
    return Fraction(node.factor if isinstance(node, ShuffleNode) else 1)


def _integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _floats(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()
