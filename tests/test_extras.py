"""What works without optional packages, and the one line where one is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from command_line import CommandLine
from onebranch import extras
from onebranch.errors import OnebranchError
from onebranch.runtime.engine_library import available

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bare(monkeypatch):
    """As if only the base package were installed."""
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["merge", "x.onnx", "-o", "new.onnx"], "merging ONNX files needs onnx and onnxruntime; install"),
        (["verify", "x.onnx", "y.onnx"], "verifying ONNX models needs onnx and onnxruntime"),
        (["info", "x.onnx"], "reading ONNX files needs onnx and onnxruntime"),
        (
            ["enhance", "a.png", "-m", "x.onnx", "-o", "b.png"],
            "running ONNX files needs onnx and onnxruntime",
        ),
        (["export", "photo-x2", "-o", "z.onnx"], "exporting to ONNX needs onnx and onnxruntime"),
        (["train", "config.toml"], "training needs torch; install with: pip install 'onebranch[train]'"),
        (
            ["enhance", "a.png", "-o", "b.png", "--runtime", "onnxruntime"],
            "runtime 'onnxruntime' is not installed; pip install 'onebranch[onnx]'",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_missing_extra_is_one_line(bare, monkeypatch, capsys, tmp_path, words, line):
    monkeypatch.chdir(tmp_path)
    for name in ("x.onnx", "y.onnx", "a.png", "config.toml"):
        (tmp_path / name).write_bytes((ROOT / "tests" / "data" / "sand.png").read_bytes())
    assert line in CommandLine(monkeypatch, capsys).refused(*words)


def test_without_the_engine_and_onnx_runtime_the_line_names_both(bare, monkeypatch):
    from onebranch.model.catalogue import load
    from onebranch.runtime import engine_library, selection

    monkeypatch.setattr(engine_library, "available", lambda: "the engine was not built")
    with pytest.raises(OnebranchError, match=r"not the engine .*ONNX Runtime is not installed; pip install"):
        selection.chosen(load("photo-x2"))


SCRIPT = """
import sys
for name in ("onnx", "onnxruntime", "openvino", "torch", "matplotlib"):
    sys.modules[name] = None  # importing it fails from here on
import onebranch
from onebranch.blocks.plan import MergePlan
merged, report = onebranch.merge("photo-x2-branches", MergePlan(head_and_tail=False))
record = onebranch.verify("photo-x2-branches", merged)
picture = onebranch.enhance(onebranch.read_picture(sys.argv[1]), "photo-x2")
print(record.network.runtime, record.network.runtime_error < 1e-5, picture.width)
"""


@pytest.mark.skipif(bool(available()), reason="the engine is not built: ONNX Runtime is what runs")
def test_own_models_are_merged_verified_and_run_without_optional_packages():
    picture = ROOT / "tests" / "data" / "sand.png"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, picture], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split() == ["numpy", "True", "128"]


def test_a_merge_that_was_proven_by_another_runtime_verifies(monkeypatch):
    from onebranch import verification
    from onebranch.merging.dispatch import merge, verify

    monkeypatch.setattr(verification, "installed", lambda name: False)
    merged, report = merge("photo-x2-branches")
    assert report.record.network.runtime == "numpy"
    monkeypatch.undo()
    assert verify("photo-x2-branches", merged).network.runtime == "onnxruntime"
