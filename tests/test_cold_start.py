"""A cold start stays short: enhancing one picture imports no package that it does not need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebranch.images.picture import Picture
from onebranch.images.writing import write
from onebranch.runtime.engine_library import available

IDLE = (
    *("PIL", "concurrent.futures.process", "hashlib", "matplotlib", "multiprocessing", "onnx", "onnxruntime"),
    *("openvino", "random", "rich", "secrets", "torch"),
)
"""Modules that a quiet command on one JPEG must not import."""

SCRIPT = """
import atexit, gc, sys
atexit.register(lambda: print("frozen:", gc.get_freeze_count() > 0))  # runs after what main registers
sys.argv = ["onebranch", "enhance", *sys.argv[1:]]
from onebranch.cli import main
try:
    main()
finally:
    print("loaded:", [name for name in {idle} if name in sys.modules])
"""


@pytest.mark.fast
@pytest.mark.skipif(bool(available()), reason="the engine is not built: ONNX Runtime is what runs")
def test_a_small_jpeg_takes_little_more_than_numpy_and_libvips(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    write(Picture(np.zeros((16, 16, 3), np.uint8)), source)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{idle}", repr(IDLE)), source, "-o", target, "-q"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["loaded: []", "frozen: True"]
    assert target.exists()
