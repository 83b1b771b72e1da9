"""The benchmark of evaluation: today's scores are those of the former definition."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import evaluation
from benchmarks.command_line import benchmarks


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch):
    """A training run on this machine does not matter here."""
    monkeypatch.setattr("benchmarks.command_line.refuse_while_training", lambda: None)


@pytest.fixture
def folder(crops, tmp_path):
    """Three small photographs."""
    for path in sorted(crops.glob("*.png"))[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_command_prints_every_variant_and_the_difference(folder):
    done = CliRunner().invoke(benchmarks, ["evaluation", str(folder), "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    assert list(printed["seconds"]) == list(evaluation.VARIANTS)
    assert 0 <= printed["difference"] <= evaluation.MAX_DIFFERENCE


def test_another_score_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(evaluation, "shifted_ssim", lambda picture, reference: 0.5)
    done = CliRunner().invoke(benchmarks, ["evaluation", str(folder), "--rounds", "1"])
    assert done.exit_code == 1
    assert "largest difference" in done.output


@pytest.mark.slow
def test_the_scores_of_kodak_are_those_of_the_former_definition(shared_data):
    former, *_, today = (
        evaluation.evaluate_as(variant, shared_data / "val" / "kodak24", "photo-x2")
        for variant in evaluation.VARIANTS
    )
    assert len(today.rows) == 24
    assert evaluation.difference(former, today) <= evaluation.MAX_DIFFERENCE
