"""Pictures by rows: any cut gives the same samples; hidden colours, seamless textures, the self-ensemble."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_specs import calm_model
from onebranch.enhancer.enhancer import Enhancer, enhance
from onebranch.enhancer.ensemble import mean_of_orientations
from onebranch.enhancer.options import Options
from onebranch.enhancer.row_pipeline import RowPipeline
from onebranch.enhancer.steps import Rows
from onebranch.enhancer.streaming import enhanced_rows
from onebranch.errors import OnebranchError
from onebranch.images.alpha import fill_transparent
from onebranch.images.picture import Picture
from onebranch.images.resize import resize
from onebranch.images.rows import Header
from onebranch.images.samples import WHITE_LEVELS
from onebranch.model.catalogue import CATALOGUE

MODELS = {
    "x2": calm_model("y", task="upscale", scale=2),
    "x3": calm_model("rgb", task="upscale", scale=3),
    "half": calm_model("y", task="downscale", scale=2),
    "third": calm_model("rgb", task="downscale", scale=3, downsampling="average"),
    "denoise": calm_model("y", task="denoise"),
}

SHIPPED = sorted(name for name, entry in CATALOGUE.items() if entry.path.exists())


class Given:
    """A reader of a picture in memory, which gives at most so many rows at a time."""

    def __init__(self, picture: Picture, most: int) -> None:
        self.header: Header = picture.header
        self._samples, self._most, self._at = picture.samples(), most, 0

    def read(self, count: int) -> np.ndarray:
        first = self._at
        self._at = min(first + min(count, self._most), len(self._samples))
        return self._samples[first : self._at]

    def close(self) -> None:
        pass

    def __enter__(self) -> "Given":
        return self

    def __exit__(self, *problem: object) -> None:
        pass


def picture_of(height: int, width: int, channels: int, depth: str, alpha: bool, seed: int = 0) -> Picture:
    """Noise with some structure; alpha with hidden, half visible and visible stretches of rows."""
    rng = np.random.default_rng(seed)
    values = (
        resize(rng.random((5, 4, channels)), height, width) * 0.8
        + rng.random((height, width, channels)) * 0.2
    )
    scaled = np.clip(values, 0, 1) * WHITE_LEVELS[depth]
    pixels = (scaled if depth == "float32" else np.round(scaled)).astype(depth)
    if not alpha:
        return Picture(pixels)
    shine = np.clip(np.sin(np.arange(height) / 9)[:, None] * 2 + rng.random((height, width)), 0, 1)
    shine[: height // 2] = 1
    shine = shine * WHITE_LEVELS[depth]
    return Picture(pixels, (shine if depth == "float32" else np.round(shine)).astype(depth))


def by_rows(pipeline: RowPipeline, picture: Picture, cuts: list[int]) -> np.ndarray:
    """The result in bands that end at these rows, each from exactly the rows that it needs."""
    samples, parts = picture.samples(), []
    for first, last in zip([0, *cuts], [*cuts, pipeline.target.height], strict=True):
        at = pipeline.needs(Rows(first, last))
        parts.append(pipeline.rows(samples[at.first : at.last], at, Rows(first, last)))
    return np.concatenate(parts)


@given(
    st.sampled_from(sorted(MODELS)),
    st.tuples(st.integers(1, 70), st.integers(1, 40)),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.booleans(),
    st.sampled_from([None, 1.5, 0.7, 3.2]),
    st.data(),
)
def test_any_cut_into_rows_gives_the_same_samples(name, size, channels, depth, alpha, scale, data) -> None:
    picture = picture_of(*size, channels, depth, alpha)
    enhancer = Enhancer(Options(model=MODELS[name], scale=scale, threads=1))
    whole = enhancer.enhance(picture).samples()
    pipeline = enhancer.pipeline(picture.header.layout)
    rows = (
        st.lists(st.integers(1, len(whole) - 1), unique=True, max_size=4) if len(whole) > 1 else st.just([])
    )
    cuts = sorted(data.draw(rows))
    np.testing.assert_array_equal(by_rows(pipeline, picture, cuts), whole)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_streams_what_it_makes_whole(name: str) -> None:
    picture = picture_of(333, 71, 3, "uint8", alpha=True)
    precision = "int8" if name.endswith("-int8") else "fp32"
    for threads in (1, 2):
        enhancer = Enhancer(Options(model=name, threads=threads, precision=precision))
        whole = enhancer.enhance(picture).samples()
        pipeline = enhancer.pipeline(picture.header.layout)
        parts = list(enhanced_rows(Given(picture, 50), pipeline, 1 << 19))
        assert len(parts) > 1
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", [name for name in SHIPPED if not name.endswith("-int8")])
@pytest.mark.parametrize("tile", [32, 45, 0])
def test_tiles_of_onnx_runtime_give_the_same_8_bit_samples(name: str, tile: int) -> None:
    size = (97, 131)
    for depth, bound in (("uint8", 0), ("float32", 1e-5)):
        picture = picture_of(*size, 3, depth, alpha=False)
        options = Options(model=name, runtime="onnxruntime", threads=2)
        whole = Enhancer(replace(options, tile=512)).enhance(picture).samples()
        tiled = Enhancer(replace(options, tile=tile))
        parts = list(enhanced_rows(Given(picture, 7), tiled.pipeline(picture.header.layout), 1 << 18))
        actual = np.concatenate(parts)
        assert np.abs(actual.astype(np.float64) - whole.astype(np.float64)).max() <= bound


def test_chains_of_models_stream_too() -> None:
    picture = picture_of(90, 33, 3, "uint8", alpha=True)
    enhancer = Enhancer(Options(scale=7, threads=1))
    assert len(enhancer.stages_for((90, 33))) == 2
    whole = enhancer.enhance(picture).samples()
    assert whole.shape == (630, 231, 4)
    actual = list(enhanced_rows(Given(picture, 90), enhancer.pipeline(picture.header.layout), 1 << 20))
    assert len(actual) > 3
    np.testing.assert_array_equal(np.concatenate(actual), whole)


def test_bands_are_smaller_where_there_is_less_memory() -> None:
    layout = picture_of(2000, 500, 3, "uint8", alpha=False).header.layout
    pipeline = Enhancer(Options(model=MODELS["x2"])).pipeline(layout)
    heights = [[band.last - band.first for band in pipeline.bands(memory)] for memory in (1 << 22, 1 << 27)]
    assert all(sum(bands) == 4000 for bands in heights)
    assert max(heights[0]) < max(heights[1])
    assert max(heights[0]) * pipeline.bytes_of_row() <= 1 << 22


# ---- hidden colours ----


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_hidden_colours_are_the_weighted_mean_of_visible_ones_in_reach(height, width, radius, seed) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random((height, width, 3), np.float32)
    alpha = np.where(rng.random((height, width)) < 0.6, 0, rng.random((height, width))).astype(np.float32)
    actual = fill_transparent(pixels, alpha, radius)
    for y in range(height):
        for x in range(width):
            near = [
                (alpha[v, u] * (radius + 1 - abs(v - y)) * (radius + 1 - abs(u - x)), pixels[v, u])
                for v in range(max(0, y - radius), min(height, y + radius + 1))
                for u in range(max(0, x - radius), min(width, x + radius + 1))
            ]
            total = sum(weight for weight, _ in near)
            if alpha[y, x] > 0 or total == 0:
                assert (actual[y, x] == pixels[y, x]).all()
            else:
                expected = sum(weight * colour.astype(np.float64) for weight, colour in near) / total
                np.testing.assert_allclose(actual[y, x], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_colours_under_full_transparency_never_show(name: str) -> None:
    picture = picture_of(60, 50, 3, "uint8", alpha=False)
    alpha = np.zeros((60, 50), np.uint8)
    alpha[20:41, 10:31] = 255
    alpha[30, 35] = 1
    other = picture.pixels.copy()
    other[alpha == 0] = (255, 0, 255)
    results = [enhance(Picture(pixels, alpha), MODELS[name], threads=1) for pixels in (picture.pixels, other)]
    shown = results[0].alpha > 0
    assert 0 < shown.sum() < shown.size
    np.testing.assert_array_equal(results[0].pixels[shown], results[1].pixels[shown])
    np.testing.assert_array_equal(results[0].alpha, results[1].alpha)


# ---- seamless textures ----


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("scale", [None, 1.3])
def test_a_texture_is_enhanced_as_if_it_went_on(name: str, scale: float | None) -> None:
    picture = picture_of(36, 24, 3, "uint8", alpha=True)
    enhancer = Enhancer(Options(model=MODELS[name], wrap=True, scale=scale, threads=1))
    actual = enhancer.enhance(picture).samples()
    rolled = np.roll(picture.samples(), (12, 6), (0, 1))
    moved = enhancer.enhance(picture.with_samples(rolled)).samples()
    if scale is None:
        scale_of_result = len(actual) // 36 if len(actual) >= 36 else Fraction(len(actual), 36)
        np.testing.assert_array_equal(
            moved, np.roll(actual, (int(12 * scale_of_result), int(6 * scale_of_result)), (0, 1))
        )
    plain = Enhancer(Options(model=MODELS[name], scale=scale, threads=1)).enhance(picture).samples()
    assert actual.shape == plain.shape
    assert (actual != plain).any()


# ---- the self-ensemble ----


def test_the_mean_of_orientations_is_that_of_the_eight_pictures() -> None:
    values = np.random.default_rng(1).random((6, 4, 1)).astype(np.float32)
    seen = []

    def run(picture: np.ndarray) -> np.ndarray:
        seen.append(picture)
        return picture * np.float32(2)

    np.testing.assert_allclose(mean_of_orientations(run, values, 1, Fraction(1)), 2 * values, rtol=1e-6)
    assert len({(picture.shape, picture.tobytes()) for picture in seen}) == 8


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("size", [(24, 18), (23, 17)])
def test_a_self_ensemble_does_not_depend_on_how_the_picture_lies(name: str, size: tuple[int, int]) -> None:
    picture = picture_of(*size, 3, "float32", alpha=False)
    enhancer = Enhancer(Options(model=MODELS[name], self_ensemble=True, threads=1))
    actual = enhancer.enhance(picture).pixels
    if size == (24, 18) or MODELS[name].spec.task != "downscale":
        turned = enhancer.enhance(replace(picture, pixels=np.rot90(picture.pixels).copy())).pixels
        np.testing.assert_allclose(np.rot90(turned, -1), actual, rtol=0, atol=1e-6)
    plain = enhance(picture, MODELS[name], threads=1).pixels
    assert actual.shape == plain.shape
    assert np.abs(actual - plain).max() > 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("height", [163, 166])
@pytest.mark.parametrize("name", [*sorted(MODELS), "photo-x2", "shrink-x2", "denoise"])
def test_a_self_ensemble_streams_too(name: str, height: int, precision: str) -> None:
    """Equal to the last bit of floats, which depends on the column; after a rotation, columns are rows."""
    picture = picture_of(height, 31, 3, "float32", alpha=True)
    model = MODELS.get(name, name)
    enhancer = Enhancer(Options(model=model, self_ensemble=True, threads=1, precision=precision))
    whole = enhancer.enhance(picture).samples()
    for cuts in (range(10, len(whole), 20), [len(whole) // 3 + 1, len(whole) // 2 + 3]):
        np.testing.assert_array_equal(by_rows(enhancer.pipeline(picture.header.layout), picture, cuts), whole)


# ---- the strength ----


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_blends_the_network_with_plain_interpolation(name: str, channels: int) -> None:
    picture = picture_of(23, 17, channels, "float32", alpha=False)
    results = [enhance(picture, MODELS[name], threads=1, strength=s).pixels for s in (0.0, 0.25, 1.0)]
    np.testing.assert_allclose(results[1], 0.75 * results[0] + 0.25 * results[2], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(results[2], enhance(picture, MODELS[name], threads=1).pixels)
    scale = MODELS[name].spec.scale
    if MODELS[name].spec.task == "upscale":
        height, width = (side * scale for side in picture.pixels.shape[:2])
        plain = resize(picture.pixels, height, width, kernel="bicubic", border="edge")
    elif MODELS[name].spec.task == "denoise":
        plain = picture.pixels
    else:
        return
    np.testing.assert_allclose(results[0], plain, rtol=0, atol=2e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("ensemble", [False, True])
def test_a_blend_streams_too(ensemble: bool, precision: str) -> None:
    picture = picture_of(166, 31, 3, "uint8", alpha=True)
    options = Options(
        model="photo-x2", strength=0.5, self_ensemble=ensemble, threads=1, precision=precision, scale=2.5
    )
    enhancer = Enhancer(options)
    whole = enhancer.enhance(picture).samples()
    for cuts in (range(10, len(whole), 20), [len(whole) // 3 + 1]):
        np.testing.assert_array_equal(by_rows(enhancer.pipeline(picture.header.layout), picture, cuts), whole)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_outside_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(OnebranchError, match="strength must be from 0 to 1, not"):
        Options(strength=strength)
