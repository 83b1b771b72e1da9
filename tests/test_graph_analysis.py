"""Graph analysis against measurements: scale, multiple and halo equal what running the network shows."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onebranch.algebra.padding import Padding
from onebranch.enhancer.tiles import run_tiled
from onebranch.graph.analysis import state
from onebranch.graph.analysis.graph_analysis import analyze
from onebranch.graph.analysis.halo import Halo, NeedsWholePictureError, halo, halo_of
from onebranch.graph.analysis.state import SymbolicValues, as_symbolic_values
from onebranch.graph.onnx.file import write
from onebranch.graph.onnx.graph import graph_of
from onebranch.model.foreign import read_foreign
from onebranch.runtime.foreign import ForeignRuntime
from picture_networks import GLOBAL, LOCAL, Net

TOLERANCE = 1e-5
"""Relative to the largest value: float32 sums differ in order, because runtimes block by size."""

named = pytest.mark.parametrize("net", LOCAL, ids=lambda net: net.name)
named_global = pytest.mark.parametrize("net", GLOBAL, ids=lambda net: net.name)


def test_weights_are_not_converted_to_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact fractions of ten thousand weights would take most of the time that opening a model takes."""
    converted = []

    def count(array: np.ndarray) -> SymbolicValues:
        converted.append(array.size)
        return as_symbolic_values(array)

    monkeypatch.setattr(state, "as_symbolic_values", count)
    for net in LOCAL:
        analyze(graph_of(net.build(net)))
    assert max(converted) <= 8, "a list of sizes has one element per axis, or two for paddings"


@pytest.fixture
def opened(tmp_path) -> Callable[[onnx.ModelProto], ForeignRuntime]:
    def open_model(model: onnx.ModelProto) -> ForeignRuntime:
        write(model, tmp_path / "x.onnx", overwrite=True)
        return ForeignRuntime(read_foreign(tmp_path / "x.onnx"), threads=1)

    return open_model


def as_picture(runtime: ForeignRuntime) -> Callable[[np.ndarray], np.ndarray]:
    """A network on (N, C, H, W) as a function of one picture (H, W, C)."""
    return lambda p: np.moveaxis(runtime.run(np.ascontiguousarray(np.moveaxis(p, 2, 0)[None]))[0], 0, 2)


def picture_of(runtime: ForeignRuntime, height: int, width: int) -> np.ndarray:
    channels = runtime.model.usable()[1].channels[0]
    return np.random.default_rng(0).random((height, width, channels), np.float32)


def measured(runtime: ForeignRuntime) -> Padding:
    """The halo, measured by changing every row and column of a picture and comparing outputs.

    In whole cells of `multiple` pixels, around the output pixels of a cell in the middle.
    """
    known, run = runtime.halo, as_picture(runtime)
    widest = max(known.top, known.bottom, known.left, known.right)
    middle = -(-(widest + known.multiple) // known.multiple) * known.multiple
    end = middle + known.multiple
    picture = picture_of(runtime, *(2 * middle + known.multiple,) * 2)
    base, sides = run(picture), []
    for axis in (0, 1):
        before = after = 0
        for line in range(len(picture)):
            changed = picture.copy()
            np.moveaxis(changed, axis, 0)[line] += 0.5
            lines = np.moveaxis(run(changed) != base, axis, 0).any((1, 2))
            if lines[known.scaled(middle) : known.scaled(end)].any():
                before, after = max(before, middle - line), max(after, line - end + 1)
        sides += [before, after]
    return Padding(*(-(-side // known.multiple) * known.multiple for side in sides))


@named
def test_scale_multiple_and_halo_are_determined(net: Net) -> None:
    analysis = analyze(graph_of(net.build(net)))
    assert (analysis.scale, analysis.multiple, analysis.halo) == (net.scale, net.multiple, net.halo)
    assert (analysis.whole_picture_reasons, analysis.unsupported) == ((), "")


@named
def test_the_halo_is_what_the_network_needs(net: Net, opened) -> None:
    needed = measured(opened(net.build(net)))
    if net.exact:
        assert needed == net.halo
    assert all(
        getattr(net.halo, side) >= getattr(needed, side) for side in ("top", "bottom", "left", "right")
    )


@named
@pytest.mark.parametrize(("height", "width"), [(61, 83), (37, 18), (1, 40), (5, 3)])
def test_tiles_equal_the_whole(net: Net, opened, height: int, width: int) -> None:
    runtime = opened(net.build(net))
    run, picture = as_picture(runtime), picture_of(runtime, height, width)
    whole = run(picture)
    assert whole.shape[:2] == (runtime.halo.scaled(height), runtime.halo.scaled(width))
    for tile in (8, 13, 32):
        tiled = run_tiled(run, picture, runtime.halo, tile)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=TOLERANCE * max(1, np.abs(whole).max()))


@named
def test_a_halo_too_small_shows(net: Net, opened) -> None:
    """One cell less, and tiles differ: the halo is not larger than needed."""
    runtime = opened(net.build(net))
    run, picture = as_picture(runtime), picture_of(runtime, 64, 64)
    whole, known = run(picture), replace(runtime.halo, minimum_border_tile=1)
    for side in ("top", "bottom", "left", "right"):
        if getattr(known, side):
            short = replace(known, **{side: getattr(known, side) - known.multiple})
            assert np.abs(run_tiled(run, picture, short, 16) - whole).max() > 1e-6, side


@named_global
def test_what_needs_the_whole_picture_is_named(net: Net) -> None:
    graph = graph_of(net.build(net))
    analysis = analyze(graph)
    assert (analysis.scale, analysis.multiple, analysis.halo) == (net.scale, net.multiple, None)
    assert analysis.whole_picture_reasons[0] == f"{net.whole} needs the whole picture"
    assert halo_of(analysis).needs_whole_picture
    with pytest.raises(NeedsWholePictureError, match=f"the graph has no halo: {net.whole}"):
        halo(graph)


@named_global
def test_what_needs_the_whole_picture_would_differ_in_tiles(net: Net, opened) -> None:
    runtime = opened(net.build(net))
    run, picture = as_picture(runtime), picture_of(runtime, 45, 38)
    whole = run(picture)
    np.testing.assert_array_equal(run_tiled(run, picture, runtime.halo, 16), whole)
    pretended = Halo(4, 4, 4, 4, runtime.halo.scale, 1)
    assert np.abs(run_tiled(run, picture, pretended, 16) - whole).max() > 1e-6
