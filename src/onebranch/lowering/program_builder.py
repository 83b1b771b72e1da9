"""Builds a program from operations on features: arrays of channels that need not lie side by side.

Slices, concatenations, shuffles of channels and pixel shuffles only rearrange the numbers of channels. A
`GatherNode` is added where an operation needs channels side by side that are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.lowering.program import (
    Binary,
    BinaryNode,
    BorderKind,
    ConvolutionNode,
    GatherNode,
    Operand,
    Program,
    ProgramNode,
    Unary,
    UnaryNode,
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
    """A picture of C channels with `scale` times the height and width of the network's input.

    numbers: (C, scale, scale), the number of the program's channel that holds the pixels (scale y + dy, scale
    x + dx) of channel c. Channels are numbered through all values. frame: pixels around it.
    """

    numbers: np.ndarray
    frame: Frame = Frame()

    @property
    def channels(self) -> int:
        """Channels of the picture."""
        return len(self.numbers)

    @property
    def scale(self) -> int:
        """Rows for each row of the network's input."""
        return int(self.numbers.shape[1])


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
        operand = self.operand(feature)
        if border is BorderKind.EDGE:
            operand = self._added(GatherNode((operand,), border))
        slope = np.ones(len(weight), np.float32)
        node = ConvolutionNode((operand,), weight, bias, slope, groups, dilations, pads)
        return self._feature(self._added(node), scale)

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
        return self._feature(self._added(UnaryNode((operand,), operation, a, b)), feature.scale)

    def binary(self, one: Feature, two: Feature, operation: Binary) -> Feature:
        """An operation on two features of the same size; one channel serves for all of the other's."""
        if one.scale != two.scale:
            raise UnsupportedByProgramError(f"its inputs are {one.scale} and {two.scale} times the picture")
        if one.channels == 1 < two.channels and operation is not Binary.SUBTRACT:
            one, two = two, one
        channels = max(one.channels, two.channels)
        one = expanded(one, channels)
        if two.channels != channels and two.scale > 1:
            two = expanded(two, channels)
        if two.channels not in (1, channels):
            raise UnsupportedByProgramError(f"its inputs have {one.channels} and {two.channels} channels")
        node = BinaryNode((self.operand(one), self.operand(two)), operation)
        return self._feature(self._added(node), one.scale)

    def operand(self, feature: Feature) -> Operand:
        """The channels of a feature side by side."""
        if not feature.frame.is_empty:
            raise UnsupportedByProgramError("it reads pixels that were padded; only convolutions do")
        runs = self._runs(feature.numbers.ravel())
        return runs[0] if len(runs) == 1 else self._added(GatherNode(runs))

    def program(self, result: Feature) -> Program:
        """The program whose result is this feature, without operations that it does not need."""
        output = self.operand(result)
        return optimized(Program(self._channels, result.channels, result.scale, tuple(self._nodes), output))

    def _added(self, node: ProgramNode) -> Operand:
        self._nodes.append(node)
        self._starts.append(self._starts[-1] + node.channels)
        return Operand(len(self._nodes), 0, node.channels)

    def _feature(self, operand: Operand, scale: int) -> Feature:
        first = self._starts[operand.value] + operand.first
        return Feature(np.arange(first, first + operand.count).reshape(-1, scale, scale))

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
    return Feature(split.transpose(0, 3, 1, 4, 2).reshape(count, side, side))
