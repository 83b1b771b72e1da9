"""Planes of frames through networks: siting of chroma, ranges, matrices, depths, sizes; without encoding."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import onebranch
from clips import ClipSpec, contents, make_clip, pattern
from network_specs import calm_model, random_weights
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.model.file import Model
from onebranch.spec.network import NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.video.colours import SITING_OFFSETS, ColourTags
from onebranch.video.hdr import HdrMetadata, MasteringDisplay, svtav1_parameters, x265_parameters
from onebranch.video.pixel_format import PixelFormat, pixel_format
from onebranch.video.plane_enhancer import FrameLayout, PlaneEnhancer
from onebranch.video.planes import converted, with_chroma
from onebranch.video.segments import decoding_times, reordering_delay
from test_video import DOUBLE, DOUBLE_RGB


def silent(**options: object) -> Model:
    """A network of zeros: its result is its picture residual alone."""
    usual = {"width": 4, "depth": 1, "branches": "plain"}
    spec: NetworkSpec = expand(NetworkShorthand(**usual | options))
    weights = {name: np.zeros_like(value) for name, value in random_weights(spec, 0).items()}
    return Model(spec, weights, "silent")


SAME = silent(task="denoise", colour="rgb", residual="nearest")
BICUBIC = silent(task="upscale", scale=2, colour="y", residual="bicubic")


def enhancer_of(
    model: Model, kind: str, size: tuple[int, int], tags: ColourTags, target: tuple[int, int] | None = None
) -> PlaneEnhancer:
    """An enhancer of planes in the model's own scale."""
    scale = 1 if model.spec.task == "denoise" else 2
    layout = FrameLayout(size, pixel_format(kind)[0], tags)
    return PlaneEnhancer(Enhancer(Options(model=model)), layout, target or (scale * size[0], scale * size[1]))


LIMITED = ColourTags(False, 6, 6, 6)


@pytest.mark.parametrize("siting", list(SITING_OFFSETS))
@pytest.mark.parametrize("kind", ["yuv420p12le", "yuv422p12le", "yuv444p12le"])
def test_chroma_stays_on_its_site(siting: str, kind: str) -> None:
    """A ramp over the scene has the same values at the same points of the scene after enlarging."""
    height, width = 32, 48
    fmt = pixel_format(kind)[0]
    tags = replace(LIMITED, siting=siting)
    offsets = [
        offset * (factor - 1) for offset, factor in zip(SITING_OFFSETS[siting], fmt.chroma, strict=True)
    ]

    def ramp(rows: int, columns: int, scale: int) -> np.ndarray:
        """The ramp at the sites of chroma samples, in luma samples of the input."""
        y = (np.arange(rows) * fmt.chroma[0] + offsets[0] + 0.5) / scale - 0.5
        x = (np.arange(columns) * fmt.chroma[1] + offsets[1] + 0.5) / scale - 0.5
        return 300 + 25 * y[:, None] + 35 * x[None, :]

    plane = np.round(ramp(*fmt.plane_size(1, height, width), 1)).astype(np.uint16)
    luma = np.full((height, width), 2000, np.uint16)
    result = enhancer_of(BICUBIC, kind, (height, width), tags)((luma, plane, plane))
    expected = ramp(*result[1].shape, 2)
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(result[1][inside] - expected[inside]).max() <= 1.5  # the input is rounded too
    assert np.array_equal(result[1], result[2])


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["yuv444p", "yuv444p10le"])
def test_rgb_networks_use_the_matrix_and_the_range_of_the_clip(matrix: int, full: bool, kind: str) -> None:
    """A network that changes nothing leaves frames as they are, whatever their matrix and range."""
    planes = pattern(pixel_format(kind)[0], (20, 24), 1)
    result = enhancer_of(SAME, kind, (20, 24), ColourTags(full, matrix, 6, 6))(planes)
    for before, after in zip(planes, result, strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).max() <= (1 if kind == "yuv444p" else 2)


