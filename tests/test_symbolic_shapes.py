"""Symbolic shapes: exact for every size of the inputs, opaque operations among them."""

from fractions import Fraction
from math import floor

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebranch.graph.analysis.shapes import infer_shapes, symbol_of
from onebranch.graph.analysis.symbolic_size import HEIGHT, WIDTH, as_size, floor_exactly, open_size
from onebranch.graph.onnx.constants import constants
from onebranch.graph.onnx.graph import read_graph
from onebranch.graph.onnx.inference import inferred_values
from onnx_networks import Sketch

SIDES = st.integers(1, 40)


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), min_size=1, max_size=3),
    st.integers(0, 3),
    SIDES,
)
def test_a_floor_of_floors_is_the_rounded_number(
    steps: list[tuple[int, int]], columns: int, height: int
) -> None:
    size, number = HEIGHT + WIDTH * columns, height + 7 * columns
    for slack, stride in steps:
        size = floor_exactly((size + slack) * Fraction(1, stride))
        number = floor(Fraction(number + slack, stride))
    assert size.evaluate({"H": height, "W": 7}) == number


def test_equal_sizes_have_equal_forms() -> None:
    half = Fraction(1, 2)
    twice = floor_exactly((floor_exactly((HEIGHT - 1) * half) + 1 - 1) * half) + 1
    assert twice == floor_exactly((HEIGHT + 3) * Fraction(1, 4))
    assert floor_exactly(HEIGHT * 3 - 2) == HEIGHT * 3 - 2


def strided() -> Sketch:
    """Two paths to a quarter of the size, a pixel shuffle, and a pool that rounds up."""
    s = Sketch(0, x=("batch", 4, "height", "width"))
    for name in ("a", "b"):
        s.conv("x", f"{name}1", 4, 3, strides=[2, 2])
        s.conv(f"{name}1", f"{name}2", 16, 3, strides=[2, 2])
    s.add("Add", ["a2", "b2"], "sum")
    s.add("DepthToSpace", "sum", "shuffled", blocksize=2)
    s.add("MaxPool", "x", "pooled", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    return s


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 14), (1, 3), (23, 5)])
def test_shapes_are_those_of_the_runtime(height: int, width: int) -> None:
    sketch = strided()
    names = ["a1", "sum", "shuffled", "pooled"]
    model = sketch.model(*names)
    known = constants(model)
    shapes = infer_shapes(read_graph(model, known), inferred_values(model, known))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(names, {"x": np.zeros((2, 4, height, width), np.float32)})
    sizes = {"batch": 2, "height": height, "width": width}
    symbols = {symbol_of(name): size for name, size in sizes.items()}
    for name, output in zip(names, outputs, strict=True):
        assert tuple(size.evaluate(symbols) for size in shapes[name]) == output.shape


def test_an_opaque_operation_has_the_shape_that_onnx_infers() -> None:
    sketch = Sketch(0, x=("batch", 4, "height", "width"), grid=("batch", "rows", "columns", 2))
    sketch.conv(sketch.add("GridSample", ["x", "grid"], "sampled"), "y", 8)
    model = sketch.model("y")
    known = constants(model)
    shapes = infer_shapes(read_graph(model, known), inferred_values(model, known))
    expected = [
        open_size(symbol_of("batch")),
        as_size(8),
        *(open_size(symbol_of(n)) for n in ("rows", "columns")),
    ]
    assert shapes["y"] == expected
