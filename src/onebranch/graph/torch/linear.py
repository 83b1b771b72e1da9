"""The linear operations of a traced PyTorch module, read into the graph of `graph.merge.linear`.

The trace is functional (in-place operations have become plain ones), holds for every size that its guards let
through, and names every value. Floats that depend on parameters alone are computed in float64.
"""

import operator
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from onebranch.algebra.padding import Padding
from onebranch.graph.merge.checks import (
    NotLinear,
    convolve,
    normalize,
    per_channel,
    same_padding,
    scale,
    transposed,
)
from onebranch.graph.merge.linear import (
    Average,
    Fill,
    Floats,
    Join,
    Linear,
    LinearGraph,
    Pad,
    Pass,
    Plane,
    Select,
    Step,
    Sum,
    Unmerged,
)
from onebranch.graph.torch.tracing import END, arguments, is_all

aten = torch.ops.aten

LARGEST = 1 << 27
"""Numbers in the largest constant that is computed."""

PRECISIONS = {torch.float32: "float32", torch.float64: "float64"}

Read = tuple[Linear, tuple[Node, ...]]


@dataclass
class _Trace:
    """What the rules may ask. uniform: values that are one constant for each channel, at every pixel."""

    constants: dict[Node, torch.Tensor]
    absorbed: set[Node] = field(default_factory=set)
    uniform: dict[Node, Floats] = field(default_factory=dict)

    def channels(self, node: Node) -> int:
        """Channels of a value (N, C, H, W) or (N, C). Raises NotLinear."""
        value = node.meta["val"]
        if value.dtype not in PRECISIONS:
            kind = str(value.dtype).removeprefix("torch.")
            raise NotLinear(f"its numbers are {kind}: merge the float32 module, then convert")
        if value.ndim not in (2, 4):
            raise NotLinear(f"its input has rank {value.ndim}, not 4 (or 2)")
        if not isinstance(value.shape[1], int):
            raise NotLinear("its number of channels is not fixed")
        return value.shape[1]

    def constant(self, value: Any, what: str) -> Floats:
        """A constant as an array. Raises NotLinear."""
        if isinstance(value, int | float):
            return np.asarray(value, np.float64)
        if value not in self.constants:
            raise NotLinear(f"its {what} is not a constant")
        tensor = self.constants[value]
        if tensor.dtype in (torch.float16, torch.bfloat16):
            raise NotLinear(
                f"its {what} is {str(tensor.dtype).removeprefix('torch.')}: merge the float32 module"
            )
        return np.asarray(tensor.detach().cpu().double().numpy())

    def optional(self, value: Any, what: str) -> Floats | None:
        """As `constant`, where there may be none."""
        return None if value is None else self.constant(value, what)

    def is_plane(self, value: Any) -> bool:
        """Whether it is a value (N, C, H, W) or (N, C) of floats that is no constant."""
        if not isinstance(value, Node) or value in self.constants:
            return False
        found = value.meta.get("val")
        return isinstance(found, torch.Tensor) and found.ndim in (2, 4) and found.dtype in PRECISIONS


def names(module: GraphModule) -> dict[Node, str]:
    """A name for every value: where in the module it is computed, and the operation."""
    return {node: _name(node) for node in module.graph.nodes}


def _name(node: Node) -> str:
    stack = node.meta.get("nn_module_stack")
    path = next(reversed(stack.values()))[0] if stack else ""
    path = str(path).removeprefix("L['self']").lstrip(".")
    return f"{path}:{node.name}" if path else node.name