def test_rgb_networks_get_rgb_of_the_clip() -> None:
    """White, black and primary colours of BT.709 in limited range, as RGB."""
    from onebranch.video.frames import EnhancedFrame

    y = np.array([[235, 16, 63, 173, 32]], np.uint8)
    cb = np.array([[128, 128, 102, 42, 240]], np.uint8)
    cr = np.array([[128, 128, 240, 26, 118]], np.uint8)
    layout = FrameLayout((1, 5), PixelFormat("yuv", 8), ColourTags(False, 1, 1, 1))
    rgb = EnhancedFrame((y, cb, cr), 0.0, layout).rgb()[0].astype(int)
    expected = [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert np.abs(rgb - expected).max() <= 2


@pytest.mark.parametrize("kind", ["yuv420p", "gray", "yuv444p10le", "gbrp", "gbrap12le", "yuva420p"])
@pytest.mark.parametrize("model", [DOUBLE, DOUBLE_RGB])
def test_every_kind_of_frame_goes_through_every_kind_of_network(kind: str, model: Model) -> None:
    fmt = pixel_format(kind)[0]
    planes = pattern(fmt, (21, 34), 0)
    result = enhancer_of(model, kind, (21, 34), LIMITED)(planes)
    assert [plane.shape for plane in result] == [fmt.plane_size(i, 42, 68) for i in range(fmt.plane_count)]
    for before, after in zip(planes, result, strict=True):
        assert after.dtype == before.dtype
        assert abs(float(after.mean()) - float(before.mean())) < 0.1 * before.max()


def test_ramps_of_ten_bits_get_no_bands() -> None:
    ramp = np.round(np.linspace(64, 940, 440)).astype(np.uint16)
    luma = np.repeat(ramp[None], 16, axis=0)
    chroma = np.full((8, 220), 512, np.uint16)
    result = enhancer_of(BICUBIC, "yuv420p10le", luma.shape, LIMITED)((luma, chroma, chroma))[0]
    assert np.all(np.diff(result[8].astype(int)) >= 0)
    assert len(np.unique(result)) > 750  # 8 bits have 220 at most


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
def test_bytes_go_to_the_engine_as_they_are(size: tuple[int, int]) -> None:
    """The engine's own conversion of bytes gives what the general path of floats gives."""
    planes = pattern(PixelFormat("grey", 8), size, 3)
    fast = enhancer_of(DOUBLE, "gray", size, LIMITED)
    general = fast._float_luma(fast._pipeline(1, False, "float32"))
    difference = fast(planes)[0].astype(int) - general(planes[0])
    assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3


def test_other_runtimes_and_strengths_give_the_same_luma() -> None:
    planes = pattern(PixelFormat("grey", 8), (30, 40), 2)
    layout = FrameLayout((30, 40), PixelFormat("grey", 8), LIMITED)
    results = [
        PlaneEnhancer(Enhancer(Options(model=DOUBLE, runtime=runtime, strength=strength)), layout, (60, 80))(
            planes
        )[0]
        for runtime, strength in (("engine", 1.0), ("onnxruntime", 1.0), ("engine", 0.0))
    ]
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1
    plain = PlaneEnhancer(Enhancer(Options(model=DOUBLE)), layout, (60, 80)).resized(planes)[0]
    assert np.abs(results[2].astype(int) - plain).max() <= 1


@pytest.mark.parametrize("chroma", [(2, 2), (1, 2), (1, 1)])
def test_conversions_between_formats_keep_values(chroma: tuple[int, int]) -> None:
    source, target = PixelFormat("yuv", 8, chroma), PixelFormat("yuv", 10, (1, 1), alpha=True)
    planes = tuple(np.full(source.plane_size(i, 8, 8), 60 + i, np.uint8) for i in range(3))
    result = converted(planes, source, target)
    assert [int(plane[0, 0]) for plane in result] == [240, 244, 248, 1023]
    assert all(plane.shape == (8, 8) and np.ptp(plane) == 0 for plane in result)
    back = with_chroma(result[:3], (1, 1), chroma, "left", 1023)
    assert [int(plane[0, 0]) for plane in back] == [240, 244, 248]


def test_hdr_parameters_have_the_units_of_each_encoder() -> None:
    points = [
        (Fraction(17, 25), Fraction(8, 25)),
        (Fraction(53, 200), Fraction(69, 100)),
        (Fraction(3, 20), Fraction(3, 50)),
    ]
    white = (Fraction(3127, 10000), Fraction(329, 1000))
    display = MasteringDisplay(*points, white, Fraction(1, 200), Fraction(1000))
    hdr = HdrMetadata(display, (1000, 400))
    expected = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    assert x265_parameters(hdr)[2:] == [f"master-display={expected}", "max-cll=1000,400"]
    assert "L(1000.0000,0.0050)" in svtav1_parameters(hdr)[1]


def test_decoding_times_never_pass_display_times() -> None:
    from onebranch.video.segments import ClipSegment

    orders = [[0, 30, 10, 20], [70, 40, 55], [100]]
    segments = [
        ClipSegment(n, [[pts, 1] for pts in order], reordering_delay(order), 0, {})
        for n, order in enumerate(orders)
    ]
    times = list(decoding_times(segments, 10))
    assert times == sorted(set(times)) and len(times) == 8
    assert all(dts <= pts for dts, pts in zip(times, [pts for order in orders for pts in order], strict=True))


def test_clips_in_python(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", ClipSpec(codec="ffv1", pts=range(6), size=(32, 48)))
    states: list[int] = []
    video = onebranch.VideoOptions(codec="ffv1", frames=4)
    result = onebranch.enhance_video(
        source, tmp_path / "out.mkv", DOUBLE, video=video, progress=lambda state: states.append(state.frames)
    )
    assert (result.preview.after, result.preview.frames, states) == ((64, 96), 4, [1, 2, 3, 4])
    frames = list(onebranch.enhanced_frames(source, DOUBLE, video=video))
    assert [frame.seconds for frame in frames] == [0.0, 0.04, 0.08, 0.12]
    for frame, planes in zip(frames, contents(tmp_path / "out.mkv").planes, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, planes, strict=True))
        assert frame.rgb().shape == (64, 96, 3) and frame.rgb().dtype == np.uint8
    stopped = onebranch.enhanced_frames(source, DOUBLE)
    assert next(stopped).seconds == 0
    stopped.close()


def test_calm_models_change_little() -> None:
    """The networks of these tests do something, but not much."""
    planes = pattern(PixelFormat("grey", 8), (30, 40), 0)
    result = enhancer_of(calm_model(task="upscale", scale=2), "gray", (30, 40), LIMITED)(planes)[0]
    plain = enhancer_of(BICUBIC, "gray", (30, 40), LIMITED)(planes)[0]
    assert 0 < np.abs(result.astype(int) - plain).max() < 128
