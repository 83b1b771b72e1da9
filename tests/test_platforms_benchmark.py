"""The benchmark of platforms, and the clips that are made of photographs."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import clip_sheet, tracing
from benchmarks.long_clip import compare_files
from benchmarks.moving_photographs import make_moving_photographs
from benchmarks.platforms import Platform, installed_bytes, report
from clips import contents
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with a picture of noise."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    write(Picture(noise), folder / "noise.png")
    return folder


def test_clips_of_photographs_move_and_have_sound(tmp_path: Path, photographs: Path) -> None:
    clip = make_moving_photographs(tmp_path / "clip.mkv", photographs, 6, (24, 32))
    shown = contents(clip)
    assert (len(shown.planes), shown.size, shown.streams[1]) == (6, (24, 32), ("audio", "aac"))
    assert not np.array_equal(shown.planes[0][0], shown.planes[5][0])
    shorter = make_moving_photographs(tmp_path / "shorter.mkv", photographs, 4, (24, 32))
    assert compare_files(clip, clip, ()).is_same
    other = compare_files(clip, shorter, ())
    assert (other.is_same, other.frames, other.other_times, other.same_bytes) == (False, 6, 2, False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(OnebranchError, match="no picture in"):
        make_moving_photographs(tmp_path / "none.mkv", tmp_path / "empty", 6, (24, 32))


def test_every_frame_of_a_clip_is_compared_and_some_are_drawn(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_sheet, "SIZE", (24, 32))
    monkeypatch.setattr(clip_sheet, "SHOT_FRAMES", 2)
    sheet = clip_sheet.measure_clip(photographs, 3, "photo-x2-int8")
    assert (sheet.frames_in, sheet.frames_out, len(sheet.frames)) == (3, 3, 3)
    assert [number for number, _ in sheet.rows] == [1]
    lines = clip_sheet.report(sheet)
    assert (
        lines[0] == "frames: 3 in, 3 out"
        and lines[1] == "times since the first frame: largest difference 0.3 ms"
    )
    clip_sheet.draw(sheet, tmp_path / "sheet.png")
    assert read(str(tmp_path / "sheet.png")).pixels.shape[:2] == (48 + 8 + 26, 3 * (64 + 8) + 8)


def test_tracing_is_compared_with_one_export() -> None:
    rows = [tracing.TracingRow("n", 2.0, 5.0, 7.0), tracing.TracingRow("m", 2.0, 3.0, 7.0)]
    assert [goal.met for goal in tracing.targets(rows)] == [False, True]
    assert tracing.report(rows)[-1] == "| m | 2.0 s | 3.0 s | 1.50 | 7.0 s |"


@pytest.mark.slow
def test_tracing_is_measured() -> None:
    (row,) = tracing.measure(1, {"three branches": lambda: tracing.ManyBranches(3)})
    assert row.network == "three branches" and min(row.export, row.trace, row.merge) > 0


def test_platforms_that_cannot_run_are_listed() -> None:
    rows = [
        Platform("Python", "fp32", 1.0, 2, 3000, 2_500_000, 12.3),
        Platform("mpv shader", "fp32", problem="ffmpeg is not installed"),
    ]
    lines = report(rows, (5, 7))
    assert lines[-2] == "| Python | fp32 | 1 | 2 of 3,000 | 2.5 MB | 12 |"
    assert "not run: ffmpeg is not installed" in lines[-1]


def test_bytes_to_install_hold_what_is_required() -> None:
    assert installed_bytes("onebranch", "serve") > installed_bytes("onebranch") > installed_bytes("numpy")