def read_linear(module: GraphModule) -> LinearGraph:
    """The linear operations of a traced module."""
    trace = _Trace(_constants(module))
    called = names(module)
    steps: list[Step] = []
    unmerged: list[Unmerged] = []
    made: set[Node] = set()
    for node in module.graph.nodes:
        if node.op != "call_function" or node in trace.constants:
            continue
        try:
            found = _read(node, trace)
        except NotLinear as reason:
            unmerged.append(Unmerged(called[node], f"{_operation_name(node)}: {reason}"))
            continue
        if found is not None:
            operation, inputs = found
            steps.append(Step(called[node], operation, tuple(called[name] for name in inputs)))
            made.add(node)
    by_name = {name: node for node, name in called.items()}
    used = {name for step in steps for name in (step.value, *step.inputs)}
    kept = {called[value] for value in _read_elsewhere(module, made, trace)}
    return LinearGraph(
        steps=tuple(steps),
        planes={name: _plane(by_name[name], trace) for name in used},
        required=frozenset(kept),
        names=frozenset(by_name),
        unmerged=tuple(unmerged),
    )


def _read(node: Node, trace: _Trace) -> Read | None:
    """The linear operation that computes a value; None where it is nothing of the kind. Raises NotLinear."""
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return None
    rule = _RULES.get(node.target)
    found = rule(node, trace) if rule else None
    if found is not None:
        trace.channels(node)
        for value in found[1]:
            trace.channels(value)
    return found


def _operation_name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _plane(node: Node, trace: _Trace) -> Plane:
    value = node.meta["val"]
    if value.ndim == 2:
        return Plane(value.shape[1], (("vector",), ("vector",)), (1, 1), True, PRECISIONS[value.dtype])
    height, width = value.shape[2:]
    sizes = _size(height), _size(width)
    return Plane(value.shape[1], sizes, (_hint(height), _hint(width)), False, PRECISIONS[value.dtype])


def _size(side: Any) -> Hashable:
    """The key of a length: the number, or torch's own expression of the inputs' lengths."""
    return side if isinstance(side, int) else str(side.node.expr)


def _hint(side: Any) -> int:
    return side if isinstance(side, int) else int(side.node.hint or 1)


def _constants(module: GraphModule) -> dict[Node, torch.Tensor]:
    """Parameters, buffers, and what is computed from them alone; floats in float64."""
    found: dict[Node, torch.Tensor] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor = operator.attrgetter(node.target)(module)
            if isinstance(tensor, torch.Tensor):
                found[node] = tensor.detach()
        elif node.op == "call_function" and _is_constant(node, found):
            value = _computed(node, found)
            if isinstance(value, torch.Tensor):
                found[node] = value
    return found


def _is_constant(node: Node, found: Mapping[Node, torch.Tensor]) -> bool:
    inputs = node.all_input_nodes
    if not inputs or any(value not in found for value in inputs):
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    chance = torch.Tag.nondeterministic_seeded in node.target.tags
    return not chance and sum(found[value].numel() for value in inputs) <= LARGEST


def _computed(node: Node, found: Mapping[Node, torch.Tensor]) -> Any:
    def wide(value: Node) -> torch.Tensor:
        tensor = found[value]
        return tensor.double() if tensor.dtype == torch.float32 else tensor

    target: Any = node.target
    arguments = torch.fx.node.map_arg(node.args, wide)
    keywords = torch.fx.node.map_arg(node.kwargs, wide)
    if keywords.get("dtype") is torch.float32:
        keywords = {**keywords, "dtype": torch.float64}
    try:
        with torch.no_grad():
            return target(*arguments, **keywords)
    except Exception:  # what cannot be computed now is no constant, whatever is raised
        return None


def _read_elsewhere(module: GraphModule, made: set[Node], trace: _Trace) -> Iterator[Node]:
    """Values that something reads which is not linear: every reader that is no step, nor a part of one."""
    inner = {node for node in trace.absorbed if all(u in made or u in trace.absorbed for u in node.users)}
    changed = True
    while changed:  # a part of a step that something else reads is no part of it, nor is what it reads
        smaller = {node for node in inner if all(u in made or u in inner for u in node.users)}
        changed, inner = smaller != inner, smaller
    for node in module.graph.nodes:
        if node not in made and node not in inner:
            yield from node.all_input_nodes


