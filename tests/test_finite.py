"""NaN and infinity: such a result fails, by name and in one line, in every runtime; nothing is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from command_line import CommandLine
from network_specs import calm_model
from onebranch.enhancer.enhancer import enhance
from onebranch.enhancer.folders import enhance_files
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.runtime.selection import installed

RUNTIMES = [name for name in ("engine", "onnxruntime", "openvino", "torch") if installed(name)]


@pytest.fixture
def divides(tmp_path: Path) -> Path:
    """An ONNX file that divides a picture by its mean: NaN for a black one."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Div", ["x", "mean"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "height", "width"])
        for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "divides", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "divides.onnx")
    return tmp_path / "divides.onnx"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_results_that_overflow_fail(runtime: str) -> None:
    model = calm_model("rgb", task="upscale", scale=2)
    huge = {name: weight * np.float32(1e30) for name, weight in model.weights.items()}
    picture = Picture(np.full((9, 9, 3), 200, np.uint8))
    with pytest.raises(OnebranchError, match="gives NaN or infinity for this picture"):
        enhance(picture, replace(model, weights=huge), runtime=runtime, threads=1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_pictures_whose_result_overflows_fail(runtime: str) -> None:
    model = calm_model("rgb", task="upscale", scale=2)
    picture = Picture(np.full((9, 9, 3), 3e38, np.float32))
    picture.pixels[::2] *= -1
    with pytest.raises(OnebranchError, match="gives NaN or infinity for this picture"):
        enhance(picture, model, runtime=runtime, threads=1)


def test_a_black_picture_in_a_batch_fails_by_name(divides: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, value in (("black", 0), ("grey", 100)):
        Image.new("RGB", (12, 10), (value,) * 3).save(tmp_path / "in" / f"{name}.png")
    summary = enhance_files([tmp_path / "in"], tmp_path / "out", Options(model=divides, threads=1))
    (failed,) = summary.failed
    assert "black.png': the network 'divides' gives NaN or infinity" in failed.reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["grey.png"]


def test_an_animation_with_one_such_frame_fails(
    divides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (12, 10), (value,) * 3) for value in (90, 0, 200)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], duration=50)
    run = CommandLine(monkeypatch, capsys)
    done = run("enhance", tmp_path / "in.gif", "-o", tmp_path / "out.gif", "-m", divides)
    assert done.code == 1
    assert done.errors.count("\n") == 1 and "in.gif': the network 'divides' gives NaN" in done.errors
    assert not (tmp_path / "out.gif").exists()
