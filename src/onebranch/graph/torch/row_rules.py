"""How rows and columns that are overwritten with constants are read in a traced PyTorch module.

torch.export writes y[:, :, 0:1] = b as slices of slices, each written back into the one around it.
"""

from typing import Any

import torch
from torch.fx import Node

from onebranch.algebra.definition import Floats
from onebranch.graph.merge.checks import NotLinear, per_channel
from onebranch.graph.merge.linear import Fill, Pass
from onebranch.graph.torch.tracing import END, arguments, is_all
from onebranch.graph.torch.values import Reading, Rule, TracedValues, rank, shape_key

aten = torch.ops.aten


def _expand(node: Node, values: TracedValues) -> Reading:
    """A constant of one number per channel, broadcast over all pixels; recorded for `_slice_scatter`."""
    (x,) = arguments(node, None)
    numbers = _uniform_numbers(x, node, values)
    if numbers is not None:
        values.uniform[node] = numbers
        values.absorbed.add(node)
    return []


def _copy(node: Node, values: TracedValues) -> Reading:
    """A value copied into another of its size: the value itself."""
    target, x = arguments(node, None, None)
    numbers = _uniform_numbers(x, node, values)
    if numbers is not None:
        values.uniform[node] = numbers
        values.absorbed.add(node)
        while isinstance(target, Node) and target.target is aten.slice.Tensor:  # only its size is used
            values.absorbed.add(target)
            target = target.args[0]
    return []


def _uniform_numbers(x: Any, node: Node, values: TracedValues) -> Floats | None:
    """One number for each channel of the node's value, if x is such a constant, broadcast or not."""
    if x in values.uniform or x not in values.constants or rank(node) != 4:
        return values.uniform.get(x)
    channels = node.meta["val"].shape[1]
    try:
        return per_channel(values.constant(x, "constant"), channels, 4) if isinstance(channels, int) else None
    except NotLinear:
        return None


def _slice_scatter(node: Node, values: TracedValues) -> Reading:
    """Overwritten rows or columns.

    Rows or columns at an end of the picture that are overwritten by a constant become a `Fill`. If everything
    is overwritten, the node's value is the written value.
    """
    base, written, axis, start, end, step = arguments(node, None, None, 0, None, None, 1)
    if is_all(start, end, step):
        return _overwritten(node, base, written, values)
    if written not in values.uniform or not values.is_plane(base) or rank(base) != 4 or step != 1:
        return []
    lines = _rows_at_an_end(start, end)
    if axis % 4 not in (2, 3) or lines is None:
        return []
    first, count = lines
    return [(Fill(axis % 4, first, count, values.uniform[written]), (base,))]


def _overwritten(node: Node, base: Any, written: Any, values: TracedValues) -> Reading:
    if written in values.uniform:
        values.uniform[node] = values.uniform[written]
        values.absorbed |= {node, base}
        return []
    same = values.is_plane(written) and shape_key(written) == shape_key(node)
    return [(Pass(), (written,))] if same else []


def _rows_at_an_end(start: Any, end: Any) -> tuple[int, int] | None:
    """First row and number of rows of a slice at one end of the picture; None for other slices.

    >>> _rows_at_an_end(0, 2), _rows_at_an_end(-1, None), _rows_at_an_end(3, None)
    ((0, 2), (-1, 1), None)
    """
    if not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    first = start or 0
    if first >= 0:
        return (first, end - first) if end is not None and first < end < END else None
    if end is None or end >= END:
        return first, -first
    return (first, end - first) if first < end < 0 else None


ROW_RULES: dict[Any, Rule] = {
    aten.expand.default: _expand,
    aten.copy.default: _copy,
    aten.slice_scatter.default: _slice_scatter,
}