# Operations


def _given(node: Node) -> Any:
    """Positional arguments of what is no operation of torch's own."""
    return node.args


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    numbers = tuple(value)
    if not all(isinstance(number, int) for number in numbers):
        raise NotLinear("its geometry depends on the input")
    return (numbers[0], numbers[-1])


def _both(value: Any) -> Padding:
    rows, columns = _pair(value)
    return Padding(rows, rows, columns, columns)


def _picture(node: Any, trace: _Trace, rank: int = 4) -> Node:
    if not isinstance(node, Node) or node in trace.constants:
        raise NotLinear("its input is a constant")
    trace.channels(node)
    if node.meta["val"].ndim != rank:
        raise NotLinear(f"its input has rank {node.meta['val'].ndim}, not {rank}")
    return node


def _conv2d(node: Node, trace: _Trace) -> Read:
    x, weight, bias, stride, padding, dilation, groups = arguments(node, None, None, None, 1, 0, 1, 1)
    kernel = trace.constant(weight, "weight")
    strides, dilations = _pair(stride), _pair(dilation)
    if padding == "same":
        padding = same_padding(kernel.shape[2:], strides, dilations, lower=False)
    else:
        padding = _both(0 if padding == "valid" else padding)
    shift = trace.optional(bias, "bias")
    framed = _framed(x, trace)
    if framed is not None:
        padding, x = padding + framed.padding, x.args[0]
    return convolve(kernel, shift, groups, strides, dilations, padding), (_picture(x, trace),)


def _framed(x: Any, trace: _Trace) -> Pad | None:
    """Zero padding that a convolution alone reads: PyTorch's way to write uneven padding."""
    if not isinstance(x, Node) or x.target not in _PADS or len(x.users) > 1:
        return None
    try:
        found = _pad(x, trace)
    except NotLinear:
        return None
    padding = found[0] if found else None
    return padding if isinstance(padding, Pad) and padding.value == 0 else None


def _convolution(node: Node, trace: _Trace) -> Read:
    x, weight, bias, stride, padding, dilation, turned, more, groups = arguments(
        node, None, None, None, [1], [0], [1], False, [0], 1
    )
    parts = trace.constant(weight, "weight"), trace.optional(bias, "bias"), groups
    shape = _pair(stride), _pair(dilation), _both(padding)
    if turned:
        return transposed(*parts, *shape, _pair(more)), (_picture(x, trace),)
    return convolve(*parts, *shape), (_picture(x, trace),)


def _conv_transpose2d(node: Node, trace: _Trace) -> Read:
    x, weight, bias, stride, padding, more, groups, dilation = arguments(
        node, None, None, None, 1, 0, 0, 1, 1
    )
    parts = trace.constant(weight, "weight"), trace.optional(bias, "bias"), groups
    return transposed(*parts, _pair(stride), _pair(dilation), _both(padding), _pair(more)), (
        _picture(x, trace),
    )


def _linear(node: Node, trace: _Trace) -> Read | None:
    x, weight, bias = arguments(node, None, None, None)
    if not isinstance(x, Node) or x in trace.constants:
        return None
    if x.meta["val"].ndim != 2:
        raise NotLinear(f"it works on tokens (rank {x.meta['val'].ndim})")
    matrix, shift = trace.constant(weight, "weight"), trace.optional(bias, "bias")
    if matrix.ndim != 2:
        return None
    return convolve(matrix[:, :, None, None], shift, 1, (1, 1), (1, 1), Padding()), (x,)


def _item(node: Node, trace: _Trace) -> Read | None:
    """One of several results: of batch normalization, or of a split of the channels."""
    made, index = _given(node)
    rule = _SEVERAL.get(made.target) if isinstance(made, Node) else None
    return rule(made, int(index), trace) if rule else None


