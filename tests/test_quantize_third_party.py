"""Third-party chains of convolutions as models of onebranch: the same outputs, then 8 bits; refusals."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command_line import CommandLine
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.writing import write as write_picture
from onebranch.model.catalogue import load
from onebranch.quantization.third_party import as_model
from onebranch.runtime import engine_library
from onebranch.runtime.selection import open_runtime

RANDOM = np.random.default_rng(0)


def chain(
    activation: str = "PRelu", scale: int = 2, residual: str = "nearest", channels: int = 3, **changes: object
) -> onnx.ModelProto:
    """A Compact-like network: three 3x3 convolutions of 8 channels, pixel shuffle, residual.

    changes: attributes of the second convolution.
    """
    constants: list[onnx.TensorProto] = []

    def constant(name: str, *shape: int, spread: float) -> str:
        values = (spread * RANDOM.standard_normal(shape)).astype(np.float32)
        constants.append(numpy_helper.from_array(values, name))
        return name

    nodes, value = [], "input"
    widths = (channels, 8, 8, channels * scale**2)
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = constant(f"weight{index}", outputs, inputs, 3, 3, spread=(9 * inputs) ** -0.5)
        bias = constant(f"bias{index}", outputs, spread=0.1)
        attributes = {"pads": [1, 1, 1, 1], **(changes if index == 1 else {})}
        nodes.append(helper.make_node("Conv", [value, weight, bias], [f"conv{index}"], **attributes))
        value = f"conv{index}"
        if index < 2:
            slopes = [constant(f"slopes{index}", outputs, 1, 1, spread=0.3)] if activation == "PRelu" else []
            options = {"alpha": 0.2} if activation == "LeakyRelu" else {}
            nodes.append(helper.make_node(activation, [value, *slopes], [f"active{index}"], **options))
            value = f"active{index}"
    if scale > 1:
        nodes.append(helper.make_node("DepthToSpace", [value], ["shuffled"], mode="CRD", blocksize=scale))
        value = "shuffled"
    if residual in ("nearest", "linear"):
        constants.append(numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"))
        rule = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        nodes.append(helper.make_node("Resize", ["input", "", "scales"], ["resized"], mode=residual, **rule))
    if residual:
        added = "resized" if residual in ("nearest", "linear") else residual
        nodes.append(helper.make_node("Add", [value, added], ["output"]))
    else:
        nodes.append(helper.make_node("Identity", [value], ["output"]))
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, h, w]) for n, h, w in SIDES]
    graph = helper.make_graph(nodes, "chain", sides[:1], sides[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


SIDES = (("input", "height", "width"), ("output", "tall", "wide"))


def saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    path = tmp_path / "2x_Chain.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "model",
    [
        chain(),
        chain("LeakyRelu", scale=4),
        chain("Relu", residual=""),
        chain(scale=1, residual="input", channels=1),
    ],
    ids=["Compact", "leaky", "relu", "denoise"],
)
def test_a_chain_becomes_a_model_that_equals_the_file(tmp_path, model):
    import onnxruntime

    actual = as_model(saved(tmp_path, model))
    picture = np.random.default_rng(1).random((1, actual.spec.channels, 21, 34), np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"input": picture})[0]
    output = open_runtime(actual, "auto").run(picture)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (chain("Sigmoid"), "Sigmoid 'active0' is not part of a chain"),
        (chain(pads=[2, 2, 2, 2], dilations=[2, 2]), "the dilations of Conv 'conv1' does not fit"),
        (chain(residual="linear"), "Add 'output' adds something else than the picture"),
        (chain(scale=1, residual="conv0"), "'conv0' is read by 2 operations where a chain has one"),
    ],
)
def test_other_networks_are_refused_with_the_operation(tmp_path, model, reason):
    with pytest.raises(OnebranchError) as error:
        as_model(saved(tmp_path, model))
    assert reason in str(error.value)
    assert "integers take a chain of dense convolutions" in str(error.value)


def test_models_of_onebranch_stay_what_they_are():
    model = load("photo-x2")
    assert as_model(model) is model
    assert as_model("photo-x2").name == "photo-x2"


@pytest.mark.skipif(bool(engine_library.available()), reason=engine_library.available() or "built")
def test_quantize_writes_a_file_with_its_loss_that_runs_in_integers(tmp_path, monkeypatch, capsys):
    run = CommandLine(monkeypatch, capsys)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(2).integers(0, 256, (4, 40, 44, 3), np.uint8)):
        write_picture(Picture(pixels), folder / f"{index}.png")
    source, target = saved(tmp_path, chain()), tmp_path / "int8.safetensors"
    refused = run.refused("quantize", source, "--calibrate", folder, "-o", target.with_suffix(".onnx"))
    assert "the quantized model is a file of onebranch; choose a name that ends in .safetensors" in refused
    outcome = run("quantize", source, "--calibrate", folder, "-o", target)
    assert outcome.code == 0, outcome.errors
    assert load(target).quantization["loss"]["pictures"] == 1
    result = tmp_path / "out.png"
    words = ["enhance", folder / "0.png", "-m", target, "--precision", "int8", "-o", result]
    assert run(*words).code == 0
    assert result.exists()
