"""mpv shaders: what they hold, how they are refused, and, where ffmpeg can run them, what they compute."""

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from command_line import CommandLine
from network_specs import calm_model, random_model
from onebranch.errors import OnebranchError
from onebranch.exporting import mpv
from onebranch.exporting.comparison import NotRun
from onebranch.exporting.files import export
from onebranch.exporting.mpv_shader import shader_text
from onebranch.model.catalogue import load
from onebranch.model.file import Model, fingerprint
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.shorthand import NetworkShorthand, expand

NETWORKS = {
    "x2, no residual": calm_model(task="upscale", activation="relu", residual="none", scale=2),
    "x3, bicubic, an odd width, a concatenation": calm_model(
        task="upscale", scale=3, width=5, depth=2, skips=(Skip(0, 2, "concatenate"),)
    ),
    "x4, nearest, skips from a target, dilation": calm_model(
        task="upscale",
        scale=4,
        residual="nearest",
        width=8,
        depth=3,
        activation="leaky_relu",
        branches=("3x3 d2",),
        skips=(Skip(0, 1), Skip(1, 3)),
    ),
    "x2, long kernels": calm_model(task="upscale", scale=2, width=8, branches=("1x5",), residual="none"),
}
"""Networks that use every part of the shader, with outputs near the picture's range."""


def spec(**options: object) -> NetworkSpec:
    """A small merged network of luma."""
    return expand(
        NetworkShorthand(**{"task": "upscale", "width": 6, "depth": 2, "branches": ("3x3",)} | options)
    )


def passes(text: str) -> list[str]:
    """The text of every pass."""
    return text.split("//!HOOK LUMA\n")[1:]


@pytest.mark.parametrize("name", ["photo-x2", "photo-x4", "restore-luma-x2"])
def test_every_pass_reads_only_what_was_saved_before(name: str) -> None:
    saved = {"LUMA"}
    for part in passes(shader_text(load(name))):
        bound = re.findall(r"//!BIND (\w+)", part)
        assert saved.issuperset(bound)
        assert len(set(bound)) == len(bound) <= 16
        assert set(re.findall(r"(\w+?)_(?:texOff|tex|pos|pt|size|mul)\b", part)) <= set(bound)
        assert "//!COMPONENTS" in part
        saved |= set(re.findall(r"//!SAVE (\w+)", part))


def test_a_shader_runs_by_the_real_scale_factor() -> None:
    for name, factor in {"photo-x2": "1.4", "photo-x4": "2.8"}.items():
        conditions = set(re.findall(r"//!WHEN (.*)", shader_text(load(name))))
        assert conditions == {f"OUTPUT.w LUMA.w / {factor} > OUTPUT.h LUMA.h / {factor} > *"}


def test_the_header_names_the_model_its_licence_and_its_digest() -> None:
    model = load("photo-x2")
    header = shader_text(model).partition("//!HOOK")[0]
    assert "// photo-x2: " in header
    assert "// Licence: Apache-2.0" in header
    assert f"// SHA-256 of the weights: {fingerprint(model)}" in header
    unlisted = random_model(spec(), name="photo-x2")
    assert "// Licence: that of the model" in shader_text(unlisted)


def test_a_name_cannot_add_directives() -> None:
    text = shader_text(random_model(spec(), name="x\n//!HOOK MAIN\n//!BIND HOOKED"))
    assert "HOOK MAIN" not in re.findall(r"^//!(.*)$", text, re.MULTILINE)
    assert "//!BIND HOOKED" not in text.splitlines()


def test_weights_are_written_exactly() -> None:
    model = load("photo-x2")
    written = re.findall(r"sum \+= mat4\(([^)]*)\)", passes(shader_text(model))[4])
    first = np.array(written[0].split(", "), np.float32).reshape(4, 4).T
    kernel = model.weights["blocks.0.branches.0.0.weight"]
    middle = [np.array(text.split(", "), np.float32).reshape(4, 4).T for text in written]
    assert any(np.array_equal(each, kernel[:4, :4, 1, 1]) for each in [first, *middle])


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (spec(colour="rgb"), "colour is 'rgb'; a shader of the luma plane needs a network of luma"),
        (spec(task="denoise"), "task is 'denoise'"),
        (spec(task="downscale"), "task is 'downscale'"),
        (spec(branches=("3x3", "1x1")), "head is not one convolution; merge the network first"),
        (spec(branches=("1x1 3x3",)), "head is not one convolution; merge the network first"),
        (spec(activation="gelu"), "head has the activation 'gelu'; valid: prelu, relu, leaky_relu, none"),
        (spec(width=68), r"blocks\.0 reads 17 textures of 4 channels where a pass may read 16"),
        (spec(width=64, depth=8), r"it has 29\d,\d{3} weights where the limit is 200,000"),
    ],
)
def test_what_a_shader_cannot_hold_is_refused_in_one_line(unfit: NetworkSpec, reason: str) -> None:
    with pytest.raises(OnebranchError, match=reason):
        shader_text(random_model(unfit))


