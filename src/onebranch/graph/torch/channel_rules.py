"""How sums, scalings, selections of channels and views of a traced PyTorch module are read."""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from onebranch.algebra.definition import Floats
from onebranch.graph.merge.checks import BROADCAST, NotLinear, per_channel, scale
from onebranch.graph.merge.linear import Join, Pass, Select, Sum
from onebranch.graph.torch.tracing import arguments, is_all
from onebranch.graph.torch.values import Reading, Rule, TracedValues, rank, shape_key

aten = torch.ops.aten

COPIES = {aten.clone.default, aten.contiguous.default, aten.alias.default}


def split_result(node: Node, index: int, values: TracedValues) -> Reading:
    """One part of a split of the channels (split.Tensor, split_with_sizes or chunk)."""
    x, _, axis = arguments(node, None, None, 0)
    if not values.is_plane(x) or axis % rank(x) != 1:
        return []
    widths = [int(value.shape[1]) for value in node.meta["val"]]
    first = sum(widths[:index])
    values.absorbed.add(node)
    return [(Select(tuple(range(first, first + widths[index]))), (x,))]


def _add(node: Node, values: TracedValues) -> Reading:
    one, other, alpha = arguments(node, None, None, 1)
    return _sum(values, one, other, alpha)


def _sub(node: Node, values: TracedValues) -> Reading:
    one, other, alpha = arguments(node, None, None, 1)
    return _sum(values, one, other, -alpha if isinstance(alpha, int | float) else alpha)


def _rsub(node: Node, values: TracedValues) -> Reading:
    other, one, alpha = arguments(node, None, None, 1)
    return _sum(values, one, other, -alpha if isinstance(alpha, int | float) else alpha)


def _sum(values: TracedValues, one: Any, other: Any, alpha: Any) -> Reading:
    """The sum one + alpha * other."""
    planes = [value for value in (one, other) if values.is_plane(value)]
    if not planes or not isinstance(alpha, int | float):
        return []
    if len(planes) == 2:
        return _sum_of_planes(one, other, alpha, values)
    (x,) = planes
    numbers = _constant_factor(one if x is other else other, x, values)
    if numbers is None:
        return []
    channels = values.channels(x)
    operation = scale(channels, alpha, numbers) if x is other else scale(channels, shift=alpha * numbers)
    return [(operation, (x,))]


def _sum_of_planes(one: Node, other: Node, alpha: float, values: TracedValues) -> Reading:
    if rank(one) != rank(other) or values.channels(one) != values.channels(other):
        raise NotLinear(BROADCAST)
    if shape_key(one)[2:] != shape_key(other)[2:]:
        raise NotLinear("the sizes of the values that it adds are not known to be equal for every input")
    if alpha not in (1, -1):
        raise NotLinear(f"it adds a multiple ({alpha}) of a value")
    return [(Sum((1, int(alpha))), (one, other))]


def _constant_factor(value: Any, x: Node, values: TracedValues) -> Floats | None:
    """A constant that is combined with x, as (C,); None if it is not constant. Raises NotLinear."""
    if isinstance(value, Node) and value not in values.constants:
        return None
    return per_channel(values.constant(value, "constant"), values.channels(x), rank(x))


def _mul(node: Node, values: TracedValues) -> Reading:
    one, other = arguments(node, None, None)
    planes = [value for value in (one, other) if values.is_plane(value) and value not in values.uniform]
    if len(planes) != 1:
        return []
    (x,) = planes
    factor = other if x is one else one
    if factor in values.uniform:
        numbers = values.uniform[factor] if shape_key(x) == shape_key(node) else None
    else:
        numbers = _constant_factor(factor, x, values)
    return [] if numbers is None else [(scale(values.channels(x), numbers), (x,))]