def _batch_norm(node: Node, index: int, trace: _Trace) -> Read | None:
    if index != 0:
        return None
    x, weight, bias, mean, variance, _, epsilon = arguments(node, *(None,) * 5, 0.1, 1e-5)
    channels = trace.channels(x)
    numbers = [
        np.full(channels, default) if given is None else trace.constant(given, what)
        for given, default, what in ((weight, 1.0, "weight"), (bias, 0.0, "bias"))
    ]
    statistics = trace.constant(mean, "mean"), trace.constant(variance, "variance")
    trace.absorbed.add(node)
    return normalize(numbers[0], numbers[1], *statistics, epsilon), (x,)


def _training(node: Node, index: int, trace: _Trace) -> Read | None:
    if index != 0:
        return None
    raise NotLinear("it normalizes with the statistics of the batch, not of the population")


def _part(node: Node, index: int, trace: _Trace) -> Read | None:
    """A part of the channels; split.Tensor by a width, split_with_sizes by a list, chunk by a count."""
    x, _, axis = arguments(node, None, None, 0)
    if not trace.is_plane(x) or axis % x.meta["val"].ndim != 1:
        return None
    widths = [int(value.shape[1]) for value in node.meta["val"]]
    first = sum(widths[:index])
    trace.absorbed.add(node)
    return Select(tuple(range(first, first + widths[index]))), (x,)


def _add(node: Node, trace: _Trace) -> Read | None:
    one, other, alpha = arguments(node, None, None, 1)
    return _added(node, trace, one, other, alpha)


def _sub(node: Node, trace: _Trace) -> Read | None:
    one, other, alpha = arguments(node, None, None, 1)
    return _added(node, trace, one, other, -alpha if isinstance(alpha, int | float) else alpha)


def _rsub(node: Node, trace: _Trace) -> Read | None:
    other, one, alpha = arguments(node, None, None, 1)
    return _added(node, trace, one, other, -alpha if isinstance(alpha, int | float) else alpha)


def _added(node: Node, trace: _Trace, one: Any, other: Any, alpha: Any) -> Read | None:
    """one + alpha * other."""
    planes = [value for value in (one, other) if trace.is_plane(value)]
    if not planes or not isinstance(alpha, int | float):
        return None
    if len(planes) == 2:
        return _combined(one, other, alpha, trace)
    (x,) = planes
    fixed = one if x is other else other
    if isinstance(fixed, Node) and fixed not in trace.constants:
        return None  # a value of another rank or type
    channels = trace.channels(x)
    numbers = per_channel(trace.constant(fixed, "constant"), channels, x.meta["val"].ndim)
    return (scale(channels, alpha, numbers) if x is other else scale(channels, shift=alpha * numbers)), (x,)


def _combined(one: Node, other: Node, alpha: float, trace: _Trace) -> Read:
    first, second = one.meta["val"], other.meta["val"]
    if first.ndim != second.ndim or trace.channels(one) != trace.channels(other):
        raise NotLinear("it adds values of different shapes, one of them broadcast")
    if [_size(side) for side in first.shape[2:]] != [_size(side) for side in second.shape[2:]]:
        raise NotLinear("the sizes of the values that it adds are not known to be equal for every input")
    if alpha not in (1, -1):
        raise NotLinear(f"it adds a multiple ({alpha}) of a value")
    return Sum((1, int(alpha))), (one, other)


def _mul(node: Node, trace: _Trace) -> Read | None:
    one, other = arguments(node, None, None)
    planes = [value for value in (one, other) if trace.is_plane(value)]
    if len(planes) != 1:
        return None
    (x,) = planes
    fixed = other if x is one else one
    if isinstance(fixed, Node) and fixed not in trace.constants:
        return None
    channels = trace.channels(x)
    return scale(channels, per_channel(trace.constant(fixed, "constant"), channels, x.meta["val"].ndim)), (x,)


