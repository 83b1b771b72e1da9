"""Checks an installed package, not the sources: python scripts/check_installation.py base|engine|none.

base: only the base package is installed; its command enhances a JPEG in the engine, and the environment
takes less than `MAX_MIB`. engine: every instruction set of the native engine agrees with ONNX Runtime.
none: the engine is missing and reports why, and ONNX Runtime enhances a picture.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import onebranch
from onebranch.model.catalogue import load
from onebranch.runtime.engine import EngineRuntime
from onebranch.runtime.engine_library import available, instruction_sets

TOLERANCE = 1e-4
"""Largest difference between two runtimes in float32, for pictures in [0, 1]."""

MAX_MIB = 250
"""Disk space that an environment with the package, its dependencies and pip may take."""


def check_base() -> str:
    """A line about the size. Raises AssertionError if a picture cannot be enhanced or if it is too large."""
    assert not available(), available()
    for package in ("torch", "onnx", "onnxruntime"):
        assert importlib.util.find_spec(package) is None, f"{package} is installed"
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (40, 30), "teal").save(Path(folder) / "photo.jpg")
        command = [
            str(Path(sys.executable).parent / "onebranch"),
            "enhance",
            "photo.jpg",
            "-o",
            "doubled.jpg",
        ]
        subprocess.run(command, cwd=folder, check=True)
        assert Image.open(Path(folder) / "doubled.jpg").size == (80, 60)
    assert enhanced_by() == "engine"
    size = disk_space(Path(sys.prefix))
    assert size < MAX_MIB, f"the installation takes {size:.0f} MiB, more than {MAX_MIB}"
    return f"a picture is enhanced; the environment takes {size:.0f} MiB (at most {MAX_MIB})"


def disk_space(folder: Path) -> float:
    """MiB that the files of a folder occupy, compiled Python files included."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 2**20


def check_engine() -> str:
    """A line about the engine. Raises AssertionError if it is missing or its results differ."""
    assert not available(), available()
    from onebranch.runtime.onnxruntime import OnnxRuntime

    model = load("photo-x2")
    picture = np.random.default_rng(0).random((1, 1, 40, 50), np.float32)
    expected = OnnxRuntime(model, 1).run(picture)
    for name in instruction_sets():
        result = EngineRuntime(model, 1, instructions=name).run(picture)
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)
    assert enhanced_by() == "engine"
    return f"the engine agrees with ONNX Runtime in {', '.join(instruction_sets())}"


def check_none() -> str:
    """The reason why there is no engine. Raises AssertionError if there is one, or if nothing works."""
    assert "was not built" in available(), available() or "the engine is there"
    assert enhanced_by() == "onnxruntime"
    return f"pictures are enhanced without the engine; {available()}"


def enhanced_by() -> str:
    """The runtime that enhances a small JPEG by default."""
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (40, 30), "teal").save(Path(folder) / "photo.jpg")
        options = onebranch.Options(model="photo-x2")
        summary = onebranch.enhance_files([Path(folder) / "photo.jpg"], Path(folder) / "out", options)
        assert not summary.failed and Image.open(Path(folder) / "out" / "photo.jpg").size == (80, 60)
    return summary.done[0].preview.runtime


if __name__ == "__main__":
    assert "site-packages" in onebranch.__file__, f"{onebranch.__file__} is not an installed package"
    print({"base": check_base, "engine": check_engine, "none": check_none}[sys.argv[1]]())
