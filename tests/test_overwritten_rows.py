"""Blocks that overwrite rows, such as DBB's: a ScatterND of any export merges as the module does."""

import io
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from onebranch.graph.merge.rewriting import Rules
from onebranch.graph.onnx.linear import read_linear
from onebranch.merging.onnx import merge_onnx
from onnx_networks import Sketch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its exporters were not tried")

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:Constant folding - Only steps=1:UserWarning",
    "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning",
)


class PaddedByBias(torch.nn.Module):
    """A 1x1 convolution and BN, padded with BN's output for zero, then a 3x3 convolution: a branch of DBB."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.point, self.norm = torch.nn.Conv2d(4, 4, 1, bias=False), torch.nn.BatchNorm2d(4)
        self.large = torch.nn.Conv2d(4, 4, 3)
        for values in (self.norm.weight, self.norm.bias, self.norm.running_mean):
            torch.nn.init.normal_(values)
        torch.nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x):
        norm = self.norm
        padded = torch.nn.functional.pad(norm(self.point(x)), [1] * 4)
        value = norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)
        value = value.detach().view(1, -1, 1, 1)
        padded[:, :, 0:1, :] = value
        padded[:, :, -1:, :] = value
        padded[:, :, :, 0:1] = value
        padded[:, :, :, -1:] = value
        return torch.relu(self.large(padded))


def by_tracing(opset: int) -> onnx.ModelProto:
    content, example = io.BytesIO(), torch.randn(1, 4, 12, 10)
    module = PaddedByBias().eval()
    torch.onnx.export(module, (example,), content, dynamo=False, opset_version=opset, input_names=["x"])
    return onnx.load_from_string(content.getvalue())


def by_dynamo(sizes_open: bool) -> onnx.ModelProto:
    shapes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},) if sizes_open else None
    program = torch.onnx.export(
        PaddedByBias().eval(), (torch.randn(1, 4, 12, 10),), dynamo=True, opset_version=18,
        dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    return program.model_proto


EXPORTS: dict[str, Callable[[], onnx.ModelProto]] = {
    "TorchScript, opset 13": lambda: by_tracing(13),
    "TorchScript, opset 17": lambda: by_tracing(17),
    "dynamo, fixed size": lambda: by_dynamo(False),
    "dynamo, open size": lambda: by_dynamo(True),
}


def output(model: onnx.ModelProto, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": picture})[0]
    return result


SLOW = ("TorchScript, opset 17", "dynamo, fixed size")


@pytest.mark.parametrize(
    "export", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in EXPORTS]
)
def test_overwritten_rows_are_padding_in_every_export(export: str) -> None:
    model = EXPORTS[export]()
    merged, report = merge_onnx(model, Rules())
    assert report.convolutions == (2, 1)
    assert "ScatterND" not in {node.op_type for node in merged.graph.node}
    sizes = [(12, 10), (5, 7)] if "open" in export else [(12, 10)]
    for height, width in sizes:
        picture = np.random.default_rng(0).random((1, 4, height, width), np.float32)
        np.testing.assert_allclose(output(merged, picture), output(model, picture), rtol=0, atol=1e-5)


def scattered(indices: np.ndarray, updates: np.ndarray) -> onnx.ModelProto:
    """A 1x1 convolution padded by 1, some elements overwritten, and a 3x3 convolution."""
    s = Sketch(0, x=(1, 4, 6, 5))
    s.conv("x", "point", 4, 1, bias=False)
    s.add("Pad", ["point", s.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))], "padded")
    s.add("ScatterND", ["padded", s.constant("indices", indices), s.constant("updates", updates)], "written")
    s.channels["written"] = 4
    return s.model(s.add("Relu", s.conv("written", "large", 4, 3, pad=0), "y"))


def rows(*numbers: int) -> np.ndarray:
    """Indices of all elements of some rows of an array (1, 4, 8, 7)."""
    grid = np.meshgrid([0], range(4), numbers, range(7), indexing="ij")
    return np.stack(grid, -1)


@pytest.mark.parametrize(
    ("indices", "updates"),
    [
        (rows(0, 2), np.zeros((1, 4, 2, 7))),
        (rows(0)[..., :3, :], np.zeros((1, 4, 1, 3))),
        (rows(0)[:, :2], np.zeros((1, 2, 1, 7))),
        (rows(0), np.arange(28.0).reshape(1, 4, 1, 7)),
        (rows(0)[..., [0, 1, 3, 2]], np.zeros((1, 4, 1, 7))),
    ],
    ids=["rows apart", "part of a row", "some channels", "varying along the row", "swapped axes"],
)
def test_what_is_not_whole_rows_of_a_constant_is_unmerged_by_name(
    indices: np.ndarray, updates: np.ndarray
) -> None:
    model = scattered(indices, updates.astype(np.float32))
    merged, report = merge_onnx(model, Rules())
    assert merged is model
    assert any(entry.reason.startswith("ScatterND: it overwrites") for entry in report.unmerged)


def test_a_row_overwritten_by_zeros_is_read() -> None:
    graph = read_linear(scattered(rows(0), np.zeros((1, 4, 1, 7), np.float32)))
    assert [type(step.operation).__name__ for step in graph.steps] == ["Convolve", "Pad", "Fill", "Convolve"]
