"""Every example runs from a scratch folder, as its first lines say, and prints what it should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "tests" / "data"

RUN = """
import runpy, sys
import torchvision_placeholder
torchvision_placeholder.install()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs an example as a script; timm imports without torchvision."""


def run(name: str, *arguments: str, folder: Path) -> str:
    """What an example prints; its failure is the test's failure."""
    command = [sys.executable, "-c", RUN, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def difference(text: str) -> float:
    """The printed difference of the outputs before and after a merge."""
    (value,) = re.findall(r"largest difference of the outputs: (\S+)", text)
    return float(value)


def test_every_example_is_run_and_listed():
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    tested = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    listed = set(re.findall(r"examples/(\w+\.py)`", (ROOT / "examples" / "README.md").read_text()))
    assert scripts == tested == listed


def test_a_folder_is_enhanced_and_resumed(tmp_path):
    count = len(list(PICTURES.glob("*.png")))
    first = run("enhance_folder.py", str(PICTURES), "results", folder=tmp_path)
    assert first == f"{count} enhanced, 0 up to date, 0 failed\n"
    assert len(list((tmp_path / "results").glob("*.png"))) == count
    again = run("enhance_folder.py", str(PICTURES), "results", folder=tmp_path)
    assert again == f"0 enhanced, {count} up to date, 0 failed\n"


def test_an_onnx_file_is_merged(tmp_path):
    text = run("merge_onnx_file.py", folder=tmp_path)
    assert difference(text) < 1e-5
    assert "31 -> 7 convolutions" in text


@pytest.mark.slow
def test_a_timm_module_is_merged_and_saved(tmp_path):
    text = run("merge_timm_module.py", "mobileone_s0", "kept.pt2", folder=tmp_path)
    assert difference(text) < 1e-5
    assert "191 -> 43 convolutions" in text
    assert (tmp_path / "kept.pt2").exists()


def test_a_tiny_network_is_trained_and_merged(tmp_path):
    text = run("train_tiny.py", str(PICTURES), "tiny", "20", folder=tmp_path)
    assert re.search(r"\d+\.\d\d dB on luma, bicubic \d+\.\d\d dB", text)
    assert (tmp_path / "tiny" / "tiny-merged.safetensors").exists()
