"""The benchmark of clips, on a tiny one."""

from pathlib import Path

import pytest

from benchmarks import video


def test_every_stage_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "SIZE", (32, 48))
    monkeypatch.setattr(video.make_clip, "__defaults__", ((32, 48),))
    rows = list(video.measure(tmp_path, 4, "photo-x2", ("ultrafast",), None, 1))
    assert [(row.clip, row.method) for row in rows] == [
        (clip, method)
        for clip in ("smooth", "grainy")
        for method in ("network photo-x2", "bicubic", "FFmpeg Lanczos")
    ]
    for row in rows:
        assert row.frame_rate > 0 and row.allowed > 0
        assert sum(row.shares) == pytest.approx(1)
