"""The linear operations of an ONNX model, read into the graph of `graph.merge.linear`.

Whatever the operators' specification leaves open, or a caller may change, is left alone. Sizes are followed
as keys: values are added only where their sizes are equal for every picture.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from onebranch.algebra.padding import Padding
from onebranch.errors import OnebranchError
from onebranch.graph.merge.checks import (
    NotLinear,
    convolve,
    normalize,
    per_channel,
    same_padding,
    scale,
    size_after,
    transposed,
)
from onebranch.graph.merge.linear import (
    Average,
    Floats,
    Join,
    Linear,
    LinearGraph,
    Normalize,
    Pad,
    Pass,
    Plane,
    Select,
    Step,
    Sum,
    Unmerged,
)
from onebranch.graph.merge.window import Window, window
from onebranch.graph.onnx.activations import parts_of_activations
from onebranch.graph.onnx.constants import constants

OLDEST = 9
"""Operators of older opsets mean other things (broadcasting by attributes, spatial batch normalization)."""

EXAMPLE = 256
"""Height and width on which MACs are counted where the model leaves them open."""

PRECISIONS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}

FLOATS: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}

Read = tuple[Linear, tuple[str, ...]]
"""A linear operation, and the values that it reads."""


@dataclass
class _Model:
    """What the rules may ask about values. kinds: element types; shapes: static, named (str) or open
    (None)."""

    opset: int
    constants: dict[str, np.ndarray]
    kinds: dict[str, int]
    shapes: dict[str, list[int | str | None]]
    makers: dict[str, onnx.NodeProto]
    sizes: dict[str, tuple[Hashable, Hashable]] = field(default_factory=dict)
    absorbed: set[str] = field(default_factory=set)

    def channels(self, name: str) -> int:
        """Channels of a value (N, C, H, W) or (N, C) of floats. Raises NotLinear."""
        shape, kind = self.shapes.get(name), self.kinds.get(name)
        if kind in FLOATS:
            raise NotLinear(f"its numbers are {FLOATS[kind]}: merge the float32 model, then convert")
        if kind not in PRECISIONS:
            raise NotLinear("the type of its input is not known to be float32")
        if shape is None or len(shape) not in (2, 4):
            rank = "unknown" if shape is None else len(shape)
            raise NotLinear(f"its input has rank {rank}, not 4 (or 2)")
        if not isinstance(shape[1], int):
            raise NotLinear("its number of channels is not fixed")
        return shape[1]

    def constant(self, name: str, what: str) -> np.ndarray:
        """A constant. Raises NotLinear that calls it what it is."""
        if name not in self.constants:
            raise NotLinear(f"its {what} is not a constant")
        array = self.constants[name]
        if array.dtype == np.float16:
            raise NotLinear(f"its {what} is float16: merge the float32 model, then convert")
        return array

    def rank(self, name: str) -> int:
        """The rank of a value; 0 where it is not known."""
        return len(self.shapes.get(name) or ())


def read_linear(model: onnx.ModelProto, example: tuple[int, int] = (EXAMPLE, EXAMPLE)) -> LinearGraph:
    """The linear operations of the main graph.

    example: height and width on which MACs are counted where the model leaves them open. Raises
    OnebranchError for operators that are too old.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        raise OnebranchError(
            f"the model uses ONNX opset {opset}; {OLDEST} is the oldest understood: export it anew"
        )
    facts = _facts(model, opset)
    steps: list[Step] = []
    unmerged: list[Unmerged] = []
    made: set[str] = set()
    activations = parts_of_activations(model, facts.constants)
    for node in model.graph.node:
        if all(name in facts.constants for name in node.output if name) or activations & set(node.output):
            continue
        try:
            found = list(_read(node, facts))
        except NotLinear as reason:
            unmerged.append(Unmerged(node.output[0], f"{node.op_type}: {reason}"))
            continue
        steps += found
        made |= {step.value for step in found}
    counted = _counted_shapes(model, example, facts.constants)
    used = {name for step in steps for name in (step.value, *step.inputs)}
    planes = {name: _plane(name, facts, counted) for name in used}
    return LinearGraph(
        steps=tuple(steps),
        planes=planes,
        required=frozenset(_read_elsewhere(model, made, facts.absorbed)),
        names=frozenset(_names(model)),
        unmerged=tuple(unmerged),
    )


