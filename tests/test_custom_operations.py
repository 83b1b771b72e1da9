"""Files with operations of other domains and with local functions: what is known around them is merged."""

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onebranch.graph.merge.rewriting import Rules
from onebranch.merging.onnx import merge_onnx, verify_onnx
from onnx_networks import Sketch


def model_of(s: Sketch, domain: str) -> onnx.ModelProto:
    """The model that gives `y`, of the shape of `x`, with operations of another domain."""
    shape = ("batch", 4, "height", "width")
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", "y")]
    tensors = [numpy_helper.from_array(value, name) for name, value in s.constants.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph(s.nodes, "sketch", *ends, tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def with_custom_operation() -> onnx.ModelProto:
    """Two convolutions that merge, a plugin's operation, and two more."""
    s = Sketch(0, x=("batch", 4, "height", "width"))
    s.conv(s.conv("x", "a", 8, 1, bias=False), "b", 4, 3)
    s.add("FancyOp", "b", "fancy", domain="plugin")
    s.channels["fancy"] = 4
    s.add("Relu", s.conv(s.conv("fancy", "c", 8, 1, bias=False), "d", 4, 3), "y")
    return model_of(s, "plugin")


def test_regions_around_a_custom_operation_are_merged_and_the_report_says_what_was_proven() -> None:
    model = with_custom_operation()
    merged, report = merge_onnx(model, Rules())
    assert report.convolutions == (4, 2)
    assert [node.op_type for node in merged.graph.node] == ["Conv", "FancyOp", "Conv", "Relu"]
    assert report.check is None
    assert report.notes == (
        "only the merged regions were proven: ONNX Runtime does not know plugin::FancyOp",
    )
    assert verify_onnx(model, merged).changed


@pytest.mark.parametrize("domain", ["local", "pkg.blocks"])
def test_convolutions_in_local_functions_are_inlined_and_merged(domain: str) -> None:
    s = Sketch(0, x=("batch", 4, "height", "width"))
    s.conv("x", "a", 8, 1, bias=False)
    weight = s.normal("w", 4, 8, 3, 3)
    s.add("Block", ["a", weight], "b", domain=domain)
    s.channels["b"] = 4
    s.add("Relu", "b", "y")
    model = model_of(s, domain)
    body = [helper.make_node("Conv", ["p", "q"], ["r"], pads=[1, 1, 1, 1])]
    opsets = [helper.make_opsetid("", 21)]
    model.functions.append(helper.make_function(domain, "Block", ["p", "q"], ["r"], body, opsets))
    merged, report = merge_onnx(model, Rules())
    assert report.check is not None
    assert [node.op_type for node in merged.graph.node] == ["Conv", "Relu"]
    assert verify_onnx(model, merged).changed
