"""Every linear operation that stays unmerged has a true reason: a table of operations and reasons."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

import onebranch
from picture_networks import Drawing

RESHAPED = "it changes the shape of the value"
CROPPED = "it crops or subsamples the picture or the batch, not only the channels"
SELECTED = "it selects rows, columns, pixels or pictures"
BROADCAST = "it adds values of different shapes, one of them broadcast"
WHOLE_PICTURE = "it averages over the whole picture, whose size may vary"
MATRIX = "it is a matrix product, not a convolution"
END = 1 << 40

Build = Callable[[Drawing], str]


def operation(kind: str, *constants: object, channels: int = 8, **attributes: object) -> Build:
    """A function that adds the operation on the value "a" and constants; None: an absent input."""

    def build(d: Drawing) -> str:
        names = [d.constant(f"k{k}", np.array(v)) if v is not None else "" for k, v in enumerate(constants)]
        d.add(kind, ["a", *names], "op", **attributes)
        d.channels["op"] = channels
        return "op"

    return build


def joined(kind: str, **attributes: object) -> Build:
    """The operation on "a" and on another convolution of the input."""
    return lambda d: d.add(kind, ["a", d.conv("x", "other", 8, 1, bias=False)], "op", **attributes)


def split_rows(d: Drawing) -> str:
    d.nodes.append(helper.make_node("Split", ["a", d.numbers("parts", 32, 32)], ["op", "rest"], axis=2))
    d.channels["op"] = 8
    return "op"


def batch_norm_in_training(d: Drawing) -> str:
    d.bn("a", "op")
    d.nodes[-1].attribute.append(helper.make_attribute("training_mode", 1))
    d.nodes[-1].output.extend(["running mean", "running variance"])
    return "op"


def size_gate(d: Drawing) -> str:
    """A product with a gate that is expanded to the picture's size."""
    gate = d.add("Sigmoid", [d.normal("g", 1, 8, 1, 1)], "gate")
    return d.add("Mul", ["a", d.add("Expand", [gate, d.add("Shape", "a", "shape")], "gates")], "op")


def mean_added(d: Drawing) -> str:
    return d.add("Add", ["a", d.add("ReduceMean", ["a"], "all", keepdims=0)], "op")


