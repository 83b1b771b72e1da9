"""The choice of `auto` for a network and a precision, and its reason; refusals and the way out."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_line import CommandLine
from network_specs import calm_model, random_model
from onebranch.enhancer.enhancer import Enhancer, stage_of
from onebranch.enhancer.options import Options
from onebranch.enhancer.stage import ArrayStage, GraphStage
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.writing import write as write_picture
from onebranch.model.catalogue import load
from onebranch.model.file import write as save
from onebranch.runtime import engine_library
from onebranch.runtime.selection import (
    PRECISIONS,
    RUNTIMES,
    RuntimeChoice,
    chosen,
    engine_missing,
    engine_refusal,
    open_runtime,
    resolve_precision,
)
from onebranch.runtime.speed import milliseconds_per_megapixel
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import random_quantized

MERGED = replace(calm_model(branches=("3x3",), task="upscale", scale=2), name="merged")
UNMERGED = replace(calm_model(branches=("3x3", "1x1"), task="upscale", scale=2), name="unmerged")
QUANTIZED = replace(random_quantized(expand(NetworkShorthand(task="denoise", branches=("3x3",)))), name="q")
GONE = "the native engine was not built"

built = pytest.mark.skipif(bool(engine_library.available()), reason=engine_library.available() or "built")


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library had not been built."""
    monkeypatch.setattr(engine_library, "available", lambda: GONE)


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO were not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO were installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())


@built
@pytest.mark.parametrize(("model", "precision"), [(MERGED, "fp32"), (MERGED, "bf16"), (QUANTIZED, "int8")])
def test_auto_is_the_engine_if_it_supports_the_network(model, precision) -> None:
    assert chosen(model, "auto", precision) == RuntimeChoice(
        "engine", precision, "the engine supports this network"
    )
    assert engine_refusal(model, precision) == engine_missing() == ""


def test_auto_falls_back_to_onnxruntime_for_floats_and_says_why(no_engine: None) -> None:
    assert chosen(MERGED) == RuntimeChoice("onnxruntime", "fp32", f"not the engine: {GONE}")
    assert engine_missing("auto") == GONE
    assert engine_missing("onnxruntime") == ""


@built
def test_a_network_that_the_engine_does_not_support_goes_to_onnxruntime() -> None:
    found = chosen(UNMERGED)
    assert (found.runtime, found.precision) == ("onnxruntime", "fp32")
    assert "head is not one convolution (onebranch merge" in found.reason
    with pytest.raises(OnebranchError, match="'engine' cannot run unmerged in fp32: head is not one conv"):
        chosen(UNMERGED, "engine")


@pytest.mark.parametrize(("model", "precision"), [(MERGED, "bf16"), (QUANTIZED, "int8")])
def test_other_precisions_fall_back_to_openvino(model, precision, no_engine: None, openvino: None) -> None:
    assert chosen(model, "auto", precision) == RuntimeChoice("openvino", precision, f"not the engine: {GONE}")


@pytest.mark.parametrize(("model", "precision"), [(MERGED, "bf16"), (QUANTIZED, "int8")])
def test_without_both_it_says_what_to_install(model, precision, no_engine: None, no_openvino: None) -> None:
    with pytest.raises(
        OnebranchError, match=rf"in {precision}: .*{GONE}.*pip install 'onebranch\[openvino\]'"
    ):
        chosen(model, "auto", precision)


@pytest.mark.parametrize("runtime", ["auto", *RUNTIMES])
def test_int8_needs_a_record(runtime: str, openvino: None) -> None:
    with pytest.raises(
        OnebranchError, match=r"merged has no record of quantization.*onebranch quantize MODEL"
    ):
        chosen(MERGED, runtime, "int8")


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_these_run_floats_only(runtime: str) -> None:
    with pytest.raises(
        OnebranchError, match=rf"'{runtime}' computes in fp32.*, not in bf16; engine, openvino"
    ):
        chosen(MERGED, runtime, "bf16")


