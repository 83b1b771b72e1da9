"""Builds a program from operations on features: arrays of channels that need not lie side by side.

Slices, concatenations, shuffles of channels and pixel shuffles only rearrange the numbers of channels. A
`GatherNode` is added where an operation needs channels side by side that are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.lowering.program import (
    MAX_BLOCK,
    MAX_PROGRAM_CHANNELS,
    MAX_RATE,
    SHUFFLE_FACTORS,
    Binary,
    BorderKind,
    ConvolutionNode,
    ElementwiseNode,
    ElementwiseStep,
    GatherNode,
    Operand,
    Program,
    ProgramNode,
    ShuffleNode,
    Unary,
    UnshuffleNode,
)
from onebranch.lowering.program_passes import optimized

PaddingMode = Literal["constant", "edge"]


class UnsupportedByProgramError(OnebranchError):
    """An operation has no counterpart in programs; the message says why."""


@dataclass(frozen=True)
class Frame:
    """Pixels that a `Pad` adds around a feature, and that the next convolution reads."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0
    mode: PaddingMode = "constant"

    @property
    def is_empty(self) -> bool:
        """True if there are no pixels."""
        return not (self.top or self.left or self.bottom or self.right)


@dataclass(frozen=True)
class Feature:
    """A picture of C channels with `size` times the height and width of the network's input.

    numbers: (C, scale, scale), the number of the program's channel that holds the pixels (scale y + dy, scale
    x + dx) of channel c. Channels are numbered through all values; these have `rate` times the height and
    width of the network's input. frame: pixels around it.
    """

    numbers: np.ndarray
    rate: Fraction = Fraction(1)
    frame: Frame = Frame()

    @property
    def channels(self) -> int:
        """Channels of the picture."""
        return len(self.numbers)

    @property
    def scale(self) -> int:
        """Rows for each row of the values that hold it."""
        return int(self.numbers.shape[1])

    @property
    def size(self) -> Fraction:
        """Rows for each row of the network's input."""
        return self.rate * self.scale


def _parameters(node: ProgramNode) -> list[np.ndarray]:
    """All numbers of a node."""
    numbers = [array for step in node.steps for array in (step.a, step.b) if array is not None]
    if isinstance(node, ConvolutionNode):
        numbers += [node.weight, node.bias, node.slope]
    return numbers


