"""ONNX files: read completely or refused in one line; written files can be read again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onebranch.errors import OnebranchError
from onebranch.graph.onnx import file as onnx_file
from onebranch.graph.onnx.file import opset_of, read, write

OPSET = 18


def small_model(weight: np.ndarray | None = None) -> onnx.ModelProto:
    """One 3x3 convolution of 8 channels: 2,304 bytes of weights, too many to stay in the file always."""
    if weight is None:
        weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    shape = ["batch", 8, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weight", "bias"], ["output"], pads=[1, 1, 1, 1])],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "weight"), helper.make_tensor("bias", 1, [8], [0.5] * 8)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A file whose weights lie in weights.bin beside it."""
    path = tmp_path / "split.onnx"
    onnx.save_model(small_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def outputs(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": np.random.default_rng(1).random((1, 8, 5, 4), np.float32)})[0]


def test_a_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write(small_model(), tmp_path / "x.onnx")
    assert read(tmp_path / "x.onnx") == small_model()
    assert opset_of(read(tmp_path / "x.onnx")) == OPSET
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_an_existing_file_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(OnebranchError, match="it exists"):
        write(small_model(), path)
    assert path.read_bytes() == b"mine"
    write(small_model(), path, overwrite=True)
    assert read(path) == small_model()


def test_outputs_may_have_no_shape(tmp_path: Path) -> None:
    model = small_model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    write(model, tmp_path / "x.onnx")
    assert read(tmp_path / "x.onnx") == model


def test_external_data_is_read_into_the_model(beside: Path, tmp_path: Path) -> None:
    model = read(beside)
    assert {tensor.data_location for tensor in model.graph.initializer} == {TensorProto.DEFAULT}
    write(model, tmp_path / "whole.onnx")
    shutil.move(tmp_path / "weights.bin", tmp_path / "away.bin")
    expected = read(tmp_path / "whole.onnx")
    assert [numpy_helper.to_array(t).tolist() for t in expected.graph.initializer] == [
        numpy_helper.to_array(t).tolist() for t in small_model().graph.initializer
    ]


def test_models_beyond_the_limit_put_their_weights_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small_model(), tmp_path / "whole.onnx")
    monkeypatch.setattr(onnx_file, "MAX_FILE_BYTES", 100)
    given = small_model()
    write(given, tmp_path / "split.onnx")
    assert given == small_model(), "the model that was given has changed"
    (data,) = tmp_path.glob("split.onnx.*.data")
    assert data.stat().st_size == 2304
    assert (tmp_path / "split.onnx").stat().st_size < 1000
    np.testing.assert_array_equal(outputs(tmp_path / "split.onnx"), outputs(tmp_path / "whole.onnx"))
    np.testing.assert_array_equal(
        numpy_helper.to_array(read(tmp_path / "split.onnx").graph.initializer[0]),
        numpy_helper.to_array(given.graph.initializer[0]),
    )


def test_a_model_never_meets_the_data_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill between the two files, or an overwritten model, the old one still has its own data."""
    monkeypatch.setattr(onnx_file, "MAX_FILE_BYTES", 100)
    path = tmp_path / "x.onnx"
    write(small_model(), path)
    before = outputs(path)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            write(small_model(np.ones((8, 8, 3, 3), np.float32)), path, overwrite=True)
    np.testing.assert_array_equal(outputs(path), before)


def test_missing_data_is_named(beside: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(OnebranchError, match=r"split.onnx: .*'weights.bin', which is missing; put it beside"):
        read(beside)


@pytest.mark.parametrize("size", [0, 100, 2303])
def test_data_that_is_too_short_is_refused(beside: Path, tmp_path: Path, size: int) -> None:
    content = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(content[:size])
    with pytest.raises(OnebranchError, match=r"does not lie in 'weights.bin' as the model says"):
        read(beside)


def edited(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """The file with its message changed, external data left where it is."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-1"), ("length", "9"), ("offset", "x"), ("length", "-1")]
)
def test_impossible_locations_are_refused(beside: Path, key: str, value: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        entries = model.graph.initializer[0].external_data
        kept = {entry.key: entry.value for entry in entries} | {key: value}
        del entries[:]
        for k, v in kept.items():
            entries.add(key=k, value=v)

    with pytest.raises(OnebranchError, match=r"does not lie in|is not a number"):
        read(edited(beside, change))


@pytest.mark.parametrize("where", ["../secret.bin", "{outside}", "inner/../../secret.bin", "link.bin", ""])
def test_data_outside_of_the_folder_is_never_read(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    outside = tmp_path / "secret.bin"
    outside.write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to(outside)
    path = folder / "x.onnx"
    onnx.save_model(small_model(), path, save_as_external_data=True, location="d.bin", size_threshold=0)

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].external_data[0].value = where.format(outside=outside)

    with pytest.raises(OnebranchError, match="outside of the model's folder"):
        read(edited(path, change))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebranchError, match="there is no such file"):
        read(tmp_path / "absent.onnx")
    with pytest.raises(OnebranchError, match="it is a folder"):
        read(tmp_path)
    for content, said in (
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n", "is not a whole ONNX file"),
        (b"hello, this is a text", "is not a whole ONNX file"),
        (b"\x08\x08", "has no graph"),
    ):
        path = tmp_path / "x.onnx"
        path.write_bytes(content)
        with pytest.raises(OnebranchError, match=said):
            read(path)


def versions(opset: int, ir_version: int = 8) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version, model.ir_version = opset, ir_version

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (versions(8), "opset 8, this program reads 9 to .*; export it again, or convert it with"),
        (versions(999), "opset 999, the installed onnx knows up to .*; install a newer onnx"),
        (versions(18, 99), "IR version 99, .* reads up to"),
    ],
)
def test_versions_out_of_range_are_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    write(small_model(), tmp_path / "x.onnx")
    with pytest.raises(OnebranchError, match=said):
        read(edited(tmp_path / "x.onnx", change))


def shortened(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def emptied(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].ClearField("float_data")


def enormous(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] = 1 << 60


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -8


def of_no_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def unconnected(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nothing"


def of_no_kind(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Convolve"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shortened, "'weight' does not hold the numbers"),
        (emptied, "'bias' does not hold the numbers"),
        (enormous, "'bias' does not hold the numbers"),
        (negative, "'weight' has a negative size"),
        (of_no_type, "'weight' is of the unknown type 77"),
        (unconnected, "it breaks ONNX's rules: .*'nothing'"),
        (of_no_kind, "it breaks ONNX's rules: .*Convolve"),
    ],
)
def test_damaged_models_are_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    write(small_model(), tmp_path / "x.onnx")
    with pytest.raises(OnebranchError, match=said):
        read(edited(tmp_path / "x.onnx", change))


def test_damage_anywhere_is_a_clear_error_or_harmless(tmp_path: Path) -> None:
    """Cut off or with a byte changed at any place: read, or refused; no other exception."""
    content = small_model(np.zeros((8, 8, 1, 1), np.float32)).SerializeToString()
    path, rng = tmp_path / "x.onnx", np.random.default_rng(0)
    refused = 0
    for offset in range(0, len(content), 3):
        changed = content[:offset] + bytes([rng.integers(256)]) + content[offset + 1 :]
        for damaged in (content[:offset], changed):
            path.write_bytes(damaged)
            try:
                read(path)
            except OnebranchError:
                refused += 1
    assert refused > 100