def in_local_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its Slice inside a model-local function."""
    constants = [
        helper.make_node("Constant", [], [name], value_ints=[value])
        for name, value in (("start", 1), ("end", -1), ("axis", 2))
    ]
    nodes = [*constants, helper.make_node("Slice", ["v", "start", "end", "axis"], ["w"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "Cropping", ["v"], ["w"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    call = next(node for node in model.graph.node if node.op_type == "Slice")
    call.CopyFrom(helper.make_node("Cropping", ["a"], ["op"], name="op", domain="local"))
    return model


F = np.float32

ONNX_REASONS: dict[str, tuple[Build, str]] = {
    "Dropout in training": (operation("Dropout", F(0.5), True), "dropout in training mode is random"),
    "BatchNormalization in training": (batch_norm_in_training, "batch normalization in training mode"),
    "Slice of rows": (operation("Slice", [1], [-1], [2]), CROPPED),
    "Slice of rows and columns": (operation("Slice", [1, 1], [-1, -1], [2, 3]), CROPPED),
    "Slice of channels and rows": (operation("Slice", [0, 1], [4, -1], [1, 2], channels=4), CROPPED),
    "Slice of every second row": (operation("Slice", [0], [END], [2], [2]), CROPPED),
    "Pad by negative numbers": (operation("Pad", [0, 0, -1, -1, 0, 0, -1, -1]), "it crops"),
    "Pad by reflection": (
        operation("Pad", [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
        "it pads with the picture's own pixels (mode 'reflect')",
    ),
    "Mean": (joined("Mean"), "it averages several values"),
    "ReduceMean of pixels": (operation("ReduceMean", [2, 3]), WHOLE_PICTURE),
    "ReduceMean of channels": (operation("ReduceMean", [1], channels=1), "it averages over the channels"),
    "GlobalAveragePool": (operation("GlobalAveragePool"), WHOLE_PICTURE),
    "ReduceSum": (operation("ReduceSum", [2, 3]), "it sums over an axis"),
    "CumSum": (operation("CumSum", 2), "it sums over an axis"),
    "Resize": (operation("Resize", None, F([1, 1, 2, 2])), "it resizes the picture"),
    "DepthToSpace": (operation("DepthToSpace", channels=2, blocksize=2), "it moves numbers between"),
    "SpaceToDepth": (operation("SpaceToDepth", channels=32, blocksize=2), "it moves numbers between"),
    "Transpose": (operation("Transpose", perm=[0, 1, 3, 2]), "it exchanges axes"),
    "Gather of rows": (operation("Gather", [0, 1], axis=2), SELECTED),
    "Split of rows": (split_rows, "it splits the picture or the batch, not the channels"),
    "Concat of rows": (joined("Concat", axis=2), "it joins along another axis than the channels"),
    "Tile of rows": (operation("Tile", [1, 1, 2, 1]), "it repeats the picture or the batch"),
    "Expand": (operation("Expand", [2, 1, 1, 1]), "it repeats a value along its axes of one element"),
    "Reshape": (operation("Reshape", [0, 2, -1, 0], channels=2), RESHAPED),
    "Cast": (
        lambda d: d.add("Cast", [d.add("Cast", "a", "wide", to=11)], "op", to=1),
        "it converts numbers to another type",
    ),
    "Trilu": (operation("Trilu"), "it sets a triangle of the picture to zero"),
    "MatMul": (operation("MatMul", np.ones((64, 64), F)), "it works on tokens"),
    "Einsum": (operation("Einsum", np.ones((8, 8), F), equation="nchw,cd->ndhw"), MATRIX),
    "GridSample": (operation("GridSample", np.zeros((1, 9, 9, 2), F)), "it moves and interpolates pixels"),
    "Add of every pixel": (operation("Add", np.ones((64, 64), F)), "is not one number for each channel"),
    "Add of a mean": (mean_added, BROADCAST),
    "Mul by a gate of the picture's size": (size_gate, "a tensor whose shape depends on the picture's size"),
    "Concat with a constant": (
        lambda d: d.add("Concat", ["a", d.normal("more", 1, 2, 64, 64)], "op", axis=1),
        "it joins a value and a constant",
    ),
    "Div by zero": (operation("Div", F(0)), "it divides by zero"),
    "AveragePool with ceil_mode": (
        operation("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        "it rounds sizes up (ceil_mode)",
    ),
    "ConvTranspose of stride 2": (
        operation("ConvTranspose", np.ones((8, 8, 2, 2), F), strides=[2, 2]),
        "a transposed convolution of stride 2",
    ),
}
"""Linear operations between two convolutions, and the beginning of the reason."""

MERGED: dict[str, Build] = {
    "Dropout": operation("Dropout"),
    "Dropout with an unused mask": lambda d: (
        d.nodes.append(helper.make_node("Dropout", ["a"], ["op", "mask"])) or d.channels.update(op=8) or "op"
    ),
    "Reshape to the same shape": operation("Reshape", [0, 0, 0, 0]),
    "Sum with a constant of zero": operation("Sum", F(0)),
    "gate of constants": lambda d: d.add(
        "Mul", ["a", d.add("Sigmoid", [d.normal("g", 1, 8, 1, 1)], "gate")], "op"
    ),
}
"""Operations between two convolutions that are merged with them."""


def network(build: Build) -> onnx.ModelProto:
    """A 1x1 convolution, the operation, and a 3x3 convolution."""
    d = Drawing()
    d.inputs["x"] = (1, 3, 64, 64)
    d.conv("x", "a", 8, 1, bias=False)
    d.channels["op"] = 8
    source = build(d)
    d.channels.setdefault(source, 8)
    d.channels[source] = d.channels[source] or 8
    return d.model(d.conv(source, "y", 8, 3), opset=20)


@pytest.mark.parametrize("name", ONNX_REASONS)
def test_an_unmerged_operation_of_an_onnx_file_has_its_reason(name: str) -> None:
    build, reason = ONNX_REASONS[name]
    _, report = onebranch.merge(network(build), force=True)
    kind = name.partition(" ")[0]
    entries = [f"{entry.reason}" for entry in report.unmerged]
    assert any(entry.startswith(f"{kind}: ") and reason in entry for entry in entries), entries
    assert not report.merged


def test_an_operation_of_a_local_function_has_its_reason() -> None:
    model = in_local_function(network(operation("Slice", [1], [-1], [2])))
    _, report = onebranch.merge(model, force=True)
    assert [entry.reason for entry in report.unmerged] == [f"Slice: {CROPPED}"]


@pytest.mark.parametrize("name", MERGED)
def test_what_changes_nothing_or_scales_is_merged(name: str) -> None:
    _, report = onebranch.merge(network(MERGED[name]), force=True)
    assert report.convolutions == (2, 1)
    assert not report.unmerged


def test_a_dropout_whose_mask_is_read_keeps_its_input() -> None:
    d = Drawing()
    d.conv("x", "a", 8, 1, bias=False)
    d.nodes.append(helper.make_node("Dropout", ["a"], ["op", "mask"]))
    d.channels["op"] = 8
    d.conv("op", "y", 8, 3)
    _, report = onebranch.merge(d.model("y", d.add("Cast", "mask", "numbers", to=1)), force=True)
    assert [entry.reason for entry in report.unmerged] == ["'a' is also read elsewhere"]


def test_a_product_of_two_values_is_not_called_linear() -> None:
    for kind in ("Mul", "Div"):
        _, report = onebranch.merge(network(joined(kind)), force=True)
        assert not report.unmerged
    _, report = onebranch.merge(network(lambda d: d.add("Mul", ["a", "a"], "op")), force=True)
    assert not report.unmerged


@pytest.mark.slow
def test_unmerged_operations_of_a_module_have_their_reasons() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module was traced")
    functional = torch.nn.functional
    table = {
        ("slice", "it crops or subsamples the picture"): lambda a: a[:, :, 1:-1],
        ("select", SELECTED): lambda a: a.select(2, 0).unsqueeze(2),
        ("unsqueeze", RESHAPED): lambda a: a.select(2, 1).unsqueeze(2),
        ("index_select", SELECTED): lambda a: a.index_select(2, torch.tensor([0, 1])),
        ("pad", "it crops"): lambda a: functional.pad(a, (-1, -1, 0, 0)),
        ("pad", "mode 'replicate'"): lambda a: functional.pad(a, (1, 1, 1, 1), mode="replicate"),
        ("mean", WHOLE_PICTURE): lambda a: a.mean((2, 3), keepdim=True),
        ("mean", "over a length that depends"): lambda a: a + a.mean(),
        ("add", BROADCAST): lambda a: a + a.mean(),
        ("sum", "it sums over an axis"): lambda a: a.sum((2, 3), keepdim=True),
        ("cumsum", "it sums over an axis"): lambda a: a.cumsum(2),
        ("avg_pool2d", "count_include_pad"): lambda a: functional.avg_pool2d(a, 3, 1, 1, False, False),
        ("adaptive_avg_pool2d", "its windows"): lambda a: functional.adaptive_avg_pool2d(a, 4),
        ("upsample_nearest2d", "it resizes"): lambda a: functional.interpolate(a, scale_factor=2),
        ("permute", "it exchanges axes"): lambda a: a.permute(0, 1, 3, 2),
        ("flip", "it rearranges"): lambda a: a.flip(2),
        ("cat", "it joins along another axis"): lambda a: torch.cat([a, a], 2),
        ("stack", "it joins values along a new axis"): lambda a: torch.stack([a, a], 1).sum(1),
        ("repeat", "it repeats the picture"): lambda a: a.repeat(1, 1, 2, 1),
        ("einsum", MATRIX): lambda a: torch.einsum("nchw,cd->ndhw", a, torch.ones(8, 8)),
        ("mul", "a tensor whose shape depends on the picture's size"): lambda a: a * torch.ones_like(a),
        ("where", "it selects numbers by a mask"): lambda a: torch.where(
            torch.arange(a.shape[3]) > 3, a, torch.zeros(())
        ),
        ("lerp", "lerp is not merged"): lambda a: torch.lerp(a, a + 1, 0.3),
        ("conv3d", "it is a 1-D or 3-D convolution"): lambda a: functional.conv3d(
            a[:, :, None], torch.ones(8, 8, 1, 1, 1)
        ).squeeze(2),
        ("unbind", SELECTED): lambda a: torch.stack(a.unbind(1)[::-1], 1),
        ("div", "it divides by zero"): lambda a: a / 0,
    }
    merging = [
        lambda a: functional.dropout(a, 0.5, False),
        lambda a: functional.channel_shuffle(a, 2),
        lambda a: torch.true_divide(a, 3),
        lambda a: a * torch.sigmoid(torch.ones(1, 8, 1, 1)).expand(a.shape),
    ]

    class Many(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            count = len(table) + len(merging)
            self.first = torch.nn.ModuleList(torch.nn.Conv2d(3, 8, 1, bias=False) for _ in range(count))
            self.last = torch.nn.ModuleList(torch.nn.Conv2d(8, 8, 1, bias=False) for _ in range(count))

        def forward(self, x):
            layers = zip(self.first, (*table.values(), *merging), self.last, strict=True)
            return [last(operation(first(x))) for first, operation, last in layers]

    _, report = onebranch.merge(Many().eval(), torch.zeros(1, 3, 12, 14), force=True)
    entries = [entry.reason for entry in report.unmerged]
    for name, reason in table:
        assert any(entry.startswith(f"{name}: ") and reason in entry for entry in entries), (name, reason)
    assert len(report.merged) == len(merging)


def test_operations_that_are_not_linear_have_no_reason():
    """Only a linear operation that stays unmerged has a reason."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no module was traced")
    ones = torch.ones(8, 8, 12, 14)
    products = [
        lambda a: torch.where(a > 0, a, 0.2 * a),
        lambda a: torch.lerp(a, a + 1, a),
        lambda a: torch.einsum("nchw,nchw->nchw", a, a),
        lambda a: torch.div(ones[:1], a),
        lambda a: torch.baddbmm(ones[0], a[0], a[0].transpose(1, 2) @ ones[0])[None],
    ]

    class Several(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.ModuleList(torch.nn.Conv2d(3, 8, 1, bias=False) for _ in products)
            self.last = torch.nn.ModuleList(torch.nn.Conv2d(8, 8, 1, bias=False) for _ in products)

        def forward(self, x):
            layers = zip(self.first, products, self.last, strict=True)
            return [last(operation(first(x))) for first, operation, last in layers]

    _, report = onebranch.merge(Several().eval(), torch.zeros(1, 3, 12, 14), force=True)
    names = [entry.reason.split(":")[0] for entry in report.unmerged]
    assert not {"where", "lerp", "einsum", "div", "baddbmm"} & set(names), names
