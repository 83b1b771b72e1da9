"""The study of branches: its recipes differ in what they compare alone; its figures come from the logs."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from onebranch.nn.network import Network
from onebranch.spec.network import parameters
from onebranch.training import config as configs

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def study():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("study", ROOT / "scripts" / "study.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["study"] = module
    spec.loader.exec_module(module)
    return module


def test_recipes_differ_in_branches_seed_and_length_alone(tmp_path, study):
    paths = study.write_recipes(tmp_path)
    assert len(paths) == len({path.stem for path in paths}) == len(study.runs_of(study.read_study()))
    base = configs.read(ROOT / "models" / "photo-x2.toml")
    for path in paths:
        config = configs.read(path)
        assert config.name == path.stem
        assert (config.data.train, config.data.patch_size) == (
            str(Path(base.data.train).resolve()),
            base.data.patch_size,
        )
        for key in ("batch_size", "learning_rate", "loss", "ema_decay"):
            assert getattr(config.training, key) == getattr(base.training, key)
        assert config.training.optimizer == ("muon" if "-muon-" in path.stem else "adam")
        assert config.spec.head.width == base.spec.head.width and len(config.spec.blocks) == 4
        validations = config.training.steps // config.training.validate_every
        assert study.VALIDATIONS <= validations <= study.VALIDATIONS + 1
    assert parameters(configs.read(paths[0]).spec) == 10_100
    assert Network(configs.read(paths[0]).spec).batch_norms() == []


def write_log(folder: Path, name: str, psnr: list[float]) -> None:
    """A log with validations after equal parts of the run."""
    folder.mkdir(exist_ok=True)
    records = [{"step": 1, "loss": 0.5}, *({"step": n, "psnr": p} for n, p in enumerate(psnr, 1))]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def logs(tmp_path):
    """Three seeds of the plain network, and of one that is 0.1 dB better and takes twice as long."""
    for seed in (1, 2, 3):
        start = 30 + seed
        write_log(tmp_path / "logs", f"study-plain-160M-{seed}", [start, start + 1, start + 2])
        write_log(tmp_path / "logs", f"study-sesr-160M-{seed}", [start + 0.1, start + 1.1, start + 2.1])
    one, two = 60 * 3 / 160, 60 * 6 / 160  # seconds per million pixels of runs of 3 and of 6 minutes
    seconds = {"plain": one, "sesr": two, "plain-muon": two, "four-branches-muon": two}
    arms = {arm: {"training": value, "frozen": value} for arm, value in seconds.items()}
    times = {"160M": {"processor": "Some Processor", "rounds": 3, "arms": arms}}
    (tmp_path / "logs" / "times.json").write_text(json.dumps(times))
    return tmp_path / "logs"


def test_differences_are_taken_seed_by_seed_at_equal_pixels_and_at_equal_time(study, logs):
    lines = study.table_of(study.curves_of(logs, "160M"))
    plain, sesr = lines[2:]
    assert plain == "| plain | 3 | 34.000 | 3.0 | – | – | – |"
    # after 3 minutes the other network has 0.1 + 0.5 dB, the plain one 2 dB over the start
    assert sesr == "| sesr | 3 | 34.100 | 6.0 | plain | +0.100 [+0.100, +0.100] | -1.400 [-1.400, -1.400] |"


def test_an_arm_is_compared_with_its_own_baseline(study, logs):
    write_log(logs, "study-plain-muon-160M-1", [31, 32, 33.5])
    write_log(logs, "study-four-branches-muon-160M-1", [31, 32, 33.7])
    *_, muon, branches = study.table_of(study.curves_of(logs, "160M"))
    assert muon == "| plain-muon | 1 | 33.500 | 6.0 | plain | +0.500 (one seed) | -1.500 (one seed) |"
    assert "| plain-muon | +0.200 (one seed) | +0.200 (one seed) |" in branches


def test_runs_whose_batch_norms_freeze_take_less_time_from_then_on(study, logs):
    content = json.loads((logs / "times.json").read_text())
    content["160M"]["arms"]["patent"] = {"training": 3.75, "frozen": 1.125}
    (logs / "times.json").write_text(json.dumps(content))
    write_log(logs, "study-patent-160M-1", [30, 31, 32, 33, 34])
    curve = study.curves_of(logs, "160M")["patent"][1]
    assert curve.minutes == pytest.approx([2, 4, 6, 8, 8.6])  # the last fifth is frozen
    write_log(logs, "study-repsr-160M-1", [30, 31])
    with pytest.raises(
        SystemExit, match="has no time of repsr for 160M; measure it: python scripts/study_times"
    ):
        study.curves_of(logs, "160M")


def test_arms_that_differ_in_the_freezing_of_batch_norms_alone_share_a_time(study, tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("study_times", ROOT / "scripts" / "study_times.py")
    times = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(times)
    recipes = {path.stem.removeprefix("study-"): path for path in study.write_recipes(tmp_path)}
    names = ("patent", "patent-bn-never-frozen", "patent-bn-always-frozen", "plain", "plain-muon", "sesr")
    steps = [times.steps_of(configs.read(recipes[f"{name}-160M-1"])) for name in names]
    assert len(set(steps[:3])) == 1 and len(set(steps)) == 4


def test_the_interval_of_the_mean_shrinks_with_more_seeds(study):
    values = list(np.random.default_rng(1).normal(0, 1, 100))
    low, high = study.bootstrap(values)
    assert low < np.mean(values) < high and 0.3 < high - low < 0.5
    wide = study.bootstrap(values[:5])
    assert wide[1] - wide[0] > 2 * (high - low)
    assert study.interval_text([0.25]) == "+0.250 (one seed)" and study.interval_text([]) == "–"


def test_the_report_replaces_what_is_between_the_markers(study, logs, tmp_path):
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text(f"before\n\n{study.BEGIN}\nold\n{study.END}\n\nafter\n")
    for _ in range(2):
        study.report(logs, page, plot)
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("| sesr | 3 |") == 1 and "pictures/plot.png" in text
        assert "Processor time: Some Processor, one core, median of 3 rounds." in text
    assert plot.stat().st_size > 10_000


def test_a_curve_says_nothing_beyond_its_own_time(study):
    curve = study.Curve((1.0, 2.0), (30.0, 31.0))
    assert curve.at(1.5) == 30.5 and np.isnan(curve.at(0.5)) and np.isnan(curve.at(2.5))


def test_the_page_names_every_arm_or_has_no_results_yet(study):
    text = (ROOT / "docs" / "branches.md").read_text(encoding="utf-8")
    measured = list((ROOT / "models" / "study").glob("*.jsonl"))
    section = text.split(study.BEGIN)[1].split(study.END)[0].strip()
    assert bool(measured) == (section != study.NO_RUNS)
