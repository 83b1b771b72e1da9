"""Programs of the native engine: operations on rows of feature maps, and their serialization.

The layout is that of src/engine/program.cpp. Value 0 is the picture, value k the output of node k - 1. All
values have the picture's height and width.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

import numpy as np

PROGRAM_SIGNATURE = b"OBPROG\0\1"

MAX_PROGRAM_KERNEL = 31
"""Rows and columns of a kernel."""

MAX_COLUMNS_BESIDE = 60
"""Columns that a convolution reads on one side of a pixel."""

MAX_PROGRAM_SCALE = 8
"""Rows and columns of the result for each row and column of the picture."""

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
class ConvolutionNode:
    """A convolution of `inputs[0]`, f < 0 ? f * slope : f of it, then the sum with all other inputs.

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

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return len(self.weight)

    @property
    def rows_below(self) -> int:
        """Rows below a pixel that it depends on."""
        return int(self.weight.shape[2] - 1) * self.dilations[0] - self.pads[0]

    @property
    def is_linear(self) -> bool:
        """True if neither an activation nor a sum follows the convolution."""
        return bool((self.slope == SLOPE_OF_NO_ACTIVATION).all()) and len(self.inputs) == 1

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes."""
        facts = (self.channels, self.groups, *self.weight.shape[2:], *self.dilations, *self.pads)
        return _integers(*facts) + _floats(self.weight) + _floats(self.bias) + _floats(self.slope)


@dataclass(frozen=True)
class UnaryNode:
    """An operation on every sample of `inputs[0]`. a, b: parameters (C,) of the channels."""

    kind: ClassVar[int] = 1
    inputs: tuple[Operand, ...]
    operation: Unary
    a: np.ndarray
    b: np.ndarray
    border: BorderKind = BorderKind.ZERO
    rows_below: ClassVar[int] = 0

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.inputs[0].count

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes."""
        return _integers(self.operation) + _floats(self.a) + _floats(self.b)


@dataclass(frozen=True)
class BinaryNode:
    """An operation on two inputs of equal channels, or on one of many and one of one channel."""

    kind: ClassVar[int] = 2
    inputs: tuple[Operand, ...]
    operation: Binary
    border: BorderKind = BorderKind.ZERO
    rows_below: ClassVar[int] = 0

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.inputs[0].count

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes."""
        return _integers(self.operation)


@dataclass(frozen=True)
class GatherNode:
    """The channels of all inputs, one after the other."""

    kind: ClassVar[int] = 3
    inputs: tuple[Operand, ...]
    border: BorderKind = BorderKind.ZERO
    rows_below: ClassVar[int] = 0

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return sum(operand.count for operand in self.inputs)

    def packed(self) -> bytes:
        """What follows the inputs in a program's bytes."""
        return b""


ProgramNode = ConvolutionNode | UnaryNode | BinaryNode | GatherNode


@dataclass(frozen=True)
class Program:
    """A network as a list of operations.

    channels, output_channels: of the picture and of the result. scale: the result has `scale` times the
    picture's height and width; channel (c scale + dy) scale + dx of `output` holds its pixels (scale y + dy,
    scale x + dx) of channel c.
    """

    channels: int
    output_channels: int
    scale: int
    nodes: tuple[ProgramNode, ...]
    output: Operand
    lags: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute by how many rows each value lags behind the picture."""
        lags = [0]
        for node in self.nodes:
            around, *others = node.inputs
            lags.append(max(lags[around.value] + node.rows_below, *(lags[o.value] for o in others), 0))
        object.__setattr__(self, "lags", tuple(lags))

    @property
    def lag(self) -> int:
        """Rows of the picture below a row of the result that it depends on."""
        return self.lags[self.output.value]

    def packed(self) -> bytes:
        """The program as bytes."""
        facts = (self.channels, self.output_channels, self.scale, BorderKind.ZERO, len(self.nodes))
        parts = [PROGRAM_SIGNATURE, _integers(*facts)]
        for lag, node in zip(self.lags[1:], self.nodes, strict=True):
            parts.append(_integers(node.kind, lag, node.border, len(node.inputs)))
            parts += [operand.packed() for operand in node.inputs]
            parts.append(node.packed())
        return b"".join([*parts, self.output.packed()])


def _integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _floats(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()
