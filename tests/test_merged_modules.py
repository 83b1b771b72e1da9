"""Merged PyTorch modules are ordinary ones: copied, pickled, saved; odd modules get a clear answer."""

import copy
import io
import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from rich.console import Console

import onebranch
import onebranch.exporting.torch_module
from onebranch.cli.proof import print_graph_report
from onebranch.errors import OnebranchError

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*LeafSpec.*:FutureWarning"
    ),  # a warning of PyTorch about its own code
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # another one
]


class Bordered(torch.nn.Module):
    """Overwrites the border of its features with a constant, as DBB and ECB do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.pad(self.first(x), (1, 1, 1, 1))
        border = self.first.bias.view(1, -1, 1, 1)
        y[:, :, 0:1, :] = border
        y[:, :, -1:, :] = border
        y[:, :, :, 0:1] = border
        y[:, :, :, -1:] = border
        return self.second(y)


@pytest.fixture(scope="module")
def bordered() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The module and its merge; nothing changes them."""
    original = Bordered().eval()
    merged, report = onebranch.merge(original, torch.rand(1, 3, 8, 8))
    assert report.convolutions == (2, 1)
    return original, merged


def saved(module: torch.nn.Module) -> torch.nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("kept", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), saved])
def test_a_merged_module_is_kept_as_it_is(bordered, kept):
    original, merged = bordered
    again = kept(kept(merged))
    for size in ((1, 3, 5, 7), (2, 3, 9, 4)):
        x = torch.rand(*size)
        assert torch.equal(again(x), merged(x))
        torch.testing.assert_close(again(x), original(x), rtol=0, atol=1e-5)
    assert again.state_dict().keys() == merged.state_dict().keys()


def test_a_kept_module_still_refuses_sizes_that_its_trace_does_not_hold_for():
    class Fixed(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y + 1 if x.shape[2] == 8 else y

    module = Fixed(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 1)).eval()
    merged, _ = onebranch.merge(module, torch.rand(1, 3, 8, 8))
    with pytest.raises(onebranch.OnebranchError, match="holds for sizes like its example's only"):
        saved(merged)(torch.rand(1, 3, 9, 9))


class InPlace(torch.nn.Module):
    """In-place operations of common networks, beside branches that can be merged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = torch.nn.ModuleList(torch.nn.Conv2d(4, 4, k, padding=k // 2) for k in (3, 1, 3))
        self.norm = torch.nn.BatchNorm2d(4)
        self.activation = torch.nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, last = self.convolutions
        y = first(x)
        y += self.norm(second(x))
        y.mul_(0.5)
        return last(self.activation(y)).clamp_(-1, 1)


@pytest.mark.parametrize("module", [Bordered, InPlace])
def test_what_is_done_in_place_is_traced_without_decompositions(module, monkeypatch):
    """PyTorch's decompositions trace it again, which takes several times as long as the export."""
    original = module().eval()
    x = torch.rand(1, original(torch.rand(1, 3 if module is Bordered else 4, 5, 5)).shape[1], 9, 7)
    exports, export = [], torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: exports.append(1) or export(*a, **k))
    with monkeypatch.context() as patched:
        patched.setattr(torch.export.ExportedProgram, "run_decompositions", None)
        merged, report = onebranch.merge(original, x)
    assert len(exports) <= 2
    torch.testing.assert_close(merged(x), original(x), rtol=0, atol=1e-5)
    monkeypatch.setattr("onebranch.graph.torch.tracing.make_functional", lambda traced: False)
    slow, decomposed = onebranch.merge(original, x)
    assert report.convolutions == decomposed.convolutions and report.macs == decomposed.macs
    assert [len(done.replaces) for done in report.merged] == [len(d.replaces) for d in decomposed.merged]
    torch.testing.assert_close(merged(x), slow(x), rtol=0, atol=1e-6)


class Aliased(torch.nn.Module):
    """Writes in place into values that share memory: in evaluation, dropout returns its input itself."""

    def __init__(self, shared: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.shared = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 1), shared

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        if self.shared == "dropout":
            torch.nn.functional.dropout(y, 0.5, False).add_(1)
        elif self.shared == "view":
            rows = y[:, :, ::2]
            y.mul_(2)
            y = y[:, :, ::2] + rows
        else:
            y.view(-1).mul_(3)
        return self.second(y)


@pytest.mark.parametrize("shared", ["view", "flat"])
def test_values_that_share_memory_are_written_as_they_were(shared):
    module, x = Aliased(shared).eval(), torch.rand(1, 3, 6, 5)
    merged, _ = onebranch.merge(module, x)
    torch.testing.assert_close(merged(x), module(x), rtol=0, atol=1e-5)


