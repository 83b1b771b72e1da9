"""Enhancing pictures: colours, depths, alpha, tiles and sizes, against the float64 definition."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_specs import calm_model
from onebranch.algebra.network import filled, run_network
from onebranch.enhancer.engine_stage import EngineStage
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.options import Options, models_for, requested_size
from onebranch.enhancer.stage import ArrayStage, GraphStage
from onebranch.errors import OnebranchError
from onebranch.images.alpha import fill_transparent as hidden_filled
from onebranch.images.colour import to_rgb, to_ycbcr
from onebranch.images.density import Density
from onebranch.images.metadata import Metadata
from onebranch.images.picture import Picture
from onebranch.images.resize import resize
from onebranch.images.samples import WHITE_LEVELS
from onebranch.model import catalogue
from onebranch.model.file import Model, write
from onebranch.runtime.selection import open_runtime

TASKS = [
    {"task": "upscale", "scale": 2},
    {"task": "upscale", "scale": 3},
    {"task": "downscale", "scale": 2},
    {"task": "downscale", "scale": 3, "downsampling": "average"},
    {"task": "denoise"},
]


def picture_of(
    channels: int, kind: str = "uint8", size: tuple[int, int] = (45, 38), seed: int = 0
) -> Picture:
    """A smooth picture with some noise, of any depth."""
    rng = np.random.default_rng(seed)
    smooth = resize(rng.random((7, 6, channels)), *size)
    values = np.clip(smooth * 0.7 + 0.15 + rng.normal(0, 0.02, smooth.shape), 0, 1) * WHITE_LEVELS[kind]
    return Picture((np.round(values) if kind != "float32" else values).astype(kind))


def network_on(model: Model, planes: np.ndarray) -> np.ndarray:
    """The definition of the network on (H, W, C) in float64."""
    return run_network(model.spec, model.weights, planes.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)


def interpolated(model: Model, planes: np.ndarray) -> np.ndarray:
    """Planes (H, W, C) as chroma is resized: bicubic, the picture filled as the network fills it."""
    spec = model.spec
    if spec.task == "denoise":
        return planes
    if spec.task == "upscale":
        return resize(planes, planes.shape[0] * spec.scale, planes.shape[1] * spec.scale, border="edge")
    whole = filled(planes.transpose(2, 0, 1)[None], spec.scale)[0].transpose(1, 2, 0)
    return resize(whole, whole.shape[0] // spec.scale, whole.shape[1] // spec.scale, border="edge")


def defined(model: Model, pixels: np.ndarray) -> np.ndarray:
    """The definition of enhancing in float64: from grey or RGB to the same, in [0, 1], unclipped."""
    values = pixels.astype(np.float64) / WHITE_LEVELS[pixels.dtype.name]
    if model.spec.colour == "rgb":
        if values.shape[2] == 3:
            return network_on(model, values)
        return to_ycbcr(network_on(model, values.repeat(3, 2)))[..., :1] * 255 / 219 - 16 / 219
    ycbcr = to_ycbcr(values.repeat(3, 2) if values.shape[2] == 1 else values)
    y = network_on(model, ycbcr[..., :1])
    if values.shape[2] == 1:
        return (y * 255 - 16) / 219
    return to_rgb(np.concatenate([y, interpolated(model, ycbcr[..., 1:])], 2))


def assert_rounded_from(actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert that floats equal `expected`, and integers equal it clipped and rounded (except for ties)."""
    assert actual.shape == expected.shape
    peak = WHITE_LEVELS[actual.dtype.name]
    if peak == 1:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
        return
    error = np.abs(actual.astype(np.float64) - np.clip(expected, 0, 1) * peak)
    assert error.max() <= 0.5 + 1e-5 * peak


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("options", TASKS)
def test_enhancing_is_what_it_is_defined_to_be(options: dict, colour: str, channels: int) -> None:
    model = calm_model(colour, **options)
    for kind in WHITE_LEVELS:
        picture = picture_of(channels, kind)
        result = enhance(picture, model, threads=1)
        assert result.pixels.dtype == picture.pixels.dtype
        assert_rounded_from(result.pixels, defined(model, picture.pixels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("options", TASKS)
def test_both_routes_are_what_they_are_defined_to_be(options: dict, colour: str, channels: int) -> None:
    model = calm_model(colour, **options)
    arrays, graph = ArrayStage(model, open_runtime(model, threads=1)), GraphStage(model, threads=1)
    assert arrays.halo == graph.halo
    for source, target in itertools.product(WHITE_LEVELS, WHITE_LEVELS):
        pixels = picture_of(channels, source).pixels
        for stage in (arrays, graph):
            result = stage.pixels(channels, source, target)(pixels)
            assert result.dtype.name == target
            assert_rounded_from(result, defined(model, pixels))
            alpha = stage.alpha(source, target)(pixels[..., :1])
            expected = interpolated(model, pixels[..., :1].astype(np.float64) / WHITE_LEVELS[source])
            assert_rounded_from(alpha, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("options", TASKS)
def test_tiles_equal_the_whole(options: dict, colour: str, channels: int) -> None:
    model = calm_model(colour, **options)
    plain = picture_of(channels, "float32", (101, 67))
    alpha = picture_of(1, "float32", (101, 67), seed=1).pixels[..., 0]
    picture = Picture(plain.pixels, alpha)
    whole = enhance(picture, model, threads=1, tile=4096)
    for tile in (32, 33, 64):
        tiled = enhance(picture, model, threads=1, tile=tile)
        np.testing.assert_allclose(tiled.pixels, whole.pixels, rtol=0, atol=1e-5)
        np.testing.assert_allclose(tiled.alpha, whole.alpha, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 2)])
@pytest.mark.parametrize("options", TASKS)
def test_tiny_pictures(options: dict, size: tuple[int, int]) -> None:
    for colour in ("y", "rgb"):
        model = calm_model(colour, **options)
        picture = picture_of(3, size=size)
        assert_rounded_from(enhance(picture, model, threads=1).pixels, defined(model, picture.pixels))


def test_values_are_clipped_and_rounded_half_up_once() -> None:
    model = calm_model("rgb", task="denoise", residual="none", depth=0)
    shifted = {name: np.zeros_like(value) for name, value in model.weights.items()}
    for bias, expected in [(-0.1, 0), (1.2, 255), (0.5 / 255, 1), (0.498 / 255, 0), (127.5 / 255, 128)]:
        shifted["tail.branches.0.0.bias"] = np.full(3, bias, np.float32)
        result = enhance(picture_of(3), Model(model.spec, shifted), threads=1)
        assert (result.pixels == expected).all(), bias


def test_denoising_luma_leaves_chroma_as_it_is() -> None:
    model = calm_model("y", task="denoise")
    picture = picture_of(3, "float32")
    result = enhance(picture, model, threads=1)
    before, after = to_ycbcr(picture.pixels), to_ycbcr(result.pixels)
    np.testing.assert_allclose(before[..., 1:], after[..., 1:], rtol=0, atol=2e-6)
    assert np.abs(before[..., 0] - after[..., 0]).max() > 0.01


def test_chroma_may_be_bilinear() -> None:
    model = calm_model("y", task="upscale", scale=2)
    picture = picture_of(3, "float32")
    cubic, linear = (enhance(picture, model, chroma=kind, threads=1) for kind in ("bicubic", "bilinear"))
    expected = resize(to_ycbcr(picture.pixels)[..., 1:], 90, 76, kernel="bilinear", border="edge")
    np.testing.assert_allclose(to_ycbcr(linear.pixels)[..., 1:], expected, rtol=0, atol=2e-6)
    assert np.abs(cubic.pixels - linear.pixels).max() > 1e-3


@pytest.mark.parametrize("options", TASKS)
def test_alpha_is_interpolated_and_clipped(options: dict) -> None:
    model = calm_model("rgb", **options)
    picture = picture_of(3)
    alpha = np.where(np.arange(38) % 5 < 2, np.uint8(255), np.uint8(0)) * np.ones((45, 1), np.uint8)
    result = enhance(Picture(picture.pixels, alpha), model, threads=1)
    assert result.alpha.dtype == np.uint8
    assert_rounded_from(result.alpha, interpolated(model, alpha[..., None] / 255.0)[..., 0])
    radius = Enhancer(Options(model=model)).pipeline(picture.header.layout).radius
    seen = Picture(hidden_filled(picture.pixels, alpha, radius))
    np.testing.assert_array_equal(result.pixels, enhance(seen, model, threads=1).pixels)


def test_an_opaque_alpha_stays_opaque_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calm_model("rgb", task="upscale", scale=2)
    pixels = picture_of(3, "uint16").pixels
    opaque = Picture(pixels, np.full(pixels.shape[:2], 65535, np.uint16))
    for stage in (EngineStage, GraphStage):
        monkeypatch.setattr(stage, "alpha", lambda *_: None)  # called, it would fail
    result = enhance(opaque, model, threads=1)
    assert result.alpha.shape == (90, 76)
    assert (result.alpha == 65535).all()


def test_metadata_and_notes_are_kept() -> None:
    metadata = Metadata(icc=b"profile", exif=b"Exif", density=Density(3.0, 4.0))
    picture = Picture(picture_of(3).pixels, metadata=metadata, notes=("turned",))
    result = enhance(picture, calm_model(task="upscale", scale=2), threads=1)
    assert (result.metadata, result.notes) == (metadata, ("turned",))


def test_a_size_that_is_asked_for_is_resampled_from_the_unrounded_result() -> None:
    model = calm_model("rgb", task="upscale", scale=2)
    picture = picture_of(3)
    for options, size in [
        ({"scale": 1.5}, (68, 57)),
        ({"width": 100}, (118, 100)),
        ({"height": 20}, (20, 17)),
        ({"width": 31, "height": 97}, (97, 31)),
    ]:
        result = enhance(picture, model, threads=1, **options)
        assert_rounded_from(result.pixels, resize(defined(model, picture.pixels), *size))


def test_the_models_own_scale_is_not_resampled() -> None:
    model = calm_model("rgb", task="downscale", scale=2)
    picture = picture_of(3)  # 45 x 38: half of it, rounded up, is 23 x 19
    asked, automatic = enhance(picture, model, scale=0.5, threads=1), enhance(picture, model, threads=1)
    np.testing.assert_array_equal(asked.pixels, automatic.pixels)
    assert automatic.pixels.shape == (23, 19, 3)


@pytest.fixture
def shipped(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Puts small random models in the place of the shipped ones; call it with their names."""
    monkeypatch.setattr(catalogue, "MODELS_FOLDER", tmp_path)

    def ship(*names: str) -> dict[str, Model]:
        models = {}
        for name in names:
            entry = catalogue.CATALOGUE[name]
            models[name] = calm_model(entry.colour, task=entry.task, scale=entry.scale)
            write(models[name], entry.path)
        return models

    return ship


def test_restore_x2_is_the_default(shipped) -> None:
    models = shipped("restore-x2", "photo-x2", "photo-x4", "photo-x2-branches")
    picture = picture_of(3)
    expected = enhance(picture, models["restore-x2"], threads=1).pixels
    np.testing.assert_array_equal(enhance(picture, threads=1).pixels, expected)
    np.testing.assert_array_equal(enhance(picture, "restore-x2", threads=1).pixels, expected)
    assert models[catalogue.DEFAULT_MODEL].spec.colour == "rgb"
    np.testing.assert_array_equal(enhance(picture, scale=2, threads=1).pixels, expected)


def test_larger_scales_chain_what_is_shipped(shipped) -> None:
    models = shipped("photo-x2")
    assert models_for(4) == ["photo-x2", "photo-x2"]
    picture = picture_of(3, "float32")
    once = enhance(picture, models["photo-x2"], threads=1)
    twice = enhance(once, models["photo-x2"], threads=1)
    np.testing.assert_allclose(enhance(picture, scale=4, threads=1).pixels, twice.pixels, rtol=0, atol=1e-6)
    reduced = resize(twice.pixels, 135, 114)
    np.testing.assert_allclose(enhance(picture, scale=3, threads=1).pixels, reduced, rtol=0, atol=1e-6)
    shipped("photo-x4")
    assert [models_for(s) for s in (0.5, 1, 2, 2.5, 4)] == [["photo-x2"]] * 3 + [["photo-x4"]] * 2
    assert models_for(16) == ["photo-x4", "photo-x4"]
    assert models_for(6) == ["photo-x4", "photo-x2"]
    shipped("restore-x2", "restore-x4")
    assert [models_for(s) for s in (1, 2, 3, 4)] == [["restore-x2"]] * 2 + [["restore-x4"]] * 2


def test_an_enhancer_opens_every_model_once(shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped("photo-x2", "photo-x4")
    opened = []
    load = catalogue.load
    monkeypatch.setattr("onebranch.enhancer.enhancer.load", lambda name: opened.append(name) or load(name))
    enhancer = Enhancer(Options(width=120, threads=1))
    for width in (60, 50, 30, 60, 30, 200):
        assert enhancer.enhance(picture_of(3, size=(12, width))).width == 120
    assert opened == ["photo-x2", "photo-x4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale must be above 0 and at most 16, not 0"),
        ({"scale": float("nan")}, "scale must be above 0"),
        ({"scale": 17}, "not 17"),
        ({"scale": 2, "width": 5}, "contradict"),
        ({"width": 0}, "width must be at least 1 pixel, not 0"),
        ({"height": -3}, "height must be at least 1 pixel, not -3"),
        ({"tile": 4}, "tile must be at least 8"),
        ({"chroma": "bicubi"}, "did you mean 'bicubic'"),
    ],
)
def test_options_that_contradict_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OnebranchError, match=message):
        Options(**options)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 16))
def test_sizes_round_half_up_and_never_vanish(height: int, width: int, scale: float) -> None:
    actual = requested_size(Options(scale=scale), (height, width), (1, 1), Fraction(0))
    for pixels, wanted in zip(actual, (height * scale, width * scale), strict=True):
        assert pixels >= 1
        assert pixels == 1 or abs(pixels - wanted) <= 0.5 + 1e-6
