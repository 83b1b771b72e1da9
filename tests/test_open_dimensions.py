"""Dimensions of -1 and 0 in an ONNX file are open, in every command that reads it."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from command_line import CommandLine
from onebranch.graph.onnx.file import write
from onnx_networks import Sketch


def two_convolutions(open_size: int) -> onnx.ModelProto:
    """Two convolutions that merge, and an input whose open dimensions are written as `open_size`."""
    s = Sketch(0, x=("batch", 3, "height", "width"))
    model = s.model(s.add("Relu", s.conv(s.conv("x", "first", 12, 1, bias=False), "second", 3, 3), "y"))
    for value in (*model.graph.input, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_value = open_size
    return model


@pytest.mark.parametrize("open_size", [-1, 0])
def test_such_a_file_is_merged_verified_and_described(
    open_size: int, run: CommandLine, tmp_path: Path
) -> None:
    path, merged = tmp_path / "x.onnx", tmp_path / "merged.onnx"
    write(two_convolutions(open_size), path)
    run("merge", path, "-o", merged)
    run("verify", path, merged)
    facts = json.loads(run("info", "--json", merged).output)
    assert facts["runs"], facts["refusal"]
    assert "fixed_size" not in facts
    session = onnxruntime.InferenceSession(merged, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((1, 3, 9, 7), np.float32)})[0].shape == (1, 3, 9, 7)
