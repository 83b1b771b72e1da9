"""Pictures are padded only if a network cannot run without; otherwise the output is the network's own."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from onebranch.enhancer.tiles import run_tiled
from onebranch.graph.onnx.file import write
from onebranch.model.foreign import read_foreign
from onebranch.runtime.foreign import ForeignRuntime
from picture_networks import LOCAL, Drawing

SIZES = [(37, 29), (18, 45), (5, 3), (40, 33)]
NETS = {net.name: net for net in LOCAL}


def pooled_and_resized(kind: str, factor: int, **attributes: object) -> onnx.ModelProto:
    """Reduced by a pool that rounds, and resized to the size that it had before."""
    d = Drawing()
    d.add(kind, d.conv("x", "a", 4), "p", kernel_shape=[factor] * 2, strides=[factor] * 2, **attributes)
    d.channels["p"] = 4
    sizes = d.joined("sizes", 1, 4, d.size_of("a", 2), d.size_of("a", 3))
    d.add("Resize", [d.conv("p", "b", 4), "", "", sizes], "up", mode="linear")
    d.add("Add", ["up", "a"], "sum")
    d.channels["sum"] = 4
    return d.last("sum")


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "max pool by 5": lambda: pooled_and_resized("MaxPool", 5),
    "max pool by 2, rounding up": lambda: pooled_and_resized("MaxPool", 2, ceil_mode=1),
    "average by 3": lambda: pooled_and_resized("AveragePool", 3),
    "padded inside": lambda: NETS["cut to size"].build(NETS["cut to size"]),
    "resized back": lambda: NETS["resized back"].build(NETS["resized back"]),
}


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_the_output_is_the_networks_own_where_it_runs(name: str, height: int, width: int, tmp_path) -> None:
    write(MODELS[name](), tmp_path / "x.onnx")
    runtime = ForeignRuntime(read_foreign(tmp_path / "x.onnx"), threads=1)
    assert runtime.halo.multiple > 1
    picture = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    try:
        expected = session.run(None, {"x": picture})[0]
    except Exception:  # the network itself does not run on so few pixels
        assert min(height, width) < 8
        return
    np.testing.assert_array_equal(runtime.run(picture), expected)

    def run(piece: np.ndarray) -> np.ndarray:
        return runtime.run(np.ascontiguousarray(piece.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)

    tiled = run_tiled(run, picture[0].transpose(1, 2, 0), runtime.halo, 16)
    np.testing.assert_allclose(tiled, expected[0].transpose(1, 2, 0), rtol=0, atol=1e-5)


def test_a_network_that_keeps_tiles_exact_still_runs_in_tiles(tmp_path) -> None:
    """Padding inside the network allows tiles; a resize to a rounded size needs the whole picture."""
    write(MODELS["padded inside"](), tmp_path / "padded.onnx")
    write(MODELS["resized back"](), tmp_path / "resized.onnx")
    padded, resized = (
        ForeignRuntime(read_foreign(tmp_path / f"{name}.onnx"), threads=1).halo
        for name in ("padded", "resized")
    )
    assert not padded.at(37, 41).needs_whole_picture
    assert resized.at(37, 41).needs_whole_picture
    assert not resized.at(36, 44).needs_whole_picture