def _addcmul(node: Node, values: TracedValues) -> Reading:
    """The operation shift + x * factor, which merged modules contain."""
    shift, x, factor, value = arguments(node, None, None, None, 1)
    if not values.is_plane(x) or value != 1:
        return []
    numbers = [_constant_factor(part, x, values) for part in (factor, shift)]
    if numbers[0] is None or numbers[1] is None:
        return []
    return [(scale(values.channels(x), numbers[0], numbers[1]), (x,))]


def _div(node: Node, values: TracedValues) -> Reading:
    x, divisor = arguments(node, None, None)
    numbers = _constant_factor(divisor, x, values)
    if numbers is None:
        return []
    if not numbers.all():
        raise NotLinear("it divides by zero")
    return [(scale(values.channels(x), 1 / numbers), (x,))]


def _neg(node: Node, values: TracedValues) -> Reading:
    (x,) = arguments(node, None)
    return [(scale(values.channels(x), -1.0), (x,))]


def _copy_of(node: Node, values: TracedValues) -> Reading:
    """A copy, or a conversion to the type that the value already has."""
    (x,) = arguments(node, None)
    if x in values.uniform:
        values.uniform[node] = values.uniform[x]
        values.absorbed.add(node)
        return []
    if not values.is_plane(x):
        return []
    same_type = x.meta["val"].dtype == node.meta["val"].dtype
    return [(Pass(), (x,))] if same_type else []


def _dropout(node: Node, values: TracedValues) -> Reading:
    x, _, training = arguments(node, None, 0.5, True)
    if training:
        raise NotLinear("dropout in training mode is random")
    return [(Pass(), (x,))]


def _mean(node: Node, values: TracedValues) -> Reading:
    """Means are not merged: one over the channels would become an additional convolution."""
    _, axes = arguments(node, None, None)[:2]
    if [axis % 4 for axis in axes or ()] == [1]:
        raise NotLinear("it averages over the channels, which would take one more convolution")
    raise NotLinear("it averages over the whole picture, whose size may vary")


def _cat(node: Node, values: TracedValues) -> Reading:
    parts, axis = arguments(node, (), 0)
    if not parts or not all(isinstance(value, Node) for value in parts):
        return []
    if rank(node) not in (2, 4) or axis % rank(node) != 1:
        return []
    if any(value in values.constants for value in parts):
        raise NotLinear("it joins a value and a constant")
    return [(Join(), tuple(parts))] if all(values.is_plane(value) for value in parts) else []


def _slice(node: Node, values: TracedValues) -> Reading:
    """A slice of the channels, or a slice that selects everything."""
    x, axis, start, end, step = arguments(node, None, 0, None, None, 1)
    if is_all(start, end, step):
        return [(Pass(), (x,))]
    if axis % rank(x) in (2, 3):
        raise NotLinear("it crops or subsamples the picture")
    if axis % rank(x) != 1 or not all(isinstance(n, int | None) for n in (start, end, step)):
        return []
    return [(Select(tuple(range(values.channels(x))[start:end:step])), (x,))]


def _index_select(node: Node, values: TracedValues) -> Reading:
    x, axis, indices = arguments(node, None, 0, None)
    if axis % rank(x) != 1 or indices not in values.constants:
        return []
    chosen = values.constants[indices].reshape(-1).tolist()
    return [(Select(tuple(int(index) for index in chosen)), (x,))]


def _repeat(node: Node, values: TracedValues) -> Reading:
    x, repeats = arguments(node, None, ())
    if len(repeats) != rank(x) or any(count != 1 for axis, count in enumerate(repeats) if axis != 1):
        return []
    return [(Select(tuple(range(values.channels(x))) * repeats[1]), (x,))]


def _repeat_interleave(node: Node, values: TracedValues) -> Reading:
    x, count, axis = arguments(node, None, None, None)
    if axis is None or axis % rank(x) != 1 or not isinstance(count, int):
        return []
    return [(Select(tuple(np.repeat(np.arange(values.channels(x)), count).tolist())), (x,))]


