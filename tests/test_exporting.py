"""Exported files give the model's own output in the programs that they are written for."""

import importlib.util
from dataclasses import replace

import msgspec
import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load

import onebranch.lowering.floats
from network_specs import network_specs, random_model
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.exporting import compact
from onebranch.exporting.compact import compact_bytes, export_compact
from onebranch.exporting.files import export
from onebranch.exporting.onnx import export_onnx
from onebranch.model.file import Model
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.shorthand import NetworkShorthand, expand


def compact_network(tensors: dict[str, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """Real-ESRGAN's SRVGGNetCompact, written down again in PyTorch from its forward method."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: Compact files were not run")
    functional = torch.nn.functional
    weights = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    last = max(int(name.split(".")[1]) for name in weights)
    start = values = torch.from_numpy(pictures)
    for index in range(last + 1):
        if f"body.{index}.bias" in weights:
            bias = weights[f"body.{index}.bias"]
            values = functional.conv2d(values, weights[f"body.{index}.weight"], bias, padding=1)
        else:
            values = functional.prelu(values, weights[f"body.{index}.weight"])
    scale = round((values.shape[1] / start.shape[1]) ** 0.5)
    shuffled = functional.pixel_shuffle(values, scale)
    return (shuffled + functional.interpolate(start, scale_factor=scale, mode="nearest")).numpy()


def plain(**options: object) -> NetworkSpec:
    """A network that Compact can hold."""
    usual = {"task": "upscale", "width": 6, "depth": 2, "branches": ("3x3",), "residual": "nearest"}
    return expand(NetworkShorthand(**usual | options))


@pytest.mark.parametrize("activation", ["prelu", "leaky_relu", "relu", "none"])
@pytest.mark.parametrize(
    "options",
    [
        {"scale": 2},
        {"scale": 4, "colour": "rgb"},
        {"task": "denoise", "colour": "rgb"},
        {"task": "denoise", "residual": "bicubic"},
        {"branches": ("1x1",)},
        {"branches": ("3x1 nobias",)},
    ],
)
def test_compact_files_run_as_the_model(activation: str, options: dict) -> None:
    model = random_model(plain(activation=activation, **options))
    pictures = np.random.default_rng(0).random((1, model.spec.channels, 9, 7), np.float32)
    expected = run_network(model.spec, model.weights, pictures.astype(np.float64))
    actual = compact_network(load(compact_bytes(model)), pictures)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (plain(residual="none"), "residual is 'none'"),
        (plain(residual="bicubic"), "residual is 'bicubic'"),
        (plain(branches=("3x3", "1x1")), "head is not one convolution; merge the network first"),
        (plain(branches=("5x5",)), "head is '5x5'"),
        (plain(branches=("3x3 d2",)), "head is '3x3 d2'"),
        (plain(branches=("1x1 3x3",)), "merge the network first"),
        (plain(activation="silu"), "activation 'silu'"),
        (plain(skips=(Skip(0, 1),)), "1 feature skip"),
        (plain(task="downscale"), "it reduces pictures"),
    ],
)
def test_what_compact_cannot_hold_is_refused_with_the_reason(spec: NetworkSpec, reason: str) -> None:
    with pytest.raises(OnebranchError, match=reason):
        compact_bytes(random_model(spec))


def test_widths_that_differ_are_refused() -> None:
    narrow = BlockSpec(("3x3",), 4, "prelu")
    spec = msgspec.structs.replace(plain(), blocks=(narrow,))
    with pytest.raises(OnebranchError, match=r"blocks\.0 is 4 channels wide where the head is 6"):
        compact_bytes(random_model(spec))


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs())
def test_onnx_files_run_as_the_model(spec: NetworkSpec) -> None:
    model = random_model(spec)
    session = onnxruntime.InferenceSession(export_onnx(model).data, providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).random((1, spec.channels, 5, 8), np.float32)
    expected = run_network(spec, model.weights, picture.astype(np.float64))
    actual = session.run(["output"], {"input": picture})[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_wrong_graph_is_not_written(tmp_path, monkeypatch) -> None:
    model = random_model(plain())
    right = onebranch.lowering.floats.lower
    shifted = {n: w + np.float32(1e-3) for n, w in model.weights.items()}
    monkeypatch.setattr(onebranch.lowering.floats, "lower", lambda spec, weights: right(spec, shifted))
    with pytest.raises(OnebranchError, match="off by"):
        export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_whole_and_never_over_others(tmp_path) -> None:
    model: Model = replace(random_model(plain()), name="small")
    export(model, tmp_path / "small.onnx")
    export(model, tmp_path / "small.safetensors", "compact")
    assert (tmp_path / "small.onnx").read_bytes() == export_onnx(model).data
    with pytest.raises(OnebranchError, match="exists"):
        export(model, tmp_path / "small.onnx")
    with pytest.raises(OnebranchError, match="unknown format 'onyx'; did you mean 'onnx'"):
        export(model, tmp_path / "small.onyx", "onyx")


@pytest.mark.parametrize(
    "options",
    [{"scale": 2}, {"scale": 4, "colour": "rgb"}, {"scale": 3, "colour": "rgb", "activation": "leaky_relu"}],
)
def test_spandrel_loads_and_runs_compact_files(options: dict) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: Compact files were not run in spandrel")
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed: Compact files were not run there")
    import torchvision_placeholder

    torchvision_placeholder.install()
    model = random_model(plain(**options))
    comparisons = export_compact(model).comparisons
    assert [one.runtime for one in comparisons] == [
        "the layout's definition",
        "spandrel, as RealESRGAN Compact,",
    ]
    assert all(one.error <= one.bound for one in comparisons)


def test_a_compact_file_that_is_off_is_not_written(tmp_path, monkeypatch) -> None:
    right = compact.compact_bytes
    shifted = {n: w + np.float32(1e-3) for n, w in random_model(plain()).weights.items()}
    monkeypatch.setattr(compact, "compact_bytes", lambda model: right(replace(model, weights=shifted)))
    with pytest.raises(OnebranchError, match=r"the Compact file is off by .* in the layout's definition"):
        export(random_model(plain()), tmp_path / "x.safetensors", "compact")
    assert list(tmp_path.iterdir()) == []