def test_a_runtime_that_is_not_installed_says_what_to_install(no_engine: None, no_openvino: None) -> None:
    with pytest.raises(OnebranchError, match=r"'openvino' is not installed; pip install 'onebranch\[openv"):
        chosen(MERGED, "openvino")
    with pytest.raises(OnebranchError, match=r"'openvino' is not installed"):
        Enhancer(Options(runtime="openvino"))


def test_an_engine_that_is_not_there_is_an_error_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine_library.LIBRARY_VARIABLE, "absent.so")
    for act in (lambda: chosen(MERGED, "engine"), lambda: Enhancer(Options(runtime="engine"))):
        with pytest.raises(OnebranchError, match=r"'engine' is not installed: .*; use --runtime onnxruntime"):
            act()
    assert chosen(MERGED).runtime == "onnxruntime"


def test_a_named_runtime_is_taken() -> None:
    assert chosen(MERGED, "onnxruntime") == RuntimeChoice("onnxruntime", "fp32", "requested")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(OnebranchError, match="unknown precision 'int4'; valid: fp32, bf16, int8"):
        chosen(MERGED, "auto", "int4")
    with pytest.raises(OnebranchError, match="unknown precision 'fp16'; valid: fp32, bf16, int8"):
        Options(precision="fp16")
    with pytest.raises(OnebranchError, match="unknown runtime 'engin'; did you mean 'engine'"):
        Options(runtime="engin")


def test_the_stage_is_that_of_the_choice() -> None:
    options = Options(threads=1)
    assert isinstance(stage_of(MERGED, RuntimeChoice("onnxruntime", "fp32", ""), options), GraphStage)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its stage was not opened")
    assert torch
    stage = stage_of(MERGED, RuntimeChoice("torch", "fp32", ""), options)
    assert isinstance(stage, ArrayStage)
    assert stage.runtime == "torch"


@built
def test_precision_reaches_the_network() -> None:
    model = random_model(MERGED.spec)
    pictures = np.random.default_rng(0).random((1, 1, 9, 11), np.float32)
    exact, coarse = (open_runtime(model, "engine", 1, p).run(pictures) for p in ("fp32", "bf16"))
    assert 1e-5 < np.abs(exact - coarse).max() / np.abs(exact).max() < 0.1
    picture = Picture(np.random.default_rng(0).random((9, 11, 1), np.float32))
    results = [
        Enhancer(Options(model=model, precision=p, threads=1)).enhance(picture).pixels
        for p in ("fp32", "bf16")
    ]
    assert np.abs(results[0] - results[1]).max() > 1e-5


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a terminal of 200 columns."""
    monkeypatch.setenv("COLUMNS", "200")
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models and a folder of two pictures."""
    save(MERGED, tmp_path / "merged.safetensors")
    save(QUANTIZED, tmp_path / "q.safetensors")
    (tmp_path / "in").mkdir()
    for seed in (0, 1):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 26, 3), np.uint8)
        write_picture(Picture(pixels), tmp_path / "in" / f"{seed}.png")
    return tmp_path


def test_a_missing_engine_is_reported_once(run: CommandLine, folder: Path, no_engine: None) -> None:
    words = ("--model", folder / "merged.safetensors", "--threads", 1)
    done = run("enhance", folder / "in", "-o", folder / "out", *words)
    assert done.code == 0
    assert done.errors == ""
    assert done.output.count(f"  not in the engine: {GONE}\n") == 1
    assert "2 pictures enhanced" in done.output and "merged in onnxruntime, fp32" in done.output
    asked = ("--runtime", "onnxruntime", "--overwrite")
    assert GONE not in run("enhance", folder / "in", "-o", folder / "out", *words, *asked).output
    assert f"{GONE}; this took onnxruntime, fp32" in run("evaluate", "-d", folder / "in", *words).errors


