"""Wrong, odd and harmless variants of the mergeable ONNX networks: a table of kinds and their makers.

A maker takes a network and yields (place, changed model, expectation) for every place where it applies.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mutations import Expectation
from onnx_editing import Edge, Edit, OnnxVariant, edges, shapes
from onnx_networks import NETWORKS, Sketch, picture

Made = tuple[str, onnx.ModelProto, Expectation]
Maker = Callable[[onnx.ModelProto], Iterator[Made]]
Steps = Sequence[tuple[str, Sequence[str], dict[str, Any]]]

FREE = Expectation()
"""Only the outputs are compared."""

MERGES = Expectation(merges=True)
OUTSIDE = Expectation(outside=("slipped",))
NAMED = Expectation(outside=("slipped",), named=("slipped",))


def _edge_name(model: onnx.ModelProto, edge: Edge) -> str:
    return f"{edge.value} to {model.graph.node[edge.reader].name}"


def slipped(
    steps: Callable[[Edit, tuple[int, ...]], Steps],
    expectation: Expectation = OUTSIDE,
    readers: tuple[str, ...] = (),
    ranks: Sequence[int] = (3, 4, 5),
) -> Maker:
    """Inserts operations between a value and one of its readers, for every use of a value.

    steps: makes the operations from the edit (to which it adds constants) and the value's shape. readers:
    kinds of readers; all if none is given.
    """

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        known = shapes(model)
        for edge in edges(model, ranks):
            if not readers or model.graph.node[edge.reader].op_type in readers:
                edit = Edit(model)
                edit.chain_on_edge(edge, steps(edit, known[edge.value]))
                yield _edge_name(model, edge), edit.done(), expectation

    return make


def one(kind: str, *others: str, **attributes: Any) -> Callable[[Edit, tuple[int, ...]], Steps]:
    """One operation without constants."""
    return lambda edit, shape: [(kind, ["_", *others], attributes)]


def with_constants(
    kind: str, constants: Callable[[tuple[int, ...]], Sequence[Any]], **attributes: Any
) -> Callable[[Edit, tuple[int, ...]], Steps]:
    """One operation that also reads constants, which depend on the value's shape."""

    def steps(edit: Edit, shape: tuple[int, ...]) -> Steps:
        names = [edit.constant(f"slipped.{k}", value) for k, value in enumerate(constants(shape))]
        return [(kind, ["_", *names], attributes)]

    return steps


def _random(shape: Iterable[int]) -> np.ndarray:
    sides = tuple(shape)
    return np.random.default_rng(sum(sides)).normal(0.2, 0.6, sides).astype(np.float32)


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[1], *[1] * (len(shape) - 2))


