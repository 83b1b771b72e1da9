"""Networks whose size is declared open and is fixed inside, or restricted: sizes are found, or named."""

import io
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onebranch
from command_line import CommandLine
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.valid_sizes import InputSize, as_input_size
from onebranch.graph.onnx.file import write
from onebranch.images.picture import Picture
from onebranch.images.writing import write as write_picture
from onebranch.merging.onnx_inputs import TRIED_SIZES
from picture_networks import Drawing

ZERO = np.zeros(1, np.float32)


def shuffled(d: Drawing, source: str, height: int, width: int) -> str:
    """A pixel shuffle by 2 of 12 channels to numbers that an exporter fixed."""
    d.add("Reshape", [source, d.numbers("split", 1, 3, 2, 2, height, width)], "six axes")
    d.add("Transpose", "six axes", "exchanged", perm=[0, 1, 4, 2, 5, 3])
    return d.add("Reshape", ["exchanged", d.numbers("joined", 1, 3, 2 * height, 2 * width)], "y")


def pair(d: Drawing, source: str = "x") -> str:
    """Two convolutions that merge into one, to 12 channels."""
    return d.conv(d.conv(source, "first", 12, 1, bias=False), "second", 12, 3)


def fixed_by_reshape() -> onnx.ModelProto:
    d = Drawing()
    return d.model(shuffled(d, pair(d), 24, 40))


def fixed_by_positions() -> onnx.ModelProto:
    """Tokens to which 960 stored positions are added: every size of 960 pixels runs."""
    d = Drawing()
    d.add("Shape", pair(d), "shape")
    d.add("Reshape", ["second", d.numbers("tokens", 1, 12, -1)], "rows")
    d.add("Add", ["rows", d.normal("positions", 1, 12, 960)], "placed")
    d.channels["picture"] = 12
    d.add("Reshape", ["placed", "shape"], "picture")
    d.channels["picture"] = 12
    return d.model(d.conv("picture", "y", 3, 1))


def open_channels() -> onnx.ModelProto:
    """Open channels, of which only the convolution after a pixel unshuffle says how many there are."""
    d = Drawing()
    d.inputs["x"] = ("N", "C", "H", "W")
    d.add("SpaceToDepth", "x", "unshuffled", blocksize=2)
    d.channels["unshuffled"] = 12
    return d.model(d.add("DepthToSpace", pair(d, "unshuffled"), "y", blocksize=2))


def channels_of_the_first_convolution() -> onnx.ModelProto:
    d = Drawing()
    d.inputs["x"] = ("N", "C", "H", "W")
    return d.model(d.conv(pair(d), "y", 3, 1))


def windows(d: Drawing, size: int) -> str:
    """A softmax along the rows of windows of `size` pixels, whose number is computed from the picture's."""
    pair(d)
    for axis in (2, 3):
        side = d.size_of("second", axis)
        d.add("Div", [side, d.numbers(f"by{axis}", size)], f"count{axis}")
    parts = [d.numbers("ones", 1, 12), "count2", d.numbers("window", size), "count3", "window"]
    d.add("Reshape", ["second", d.add("Concat", parts, "shape", axis=0)], "cut")
    d.add("Softmax", "cut", "mixed", axis=3)
    d.add("Reshape", ["mixed", d.add("Shape", "second", "whole")], "back")
    d.channels["back"] = 12
    return d.conv("back", "y", 3, 1)


def multiple_of_48() -> onnx.ModelProto:
    d = Drawing()
    return d.model(windows(d, 48))


def unsupported_in_windows() -> onnx.ModelProto:
    """The same, with an operation that the analysis does not support."""
    d = Drawing()
    windows(d, 48)
    d.add("NonZero", "y", "places")
    d.add("ReduceSum", [d.add("Cast", "places", "numbers", to=1)], "total", keepdims=0)
    d.add("Mul", ["total", d.constant("nothing", np.array(0, np.float32))], "zero")
    return d.model(d.add("Add", ["y", "zero"], "z"))