def _facts(model: onnx.ModelProto, opset: int) -> _Model:
    known = constants(model)
    inferred = _inferred(model, known)
    kinds, shapes = {}, {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        kinds[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = [
                d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
            ]
    makers = {name: node for node in model.graph.node for name in node.output}
    facts = _Model(opset, known, kinds, shapes, makers)
    for node in model.graph.node:
        _complete(node, facts)
    for name in [value.name for value in model.graph.input]:
        _follow(name, facts, None)
    for node in model.graph.node:
        following = _FOLLOWED.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        for name in node.output:
            if name:
                _follow(name, facts, following(node, facts) if following else None)
    return facts


def _complete(node: onnx.NodeProto, facts: _Model) -> None:
    """Note what a convolution or batch normalization says of the values around it: else it could not run."""
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] not in facts.constants:
        return
    weight, groups = facts.constants[node.input[1]], _attributes(node).get("group", 1)
    if node.op_type == "Conv" and weight.ndim == 4:
        known = {node.input[0]: weight.shape[1] * groups, node.output[0]: weight.shape[0]}
    elif node.op_type == "BatchNormalization" and facts.rank(node.input[0]) == 4:
        known = dict.fromkeys((node.input[0], node.output[0]), len(weight))
    else:
        return
    for name, channels in known.items():
        shape = facts.shapes.get(name) or [None] * 4
        facts.shapes[name] = [shape[0], channels, *shape[2:]]
    kinds = {facts.kinds.get(name) or 0 for name in known} - {0}
    for name in known if len(kinds) == 1 else ():
        facts.kinds[name] = next(iter(kinds))


def _inferred(model: onnx.ModelProto, known: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The model with the shapes that follow from its inputs; annotations, which may be wrong, are not
    believed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    _write_out(copy.graph, known)
    try:
        return shape_inference.infer_shapes(copy, data_prop=True)
    except Exception:  # what cannot be inferred is not known, whatever is raised
        return copy


def _write_out(graph: onnx.GraphProto, known: Mapping[str, np.ndarray]) -> None:
    """Replace whole numbers that are computed by what they are: shape inference computes some only."""
    whole = {name for name, array in known.items() if array.dtype.kind in "iub"}
    nodes = [node for node in graph.node if not (node.output and whole.issuperset(node.output))]
    gone = {name for node in graph.node for name in node.output if whole.issuperset(node.output)}
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(known[name]), name) for name in sorted(gone))


def _counted_shapes(
    model: onnx.ModelProto, example: tuple[int, int], known: Mapping[str, np.ndarray]
) -> dict[str, list[int]]:
    """Every value's shape when open heights and widths are those of the example, and other open sizes 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                dim.dim_value = example[axis - len(dims) + 2] if len(dims) == 4 and axis > 1 else 1
    inferred = _inferred(copy, known)
    return {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    }


def _plane(name: str, facts: _Model, counted: dict[str, list[int]]) -> Plane:
    shape = counted.get(name, [])
    vector = facts.rank(name) == 2
    pixels = (1, 1) if vector or len(shape) != 4 else (shape[2] or 1, shape[3] or 1)
    size = (("vector",), ("vector",)) if vector else facts.sizes[name]
    return Plane(facts.channels(name), size, pixels, vector, PRECISIONS[facts.kinds[name]])


def _names(model: onnx.ModelProto) -> Iterator[str]:
    graph = model.graph
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)


def _read_elsewhere(model: onnx.ModelProto, made: set[str], absorbed: set[str]) -> Iterator[str]:
    """Values that operations read which are not linear, or subgraphs, or callers of the model.

    absorbed: what nodes make that are parts of a linear operation, such as the first half of a shuffle; they
    count only where something else reads them.
    """
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in set(node.input):
            readers[name] = readers.get(name, 0) + 1
    inner = {name for name in absorbed if readers.get(name) == 1} - {v.name for v in model.graph.output}
    yield from (value.name for value in model.graph.output)
    for node in model.graph.node:
        if not made.intersection(node.output) and not inner.issuperset(node.output):
            yield from node.input
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _read_by(graph)


def _read_by(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name that a subgraph reads; its own ones do no harm."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read_by(inner)


# Sizes

Sizes = tuple[Hashable, Hashable]


def _follow(name: str, facts: _Model, found: Sizes | None) -> None:
    """Note the key of a value's height and width: static, named, followed from the inputs, or of its own."""
    shape = facts.shapes.get(name)
    known = shape[2:] if shape is not None and len(shape) == 4 else [None, None]
    own: tuple[Hashable, Hashable] = (("of", name, 0), ("of", name, 1))
    followed = found or own
    sizes = tuple(side if isinstance(side, int) else way for side, way in zip(known, followed, strict=True))
    if found is None:
        sizes = tuple(
            ("named", side) if isinstance(side, str) else way for side, way in zip(known, sizes, strict=True)
        )
    facts.sizes[name] = sizes[0], sizes[1]