@built
def test_the_summary_says_what_ran(run: CommandLine, folder: Path) -> None:
    words = ("--model", folder / "q.safetensors", "--threads", 1, "--precision", "int8")
    done = run("enhance", folder / "in", "-o", folder / "out", *words)
    assert done.errors == ""
    assert "q in engine, int8" in done.output


@built
def test_shipped_models_have_8_bit_forms(run: CommandLine, folder: Path) -> None:
    """They are used if no model is named, and suggested if another one is named."""
    done = run("enhance", folder / "in", "-o", folder / "out", "--precision", "int8", "--threads", 1)
    assert "restore-x2-int8 in " in done.output and ", int8" in done.output, done.errors
    with pytest.raises(OnebranchError, match=r"photo-x2 has no record.*the shipped photo-x2-int8 has one"):
        chosen(load("photo-x2"), "auto", "int8")


def test_int8_of_an_unmerged_model_says_to_merge_it() -> None:
    with pytest.raises(OnebranchError, match=r"photo-x2-branches cannot be .*; merge the network first"):
        chosen(load("photo-x2-branches"), "auto", "int8")


def test_the_command_line_refuses(run: CommandLine, folder: Path) -> None:
    words = ("enhance", folder / "in", "-o", folder / "out", "--model", folder / "merged.safetensors")
    assert "onebranch quantize" in run.refused(*words, "--precision", "int8")
    assert "unknown precision 'fp8'" in run.refused(*words, "--precision", "fp8")


def test_info_says_what_auto_takes_and_why(
    run: CommandLine, folder: Path, no_engine: None, no_openvino: None
) -> None:
    facts = json.loads(run("info", "--json", folder / "merged.safetensors").output)["runtimes"]
    assert facts["fp32"] == {"runtime": "onnxruntime", "reason": f"not the engine: {GONE}"}
    assert facts["bf16"]["runtime"] is facts["int8"]["runtime"] is None
    assert "pip install 'onebranch[openvino]'" in facts["bf16"]["reason"]
    assert "onebranch quantize" in facts["int8"]["reason"]
    text = " ".join(run("info", folder / "merged.safetensors").output.split())
    assert f"fp32 │ onnxruntime: not the engine: {GONE}" in text


@built
def test_info_knows_the_engine(run: CommandLine, folder: Path) -> None:
    facts = json.loads(run("info", "--json", folder / "q.safetensors").output)["runtimes"]
    assert {name: fact["runtime"] for name, fact in facts.items()} == dict.fromkeys(PRECISIONS, "engine")
    assert "fp32 │ engine: the engine supports this network" in " ".join(
        run("info", folder / "q.safetensors").output.split()
    )


def test_fast_is_int8_where_its_loss_is_recorded_and_the_engine_runs_it() -> None:
    measured, unmeasured = load("photo-x2-int8"), load("photo-x2")
    expected = "fp32" if engine_library.available() else "int8"
    assert chosen(measured, "auto", "fast").precision == expected
    assert chosen(unmeasured, "auto", "fast").precision == "fp32"
    assert resolve_precision(measured, "fast", "onnxruntime") == "fp32"
    record = {key: value for key, value in measured.quantization.items() if key != "loss"}
    assert resolve_precision(replace(measured, quantization=record), "fast") == "fp32"
    assert resolve_precision(measured, "bf16") == "bf16"


@built
def test_fast_takes_the_quantized_version_of_shipped_models() -> None:
    enhancer = Enhancer(Options(scale=2, precision="fast"))
    assert [stage.model.name for stage in enhancer.stages_for((8, 8))] == ["restore-x2-int8"]
    assert enhancer.precisions_for((8, 8)) == ["int8"]
    assert Enhancer(Options(model="photo-x2", precision="fast")).precisions_for((8, 8)) == ["fp32"]


@built
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_speed_of_a_precision_is_measured(precision: str) -> None:
    assert 0 < milliseconds_per_megapixel(load("photo-x2-int8"), precision) < 1e6
