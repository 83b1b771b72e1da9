"""Checks an installed package, not the sources: python scripts/check_installation.py engine|none.

engine: every set of instructions of the native engine must give what ONNX Runtime gives, and a picture must
be enhanced by it. none: the engine must be missing, say why, and a picture must be enhanced without it.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import onebranch
from onebranch.model.catalogue import load
from onebranch.runtime.engine import EngineRuntime
from onebranch.runtime.engine_library import available, instruction_sets
from onebranch.runtime.onnxruntime import OnnxRuntime

TOLERANCE = 1e-4
"""Between two runtimes in float32, of pictures in [0, 1]."""


def check_engine() -> str:
    """What the engine did. Raises AssertionError where it is missing or differs."""
    assert not available(), available()
    model = load("photo-x2")
    picture = np.random.default_rng(0).random((1, 1, 40, 50), np.float32)
    expected = OnnxRuntime(model, 1).run(picture)
    for name in instruction_sets():
        found = EngineRuntime(model, 1, instructions=name).run(picture)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert enhanced_by() == "engine"
    return f"the engine agrees with ONNX Runtime in {', '.join(instruction_sets())}"


def check_none() -> str:
    """Why there is no engine. Raises AssertionError where there is one, or where nothing works without it."""
    assert "was not built" in available(), available() or "the engine is there"
    assert enhanced_by() == "onnxruntime"
    return f"pictures are enhanced without the engine; {available()}"


def enhanced_by() -> str:
    """The runtime that enhances a small picture where none is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (40, 30), "teal").save(Path(folder) / "small.png")
        options = onebranch.Options(model="photo-x2")
        summary = onebranch.enhance_files([Path(folder) / "small.png"], Path(folder) / "out", options)
        assert not summary.failed and Image.open(Path(folder) / "out" / "small.png").size == (80, 60)
    return summary.done[0].preview.runtime


if __name__ == "__main__":
    assert "site-packages" in onebranch.__file__, f"{onebranch.__file__} is not an installed package"
    print({"engine": check_engine, "none": check_none}[sys.argv[1]]())
