"""`onebranch bench --pictures`: every part of it, on a folder and pictures that are small."""

import json
import sys

import numpy as np
import pytest

from command_line import CommandLine
from onebranch.bench import pictures
from onebranch.bench.cold import STEPS
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.writing import write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two pictures, one of them grey in 16 bits; and a small large picture."""
    monkeypatch.setattr(pictures, "LARGE", (60, 90))
    monkeypatch.setattr(pictures, "TILE", 30)
    monkeypatch.setattr(pictures, "SMALL", 32)
    random = np.random.default_rng(0)
    write(Picture(random.integers(0, 256, (24, 40, 3), np.uint8)), tmp_path / "a.png")
    write(Picture(random.integers(0, 65536, (30, 20, 1), np.uint16)), tmp_path / "b.png")
    return tmp_path


def test_everything_is_measured_once(folder):
    lines: list[str] = []
    found = pictures.compare(folder, 1, 1, lines.append)
    assert [row.name for row in found.rows] == ["2 JPEG pictures", "2 PNG pictures", "a JPEG of 90x60"]
    assert [row.pictures for row in found.rows] == [2, 2, 1]
    for row in found.rows:
        assert row.seconds > 0
        assert row.work > 0
        assert set(pictures.REFERENCES[:2]) <= set(row.alone)
        for reference, seconds in row.alone.items():
            assert row.ratios[reference] == pytest.approx(row.seconds / seconds)
        if sys.platform == "linux":
            assert 10 < row.megabytes < 2000
    assert found.encoded == (48, 80)
    ours = [encoder.name for encoder in found.encoders if encoder.ours]
    assert ours == ["JPEG, as enhance does", "PNG, as enhance does"]
    assert all(0 <= encoder.share <= 1 and encoder.megabytes > 0 for encoder in found.encoders)
    assert tuple(found.steps) == STEPS
    assert all(milliseconds > 0 for milliseconds in found.steps.values())
    assert [target.met for target in found.targets()] == [
        found.rows[0].ratios["ONNX Runtime"] <= 1.25,
        found.rows[2].ratios["ONNX Runtime"] <= 1.25,
        found.cold <= 0.6,
    ]
    assert lines[0] == "making pictures"
    assert sum(line.startswith("round 1 of 1") for line in lines) == sum(
        line.startswith("warming up") for line in lines
    )


def test_large_pictures_are_made_of_the_small_ones(folder):
    one, other = (np.asarray(read(folder / name).pixels) for name in ("a.png", "b.png"))
    small = [Picture(one), pictures._eight_bits(Picture(other))]
    made = pictures._tiled(small, (60, 90))
    assert made.shape == (60, 90, 3)
    np.testing.assert_array_equal(made[:24, :40], one)
    np.testing.assert_array_equal(made[:24, 40:60], small[1].pixels[:24])
    np.testing.assert_array_equal(made[:24, 60:90], one[:, :30])
    np.testing.assert_array_equal(made[24:48, :20], small[1].pixels[:24])


def test_a_command_that_fails_is_said(folder, tmp_path):
    with pytest.raises(OnebranchError, match=r"enhance failed: onebranch: .*no such file"):
        pictures._command(tmp_path / "none.png", 1, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_peak_is_the_commands_own(tmp_path):
    """A small picture's command takes little, whatever this process holds."""
    write(Picture(np.zeros((16, 16, 3), np.uint8)), tmp_path / "a.png")
    held = np.ones(1 << 28, np.uint8)
    turn = pictures._command(tmp_path / "a.png", 1, tmp_path)
    assert turn.peak is None or turn.peak < held.nbytes


def test_the_command_line_prints_tables_or_json(monkeypatch, capsys, folder):
    run = CommandLine(monkeypatch, capsys)
    outcome = run("bench", "--pictures", folder, "--rounds", "1", "--threads", "1")
    assert outcome.code == 0, outcome.errors
    for words in (
        "a JPEG of 90x60",
        "PNG, libvips, level 1, filter up",
        "cold start, one",
        "reading the pic",
    ):
        assert words in outcome.output
    monkeypatch.setattr(pictures, "compare", lambda *_: RESULT)
    found = json.loads(run("bench", "--pictures", folder, "--json", "--threads", "1").output)
    assert found["rows"][0]["ratios"] == {"ONNX Runtime": 0.5}
    assert found["goals"][-1] == {
        **found["goals"][-1],
        "wanted": 0.6,
        "reached": 0.3,
        "unit": "s",
        "met": True,
    }


RESULT = pictures.Result(
    (pictures.Row("x", "JPEG", 1, 1.0, 1.0, 1.0, None, {"ONNX Runtime": 2.0}, {"ONNX Runtime": 0.5}),),
    (pictures.Encoder("JPEG, as enhance does", 1.0, 1.0, 0.5, True),),
    (2, 2),
    0.3,
    {"leaving": 1.0},
)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--pictures", "none"], "does not exist"),
        (["--pictures", "x", "--scaling"], "give one of them"),
        (["--pictures", "x", "--size", "8x8"], "--size is for networks"),
        (["--pictures", "x", "--precision", "int8"], "--precision is for onebranch's own"),
        (["--pictures", "x", "--no-memory"], "--no-memory is for onebranch's own"),
    ],
)
def test_options_that_contradict_are_refused(monkeypatch, capsys, words, error):
    assert error in CommandLine(monkeypatch, capsys).refused("bench", *words)
