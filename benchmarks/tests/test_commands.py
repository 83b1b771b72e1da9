"""The benchmark of whole commands: every part of it, on small pictures."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import commands
from benchmarks.cold_start import STEPS
from benchmarks.command_line import benchmarks
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two pictures, one of them grey in 16 bits; and a small large picture."""
    monkeypatch.setattr(commands, "LARGE_SIZE", (60, 90))
    monkeypatch.setattr(commands, "TILE_EDGE", 30)
    monkeypatch.setattr(commands, "COLD_START_EDGE", 32)
    random = np.random.default_rng(0)
    write(Picture(random.integers(0, 256, (24, 40, 3), np.uint8)), tmp_path / "a.png")
    write(Picture(random.integers(0, 65536, (30, 20, 1), np.uint16)), tmp_path / "b.png")
    return tmp_path


@pytest.mark.slow
def test_everything_is_measured_once(folder):
    lines: list[str] = []
    results = commands.compare(folder, 1, 1, lines.append)
    assert [row.name for row in results.rows] == ["2 JPEG pictures", "2 PNG pictures", "a JPEG of 90x60"]
    assert [row.pictures for row in results.rows] == [2, 2, 1]
    for row in results.rows:
        assert row.seconds > 0
        assert row.processor_seconds > 0
        assert set(commands.REFERENCES[:2]) <= set(row.network_seconds)
        for reference, seconds in row.network_seconds.items():
            assert row.ratios[reference] == pytest.approx(row.seconds / seconds)
        if sys.platform == "linux":
            assert 10 < row.megabytes < 2000
    assert results.encoded_size == (48, 80)
    ours = [encoder.name for encoder in results.encoders if encoder.used]
    assert ours == ["JPEG, as enhance does", "PNG, as enhance does"]
    assert all(0 <= encoder.share <= 1 and encoder.megabytes > 0 for encoder in results.encoders)
    assert tuple(results.cold_start_steps) == STEPS
    assert all(milliseconds > 0 for milliseconds in results.cold_start_steps.values())
    assert [target.met for target in results.targets()] == [
        results.rows[0].ratios["ONNX Runtime"] <= 1.25,
        results.rows[2].ratios["ONNX Runtime"] <= 1.25,
        results.cold_start_seconds <= 0.6,
    ]
    assert lines[0] == "making pictures"
    assert sum(line.startswith("round 1 of 1") for line in lines) == sum(
        line.startswith("warming up") for line in lines
    )


def test_large_pictures_are_made_of_the_small_ones(folder):
    one, other = (np.asarray(read(folder / name).pixels) for name in ("a.png", "b.png"))
    small = [Picture(one), commands._as_rgb8(Picture(other))]
    made = commands._tiled(small, (60, 90))
    assert made.shape == (60, 90, 3)
    np.testing.assert_array_equal(made[:24, :40], one)
    np.testing.assert_array_equal(made[:24, 40:60], small[1].pixels[:24])
    np.testing.assert_array_equal(made[:24, 60:90], one[:, :30])
    np.testing.assert_array_equal(made[24:48, :20], small[1].pixels[:24])


def test_a_command_that_fails_is_reported(folder, tmp_path):
    with pytest.raises(OnebranchError, match=r"enhance failed: onebranch: .*no such file"):
        commands._time_command(tmp_path / "none.png", 1, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_peak_is_the_commands_own(tmp_path):
    """A small picture's command takes little, whatever this process holds."""
    write(Picture(np.zeros((16, 16, 3), np.uint8)), tmp_path / "a.png")
    held = np.ones(1 << 28, np.uint8)
    turn = commands._time_command(tmp_path / "a.png", 1, tmp_path)
    assert turn.peak_bytes is None or turn.peak_bytes < held.nbytes


def test_the_command_line_prints_tables_or_json(monkeypatch, folder):
    arguments = ["commands", str(folder), "--rounds", "1", "--threads", "1"]
    printed = CliRunner().invoke(benchmarks, arguments, catch_exceptions=False).output
    for words in (
        "a JPEG of 90x60",
        "PNG, libvips, level 1, filter up",
        "cold start, one",
        "reading the pic",
    ):
        assert words in printed
    monkeypatch.setattr(commands, "compare", lambda *_: RESULT)
    values = json.loads(CliRunner().invoke(benchmarks, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert values["rows"][0]["ratios"] == {"ONNX Runtime": 0.5}
    assert values["goals"][-1] == {
        **values["goals"][-1],
        "wanted": 0.6,
        "reached": 0.3,
        "unit": "s",
        "met": True,
    }


RESULT = commands.CommandsResult(
    (commands.CommandRow("x", "JPEG", 1, 1.0, 1.0, 1.0, None, {"ONNX Runtime": 2.0}, {"ONNX Runtime": 0.5}),),
    (commands.EncoderRow("JPEG, as enhance does", 1.0, 1.0, 0.5, True),),
    (2, 2),
    0.3,
    {"exit": 1.0},
)
