"""Drawings: well formed, complete, inside their canvas; the command refuses what it must."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from network_specs import network_specs, random_model
from onebranch.errors import OnebranchError
from onebranch.model import svg
from onebranch.model.drawing import draw, groups
from onebranch.model.file import write
from onebranch.spec.network import NetworkSpec, Skip, macs, parameters
from onebranch.spec.presets import PRESETS
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def network(branches: str = "patent", **options: object) -> NetworkSpec:
    """An upscaling network unless `options` say otherwise."""
    return expand(NetworkShorthand(**{"task": "upscale", "branches": branches} | options))


def texts(drawing: str) -> list[str]:
    """Every text in the drawing, in order."""
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def extent(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of one shape; a curve's control points stand for the curve."""
    value = {key: float(text) for key, text in element.items() if NUMBER.fullmatch(text)}
    match element.tag.removeprefix(SVG):
        case "rect":
            return value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]
        case "circle":
            x, y, r = value["cx"], value["cy"], value["r"]
            return x - r, y - r, x + r, y + r
        case "path":
            points = [float(number) for number in NUMBER.findall(element.get("d", ""))]
            return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
        case "text":
            return text_extent(element, value["x"], value["y"], value["font-size"])
    raise AssertionError(f"a shape this test does not know: {element.tag}")


def text_extent(
    element: ElementTree.Element, x: float, y: float, size: float
) -> tuple[float, float, float, float]:
    """As `extent`, for text."""
    width = svg.text_width(element.text or "", size)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[element.get("text-anchor", "start")]
    return left, y - size, left + width, y + size / 4


def assert_inside(drawing: str) -> None:
    """Every shape lies on the canvas."""
    root = ElementTree.fromstring(drawing)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    shapes = [element for element in root if element.tag != f"{SVG}title"]
    assert len(shapes) > 10
    for element in shapes:
        left, top, right, bottom = extent(element)
        assert min(left, top) >= 0, ElementTree.tostring(element)
        assert right <= width and bottom <= height, ElementTree.tostring(element)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_stays_inside_the_canvas(name):
    depth = len(PRESETS[name].blocks) * 2
    skips = (Skip(0, depth), Skip(1, 2), Skip(0, depth, "concatenate"))
    options = {"depth": 2, "skips": skips, "residual": "bicubic"}
    assert_inside(draw(network(name, **options), network("plain"), title="a title" * 12))


@settings(max_examples=40, deadline=None)
@given(network_specs(), network_specs())
def test_any_network_stays_inside_the_canvas(one, other):
    assert_inside(draw(one))
    assert_inside(draw(one, other))


@pytest.mark.fast
def test_every_branch_is_labelled():
    drawn = texts(draw(network("patent", depth=1)))
    assert drawn.count("3×3") == drawn.count("BN") == drawn.count("1×1") == 4 * 3
    assert drawn.count("16 → 32") == 4 and drawn.count("32 → 16") == 8
    assert drawn.count("identity") == 1 and drawn.count("PReLU") == 2


@pytest.mark.fast
@pytest.mark.parametrize(
    ("branch", "words"),
    [
        ("3x5 dw nobias", ["3×5", "8 → 8", "depthwise", "no bias"]),
        ("1x1*2 3x3*2 g4 d2 1x1", ["8 → 16", "4 groups", "dilated 2", "16 → 8"]),
        ("1x1 avg5x3 bn", ["5×3", "average", "BN"]),
        ("sobel_x", ["sobel x"]),
        ("laplacian", ["laplacian"]),
        ("identity bn", ["identity", "BN"]),
    ],
)
def test_words_of_the_grammar(branch, words):
    ends = BlockShorthand(branches="plain")
    drawn = texts(draw(network(("7x7", branch), width=8, depth=1, head=ends, tail=ends)))
    assert [word for word in words if word not in drawn] == []


@pytest.mark.fast
def test_caption_counts_and_names():
    spec = network()
    drawn = texts(draw(random_model(spec, name="my <model> & co"), title="before & \x01after\udce9"))
    assert {"my <model> & co", "before & \ufffdafter\ufffd"} <= set(drawn)
    assert f"{parameters(spec):,} parameters · {macs(spec):,} MACs per pixel" in drawn


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"residual": "bicubic"}, {"pixel shuffle", "4 → 1, × 2", "bicubic × 2"}),
        ({"task": "downscale", "downsampling": "average", "scale": 3}, {"3×3 average", "stride 3"}),
        ({"task": "downscale"}, {"4×4", "16 → 1", "stride 2"}),
        ({"task": "downscale", "downsampling": "unshuffle"}, {"pixel unshuffle", "16 → 64, ÷ 2", "64 → 1"}),
        ({"task": "denoise", "colour": "rgb", "residual": "nearest"}, {"input", "input RGB", "output RGB"}),
    ],
)
def test_resampling_and_residual(options, words):
    assert words <= set(texts(draw(network("plain", **options))))


@pytest.mark.fast
def test_equal_blocks_are_drawn_once_unless_a_skip_needs_them():
    assert "× 4" in texts(draw(network()))
    apart = texts(draw(network(skips=(Skip(1, 3),))))
    assert {"block 0", "blocks 1–2", "block 3", "× 2"} <= set(apart)
    joined = texts(draw(network("plain", skips=(Skip(0, 4, "concatenate"),))))
    assert {"blocks 0–3", "concatenate to 32", "32 → 4"} <= set(joined)


@pytest.mark.fast
@pytest.mark.parametrize("length", range(7))
def test_groups_cover_every_block_once(length):
    for keys in ("aaaaaa", "ababab", "abcabc", "aabbaa"):
        for end in range(-1, length):
            actual = groups(keys[:length], {end})
            covered = [k for start, period, repeat in actual for k in range(start, start + period * repeat)]
            assert covered == list(range(length))
            last = [start + period * repeat - 1 for start, period, repeat in actual]
            assert end < 0 or end in last


@pytest.mark.fast
def test_networks_of_as_many_blocks_stand_level():
    drawing = ElementTree.fromstring(draw(network(), network("plain")))
    pills = [e for e in drawing.iter(f"{SVG}text") if e.text in ("input Y", "output Y")]
    heights = [(pill.text, pill.get("y")) for pill in pills]
    assert len(heights) == 4 and len(set(heights)) == 2


@pytest.mark.fast
def test_one_or_two_networks():
    for count in (0, 3):
        with pytest.raises(OnebranchError, match=f"not {count}"):
            draw(*[network("plain")] * count)


def test_command(run, tmp_path):
    model, out = tmp_path / "tiny.safetensors", tmp_path / "tiny.svg"
    write(random_model(network("repvgg", width=4, depth=1)), model)
    assert run("draw", model, model, "-o", out, "--title", "twice").code == 0
    assert texts(out.read_text(encoding="utf-8")).count("input Y") == 2
    before = out.read_bytes()
    assert "exists" in run.refused("draw", model, "-o", out)
    assert out.read_bytes() == before
    assert run("draw", model, "-o", out, "--overwrite").code == 0
    assert texts(out.read_text(encoding="utf-8")).count("input Y") == 1


def test_command_refuses(run, tmp_path):
    assert "photo-x2" in run.refused("draw", "foto-x2", "-o", tmp_path / "a.svg")
    model = tmp_path / "tiny.safetensors"
    write(random_model(network("plain", width=4, depth=1)), model)
    assert ".svg" in run.refused("draw", model, "-o", tmp_path / "a.png")
    assert "cannot write" in run.refused("draw", model, "-o", tmp_path / "missing" / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]