def test_textures_of_skips_count() -> None:
    wide = BlockSpec(("3x3",), 60, "relu")
    fitting = spec(width=60, depth=1)
    shader_text(random_model(msgspec.structs.replace(fitting, head=wide)))
    joined = msgspec.structs.replace(fitting, skips=(Skip(0, 1, "concatenate"),))
    with pytest.raises(OnebranchError, match="tail reads 30 textures"):
        shader_text(random_model(joined))


def test_without_ffmpeg_the_file_is_written_and_the_reason_is_reported(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(mpv.shutil, "which", lambda name: None)
    target = tmp_path / "photo-x2.glsl"
    assert export(load("photo-x2"), target, "mpv") == (
        NotRun("ffmpeg's libplacebo", "ffmpeg is not installed"),
    )
    assert target.read_text() == shader_text(load("photo-x2"))
    outcome = CommandLine(monkeypatch, capsys)("export", "photo-x2", "--to", "mpv", "-o", tmp_path)
    assert "not run in ffmpeg's libplacebo, so not compared: ffmpeg is not installed" in outcome.output
    assert (tmp_path / "2x_photo-x2.glsl").exists()


def test_a_shader_needs_its_suffix_and_its_precision(tmp_path, monkeypatch, capsys) -> None:
    run = CommandLine(monkeypatch, capsys)
    assert "must end in .glsl" in run.refused("export", "photo-x2", "--to", "mpv", "-o", tmp_path / "x.txt")
    half = run.refused("export", "photo-x2", "--to", "mpv", "-o", tmp_path / "x.glsl", "--precision", "fp16")
    assert "format 'mpv' has no precision 'fp16'" in half
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def device() -> str:
    """The Vulkan device that ffmpeg uses."""
    name, reason = mpv.vulkan_device()
    if reason:
        pytest.skip(f"mpv shaders are not run: {reason} (scripts/install_ffmpeg.sh)")
    return name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bits"), [*((name, 8) for name in NETWORKS), ("x2, no residual", 10)])
def test_shaders_equal_the_network_within_one_level(name: str, bits: int, device: str) -> None:
    model: Model = NETWORKS[name]
    comparison = mpv.compare(model, shader_text(model), bits, device)
    assert comparison.error <= mpv.MAX_LEVELS, comparison.summary()


@pytest.mark.slow
def test_a_shipped_model_is_exported_after_its_comparison(tmp_path, device: str) -> None:
    comparisons = export(load("photo-x2"), tmp_path / "x.glsl", "mpv")
    assert [comparison.error <= 1 for comparison in comparisons] == [True, True]


@pytest.mark.slow
def test_a_wrong_shader_is_not_written(tmp_path, monkeypatch, device: str) -> None:
    model = load("photo-x2")
    text = shader_text(model)
    unpadded = re.sub(r"inside\((?!vec2 at)[^)]*\)\)", "1.0", text)
    assert unpadded != text
    with pytest.raises(OnebranchError, match="off by"):  # the borders alone are wrong
        mpv.compare(model, unpadded, 8, device).checked("mpv")
    monkeypatch.setattr(mpv, "shader_text", lambda model: text.replace("vec4 hook", "vec4 hock"))
    with pytest.raises(OnebranchError, match="the shader does not run in ffmpeg's libplacebo"):
        export(model, tmp_path / "x.glsl", "mpv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_shader_that_is_not_needed_changes_nothing(device: str) -> None:
    model = replace(NETWORKS["x2, no residual"], name="small")
    codes = mpv.comparison_picture(model, 8)
    np.testing.assert_allclose(mpv.run_shader(shader_text(model), codes, 8, 1), codes, atol=0.2)
