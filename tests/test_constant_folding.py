"""Weights computed from weights: folded exactly, and never merged as if they were pictures."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onebranch.graph.merge.rewriting import Rules
from onebranch.graph.onnx.constants import FOLDABLE, constants
from onebranch.merging.onnx import merge_onnx, verify_onnx
from onnx_networks import Sketch


def composed(s: Sketch, name: str, outputs: int, inputs: int) -> str:
    """A 3x3 kernel that the graph composes of a 1x1 and a 3x3 one, as ECBSR does in evaluation."""
    first, second = (
        s.normal(f"{name}.first", 2 * outputs, inputs, 1, 1),
        s.normal(f"{name}.w", outputs, 2 * outputs, 3, 3),
    )
    swapped = s.add("Transpose", first, f"{name}.swapped", perm=[1, 0, 2, 3])
    return s.add("Conv", [second, swapped], f"{name}.composed")


def gated(s: Sketch, name: str, weight: str) -> str:
    """The kernel times gates of constants: Softmax, Tanh, Sigmoid and Clip, combined by Einsum."""
    gates = s.add("Softmax", s.normal(f"{name}.scores", 4), f"{name}.softmax", axis=0)
    gates = s.add("Add", [gates, s.add("Tanh", s.normal(f"{name}.t", 4), f"{name}.tanh")], f"{name}.sum")
    limits = [s.constant(f"{name}.{k}", np.array(v, np.float32)) for k, v in (("low", 0.1), ("high", 2.0))]
    gates = s.add("Clip", [s.add("Sigmoid", gates, f"{name}.sigmoid"), *limits], f"{name}.gates")
    return s.add("Einsum", [weight, gates], f"{name}.gated", equation="oikl,o->oikl")


def network() -> onnx.ModelProto:
    s = Sketch(0, x=("batch", 4, "height", "width"))
    s.add("Conv", ["x", composed(s, "a", 4, 4), s.normal("a.bias", 4)], "a", pads=[1, 1, 1, 1])
    s.add(
        "Conv", [s.add("Relu", "a", "a.relu"), gated(s, "b", composed(s, "b", 4, 4))], "b", pads=[1, 1, 1, 1]
    )
    return s.model(s.add("Relu", "b", "y"))


def output(model: onnx.ModelProto, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": picture})[0]
    return result


def test_weights_computed_from_weights_are_folded() -> None:
    original = network()
    merged, report = merge_onnx(original, Rules())
    assert report.convolutions == (4, 2)
    assert [node.op_type for node in merged.graph.node] == ["Conv", "Relu", "Conv", "Relu"]
    assert report.parameters[1] <= report.parameters[0]
    picture = np.random.default_rng(1).random((2, 4, 7, 9), np.float32)
    np.testing.assert_allclose(output(merged, picture), output(original, picture), rtol=0, atol=1e-5)
    assert verify_onnx(original, merged).changed
    assert merge_onnx(merged, Rules())[0] is merged


def test_convolutions_of_weights_are_not_merged_as_pictures() -> None:
    """A quantized weight is not folded, and the convolution that composes it is not a picture's."""
    s = Sketch(0, x=("batch", 4, "height", "width"))
    s.constant("q", np.random.default_rng(0).integers(-9, 9, (4, 8, 3, 3)).astype(np.int8))
    s.add("DequantizeLinear", ["q", s.constant("scale", np.array(0.1, np.float32))], "kernel")
    s.add("Conv", ["kernel", s.normal("one", 8, 8, 1, 1)], "half")
    s.add("Conv", ["half", s.normal("two", 4, 8, 1, 1)], "weight")
    model = s.model(s.add("Conv", ["x", "weight"], "y", pads=[1, 1, 1, 1]))
    merged, report = merge_onnx(model, Rules())
    assert merged is model
    reasons = {entry.name: entry.reason for entry in report.unmerged}
    assert "computes a weight from weights" in reasons["half"]
    assert "computes a weight from weights" in reasons["weight"]
    assert "its weight is not a constant" in reasons["y"]


@pytest.mark.parametrize("kind", ["Floor", "Round", "Ceil", "Sign"])
def test_an_operation_that_jumps_is_folded_as_the_runtime_computes_it(kind: str) -> None:
    """0.1 * 3 / 0.3 is 1.0000001 in float32 and 0.9999999 in float64, or the other way round."""
    values = np.linspace(0.1, 4, 200, dtype=np.float32)
    s = Sketch(0, x=(1, 1))
    three, third = s.constant("a", np.array(3, np.float32)), s.constant("b", np.array(0.3, np.float32))
    s.add("Div", [s.add("Mul", [s.constant("v", values), three], "m"), third], "d")
    s.add("Sub", ["d", s.constant("tenth", np.array(10, np.float32) * values)], "noise")
    model = s.model(s.add(kind, "noise", "jumped"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(
        constants(model)["jumped"], session.run(["jumped"], {"x": np.zeros((1, 1), np.float32)})[0]
    )


def test_random_operations_are_not_constants() -> None:
    assert not FOLDABLE & {"RandomNormal", "RandomUniformLike", "Bernoulli", "Dropout", "Multinomial"}
    nodes = [helper.make_node("RandomNormalLike", ["w"], ["r"])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [2])], [weight]
    )
    assert set(constants(helper.make_model(graph))) == {"w"}