def reading_row_600() -> onnx.ModelProto:
    """Runs on pictures of more than 600 rows, which no shape shows."""
    d = Drawing()
    d.add("Gather", [pair(d), d.constant("row", np.array([600]))], "row 600", axis=2)
    d.add("Add", ["second", "row 600"], "sum")
    d.channels["sum"] = 12
    return d.model(d.conv("sum", "y", 3, 1))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def written(model: onnx.ModelProto) -> Path:
        write(model, tmp_path / "x.onnx", overwrite=True)
        return tmp_path / "x.onnx"

    return written


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    samples = np.random.default_rng(1).integers(0, 256, (50, 61, 3), np.uint8)
    write_picture(Picture(samples), tmp_path / "picture.png")
    return tmp_path / "picture.png"


def session_output(model: onnx.ModelProto, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": values})[0])


def heights_and_widths(sizes: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    return {tuple(size[2:]) for size in sizes}


@pytest.mark.parametrize(
    ("build", "admitted"),
    [
        (fixed_by_reshape, lambda height, width: height * width == 960),
        (fixed_by_positions, lambda height, width: height * width == 960),
        (open_channels, lambda height, width: height % 2 == width % 2 == 0),
        (channels_of_the_first_convolution, lambda height, width: (height, width) in TRIED_SIZES),
        (multiple_of_48, lambda height, width: height % 48 == width % 48 == 0),
    ],
    ids=lambda value: value.__name__,
)
def test_merge_and_verify_find_sizes_on_which_the_network_runs(
    build: Callable[[], onnx.ModelProto], admitted: Callable[[int, int], bool]
) -> None:
    original = build()
    merged, report = onebranch.merge(original)
    assert report.merged
    assert report.check is not None
    sizes = heights_and_widths(report.check.sizes)
    assert len(sizes) == 3
    assert all(admitted(height, width) for height, width in sizes)
    assert {size[1] for size in report.check.sizes} == {3}
    assert onebranch.verify(original, merged).convolutions == report.convolutions


def test_the_report_says_that_and_why_the_size_is_fixed(run: CommandLine, file, tmp_path: Path) -> None:
    outcome = run("merge", file(fixed_by_reshape()), "-o", tmp_path / "merged.onnx", "--json")
    limits, (note,) = next(iter(json.loads(outcome.output).items()))
    assert limits == "size_limits"
    assert "declares its height and width open, but it runs on 28 sizes only, such as 30x32" in note
    assert "Reshape 'six axes' fixes them" in note
    assert "--input-size" in note
    assert onebranch.merge(multiple_of_48())[1].size_limits == ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_export_that_fixed_its_size_gets_a_note() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its exporter was not tried")

    class Shuffle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(3, 12, 1, bias=False), torch.nn.Conv2d(12, 12, 3)

        def forward(self, x):
            y = self.last(self.first(x))
            height, width = int(y.shape[2]), int(y.shape[3])
            y = y.reshape(1, 3, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
            return y.reshape(1, 3, 2 * height, 2 * width)

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch: int() makes sizes constant, which is what is tested
        torch.onnx.export(
            Shuffle().eval(),
            (torch.zeros(1, 3, 26, 42),),
            content,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {2: "height", 3: "width"}},
        )
    _, report = onebranch.merge(onnx.load_from_string(content.getvalue()))
    assert report.merged
    assert "--input-size" in report.size_limits[0]
    assert "Reshape" in report.size_limits[0]


def test_a_network_of_a_size_that_cannot_be_found_runs_with_the_option(
    run: CommandLine, file, tmp_path: Path
) -> None:
    path, merged = file(reading_row_600()), tmp_path / "merged.onnx"
    assert "name a size on which it runs with --input-size HxW" in run.refused("merge", path, "-o", merged)
    assert not merged.exists()
    for size in ("601x8", "3x601x8"):
        run("merge", path, "-o", merged, "--overwrite", "--input-size", size, "--input-size", "640x9")
        assert run("verify", path, merged).code == 0
        stored = json.loads(run("verify", path, merged, "--json").output)
        assert heights_and_widths(stored["check"]["sizes"]) == {(601, 8), (640, 9)}
    again = json.loads(run("verify", path, merged, "--json", "--input-size", "700x3").output)
    assert heights_and_widths(again["check"]["sizes"]) == {(700, 3)}
    message = run.refused("verify", path, merged, "--input-size", "64x64")
    assert "runs on none of the inputs that were tried (64x64, height x width)" in message


def test_the_python_interface_takes_sizes() -> None:
    original = reading_row_600()
    merged, report = onebranch.merge(original, input_sizes=[(601, 8), (3, 602, 7)])
    assert report.check is not None
    assert heights_and_widths(report.check.sizes) == {(601, 8), (602, 7)}
    assert onebranch.verify(original, merged, input_sizes=[(603, 2)]).check is not None
    for wrong in ((0, 8), (8,), (1, 2, 3, 4)):
        with pytest.raises(OnebranchError, match="is not an input size"):
            onebranch.merge(original, input_sizes=[wrong])
    with pytest.raises(OnebranchError, match="input_sizes"):
        onebranch.verify("photo-x2", "photo-x2", input_sizes=[(8, 8)])
    with pytest.raises(OnebranchError, match="input_sizes"):
        onebranch.merge("photo-x2", input_sizes=[(8, 8)])


@pytest.mark.parametrize("build", [fixed_by_reshape, open_channels, multiple_of_48, unsupported_in_windows])
def test_enhance_and_info_find_the_size(
    build: Callable[[], onnx.ModelProto], run: CommandLine, file, picture: Path, tmp_path: Path
) -> None:
    path = file(build())
    facts = json.loads(run("info", path, "--json").output)
    assert facts["runs"], facts["refusal"]
    assert facts.get("fixed_size") == ("40x24 pixels" if build is fixed_by_reshape else None)
    assert run("enhance", picture, "-o", tmp_path / "out.png", "-m", path, "--threads", 1).code == 0


def test_a_size_is_only_guessed_where_one_fits(run: CommandLine, file, picture: Path, tmp_path: Path) -> None:
    path, out = file(fixed_by_positions()), tmp_path / "out.png"
    message = run.refused("enhance", picture, "-o", out, "-m", path)
    assert "Add 'placed' fixes it, and several sizes fit (30x32, 32x30, 24x40)" in message
    assert "--input-size" in message
    assert not json.loads(run("info", path, "--json").output)["runs"]
    facts = json.loads(run("info", path, "--json", "--input-size", "24x40").output)
    assert facts["runs"]
    assert facts["fixed_size"] == "40x24 pixels"
    samples = np.random.default_rng(2).random((24, 40, 3), np.float32)
    result = onebranch.enhance(Picture(samples), path, input_size=(24, 40), threads=1)
    expected = session_output(fixed_by_positions(), samples.transpose(2, 0, 1)[None])
    np.testing.assert_allclose(result.pixels, expected[0].transpose(1, 2, 0), rtol=0, atol=1e-5)


def test_a_size_that_does_not_fit_is_refused_in_one_line(
    run: CommandLine, file, picture: Path, tmp_path: Path
) -> None:
    d = Drawing()
    d.inputs["x"] = (1, 3, 24, 40)
    path, out = file(d.model(shuffled(d, pair(d), 24, 40))), tmp_path / "out.png"
    for command in (
        ("merge", path, "-o", tmp_path / "out.onnx"),
        ("enhance", picture, "-o", out, "-m", path),
    ):
        assert "3x24x40" in run.refused(*command, "--input-size", "8x8")
    assert "3x24x40" in json.loads(run("info", path, "--json", "--input-size", "8x8").output)["refusal"]
    for text in ("48", "x48", "48x", "0x48", "48x48x48x48", "-1x48", "48 x 48", "²x48"):
        assert "height x width" in run.refused("info", path, "--input-size", text)
    for command in (("info", "photo-x2"), ("enhance", picture, "-o", out), ("verify", "denoise", "denoise")):
        assert "ONNX" in run.refused(*command, "--input-size", "8x8")
    assert not out.exists()


def test_a_size_is_written_as_it_is_read() -> None:
    assert str(as_input_size((3, 48, 96))) == "3x48x96"
    assert as_input_size((48, 96)) == InputSize(48, 96)
