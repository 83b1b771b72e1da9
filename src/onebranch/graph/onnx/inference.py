"""Element types and shapes by ONNX's own shape inference, for what the analysis does not support."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from onebranch.graph.onnx.graph import value_of
from onebranch.graph.operations import Value


def inferred_values(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> dict[str, Value]:
    """The type and shape of every value, as they follow from the inputs; unknown shapes are empty.

    Shapes that the file itself states for intermediate values and outputs are ignored: they may be wrong.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    _replace_computed_integers(copy.graph, constants)
    with suppress(Exception):  # onnx raises exceptions of several kinds for models that it cannot infer
        copy = shape_inference.infer_shapes(copy, data_prop=True)
    graph = copy.graph
    return {value.name: value_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}


def with_input_sizes(model: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """The model with open heights and widths fixed to these sizes in pixels, other open dimensions to 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        for axis, dimension in enumerate(dimensions):
            if dimension.dim_value < 1:
                is_spatial = len(dimensions) == 4 and axis > 1
                dimension.dim_value = (height, width)[axis - 2] if is_spatial else 1
    return copy


def _replace_computed_integers(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> None:
    """Replace integers computed from constants by initializers: shape inference folds only some of them."""
    integers = {name for name, array in constants.items() if array.dtype.kind in "iub"}
    folded = [node for node in graph.node if node.output and integers.issuperset(node.output)]
    names = sorted(name for node in folded for name in node.output)
    for node in folded:
        graph.node.remove(node)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(constants[name]), name) for name in names)