def _addcmul(node: Node, trace: _Trace) -> Read | None:
    """shift + x * factor, as merges write it."""
    shift, x, factor, value = arguments(node, None, None, None, 1)
    if not trace.is_plane(x) or value != 1 or not {shift, factor} <= trace.constants.keys():
        return None
    channels, rank = trace.channels(x), x.meta["val"].ndim
    parts = [per_channel(trace.constant(part, "constant"), channels, rank) for part in (factor, shift)]
    return scale(channels, parts[0], parts[1]), (x,)


def _div(node: Node, trace: _Trace) -> Read | None:
    x, by = arguments(node, None, None)
    if not trace.is_plane(x) or (isinstance(by, Node) and by not in trace.constants):
        return None
    channels = trace.channels(x)
    numbers = per_channel(trace.constant(by, "constant"), channels, x.meta["val"].ndim)
    if not numbers.all():
        raise NotLinear("it divides by zero")
    return scale(channels, 1 / numbers), (x,)


def _neg(node: Node, trace: _Trace) -> Read | None:
    (x,) = arguments(node, None)
    return (scale(trace.channels(x), -1.0), (x,)) if trace.is_plane(x) else None


def _passed(node: Node, trace: _Trace) -> Read | None:
    (x,) = arguments(node, None)
    if x in trace.uniform:
        trace.uniform[node] = trace.uniform[x]
        trace.absorbed.add(node)
        return None
    if not trace.is_plane(x) or x.meta["val"].dtype != node.meta["val"].dtype:
        return None
    return Pass(), (x,)


def _dropout(node: Node, trace: _Trace) -> Read | None:
    x, _, training = arguments(node, None, 0.5, True)
    if training:
        raise NotLinear("dropout in training mode is random")
    return (Pass(), (x,)) if trace.is_plane(x) else None


def _cat(node: Node, trace: _Trace) -> Read | None:
    values, axis = arguments(node, (), 0)
    if not values or not all(isinstance(value, Node) for value in values):
        return None
    if axis % node.meta["val"].ndim != 1 or node.meta["val"].ndim not in (2, 4):
        return None
    if any(value in trace.constants for value in values):
        raise NotLinear("it joins a value and a constant")
    return (Join(), tuple(values)) if all(trace.is_plane(value) for value in values) else None


def _slice(node: Node, trace: _Trace) -> Read | None:
    """A slice of the channels, or one that takes everything."""
    x, axis, start, end, step = arguments(node, None, 0, None, None, 1)
    if not trace.is_plane(x):
        return None
    if is_all(start, end, step):
        return Pass(), (x,)
    if axis % x.meta["val"].ndim != 1 or not all(isinstance(n, int | None) for n in (start, end, step)):
        return None
    return Select(tuple(range(trace.channels(x))[start:end:step])), (x,)


def _index_select(node: Node, trace: _Trace) -> Read | None:
    x, axis, indices = arguments(node, None, 0, None)
    if not trace.is_plane(x) or axis % x.meta["val"].ndim != 1 or indices not in trace.constants:
        return None
    chosen = trace.constants[indices].reshape(-1).tolist()
    return Select(tuple(int(index) for index in chosen)), (x,)


def _repeat(node: Node, trace: _Trace) -> Read | None:
    x, repeats = arguments(node, None, ())
    if not trace.is_plane(x) or len(repeats) != x.meta["val"].ndim:
        return None
    if any(count != 1 for axis, count in enumerate(repeats) if axis != 1):
        return None
    return Select(tuple(range(trace.channels(x))) * repeats[1]), (x,)


def _repeat_interleave(node: Node, trace: _Trace) -> Read | None:
    x, count, axis = arguments(node, None, None, None)
    if not trace.is_plane(x) or axis is None or axis % x.meta["val"].ndim != 1 or not isinstance(count, int):
        return None
    return Select(tuple(np.repeat(np.arange(trace.channels(x)), count).tolist())), (x,)


