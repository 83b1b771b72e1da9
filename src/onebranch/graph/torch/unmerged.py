"""Why linear operations of a traced PyTorch module are not merged, if no merge rule covers them.

Operations that compute are always reported. Operations that only move numbers are reported only next to a
linear operation that a rule covers, because there they prevent a merge.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from torch.fx import Node

from onebranch.graph.merge.checks import BROADCAST, MATRIX_PRODUCT
from onebranch.graph.torch.functional import short_name
from onebranch.graph.torch.values import Reading, TracedValues

_PADDING = "it pads with the picture's own pixels"
_MOVED = "it rearranges the picture's pixels"
_AXIS = "it selects rows, columns, pixels or pictures"

COMPUTING_ATEN_OPERATIONS = {
    **dict.fromkeys(
        (
            *("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d"),
            *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact1d"),
            *("upsample_linear1d", "upsample_nearest1d", "upsample_trilinear3d"),
        ),
        "it resizes the picture",
    ),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), "it moves numbers between channels and pixels"),
    **dict.fromkeys(
        ("adaptive_avg_pool2d", "_adaptive_avg_pool2d"), "its windows depend on the picture's size"
    ),
    "mean": "it averages over a length that depends on the picture's size",
    **dict.fromkeys(("sum", "cumsum"), "it sums over an axis or over everything"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "linear"), MATRIX_PRODUCT),
    **dict.fromkeys(
        ("conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d"),
        "it is a 1-D or 3-D convolution, not a 2-D one",
    ),
    **dict.fromkeys(("im2col", "col2im"), "it cuts the picture into overlapping windows, or adds them up"),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d"), "it moves and interpolates pixels"),
    **dict.fromkeys(("fft_rfft2", "fft_irfft2", "fft_fft2", "fft_ifft2"), "it is a Fourier transform"),
    "lerp": "lerp is not merged; a * (1 - w) + b * w with a constant w is",
    **dict.fromkeys(
        ("addcdiv", "addcmul"), "it is a sum and a product at once; written as two operations it is merged"
    ),
    "diff": "it subtracts neighbouring pixels",
    **dict.fromkeys(("alpha_dropout", "native_dropout"), "this kind of dropout is not understood"),
}
"""Operations that compute a linear function which is not a 2-D convolution, with the reason."""

MOVING_ATEN_OPERATIONS = {
    **dict.fromkeys(("reflection_pad2d", "replication_pad2d", "_pad_circular"), _PADDING),
    **dict.fromkeys(("flip", "roll", "rot90"), _MOVED),
    **dict.fromkeys(("transpose", "permute", "movedim", "t", "swapaxes"), "it exchanges axes"),
    **dict.fromkeys(
        (
            *("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"),
            "reshape_as",
        ),
        "it changes the shape of the value",
    ),
    **dict.fromkeys(("slice", "narrow"), "it crops or subsamples the picture or the batch"),
    **dict.fromkeys(("select", "index", "index_select", "gather", "unbind", "take_along_dim"), _AXIS),
    **dict.fromkeys(
        ("split", "split_with_sizes", "chunk"), "it splits the picture or the batch, not the channels"
    ),
    "cat": "it joins along another axis than the channels",
    "stack": "it joins values along a new axis",
    **dict.fromkeys(("repeat", "tile", "repeat_interleave"), "it repeats the picture or the batch"),
    **dict.fromkeys(("expand", "expand_as"), "it repeats a value along its axes of one element"),
    **dict.fromkeys(("where", "masked_fill"), "it selects numbers by a mask"),
    **dict.fromkeys(("tril", "triu"), "it sets a triangle of the picture to zero"),
    **dict.fromkeys(
        ("slice_scatter", "select_scatter", "index_put", "scatter"),
        "it overwrites rows, columns or single numbers",
    ),
    **dict.fromkeys(("to", "_to_copy"), "it converts numbers to another type"),
    **dict.fromkeys(
        ("add", "sub", "rsub", "mul", "div", "true_divide"),
        "it combines a value with a tensor whose shape depends on the picture's size",
    ),
}
"""Operations that are reported only next to a linear operation that a rule covers, with the reason.

