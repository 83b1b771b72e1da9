"""`onebranch models`, `info`, `evaluate` and `export` as they are typed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
from safetensors.numpy import load_file

from command_line import CommandLine
from network_specs import calm_model
from onebranch.evaluation import evaluate
from onebranch.merging.dispatch import merge
from onebranch.model import catalogue
from onebranch.model.catalogue import CATALOGUE
from onebranch.model.file import fingerprint, to_bytes
from onebranch.model.file import write as save
from onebranch.spec.network import parameters

MODEL = replace(
    merge(calm_model(task="upscale", scale=2, residual="nearest", branches=("3x3*2 bn 1x1", "1x1")))[0],
    recipe={"batch_norm_frozen": True, "steps": 300},
    scores={"set5": {"psnr_y": 37.1, "ssim_y": 0.95}},
)


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a terminal of 180 columns."""
    monkeypatch.setenv("COLUMNS", "180")
    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small model in a file."""
    path = tmp_path / "small.safetensors"
    save(MODEL, path)
    return path


def test_models_lists_every_shipped_model(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MODELS_FOLDER", tmp_path)
    save(MODEL, tmp_path / "photo-x2.safetensors")
    done = run("models")
    assert done.code == 0
    assert all(name in done.output for name in CATALOGUE)
    (row,) = (line for line in done.output.splitlines() if line.startswith("│ photo-x2 "))
    assert re.search(r"│ +\d+, - │$", row)  # a time in fp32, and no 8-bit form in this folder
    assert "not measured" in done.output and "not installed" in done.output
    rows = {row["name"]: row for row in json.loads(run("models", "--json").output)}
    assert rows["photo-x2"]["bytes"] == len(to_bytes(MODEL))
    assert rows["photo-x2"]["scores"] == MODEL.scores
    assert rows["denoise"]["bytes"] is None


def test_every_shipped_model_is_listed_with_its_gain(run: CommandLine) -> None:
    done = run("models")
    assert done.code == 0, done.errors
    for name in ("restore-x2", "restore-luma-x2", "photo-x2", "denoise"):
        (row,) = (line for line in done.output.splitlines() if line.startswith(f"│ {name} "))
        assert re.search(r"│ \+\d+\.\d\d dB over", row), row
        assert re.search(r"Quality .* dB PSNR", run("info", name).output)


def test_info_says_everything(run: CommandLine, model: Path) -> None:
    short = run("info", model).output
    assert len(short.splitlines()) < 25 and "upscale x2 on luma" in short and "--all" in short
    assert "merged and proven" in short and "unit impulse" not in short and "batch_norm_frozen" not in short
    done = run("info", "--all", model)
    assert done.code == 0
    expected = ["small: upscale x2 on luma", "blocks.0", "3x3*2 bn 1x1", "prelu", "batch_norm_frozen"]
    expected += ["select all", "unit impulse", "37.1", "fp32", fingerprint(MODEL)]
    for word in expected:
        assert word in done.output
    facts = json.loads(run("info", "--json", model).output)
    assert facts["merge"] == json.loads(json.dumps(MODEL.merge))
    assert facts["recipe"] == MODEL.recipe
    assert facts["parameters"] == parameters(MODEL.spec)
    assert facts["halo"] == {"top": 3, "bottom": 3, "left": 3, "right": 3}
    assert facts["weights_sha256"] == fingerprint(MODEL)


def test_info_refuses_what_is_no_model(run: CommandLine, model: Path, tmp_path: Path) -> None:
    assert "neither a shipped model nor a file" in run.refused("info", tmp_path / "absent.safetensors")
    model.write_bytes(model.read_bytes()[:-5])
    assert "neither a complete safetensors file nor an ONNX file" in run.refused("info", model)


def test_evaluate_prints_every_score(run: CommandLine, model: Path, crops: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sand.png").write_bytes((crops / "sand.png").read_bytes())
    evaluation = evaluate(MODEL, folder, threads=1)
    done = run("evaluate", "--model", model, "--data", folder, "--threads", 1)
    assert done.code == 0, done.errors
    for word in (
        f"{evaluation.mean.scores.psnr_y:.2f}",
        f"{evaluation.mean.baseline.psnr_y:.2f}",
        "mean",
        "bicubic",
    ):
        assert word in done.output
    values = json.loads(run("evaluate", "-m", model, "-d", folder, "--threads", 1, "--json").output)
    assert values == {**evaluation.as_json(), "model": "small"}
    assert "sigma is for denoising" in run.refused("evaluate", "-m", model, "-d", folder, "--sigma", 25)
    assert "does not exist" in run.refused("evaluate", "-m", model, "-d", tmp_path / "absent")


def test_export_writes_both_formats(run: CommandLine, model: Path, tmp_path: Path) -> None:
    onnx, compact = tmp_path / "small.onnx", tmp_path / "small-compact.safetensors"
    assert run("export", model, "-o", onnx).code == 0
    assert run("export", model, "-o", compact, "--format", "compact").code == 0
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["input", "output"]
    assert load_file(compact)["body.0.weight"].shape == (4, 1, 3, 3)
    assert "it exists" in run.refused("export", model, "-o", onnx)
    assert "unknown format 'ncnn'" in run.refused("export", model, "-o", tmp_path / "x", "--format", "ncnn")


def test_a_mistyped_command_names_the_nearest(run: CommandLine) -> None:
    assert "did you mean 'enhance'" in run.refused("enhence")


def test_export_refuses_a_name_of_another_format(run: CommandLine, tmp_path: Path) -> None:
    assert "must end in .onnx" in run.refused("export", "photo-x2", "-o", str(tmp_path / "model.pth"))
    assert not list(tmp_path.iterdir())


def test_half_the_size_is_the_halving_models_work() -> None:
    from onebranch.enhancer.options import models_for

    assert models_for(0.5) == ["shrink-x2"] and models_for(0.6) == ["restore-x2"]


def test_merging_a_merged_model_says_in_one_line_that_there_is_nothing_to_merge(
    run: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "again.safetensors"
    done = run("merge", "photo-x2", "-o", out)
    assert done.code == 0
    first, second = done.output.splitlines()
    assert first == "Nothing to merge in this model; an unchanged copy is written."
    assert second == f"{out}: {out.stat().st_size:,} bytes"
    assert (
        "under this plan"
        in run("merge", "photo-x2", "-o", tmp_path / "b.safetensors", "--group", "size").output
    )
