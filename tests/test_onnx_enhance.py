"""Third-party ONNX files on pictures: equal to onebranch's models, in tiles or as a whole, or refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onebranch
from command_line import CommandLine
from network_specs import calm_model, random_model
from onebranch.algebra.padding import Padding
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.options import Options
from onebranch.enhancer.stage import ArrayStage
from onebranch.enhancer.tiles import exact_pieces, run_tiled
from onebranch.errors import OnebranchError
from onebranch.exporting.files import export
from onebranch.graph.onnx.file import write
from onebranch.images.picture import Picture
from onebranch.images.reading import read as read_picture
from onebranch.images.writing import write as write_picture
from onebranch.model.foreign import ForeignModel, read_foreign
from onebranch.runtime import memory
from onebranch.runtime.foreign import ForeignRuntime
from onebranch.runtime.memory import memory_estimate, parse_bytes
from onebranch.runtime.selection import open_foreign, open_runtime
from onnx_editing import Edit
from picture_networks import GLOBAL, LOCAL, Drawing

NETS = {net.name: net for net in (*LOCAL, *GLOBAL)}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | onnx.ModelProto], Path]:
    """A network of that name, or a model, in a file x.onnx."""

    def written(model: str | onnx.ModelProto) -> Path:
        if isinstance(model, str):
            model = NETS[model].build(NETS[model])
        write(model, tmp_path / "x.onnx", overwrite=True)
        return tmp_path / "x.onnx"

    return written


def photograph(height: int = 41, width: int = 53, channels: int = 3, depth: str = "uint8") -> Picture:
    samples = np.random.default_rng(3).random((height, width, channels), np.float32)
    whole = {"uint8": 255, "uint16": 65535}.get(depth)
    return Picture(samples if whole is None else (samples * whole).astype(depth))


def with_shape(model: onnx.ModelProto, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The model with an input of another shape or type, and an output without a shape."""
    edit = Edit(model)
    edit.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))
    edit.graph.output[0].type.tensor_type.ClearField("shape")
    return edit.model