def _integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _roll(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("axis", _integers(2)), edit.constant("one", _integers(1))
    edit.constant("zero", _integers(0)), edit.constant("end", _integers(2**31))
    return [
        ("Slice", ["$", "one", "end", "axis"], {}),
        ("Slice", ["$", "zero", "one", "axis"], {}),
        ("Concat", ["0", "1"], {"axis": 2}),
    ]


def _stacked(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("from", _integers(0)), edit.constant("to", _integers(2**31))
    edit.constant("axis", _integers(2)), edit.constant("step", _integers(2))
    return [
        ("Concat", ["$", "$"], {"axis": 2}),
        ("Slice", ["_", "from", "to", "axis", "step"], {}),
    ]


def _shifted(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant(
        "amounts", _integers(*[0, 0, 1, *[0] * (len(shape) - 3)], *[0, 0, -1, *[0] * (len(shape) - 3)])
    )
    return [("Pad", ["_", "amounts"], {})]


def _quantized(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("step", 0.05), edit.constant("zero", np.array(3, np.int8))
    return [("QuantizeLinear", ["_", "step", "zero"], {}), ("DequantizeLinear", ["_", "step", "zero"], {})]


def _gated_by_itself(edit: Edit, shape: tuple[int, ...]) -> Steps:
    return [("Sigmoid", ["$"], {}), ("Mul", ["$", "_"], {})]


def _squeezed_and_excited(edit: Edit, shape: tuple[int, ...]) -> Steps:
    weight = edit.constant("excite.weight", _random((shape[1], shape[1], *[1] * (len(shape) - 2))))
    return [
        ("GlobalAveragePool", ["$"], {}),
        ("Conv", ["_", weight], {}),
        ("Sigmoid", ["_"], {}),
        ("Mul", ["_", "$"], {}),
    ]


def _gated_from_outside(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.add_input("gate", ["N", *[1] * (len(shape) - 1)])
    return [("Mul", ["_", "gate"], {})]


def _chosen(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("threshold", 0.1), edit.constant("instead", -0.4)
    return [("Greater", ["$", "threshold"], {}), ("Where", ["_", "$", "instead"], {})]


def _masked_by_size(edit: Edit, shape: tuple[int, ...]) -> Steps:
    """The value divided by the number of its rows, which differs from size to size."""
    edit.constant("rows", _integers(2))
    return [
        ("Shape", ["$"], {}),
        ("Gather", ["_", "rows"], {"axis": 0}),
        ("Cast", ["_"], {"to": TensorProto.FLOAT}),
        ("Div", ["$", "_"], {}),
    ]


def _reshaped(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("shape", _integers(0, -1))
    return [("Shape", ["$"], {}), ("Reshape", ["$", "shape"], {}), ("Reshape", ["_", "0"], {})]


def _shuffled_over_batch(edit: Edit, shape: tuple[int, ...]) -> Steps:
    """Batch and channels joined to one axis, neighbours swapped."""
    edit.constant("pairs", _integers(-1, 2, int(np.prod(shape[2:]))))
    edit.constant("order", _integers(1, 0))
    return [
        ("Shape", ["$"], {}),
        ("Reshape", ["$", "pairs"], {}),
        ("Gather", ["_", "order"], {"axis": 1}),
        ("Reshape", ["_", "0"], {}),
    ]


def _halves_swapped(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("order", _integers(*reversed(range(shape[1]))))
    return [("Gather", ["_", "order"], {"axis": 1})]


def _pixels_reordered(edit: Edit, shape: tuple[int, ...]) -> Steps:
    """Pixel shuffle in one mode and back in the other, which exchanges channels and pixels."""
    if shape[1] % 4 or len(shape) != 4:
        return [("Neg", ["_"], {})]
    return [
        ("DepthToSpace", ["_"], {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", ["_"], {"blocksize": 2}),
    ]


def _there_and_back(edit: Edit, shape: tuple[int, ...]) -> Steps:
    order = [0, *range(2, len(shape)), 1]
    back = [0, len(shape) - 1, *range(1, len(shape) - 1)]
    return [("Transpose", ["_"], {"perm": order}), ("Transpose", ["_"], {"perm": back})]


def _batch_and_channels_swapped(edit: Edit, shape: tuple[int, ...]) -> Steps:
    """The sum over channels is taken over the batch."""
    perm = [1, 0, *range(2, len(shape))]
    edit.constant("axes", _integers(1))
    return [
        ("Transpose", ["$"], {"perm": perm}),
        ("ReduceMean", ["_", "axes"], {"keepdims": 1}),
        ("Transpose", ["_"], {"perm": perm}),
        ("Add", ["$", "_"], {}),
    ]


def _doubled_and_averaged(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("scales", np.array([1, 1, *[2] * (len(shape) - 2)], np.float32))
    sides = [2] * (len(shape) - 2)
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [
        ("Resize", ["_", "", "scales"], nearest),
        ("AveragePool", ["_"], {"kernel_shape": sides, "strides": sides}),
    ]


def _normalized_by_instance(edit: Edit, shape: tuple[int, ...]) -> Steps:
    edit.constant("scale", _random((shape[1],))), edit.constant("offset", _random((shape[1],)))
    return [("InstanceNormalization", ["_", "scale", "offset"], {})]


def captured(kind: str, constant: bool) -> Maker:
    """An If or Loop whose body captures an inner value; its result is an additional output."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for name in inner_values(model):
            edit = Edit(model)
            condition = "condition"
            if constant:
                edit.constant(condition, np.array(True))
            else:
                edit.add_input(condition, [], TensorProto.BOOL)
            body = _if_bodies(name) if kind == "If" else _loop_body(name)
            inputs = [condition] if kind == "If" else [edit.constant("trips", np.array(2)), condition, name]
            edit.graph.node.append(helper.make_node(kind, inputs, ["taken"], name="taken", **body))
            edit.add_output("taken")
            yield name, edit.done(), Expectation(outside=("taken",))

    return make


def _if_bodies(name: str) -> dict[str, onnx.GraphProto]:
    return {
        f"{branch}_branch": helper.make_graph(
            [helper.make_node(kind, [name], [f"{branch}.out"])],
            branch,
            [],
            [helper.make_tensor_value_info(f"{branch}.out", TensorProto.FLOAT, None)],
        )
        for branch, kind in {"then": "Relu", "else": "Neg"}.items()
    }


def _loop_body(name: str) -> dict[str, onnx.GraphProto]:
    inputs = [
        helper.make_tensor_value_info("trip", TensorProto.INT64, []),
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
    ]
    nodes = [
        helper.make_node("Identity", ["going"], ["still"]),
        helper.make_node("Mul", ["carried", name], ["next"]),
    ]
    return {"body": helper.make_graph(nodes, "body", inputs, outputs)}


def inner_values(model: onnx.ModelProto) -> list[str]:
    """The feature maps that operations compute and that are not outputs of the graph."""
    outputs, known = {value.name for value in model.graph.output}, shapes(model)
    made = [name for node in model.graph.node for name in node.output]
    return [name for name in made if name not in outputs and len(known.get(name, ())) >= 3]


def also_returned(model: onnx.ModelProto) -> Iterator[Made]:
    """An inner value is also an output."""
    for name in inner_values(model):
        edit = Edit(model)
        edit.add_output(name)
        yield name, edit.done(), FREE


def also_read(kind: str, output: int = TensorProto.FLOAT, **attributes: Any) -> Maker:
    """An inner value has an additional reader, whose result is an output."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for name in inner_values(model):
            edit = Edit(model)
            edit.graph.node.append(helper.make_node(kind, [name], ["other"], name="other", **attributes))
            edit.add_output("other", output)
            yield name, edit.done(), FREE

    return make


def rewired(kinds: tuple[str, ...]) -> Maker:
    """An operation reads another value of the same shape, computed earlier or later than the right one."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        known = shapes(model)
        for number, node in enumerate(model.graph.node):
            before = [n for other in list(model.graph.node)[:number] for n in other.output]
            candidates = [value.name for value in model.graph.input] + before
            for index, value in enumerate(node.input if node.op_type in kinds else []):
                for other in candidates:
                    if other != value and value in known and known.get(other) == known[value]:
                        edit = Edit(model)
                        edit.graph.node[number].input[index] = other
                        yield f"{node.name} reads {other} for {value}", edit.done(), FREE

    return make


def removed(model: onnx.ModelProto) -> Iterator[Made]:
    """An operation that keeps its input's shape is removed."""
    known = shapes(model)
    outputs = {value.name for value in model.graph.output}
    for number, node in enumerate(model.graph.node):
        name, source = node.output[0], node.input[0]
        if name not in outputs and known.get(name) == known.get(source, ()):
            edit = Edit(model)
            edit.replace_reads(name, source)
            del edit.graph.node[number]
            yield name, edit.done(), FREE


def with_attributes(
    kind: str, changes: Callable[[dict[str, Any]], Iterable[dict[str, Any]]], expectation: Expectation = FREE
) -> Maker:
    """Operations of a kind with other attributes, made from the present ones. "*": the operation's name."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            if node.op_type == kind:
                present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                for change in changes(present):
                    edit = Edit(model)
                    edit.set(node.name, **change)
                    yield f"{node.name} {change}", edit.done(), _of(expectation, node.name)

    return make


def _of(expectation: Expectation, name: str) -> Expectation:
    named = tuple(name if text == "*" else text for text in expectation.named)
    outside = tuple(name if text == "*" else text for text in expectation.outside)
    return Expectation(outside, expectation.apart, named, expectation.merges, expectation.one_size)


def with_constant(
    kind: str,
    index: int,
    changes: Callable[[np.ndarray], Iterable[np.ndarray]],
    expectation: Expectation = FREE,
    **attributes: Any,
) -> Maker:
    """Operations of a kind with another constant (weight, bias, variance, ...) at one of their inputs."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        constants = Edit(model).constants()
        for node in model.graph.node:
            if node.op_type == kind and len(node.input) > index and node.input[index] in constants:
                for number, value in enumerate(changes(constants[node.input[index]].copy())):
                    edit = Edit(model)
                    edit.constant(f"changed{number}", value)
                    edit.node(node.name).input[index] = f"changed{number}"
                    edit.set(node.name, **attributes)
                    yield f"{node.name} {number}", edit.done(), _of(expectation, node.name)

    return make


def _same_extent(present: dict[str, Any]) -> bool:
    return sum(present.get("pads", [0])) > 0


def _asymmetric(present: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same total padding, distributed over the sides in another way."""
    if _same_extent(present):
        pads, rank = list(present["pads"]), len(present["pads"]) // 2
        total = [2 * p for p in pads[:rank]]
        yield {"pads": [0] * rank + total}
        yield {"pads": total + [0] * rank}
        if rank > 1:
            yield {"pads": [total[0], *[0] * (rank - 1), 0, *total[1:]]}


def _even(weight: np.ndarray) -> Iterator[np.ndarray]:
    if min(weight.shape[2:]) == 3:
        yield weight[(..., *[slice(0, 2)] * (weight.ndim - 2))]


def _even_kernel(padding: Callable[[int], dict[str, Any]]) -> Maker:
    """A 3x3 kernel becomes 2x2, padded on one side only or by `auto_pad`."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            for weight in _even(_weight(model, node)):
                edit, rank = Edit(model), weight.ndim - 2
                present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                if not _same_extent(present) or "dilations" in present:
                    continue
                edit.constant("even", np.ascontiguousarray(weight))
                edit.node(node.name).input[1] = "even"
                edit.set(node.name, kernel_shape=[2] * rank, **{"pads": None, **padding(rank)})
                yield node.name, edit.done(), FREE

    return make


def _weight(model: onnx.ModelProto, node: onnx.NodeProto) -> np.ndarray:
    constants = Edit(model).constants()
    if node.op_type == "Conv":
        return constants.get(node.input[1], np.zeros((0, 0, 0, 0)))
    return np.zeros((1, 1, 1, 1))


def _auto_padded(present: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if _same_extent(present) and "dilations" not in present:
        yield {"pads": None, "auto_pad": "SAME_UPPER"}
        yield {"pads": None, "auto_pad": "SAME_LOWER"}


def _dilated(present: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Dilation is removed or added; the padding keeps the size."""
    rank = len(present["kernel_shape"])
    if "dilations" in present:
        yield {"dilations": None, "pads": [1] * 2 * rank}
    elif max(present["kernel_shape"]) == 3 and _same_extent(present):
        yield {"dilations": [2] * rank, "pads": [2] * 2 * rank}
        if rank == 2:
            yield {"dilations": [2, 1], "pads": [2, 1, 2, 1]}


def grouped(model: onnx.ModelProto) -> Iterator[Made]:
    """A dense convolution becomes grouped (with the first half of its weights), a grouped one dense."""
    for node in model.graph.node:
        present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight, group = _weight(model, node), present.get("group", 1)
        if node.op_type != "Conv" or not weight.size:
            continue
        changes = {1: weight.repeat(group, 1)} if group > 1 else {}
        if group == 1 and weight.shape[0] % 2 == weight.shape[1] % 2 == 0:
            changes = {2: weight[:, : weight.shape[1] // 2]}
        for groups, changed in changes.items():
            edit = Edit(model)
            edit.constant("regrouped", np.ascontiguousarray(changed))
            edit.node(node.name).input[1] = "regrouped"
            edit.set(node.name, group=groups)
            yield f"{node.name} in {groups}", edit.done(), FREE


def strided(model: onnx.ModelProto) -> Iterator[Made]:
    """Stride 2 on one convolution only: it runs only at size 1, where all strides give the same."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "AveragePool") and len(shapes(model)[node.input[0]]) == 4:
            present = {
                a.name: list(helper.get_attribute_value(a)) for a in node.attribute if a.name == "strides"
            }
            for side in (1, 2):
                edit = Edit(model)
                edit.set(node.name, strides=None if present else [2, 2])
                yield f"{node.name} at {side}", fixed(edit, 1, side, side), Expectation(one_size=True)


def fixed(edit: Edit, *lengths: int) -> onnx.ModelProto:
    """The model with fixed sizes in its file."""
    by_name = dict(zip(("N", "H", "W", "D"), (*lengths, 3), strict=False))
    for value in edit.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = by_name[dimension.dim_param]
    return edit.done()


def at_fixed_size(*lengths: int) -> Maker:
    """The unchanged network with fixed sizes in its file."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        yield f"{lengths}", fixed(Edit(model), *lengths), FREE

    return make


def all_strided(model: onnx.ModelProto) -> Iterator[Made]:
    """Every convolution and pool that reads the input has stride 2, or strides that differ by axis."""
    for strides in ([2, 2], [2, 1], [3, 2]):
        edit = Edit(model)
        for node in edit.nodes("Conv", "AveragePool"):
            if node.input[0] == "x" and len(shapes(model)["x"]) == 4:
                edit.set(node.name, strides=strides)
        if any(len(a.ints) and a.name == "strides" for n in edit.graph.node for a in n.attribute):
            yield f"{strides}", edit.done(), Expectation(one_size=True)


def tied(model: onnx.ModelProto) -> Iterator[Made]:
    """Two convolutions with different inputs share one weight, if its shape fits both."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    for first, second in itertools.permutations(convs, 2):
        if first.name != second.name and _weight(model, first).shape == _weight(model, second).shape:
            edit = Edit(model)
            node = edit.node(second.name)
            node.input[:] = [node.input[0], *first.input[1:]]
            yield f"{second.name} with the weights of {first.name}", edit.done(), FREE


def used_twice(model: onnx.ModelProto) -> Iterator[Made]:
    """A convolution is also applied to its own output, and that result is an additional output."""
    for node in model.graph.node:
        weight = _weight(model, node)
        if node.op_type == "Conv" and weight.shape[:1] == (shapes(model)[node.input[0]][1],):
            edit = Edit(model)
            again = copy_of(node, name="again", output="again", source=node.output[0])
            edit.graph.node.append(again)
            edit.add_output("again")
            yield node.name, edit.done(), FREE


def copy_of(node: onnx.NodeProto, name: str, output: str, source: str) -> onnx.NodeProto:
    """A copy of an operation, applied to another value."""
    other = onnx.NodeProto()
    other.CopyFrom(node)
    other.name, other.input[0], other.output[0] = name, source, output
    return other


def weight_elsewhere(model: onnx.ModelProto) -> Iterator[Made]:
    """A convolution's weight is also an output of the graph, or has another reader."""
    for node in model.graph.node:
        if node.op_type == "Conv" and _weight(model, node).size:
            edit = Edit(model)
            edit.graph.node.append(helper.make_node("Abs", [node.input[1]], ["size"], name="size"))
            edit.add_output("size")
            yield node.name, edit.done(), FREE


def made_weight(make_nodes: Callable[[Edit, np.ndarray], Steps], expectation: Expectation = FREE) -> Maker:
    """A convolution's weight is computed in the graph; "$" among the steps' inputs is the stored weight."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            weight = _weight(model, node)
            if node.op_type == "Conv" and weight.size:
                edit, reader = Edit(model), Edit(model).index(node.name)
                steps = make_nodes(edit, weight)
                edit.chain_on_edge(Edge(reader, 1, node.input[1]), steps)
                yield node.name, edit.done(), _of(expectation, node.name)

    return make


def _halved(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("half", weight.astype(np.float16))
    return [("Cast", ["half"], {"to": TensorProto.FLOAT})]


def _int8(edit: Edit, weight: np.ndarray) -> Steps:
    step = np.abs(weight).max() / 127
    edit.constant("step", step), edit.constant("levels", np.round(weight / step).astype(np.int8))
    return [("DequantizeLinear", ["levels", "step"], {})]


def _int8_by_channel(edit: Edit, weight: np.ndarray) -> Steps:
    step = np.abs(weight).reshape(len(weight), -1).max(1) / 127
    levels = np.round(weight / step.reshape(-1, *[1] * (weight.ndim - 1)))
    edit.constant("step", step.astype(np.float32)), edit.constant("levels", levels.astype(np.int8))
    edit.constant("zero", np.arange(len(weight)).astype(np.int8))
    return [("DequantizeLinear", ["levels", "step", "zero"], {"axis": 0})]


def _scaled_weight(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("factor", _random((len(weight), *[1] * (weight.ndim - 1))))
    return [("Mul", ["$", "factor"], {})]


def _scaled_from_outside(edit: Edit, weight: np.ndarray) -> Steps:
    edit.add_input("factor", [1])
    return [("Mul", ["$", "factor"], {})]


def _normalized_weight(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("axes", _integers(*range(1, weight.ndim)))
    return [("ReduceL2", ["$", "axes"], {"keepdims": 1}), ("Div", ["$", "_"], {})]


def _weight_from_picture(edit: Edit, weight: np.ndarray) -> Steps:
    return [("ReduceMean", ["x"], {"keepdims": 0}), ("Add", ["$", "_"], {})]


def _drawn_weight(edit: Edit, weight: np.ndarray) -> Steps:
    return [("RandomNormal", [], {"shape": list(weight.shape), "seed": 3.0})]


def _weight_as_node(edit: Edit, weight: np.ndarray) -> Steps:
    return [("Constant", [], {"value": numpy_helper.from_array(weight, "value")})]


def _filled_weight(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("shape", _integers(*weight.shape))
    return [("ConstantOfShape", ["shape"], {"value": helper.make_tensor("v", TensorProto.FLOAT, [1], [0.3])})]


def _integer_weight(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("integers", np.round(weight * 3).astype(np.int32))
    return [("Cast", ["integers"], {"to": TensorProto.FLOAT})]


def _rounded_weight(edit: Edit, weight: np.ndarray) -> Steps:
    edit.constant("eight", 8.0)
    return [("Mul", ["$", "eight"], {}), ("Round", ["_"], {}), ("Div", ["_", "eight"], {})]


def _turned_weight(edit: Edit, weight: np.ndarray) -> Steps:
    order = [*range(weight.ndim)]
    order[-1], order[-2] = order[-2], order[-1]
    return [("Transpose", ["$"], {"perm": order})]


def from_outside(indices: Sequence[int], kind: str, default: bool) -> Maker:
    """A weight, bias or statistic is an input of the graph; with `default` it has a default value."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        constants = Edit(model).constants()
        for node in model.graph.node:
            for index in indices:
                if node.op_type == kind and len(node.input) > index and node.input[index] in constants:
                    name, edit = node.input[index], Edit(model)
                    edit.add_input(name, constants[name].shape)
                    if not default:
                        edit.drop_constant(name)
                    yield f"{node.name} {index}", edit.done(), FREE

    return make


def as_function(after: tuple[str, ...], domain: str = "local", own_name: bool = True) -> Maker:
    """A convolution is a call of a model-local function of the same name that also applies an activation."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            if node.op_type != "Conv":
                continue
            edit, call = Edit(model), "Conv" if own_name else "Layer"
            inputs = ["a", "b", "c"][: len(node.input)]
            body = [helper.make_node("Conv", inputs, ["v0"])]
            body[0].attribute.extend(node.attribute)
            body += [helper.make_node(kind, [f"v{k}"], [f"v{k + 1}"]) for k, kind in enumerate(after)]
            opsets = list(model.opset_import)
            function = helper.make_function(domain, call, inputs, [f"v{len(after)}"], body, opsets)
            edit.model.functions.append(function)
            edit.model.opset_import.append(helper.make_opsetid(domain, 1))
            caller = edit.node(node.name)
            caller.op_type, caller.domain = call, domain
            del caller.attribute[:]
            yield node.name, edit.done(), Expectation(outside=(node.name,) if after else ())

    return make


def foreign(model: onnx.ModelProto) -> Iterator[Made]:
    """A convolution of another domain, with an activation inside."""
    for node in model.graph.node:
        if node.op_type == "Conv":
            edit = Edit(model)
            edit.node(node.name).op_type, edit.node(node.name).domain = "FusedConv", "com.microsoft"
            edit.set(node.name, activation="Relu")
            edit.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
            yield node.name, edit.done(), Expectation(outside=(node.name,))


def renamed(names: Callable[[int, onnx.NodeProto], str]) -> Maker:
    """Operations that are not named like their outputs: no name, one name for all, or a misleading name."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        edit = Edit(model)
        for number, node in enumerate(edit.graph.node):
            node.name = names(number, node)
        yield "all", edit.done(), FREE

    return make


def values_renamed(names: Sequence[str]) -> Maker:
    """Inner values with names that a tool might generate itself."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        edit = Edit(model)
        for value, name in zip(inner_values(model), names, strict=False):
            edit.replace_reads(value, name)
            for node in edit.graph.node:
                node.output[:] = [name if made == value else made for made in node.output]
        yield names[0], edit.done(), FREE

    return make


def repadded(mode: str, value: float | None = None) -> Maker:
    """A convolution's zero padding is replaced by a Pad before it, of another mode."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type != "Conv" or not _same_extent(present):
                continue
            edit, rank = Edit(model), len(present["pads"]) // 2
            pads = list(present["pads"])
            edit.constant("amounts", _integers(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
            others = ["amounts"] if value is None else ["amounts", edit.constant("filling", value)]
            edit.on_edge(Edge(edit.index(node.name), 0, node.input[0]), "Pad", *others, mode=mode)
            edit.set(node.name, pads=[0] * 2 * rank)
            outside = ("slipped",) if mode != "constant" else ()
            yield node.name, edit.done(), Expectation(outside=outside)

    return make


def pads_changed(changes: Callable[[np.ndarray], np.ndarray], mode: str = "constant") -> Maker:
    """A Pad with other amounts or another mode."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            if node.op_type == "Pad":
                edit = Edit(model)
                edit.constant("amounts", changes(edit.constants()[node.input[1]].copy()))
                edit.node(node.name).input[1] = "amounts"
                edit.set(node.name, mode=mode)
                outside = (node.name,) if mode != "constant" else ()
                yield node.name, edit.done(), Expectation(outside=outside)

    return make


def filled(value: float, outside: bool = False) -> Maker:
    """A Pad with another fill value; from outside: the value is an input of the graph."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        for node in model.graph.node:
            if node.op_type == "Pad":
                edit = Edit(model)
                name = edit.add_input("filling", []) if outside else edit.constant("filling", value)
                edit.node(node.name).input.append(name)
                yield node.name, edit.done(), FREE

    return make


def padding_moved(model: onnx.ModelProto) -> Iterator[Made]:
    """The Pad before a chain is removed, and one of the next operations pads its own input."""
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        for edge in [edge for edge in edges(model) if edge.value == pad.output[0]]:
            for padded in _reached(model, model.graph.node[edge.reader]):
                edit = Edit(model)
                edit.graph.node[edge.reader].input[edge.input_index] = pad.input[0]
                extra = {"count_include_pad": 1} if padded.op_type == "AveragePool" else {}
                edit.set(padded.name, pads=[1, 1, 1, 1], **extra)
                yield f"{pad.name} moved to {padded.name}", edit.done(), FREE


def _reached(model: onnx.ModelProto, first: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The convolutions and pools after an operation, up to the next one that is padded."""
    if first.op_type in ("Conv", "AveragePool"):
        yield first
    if first.op_type in ("Conv", "BatchNormalization", "Add") and shapes(model)[first.output[0]][2] > 9:
        for node in model.graph.node:
            if first.output[0] in node.input:
                yield from _reached(model, node)


def padded_after_bias(padded: dict[str, Any]) -> Maker:
    """An operation with a bias before a zero-padded convolution or pool: no convolution at the border."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        known = shapes(model)
        for edge in edges(model, [4]):
            if model.graph.node[edge.reader].op_type in ("Add", "Relu", "Concat"):
                width = known[edge.value][1]
                edit = Edit(model)
                edit.constant("one", _random((width, width, 1, 1))), edit.constant("bias", _random((width,)))
                edit.constant("three", _random((width, width, 3, 3)) * 0.3)
                second = (
                    ("AveragePool", ["_"], padded) if padded else ("Conv", ["_", "three"], {"pads": [1] * 4})
                )
                edit.chain_on_edge(edge, [("Conv", ["_", "one", "bias"], {}), second])
                expectation = Expectation(apart=(("slipped0", "slipped"),), named=("border", "zero padding"))
                yield _edge_name(model, edge), edit.done(), expectation

    return make


def padded_with_its_bias(bias: float, filling: float) -> Maker:
    """A pointwise convolution with equal biases, padding with a constant, and a 3x3 convolution."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        known = shapes(model)
        for edge in edges(model, [4]):
            if model.graph.node[edge.reader].op_type == "Add":
                width, edit = known[edge.value][1], Edit(model)
                edit.constant("one", _random((width, width, 1, 1)))
                edit.constant("bias", np.full(width, bias, np.float32))
                edit.constant("three", _random((width, width, 3, 3)) * 0.3)
                edit.constant("amounts", _integers(0, 0, 1, 1, 0, 0, 1, 1)), edit.constant("filling", filling)
                steps = [
                    ("Conv", ["_", "one", "bias"], {}),
                    ("Pad", ["_", "amounts", "filling"], {}),
                    ("Conv", ["_", "three"], {}),
                ]
                edit.chain_on_edge(edge, steps)
                apart = () if bias == filling else (("slipped0", "slipped"),)
                yield _edge_name(model, edge), edit.done(), Expectation(apart=apart)

    return make


def normalized_then_padded(model: onnx.ModelProto) -> Iterator[Made]:
    """BN directly before a zero-padded convolution."""
    known = shapes(model)
    for edge in edges(model, [4]):
        node = model.graph.node[edge.reader]
        present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv" and _same_extent(present):
            edit, width = Edit(model), known[edge.value][1]
            parts = [edit.constant(f"slipped.{k}", _random((width,)) ** 2 + 0.2) for k in range(4)]
            edit.on_edge(edge, "BatchNormalization", *parts)
            apart = Expectation(apart=(("slipped", node.name),), named=("border", "zero padding"))
            yield _edge_name(model, edge), edit.done(), apart


def transposed_changes(present: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Transposed convolutions that do not equal a convolution with the flipped kernel."""
    yield {"strides": [2, 2]}
    yield {"strides": [2, 2], "output_padding": [1, 1]}
    yield {"strides": [2, 1], "output_padding": [1, 0]}
    yield {"pads": [0, 0, 2, 2]}
    yield {"pads": [2, 1, 0, 1]}
    yield {"pads": [0, 0, 0, 0]}
    yield {"pads": [2, 2, 2, 2]}
    yield {"pads": None, "auto_pad": "SAME_UPPER"}
    yield {"pads": None, "auto_pad": "SAME_LOWER", "strides": [2, 2]}
    yield {"dilations": [2, 2], "pads": [2, 2, 2, 2]}


def transposed_grouped(model: onnx.ModelProto) -> Iterator[Made]:
    """A transposed convolution in groups."""
    for node in model.graph.node:
        if node.op_type == "ConvTranspose":
            for group in (2, 4):
                edit = Edit(model)
                edit.constant("regrouped", _random((4, 3, 3, 3)))
                edit.constant("bias", _random((3 * group,)))
                for bn in edit.nodes("BatchNormalization"):
                    bn.input[1:] = [edit.constant(f"{p}", _random((3 * group,)) ** 2 + 0.3) for p in "abcd"]
                edit.node(node.name).input[1:] = ["regrouped", "bias"]
                edit.set(node.name, group=group)
                yield f"{node.name} {group}", edit.done(), FREE


def gemm_changes(present: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A dense layer (Gemm) with the factors alpha and beta."""
    yield {"alpha": 0.5}
    yield {"beta": -2.0}
    yield {"alpha": 0.0}


def stale_shapes(model: onnx.ModelProto) -> Iterator[Made]:
    """The file holds shapes of inner values, which are wrong or right."""
    for name in inner_values(model)[:1]:
        for channels in (77, shapes(model)[name][1]):
            edit = Edit(model)
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, "H", "W"])
            made = edit.done()
            made.graph.value_info.append(info)
            yield f"{name} {channels}", made, FREE


def without_shapes(model: onnx.ModelProto) -> Iterator[Made]:
    """The file does not hold the input's sizes, or not even its rank."""
    for rank in (True, False):
        edit = Edit(model)
        for value in edit.graph.input:
            shape = value.type.tensor_type.shape
            value.doc_string = " ".join(d.dim_param or str(d.dim_value) for d in shape.dim)
            for dimension in shape.dim:
                dimension.Clear()
            if not rank:
                value.type.tensor_type.ClearField("shape")
        yield f"rank {rank}", edit.model, FREE


def of_type(kind: int, numpy_type: Any) -> Maker:
    """The whole network in another floating-point type."""

    def make(model: onnx.ModelProto) -> Iterator[Made]:
        edit = Edit(model)
        for name, value in edit.constants().items():
            if value.dtype == np.float32:
                edit.constant(name, value.astype(numpy_type))
        for value in (*edit.graph.input, *edit.graph.output):
            value.type.tensor_type.elem_type = kind
        yield str(np.dtype(numpy_type)), edit.done(), FREE

    return make


def dead(model: onnx.ModelProto) -> Iterator[Made]:
    """An operation and a constant whose values have no reader."""
    edit = Edit(model)
    name = inner_values(model)[0]
    edit.graph.node.append(helper.make_node("Exp", [name], ["unread"], name="unread"))
    made = edit.done()
    made.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "nobody"))
    yield name, made, FREE


def output_is_input(model: onnx.ModelProto) -> Iterator[Made]:
    """A constant, or the input behind an Identity, is an output."""
    edit = Edit(model)
    edit.graph.node.append(helper.make_node("Identity", ["x"], ["same"], name="same"))
    edit.add_output("same")
    yield "input", edit.done(), FREE
    edit = Edit(model)
    name = next(name for name, value in edit.constants().items() if value.dtype == np.float32)
    edit.graph.node.append(helper.make_node("Identity", [name], ["same"], name="same"))
    edit.add_output("same")
    yield "constant", edit.done(), FREE


def doubled_model(model: onnx.ModelProto) -> Iterator[Made]:
    """The network applied twice with the same weights, if its output fits its input."""
    first, last = model.graph.input[0], model.graph.output[0]
    known = shapes(model)
    if len(model.graph.input) > 1 or len(model.graph.output) > 1 or known[first.name] != known[last.name]:
        return
    edit = Edit(model)
    again = {name: f"again.{name}" for node in model.graph.node for name in node.output} | {"x": last.name}
    for node in model.graph.node:
        other = onnx.NodeProto()
        other.CopyFrom(node)
        other.name = f"again.{node.name}"
        other.input[:] = [again.get(name, name) for name in node.input]
        other.output[:] = [again[name] for name in node.output]
        edit.graph.node.append(other)
    edit.graph.output[0].name = again[last.name]
    yield "twice", edit.done(), MERGES if len(known["x"]) == 4 else FREE


ACTIVATIONS: Mapping[str, Callable[[Edit, tuple[int, ...]], Steps]] = {
    "Relu": one("Relu"),
    "LeakyRelu": one("LeakyRelu", alpha=0.2),
    "PRelu": with_constants("PRelu", lambda shape: [_random(_channels(shape))]),
    "Sigmoid": one("Sigmoid"),
    "Tanh": one("Tanh"),
    "Clip": with_constants("Clip", lambda shape: [-0.3, 0.6]),
    "Round": one("Round"),
    "Floor": one("Floor"),
    "Abs": one("Abs"),
    "Softplus": one("Softplus"),
    "HardSigmoid": one("HardSigmoid"),
    "Erf": one("Erf"),
    "Sign": one("Sign"),
    "Softmax": one("Softmax", axis=1),
    "LpNormalization": one("LpNormalization", axis=1),
    "LRN": one("LRN", size=3, alpha=0.5),
    "square": one("Mul", "$"),
    "Pow": with_constants("Pow", lambda shape: [2.0]),
    "Max": with_constants("Max", lambda shape: [0.1]),
    "Where": _chosen,
    "max pool": lambda edit, shape: [
        ("MaxPool", ["_"], {"kernel_shape": [3] * (len(shape) - 2), "pads": [1] * 2 * (len(shape) - 2)})
    ],
    "InstanceNormalization": _normalized_by_instance,
    "float16": lambda edit, shape: [
        ("Cast", ["_"], {"to": TensorProto.FLOAT16}),
        ("Cast", ["_"], {"to": TensorProto.FLOAT}),
    ],
    "integers": lambda edit, shape: [
        ("Cast", ["_"], {"to": TensorProto.INT32}),
        ("Cast", ["_"], {"to": TensorProto.FLOAT}),
    ],
    "int8": _quantized,
}
"""Nonlinear operations that keep a value's shape."""

JUMPS = ("Round", "Floor", "Sign", "float16", "integers", "int8")
"""Nonlinear operations that round."""

_PARTS = range(1, 5)


def _bad(values: Sequence[float]) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    def changes(array: np.ndarray) -> Iterator[np.ndarray]:
        for value in values:
            changed = array.copy()
            changed.flat[0] = value
            yield changed

    return changes


def _all(value: float) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    return lambda array: iter([np.full_like(array, value)])


MUTATIONS: Mapping[str, Maker] = {
    **{
        f"{kind} slipped in": slipped(steps, Expectation(outside=("slipped",), jumps=kind in JUMPS))
        for kind, steps in ACTIVATIONS.items()
    },
    "gated by itself": slipped(_gated_by_itself),
    "squeezed and excited": slipped(_squeezed_and_excited),
    "gated from outside": slipped(_gated_from_outside),
    "divided by its size": slipped(_masked_by_size),
    "noise slipped in": slipped(one("RandomNormalLike", seed=3.0), Expectation(outside=("slipped",))),
    "dropout in training mode": slipped(
        with_constants("Dropout", lambda shape: [np.array(0.5, np.float32), np.array(True)], seed=5),
        NAMED,
        ranks=[4],
    ),
    "flipped rows": slipped(
        with_constants(
            "Slice", lambda shape: [_integers(-1), _integers(-(2**31)), _integers(2), _integers(-1)]
        )
    ),
    "rolled rows": slipped(_roll, Expectation(outside=("slipped",))),
    "rows joined and thinned": slipped(_stacked, Expectation(outside=("slipped",))),
    "rows shifted": slipped(_shifted, FREE),
    "running sum": slipped(with_constants("CumSum", lambda shape: [np.array(2, np.int64)])),
    "batch and channels mixed": slipped(_shuffled_over_batch, Expectation(outside=("slipped",))),
    "mean over the batch": slipped(_batch_and_channels_swapped, FREE),
    "channels reversed": slipped(_halves_swapped, FREE),
    "pixels and channels reordered": slipped(
        lambda edit, shape: (
            _pixels_reordered(edit, shape) if shape[1] % 4 == 0 and len(shape) == 4 else [("Relu", ["_"], {})]
        ),
        FREE,
    ),
    "transposed and back": slipped(_there_and_back, FREE),
    "reshaped and back": slipped(_reshaped, FREE),
    "doubled and averaged": slipped(_doubled_and_averaged, FREE),
    "rows turned to columns": slipped(
        lambda edit, shape: [
            ("Transpose", ["_"], {"perm": [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]})
        ],
        OUTSIDE,
        ("Add", "Concat", "Sub"),
        [4],
    ),
    "identity slipped in": slipped(one("Identity"), FREE),
    "dropout in evaluation mode": slipped(one("Dropout"), FREE),
    "cast to its own type": slipped(one("Cast", to=TensorProto.FLOAT), FREE),
    "constant scale": slipped(with_constants("Mul", lambda shape: [1.7]), FREE),
    "divided by channels": slipped(
        with_constants("Div", lambda shape: [_random(_channels(shape)) ** 2 + 0.5]), FREE
    ),
    "added channels": slipped(with_constants("Add", lambda shape: [_random((1, *_channels(shape)))]), FREE),
    "subtracted from a constant": slipped(
        lambda edit, shape: [("Sub", [edit.constant("slipped.0", _random(_channels(shape))), "_"], {})], FREE
    ),
    "negated": slipped(one("Neg"), FREE),
    "constant picture added": slipped(with_constants("Add", lambda shape: [_random(shape[1:])]), OUTSIDE),
    "constant picture multiplied": slipped(
        with_constants("Mul", lambda shape: [_random(shape[2:])]), OUTSIDE
    ),
    "constant row added": slipped(with_constants("Add", lambda shape: [_random(shape[-1:])]), OUTSIDE),
    "constant batch added": slipped(
        with_constants("Add", lambda shape: [_random((2, *_channels(shape)))]), OUTSIDE
    ),
    "constant batch multiplied": slipped(
        with_constants("Mul", lambda shape: [_random((2, *[1] * (len(shape) - 1)))]), OUTSIDE
    ),
    "global mean added": slipped(
        lambda edit, shape: [("GlobalAveragePool", ["$"], {}), ("Add", ["$", "_"], {})],
        Expectation(outside=("slipped0",)),
    ),
    "global mean instead": slipped(one("GlobalAveragePool"), OUTSIDE, ("Add", "Sub", "Mul")),
    "mean over channels instead": slipped(
        with_constants("ReduceMean", lambda shape: [_integers(1)], keepdims=1), FREE, ("Add", "Sub", "Mul")
    ),
    "single channel added": slipped(
        lambda edit, shape: [
            ("Conv", ["$", edit.constant("single", _random((1, shape[1], *[1] * (len(shape) - 2))))], {}),
            ("Add", ["$", "_"], {}),
        ],
        FREE,
    ),
    "single channel multiplied": slipped(
        lambda edit, shape: [
            ("Conv", ["$", edit.constant("single", _random((1, shape[1], *[1] * (len(shape) - 2))))], {}),
            ("Mul", ["$", "_"], {}),
        ]
    ),
    "padded after a bias": padded_after_bias({}),
    "average padded after a bias": padded_after_bias(
        {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
    ),
    "average that does not count padding": slipped(
        lambda edit, shape: [
            ("AveragePool", ["_"], {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 0})
        ],
        NAMED,
        ranks=[4],
    ),
    "average that rounds up": slipped(
        lambda edit, shape: [
            ("AveragePool", ["_"], {"kernel_shape": [1, 1], "pads": [1] * 4, "count_include_pad": 1}),
            ("AveragePool", ["_"], {"kernel_shape": [2, 2], "strides": [1, 1], "ceil_mode": 1}),
            ("AveragePool", ["_"], {"kernel_shape": [2, 2], "strides": [1, 1], "ceil_mode": 1}),
        ],
        FREE,
        ranks=[4],
    ),
    "padded with its bias": padded_with_its_bias(0.7, 0.7),
    "padded with another constant": padded_with_its_bias(0.7, 0.5),
    "padded with zero for its bias": padded_with_its_bias(0.7, 0.0),
    "padded with a constant for no bias": padded_with_its_bias(0.0, 0.7),
    "normalized, then padded": normalized_then_padded,
    "padding moved": padding_moved,
    "reflected": repadded("reflect"),
    "replicated": repadded("edge"),
    "wrapped": repadded("wrap"),
    "padded beforehand": repadded("constant"),
    "padded with a constant": repadded("constant", 0.6),
    "pad reflects": pads_changed(lambda pads: pads, "reflect"),
    "pad replicates": pads_changed(lambda pads: pads, "edge"),
    "pad wraps": pads_changed(lambda pads: pads, "wrap"),
    "pad of one side": pads_changed(lambda pads: np.roll(pads, 4) * 0 + _integers(0, 0, 2, 0, 0, 0, 0, 2)),
    "pad of channels": pads_changed(lambda pads: pads + _integers(1, 0, 0, 0, -1, 0, 0, 0)),
    "pad that crops": pads_changed(lambda pads: _integers(0, 0, 3, 1, 0, 0, -1, 1)),
    "pad fills with a constant": filled(0.4),
    "pad fills with an input": filled(0.0, outside=True),
    "asymmetric padding": with_attributes("Conv", _asymmetric),
    "asymmetric average": with_attributes("AveragePool", _asymmetric),
    "padding by the runtime": with_attributes("Conv", _auto_padded),
    "average padded by the runtime": with_attributes(
        "AveragePool", lambda present: [{"pads": None, "auto_pad": "SAME_UPPER"}] if "pads" in present else []
    ),
    "even kernel, padded after": _even_kernel(lambda rank: {"pads": [0] * rank + [1] * rank}),
    "even kernel, padded before": _even_kernel(lambda rank: {"pads": [1] * rank + [0] * rank}),
    "even kernel, padded by the runtime after": _even_kernel(lambda rank: {"auto_pad": "SAME_UPPER"}),
    "even kernel, padded by the runtime before": _even_kernel(lambda rank: {"auto_pad": "SAME_LOWER"}),
    "other dilation": with_attributes(
        "Conv", lambda present: _dilated(present) if "kernel_shape" in present else []
    ),
    "kernel size left to the weight": with_attributes("Conv", lambda present: [{"kernel_shape": None}]),
    "grouped against dense": grouped,
    "stride on one only": strided,
    "stride on all": all_strided,
    "pool becomes maximum": lambda model: _kinds(model, "AveragePool", "MaxPool", ("count_include_pad",)),
    "pool becomes a power mean": lambda model: _kinds(model, "AveragePool", "LpPool", ("count_include_pad",)),
    "uncounted padding": with_attributes(
        "AveragePool",
        lambda present: [{"count_include_pad": 0}, {"count_include_pad": None}] if "pads" in present else [],
        Expectation(outside=("*",), named=("*",)),
    ),
    "rounding up": with_attributes("AveragePool", lambda present: [{"ceil_mode": 1}]),
    "dilated pool": with_attributes(
        "AveragePool",
        lambda present: [{"dilations": [2, 2], "pads": [p * 2 for p in present.get("pads", [1] * 4)]}],
    ),
    "transposed otherwise": with_attributes("ConvTranspose", transposed_changes),
    "transposed in groups": transposed_grouped,
    "dense layer with factors": with_attributes("Gemm", gemm_changes),
    "BN in training mode": with_attributes(
        "BatchNormalization",
        lambda present: [{"training_mode": 1}],
        Expectation(outside=("*",), named=("*",)),
    ),
    "negative variance": with_constant("BatchNormalization", 4, _bad([-5.0])),
    "variance not a number": with_constant("BatchNormalization", 4, _bad([np.nan, np.inf])),
    "variance zero": with_constant("BatchNormalization", 4, _all(0.0)),
    "variance zero without epsilon": with_constant("BatchNormalization", 4, _all(0.0), epsilon=0.0),
    "huge epsilon": with_attributes(
        "BatchNormalization", lambda present: [{"epsilon": 1e6}, {"epsilon": 0.0}]
    ),
    "mean not a number": with_constant("BatchNormalization", 3, _bad([np.nan])),
    "BN scale of zero": with_constant("BatchNormalization", 1, _all(0.0)),
    "weights of zero": with_constant("Conv", 1, _all(0.0)),
    "weight not a number": with_constant("Conv", 1, _bad([np.nan, np.inf, -np.inf])),
    "bias not a number": with_constant("Conv", 2, _bad([np.nan, np.inf])),
    "huge weight": with_constant(
        "Conv", 1, lambda array: iter([array * np.float32(1e20), array * np.float32(1e-20)])
    ),
    "single huge weight": with_constant("Conv", 1, _bad([1e30])),
    "residual from another place": rewired(("Add", "Sub")),
    "joined from another place": rewired(("Concat",)),
    "convolved from another place": rewired(("Conv",)),
    "an operation left out": removed,
    "inner result returned too": also_returned,
    "inner result used by a nonlinearity": also_read("Sigmoid"),
    "inner result used by a pool": also_read("GlobalMaxPool"),
    "inner result's shape used": also_read("Shape", TensorProto.INT64),
    "inner result captured by if": captured("If", constant=False),
    "inner result captured by a settled if": captured("If", constant=True),
    "inner result captured by loop": captured("Loop", constant=True),
    "tied weights": tied,
    "convolution used twice": used_twice,
    "weight read elsewhere": weight_elsewhere,
    "network applied twice": doubled_model,
    "weight of float16": made_weight(_halved),
    "weight of int8": made_weight(_int8),
    "weight of int8 by channel": made_weight(_int8_by_channel),
    "weight of integers": made_weight(_integer_weight),
    "weight scaled in the graph": made_weight(_scaled_weight),
    "weight scaled from outside": made_weight(_scaled_from_outside),
    "weight normalized in the graph": made_weight(_normalized_weight),
    "weight from the picture": made_weight(_weight_from_picture),
    "weight drawn at random": made_weight(_drawn_weight),
    "weight as an operation": made_weight(_weight_as_node),
    "weight of a filling": made_weight(_filled_weight),
    "weight rounded in the graph": made_weight(_rounded_weight),
    "weight turned in the graph": made_weight(_turned_weight),
    "weight as an input": from_outside([1], "Conv", default=False),
    "bias as an input": from_outside([2], "Conv", default=False),
    "statistics as inputs": from_outside(list(_PARTS), "BatchNormalization", default=False),
    "weight as an input with a default": from_outside([1], "Conv", default=True),
    "statistics as inputs with defaults": from_outside(list(_PARTS), "BatchNormalization", default=True),
    "convolution as a function": as_function(()),
    "convolution as a function with ReLU": as_function(("Relu",)),
    "convolution of another domain": foreign,
    "operations without names": renamed(lambda number, node: ""),
    "operations of one name": renamed(lambda number, node: "same"),
    "operations with each other's names": renamed(
        lambda number, node: "x" if number == 0 else f"conv{-number}"
    ),
    "values with a tool's names": values_renamed(["merged", "weight", "bias", "region", "merged_weight"]),
    "values with numbers for names": values_renamed(["0", "1", "2", "3", "4", "5"]),
    "values with odd names": values_renamed(["a/b:0", "ä ö", "a'b", "%s", "A", "a"]),
    "stale shapes in the file": stale_shapes,
    "no shapes in the file": without_shapes,
    "fixed sizes": at_fixed_size(1, 9, 8),
    "fixed sizes of 1": at_fixed_size(1, 1, 1),
    "fixed batch of 3": at_fixed_size(3, 5, 4),
    "double precision": of_type(TensorProto.DOUBLE, np.float64),
    "half precision": of_type(TensorProto.FLOAT16, np.float16),
    "dead code": dead,
    "input or constant returned": output_is_input,
    "unchanged": lambda model: iter([("", Edit(model).done(), FREE)]),
}


def _older(opset: int, draw: Callable[[Sketch], tuple[str, ...]], version: int = 8) -> onnx.ModelProto:
    s = picture(7)
    return s.model(*draw(s), opset=opset, version=version)


def _trained_by_outputs(s: Sketch) -> tuple[str, ...]:
    """Opset 9 trains where BN has more than one output."""
    s.bn(s.conv("x", "conv", 4), "bn")
    s.nodes[-1].output.extend(["mean", "var", "saved_mean", "saved_var"])
    return (s.add("Relu", "bn", "relu"),)


def _sliced_by_attributes(s: Sketch) -> tuple[str, ...]:
    s.add("Slice", "x", "top", starts=[0], ends=[2], axes=[1])
    s.channels["top"] = 2
    s.add("Slice", "x", "bottom", starts=[-2], ends=[9], axes=[-3])
    s.channels["bottom"] = 2
    s.add("Concat", ["bottom", s.bn("top", "bn")], "join", axis=1)
    s.channels["join"] = 4
    return (s.conv("join", "point", 4, 1),)


def _old_words(s: Sketch) -> tuple[str, ...]:
    """Dropout, Pad, Clip and BN in the form of an old opset."""
    s.add("Pad", "x", "pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
    s.conv("pad", "conv", 4, pad=0)
    s.nodes[-1].attribute.append(helper.make_attribute("auto_pad", "NOTSET"))
    s.add("Dropout", s.bn("conv", "bn"), "dropout", ratio=0.3)
    s.nodes[-2].attribute.append(helper.make_attribute("momentum", 0.7))
    return (s.add("Clip", "dropout", "clip", min=-0.5, max=0.5),)


def _padded_with_value(s: Sketch) -> tuple[str, ...]:
    s.add("Pad", s.conv("x", "first", 4, 1, bias=False), "pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)
    return (s.conv("pad", "second", 4, pad=0),)


def _automatic_with_dilation(s: Sketch) -> tuple[str, ...]:
    s.conv("x", "conv", 4, 1)
    s.conv("x", "wide", 4, 3, strides=[1, 1], dilations=[1, 1])
    del s.nodes[-1].attribute[:]
    s.nodes[-1].attribute.append(helper.make_attribute("auto_pad", "SAME_LOWER"))
    return (s.add("Add", ["conv", "wide"], "sum"),)


def _valid(s: Sketch) -> tuple[str, ...]:
    s.conv(s.conv("x", "wide", 8, 1), "conv", 4)
    del s.nodes[-1].attribute[:]
    s.nodes[-1].attribute.append(helper.make_attribute("auto_pad", "VALID"))
    return ("conv",)


def _quantized_convolution(s: Sketch) -> tuple[str, ...]:
    """QLinearConv: int8 from end to end."""
    for name, value in {"step": np.float32(0.04), "zero": np.uint8(100), "level": np.int8(0)}.items():
        s.constant(name, np.asarray(value))
    s.constant("weight", s.random.integers(-50, 50, (4, 4, 3, 3)).astype(np.int8))
    s.add("QuantizeLinear", ["x", "step", "zero"], "quantized")
    names = ["quantized", "step", "zero", "weight", "step", "level", "step", "zero"]
    s.add("QLinearConv", names, "conv", pads=[1, 1, 1, 1])
    return (s.bn(s.add("DequantizeLinear", ["conv", "step", "zero"], "real"), "bn"),)


def _integer_convolution(s: Sketch) -> tuple[str, ...]:
    s.constant("weight", s.random.integers(0, 5, (4, 4, 1, 1)).astype(np.uint8))
    s.add("Cast", s.add("Abs", "x", "abs"), "bytes", to=TensorProto.UINT8)
    s.add("ConvInteger", ["bytes", "weight"], "conv")
    s.add("Cast", "conv", "real", to=TensorProto.FLOAT)
    s.channels["real"] = 4
    return (s.conv(s.conv("real", "wide", 8, 1), "narrow", 2, 1),)


def _multiplied_as_matrix(s: Sketch) -> tuple[str, ...]:
    """A matrix product along the columns of the picture, which is not a convolution."""
    s.add("MatMul", ["x", s.normal("matrix", 8, 8)], "product")
    return (s.add("Add", [s.conv("x", "conv", 4), s.bn("product", "bn")], "sum"),)


def _multiplied_along_channels(s: Sketch) -> tuple[str, ...]:
    """A matrix product along the channels between two transpositions: a pointwise convolution."""
    s.add("Transpose", s.conv("x", "wide", 8, 1), "last", perm=[0, 2, 3, 1])
    s.add("MatMul", ["last", s.normal("matrix", 8, 4)], "product")
    return (s.add("Transpose", "product", "back", perm=[0, 3, 1, 2]),)


def _shadowed(s: Sketch) -> tuple[str, ...]:
    """The body of an If has a local value with the name of a weight."""
    s.bn(s.conv("x", "conv", 4, 1), "bn")
    weight = numpy_helper.from_array(np.full((4, 4, 1, 1), 7, np.float32), "inner")
    node = helper.make_node("Conv", ["bn", "inner"], ["out"])
    result = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    body = helper.make_graph([node], "body", [], result, [weight])
    s.constant("condition", np.array(True))
    s.add("If", "condition", "chosen", then_branch=body, else_branch=body)
    return ("chosen",)


def _scanned(s: Sketch) -> tuple[str, ...]:
    """A Scan over the batch, whose body captures a constant that is merged outside."""
    s.bn(s.conv("x", "conv", 4, 1), "bn")
    node = helper.make_node("Mul", ["one", "conv.bias4"], ["out"])
    s.constant("conv.bias4", s.random.normal(size=(4, 1, 1)).astype(np.float32))
    inputs = [helper.make_tensor_value_info("one", TensorProto.FLOAT, None)]
    body = helper.make_graph([node], "body", inputs, [helper.make_tensor_value_info("out", 1, None)])
    s.add("Scan", "bn", "scanned", body=body, num_scan_inputs=1)
    return (s.add("Mul", ["bn", "conv.bias4"], "product"), "scanned")


def _constants_as_words(s: Sketch) -> tuple[str, ...]:
    """Constant nodes with their numbers in attributes."""
    s.add("Constant", [], "half", value_float=0.5)
    s.add("Constant", [], "three", value_floats=[0.5])
    s.add("Mul", [s.conv("x", "conv", 4), "half"], "scaled")
    return (s.add("Add", ["scaled", "three"], "sum"),)


def _split(s: Sketch) -> tuple[str, ...]:
    s.conv("x", "wide", 8, 1)
    names = ["wide", s.constant("lengths", np.array([3, 1, 4]))]
    s.nodes.append(helper.make_node("Split", names, ["a", "b", "c"], name="a", axis=1))
    s.channels |= {"a": 3, "b": 1, "c": 4}
    s.conv("a", "first", 4, 1)
    s.add("Add", ["first", "c"], "sum")
    return (s.add("Add", ["sum", "b"], "all"),)


def _missing_inputs(s: Sketch) -> tuple[str, ...]:
    """Optional inputs that are omitted by an empty name."""
    s.conv("x", "conv", 4, bias=False)
    s.nodes[-1].input.append("")
    s.add("Clip", ["conv", "", s.constant("most", np.float32(0.5))], "clip")
    return (s.bn("clip", "bn"),)


def _halved_range(s: Sketch) -> tuple[str, ...]:
    """Weights whose product overflows float32 although neither of them does."""
    s.conv(s.conv("x", "first", 4, 1, bias=False), "second", 4, 1, bias=False)
    for name in ("first", "second"):
        s.constants[f"{name}.weight"] = (s.constants[f"{name}.weight"] * 1e25).astype(np.float32)
    return ("second",)


def _vanishing(s: Sketch) -> tuple[str, ...]:
    """Weights whose product underflows float32 although the product with a later factor does not."""
    s.conv(s.conv("x", "first", 4, 1, bias=False), "second", 4, 1, bias=False)
    for name in ("first", "second"):
        s.constants[f"{name}.weight"] = (s.constants[f"{name}.weight"] * 1e-23).astype(np.float32)
    s.add("Relu", "second", "relu")
    s.add("Mul", ["relu", s.constant("huge", np.float32(1e30))], "large")
    return (s.add("Mul", ["large", s.constant("larger", np.float32(1e16))], "larger_still"),)


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "BN of opset 9 with five outputs": lambda: _older(9, _trained_by_outputs),
    "BN of opset 13 with five outputs": lambda: _older(13, _trained_by_outputs),
    "opset 8": lambda: _older(8, lambda s: (s.bn(s.conv("x", "conv", 4), "bn"),)),
    "opset 9 slices": lambda: _older(9, _sliced_by_attributes),
    "opset 9 words": lambda: _older(9, _old_words),
    "opset 10 words": lambda: _older(10, _old_words),
    "opset 9 padding with a value": lambda: _older(9, _padded_with_value),
    "weights below the normal range": lambda: _older(21, _vanishing, 10),
    "weights beyond the range": lambda: _older(21, _halved_range, 10),
    "automatic padding without a kernel size": lambda: _older(21, _automatic_with_dilation, 10),
    "automatic padding: none": lambda: _older(21, _valid, 10),
    "QLinearConv": lambda: _older(21, _quantized_convolution, 10),
    "ConvInteger": lambda: _older(21, _integer_convolution, 10),
    "matrix product along columns": lambda: _older(21, _multiplied_as_matrix, 10),
    "matrix product along channels": lambda: _older(21, _multiplied_along_channels, 10),
    "names of an inner graph": lambda: _older(21, _shadowed, 10),
    "scan": lambda: _older(21, _scanned, 10),
    "constants as attributes": lambda: _older(21, _constants_as_words, 10),
    "split in three": lambda: _older(21, _split, 10),
    "inputs left out": lambda: _older(21, _missing_inputs, 10),
}
"""Models that are not variants of a network."""


def _kinds(model: onnx.ModelProto, kind: str, other: str, without: tuple[str, ...]) -> Iterator[Made]:
    """Operations of one kind become another kind."""
    for node in model.graph.node:
        if node.op_type == kind:
            edit = Edit(model)
            edit.node(node.name).op_type = other
            edit.set(node.name, **dict.fromkeys(without))
            yield node.name, edit.done(), Expectation(outside=(node.name,))


def single(name: str) -> OnnxVariant:
    """The model of that name as a variant."""
    return OnnxVariant(name, MODELS[name](), FREE)


def variants(kind: str, seed: int = 1) -> Iterator[OnnxVariant]:
    """Every variant of that kind, of every network, in a fixed order."""
    for number, (network, build) in enumerate(NETWORKS.items()):
        for description, model, expectation in MUTATIONS[kind](build(seed + number)):
            yield OnnxVariant(f"{kind}, {network}: {description}", model, expectation)
