"""The comparison of quality and speed: published sizes of networks, and every row of a tiny run."""

import re

import pytest

from benchmarks.published_networks import NETWORKS, parameter_count
from benchmarks.quality_plot import save_plot
from benchmarks.quality_speed import QualityRow, compare, processor_text
from benchmarks.tables import print_quality
from onebranch.bench import Pacing

THOUSANDS = {
    "ESPCN": 21,
    "FSRCNN": 12.6,
    "ECBSR-M4C16": 10.2,
    "SESR-M5": 13.5,
    "SESR-M11": 27.3,
    "IMDN": 694,
}
"""Parameters as published."""


@pytest.mark.parametrize("name", THOUSANDS)
def test_rebuilt_networks_have_the_published_number_of_parameters(name):
    (network,) = (each for each in NETWORKS if each.name == name)
    assert parameter_count(network) / 1000 == pytest.approx(THOUSANDS[name], rel=0.03)


def test_a_row_for_every_network_in_every_runtime(tmp_path, capsys):
    notes = []
    rows = compare((24, 20), 1, 1, notes.append, Pacing(0, 0))
    names = {(row.network, row.runtime) for row in rows}
    assert {(network.name, "onnxruntime") for network in NETWORKS} <= names
    ours = {row.precision: row for row in rows if row.network == "photo-x2"}
    assert set(ours) == {"fp32", "bf16", "int8"} and all(row.measured for row in ours.values())
    assert ours["int8"].psnr < ours["fp32"].psnr
    assert all(row.milliseconds > 0 for row in rows)
    save_plot(rows, "title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    print_quality([QualityRow("n", "engine", "fp32", 1.5, None, True)], "title")
    assert "1.5" in capsys.readouterr().out


def test_the_processor_has_a_name():
    assert re.fullmatch(r"\S.* \([a-z0-9-]+\)", processor_text())