def test_a_module_that_pytorch_itself_traces_wrongly_is_refused():
    """torch.export records dropout as an operation, although in evaluation it returns its input itself."""
    with pytest.raises(onebranch.OnebranchError, match="differs from the original"):
        onebranch.merge(Aliased("dropout").eval(), torch.rand(1, 3, 6, 5))


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile])
def test_wrapped_modules_are_unwrapped(bordered, wrap):
    original, merged = bordered
    again, report = onebranch.merge(wrap(original), torch.rand(1, 3, 8, 8))
    x = torch.rand(1, 3, 6, 6)
    assert report.changed and torch.equal(again(x), merged(x))


def test_a_torchscript_module_is_refused_with_the_way_out(bordered):
    script = torch.jit.trace(bordered[0], torch.rand(1, 3, 8, 8))
    with pytest.raises(onebranch.OnebranchError, match="pass the original module"):
        onebranch.merge(script, torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_types_are_unmerged_with_the_reason(kind):
    parts = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 1), torch.nn.BatchNorm2d(3)
    module = torch.nn.Sequential(*parts).eval().to(kind)
    merged, report = onebranch.merge(module, torch.rand(1, 3, 8, 8).to(kind))
    assert not report.changed and merged(torch.rand(1, 3, 4, 4).to(kind)).dtype == kind
    reasons = [entry.reason for entry in report.unmerged]
    assert len(reasons) == 3 and all("merge the float32 module" in reason for reason in reasons)
    assert not any("built-in" in reason for reason in reasons)


class Pair(torch.nn.Module):
    """Two convolutions that become one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Variadic(Pair):
    """Takes any number of inputs."""

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return super().forward(values[0]) + sum(values[1:])


def test_modules_of_any_number_of_inputs_are_merged():
    module, x = Variadic().eval(), torch.rand(1, 3, 6, 6)
    merged, report = onebranch.merge(module, (x, x))
    assert report.convolutions == (2, 1)
    other = torch.rand(1, 3, 4, 9)
    torch.testing.assert_close(merged(other, other), module(other, other), rtol=0, atol=1e-5)


def test_exported_programs_and_their_modules_are_merged():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 1)).eval()
    x = torch.rand(1, 3, 6, 6)
    program = torch.export.export(module, (x,))
    for exported in (program, program.module()):
        merged, report = onebranch.merge(exported, x)
        assert report.convolutions == (2, 1)
        torch.testing.assert_close(merged(x), module(x), rtol=0, atol=1e-5)


class Gated(Pair):
    """Pools over the whole picture, whose size is read as numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * torch.sigmoid(torch.nn.functional.avg_pool2d(y, y.shape[2:]))


class FixedGate(Pair):
    """As `Gated`, but the sizes become numbers of Python."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * torch.sigmoid(torch.nn.functional.avg_pool2d(y, (int(y.shape[2]), int(y.shape[3]))))


def test_a_pool_over_the_whole_picture_keeps_sizes_open():
    module = Gated().eval()
    merged, report = onebranch.merge(module, torch.rand(1, 3, 24, 20))
    assert report.convolutions == (2, 1) and not report.size_limits and not report.notes
    x = torch.rand(1, 3, 64, 40)
    torch.testing.assert_close(merged(x), module(x), rtol=0, atol=1e-5)


def test_sizes_that_are_read_as_numbers_are_reported():
    merged, report = onebranch.merge(FixedGate().eval(), torch.rand(1, 3, 24, 20))
    assert "works only for inputs with x.size()[2] == 24" in report.size_limits[0]
    assert "works only for inputs with x.size()[3] == 20" in report.size_limits[1]
    assert report.summary().startswith(report.size_limits[0])
    assert next(iter(report.as_json().items())) == ("size_limits", list(report.size_limits))
    console = Console(file=io.StringIO(), width=200)
    print_graph_report(console, report)
    assert console.file.getvalue().startswith(f"Size       {report.size_limits[0]}")
    with pytest.raises(onebranch.OnebranchError, match="holds for sizes"):
        merged(torch.rand(1, 3, 64, 64))


def test_a_merged_module_is_not_taken_for_a_model_of_onebranch(bordered, tmp_path):
    with pytest.raises(onebranch.OnebranchError, match=r"torch\.save\(.*onebranch\.export\("):
        onebranch.save(bordered[1], tmp_path / "merged.onnx")


def test_a_merged_module_is_saved_as_onnx_by_one_call(tmp_path):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 9, 1, bias=False), torch.nn.Conv2d(9, 4, 3), torch.nn.ReLU()
    )
    example, path = torch.rand(1, 3, 12, 14), tmp_path / "merged.onnx"
    merged, _ = onebranch.merge(module.eval(), example)
    with pytest.raises(onebranch.OnebranchError, match="example inputs"):
        onebranch.export(merged, path)
    comparisons = onebranch.export(merged, path, example_inputs=example)
    assert len(comparisons) == 2 and max(comparison.error for comparison in comparisons) < 1e-5
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    larger = torch.rand(2, 3, 31, 9)
    made = session.run(None, {session.get_inputs()[0].name: larger.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(made), module(larger).detach(), rtol=0, atol=1e-5)
    with pytest.raises(onebranch.OnebranchError, match="exists"):
        onebranch.export(merged, path, example_inputs=example)


def test_an_onnx_file_that_differs_from_its_module_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onebranch.exporting.torch_module, "_difference", lambda made, expected: 1.0)
    with pytest.raises(onebranch.OnebranchError, match="nothing is written"):
        onebranch.export(
            torch.nn.Conv2d(1, 1, 1).eval(), tmp_path / "x.onnx", example_inputs=torch.rand(1, 1, 4, 4)
        )
    assert not (tmp_path / "x.onnx").exists()


class ComputedWeights(torch.nn.Module):
    """Computes its 3x3 kernel from a 1x1 and a 3x3 kernel and a gate, as ECB and OREPA do in evaluation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = torch.nn.Conv2d(channels, 2 * channels, 1)
        self.wide = torch.nn.Conv2d(2 * channels, channels, 3)
        self.gate = torch.nn.Parameter(torch.rand(channels, 1, 1, 1))
        self.activation = torch.nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = torch.nn.functional.conv2d(self.wide.weight, self.narrow.weight.permute(1, 0, 2, 3))
        constant = torch.ones(1, len(self.narrow.bias), 3, 3) * self.narrow.bias.view(1, -1, 1, 1)
        bias = torch.nn.functional.conv2d(constant, self.wide.weight).view(-1) + self.wide.bias
        kernel = kernel * torch.sigmoid(self.gate)
        return self.activation(torch.nn.functional.conv2d(x, kernel, bias, padding=1))