@pytest.mark.parametrize(
    "options",
    [
        {"task": "upscale", "scale": 2},
        {"task": "upscale", "scale": 3, "colour": "rgb", "residual": "bicubic"},
        {"task": "denoise"},
        {"task": "downscale", "scale": 2},
        {"task": "downscale", "scale": 3, "colour": "rgb", "residual": "bicubic"},
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", ["uint8", "float32"])
def test_exports_give_the_output_of_the_model_files(
    options: dict, channels: int, depth: str, tmp_path: Path
) -> None:
    model, picture = calm_model(**options), photograph(channels=channels, depth=depth)
    export(model, tmp_path / "x.onnx")
    ours = enhance(picture, model, threads=1).pixels
    foreign = enhance(picture, tmp_path / "x.onnx", threads=1).pixels
    in_tiles = enhance(picture, str(tmp_path / "x.onnx"), threads=1, tile=16).pixels
    assert ours.dtype == foreign.dtype == in_tiles.dtype
    if depth == "float32":
        np.testing.assert_allclose(foreign, ours, rtol=0, atol=1e-5)
        np.testing.assert_allclose(in_tiles, foreign, rtol=0, atol=1e-5)
        return
    for result, other in ((foreign, ours), (in_tiles, foreign)):  # a value at .5 may be rounded either way
        difference = np.abs(result.astype(int) - other)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_the_route_is_the_definition(tmp_path: Path) -> None:
    """The stage of an ONNX file is the numpy stage around the same network."""
    model = random_model(calm_model(task="upscale", scale=2).spec)
    export(model, tmp_path / "x.onnx")
    third_party = read_foreign(tmp_path / "x.onnx")
    foreign = ArrayStage(third_party, ForeignRuntime(third_party, threads=1))
    native = ArrayStage(model, open_runtime(model, threads=1))
    assert foreign.halo == native.halo
    picture = photograph(depth="float32").pixels
    functions = (stage.pixels(3, "float32", "float32") for stage in (foreign, native))
    one, two = (function(picture) for function in functions)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * max(1, np.abs(two).max()))


@pytest.mark.parametrize("name", ["unet", "edsr", "windows", "squeeze", "fsrcnn", "cubic x1.5", "linear /2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_come_out_at_scale(name: str, channels: int, file) -> None:
    scale = NETS[name].scale
    for height, width in ((41, 53), (1, 1), (2, 70)):
        result = enhance(photograph(height, width, channels), file(name), threads=1, tile=16)
        assert (result.height, result.width) == (-(-height * scale // 1), -(-width * scale // 1))
        assert result.channels == channels


def test_options_reach_a_foreign_network(file) -> None:
    picture = photograph()
    result = Enhancer(Options(model=file("edsr"), width=100, threads=1, tile=32)).enhance(picture)
    assert (result.height, result.width) == (77, 100)
    with pytest.raises(OnebranchError, match="runtime 'torch' does not run ONNX files"):
        enhance(picture, file("edsr"), runtime="torch")
    with pytest.raises(OnebranchError, match="threads must be at least 1"):
        enhance(picture, file("edsr"), threads=0)
    with pytest.raises(OnebranchError, match="memory must be at least 1 byte, not 0"):
        Options(memory=0)


def test_float16_and_float64_files_run(file) -> None:
    expected = enhance(photograph(), file("edsr"), threads=1).pixels.astype(int)
    half = Edit(NETS["edsr"].build(NETS["edsr"]))
    for name, value in half.constants().items():
        half.constant(name, value.astype(np.float16))
    double = Edit(NETS["edsr"].build(NETS["edsr"]))
    double.replace_reads("x", "floats")
    double.insert(0, "Cast", ["x"], "floats", to=TensorProto.FLOAT)
    for edit, kind in ((half, TensorProto.FLOAT16), (double, TensorProto.DOUBLE)):
        edit.graph.input[0].type.tensor_type.elem_type = kind
        edit.graph.output[0].type.tensor_type.elem_type = kind if edit is half else TensorProto.FLOAT
        actual = enhance(photograph(), file(edit.model), threads=1).pixels.astype(int)
        assert np.abs(actual - expected).max() <= 3


def test_weights_may_be_inputs_with_a_value(file) -> None:
    """Older exporters list every weight among the inputs."""
    edit = Edit(NETS["edsr"].build(NETS["edsr"]))
    expected = enhance(photograph(), file("edsr"), threads=1).pixels
    for name, value in edit.constants().items():
        edit.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    np.testing.assert_array_equal(enhance(photograph(), file(edit.model), threads=1).pixels, expected)


def test_an_open_number_of_channels_is_that_of_the_first_kernel(file) -> None:
    model = with_shape(NETS["edsr"].build(NETS["edsr"]), "n", "c", "h", "w")
    assert read_foreign(file(model)).colour == "rgb"
    expected = enhance(photograph(), file("edsr"), threads=1).pixels
    np.testing.assert_array_equal(enhance(photograph(), file(model), threads=1).pixels, expected)


def test_a_whole_picture_network_is_refused_by_name_beyond_the_memory(file) -> None:
    picture, path = photograph(200, 300), file("squeeze")
    whole = enhance(picture, path, threads=1).pixels
    np.testing.assert_array_equal(enhance(picture, path, threads=1, tile=16, memory=10**8).pixels, whole)
    need = memory_estimate(*read_foreign(path).usable(), 200, 300)
    enhance(picture, path, threads=1, memory=need)
    rule = (
        r"x.onnx needs about .* MB of memory for 300x200 pixels at once \(GlobalAveragePool 'seen' needs the"
        r" whole picture\), and 1 MB are allowed; choose a smaller picture, or allow more with --memory"
    )
    with pytest.raises(OnebranchError, match=rule):
        enhance(picture, path, threads=1, memory=1 << 20)
    with pytest.raises(OnebranchError, match="at once"):
        enhance(picture, path, threads=1, memory=need - 1)


def test_a_tile_beyond_the_memory_names_the_way_out(file) -> None:
    with pytest.raises(OnebranchError, match=r"for 206x20 pixels, and 1 MB are .*; choose a smaller --tile"):
        enhance(
            photograph(400, 400), file("edsr"), threads=1, tile=200, memory=1 << 20, runtime="onnxruntime"
        )
    enhance(photograph(400, 400), file("edsr"), threads=1, tile=16, memory=1 << 20, runtime="onnxruntime")
    enhance(photograph(400, 400), file("edsr"), threads=1, tile=200, memory=1 << 20)  # in the engine


def test_half_of_the_free_memory_is_taken_by_default(monkeypatch: pytest.MonkeyPatch, file) -> None:
    monkeypatch.setattr(memory, "_free", lambda: iter([1 << 40, 1 << 21]))
    assert memory.memory_limit(None) == 1 << 20
    assert memory.memory_limit(5) == 5
    with pytest.raises(OnebranchError, match="and 1 MB are allowed"):
        enhance(photograph(400, 400), file("squeeze"), threads=1)


def test_this_machine_has_memory() -> None:
    assert 1 << 26 < memory.memory_limit(None) < 1 << 45


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "2X", "1e9", "two"])
def test_what_is_no_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(OnebranchError, match="is not a size of memory; write it like 500M or 2G"):
        parse_bytes(text)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc says what a process took")
@pytest.mark.parametrize("name", ["edsr", "unet", "attention", "cubic", "channels last"])
def test_memory_is_estimated_neither_far_too_low_nor_far_too_high(name: str, file) -> None:
    """Compared with the memory of a process: a low estimate could kill it, a high one refuses what fits."""
    side = 160 if name == "attention" else 1200
    code = (
        "import sys, numpy as np\n"
        "from onebranch.model.foreign import read_foreign\n"
        "from onebranch.runtime.foreign import ForeignRuntime\n"
        "from onebranch.runtime.memory import memory_estimate\n"
        # not getrusage's, which includes the memory of the parent process
        "def most():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "model, side = read_foreign(sys.argv[1]), int(sys.argv[2])\n"
        "runtime = ForeignRuntime(model, threads=2, memory=1 << 40)\n"
        "picture = np.random.default_rng(0).random((1, 3, side, side), np.float32)\n"
        "runtime.run(picture[:, :, :32, :32])\n"
        "before = most()\n"
        "runtime.run(picture)\n"
        "print(memory_estimate(*model.usable(), side, side) / (most() - before))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent)}
    words = [sys.executable, "-c", code, str(file(name)), str(side)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    assert 0.8 < float(done.stdout) < 4


def fixed(name: str, height: int, width: int) -> onnx.ModelProto:
    net = NETS[name]
    return with_shape(net.build(net), 1, 3, height, width)


@pytest.mark.parametrize("name", ["edsr", "unet", "channels last", "linear /2"])
def test_a_fixed_size_is_run_in_tiles_of_exactly_that(name: str, file) -> None:
    picture = photograph(75, 98).pixels.astype(np.float32) / 255
    whole = ForeignRuntime(read_foreign(file(name)), threads=1)
    exact = ForeignRuntime(read_foreign(file(fixed(name, 40, 32))), threads=1)
    assert exact.halo == replace(whole.halo, fixed_size=(40, 32))
    expected = whole.run(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
    sizes = []

    def piece(values: np.ndarray) -> np.ndarray:
        sizes.append(values.shape[:2])
        return exact.run(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)

    actual = run_tiled(piece, picture, exact.halo, 512)
    assert set(sizes) == {(40, 32)}
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_fixed_size_above_the_pictures_is_refused_by_name(file) -> None:
    path = file(fixed("edsr", 40, 32))
    enhance(photograph(40, 32), path, threads=1)
    with pytest.raises(OnebranchError, match=r"fixed, to 32x40 pixels, .* must not be smaller; export it"):
        enhance(photograph(40, 31), path, threads=1)


@pytest.mark.parametrize("name", ["squeeze", "fsrcnn"])
def test_a_fixed_size_without_room_for_tiles_runs_on_that_only(name: str, file) -> None:
    """One needs the whole picture, the other is smaller than its own halo."""
    channels = 1 if name == "fsrcnn" else 3
    net = NETS[name]
    path = file(with_shape(net.build(net), 1, channels, 8, 8))
    assert enhance(photograph(8, 8), path, threads=1).height == 8 * net.scale
    with pytest.raises(OnebranchError, match="it runs on pictures of 8x8 pixels only"):
        enhance(photograph(20, 20), path, threads=1)


def test_a_fixed_size_without_room_for_interpolation_is_refused(file) -> None:
    """The network's receptive field is one pixel, but chroma is interpolated from two on every side."""
    d = Drawing(1)
    d.conv("x", "a", 4, 1)
    d.add("DepthToSpace", "a", "y", blocksize=2)
    path = file(with_shape(d.model("y", opset=18), 1, 1, 4, 4))
    assert enhance(photograph(4, 4), path, threads=1).height == 8
    with pytest.raises(OnebranchError, match="too small for tiles with a halo of 2 and 2 pixels"):
        enhance(photograph(9, 9), path, threads=1)


def test_sizes_that_are_not_above_zero_are_open(file) -> None:
    """Some exporters write 0 or -1 for what is open."""
    model = with_shape(NETS["edsr"].build(NETS["edsr"]), 0, 3, -1, 0)
    assert read_foreign(file(model)).usable()[1].fixed_size == (None, None)
    expected = enhance(photograph(), file("edsr"), threads=1).pixels
    np.testing.assert_array_equal(enhance(photograph(), file(model), threads=1).pixels, expected)


@pytest.mark.parametrize("axis", [1, 3])
def test_an_old_softmax_goes_along_all_axes_that_follow(axis: int, file) -> None:
    d = Drawing()
    d.add("Softmax", d.conv("x", "a", 4), "soft", axis=axis)
    d.channels["soft"] = 4
    old, new = d.last("soft", opset=11), d.model("y", opset=18, version=8)
    named = ("Softmax 'soft' needs the whole picture",)
    assert read_foreign(file(old)).usable()[1].whole_picture_reasons == named
    assert read_foreign(file(new)).usable()[1].whole_picture_reasons == (() if axis == 1 else named)


def test_exact_pieces_cover_everything_once() -> None:
    for length in range(24, 120, 4):
        actual = exact_pieces(length, 24, 3, 8, 4)
        assert [k for piece in actual for k in range(piece.first, piece.last)] == list(range(length))
        for piece in actual:
            assert piece.end - piece.begin == 24
            assert piece.begin % 4 == 0 <= piece.begin
            assert piece.begin == 0 or piece.begin <= piece.first - 4
            assert piece.end == length or piece.end >= piece.last + 8


def not_understood() -> onnx.ModelProto:
    """A pixel shuffle, plus zero times the number of nonzero values, for which the analysis has no rule."""
    d = Drawing()
    d.conv("x", "a", 12)
    d.add("DepthToSpace", "a", "b", blocksize=2)
    d.add("NonZero", "b", "places")
    d.add("ReduceSum", [d.add("Cast", "places", "numbers", to=1)], "total", keepdims=0)
    d.add("Mul", ["total", d.constant("nothing", np.array(0, np.float32))], "zero")
    d.add("Add", ["b", "zero"], "y")
    return d.model("y", opset=18, version=8)


def test_unsupported_networks_are_probed_by_running_them(file) -> None:
    model = read_foreign(file(not_understood()))
    assert model.refusal == ""
    assert model.usable()[1].unsupported == "NonZero 'places': this operation is not known"
    runtime = ForeignRuntime(model, threads=1)
    assert runtime.halo.needs_whole_picture
    assert (runtime.halo.scale, runtime.halo.multiple) == (Fraction(2), 1)
    result = enhance(photograph(), file(not_understood()), threads=1)
    assert (result.height, result.width) == (82, 106)
    with pytest.raises(OnebranchError, match=r"at once \(NonZero 'places': this operation is not known\)"):
        enhance(photograph(), file(not_understood()), threads=1, memory=1000)


def two_outputs() -> onnx.ModelProto:
    d = Drawing()
    return d.model(d.conv("x", "y", 3), d.conv("x", "z", 3), opset=18)


def two_inputs() -> onnx.ModelProto:
    edit = Edit(NETS["edsr"].build(NETS["edsr"]))
    edit.graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, [1]))
    return edit.model


def of_channels(given: int, made: int) -> onnx.ModelProto:
    d = Drawing(given)
    return d.model(d.conv("x", "y", made), opset=18)


def without_border() -> onnx.ModelProto:
    d = Drawing()
    return d.model(d.conv(d.conv("x", "a", 8, pad=0), "y", 3, pad=0), opset=18)


def of_bytes() -> onnx.ModelProto:
    d = Drawing()
    d.add("Cast", "x", "floats", to=1)
    d.channels["floats"] = 3
    return with_shape(d.last("floats"), "n", 3, "h", "w", kind=TensorProto.UINT8)


def channels_last() -> onnx.ModelProto:
    d = Drawing()
    d.add("Transpose", "x", "planes", perm=[0, 3, 1, 2])
    d.channels["planes"] = 3
    return with_shape(d.last("planes"), "n", "h", "w", 3)


def of_a_batch() -> onnx.ModelProto:
    return with_shape(NETS["edsr"].build(NETS["edsr"]), 4, 3, "h", "w")


def half_fixed() -> onnx.ModelProto:
    return with_shape(NETS["edsr"].build(NETS["edsr"]), 1, 3, 64, "w")


def oblong() -> onnx.ModelProto:
    d = Drawing()
    return d.model(d.conv("x", "y", 3, strides=[1, 2]), opset=18)


def classifier() -> onnx.ModelProto:
    d = Drawing()
    d.add("Flatten", d.add("GlobalAveragePool", d.conv("x", "a", 5), "pool"), "y")
    return d.model("y", opset=18)


def with_control_flow() -> onnx.ModelProto:
    d = Drawing()
    d.conv("x", "a", 3)
    d.add("ReduceMax", ["a"], "largest", keepdims=0)
    d.add("Greater", ["largest", d.constant("half", np.array(0.5, np.float32))], "bright")
    branches = {}
    for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg")):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([helper.make_node(kind, ["a"], [name])], name, [], [output])
    d.add("If", "bright", "y", **branches)
    return d.model("y", opset=18)


REFUSED = [
    (two_outputs, r"it has 2 outputs \('y', 'z'\) where a picture network has one"),
    (two_inputs, r"it has 2 inputs \('x', 'noise'\) where a picture network has one"),
    (lambda: of_channels(4, 4), "its input has 4 channels; it must have 1 .* or 3"),
    (lambda: of_channels(3, 1), "its output has 1 channels where its input has 3"),
    (without_border, "its output 'y' has 1 times the picture's rows -4; .* keep the picture's border"),
    (of_bytes, "its input 'x' is of type uint8; it must be float32, float16, float64, from 0 to 1"),
    (channels_last, "the channels of its input come last"),
    (of_a_batch, "its input 'x' takes 4 pictures at once; it must take one"),
    (half_fixed, "only one side of its input 'x' is fixed"),
    (oblong, "the graph scales rows and columns differently"),
    (classifier, "its output 'y' has 2 axes where a picture has four|its output 'y' is not a picture"),
    (with_control_flow, "If 'y' chooses what to compute while it runs"),
]


@pytest.mark.parametrize(("build", "rule"), REFUSED)
def test_what_cannot_run_is_refused_by_name(
    build: Callable[[], onnx.ModelProto], rule: str, file, run: CommandLine
) -> None:
    path = file(build())
    with pytest.raises(OnebranchError, match=f"x.onnx: {rule}"):
        enhance(photograph(), path)
    facts = json.loads(run("info", "--json", path).output)
    assert not facts["runs"]
    assert facts["refusal"]
    assert "this model cannot run: " in run("info", path).output


def test_a_failing_run_is_one_line(file) -> None:
    """The network reads row 600, which the picture does not have, and no shape shows."""
    d = Drawing()
    d.add("Gather", [d.conv("x", "a", 3), d.constant("row", np.array([600]))], "row 600", axis=2)
    d.add("Add", ["a", "row 600"], "y")
    path = file(d.model("y", opset=18))
    with pytest.raises(OnebranchError, match="does not run on") as caught:
        enhance(photograph(), path, threads=1)
    assert "\n" not in str(caught.value)


def test_the_command_line(file, run: CommandLine, crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = run("enhance", crops / "sand.png", "-o", out, "-m", file("edsr"), "--threads", 1, "--memory", "1G")
    assert done.code == 0, done.errors
    assert "64x72 -> 128x144" in done.output
    assert "x in engine, the file's own precision" in done.output
    other = run(
        "enhance",
        crops / "sand.png",
        "-o",
        tmp_path / "c.png",
        "-m",
        file("edsr"),
        "--runtime",
        "onnxruntime",
    )
    assert "x in onnxruntime, the file's own precision" in other.output
    difference = read_picture(tmp_path / "c.png").pixels.astype(int) - read_picture(out).pixels
    assert np.abs(difference).max() <= 1  # levels: a rounding of float32
    write_picture(Picture(np.zeros((1500, 1500, 3), np.uint8)), tmp_path / "large.png")
    words = ("enhance", tmp_path / "large.png", "-o", tmp_path / "b.png", "-m", file("squeeze"), "--memory")
    assert "GlobalAveragePool 'seen' needs the whole picture" in run(*words, "160M").errors
    assert (
        "MB, because its network needs the whole picture, more than the 0.00977 MB allowed (--memory)"
        in run(*words, "10K").errors
    )
    assert "is not a size of memory" in run.refused(*words, "much")
    assert "neither a shipped model nor a file" in run.refused(*words[:5], tmp_path / "absent.onnx")


def test_info_says_what_is_in_the_file(file, run: CommandLine) -> None:
    facts = json.loads(run("info", "--json", file("unet")).output)
    assert facts["inputs"] == {"x": "float32 (N, 3, H, W)"}
    assert (facts["scale"], facts["multiple"], facts["colour"]) == ("1", 4, "RGB")
    assert facts["halo"] == {"top": 8, "bottom": 8, "left": 8, "right": 8}
    assert facts["operations"] == {"Conv": 4, "Relu": 3, "ConvTranspose": 2, "Add": 1, "Concat": 1}
    weights = read_foreign(file("unet")).usable()[0].constants.values()
    assert facts["parameters"] == sum(array.size for array in weights)
    assert facts["runs"]
    assert facts["memory_of_a_tile"].endswith("for 528x528 pixels")
    facts = json.loads(run("info", "--json", file("attention")).output)
    assert facts["whole"] == ["MatMul 'scores' needs the whole picture"]
    assert facts["halo"] == "the whole picture"
    facts = json.loads(run("info", "--json", file(fixed("edsr", 40, 32))).output)
    assert facts["fixed_size"] == "32x40 pixels"
    assert "found by running it" in run("info", file(not_understood())).output


def test_other_commands_say_what_they_want(file, run: CommandLine, crops: Path) -> None:
    said = run.refused("evaluate", "-m", file("edsr"), "-d", crops)
    assert "is an ONNX file, which enhance, info, merge and verify accept" in said


def test_a_foreign_model_runs_in_the_session_that_its_file_is(file) -> None:
    """As it is: nothing is rewritten on the way."""
    path = file("unet")
    picture = np.random.default_rng(0).random((1, 3, 40, 48), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    actual = open_foreign(read_foreign(path), "onnxruntime", threads=1).run(picture)
    np.testing.assert_allclose(actual, session.run(None, {"x": picture})[0], rtol=0, atol=1e-6)


def test_pictures_below_the_minimum_size_are_padded(file) -> None:
    """Reflection by two pixels needs three, crops by two on both sides need five."""
    for name in ("reflected", "cropped"):
        assert enhance(photograph(1, 2), file(name), threads=1).width == 2


def test_a_value_that_no_one_reads_may_be_anything(file) -> None:
    edit = Edit(NETS["edsr"].build(NETS["edsr"]))
    edit.insert(len(edit.graph.node), "GlobalAveragePool", ["head"], "unread")
    assert read_foreign(file(edit.model)).usable()[1].halo == Padding.uniform(6)


def test_constants_are_folded(file) -> None:
    """A kernel made of other constants, with a reshape and a sum, still has a size."""
    d = Drawing()
    d.add("Reshape", [d.normal("flat", 81), d.numbers("shape", 3, 3, 3, 3)], "kernel")
    d.add("Add", ["kernel", d.constant("one", np.array(1, np.float32))], "more")
    d.add("Conv", ["x", "more"], "y", pads=[1] * 4)
    model = read_foreign(file(d.model("y", opset=18)))
    assert isinstance(model, ForeignModel)
    assert model.usable()[1].halo == Padding.uniform(1)


def test_quantized_weights_are_understood(file) -> None:
    """A kernel stored as int8, made float where it is used, and values quantized in between."""
    d = Drawing()
    d.constant("stored", np.random.default_rng(0).integers(-99, 99, (3, 3, 3, 3), np.int8))
    d.constant("step", np.array(0.01, np.float32))
    d.constant("zero", np.array(0, np.uint8))
    d.add("DequantizeLinear", ["stored", "step"], "kernel")
    d.add("QuantizeLinear", ["x", "step", "zero"], "rounded")
    d.add("DequantizeLinear", ["rounded", "step", "zero"], "again")
    d.add("Conv", ["again", "kernel"], "y", pads=[1] * 4)
    path = file(d.model("y", opset=18))
    assert read_foreign(path).usable()[1].halo == Padding.uniform(1)
    whole = enhance(photograph(), path, threads=1).pixels
    np.testing.assert_array_equal(enhance(photograph(), path, threads=1, tile=16).pixels, whole)


def test_sparse_weights_are_refused(file) -> None:
    edit = Edit(of_channels(3, 3))
    values = numpy_helper.from_array(np.ones(2, np.float32), "rare")
    indices = numpy_helper.from_array(np.array([0, 1], np.int64))
    edit.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(OnebranchError, match="its weight 'rare' is sparse"):
        enhance(photograph(), file(edit.model))