def _pad(node: Node, trace: _Trace) -> Read | None:
    if node.target is aten.constant_pad_nd.default:
        x, pads, value = arguments(node, None, (), 0)
        mode = "constant"
    else:
        x, pads, mode, value = arguments(node, None, (), "constant", None)
    if mode != "constant" or not trace.is_plane(x) or x.meta["val"].ndim != 4:
        return None
    if not all(isinstance(side, int) for side in pads):
        raise NotLinear("its padding depends on the input")
    sides = [*pads, *([0] * (8 - len(pads)))]
    if any(sides[4:]):
        raise NotLinear("it pads the batch or the channels")
    if min(sides) < 0:
        raise NotLinear("it crops (negative padding)")
    number = float(value or 0)
    if not np.isfinite(number):
        raise NotLinear("it pads with a value that is not finite")
    return Pad(Padding(top=sides[2], bottom=sides[3], left=sides[0], right=sides[1]), number), (x,)


def _avg_pool2d(node: Node, trace: _Trace) -> Read:
    x, kernel, stride, padding, ceil, counted, divisor = arguments(node, None, 1, (), 0, False, True, None)
    k, l = _pair(kernel)
    padding = _both(padding)
    if ceil:
        raise NotLinear("it rounds sizes up (ceil_mode)")
    if padding and not counted and divisor is None:
        raise NotLinear("it does not count its padding (count_include_pad)")
    strides = _pair(stride) if stride else (k, l)
    return Average((k, l), strides, padding, divisor or k * l), (_picture(x, trace),)


def _view(node: Node, trace: _Trace) -> Read | None:
    """A view that changes nothing, or the last step of a channel shuffle."""
    (x,) = arguments(node, None)
    if trace.is_plane(x) and _shape(x) == _shape(node):
        return Pass(), (x,)
    exchange = _unwrapped(x, trace)
    if exchange is None or exchange.target not in (aten.transpose.int, aten.permute.default):
        return None
    first = exchange.args[0]
    if not isinstance(first, Node) or first.target not in (aten.view.default, aten.reshape.default):
        return None
    source: Any = first.args[0]
    if not trace.is_plane(source) or source.meta["val"].ndim != 4 or first.meta["val"].ndim != 5:
        return None
    if (
        not _exchanges(exchange)
        or _shape(source)[0] != _shape(node)[0]
        or _shape(source)[2:] != _shape(node)[2:]
    ):
        return None
    middle = _shape(first)
    if (middle[0], *middle[3:]) != (_shape(source)[0], *_shape(source)[2:]):
        return None
    groups, width = middle[1:3]
    channels = trace.channels(source)
    if not isinstance(groups, int) or not isinstance(width, int) or groups * width != channels:
        return None
    trace.absorbed |= {first, exchange, *_copies(x)}
    return Select(tuple(np.arange(channels).reshape(groups, width).T.reshape(-1).tolist())), (source,)


def _shape(node: Any) -> tuple[Hashable, ...]:
    return tuple(_size(side) for side in node.meta["val"].shape)


def _exchanges(node: Node) -> bool:
    """Whether axes 1 and 2 are exchanged, and no others."""
    if node.target is aten.transpose.int:
        return {axis % 5 for axis in _given(node)[1:3]} == {1, 2}
    return [axis % 5 for axis in _given(node)[1]] == [0, 2, 1, 3, 4]


def _unwrapped(node: Any, trace: _Trace) -> Node | None:
    """The value that copies were made of."""
    while isinstance(node, Node) and node.target in _COPIES:
        node = node.args[0]
    return node if isinstance(node, Node) and node not in trace.constants else None


def _copies(node: Any) -> set[Node]:
    found = set()
    while isinstance(node, Node) and node.target in _COPIES:
        found.add(node)
        node = node.args[0]
    return found


