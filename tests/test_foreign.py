"""Third-party networks, unmodified, merged as PyTorch modules and ONNX files: equal, never more work."""

import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import foreign
import onebranch
from convolutions import Work, counted, counted_onnx
from foreign import NETWORKS, SPANDREL, TIMM, Network, pictures
from onebranch.errors import OnebranchError
from onebranch.merging.report import GraphReport

TOLERANCE = 1e-4
"""Relative to the largest float32 output; rounding alone reaches 1e-5 in the deepest networks."""


ALONE = ("Compact",)
"""Networks without adjacent linear operations: there is nothing to merge and nothing to report."""


FUSED = ("Gelu", "QuickGelu", "BiasGelu", "LayerNormalization", "FastGelu")
"""Operations that ONNX Runtime fuses from several nodes."""

TOKENS = ("levit_128s",)
"""Networks with BN after linear layers on tokens, which timm merges and onebranch does not."""


def each(networks: dict[str, Network]) -> list[object]:
    """Their names as parameters of a test, the slow ones marked."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if network.slow else [])
        for name, network in networks.items()
    ]


def reparameterized(module: nn.Module) -> nn.Module:
    """The module merged by timm's own code, as far as timm has any for it."""
    return importlib.import_module("timm.utils").reparameterize_model(module)


def run(session: onnxruntime.InferenceSession, picture: torch.Tensor) -> np.ndarray:
    """ONNX Runtime's output for a picture."""
    return session.run(None, {session.get_inputs()[0].name: picture.numpy()})[0]


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Within TOLERANCE of the largest value."""
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


def outputs(module: nn.Module, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The module's outputs for a picture of every size; some networks write into their input."""
    with torch.no_grad():
        return [module(pictures(*size)).numpy() for size in sizes]


def assert_no_more(after: Work, before: Work) -> None:
    """The merged network has no more convolutions, normalizations or multiply-accumulates."""
    assert len(after.convolutions) <= len(before.convolutions)
    assert after.normalizations <= before.normalizations
    assert after.macs <= before.macs


def assert_explained(name: str, report: GraphReport) -> None:
    """Something was merged or reported as unmerged, and every reason is one line."""
    assert report.changed or report.unmerged or name in ALONE
    assert all(left.name and left.reason and "\n" not in left.reason for left in report.unmerged)


TRACEABLE = {name: network for name, network in NETWORKS.items() if network.traceable}


@pytest.mark.parametrize("name", each(TRACEABLE))
def test_modules_stay_equal_and_cost_no_more(name):
    network = NETWORKS[name]
    module = network.module()
    sizes = network.sizes[:1] if network.windowed else network.sizes
    expected = outputs(module, sizes)
    stored = {key: value.clone() for key, value in module.state_dict().items()}
    merged, report = onebranch.merge(module, network.example())
    for actual, wanted in zip(outputs(merged, sizes), expected, strict=True):
        assert_close(actual, wanted)
    assert all(torch.equal(value, stored[key]) for key, value in module.state_dict().items())
    before, after = (counted(each, network.example()) for each in (module, merged))
    assert_no_more(after, before)
    assert_explained(name, report)
    if name in TIMM:
        timms = counted(reparameterized(module), network.example())
        assert len(after.convolutions) <= len(timms.convolutions)
        assert name in TOKENS or (after.macs <= timms.macs and after.normalizations <= timms.normalizations)


@pytest.mark.parametrize("name", each({name: net for name, net in NETWORKS.items() if net.windowed}))
def test_what_a_trace_does_not_hold_for_is_refused(name):
    network = NETWORKS[name]
    merged, _ = onebranch.merge(network.module(), network.example())
    with pytest.raises(OnebranchError, match="holds for sizes like its example's only"):
        merged(pictures(192, 256))


