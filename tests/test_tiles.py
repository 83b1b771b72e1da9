"""A picture in tiles equals the picture as a whole, borders and all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_specs import network_specs, random_model
from onebranch.algebra.network import run_network
from onebranch.enhancer.tiles import check_tile, pieces, run_tiled
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import halo
from onebranch.lowering.floats import lower
from onebranch.runtime.selection import open_runtime
from onebranch.spec.network import NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand

TOLERANCE = 1e-5
"""Relative to the largest value: float32 sums differ in order, because runtimes block by size."""


def as_picture(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A network on (N, C, H, W) as a function of one picture (H, W, C)."""
    return lambda picture: np.moveaxis(run(np.ascontiguousarray(np.moveaxis(picture, 2, 0)[None]))[0], 0, 2)


@given(
    st.integers(1, 200),
    st.integers(1, 64),
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from([1, 2, 3, 4]),
)
def test_pieces_cover_everything_once(length: int, tile: int, before: int, after: int, multiple: int) -> None:
    actual = pieces(length, tile, before, after, multiple)
    assert [pixel for piece in actual for pixel in range(piece.first, piece.last)] == list(range(length))
    for piece in actual:
        assert piece.first % multiple == piece.begin % multiple == 0
        assert piece.begin <= max(0, piece.first - before)
        assert piece.end >= min(length, piece.last + after)
        assert piece.end % multiple == 0 or piece.end == length
        assert piece.last - piece.first <= max(-(-tile // multiple), 1) * multiple


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs(), st.integers(1, 23), st.integers(1, 23), st.integers(1, 9), st.integers(0, 99))
def test_tiles_equal_the_whole_exactly_in_float64(
    spec: NetworkSpec, height: int, width: int, tile: int, seed: int
) -> None:
    model = random_model(spec, seed)
    picture = np.random.default_rng(seed).random((height, width, spec.channels))
    run = as_picture(lambda values: run_network(spec, model.weights, values))

    whole = run(picture)
    tiled = run_tiled(run, picture, halo(lower(spec, model.weights)), tile)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-12 * max(1, np.abs(whole).max()))


@pytest.mark.parametrize("tile", [32, 33, 50, 64, 100])
@pytest.mark.parametrize(
    "options",
    [
        {"task": "upscale", "scale": 2},
        {"task": "upscale", "scale": 3, "colour": "rgb", "residual": "bicubic"},
        {"task": "denoise", "colour": "rgb", "residual": "nearest"},
        {"task": "downscale", "scale": 2, "residual": "bicubic"},
        {"task": "downscale", "scale": 3, "downsampling": "unshuffle"},
        {"task": "downscale", "scale": 4, "downsampling": "average"},
    ],
)
def test_tiles_equal_the_whole_in_onnxruntime(options: dict, tile: int) -> None:
    spec = expand(NetworkShorthand(width=8, depth=2, branches="plain", **options))
    runtime = open_runtime(random_model(spec), threads=1)
    picture = np.random.default_rng(0).random((131, 97, spec.channels), np.float32)
    run = as_picture(runtime.run)
    whole = run(picture)
    tiled = run_tiled(run, picture, runtime.halo, tile)
    assert tiled.shape == whole.shape
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=TOLERANCE * max(1, np.abs(whole).max()))


def test_a_halo_one_pixel_too_small_shows() -> None:
    """The comparison fails as soon as the halo is too small."""
    spec = expand(NetworkShorthand(task="upscale", depth=1, branches="plain"))
    model = random_model(spec)
    picture = np.random.default_rng(0).random((40, 40, 1))
    run = as_picture(lambda values: run_network(spec, model.weights, values))
    exact = halo(lower(spec, model.weights))
    for side in ("top", "bottom", "left", "right"):
        short = replace(exact, **{side: getattr(exact, side) - 1})
        assert np.abs(run_tiled(run, picture, short, 16) - run(picture)).max() > 1e-6, side


def test_tiles_too_small_to_be_meant_are_refused() -> None:
    check_tile(8)
    with pytest.raises(OnebranchError, match=r"tile must be at least 8 pixels, or 0 .*, not 7"):
        check_tile(7)