def _expand(node: Node, trace: _Trace) -> Read | None:
    """A constant of one number for each channel, spread over all pixels: noted for writing rows."""
    (x,) = arguments(node, None)
    if x in trace.constants and node.meta["val"].ndim == 4:
        channels = node.meta["val"].shape[1]
        if isinstance(channels, int):
            try:
                trace.uniform[node] = per_channel(trace.constant(x, "constant"), channels, 4)
            except NotLinear:
                return None
            trace.absorbed.add(node)
    return None


def _copy(node: Node, trace: _Trace) -> Read | None:
    """A value written over another of its size: the value itself."""
    over, x = arguments(node, None, None)
    if x in trace.uniform:
        trace.uniform[node] = trace.uniform[x]
        trace.absorbed.add(node)
        while isinstance(over, Node) and over.target is aten.slice.Tensor:  # it gives its size only
            trace.absorbed.add(over)
            over = over.args[0]
    return None


def _slice_scatter(node: Node, trace: _Trace) -> Read | None:
    """Rows or columns written over: by a constant, `Fill`; over the whole length, what is written itself.

    torch.export writes y[:, :, 0:1] = b as slices of slices, each written back into the one around it.
    """
    base, written, axis, start, end, step = arguments(node, None, None, 0, None, None, 1)
    if is_all(start, end, step):
        if written in trace.uniform:
            trace.uniform[node] = trace.uniform[written]
            trace.absorbed |= {node, base}
            return None
        return (Pass(), (written,)) if trace.is_plane(written) and _shape(written) == _shape(node) else None
    if written not in trace.uniform or not trace.is_plane(base) or base.meta["val"].ndim != 4 or step != 1:
        return None
    rows = _rows(start, end)
    if axis % 4 not in (2, 3) or rows is None:
        return None
    return Fill(axis % 4, rows[0], rows[1], trace.uniform[written]), (base,)


def _rows(start: Any, end: Any) -> tuple[int, int] | None:
    """First row and number of rows of a slice near one of the ends."""
    if not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    first = start or 0
    if first >= 0:
        return (first, end - first) if end is not None and first < end < END else None
    if end is None or end >= END:
        return first, -first
    return (first, end - first) if first < end < 0 else None


_PADS = (aten.pad.default, aten.constant_pad_nd.default)

_COPIES = {aten.clone.default, aten.contiguous.default, aten.alias.default}

_SEVERAL: dict[Any, Callable[[Node, int, _Trace], Read | None]] = {
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    **dict.fromkeys(
        (
            aten._native_batch_norm_legit.default,
            aten._native_batch_norm_legit.no_stats,
            aten._native_batch_norm_legit_functional.default,
            aten.native_batch_norm.default,
        ),
        _training,
    ),
    **dict.fromkeys((aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default), _part),
}
"""Operations with several results."""

_RULES: dict[Any, Callable[[Node, _Trace], Read | None]] = {
    operator.getitem: _item,
    **dict.fromkeys((aten.conv2d.default, aten.conv2d.padding), _conv2d),
    aten.convolution.default: _convolution,
    aten.conv_transpose2d.input: _conv_transpose2d,
    aten.linear.default: _linear,
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), _add),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), _sub),
    **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), _rsub),
    **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), _mul),
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), _div),
    aten.neg.default: _neg,
    aten.addcmul.default: _addcmul,
    **dict.fromkeys((*_COPIES, aten.detach.default, aten._to_copy.default, aten.to.dtype), _passed),
    **dict.fromkeys((aten.dropout.default, aten.feature_dropout.default), _dropout),
    aten.cat.default: _cat,
    aten.slice.Tensor: _slice,
    aten.index_select.default: _index_select,
    aten.repeat.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    **dict.fromkeys(_PADS, _pad),
    aten.avg_pool2d.default: _avg_pool2d,
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten.reshape.default), _view),
    aten.expand.default: _expand,
    aten.copy.default: _copy,
    aten.slice_scatter.default: _slice_scatter,
}
"""Every operation that may be linear; each rule gives what it is, None (none of ours), or says why not."""
