"""Merge an ONNX file, verify the merged file against the original, and compare their outputs.

    python examples/merge_onnx_file.py [MODEL.onnx]

Without an argument, a network with branches is exported first.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime

import onebranch


def main(original: Path, merged: Path) -> None:
    """Merge `original` into the new file `merged` and show that both compute the same."""
    model, report = onebranch.merge(str(original))
    onnx.save(model, merged)
    print(report.summary())
    onebranch.verify(str(original), str(merged))

    picture = np.random.default_rng(0).random((1, 1, 48, 64), np.float32)
    before, after = (run(path, picture) for path in (original, merged))
    difference = np.abs(before - after).max() / np.abs(before).max()
    print(f"largest difference of the outputs: {difference:.1e} of the largest output")


def run(path: Path, picture: np.ndarray) -> np.ndarray:
    """The output of an ONNX file of one input and one output."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: picture})[0]


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "branches.onnx"
        if len(sys.argv) == 1:
            onebranch.export(onebranch.load("photo-x2-branches"), file)
        main(file, Path(folder) / "merged.onnx")