def _same(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    return facts.sizes.get(node.input[0]) if node.input else None


def _broadcast(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    """The size of several values that are combined: of those of rank 4, if they agree or are one pixel."""
    sizes = [facts.sizes[name] for name in node.input if name in facts.sizes and name not in facts.constants]
    for name in node.input:
        shape = facts.constants[name].shape if name in facts.constants else ()
        if any(side != 1 for side in shape[-2:]) and len(shape) > 1:
            return None
    found = []
    for axis in (0, 1):
        large = {size[axis] for size in sizes if size[axis] != 1}
        if len(large) > 1:
            return None
        found.append(large.pop() if large else 1)
    return (found[0], found[1]) if sizes else None


def _joined_size(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    return _same(node, facts) if _attributes(node).get("axis") in (1, -3) else None


def _windowed(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    """Convolution and pooling."""
    attributes = _attributes(node)
    size = facts.sizes.get(node.input[0])
    kernel = attributes.get("kernel_shape")
    if kernel is None and len(node.input) > 1 and node.input[1] in facts.constants:
        kernel = facts.constants[node.input[1]].shape[2:]
    if size is None or kernel is None or len(kernel) != 2 or attributes.get("ceil_mode", 0):
        return None
    try:
        strides, dilations, pads = _geometry(attributes, kernel)
    except NotLinear:
        return None
    sides = (pads.top, pads.bottom), (pads.left, pads.right)
    windows = [window(kernel[a], dilations[a], strides[a], *sides[a]) for a in (0, 1)]
    return size_after(size[0], windows[0]), size_after(size[1], windows[1])


def _turned_size(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    """Transposed convolution of stride 1."""
    attributes, size = _attributes(node), facts.sizes.get(node.input[0])
    if size is None or node.input[1] not in facts.constants or "output_shape" in attributes:
        return None
    kernel = facts.constants[node.input[1]].shape[2:]
    try:
        strides, dilations, pads = _geometry(attributes, kernel)
    except NotLinear:
        return None
    if any(stride != 1 for stride in strides) or any(attributes.get("output_padding", ())):
        return None
    both = pads.height, pads.width
    grown = [dilations[a] * (kernel[a] - 1) - both[a] for a in (0, 1)]
    return size_after(size[0], Window(slack=grown[0] - 1)), size_after(size[1], Window(slack=grown[1] - 1))


def _padded_size(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    size = facts.sizes.get(node.input[0])
    try:
        pads = _pads_of(node, facts)
    except NotLinear:
        return None
    if size is None or len(pads) != 8:
        return None
    return tuple(  # type: ignore[return-value]
        size_after(size[a], Window(slack=int(pads[2 + a] + pads[6 + a]) - 1)) for a in (0, 1)
    )


def _rearranged(node: onnx.NodeProto, facts: _Model) -> Sizes | None:
    size, block = facts.sizes.get(node.input[0]), _attributes(node).get("blocksize")
    return None if size is None else ((node.op_type, block, size[0]), (node.op_type, block, size[1]))


_FOLLOWED: dict[str, Callable[[onnx.NodeProto, _Model], Sizes | None]] = {
    **dict.fromkeys(
        [
            "Identity",
            "Dropout",
            "Cast",
            "BatchNormalization",
            "Relu",
            "LeakyRelu",
            "PRelu",
            "Elu",
            "Selu",
            "Celu",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Tanh",
            "Softplus",
            "Softsign",
            "Erf",
            "Gelu",
            "Mish",
            "Swish",
            "Neg",
            "Abs",
            "Exp",
            "Log",
            "Sqrt",
            "Reciprocal",
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "Clip",
            "InstanceNormalization",
            "LpNormalization",
            "LRN",
            "GroupNormalization",
        ],
        _same,
    ),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Max", "Min"], _broadcast),
    **dict.fromkeys(["Conv", "MaxPool", "AveragePool", "LpPool"], _windowed),
    "ConvTranspose": _turned_size,
    "Concat": _joined_size,
    "Pad": _padded_size,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _rearranged),
}
"""What operations do to sizes; a value of any other has a size of its own."""


# Operations


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _read(node: onnx.NodeProto, facts: _Model) -> Iterator[Step]:
    """The linear operations that a node is; none where it is nothing of the kind. Raises NotLinear."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _RULES:
        return
    found = _RULES[node.op_type](node, facts)
    if found is None:
        return
    outputs = [name for name in node.output if name]
    if len(outputs) == len(found):
        for name, (operation, inputs) in zip(outputs, found, strict=True):
            facts.channels(name)
            yield Step(name, operation, inputs)


def _input(node: onnx.NodeProto, facts: _Model, rank: int | None = 4) -> tuple[str, int]:
    """The node's first input and its channels. Raises NotLinear."""
    name = node.input[0]
    if name in facts.constants:
        raise NotLinear("its input is a constant")
    channels = facts.channels(name)
    if rank is not None and facts.rank(name) != rank:
        raise NotLinear(f"its input has rank {facts.rank(name)}, not {rank}")
    return name, channels


def _geometry(
    attributes: dict[str, Any], kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], Padding]:
    """Strides, dilations and padding of a window. Raises NotLinear."""
    strides = tuple(attributes.get("strides", (1, 1)))
    dilations = tuple(attributes.get("dilations", (1, 1)))
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        return strides, dilations, same_padding(kernel, strides, dilations, automatic == "SAME_LOWER")
    if automatic == "VALID":
        return strides, dilations, Padding()
    pads = attributes.get("pads", (0, 0, 0, 0))
    if len(pads) != 4:
        raise NotLinear(f"it moves along {len(pads) // 2} axes, not 2")
    return strides, dilations, Padding.from_onnx(pads)


def _bias(node: onnx.NodeProto, facts: _Model) -> Floats | None:
    return facts.constant(node.input[2], "bias") if len(node.input) > 2 and node.input[2] else None


def _conv(node: onnx.NodeProto, facts: _Model) -> list[Read]:
    name, _ = _input(node, facts)
    weight = facts.constant(node.input[1], "weight")
    attributes = _attributes(node)
    strides, dilations, pads = _geometry(attributes, weight.shape[2:])
    groups = attributes.get("group", 1)
    return [(convolve(weight, _bias(node, facts), groups, strides, dilations, pads), (name,))]


def _conv_transpose(node: onnx.NodeProto, facts: _Model) -> list[Read]:
    name, _ = _input(node, facts)
    weight = facts.constant(node.input[1], "weight")
    attributes = _attributes(node)
    if "output_shape" in attributes or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise NotLinear("its padding follows from an output size")
    strides, dilations, pads = _geometry(attributes, weight.shape[2:])
    more = attributes.get("output_padding", (0, 0))
    groups = attributes.get("group", 1)
    found = transposed(weight, _bias(node, facts), groups, strides, dilations, pads, more)
    return [(found, (name,))]


def _gemm(node: onnx.NodeProto, facts: _Model) -> list[Read]:
    name, channels = _input(node, facts, rank=2)
    attributes = _attributes(node)
    if attributes.get("transA", 0):
        raise NotLinear("it transposes its input")
    matrix = facts.constant(node.input[1], "matrix").astype(np.float64) * attributes.get("alpha", 1.0)
    weight = matrix if attributes.get("transB", 0) else matrix.T
    bias = _bias(node, facts)
    shift = None if bias is None else per_channel(bias, len(weight), 2) * attributes.get("beta", 1.0)
    if weight.shape[1] != channels:
        raise NotLinear("its matrix does not fit its input")
    return [(convolve(weight[:, :, None, None], shift, 1, (1, 1), (1, 1), Padding()), (name,))]


def _matmul(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if node.input[1] not in facts.constants:
        return None
    if facts.rank(node.input[0]) != 2:
        raise NotLinear(f"it works on tokens (rank {facts.rank(node.input[0])})")
    name, _ = _input(node, facts, rank=2)
    matrix = facts.constants[node.input[1]]
    if matrix.ndim != 2:
        return None
    return [(convolve(matrix.T[:, :, None, None], None, 1, (1, 1), (1, 1), Padding()), (name,))]


def _batch_norm(node: onnx.NodeProto, facts: _Model) -> list[Read]:
    name, channels = _input(node, facts, rank=None)
    attributes = _attributes(node)
    if attributes.get("training_mode", 0) or len([output for output in node.output if output]) > 1:
        raise NotLinear(
            "batch normalization in training mode depends on the batch: export in evaluation mode"
        )
    numbers = [
        facts.constant(part, what)
        for part, what in zip(node.input[1:], ("weight", "bias", "mean", "variance"), strict=True)
    ]
    weight, bias, mean, variance = numbers
    found: Normalize = normalize(weight, bias, mean, variance, attributes.get("epsilon", 1e-5))
    if len(found.weight) != channels:
        raise NotLinear("its statistics do not fit its input")
    return [(found, (name,))]


def _arithmetic(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    """Addition and subtraction of two values; with a constant, also multiplication and division."""
    kind, (one, other) = node.op_type, node.input
    fixed = [name for name in (one, other) if name in facts.constants]
    if not fixed:
        return _combined(node, facts, (1, 1 if kind == "Add" else -1)) if kind in ("Add", "Sub") else None
    name = one if other in fixed else other
    if facts.rank(name) not in (2, 4) or (kind == "Div" and fixed[0] == one):
        return None
    channels = facts.channels(name)
    numbers = per_channel(facts.constant(fixed[0], "constant"), channels, facts.rank(name))
    if kind == "Div" and not numbers.all():
        raise NotLinear("it divides by zero")
    operation = {
        "Add": lambda: scale(channels, shift=numbers),
        "Sub": lambda: scale(channels, -1.0, numbers) if fixed[0] == one else scale(channels, shift=-numbers),
        "Mul": lambda: scale(channels, numbers),
        "Div": lambda: scale(channels, 1 / numbers),
    }[kind]()
    return [(operation, (name,))]


def _sum(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if any(name in facts.constants for name in node.input):
        return None
    return _combined(node, facts, (1,) * len(node.input))


def _combined(node: onnx.NodeProto, facts: _Model, signs: tuple[int, ...]) -> list[Read] | None:
    """The signed sum of values of one shape. Values of other ranks or types are nothing of ours."""
    names = tuple(node.input)
    if any(facts.rank(name) not in (2, 4) or facts.kinds.get(name) not in PRECISIONS for name in names):
        return None
    widths = {facts.channels(name) for name in names}
    if len(widths) > 1 or len({facts.rank(name) for name in names}) > 1:
        raise NotLinear("it adds values of different shapes, one of them broadcast")
    if facts.rank(names[0]) == 4 and len({facts.sizes[name] for name in names}) > 1:
        raise NotLinear("the sizes of the values that it adds are not known to be equal for every input")
    return [(Sum(signs), names)]


def _negated(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if facts.rank(node.input[0]) not in (2, 4):
        return None
    name, channels = _input(node, facts, rank=None)
    return [(scale(channels, -1.0), (name,))]


def _passed(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    name = node.input[0]
    if facts.rank(name) not in (2, 4) or facts.kinds.get(name) not in PRECISIONS or name in facts.constants:
        return None
    if node.op_type == "Cast" and _attributes(node)["to"] != facts.kinds[name]:
        return None
    if node.op_type == "Dropout":
        if len([output for output in node.output if output]) > 1:
            return None
        if facts.opset >= 12 and len(node.input) > 2 and node.input[2]:
            training = facts.constants.get(node.input[2])
            if training is None or training.any():
                raise NotLinear("dropout in training mode is random: export in evaluation mode")
    return [(Pass(), (name,))]


def _concat(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    names = tuple(node.input)
    rank = facts.rank(names[0])
    if rank not in (2, 4) or any(facts.kinds.get(name) not in PRECISIONS for name in names):
        return None
    if _attributes(node).get("axis") not in (1, 1 - rank):
        return None
    if any(name in facts.constants for name in names):
        raise NotLinear("it joins a value and a constant")
    for name in names:
        facts.channels(name)
    return [(Join(), names)]


def _slice(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    """A slice of the channels; slices of rows or columns are none of ours."""
    if facts.rank(node.input[0]) not in (2, 4) or facts.kinds.get(node.input[0]) not in PRECISIONS:
        return None
    name, channels = _input(node, facts, rank=None)
    attributes = _attributes(node)
    if facts.opset < 10:
        parts = [attributes.get(key) for key in ("starts", "ends", "axes")]
    else:
        given = [*node.input[1:], "", "", ""][:4]
        parts = [facts.constants[key].tolist() if key in facts.constants else None for key in given]
        if any(key and key not in facts.constants for key in given):
            raise NotLinear("where it begins and ends is not a constant")
    starts, ends, axes = parts[:3]
    steps = parts[3] if len(parts) > 3 and parts[3] else [1] * len(starts or ())
    if starts is None or ends is None:
        return None
    rank = facts.rank(name)
    chosen = [axis % rank for axis in (axes if axes is not None else range(len(starts)))]
    if chosen != [1]:
        return None
    indices = range(channels)[slice(_clipped(starts[0]), _clipped(ends[0]), steps[0])]
    return [(Select(tuple(indices)), (name,))]


def _clipped(number: int) -> int:
    return int(max(-(1 << 40), min(1 << 40, number)))


def _split(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if facts.rank(node.input[0]) not in (2, 4) or facts.kinds.get(node.input[0]) not in PRECISIONS:
        return None
    name, channels = _input(node, facts, rank=None)
    attributes = _attributes(node)
    if attributes.get("axis", 0) not in (1, 1 - facts.rank(name)):
        return None
    if not all(node.output):
        return None
    widths = [facts.channels(output) for output in node.output]
    if sum(widths) != channels:
        raise NotLinear("the sizes of its parts are not known")
    starts = np.cumsum([0, *widths])
    return [
        (Select(tuple(range(first, first + width))), (name,))
        for first, width in zip(starts.tolist(), widths, strict=False)
    ]


def _gather(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if facts.rank(node.input[0]) not in (2, 4) or facts.kinds.get(node.input[0]) not in PRECISIONS:
        return None
    if _attributes(node).get("axis", 0) not in (1, 1 - facts.rank(node.input[0])):
        return None
    name, channels = _input(node, facts, rank=None)
    indices = facts.constants.get(node.input[1])
    if indices is None or indices.ndim != 1:
        return None
    return [(Select(tuple(int(index) % channels for index in indices)), (name,))]


def _pads_of(node: onnx.NodeProto, facts: _Model) -> list[int]:
    """Eight numbers, before and after each axis. Raises NotLinear."""
    if facts.opset < 11:
        return [int(number) for number in _attributes(node)["pads"]]
    if len(node.input) > 3 and node.input[3]:
        axes = facts.constant(node.input[3], "list of axes").tolist()
        pads = facts.constant(node.input[1], "padding").tolist()
        result = [0] * 8
        for number, axis in enumerate(axes):
            result[axis % 4], result[4 + axis % 4] = pads[number], pads[number + len(axes)]
        return result
    return [int(number) for number in facts.constant(node.input[1], "padding")]


def _pad(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    if facts.rank(node.input[0]) != 4 or facts.kinds.get(node.input[0]) not in PRECISIONS:
        return None
    attributes = _attributes(node)
    if attributes.get("mode", b"constant") != b"constant":
        return None
    name, _ = _input(node, facts)
    value = attributes.get("value", 0.0)
    if facts.opset >= 11 and len(node.input) > 2 and node.input[2]:
        value = float(facts.constant(node.input[2], "padding value").reshape(()))
    pads = _pads_of(node, facts)
    if pads[0] or pads[1] or pads[4] or pads[5]:
        raise NotLinear("it pads the batch or the channels")
    sides = Padding(top=pads[2], bottom=pads[6], left=pads[3], right=pads[7])
    if min(sides.to_onnx()) < 0:
        raise NotLinear("it crops (negative padding)")
    if not np.isfinite(value):
        raise NotLinear("it pads with a value that is not finite")
    return [(Pad(sides, value), (name,))]


def _average_pool(node: onnx.NodeProto, facts: _Model) -> list[Read]:
    name, _ = _input(node, facts)
    attributes = _attributes(node)
    kernel = tuple(attributes["kernel_shape"])
    strides, dilations, pads = _geometry(attributes, kernel)
    if attributes.get("ceil_mode", 0):
        raise NotLinear("it rounds sizes up (ceil_mode)")
    if pads and not attributes.get("count_include_pad", 0):
        raise NotLinear("it does not count its padding (count_include_pad)")
    if set(dilations) != {1}:
        raise NotLinear("an average pool with dilation is not understood")
    return [(Average(kernel, strides, pads, kernel[0] * kernel[1]), (name,))]  # type: ignore[arg-type]


def _tile(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    """Repetition of the channels."""
    if facts.rank(node.input[0]) not in (2, 4) or facts.kinds.get(node.input[0]) not in PRECISIONS:
        return None
    name, channels = _input(node, facts, rank=None)
    repeats = facts.constant(node.input[1], "number of repetitions").tolist()
    if any(count != 1 for axis, count in enumerate(repeats) if axis != 1):
        return None
    return [(Select(tuple(range(channels)) * repeats[1]), (name,))]


def _reshape(node: onnx.NodeProto, facts: _Model) -> list[Read] | None:
    """The last step of a channel shuffle: (N, G C, H, W) as (N, G, C, H, W), axes 1 and 2 exchanged, back."""
    exchange = facts.makers.get(node.input[0])
    first = facts.makers.get(exchange.input[0]) if exchange and exchange.op_type == "Transpose" else None
    if exchange is None or first is None or first.op_type != "Reshape":
        return None
    name, middle = first.input[0], facts.shapes.get(exchange.input[0])
    before, behind = facts.shapes.get(name), facts.shapes.get(node.output[0])
    if _attributes(exchange).get("perm") != [0, 2, 1, 3, 4] or not before or not behind or not middle:
        return None
    if (len(before), len(middle), len(behind)) != (4, 5, 4) or name in facts.constants:
        return None
    same = all(
        side is not None and side == other == last
        for side, other, last in zip(
            (before[0], *before[2:]), (middle[0], *middle[3:]), (behind[0], *behind[2:]), strict=True
        )
    )
    groups, width = middle[1:3]
    channels = facts.channels(name)
    if not same or not isinstance(groups, int) or not isinstance(width, int) or groups * width != channels:
        return None
    facts.absorbed |= {exchange.output[0], first.output[0]}
    indices = np.arange(channels).reshape(groups, width).T.reshape(-1)
    return [(Select(tuple(indices.tolist())), (name,))]


_RULES: dict[str, Callable[[onnx.NodeProto, _Model], list[Read] | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Sum": _sum,
    "Neg": _negated,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _passed),
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "AveragePool": _average_pool,
    "Tile": _tile,
    "Reshape": _reshape,
}
"""Every operator that may be linear; each rule gives what it is, None (none of ours), or says why not."""
