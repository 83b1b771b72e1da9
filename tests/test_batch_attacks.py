"""Names that could make a batch fail or destroy files, chosen on purpose or by accident."""

import os
from pathlib import Path

import numpy as np
import pytest

from network_specs import random_model
from onebranch.enhancer.folders import BatchOptions, enhance_files
from onebranch.enhancer.options import Options
from onebranch.enhancer.single_file import FileOptions
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.writing import write
from onebranch.spec.shorthand import NetworkShorthand, expand

MODEL = random_model(
    expand(NetworkShorthand(task="upscale", width=2, depth=0, branches="plain")), name="small"
)
OPTIONS = Options(model=MODEL, threads=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
        write(Picture(pixels), folder / f"{seed}.png")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_circular_links_are_no_error(pictures: Path, tmp_path: Path) -> None:
    (pictures / "circle.png").symlink_to("circle.png")
    summary = enhance_files([pictures], tmp_path / "out", OPTIONS)
    assert len(summary.done) == 2
    (failed,) = enhance_files([pictures / "circle.png"], tmp_path / "out", OPTIONS).failed
    assert "circle.png" in failed.reason
    assert "fault in onebranch" not in failed.reason


@pytest.mark.parametrize("target", ["in/0.png", "out/0.png", "in/../in/0.png"])
def test_a_comparison_replaces_no_file(pictures: Path, tmp_path: Path, target: str) -> None:
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    batch = BatchOptions(comparisons=tmp_path / target)
    with pytest.raises(OnebranchError):
        enhance_files(
            [pictures / "0.png"], tmp_path / "out/0.png", OPTIONS, FileOptions(overwrite=True), batch=batch
        )
    assert before == {path.name: path.read_bytes() for path in pictures.iterdir()}


def test_a_folder_of_comparisons_replaces_no_picture(pictures: Path, tmp_path: Path) -> None:
    (pictures / "0.png").rename(pictures / "1_compared.png")
    before = (pictures / "1_compared.png").read_bytes()
    batch = BatchOptions(comparisons=pictures)
    with pytest.raises(OnebranchError, match="one of the pictures"):
        enhance_files(
            [pictures / "1.png", pictures / "1_compared.png"],
            tmp_path / "out",
            OPTIONS,
            FileOptions(overwrite=True),
            batch=batch,
        )
    assert (pictures / "1_compared.png").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are different there")
def test_a_damaged_manifest_is_no_error(pictures: Path, tmp_path: Path) -> None:
    out, batch = tmp_path / "out", BatchOptions(resume=True)
    enhance_files([pictures], out, OPTIONS, batch=batch)
    with (out / "onebranch.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n")
    os.mkfifo(out / "onebranch-1-of-2.jsonl")
    (out / "onebranch-2-of-2.jsonl").symlink_to("/dev/zero")
    assert len(enhance_files([pictures], out, OPTIONS, batch=batch).skipped) == 2


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_manifest_writes_into_no_other_file(pictures: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.write_text("precious")
    (out / "onebranch.jsonl").symlink_to(other)
    with pytest.raises(OnebranchError, match="it is a link"):
        enhance_files([pictures], out, OPTIONS, batch=BatchOptions(resume=True))
    assert other.read_text() == "precious"
    (out / "onebranch.jsonl").unlink()
    os.mkfifo(out / "onebranch.jsonl")
    with pytest.raises(OnebranchError, match="not a regular file"):
        enhance_files([pictures], out, OPTIONS, batch=BatchOptions(resume=True))