They move, select or convert numbers, or combine them with constants.
"""

_ATEN_OPERATIONS_OF_ONE_VALUE = frozenset(
    (
        *("matmul", "mm", "bmm", "mv", "einsum", "mul", "div", "true_divide"),
        *("linear", "conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d"),
        *("grid_sampler", "grid_sampler_2d"),
    )
)
"""Operations that are linear only if exactly one of their inputs depends on the picture's pixels."""

_FACTORS = {"addmm": (1, 2), "baddbmm": (1, 2), "addcmul": (1, 2)}
"""Positions of arguments that are multiplied: at most one may depend on the picture."""

_NONLINEAR_ARGUMENTS = {
    "where": (0,),
    **dict.fromkeys(("div", "true_divide", "masked_fill"), (1,)),
    **dict.fromkeys(("lerp", "addcdiv"), (2,)),
}
"""Positions of arguments in which the operation is not linear, such as the condition of `where`."""


def reasons_without_rule(
    nodes: Collection[Node],
    readings: Mapping[Node, Reading],
    explained: Collection[Node],
    values: TracedValues,
) -> Iterator[tuple[Node, str]]:
    """Linear operations that neither have a reading nor an explanation yet, each with its reason."""
    linear = {*readings, *(value for reading in readings.values() for _, read in reading for value in read)}
    dependent = _dependent_on_numbers(nodes)
    known = {*readings, *explained, *values.absorbed, *values.constants}
    for node in nodes:
        if node in known or not _is_linear(node, dependent):
            continue
        name = short_name(node)
        if name in COMPUTING_ATEN_OPERATIONS:
            yield node, COMPUTING_ATEN_OPERATIONS[name]
        elif node in linear or not linear.isdisjoint(node.all_input_nodes):
            yield node, BROADCAST if _adds_values(node, dependent) else MOVING_ATEN_OPERATIONS[name]


def _adds_values(node: Node, dependent: Collection[Node]) -> bool:
    """True for a sum or difference of two values that depend on the picture."""
    several = sum(value in dependent for value in node.all_input_nodes) > 1
    return several and short_name(node) in ("add", "sub", "rsub")


def _is_linear(node: Node, dependent: Collection[Node]) -> bool:
    """True if the operation is a linear function of its inputs that depend on the picture."""
    name = short_name(node)
    if name not in COMPUTING_ATEN_OPERATIONS and name not in MOVING_ATEN_OPERATIONS:
        return False
    read = _dependent_operands(node.args, dependent)
    if not read or (len(read) > 1 and name in _ATEN_OPERATIONS_OF_ONE_VALUE):
        return False
    if any(_argument(node, index) in dependent for index in _NONLINEAR_ARGUMENTS.get(name, ())):
        return False
    factors = [index for index in _FACTORS.get(name, ()) if _argument(node, index) in dependent]
    return len(factors) < 2 and _is_float(node)


def _dependent_operands(arguments: Iterable[object], dependent: Collection[Node]) -> list[Node]:
    """The arguments, including those in lists, that depend on the picture, with repetitions."""
    operands: list[Node] = []
    for argument in arguments:
        if isinstance(argument, list | tuple):
            operands += _dependent_operands(argument, dependent)
        elif isinstance(argument, Node) and argument in dependent:
            operands.append(argument)
    return operands


def _argument(node: Node, index: int) -> object:
    return node.args[index] if index < len(node.args) else None


def _dependent_on_numbers(nodes: Collection[Node]) -> set[Node]:
    """The values that depend on the elements of an input, not only on its shape."""
    dependent: set[Node] = set()
    for node in nodes:
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor):
            dependent.add(node)
        elif node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            is_size = short_name(node) in _NEW_VALUES
            if not is_size and not dependent.isdisjoint(node.all_input_nodes):
                dependent.add(node)
    return dependent


_NEW_VALUES = frozenset(("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones"))
"""Operations that read only the size of their input."""


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    return isinstance(first, torch.Tensor) and first.dtype.is_floating_point
