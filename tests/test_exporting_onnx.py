"""ONNX files in every precision: their conventions, what they give where they run, and what is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings

from command_line import CommandLine
from network_specs import calm_model, network_specs, random_model
from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.exporting.comparison import integer_comparison
from onebranch.exporting.files import export
from onebranch.exporting.onnx import export_onnx, real_picture
from onebranch.graph.onnx import writing as writer
from onebranch.graph.operations import Graph
from onebranch.model.file import Model
from onebranch.model.file import write as save
from onebranch.runtime.onnxruntime import session_options
from onebranch.runtime.openvino import int8_saturates
from onebranch.spec.network import NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import crude_record

CALM = calm_model("rgb", task="upscale", scale=2, branches=("3x3",), depth=2, width=8)
QUANTIZED = replace(CALM, name="calm", quantization=crude_record(CALM, tightness=1.0))


def session_of(data: bytes) -> onnxruntime.InferenceSession:
    """The file in ONNX Runtime."""
    return onnxruntime.InferenceSession(data, session_options(1), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "float"), ("fp16", "float16"), ("int8", "float")])
def test_conventions_of_the_field(precision: str, kind: str) -> None:
    session = session_of(export_onnx(QUANTIZED, precision).data)
    (given_,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given_.name, made.name) == ("input", "output")
    assert given_.type == made.type == f"tensor({kind})"
    assert given_.shape == ["batch", 3, "height", "width"]
    assert made.shape == ["batch", 3, "output_height", "output_width"]
    facts = session.get_modelmeta().custom_metadata_map
    assert facts == {
        "name": "calm",
        "task": "upscale",
        "scale": "2",
        "colour": "rgb",
        "precision": precision,
    }
    for shape in ((2, 3, 1, 1), (1, 3, 5, 9)):
        picture = np.zeros(shape, np.float16 if precision == "fp16" else np.float32)
        made = session.run(None, {"input": picture})[0]
        assert made.shape == (shape[0], 3, 2 * shape[2], 2 * shape[3])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_same_model_gives_the_same_bytes(precision: str) -> None:
    again = replace(QUANTIZED, weights={name: value.copy() for name, value in QUANTIZED.weights.items()})
    assert export_onnx(QUANTIZED, precision).data == export_onnx(again, precision).data


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs())
def test_half_files_of_any_network_stand_their_comparison(spec: NetworkSpec) -> None:
    """Networks with random weights of every kind; the export raises if a file computes something else."""
    model = random_model(spec)
    exported = export_onnx(model, "fp16")
    kinds = {tensor.data_type for tensor in onnx.load_from_string(exported.data).graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    assert exported.comparisons[0].runtime == "onnxruntime"


def test_fp16_differs_by_its_rounding_only() -> None:
    picture = np.random.default_rng(1).random((1, 3, 20, 17), np.float32)
    expected = run_network(CALM.spec, CALM.weights, picture.astype(np.float64))
    actual = session_of(export_onnx(CALM, "fp16").data).run(None, {"input": picture.astype(np.float16)})[0]
    assert 2**-16 < np.abs(actual - expected).max() < 2**-8


def test_a_number_that_half_cannot_hold_is_refused() -> None:
    name = "tail.branches.0.0.bias"
    model = replace(CALM, weights={**CALM.weights, name: CALM.weights[name] + np.float32(1e5)})
    with pytest.raises(
        OnebranchError, match=r"'tail\.branches\.0\.0\.bias' reaches 100000; fp16 ends at 65,504"
    ):
        export_onnx(model, "fp16")


def test_integers_are_the_reference_on_a_real_picture() -> None:
    picture = real_picture(QUANTIZED.spec)
    expected = run_integer_network(QUANTIZED.spec, QUANTIZED.weights, QUANTIZED.quantization, picture)
    actual = session_of(export_onnx(QUANTIZED, "int8").data).run(None, {"input": picture})[0]
    off = np.abs(np.round(actual.clip(0, 1) * 255) - np.round(expected.clip(0, 1) * 255))
    assert (off.max(1) > 1).mean() <= 0.001
    floats = run_network(QUANTIZED.spec, QUANTIZED.weights, picture.astype(np.float64))
    assert np.abs(actual - expected).mean() < 0.1 * np.abs(floats - expected).mean()


def test_the_file_holds_integers() -> None:
    file = onnx.load_from_string(export_onnx(QUANTIZED, "int8").data)
    kinds = {tensor.name: tensor.data_type for tensor in file.graph.initializer}
    assert kinds["blocks.0.weight.integers"] == kinds["tail.weight.integers"] == onnx.TensorProto.INT8
    assert kinds["tail.bias.integers"] == onnx.TensorProto.INT32
    assert kinds["head.zero_point"] == onnx.TensorProto.UINT8
    assert "tail.zero_point" not in kinds
    assert file.opset_import[0].version >= 18


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_openvino_is_asked_where_installed(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert [comparison.runtime for comparison in export_onnx(QUANTIZED, precision).comparisons] == [
        "onnxruntime"
    ]
    monkeypatch.undo()
    pytest.importorskip("openvino", reason="OpenVINO is not installed: exported files were not run there")
    comparison = export_onnx(QUANTIZED, precision).comparisons
    skipped = precision == "int8" and int8_saturates()
    assert [one.runtime for one in comparison] == ["onnxruntime"] + ["openvino"] * (not skipped)
    assert all(one.error <= one.bound for one in comparison)


@pytest.mark.parametrize(("precision", "change"), [("fp32", 1e-3), ("fp16", 1e-2), ("int8", 3 / 255)])
def test_a_wrong_file_is_not_written(
    precision: str, change: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail's bias off by a little, after everything was checked."""
    right = writer.to_onnx

    def wrong(graph: Graph, metadata: dict[str, str] | None = None) -> bytes:
        constants = dict(graph.constants)
        if precision == "int8":
            units = np.rint(change / constants["tail.bias.scales"]).astype(np.int32)
            constants["tail.bias.integers"] = constants["tail.bias.integers"] + units
        else:
            name = "tail.branches.0.0.bias"
            constants[name] = constants[name] + constants[name].dtype.type(change)
        return right(replace(graph, constants=constants), metadata)

    monkeypatch.setattr(writer, "to_onnx", wrong)
    with pytest.raises(OnebranchError, match=f"the {precision} ONNX file is .*off by.*nothing is written"):
        export(QUANTIZED, tmp_path / "x.onnx", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_the_message_of_an_8_bit_file_names_saturation() -> None:
    expected = np.zeros((1, 3, 20, 20))
    actual = expected.copy()
    actual[0, 1, 3, :2] = 2.4 / 255
    comparison = integer_comparison("onnxruntime", actual, expected, "processors without VNNI")
    assert comparison.error == 2 / 400
    with pytest.raises(OnebranchError, match=r"off by up to 2 grey levels.*5\.0e-03 in onn.*without VNNI"):
        comparison.checked("int8 ONNX")
    actual[0, 1, 3, :2] = 1.4 / 255
    assert integer_comparison("onnxruntime", actual, expected).checked("int8 ONNX").error == 0
    actual[0] = np.nan
    assert integer_comparison("onnxruntime", actual, expected).error == 1


def test_int8_needs_a_record_and_precisions_have_names() -> None:
    with pytest.raises(OnebranchError, match=r"calm has no record of quantization.*onebranch quantize"):
        export_onnx(CALM, "int8")
    with pytest.raises(OnebranchError, match=r"unknown precision 'fp61'.*did you mean 'fp16'"):
        export_onnx(CALM, "fp61")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A quantized model in a file."""
    path = tmp_path / "calm.safetensors"
    save(Model(QUANTIZED.spec, QUANTIZED.weights, quantization=QUANTIZED.quantization), path)
    return path


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", "float32"), ("fp16", "float16"), ("int8", "float32")]
)
def test_export_says_what_it_compared(
    run: CommandLine, model: Path, tmp_path: Path, precision: str, kind: str
) -> None:
    done = run("export", model, "-o", tmp_path, "--to", "onnx", "--precision", precision)
    assert done.code == 0, done.errors
    assert (tmp_path / f"2x_calm_1x3xHxW_dyn-HW_{precision}_op18.onnx").exists()
    assert f"RGB in [0, 1] in and out, {kind}\n" in done.output
    assert "in onnxruntime (at most " in done.output


def test_export_keeps_its_older_option_and_refuses(run: CommandLine, model: Path, tmp_path: Path) -> None:
    assert run("export", model, "-o", tmp_path / "x.onnx", "--format", "onnx").code == 0
    words = ("export", model, "-o", tmp_path / "x.safetensors", "--to", "compact")
    assert "format 'compact' has no precision 'int8'; valid: fp32" in run.refused(
        *words, "--precision", "int8"
    )
    assert "residual is 'bicubic'" in run.refused(*words)
    help_ = " ".join(run("export", "--help").output.split())
    assert "--to" in help_ and "without VNNI" in help_ and "--format" not in help_


def test_a_network_without_blocks_exports() -> None:
    spec = expand(NetworkShorthand(task="denoise", depth=0, width=4, branches=("3x3",)))
    model = random_model(spec)
    model = replace(model, quantization=crude_record(model))
    assert [export_onnx(model, p).comparisons[0].runtime for p in ("fp32", "fp16")] == ["onnxruntime"] * 2
