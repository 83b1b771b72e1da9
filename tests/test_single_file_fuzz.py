"""Any picture, any options, any cut into bands: the file is the same, or both are refused alike."""

from pathlib import Path

import numpy as np
import pytest

from onebranch.enhancer import row_pipeline
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions, enhance_file
from onebranch.errors import OnebranchError
from onebranch.images import writing
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import WHITE_LEVELS
from test_fuzz import rounds

pytestmark = pytest.mark.slow

MODELS = [None, "photo-x2", "photo-x4", "denoise", "shrink-x2", "photo-x2-int8", "photo-x2-branches"]


def any_picture(rng: np.random.Generator) -> Picture:
    """Of any depth and mode, small, sometimes one pixel high or wide."""
    depth, channels = rng.choice(list(WHITE_LEVELS)), int(rng.choice([1, 3]))
    size = [int(rng.integers(1, 91)), int(rng.integers(1, 91))]
    if rng.random() < 0.3:
        size[int(rng.integers(2))] = 1
    values = rng.random((*size, channels + 1))
    values[..., -1] = np.clip(values[..., -1] * 3 - 1, 0, 1)
    samples = (
        values.astype(np.float32) if depth == "float32" else (values * WHITE_LEVELS[depth]).astype(depth)
    )
    return Picture(samples[..., :-1].copy(), samples[..., -1].copy() if rng.random() < 0.5 else None)


def any_options(rng: np.random.Generator) -> dict[str, object]:
    """Options that a user may combine, right or wrong."""
    options: dict[str, object] = {
        "model": MODELS[rng.integers(len(MODELS))],
        "threads": int(rng.integers(1, 4)),
        "wrap": bool(rng.random() < 0.2),
        "self_ensemble": bool(rng.random() < 0.2),
        "tile": int(rng.choice([0, 32, 33, 64])),
        "runtime": str(rng.choice(["auto", "auto", "engine", "onnxruntime"])),
        "precision": str(rng.choice(["fp32", "fp32", "fp32", "bf16", "int8"])),
    }
    if rng.random() < 0.3:
        options["scale"] = float(rng.choice([0.25, 0.5, 0.7, 1, 1.5, 2, 3, 6]))
    elif rng.random() < 0.3:
        options["width"] = int(rng.integers(1, 200))
    return options


def made(source: Path, target: Path, options: dict[str, object]) -> np.ndarray | str:
    """The result's samples, or the words of the refusal."""
    try:
        enhance_file(source, target, Enhancer(Options(**options)), FileOptions())
    except OnebranchError as error:
        assert not target.exists()
        return str(error)
    return read(target).samples()


def test_any_cut_makes_the_same_file(tmp_path, monkeypatch, fuzz_seconds):
    written = 0
    for number, rng in enumerate(rounds(fuzz_seconds)):
        options, suffix = any_options(rng), rng.choice([".png", ".tif"])
        source = tmp_path / f"{number}.tif"
        writing.write(any_picture(rng), source)
        whole = made(source, tmp_path / f"{number}-whole{suffix}", options)
        with monkeypatch.context() as patch:
            patch.setattr(row_pipeline, "BAND_PIXELS", 16)
            patch.setattr(writing, "MAX_COLLECTED_BYTES", 0)
            cut = made(source, tmp_path / f"{number}-cut{suffix}", options)
        if isinstance(whole, str):
            assert cut == whole
            continue
        written += 1
        allowed = 0.0
        if options["runtime"] == "onnxruntime" or options["model"] == "photo-x2-branches":
            allowed = 1e-5 if whole.dtype == np.float32 else 1  # its last bits are not specified
        difference = np.abs(cut.astype(np.float64) - whole).max()
        assert difference <= allowed, (options, whole.shape, whole.dtype, difference)
    assert written > 3