@pytest.mark.parametrize("name", each(NETWORKS))
def test_onnx_models_stay_equal_and_cost_no_more(name, tmp_path):
    network = NETWORKS[name]
    module, path = network.module(), tmp_path / "model.onnx"
    original = network.exported(module)
    onnx.save(original, path)
    merged, report = onebranch.merge(path)
    assert_runs_alike(merged, module, network)
    assert [value.name for value in merged.graph.input] == ["input"]
    assert merged.graph.input[0].type == original.graph.input[0].type
    before, after = (counted_onnx(each, network.example().numpy()) for each in (original, merged))
    assert after.convolutions <= before.convolutions
    assert after.macs <= before.macs
    assert fused(original, tmp_path) <= fused(merged, tmp_path)
    assert_explained(name, report)
    if name in TIMM:
        assert after.convolutions <= len(counted(reparameterized(module), network.example()).convolutions)


def fused(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operations that ONNX Runtime's optimizer puts in the place of several: no merge may hide one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    return Counter(node.op_type for node in nodes if node.op_type in FUSED)


def assert_runs_alike(merged: onnx.ModelProto, module: nn.Module, network: Network) -> None:
    """The merged model is valid and, in ONNX Runtime, equals the original module at every size."""
    onnx.checker.check_model(merged, full_check=True)
    session = onnxruntime.InferenceSession(merged.SerializeToString())
    for size, expected in zip(network.sizes, outputs(module, network.sizes), strict=True):
        assert_close(run(session, pictures(*size)), expected)


@pytest.mark.parametrize("name", each(NETWORKS))
def test_exports_are_unmerged(name):
    """The exported files still contain every convolution and every normalization."""
    network = NETWORKS[name]
    module = network.module()
    nodes = Counter(node.op_type for node in network.exported(module).graph.node)
    assert nodes["Conv"] == calls(module, nn.Conv2d, network.example())
    assert nodes["BatchNormalization"] == calls(module, _BatchNorm, network.example())


def calls(module: nn.Module, kind: type[nn.Module], example: torch.Tensor) -> int:
    """The number of calls of submodules of that kind."""
    counts: list[nn.Module] = []
    hooks = [
        part.register_forward_pre_hook(lambda part, _: counts.append(part))
        for part in module.modules()
        if isinstance(part, kind)
    ]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    return len(counts)


def test_span_as_it_trains_merges_through_onnx(tmp_path):
    """Every Conv3XC, four convolutions in training, becomes the one that it uses in evaluation."""
    network = SPANDREL["SPAN"]
    module, path = network.module(), tmp_path / "span.onnx"
    original = network.exported(module.train())
    onnx.save(original, path)
    merged, _ = onebranch.merge(path)
    assert_runs_alike(merged, module.eval(), network)
    models = original, merged, network.exported(module)
    before, after, evaluating = (counted_onnx(each, network.example().numpy()) for each in models)
    assert (before.convolutions, after.convolutions) == (4 * 20 + 2, 20 + 2)
    assert evaluating.convolutions == after.convolutions
    assert after.macs <= evaluating.macs < before.macs / 4


def test_span_as_it_evaluates_is_not_traced():
    """The network computes and stores weights while it runs; the attempt to trace it does not change it."""
    network = SPANDREL["SPAN"]
    module = network.module()
    expected = outputs(module, network.sizes)
    with pytest.raises(OnebranchError, match=r"cannot trace .*weights"):
        onebranch.merge(module, network.example())
    for actual, wanted in zip(outputs(module, network.sizes), expected, strict=True):
        assert (actual == wanted).all()


def test_a_network_in_training_mode_is_refused_by_name():
    network = TIMM["resnet10t"]
    module = network.module()
    module.layer2[0].bn1.train()
    with pytest.raises(OnebranchError, match=r"layer2\.0\.bn1"):
        onebranch.merge(module, network.example())


def test_foreign_networks_are_themselves():
    """timm and spandrel are used unmodified; only torchvision is replaced."""
    for package in ("timm", "spandrel"):
        assert "site-packages" in str(Path(importlib.import_module(package).__file__))
    assert foreign.torchvision_placeholder.__name__ == "torchvision_placeholder"
