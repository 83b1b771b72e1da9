"""Analysis of a graph that maps a picture to a picture: scale, halo, valid sizes, symbolic shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil, lcm, prod

from onebranch.algebra.padding import Padding
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.receptive_field import AxisReceptiveField, halo_of_cell
from onebranch.graph.analysis.rules import apply_rule
from onebranch.graph.analysis.state import (
    AnalysisState,
    AnalysisValue,
    int_attribute,
)
from onebranch.graph.analysis.symbolic_size import HEIGHT, WIDTH, SymbolicSize, as_size
from onebranch.graph.analysis.symbolic_tensor import (
    COLUMNS,
    ROWS,
    SymbolicTensor,
    axis_length,
    constant_axis,
    is_constant_axis,
)
from onebranch.graph.operations import Graph, Node

FixedSize = tuple[int | None, int | None]
"""The only height and width in pixels on which a graph runs; None if the size is open."""


@dataclass(frozen=True)
class GraphAnalysis:
    """What is known about a graph with one picture (1, C, H, W) as its input and one as its output.

    channels: of the input and of the output. fixed_size: the height and width that the graph fixes. scale:
    output pixels per input pixel; None if `unsupported` is not empty. multiple: height and width must be
    multiples of it. minimum_size: the smallest height and width on which the graph runs. minimum_border_tile:
    the smallest height and width of a tile at the picture's border. halo: input pixels needed around a cell
    of `multiple` x `multiple` pixels, rounded up to whole cells; None if the whole picture is needed.
    whole_picture_reasons: why the whole picture is needed, one sentence for each operation. unsupported: the
    first operation that the analysis does not support, with the reason; empty if there is none. values: the
    symbolic shape and receptive field of every value by name.
    """

    channels: tuple[int, int]
    fixed_size: FixedSize
    scale: Fraction | None = None
    multiple: int = 1
    minimum_size: int = 1
    minimum_border_tile: int = 1
    halo: Padding | None = None
    whole_picture_reasons: tuple[str, ...] = ()
    unsupported: str = ""
    values: Mapping[str, AnalysisValue] = field(default_factory=dict)

    @cached_property
    def element_counts(self) -> dict[str, SymbolicSize]:
        """The number of elements of every value by name."""
        return {name: _element_count(value) for name, value in self.values.items()}


def analyze(graph: Graph, remainder: tuple[int, int] = (0, 0)) -> GraphAnalysis:
    """Analyze a graph with one picture as its input, of known channels, and one as its output.

    remainder: for open sizes, the height and width of the picture modulo `GraphAnalysis.multiple`. Raises
    OnebranchError if the input or the output is not a picture (1, C, H, W), or if the output's size is not
    the scaled size of the input, rounded up.
    """
    (name,), (output,) = graph.inputs, graph.outputs
    channels, fixed_size = _input_shape(graph.inputs[name].shape, name)
    state = _initial_state(graph, name, channels, fixed_size, remainder)
    reasons: list[str] = []
    for node in graph.nodes:
        try:
            values = _values_of(node, state)
        except OnebranchError as error:
            return GraphAnalysis(
                channels=(channels, 0),
                fixed_size=fixed_size,
                whole_picture_reasons=tuple(reasons),
                unsupported=f"{described(node)}: {error}",
                values=state.values,
            )
        if _becomes_global(node, values, state):
            reasons.append(f"{described(node)} needs the whole picture")
        state.values.update(zip(node.outputs, values, strict=False))
    return _summarize(state, output, channels, fixed_size, reasons)


def described(node: Node) -> str:
    """An operation as messages name it: its kind and its first output."""
    return f"{node.kind} '{node.outputs[0]}'"


def _initial_state(
    graph: Graph, name: str, channels: int, fixed_size: FixedSize, remainder: tuple[int, int]
) -> AnalysisState:
    height, width = fixed_size
    input_size = HEIGHT if height is None else as_size(height), WIDTH if width is None else as_size(width)
    state = AnalysisState(graph, input_size, remainder=remainder)
    rows, columns = remainder
    fields = {ROWS: AxisReceptiveField(extra=rows), COLUMNS: AxisReceptiveField(extra=columns)}
    axes = ((), constant_axis(channels), (ROWS,), (COLUMNS,))
    state.values[name] = SymbolicTensor(axes, fields, False, input_size)
    return state


def _input_shape(shape: Sequence[int | str], name: str) -> tuple[int, FixedSize]:
    """Channels and fixed size of the input picture."""
    if len(shape) != 4:
        raise OnebranchError(f"its input '{name}' has {len(shape)} axes where a picture has 4: (1, C, H, W)")
    batch, channels, *sides = shape
    if isinstance(batch, int) and batch != 1:
        raise OnebranchError(f"its input '{name}' takes {batch} pictures at once; it must take one")
    if not isinstance(channels, int):
        raise OnebranchError(f"the number of channels of its input '{name}' is open; it must be fixed")
    height, width = (side if isinstance(side, int) else None for side in sides)
    if (height is None) != (width is None):
        raise OnebranchError(f"only one side of its input '{name}' is fixed; both must be, or none")
    return channels, (height, width)


def _values_of(node: Node, state: AnalysisState) -> Sequence[AnalysisValue]:
    """The outputs of an operation. Raises OnebranchError if the analysis does not support it."""
    values = apply_rule(node, state)
    for value in values:
        for axis_field in value.receptive_fields.values() if isinstance(value, SymbolicTensor) else ():
            state.multiple = lcm(state.multiple, axis_field.q)
            state.minimum_size = max(state.minimum_size, axis_field.pixels_for(1))
    return values


def _becomes_global(node: Node, values: Sequence[AnalysisValue], state: AnalysisState) -> bool:
    """True if this operation needs the whole picture and none of the operations before it does."""
    inputs = [state.values[name] for name in node.inputs if name in state.values]
    return any(map(_is_global, values)) and not any(map(_is_global, inputs))


def _is_global(value: AnalysisValue) -> bool:
    return isinstance(value, SymbolicTensor) and value.is_global


def _element_count(value: AnalysisValue) -> SymbolicSize:
    return (
        prod(value.shape, start=as_size(1))
        if isinstance(value, SymbolicTensor)
        else as_size(value.values.size)
    )


# Example: a x2 network ends in the tensor (1, 3, rows, columns), where rows and columns both have
# AxisReceptiveField(p=2, q=1, first=-4, last=5, extra=0), and no operation asked for a multiple. Output row y
# depends on input rows floor((y - 4) / 2) to floor((y + 5) / 2), so the output rows 0 and 1 of input row 0
# depend on input rows -2 to 3: scale 2, multiple 1, halo Padding(top=2, bottom=3, left=2, right=3). With
# multiple 4 the halo is rounded up to whole cells of 4 pixels: Padding(4, 4, 4, 4).
def _summarize(
    state: AnalysisState, output: str, channels: int, fixed_size: FixedSize, reasons: list[str]
) -> GraphAnalysis:
    """The analysis of the whole graph from the state after its last operation."""
    tensor = _output_picture(state, output)
    scale, halo = _uniform_scale(tensor, state.remainder, output), _halo_in_cells(tensor, state.multiple)
    is_fixed = fixed_size != (None, None)
    if any(side and side % state.multiple for side in fixed_size):
        reasons.append(f"its fixed size, no multiple of {state.multiple}, needs the whole picture")
    if halo and not _leaves_pixels(fixed_size, halo, state.minimum_border_tile):
        reasons.append("its halo, which leaves nothing of its fixed size, needs the whole picture")
    needs_whole_picture = tensor.is_global or (is_fixed and bool(reasons))
    return GraphAnalysis(
        channels=(channels, axis_length(tensor.axes[1])),
        fixed_size=fixed_size,
        scale=scale,
        multiple=state.multiple,
        minimum_size=state.minimum_size,
        minimum_border_tile=max(state.minimum_border_tile, state.minimum_size),
        halo=None if needs_whole_picture else halo,
        whole_picture_reasons=tuple(reasons) if needs_whole_picture else (),
        values=state.values,
    )


def _output_picture(state: AnalysisState, output: str) -> SymbolicTensor:
    tensor = state.tensor(output)
    if len(tensor.axes) != 4 or tensor.axes[0] or not is_constant_axis(tensor.axes[1]):
        raise OnebranchError(f"its output '{output}' is not a picture (1, C, H, W)")
    return tensor


def _halo_in_cells(tensor: SymbolicTensor, multiple: int) -> Padding | None:
    """Pixels that are needed around a cell of `multiple` pixels, in whole cells; None if it is global."""
    if tensor.is_global:
        return None
    return Padding(
        *halo_of_cell(tensor.receptive_fields[ROWS], multiple),
        *halo_of_cell(tensor.receptive_fields[COLUMNS], multiple),
    )


def _leaves_pixels(fixed_size: FixedSize, halo: Padding, minimum_border_tile: int) -> bool:
    """True if the fixed size is larger than the halo and at least the minimum size of a border tile."""
    needed = (max(pixels + 1, minimum_border_tile) for pixels in (halo.height, halo.width))
    return all(side is None or side >= pixels for side, pixels in zip(fixed_size, needed, strict=True))


def _uniform_scale(tensor: SymbolicTensor, remainder: tuple[int, int], output: str) -> Fraction:
    rows, columns = (_axis_scale(tensor, index, remainder[index - 2], output) for index in (2, 3))
    if rows != columns:
        raise OnebranchError("the graph scales rows and columns differently; such a graph has no halo")
    return rows


def _axis_scale(tensor: SymbolicTensor, index: int, remainder: int, output: str) -> Fraction:
    """Output pixels per input pixel. Raises OnebranchError if the axis is not the picture's axis, scaled."""
    name, side = (ROWS, COLUMNS)[index - 2], tensor.input_size[index - 2]
    axis = tensor.axes[index]
    if is_constant_axis(axis) and side.number and tensor.is_global:
        return Fraction(axis_length(axis)) / side.number
    if axis != (name,):
        raise OnebranchError(f"the {name} of its output '{output}' are not those of the picture")
    axis_field = tensor.receptive_fields[name]
    if axis_field.extra != ceil(axis_field.scale * remainder):
        raise OnebranchError(
            f"its output '{output}' has {axis_field.scale} times the picture's {name} {axis_field.extra:+d};"
            " onebranch runs networks that keep the picture's border"
        )
    return axis_field.scale


CHANNEL_PRESERVING = ("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Pad", "Clip")
"""Operations that networks apply to their input before the first convolution and that keep its channels."""


def channels_of_first_convolution(graph: Graph, picture: str) -> int | None:
    """Input channels of the first convolution that reads the picture; None if there is none.

    Channel-preserving operations between the picture and the convolution are allowed.
    """
    names = {picture}
    for node in graph.nodes:
        if not node.inputs or node.inputs[0] not in names:
            continue
        weight = graph.constants.get(node.inputs[1]) if node.kind == "Conv" else None
        if weight is not None:
            return int(weight.shape[1]) * int_attribute(node, "group", 1)
        if node.kind in CHANNEL_PRESERVING:
            names.add(node.outputs[0])
    return None
