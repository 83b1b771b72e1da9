"""The linear operations of an ONNX model, read from its graph and the analysis of its shapes.

An operation whose result the specification leaves open, or whose weights a caller may replace, is not linear.
Values are added only if their symbolic shapes are equal, so that they are equal for every input.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.shapes import infer_shapes, symbol_of
from onebranch.graph.merge.checks import (
    NotLinear,
)
from onebranch.graph.merge.linear import (
    LinearGraph,
    Plane,
    Step,
    Unmerged,
)
from onebranch.graph.onnx.activations import values_inside_activations
from onebranch.graph.onnx.analyzed_model import AnalyzedModel
from onebranch.graph.onnx.constants import MULTIPLYING, constants
from onebranch.graph.onnx.file import OLDEST_OPSET, opset_of
from onebranch.graph.onnx.graph import read_graph
from onebranch.graph.onnx.inference import inferred_values, with_input_sizes
from onebranch.graph.onnx.linear_rules import linear_operations
from onebranch.graph.onnx.unmerged import reasons_without_rule, values_of_numbers
from onebranch.graph.operations import Graph, Node, Value

EXAMPLE_PIXELS = 256
"""Height and width on which MACs are counted where the model leaves them open."""


def read_linear(
    model: onnx.ModelProto, example: tuple[int, int] = (EXAMPLE_PIXELS, EXAMPLE_PIXELS)
) -> LinearGraph:
    """The linear operations of the main graph.

    example: height and width on which MACs are counted where the model leaves them open. Raises
    OnebranchError for an opset before 9.
    """
    if opset_of(model) < OLDEST_OPSET:
        raise OnebranchError(
            f"the model uses ONNX opset {opset_of(model)}; {OLDEST_OPSET} is the oldest understood:"
            " export it again"
        )
    known = constants(model)
    graph, inferred = read_graph(model, known), inferred_values(model, known)
    analyzed = AnalyzedModel(graph, infer_shapes(graph, inferred), _element_types(graph, inferred))
    steps, unmerged = _read_nodes(analyzed)
    names = dict.fromkeys(name for step in steps for name in (step.value, *step.inputs))
    shapes = _example_shapes(model, analyzed, example)
    return LinearGraph(
        steps=tuple(steps),
        planes={name: _plane(name, analyzed, shapes) for name in names},
        required=frozenset(_required(graph, steps)),
        names=frozenset(_names(model)),
        unmerged=tuple(unmerged),
    )


def _read_nodes(analyzed: AnalyzedModel) -> tuple[list[Step], list[Unmerged]]:
    """Every linear operation, and every operation that looks linear and is not, with the reason."""
    steps: list[Step] = []
    unmerged: list[Unmerged] = []
    activations = values_inside_activations(analyzed.graph)
    computed_from_inputs = _computed_from_inputs(analyzed.graph)
    for node in analyzed.graph.nodes:
        if not activations.isdisjoint(node.outputs):
            continue
        if computed_from_inputs.isdisjoint(node.outputs):
            if node.kind in MULTIPLYING:
                reason = f"{node.kind}: it computes a weight from weights, and not from a picture"
                unmerged.append(Unmerged(node.outputs[0], reason))
            continue
        try:
            steps += list(_linear_steps(node, analyzed))
        except NotLinear as reason:
            unmerged.append(Unmerged(node.outputs[0], f"{node.kind}: {reason}"))
    explained = {entry.name for entry in unmerged} | activations
    unmerged += reasons_without_rule(analyzed, steps, explained, values_of_numbers(analyzed))
    return steps, unmerged


def _computed_from_inputs(graph: Graph) -> set[str]:
    """Values that depend on an input or on an operation without inputs, such as a random generator."""
    dependent = set(graph.inputs)
    for node in graph.nodes:
        names = [name for name in node.inputs if name]
        if not names or not dependent.isdisjoint(names):
            dependent.update(node.outputs)
    return dependent


def _linear_steps(node: Node, analyzed: AnalyzedModel) -> Iterator[Step]:
    """A linear operation for every output; empty if the node is not linear. Raises NotLinear."""
    for name, (operation, inputs) in zip(node.outputs, linear_operations(node, analyzed), strict=False):
        analyzed.channels(name)
        yield Step(name, operation, inputs)


def _element_types(graph: Graph, inferred: Mapping[str, Value]) -> dict[str, str]:
    """Element types by name; a convolution's input, output and weight have the same one."""
    types = {name: value.kind for name, value in inferred.items() if value.kind != "undefined"}
    for node in graph.nodes:
        if node.kind in ("Conv", "BatchNormalization") and node.inputs[1] in graph.constants:
            names = node.inputs[0], node.outputs[0]
            known = {types[name] for name in names if name in types}
            weight = graph.constants[node.inputs[1]].dtype.name
            known |= {weight} if weight == "float32" else set()  # float64 may be a folded float32
            types |= dict.fromkeys(names, known.pop()) if len(known) == 1 else {}
    return types


def _example_shapes(
    model: onnx.ModelProto, analyzed: AnalyzedModel, example: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Every shape with open heights and widths as in the example, and other open sizes 1."""
    sizes = _example_sizes(analyzed.graph, example)
    shapes, opaque = {}, None
    for name, shape in analyzed.shapes.items():
        try:
            shapes[name] = tuple(int(size.evaluate(sizes)) for size in shape)
        except KeyError:  # the shape depends on an opaque operation
            fixed = with_input_sizes(model, *example)
            opaque = opaque or inferred_values(fixed, analyzed.graph.constants)
            sides = opaque[name].shape if name in opaque else ()
            shapes[name] = tuple(side if isinstance(side, int) else 1 for side in sides)
    return shapes


def _example_sizes(graph: Graph, example: tuple[int, int]) -> dict[str, int]:
    """The open dimensions of the inputs, by symbol: those of the example for heights and widths, else 1."""
    sizes: dict[str, int] = {}
    for value in graph.inputs.values():
        for axis, side in enumerate(value.shape):
            if isinstance(side, str):
                is_spatial = len(value.shape) == 4 and axis > 1
                sizes.setdefault(symbol_of(side), example[axis - 2] if is_spatial else 1)
    return sizes


def _plane(name: str, analyzed: AnalyzedModel, shapes: Mapping[str, tuple[int, ...]]) -> Plane:
    is_vector, shape = analyzed.rank(name) == 2, shapes[name]
    pixels = (1, 1) if is_vector or len(shape) != 4 else (max(1, shape[2]), max(1, shape[3]))
    size = ("vector", "vector") if is_vector else (analyzed.shapes[name][2], analyzed.shapes[name][3])
    return Plane(analyzed.channels(name), size, pixels, is_vector, analyzed.types[name])


def _names(model: onnx.ModelProto) -> Iterator[str]:
    graph = model.graph
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)


def _required(graph: Graph, steps: Iterable[Step]) -> Iterator[str]:
    """Outputs of the model, and values that operations which are not linear read on the way to them."""
    linear = {step.value: step for step in steps}
    makers = {name: node for node in graph.nodes for name in node.outputs}
    waiting, seen = list(graph.outputs), set(graph.outputs)
    yield from graph.outputs
    while waiting:
        name = waiting.pop()
        if name in linear:
            inputs: Sequence[str] = linear[name].inputs
        else:
            inputs = [value for value in makers[name].inputs if value] if name in makers else ()
            yield from inputs
        waiting += [value for value in inputs if value not in seen]
        seen.update(inputs)
