"""Rows or columns overwritten by constants, as exporters write `y[:, :, 0:1] = b`: ScatterND as `Fill`."""

from typing import NamedTuple

import numpy as np

from onebranch.algebra.definition import Floats
from onebranch.graph.analysis.state import input_name, ints_attribute, str_attribute
from onebranch.graph.analysis.symbolic_size import SymbolicSize
from onebranch.graph.merge.checks import (
    NotLinear,
)
from onebranch.graph.merge.linear import (
    Fill,
    Fills,
)
from onebranch.graph.onnx.analyzed_model import FLOAT32_ROUNDING, AnalyzedModel, Read
from onebranch.graph.onnx.index_arrays import IndexArray, Repeated
from onebranch.graph.operations import Node


class _Write(NamedTuple):
    """A write to whole rows of an array: the axis, the first row, the number of rows, and the values."""

    axis: int
    start: int
    length: int
    update: Repeated


# Example: torch.export writes y[:, :, -1:] = b for y (N, C, H, W) as Transpose to (H, C, N, W), a ScatterND
# along its first axis at H - 1, and Transpose back. Read from the end, the output axes (0, 1, 2, 3) are the
# axes (2, 1, 0, 3) of the transposed array, so that its axis 0 is the output's axis 2: the operation is
# Fill(axis=2, start=-1, count=1).
def overwritten(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """Rows or columns overwritten by constants: `ScatterND`, between transposes or not."""
    if not model.is_plane(node.outputs[0]) or model.rank(node.outputs[0]) != 4:
        return None
    channels = model.channels(node.outputs[0])
    order, fills, name = [0, 1, 2, 3], list[Fill](), node.outputs[0]
    while (maker := model.makers.get(name)) and maker.kind in ("Identity", "Transpose", "ScatterND"):
        order = _order_before(maker, order)
        if maker.kind == "ScatterND":
            if (fill := _fill(maker, order, channels, model)) is None:
                return None
            fills.append(fill)
        name = maker.inputs[0]
        if fills and order == [0, 1, 2, 3]:
            operation = fills[0] if len(fills) == 1 else Fills(tuple(fills[::-1]))
            return [(operation, (name,))] if model.is_plane(name) else None
    return None


def _order_before(node: Node, order: list[int]) -> list[int]:
    """The axes of a transpose's input that become the axes `order`; `order` itself for other operations."""
    if node.kind != "Transpose":
        return order
    permutation = ints_attribute(node, "perm", (3, 2, 1, 0))
    return [permutation[axis] for axis in order]


def scattered(node: Node, model: AnalyzedModel) -> list[Read] | None:
    """A `ScatterND` on a plane. Raises NotLinear if it writes something else than whole rows or columns."""
    read, origin = overwritten(node, model), node.inputs[0]
    while (maker := model.makers.get(origin)) and maker.kind in ("Identity", "ScatterND"):
        origin = maker.inputs[0]
    if read is None and model.is_plane(origin) and not model.maker(origin, "Transpose"):
        raise NotLinear(
            "it overwrites other things than whole rows or columns by one number per channel, or it depends"
            " on the size that the model was exported with"
        )
    return read


def _as_rounded_bias(value: Floats, node: Node, model: AnalyzedModel) -> Floats:
    """A fill's value, or the bias of the padded convolution before it if both differ by rounding only.

    Exporters fold batch normalization into that bias in float32, and compute the fill's value in another
    order of float32 operations; in the module both are the same number.
    """
    while node.kind in ("Identity", "Transpose", "ScatterND", "Pad") and node.inputs[0] in model.makers:
        node = model.makers[node.inputs[0]]
    bias = model.graph.constants.get(input_name(node, 2)) if node.kind == "Conv" else None
    if bias is None or bias.shape != value.shape:
        return value
    is_close = np.abs(bias - value).max() <= FLOAT32_ROUNDING * np.abs(bias).max()
    return bias.astype(np.float64) if is_close else value


def _fill(node: Node, order: list[int], channels: int, model: AnalyzedModel) -> Fill | None:
    """What a `ScatterND` does to an (N, C, H, W) value whose axes are `order` of those that are written."""
    write = _whole_rows(node, model)
    if write is None:
        return None
    axis, values = order.index(write.axis), write.update.values
    if axis not in (2, 3) or (len(values) > 1 and write.update.axis != order[1]):
        return None
    value = np.broadcast_to(values.astype(np.float64), (channels,))
    return Fill(axis, write.start, write.length, _as_rounded_bias(value, node, model))


def _whole_rows(node: Node, model: AnalyzedModel) -> _Write | None:
    """What a `ScatterND` writes, if it is a number of whole rows along one axis, with a repeated constant."""
    data, indices, updates = node.inputs
    tuples, update = model.arrays.index_tuples(indices), model.arrays.repeated(updates)
    shape = model.shapes.get(data, ())
    if tuples is None or update is None or str_attribute(node, "reduction", "none") != "none":
        return None
    rows: list[tuple[int, int, int]] = []
    for axis, index in enumerate(tuples):
        part = _row_range(index, axis, shape[axis], len(tuples))
        if part is None:
            return None
        rows += [(axis, *part)] if part != ALL_ROWS else []
    return _Write(*rows[0], update) if len(rows) == 1 else None


ALL_ROWS = (0, 0)
"""The range of rows that stands for all of them."""


def _row_range(index: IndexArray, axis: int, size: SymbolicSize, rank: int) -> tuple[int, int] | None:
    """First row and number of rows that an index array (one of `rank` components) selects along its axis."""
    if len(index.shape) != rank or not _counts_along(index, axis):
        return None
    if index.shape[axis] == size and index.base.number == 0:
        return ALL_ROWS
    start, length = _nearest_to_an_end(index.base, size), index.shape[axis].number
    return None if start is None or not length else (start, int(length))


def _counts_along(index: IndexArray, axis: int) -> bool:
    """True if the indices rise by 1 along this axis and are constant along all others."""
    others = [coefficient for k, coefficient in enumerate(index.coefficients) if k != axis]
    return not any(others) and (index.coefficients[axis] == 1 or index.shape[axis].number == 1)


def _nearest_to_an_end(position: SymbolicSize, size: SymbolicSize) -> int | None:
    """A position counted from the start, or from the end as a negative number; None if it is neither."""
    from_begin, from_end = position.number, (position - size).number
    is_nearer_to_end = from_end is not None and (from_begin is None or -from_end < from_begin)
    start = from_end if is_nearer_to_end else from_begin
    return None if start is None else int(start)
