"""Edits of ONNX graphs, and edited graphs as variants that `mutations` judges."""

import copy
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from mutations import Arrays, Expectation, Merge
from onebranch.errors import OnebranchError
from onnx_networks import with_shapes

SIZES = ((1, 9, 8), (2, 7, 5), (1, 1, 1), (1, 1, 7), (3, 2, 3), (1, 8, 8))
"""Batch, height and width of the inputs whose sizes are open."""

TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}

Store = Callable[[onnx.ModelProto, Path], Path]
"""Writes a model into a folder; returns the file."""


class Edge(NamedTuple):
    """A use of a value: the index of the operation that reads it, the index of the input, the name."""

    reader: int
    input_index: int
    value: str


class Edit:
    """A copy of a model that can be changed; constants and operations by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = copy.deepcopy(model)
        self.graph = self.model.graph

    def nodes(self, *kinds: str) -> list[onnx.NodeProto]:
        """The operations of these kinds; all operations if no kind is given."""
        return [node for node in self.graph.node if not kinds or node.op_type in kinds]

    def node(self, name: str) -> onnx.NodeProto:
        """The operation of that name."""
        return next(node for node in self.graph.node if node.name == name)

    def constants(self) -> dict[str, np.ndarray]:
        """All initializers by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}

    def constant(self, name: str, value: Any) -> str:
        """Set or add an initializer; returns its name. Python numbers become float32."""
        array = np.asarray(value) if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        self.drop_constant(name)
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def drop_constant(self, name: str) -> None:
        """Remove the initializer of that name, if there is one."""
        kept = [tensor for tensor in self.graph.initializer if tensor.name != name]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def set(self, name: str, **attributes: Any) -> None:
        """Set attributes of the operation; None removes an attribute."""
        node = self.node(name)
        kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
        del node.attribute[:]
        node.attribute.extend(kept)
        given = {key: value for key, value in attributes.items() if value is not None}
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())

    def insert(self, index: int, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Insert an operation before that index; returns its name, which is also its output's name."""
        outputs = attributes.pop("outputs", [name])
        domain = attributes.pop("domain", None)
        node = helper.make_node(kind, list(inputs), outputs, name=name, domain=domain, **attributes)
        self.graph.node.insert(index, node)
        return name

    def on_edge(self, edge: Edge, kind: str, *others: str, name: str = "slipped", **attributes: Any) -> str:
        """Insert an operation, whose inputs are the value and `others`, between a value and a reader."""
        self.insert(edge.reader, kind, [edge.value, *others], name, **attributes)
        self.graph.node[edge.reader + 1].input[edge.input_index] = name
        return name

    def chain_on_edge(self, edge: Edge, steps: Sequence[tuple[str, Sequence[str], dict[str, Any]]]) -> None:
        """Insert several operations between a value and one of its readers.

        In a step's inputs, "_" is the output of the previous step, "$" the value, and "0", "1", ... are the
        outputs of earlier steps. The last output is called "slipped", the others "slipped0", "slipped1", ...
        """
        current, value = edge, edge.value
        for number, (kind, inputs, attributes) in enumerate(steps):
            name = "slipped" if number == len(steps) - 1 else f"slipped{number}"
            words = {"_": value, "$": edge.value} | {str(k): f"slipped{k}" for k in range(number)}
            read = [words.get(source, source) for source in inputs]
            self.insert(current.reader, kind, read, name, **attributes)
            current, value = current._replace(reader=current.reader + 1), name
        self.graph.node[current.reader].input[edge.input_index] = value

    def replace_reads(self, value: str, other: str, after: int = 0) -> None:
        """Make every operation from that index on read `other` instead of `value`."""
        for node in list(self.graph.node)[after:]:
            node.input[:] = [other if source == value else source for source in node.input]

    def index(self, name: str) -> int:
        """The index of the operation of that name."""
        return next(k for k, node in enumerate(self.graph.node) if node.name == name)

    def add_input(self, name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> str:
        """Add an input to the graph; returns its name."""
        self.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def add_output(self, name: str, kind: int = TensorProto.FLOAT) -> str:
        """Add an output to the graph; returns its name."""
        self.graph.output.append(helper.make_tensor_value_info(name, kind, None))
        return name

    def done(self) -> onnx.ModelProto:
        """The changed model, the shapes of its outputs inferred anew, unused constants dropped."""
        used = {name for node in self.graph.node for name in node.input} | _captured(self.graph)
        outputs = {value.name for value in self.graph.output}
        for name in set(self.constants()) - used - outputs:
            self.drop_constant(name)
        for value in self.graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        return with_shapes(self.model)


def _captured(graph: onnx.GraphProto) -> set[str]:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return {name for g in inner for node in g.node for name in node.input}.union(*map(_captured, inner))


def shapes(model: onnx.ModelProto, size: tuple[int, int, int] = SIZES[0]) -> dict[str, tuple[int, ...]]:
    """The shapes of all float32 values that operations make, and of the inputs, at that size."""
    fixed = copy.deepcopy(model)
    for value in fixed.graph.input:
        for dimension, length in zip(value.type.tensor_type.shape.dim, _lengths(value, size), strict=True):
            dimension.dim_value = length
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(fixed).graph
    known = [*inferred.input, *inferred.value_info, *inferred.output]
    floats = [value for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in floats}


def edges(model: onnx.ModelProto, ranks: Sequence[int] = (3, 4, 5)) -> Iterator[Edge]:
    """Every use of a feature map of one of these ranks."""
    known = shapes(model)
    for number, node in enumerate(model.graph.node):
        for index, value in enumerate(node.input):
            if len(known.get(value, ())) in ranks:
                yield Edge(number, index, value)


def _lengths(value: onnx.ValueInfoProto, size: tuple[int, int, int]) -> tuple[int, ...]:
    names = dict(zip(("N", "H", "W"), size, strict=True)) | {"D": 3}
    known = value.type.tensor_type.shape.dim
    words = value.doc_string.split() or [d.dim_param or str(d.dim_value) for d in known]
    return tuple(names[word] if word in names else int(word) for word in words)


@dataclass(frozen=True)
class OnnxVariant:
    """A changed graph. store: writes it to the file that is merged; None: the model itself is merged."""

    name: str
    model: onnx.ModelProto
    expectation: Expectation
    store: Store | None = None

    def inputs(self) -> list[Arrays]:
        """Random inputs of every size; at the example's size, inputs that have default values take them."""
        sizes = [tuple(_lengths(value, size) for value in self.model.graph.input) for size in SIZES]
        different = [self._random(shapes) for shapes in dict.fromkeys(sizes)]
        defaults, names = self._defaults(), [value.name for value in self.model.graph.input]
        usual = [defaults.get(name, value) for name, value in zip(names, different[0], strict=True)]
        return [usual, *different[0 if defaults.keys() & set(names) else 1 :]]

    def _random(self, shapes: tuple[tuple[int, ...], ...]) -> Arrays:
        random = np.random.default_rng(zlib.crc32(repr((self.name, shapes)).encode()))
        kinds = [value.type.tensor_type.elem_type for value in self.model.graph.input]
        return [_values(random, kind, shape) for kind, shape in zip(kinds, shapes, strict=True)]

    def _defaults(self) -> dict[str, np.ndarray]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def runner(self, model: Any) -> Callable[[Arrays], Arrays]:
        """A function that runs the original (None) or a merged graph.

        It uses ONNX Runtime or, if that cannot run the original, ONNX's reference implementation.
        """
        run = _session(self.model if model is None else model, self._evaluator())
        names = [value.name for value in self.model.graph.input]
        known = {value.name for value in (self.model if model is None else model).graph.input}
        defaults = self._defaults()

        def fed(arrays: Arrays) -> Arrays:
            feed = dict(zip(names, arrays, strict=True))
            for name in (set(feed) - known) & defaults.keys():
                if not np.array_equal(feed.pop(name), defaults[name]):
                    raise OnebranchError(f"'{name}' can no longer be given")
            return run(feed)

        return fed

    def _evaluator(self) -> Callable[[onnx.ModelProto], ReferenceEvaluator] | None:
        try:
            _session(self.model, None)
        except Exception:
            return ReferenceEvaluator
        return None

    def merge(self, merge: Merge, **options: Any) -> tuple[Any, Any]:
        """The merge of the graph, or of the file that it is stored in."""
        before = self.model.SerializeToString(deterministic=True)
        if self.store is None:
            result = merge(self.model, **options)
        else:
            with tempfile.TemporaryDirectory() as folder:
                result = merge(self.store(self.model, Path(folder)), **options)
        assert self.model.SerializeToString(deterministic=True) == before, "the merge changed its source"
        return result


def _values(random: np.random.Generator, kind: int, shape: tuple[int, ...]) -> np.ndarray:
    if kind == TensorProto.BOOL:
        return np.array(random.random(shape) < 0.5)
    if kind in TYPES:
        return np.asarray(random.normal(0.3, 1, shape)).astype(TYPES[kind])
    return np.asarray(random.integers(0, 3, shape)).astype(helper.tensor_dtype_to_np_dtype(kind))


def _session(
    model: onnx.ModelProto, instead: Callable[[onnx.ModelProto], ReferenceEvaluator] | None
) -> Callable[[dict[str, np.ndarray]], Arrays]:
    if instead is not None:
        evaluator = instead(model)
        return lambda feed: list(evaluator.run(None, feed))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))
