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
from onebranch.runtime import engine_library, speed
from onebranch.runtime.selection import (
    PRECISIONS,
    RUNTIMES,
    RuntimeChoice,
    chosen,
    engine_missing,
    engine_refusal,
    fast_choice,
    open_runtime,
    resolve_precision,
)
from onebranch.runtime.speed import milliseconds_per_megapixel
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.user_cache import store
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
    actual = chosen(UNMERGED)
    assert (actual.runtime, actual.precision) == ("onnxruntime", "fp32")
    assert "head is not one convolution (onebranch merge" in actual.reason
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
    with pytest.raises(OnebranchError, match="unknown precision 'int4'; valid: auto, fp32, bf16, int8"):
        chosen(MERGED, "auto", "int4")
    with pytest.raises(OnebranchError, match="unknown precision 'fp16'; valid: auto, fp32, bf16, int8"):
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
    assert done.output.count(f"  the engine was not used: {GONE}\n") == 1
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


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, float]:
    """Milliseconds per megapixel that measuring gives, instead of the real ones; an empty cache."""
    faked = {"fp32": 50.0, "bf16": 70.0, "int8": 20.0}
    monkeypatch.setattr(speed, "milliseconds_per_megapixel", lambda model, precision: faked[precision])
    monkeypatch.setattr(speed, "_MEASURED", {})
    monkeypatch.setenv("ONEBRANCH_CACHE", str(tmp_path / "cache"))
    return faked


@built
def test_fast_is_the_quickest_precision_whose_loss_is_recorded(timings: dict[str, float]) -> None:
    measured, unmeasured = load("photo-x2-int8"), load("photo-x2")
    assert chosen(measured, "auto", "fast").precision == "int8"
    assert chosen(unmeasured, "auto", "fast").precision == "fp32"
    assert resolve_precision(measured, "fast", "onnxruntime") == "fp32"
    record = {key: value for key, value in measured.quantization.items() if key != "loss"}
    assert resolve_precision(replace(measured, quantization=record), "fast") == "fp32"
    assert resolve_precision(measured, "bf16") == "bf16"
    assert fast_choice(measured).reason.endswith("on one core: fp32 50.0, int8 20.0")


@built
def test_fast_is_fp32_where_int8_is_slower(timings: dict[str, float]) -> None:
    timings |= {"fp32": 20.0, "bf16": 10.0}  # bf16 is quicker still, but no file records its loss
    timings["int8"] = 21.0
    assert chosen(load("photo-x2-int8"), "auto", "fast").precision == "fp32"
    enhancer = Enhancer(Options(scale=2, precision="fast"))
    assert [stage.model.name for stage in enhancer.stages_for((8, 8))] == ["restore-x2"]
    assert enhancer.precisions_for((8, 8)) == ["fp32"]


def test_auto_is_int8_for_quantized_files_and_fp32_for_all_others(
    monkeypatch: pytest.MonkeyPatch, no_openvino: None
) -> None:
    quantized, plain = load("photo-x2-int8"), load("photo-x2")
    expected = "fp32" if engine_library.available() else "int8"
    assert Options().precision == "auto"
    assert chosen(quantized, "auto", "auto").precision == expected
    assert chosen(plain, "auto", "auto").precision == "fp32"
    assert resolve_precision(quantized, "auto", "onnxruntime") == "fp32"
    assert resolve_precision(quantized, "auto", "openvino") == "fp32"  # not installed
    assert resolve_precision(quantized, "fp32") == "fp32"
    assert Enhancer(Options(model="photo-x2-int8")).precisions_for((8, 8)) == [expected]
    assert Enhancer(Options(scale=2)).precisions_for((8, 8)) == ["fp32"]


@built
def test_fast_takes_the_quantized_version_of_shipped_models(timings: dict[str, float]) -> None:
    enhancer = Enhancer(Options(scale=2, precision="fast"))
    assert [stage.model.name for stage in enhancer.stages_for((8, 8))] == ["restore-x2-int8"]
    assert enhancer.precisions_for((8, 8)) == ["int8"]
    assert Enhancer(Options(model="photo-x2", precision="fast")).precisions_for((8, 8)) == ["fp32"]


def test_fast_is_fp32_without_the_engine(no_engine: None) -> None:
    choice = fast_choice(load("photo-x2-int8"))
    assert (choice.precision, choice.reason) == ("fp32", f"not the engine: {GONE}")


@built
def test_speeds_are_kept_by_processor_version_and_spec(
    timings: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, first = load("photo-x2-int8"), dict(timings)

    def kept(precision: str = "fp32") -> float:
        """As a new process would find it."""
        monkeypatch.setattr(speed, "_MEASURED", {})
        return speed.kept_speeds(model, (precision,))[precision]

    assert kept() == first["fp32"]
    timings |= {"fp32": 1.0, "int8": 2.0}
    assert (kept(), kept("int8")) == (first["fp32"], 2.0)  # int8 was not measured before
    (cached,) = (tmp_path / "cache").iterdir()

    cached.write_bytes(b"damaged" + cached.read_bytes())
    assert kept() == 1.0
    timings["fp32"] = 3.0
    store(cached.name, b'["fp32"]')
    assert kept() == 3.0
    timings["fp32"] = 4.0
    store(cached.name, b'{"fp32": NaN, "int8": -1}')
    assert (kept(), kept("int8")) == (4.0, 2.0)

    timings["fp32"] = 5.0
    assert speed.kept_speeds(load("photo-x4-int8"), ("fp32",)) == {"fp32": 5.0}
    monkeypatch.setattr(speed, "installed_version", lambda name: "9.9")
    assert kept() == 5.0
    timings["fp32"] = 6.0
    monkeypatch.setattr(speed, "processor_name", lambda: "another processor")
    assert kept() == 6.0
    assert len([*(tmp_path / "cache").iterdir()]) == 4


@built
def test_info_prints_the_speed_of_each_precision_and_what_fast_takes(
    run: CommandLine, timings: dict[str, float]
) -> None:
    facts = json.loads(run("info", "--json", "photo-x2-int8").output)
    assert {name: fact["ms_per_megapixel"] for name, fact in facts["runtimes"].items()} == timings
    assert facts["fast"]["precision"] == "int8"
    text = " ".join(run("info", "photo-x2-int8").output.replace("│", "").split())
    assert "70 ms per megapixel of the input on one core, slower than fp32 on this processor" in text
    assert (
        "fast int8: the fastest here, in ms per megapixel of the input on one core: fp32 50.0, int8 20.0"
        in text
    )


@built
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_speed_of_a_precision_is_measured(precision: str) -> None:
    assert 0 < milliseconds_per_megapixel(load("photo-x2-int8"), precision) < 1e6
