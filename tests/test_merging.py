"""`onebranch.merge` and `verify` on modules and ONNX files: a merge is complete and proven, or refused."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

import onebranch
from foreign import exported
from onebranch.graph.merge.rewriting import Rules, merge_regions
from onebranch.graph.onnx.linear import read_linear
from onebranch.lowering.floats import lower
from onebranch.merging.onnx import merge_onnx
from onnx_networks import Sketch, with_shapes

pytestmark = pytest.mark.fast


class Block(torch.nn.Module):
    """A RepVGG block of a few channels, with statistics far from 0 and 1."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.large = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.small = torch.nn.Conv2d(channels, channels, 1, bias=False)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(channels) for _ in range(3))
        for norm in self.norms:
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.3, 3)
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)

    def forward(self, x):
        large, small, same = self.norms
        return torch.relu(large(self.large(x)) + small(self.small(x)) + same(x))


@pytest.fixture(scope="module")
def block() -> torch.nn.Module:
    return Block().eval()


@pytest.fixture(scope="module")
def merged(block):
    return onebranch.merge(block, torch.zeros(1, 6, 8, 8))


@pytest.fixture(scope="module")
def branches(tmp_path_factory) -> Path:
    """The shipped network with its branches, as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "branches.onnx"
    onebranch.export(onebranch.load("photo-x2-branches"), path)
    return path


def test_a_module_becomes_a_new_one_and_stays_untouched(block, merged):
    before = {name: value.clone() for name, value in block.state_dict().items()}
    module, report = onebranch.merge(block, torch.zeros(1, 6, 8, 8))
    assert report.changed and report.convolutions == (2, 1)
    for parameter in module.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_the_merged_module_equals_the_original_at_every_size(block, merged):
    module, report = merged
    for size in ((1, 1), (1, 7), (3, 3), (20, 33)):
        x = torch.randn(3, 6, *size)
        assert (module(x) - block(x)).abs().max() < 1e-5
    assert len(report.check.sizes) == 3 and report.check.error < 1e-5


def test_the_merged_module_is_an_ordinary_one(block, merged):
    module, _ = merged
    assert [type(layer).__name__ for layer in module.children()].count("Conv2d") == 1
    kept = io.BytesIO()
    torch.save(module.state_dict(), kept)
    copy, _ = onebranch.merge(block, torch.zeros(1, 6, 8, 8))
    kept.seek(0)
    copy.load_state_dict(torch.load(kept, weights_only=True))
    x = torch.randn(1, 6, 9, 9)
    module(x).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_training_mode_is_refused_by_name(block):
    module = torch.nn.Sequential(Block(), torch.nn.Conv2d(6, 6, 1)).eval()
    module[0].norms[1].train()
    with pytest.raises(onebranch.OnebranchError, match=r"'0.norms.1' \(BatchNorm2d\) is in training mode"):
        onebranch.merge(module, torch.zeros(1, 6, 8, 8))


def test_what_is_meant_is_never_guessed(block, branches):
    with pytest.raises(onebranch.OnebranchError, match="example inputs"):
        onebranch.merge(block)
    with pytest.raises(onebranch.OnebranchError, match="example inputs"):
        onebranch.merge(block, onebranch.MergePlan())
    with pytest.raises(onebranch.OnebranchError, match="merged by its graph"):
        onebranch.merge(branches, onebranch.MergePlan())
    with pytest.raises(onebranch.OnebranchError, match="takes a plan"):
        onebranch.merge("photo-x2-branches", force=True)
    with pytest.raises(onebranch.OnebranchError, match="did you mean 'force'"):
        onebranch.merge(branches, forse=True)
    with pytest.raises(onebranch.OnebranchError, match="'auto' or 'full'"):
        onebranch.merge(branches, proof="most")
    with pytest.raises(onebranch.OnebranchError, match="these two do not belong together"):
        onebranch.verify("photo-x2-branches", branches)


def test_two_routes_agree_on_the_shipped_network(branches):
    """The plan merge of our file, and the graph merge of the same network as ONNX, weight by weight."""
    by_graph, report = onebranch.merge(branches)
    by_plan, _ = onebranch.merge("photo-x2-branches")
    lowered = lower(by_plan.spec, by_plan.weights).constants
    weights = sorted((w for w in lowered.values() if w.ndim == 4), key=np.sum)
    graph = {t.name: numpy_helper.to_array(t) for t in by_graph.graph.initializer}
    actual = sorted((w for w in graph.values() if w.ndim == 4), key=np.sum)
    assert report.convolutions[1] == len(weights) == len(actual)
    for expected, given in zip(weights, actual, strict=True):
        assert np.abs(expected - given).max() <= 1e-6 * np.abs(expected).max()


def test_a_wide_region_is_proven_on_random_signs_and_fully_on_request(branches):
    model = onnx.load(branches)
    graph = read_linear(model)
    auto, full = (merge_regions(graph, Rules(proof=proof)) for proof in ("auto", "full"))
    assert {done.proof.agreement.combinations for r in full for done in r.merged} == {0}
    assert all(done.proof.agreement.error < 1e-12 for r in (*auto, *full) for done in r.merged)


def test_the_file_says_what_was_done_and_verifies(run, branches, tmp_path):
    out = tmp_path / "merged.onnx"
    text = run("merge", str(branches), "-o", str(out)).output
    assert "40 random signs" in text or "every unit impulse" in text
    assert "verified" in run("verify", str(branches), str(out)).output
    assert "exists" in run.refused("merge", branches, "-o", out)
    report = json.loads(run("merge", str(branches), "-o", str(tmp_path / "b.onnx"), "--json").output)
    assert report["changed"] and report["convolutions"][1] < report["convolutions"][0]
    assert out.read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("part", ["weight", "record", "original"])
def test_tampering_is_found(branches, tmp_path, part):
    merged, _ = onebranch.merge(branches)
    original = onnx.load(branches)
    tampered = merged if part != "original" else original
    if part == "record":
        entry = next(e for e in merged.metadata_props if e.key == "onebranch_merge")
        entry.value = entry.value.replace('"changed": true', '"changed": false')
    else:
        tensor = tampered.graph.initializer[0]
        values = numpy_helper.to_array(tensor) * np.float32(1.0001)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(onebranch.OnebranchError, match=r"differ|record"):
        onebranch.verify(original, merged)


def test_a_file_without_a_record_is_not_verified(branches):
    with pytest.raises(onebranch.OnebranchError, match="no record"):
        onebranch.verify(branches, biased_pair(bias=True))


def test_a_file_that_equals_its_original_verifies_and_says_so(run, tmp_path):
    """Merging writes the original where there is nothing to merge."""
    original, out = tmp_path / "original.onnx", tmp_path / "merged.onnx"
    onnx.save(biased_pair(bias=True), original)
    assert "nothing to merge" in run("merge", original, "-o", out).output
    words = run("verify", original, out).output
    assert "both files hold the same model; nothing was merged" in words and "equals" in words
    assert not onebranch.verify(original, out).changed


def test_plans_and_rules_do_not_mix_on_the_command_line(run, branches, tmp_path):
    out = str(tmp_path / "m.onnx")
    assert "merged by its graph" in run.refused("merge", branches, "-o", out, "--group", "size")
    assert "for ONNX files" in run.refused("merge", "photo-x2-branches", "-o", out, "--force")
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("model", "name", "rule"),
    [
        (None, "m.safetensors", "ends in .onnx"),
        (None, "m", "ends in .onnx"),
        ("photo-x2-branches", "m.onnx", "ends in .safetensors"),
    ],
)
def test_a_name_that_promises_another_format_is_refused(run, branches, tmp_path, model, name, rule):
    out = tmp_path / name
    assert rule in run.refused("merge", model or branches, "-o", out)
    assert not out.exists()


def biased_pair(bias: bool) -> onnx.ModelProto:
    """A 1x1 convolution into a zero-padded 3x3: one convolution without the first bias, none with it."""
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(12, 4, 1, 1)),
        "b": rng.normal(size=(4, 12, 3, 3)),
        "s": rng.normal(size=12),
    }
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "a", "s"] if bias else ["x", "a"], ["m"]),
        helper.make_node("Conv", ["m", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    kind = onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, ["n", 4, "h", "w"]) for name in "xy"]
    graph = helper.make_graph(nodes, "pair", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def outputs(model: onnx.ModelProto, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0]


def test_a_bias_before_padding_is_left_with_the_reason_or_repaired_when_allowed():
    plain, report = onebranch.merge(biased_pair(bias=False))
    assert len(plain.graph.node) == 1
    kept, report = onebranch.merge(biased_pair(bias=True))
    assert not report.changed and "border map" in report.unmerged[0].reason
    repaired, report = onebranch.merge(biased_pair(bias=True), border_maps=True)
    assert report.changed
    for size in ((1, 1), (1, 7), (3, 3), (17, 5)):
        picture = np.random.default_rng(1).random((2, 4, *size), np.float32)
        expected = outputs(kept, picture)
        assert np.abs(outputs(repaired, picture) - expected).max() < 1e-5 * np.abs(expected).max()


def test_what_costs_more_is_merged_only_by_force():
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(8, 8, 3, 3)).astype(np.float32) for name in "ab"}
    nodes = [helper.make_node("Conv", ["x", "a"], ["m"]), helper.make_node("Conv", ["m", "b"], ["y"])]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 8, "h", "w"]) for n in "xy"]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "pair", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    _, report = onebranch.merge(model)
    assert not report.changed and "MACs" in report.unmerged[0].reason
    forced, report = onebranch.merge(model, force=True)
    assert [node.op_type for node in forced.graph.node] == ["Conv"] and report.macs[1] > report.macs[0]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_constants_of_a_written_out_activation_are_its_own(approximate):
    """ONNX Runtime fuses the pattern into one operation; merging a constant out of it would prevent that."""
    layers = (torch.nn.Conv2d(3, 8, 1), torch.nn.GELU(approximate), torch.nn.Conv2d(8, 3, 3))
    module = torch.nn.Sequential(*layers, torch.nn.BatchNorm2d(3)).eval()
    original = exported(module, torch.rand(1, 3, 9, 9), free=True)
    merged, report = onebranch.merge(original)
    before, after = ([node.op_type for node in m.graph.node] for m in (original, merged))
    assert report.changed and "BatchNormalization" in before and "BatchNormalization" not in after
    assert set(before) >= {"Mul", "Add", "Erf" if approximate == "none" else "Tanh"}
    gone = ("BatchNormalization", "Identity")  # its statistics are passed on by identities
    assert sorted(kind for kind in before if kind not in gone) == sorted(after)


@pytest.mark.parametrize(("opset", "version"), [(9, 3), (9, 4), (13, 7), (21, 10)])
def test_a_merged_file_passes_the_full_check_and_holds_nothing_unread(opset: int, version: int) -> None:
    """Files before IR version 4 list every weight among the inputs."""
    s = Sketch(0, x=("batch", 4, "height", "width"))
    s.add("Relu", s.conv(s.conv("x", "first", 8, 1), "second", 4, 3), "y")
    s.add(
        "MatMul",
        [s.add("Flatten", s.add("GlobalAveragePool", "y", "mean"), "flat"), s.normal("m", 4, 6)],
        "z",
    )
    s.add("MatMul", ["z", s.normal("n", 6, 2)], "scores")
    model = s.model("y", "scores", opset=opset, version=version)
    if version < 4:
        model.graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
        )
    merged, report = merge_onnx(with_shapes(model), Rules())
    assert report.changed
    onnx.checker.check_model(merged, full_check=True)
    read = {name for node in merged.graph.node for name in node.input}
    assert {tensor.name for tensor in merged.graph.initializer} <= read
    assert report.parameters[1] < report.parameters[0]
    assert [value.name for value in merged.graph.input if version >= 4] == ["x"] * (version >= 4)