def _view(node: Node, values: TracedValues) -> Reading:
    """A view of the same shape, or the last step of a channel shuffle."""
    (x,) = arguments(node, None)
    if values.is_plane(x) and shape_key(x) == shape_key(node):
        return [(Pass(), (x,))]
    exchange = _copied(x, values)
    if exchange is None or exchange.target not in (aten.transpose.int, aten.permute.default):
        return []
    first = exchange.args[0]
    groups = _shuffle_groups(first, exchange, node, values)
    if groups is None:
        return []
    assert isinstance(first, Node), "a view is a node"
    source: Any = first.args[0]
    channels = values.channels(source)
    values.absorbed |= {first, exchange, *_copies(x)}
    return [(Select(tuple(np.arange(channels).reshape(groups, -1).T.reshape(-1).tolist())), (source,))]


def _shuffle_groups(first: Any, exchange: Node, last: Node, values: TracedValues) -> int | None:
    """The number of groups of a channel shuffle; None if the three operations do not form one.

    first: the view (N, C, H, W) -> (N, G, C / G, H, W). exchange: of axes 1 and 2. last: the view back.
    """
    if not isinstance(first, Node) or first.target not in (aten.view.default, aten.reshape.default):
        return None
    source: Any = first.args[0]
    if not values.is_plane(source) or (rank(source), rank(first)) != (4, 5):
        return None
    batch, _, *size = shape_key(source)
    if not _exchanges(exchange) or (shape_key(last)[0], *shape_key(last)[2:]) != (batch, *size):
        return None
    middle = shape_key(first)
    groups, width = middle[1:3]
    if (middle[0], *middle[3:]) != (batch, *size) or not (isinstance(groups, int) and isinstance(width, int)):
        return None
    return groups if groups * width == values.channels(source) else None


def _channel_shuffle(node: Node, values: TracedValues) -> Reading:
    x, groups = arguments(node, None, 1)
    indices = np.arange(values.channels(x)).reshape(groups, -1).T.reshape(-1)
    return [(Select(tuple(indices.tolist())), (x,))]


def _exchanges(node: Node) -> bool:
    """Return True if the node exchanges axes 1 and 2, and no others."""
    given: Any = node.args
    if node.target is aten.transpose.int:
        return {axis % 5 for axis in given[1:3]} == {1, 2}
    return [axis % 5 for axis in given[1]] == [0, 2, 1, 3, 4]


def _copied(node: Any, values: TracedValues) -> Node | None:
    """The value that a chain of copies begins with; None if it is a constant."""
    while isinstance(node, Node) and node.target in COPIES:
        node = node.args[0]
    return node if isinstance(node, Node) and node not in values.constants else None


def _copies(node: Any) -> set[Node]:
    """The copies between a value and its original."""
    copies = set()
    while isinstance(node, Node) and node.target in COPIES:
        copies.add(node)
        node = node.args[0]
    return copies


CHANNEL_RULES: dict[Any, Rule] = {
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), _add),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), _sub),
    **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), _rsub),
    **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), _mul),
    aten.addcmul.default: _addcmul,
    **dict.fromkeys((*COPIES, aten.detach.default, aten._to_copy.default, aten.to.dtype), _copy_of),
    aten.cat.default: _cat,
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten.reshape.default), _view),
}
"""Rules that check their inputs themselves."""

CHANNEL_PLANE_RULES: dict[Any, Rule] = {
    **dict.fromkeys(
        (aten.div.Tensor, aten.div.Scalar, aten.true_divide.Tensor, aten.true_divide.Scalar), _div
    ),
    aten.channel_shuffle.default: _channel_shuffle,
    aten.neg.default: _neg,
    **dict.fromkeys((aten.dropout.default, aten.feature_dropout.default), _dropout),
    aten.mean.dim: _mean,
    aten.slice.Tensor: _slice,
    aten.index_select.default: _index_select,
    aten.repeat.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
}
"""Rules whose first argument is a value (N, C, H, W) or (N, C) that depends on the input."""