def test_weights_that_are_computed_from_weights_are_folded():
    torch.manual_seed(0)
    module = torch.nn.Sequential(*(ComputedWeights(6) for _ in range(3))).eval()
    x = torch.rand(1, 6, 9, 7)
    merged, report = onebranch.merge(module, x)
    assert report.convolutions == (9, 3)
    assert report.parameters[1] < report.parameters[0]
    assert sum(p.numel() for p in merged.parameters()) < sum(p.numel() for p in module.parameters())
    torch.testing.assert_close(merged(x), module(x), rtol=0, atol=1e-6)


class Pooled(torch.nn.Module):
    """A pool and an identity between large convolutions: merging them would add a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.pool = torch.nn.AvgPool2d(3, 1, 1)
        self.last = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.last(torch.relu(self.pool(y) + y))


def test_a_merge_adds_a_convolution_only_for_a_tenth_of_the_macs():
    x = torch.rand(1, 16, 8, 8)
    _, report = onebranch.merge(Pooled(16).eval(), x)
    assert report.convolutions == (2, 2) and report.macs[0] == report.macs[1]
    pool = torch.nn.Sequential(Pooled(2).pool)
    assert not onebranch.merge(pool.eval(), x)[1].changed


def test_an_original_that_is_random_is_not_blamed_on_the_merge():
    random = np.random.default_rng(0)
    arrays = {"a": random.normal(size=(4, 4, 1, 1)), "b": random.normal(size=(4, 4, 1, 1))}
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["m"]),
        helper.make_node("Conv", ["m", "b"], ["c"]),
        helper.make_node("RandomNormalLike", ["c"], ["noise"]),
        helper.make_node("Add", ["c", "noise"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 4, "h", "w"]) for n in "xy"]
    graph = helper.make_graph(nodes, "random", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(onebranch.OnebranchError, match="the original model itself gives two different"):
        onebranch.merge(model)


class Promoted(torch.nn.Module):
    """A convolution in float32, times a gain in float64: the product is in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.gain = torch.nn.Parameter(torch.rand(1, 4, 1, 1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.gain * self.convolution(x))


def test_a_change_of_the_precision_is_unmerged_with_its_reason():
    x = torch.rand(1, 3, 9, 8)
    merged, report = onebranch.merge(Promoted().eval(), x)
    assert merged(x).dtype == torch.float64
    assert "mul: it makes float64 from float32" in [unmerged.reason for unmerged in report.unmerged]


class Unfinished(torch.nn.Module):
    """Uses an attribute that it does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


class Branching(torch.nn.Module):
    """Its control flow depends on data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (torch.nn.Conv2d(4, 2, 1), "Conv2d does not run with the example inputs (Given groups=1"),
        (
            Unfinished(),
            "does not run with the example inputs ('Unfinished' object has no attribute 'convolution')",
        ),
        (Branching(), "torch.export cannot trace Branching ("),
    ],
    ids=["channels", "attribute", "control flow"],
)
def test_a_module_that_fails_by_itself_is_distinguished_from_one_that_cannot_be_traced(module, reason):
    with pytest.raises(OnebranchError) as caught:
        onebranch.merge(module.eval(), torch.rand(1, 3, 8, 8))
    assert reason in str(caught.value)
    assert ("control flow that depends on data" in str(caught.value)) == isinstance(module, Branching)