class ProgramBuilder:
    """Builds a program; `picture` is its input."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._nodes: list[ProgramNode] = []
        self._starts = [0, channels]  # the number of each value's first channel, and of the next one
        self.picture = Feature(np.arange(channels).reshape(-1, 1, 1))

    def convolution(
        self,
        feature: Feature,
        weight: np.ndarray,
        bias: np.ndarray,
        scale: int = 1,
        groups: int = 1,
        dilations: tuple[int, int] = (1, 1),
        pads: tuple[int, int] = (0, 0),
        border: BorderKind = BorderKind.ZERO,
    ) -> Feature:
        """A convolution to O scale² channels: the pixels of O channels of `scale` times the size."""
        feature = self.at_rate(feature, feature.size)
        operand = self.operand(feature)
        if border is BorderKind.EDGE:
            operand = self._added(GatherNode((operand,), 1, border))
        slope = np.ones(len(weight), np.float32)
        node = ConvolutionNode((operand,), weight, bias, slope, groups, dilations, pads)
        return self._feature(self._added(node), scale, feature.rate)

    def unary(
        self,
        feature: Feature,
        operation: Unary,
        a: np.ndarray | float = 0.0,
        b: np.ndarray | float = 0.0,
    ) -> Feature:
        """An operation on every sample. a, b: numbers, or arrays (C,)."""
        operand = self.operand(feature)
        a, b = (
            np.repeat(np.broadcast_to(np.asarray(p, np.float32), feature.channels), feature.scale**2)
            for p in (a, b)
        )
        node = ElementwiseNode((operand,), (ElementwiseStep(operation, (0,), a, b),))
        return self._feature(self._added(node), feature.scale, feature.rate)

    def binary(self, one: Feature, two: Feature, operation: Binary) -> Feature:
        """An operation on two features of the same size; one channel serves for all of the other's."""
        one, two = self.at_one_rate([one, two])
        if one.channels == 1 < two.channels and operation is not Binary.SUBTRACT:
            one, two = two, one
        channels = max(one.channels, two.channels)
        one = expanded(one, channels)
        if two.channels != channels and two.scale > 1:
            two = expanded(two, channels)
        if two.channels not in (1, channels):
            raise UnsupportedByProgramError(f"its inputs have {one.channels} and {two.channels} channels")
        node = ElementwiseNode((self.operand(one), self.operand(two)), (ElementwiseStep(operation, (0, -2)),))
        return self._feature(self._added(node), one.scale, one.rate)

    def at_one_rate(self, features: Sequence[Feature]) -> list[Feature]:
        """Features of one size, held by values of one rate. Raises UnsupportedByProgramError."""
        sizes = sorted({feature.size for feature in features})
        if len(sizes) > 1:
            raise UnsupportedByProgramError(f"its inputs are {sizes[0]} and {sizes[-1]} times the picture")
        rate = max(feature.rate for feature in features)
        return [self.at_rate(feature, rate) for feature in features]

    # Example: a feature of rate 1 whose pixels are 2 x 2 channels each, at rate 2: a shuffle by 2.
    def at_rate(self, feature: Feature, rate: Fraction) -> Feature:
        """The same feature in values of a higher rate, at most its own size: channels become pixels."""
        factor = rate / feature.rate
        if factor == 1:
            return feature
        if factor.denominator != 1 or feature.scale % factor.numerator:
            raise UnsupportedByProgramError(f"its pixels are in channels by {feature.scale}, not by {factor}")
        step = _step(factor.numerator)
        inner, count = feature.scale // step, feature.channels
        split = feature.numbers.reshape(count, step, inner, step, inner).transpose(0, 2, 4, 1, 3)
        operand = self.operand(replace(feature, numbers=split.reshape(-1, 1, 1)))
        made = self._feature(self._added(ShuffleNode((operand,), step)), inner, feature.rate * step)
        return self.at_rate(replace(made, frame=feature.frame), rate)

    def unshuffled(self, feature: Feature, factor: int) -> Feature:
        """Pixels (factor y + dy, factor x + dx) of channel c as channel (c factor + dy) factor + dx."""
        if factor == 1:
            return feature
        scale = feature.scale
        if scale % factor == 0:
            inner = scale // factor
            split = feature.numbers.reshape(-1, inner, factor, inner, factor).transpose(0, 2, 4, 1, 3)
            return replace(feature, numbers=split.reshape(-1, inner, inner))
        feature, step = self.at_rate(feature, feature.size), _step(factor)
        node = UnshuffleNode((self.operand(feature),), step)
        made = self._feature(self._added(node), 1, feature.rate / step)
        if step == factor:
            return made
        # A pixel y is step Y + dy, and Y is rest Z + dz: it is factor Z + (step dz + dy).
        rest = factor // step
        split = self.unshuffled(made, rest).numbers.reshape(-1, step, step, rest, rest)
        numbers = split.transpose(0, 3, 1, 4, 2).reshape(-1, 1, 1)
        return Feature(numbers, feature.rate / factor)

    def operand(self, feature: Feature) -> Operand:
        """The channels of a feature side by side."""
        if not feature.frame.is_empty:
            raise UnsupportedByProgramError("it reads pixels that were padded; only convolutions do")
        runs = self._runs(feature.numbers.ravel())
        return runs[0] if len(runs) == 1 else self._added(GatherNode(runs, len(runs)))

    def program(self, result: Feature, multiple: int = 1) -> Program:
        """The program whose result is this feature, without operations that it does not need.

        multiple: the picture is extended to a multiple of it.
        """
        output, nodes = self.operand(result), tuple(self._nodes)
        program = optimized(Program(self._channels, result.channels, result.scale, nodes, output, multiple))
        if program.block > MAX_BLOCK or max(program.rates) * program.block > MAX_RATE:
            raise UnsupportedByProgramError(f"it needs blocks of {program.block} pixels or more")
        return program

    def _added(self, node: ProgramNode) -> Operand:
        """The output of a new node. Raises UnsupportedByProgramError for what the engine would refuse."""
        if node.channels > MAX_PROGRAM_CHANNELS:
            raise UnsupportedByProgramError(f"{node.channels} channels are more than {MAX_PROGRAM_CHANNELS}")
        if not all(np.isfinite(numbers).all() for numbers in _parameters(node)):
            raise UnsupportedByProgramError("a parameter is not a finite float32 number")
        self._nodes.append(node)
        self._starts.append(self._starts[-1] + node.channels)
        return Operand(len(self._nodes), 0, node.channels)

    def _feature(self, operand: Operand, scale: int, rate: Fraction) -> Feature:
        first = self._starts[operand.value] + operand.first
        return Feature(np.arange(first, first + operand.count).reshape(-1, scale, scale), rate)

    # Example: values 0 and 1 of 3 and 4 channels. The numbers 1, 2, 3, 4, 3 are the runs (value 0: 1, 2),
    # (value 1: 0, 1) and (value 1: 0).
    def _runs(self, numbers: np.ndarray) -> tuple[Operand, ...]:
        """Channels as operands, as few as possible."""
        values = np.searchsorted(self._starts, numbers, side="right") - 1
        ends = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(values) != 0)) + 1
        pieces: Sequence[np.ndarray] = np.split(np.arange(len(numbers)), ends)
        return tuple(
            Operand(
                int(values[piece[0]]), int(numbers[piece[0]]) - self._starts[values[piece[0]]], len(piece)
            )
            for piece in pieces
        )


def _step(factor: int) -> int:
    """The factor of the first of the nodes that shuffle pixels by a factor. Example: 8 is 4, then 2."""
    for step in reversed(SHUFFLE_FACTORS):
        if factor % step == 0:
            return step
    raise UnsupportedByProgramError(f"it shuffles pixels by {factor}")


def expanded(feature: Feature, channels: int) -> Feature:
    """A feature of one channel as one of many equal channels."""
    if feature.channels == channels:
        return feature
    if feature.channels != 1:
        raise UnsupportedByProgramError(f"{feature.channels} channels are used as {channels}")
    return replace(feature, numbers=np.repeat(feature.numbers, channels, axis=0))


def shuffled_pixels(feature: Feature, factor: int, order: str) -> Feature:
    """A pixel shuffle. order: "CRD" or "DCR" as in ONNX's DepthToSpace.

    CRD: channel (c f + dy) f + dx becomes the pixels (f y + dy, f x + dx) of channel c; DCR: channel (dy f +
    dx) C + c.
    """
    count, scale = feature.channels // factor**2, feature.scale
    shape = (count, factor, factor) if order == "CRD" else (factor, factor, count)
    split = feature.numbers.reshape(*shape, scale, scale)
    if order == "DCR":
        split = split.transpose(2, 0, 1, 3, 4)
    # (C, dy, dx, y, x): a pixel y of the feature becomes the pixels f y + dy.
    side = scale * factor
    numbers = split.transpose(0, 3, 1, 4, 2).reshape(count, side, side)
    return Feature(numbers, feature.rate)
