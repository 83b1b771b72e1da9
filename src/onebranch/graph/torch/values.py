"""The facts about a traced PyTorch module's values that the rules for linear operations need."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from onebranch.algebra.definition import Floats
from onebranch.graph.merge.checks import NotLinear
from onebranch.graph.merge.linear import Linear

FLOAT_TYPE_NAMES = {torch.float32: "float32", torch.float64: "float64"}
"""The types of values that can be merged."""

HALF_TYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}

Reading = list[tuple[Linear, tuple[Node, ...]]]
"""The linear operations that compute a value, each with its inputs; empty if the value is not linear."""


@dataclass
class TracedValues:
    """The values of a trace.

    constants: in float64. absorbed: nodes that are part of another linear operation. uniform: values that
    are one constant for each channel (C,), at every pixel.
    """

    constants: dict[Node, torch.Tensor]
    absorbed: set[Node] = field(default_factory=set)
    uniform: dict[Node, Floats] = field(default_factory=dict)

    def channels(self, node: Node) -> int:
        """The number of channels of a value (N, C, H, W) or (N, C). Raises NotLinear if there is none."""
        value = node.meta["val"]
        check_precision(value.dtype)
        if value.ndim not in (2, 4):
            raise NotLinear(f"its input has rank {value.ndim}, not 4 (or 2)")
        if not isinstance(value.shape[1], int):
            raise NotLinear("its number of channels is not fixed")
        return value.shape[1]

    def constant(self, value: Any, what: str) -> Floats:
        """A constant as a float64 array. Raises NotLinear if the value is not constant, or of a half type."""
        if isinstance(value, int | float):
            return np.asarray(value, np.float64)
        if value not in self.constants:
            raise NotLinear(f"its {what} is not a constant")
        tensor = self.constants[value]
        if tensor.dtype in HALF_TYPES:
            raise NotLinear(
                f"its {what} is {HALF_TYPES[tensor.dtype]}: merge the float32 module, then convert"
            )
        return np.asarray(tensor.detach().cpu().double().numpy())

    def optional(self, value: Any, what: str) -> Floats | None:
        """A constant as a float64 array, or None if the value is None. Raises NotLinear."""
        return None if value is None else self.constant(value, what)

    def is_plane(self, value: Any) -> bool:
        """Return True for a value (N, C, H, W) or (N, C) that depends on the input.

        Raises NotLinear if its numbers are of a half type.
        """
        if not isinstance(value, Node) or value in self.constants:
            return False
        tensor = value.meta.get("val")
        if not isinstance(tensor, torch.Tensor) or tensor.ndim not in (2, 4):
            return False
        if tensor.dtype in HALF_TYPES:
            check_precision(tensor.dtype)
        return tensor.dtype in FLOAT_TYPE_NAMES

    def picture(self, node: Any) -> Node:
        """The value, checked to be (N, C, H, W). Raises NotLinear."""
        if not isinstance(node, Node) or node in self.constants:
            raise NotLinear("its input is a constant")
        self.channels(node)
        if node.meta["val"].ndim != 4:
            raise NotLinear(f"its input has rank {node.meta['val'].ndim}, not 4")
        return node


Rule = Callable[[Node, TracedValues], Reading]
"""Gives the linear operations that compute a node's value. Raises NotLinear if it looks linear but is not."""


def check_precision(dtype: torch.dtype) -> None:
    """Raise NotLinear unless numbers of this type can be merged."""
    if dtype not in FLOAT_TYPE_NAMES:
        name = str(dtype).removeprefix("torch.")
        raise NotLinear(f"its numbers are {name}: merge the float32 module, then convert")


def size_key(side: Any) -> Hashable:
    """The key of a length: the number itself, or torch's expression of the inputs' lengths."""
    return side if isinstance(side, int) else str(side.node.expr)


def shape_key(node: Node) -> tuple[Hashable, ...]:
    """The keys of all lengths of a value."""
    return tuple(size_key(side) for side in node.meta["val"].shape)


def rank(node: Node) -> int:
    """The number of axes of a value."""
    return int(node.meta["val"].ndim)
