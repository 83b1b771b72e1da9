"""Conversion of a graph to float16: constants, inputs and outputs; the operations are unchanged."""

from dataclasses import replace

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph, Value


def in_half(graph: Graph) -> Graph:
    """The graph with every float32 constant, input and output as float16.

    Raises OnebranchError if a constant exceeds the largest float16, 65,504.
    """
    return replace(
        graph,
        constants={name: _half(name, value) for name, value in graph.constants.items()},
        inputs={name: _half_value(value) for name, value in graph.inputs.items()},
        outputs={name: _half_value(value) for name, value in graph.outputs.items()},
    )


def _half(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype != np.float32:
        return value
    largest, limit = float(np.abs(value).max(initial=0)), float(np.finfo(np.float16).max)
    if largest > limit:
        raise OnebranchError(f"'{name}' reaches {largest:g}; fp16 ends at {limit:,.0f}, use fp32")
    return value.astype(np.float16)


def _half_value(value: Value) -> Value:
    return replace(value, kind="float16") if value.kind == "float32" else value
